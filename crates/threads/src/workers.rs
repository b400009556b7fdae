//! The workers of the process, which help in whatever runs there are.

use crate::cores;
use crate::run::{Apart, Helpers, Run, SPIN, Task};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Instant;

/// Runs at a time; a caller that finds more under way works alone.
const RUNS: usize = 16;
const MAX_WORKERS: usize = 511;

/// A thread that helps.
#[derive(Debug)]
struct Worker {
    thread: Thread,
    sleeping: Apart<AtomicBool>,
}

/// The workers and what they work at.
#[derive(Debug)]
pub(crate) struct Workers {
    process: u32,
    runs: [Run; RUNS],
    /// Places that a run has, and those of them where there may be tasks: a bit each.
    taken: Apart<AtomicU32>,
    open: Apart<AtomicU32>,
    /// Threads at work, callers included, and how many may be.
    working: Apart<AtomicUsize>,
    capacity: AtomicUsize,
    threads: Box<[OnceLock<Worker>]>,
    count: AtomicUsize,
    growing: Mutex<()>,
}

impl Workers {
    /// The workers of this process. A forked child has none of its parent's threads, and gets its own.
    pub(crate) fn of_process() -> &'static Self {
        static CURRENT: AtomicPtr<Workers> = AtomicPtr::new(std::ptr::null_mut());
        let process = std::process::id();
        loop {
            let found = CURRENT.load(Ordering::Acquire);
            // SAFETY: what is stored here is never freed.
            if let Some(workers) = unsafe { found.as_ref() }
                && workers.process == process
            {
                return workers;
            }
            let new = Box::into_raw(Box::new(Self::new(process)));
            let stored = CURRENT.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire);
            if stored.is_err() {
                // SAFETY: nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }

    fn new(process: u32) -> Self {
        Self {
            process,
            runs: [const { Run::new() }; RUNS],
            taken: Apart(AtomicU32::new(0)),
            open: Apart(AtomicU32::new(0)),
            working: Apart(AtomicUsize::new(0)),
            capacity: AtomicUsize::new(cores()),
            threads: (0..MAX_WORKERS).map(|_| OnceLock::new()).collect(),
            count: AtomicUsize::new(0),
            growing: Mutex::new(()),
        }
    }

    /// Has `count` workers at least; returns how many there are, fewer when the system refuses threads.
    pub(crate) fn grow(&'static self, count: usize) -> usize {
        let found = self.count.load(Ordering::Acquire);
        if found >= count {
            return found;
        }
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        self.capacity.fetch_max(count + 1, Ordering::Relaxed);
        let mut index = self.count.load(Ordering::Relaxed);
        while index < count.min(MAX_WORKERS) {
            let thread = thread::Builder::new().name(format!("aios-{index}"));
            let Ok(handle) = thread.spawn(move || self.work(index)) else {
                break;
            };
            let _ = self.threads[index].set(Worker {
                thread: handle.thread().clone(),
                sleeping: Apart(AtomicBool::new(false)),
            });
            // The worker waits for this before it looks for its own entry.
            index += 1;
            self.count.store(index, Ordering::Release);
        }
        index
    }

    /// Runs tasks on the calling thread and up to `limit` workers. False when there is no place for one more run.
    pub(crate) fn run(&'static self, tasks: usize, limit: usize, task: &Task<'_>) -> bool {
        let Some(place) = Place::take(self) else {
            return false;
        };
        let of = self.count.load(Ordering::Acquire);
        // Runs that want a few workers each should want others.
        let first = place.index * of * 5 / 8 % of.max(1);
        let helpers = Helpers { first, limit, of };
        let open = || {
            // SeqCst here and in `work`: either this thread sees the sleeper or the sleeper sees the run.
            self.open.0.fetch_or(place.bit(), Ordering::SeqCst);
            self.wake(helpers);
        };
        let close = || {
            self.open.0.fetch_and(!place.bit(), Ordering::SeqCst);
        };
        self.runs[place.index].run(tasks, helpers, task, open, close);
        true
    }

    fn wake(&self, helpers: Helpers) {
        for index in helpers.indices() {
            if let Some(worker) = self.threads[index].get()
                && worker.sleeping.0.load(Ordering::SeqCst)
                && worker.sleeping.0.swap(false, Ordering::SeqCst)
            {
                worker.thread.unpark();
            }
        }
    }

    fn work(&self, index: usize) {
        while self.count.load(Ordering::Acquire) <= index {
            thread::yield_now();
        }
        let Some(worker) = self.threads[index].get() else {
            return;
        };
        // A spinning worker without a core of its own would only hold up the one with the work.
        let has_core = index + 1 < cores();
        loop {
            let mut idle_since = Instant::now();
            while has_core && idle_since.elapsed() < SPIN {
                if self.is_wanted(index) {
                    self.help(index);
                    idle_since = Instant::now();
                }
                for _ in 0..16 {
                    std::hint::spin_loop();
                }
            }
            worker.sleeping.0.store(true, Ordering::SeqCst);
            while worker.sleeping.0.load(Ordering::SeqCst) && !self.is_wanted(index) {
                thread::park();
            }
            worker.sleeping.0.store(false, Ordering::SeqCst);
            self.help(index);
        }
    }

    /// Whether the worker of that index could help.
    fn is_wanted(&self, index: usize) -> bool {
        self.working.0.load(Ordering::SeqCst) < self.capacity.load(Ordering::Relaxed)
            && self.run_of(index).is_some()
    }

    /// A run that wants that worker, with its epoch. Those who could help in several spread over them.
    fn run_of(&self, index: usize) -> Option<(&Run, u64)> {
        let open = self.open.0.load(Ordering::SeqCst);
        let mut order = (0..if open == 0 { 0 } else { RUNS }).map(|offset| (index + offset) % RUNS);
        order.find_map(|place| {
            let run = &self.runs[place];
            let epoch = (open & 1 << place != 0).then(|| run.wants(index))??;
            Some((run, epoch))
        })
    }

    /// Helps in a run that wants it, while no more threads work than may.
    fn help(&self, index: usize) {
        let capacity = self.capacity.load(Ordering::Relaxed);
        if self.working.0.fetch_add(1, Ordering::SeqCst) < capacity {
            let may_work = || self.working.0.load(Ordering::Relaxed) <= capacity;
            if let Some((run, epoch)) = self.run_of(index) {
                run.claim_all(epoch, may_work);
            }
        }
        self.working.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A place for a run, and the caller's part in what works; given back when dropped, by a panic too.
struct Place {
    workers: &'static Workers,
    index: usize,
}

impl Place {
    fn take(workers: &'static Workers) -> Option<Self> {
        let mut taken = workers.taken.0.load(Ordering::Relaxed);
        loop {
            let index = taken.trailing_ones() as usize;
            if index >= RUNS {
                return None;
            }
            let next = taken | 1 << index;
            let exchanged = workers.taken.0.compare_exchange_weak(
                taken,
                next,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            match exchanged {
                Ok(_) => {
                    workers.working.0.fetch_add(1, Ordering::SeqCst);
                    return Some(Self { workers, index });
                }
                Err(now) => taken = now,
            }
        }
    }

    const fn bit(&self) -> u32 {
        1 << self.index
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.workers.working.0.fetch_sub(1, Ordering::SeqCst);
        self.workers
            .taken
            .0
            .fetch_and(!self.bit(), Ordering::Release);
    }
}
