//! One parallel run: tasks that are claimed one by one.
//!
//! The state of a run is one word, `epoch << 32 | next task`; claiming a task is a compare-and-swap on it, which
//! fails for a worker that looked at a run that is over. A worker touches the job only after a claim, and the caller
//! leaves only after every claimed task is done, so the job can live on the caller's stack.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Task index of a state that offers no task.
pub(crate) const CLOSED: u64 = u32::MAX as u64;
/// How long to watch for what takes microseconds before letting other threads go first.
pub(crate) const SPIN: Duration = Duration::from_micros(60);

pub(crate) type Task<'a> = dyn Fn(usize) + Sync + 'a;

struct Job<'a> {
    task: &'a Task<'a>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Keeps a word that one thread writes and others watch on cache lines of its own.
#[repr(align(128))]
#[derive(Debug)]
pub(crate) struct Apart<T>(pub(crate) T);

/// A place for a run, used by one after the other.
#[derive(Debug)]
pub(crate) struct Run {
    /// `epoch << 32 | next task`.
    state: Apart<AtomicU64>,
    done: Apart<AtomicUsize>,
    tasks: AtomicUsize,
    job: AtomicPtr<Job<'static>>,
    /// The workers that may take part.
    first: AtomicUsize,
    limit: AtomicUsize,
    of: AtomicUsize,
}

/// The workers of a run: `limit` of them from `first` on, in the circle of all `of`.
///
/// They are named, so that the others of a run that wants a few need not touch a word of it to see that they are
/// not meant: what every thread writes to costs each of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Helpers {
    pub(crate) first: usize,
    pub(crate) limit: usize,
    pub(crate) of: usize,
}

impl Helpers {
    pub(crate) const fn contain(self, index: usize) -> bool {
        index < self.of && (index + self.of - self.first) % self.of < self.limit
    }

    pub(crate) fn indices(self) -> impl Iterator<Item = usize> {
        (0..self.limit.min(self.of)).map(move |rank| (self.first + rank) % self.of)
    }
}

impl Run {
    pub(crate) const fn new() -> Self {
        Self {
            state: Apart(AtomicU64::new(CLOSED)),
            done: Apart(AtomicUsize::new(0)),
            tasks: AtomicUsize::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            first: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            of: AtomicUsize::new(0),
        }
    }

    /// Calls `task` with every index below `tasks`, with those of `helpers` that come, which `open` invites and
    /// `close` no longer does; returns when all are done.
    ///
    /// # Panics
    /// With the payload of the first task that panicked; tasks not yet started are then skipped.
    pub(crate) fn run(
        &self,
        tasks: usize,
        helpers: Helpers,
        task: &Task<'_>,
        open: impl FnOnce(),
        close: impl FnOnce(),
    ) {
        let job = Job {
            task,
            panic: Mutex::new(None),
        };
        let epoch = (self.state.0.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        // Closing first makes a claim fail for a worker that pairs the old state with the new job.
        self.state.0.store(epoch | CLOSED, Ordering::Release);
        self.done.0.store(0, Ordering::Relaxed);
        self.first.store(helpers.first, Ordering::Relaxed);
        self.limit.store(helpers.limit, Ordering::Relaxed);
        self.of.store(helpers.of, Ordering::Relaxed);
        self.tasks.store(tasks, Ordering::Release);
        let address = std::ptr::from_ref(&job).cast_mut().cast();
        self.job.store(address, Ordering::Release);
        self.state.0.store(epoch, Ordering::SeqCst);
        open();
        self.claim_all(epoch, || true);
        close();
        self.wait(tasks);
        let panic = job.panic.lock();
        if let Some(payload) = panic.unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(payload);
        }
    }

    /// The epoch of the run, if the worker of that index could take part.
    pub(crate) fn wants(&self, index: usize) -> Option<u64> {
        let state = self.state.0.load(Ordering::SeqCst);
        // Of the next run, if it has begun by now; then nothing of this epoch can be claimed.
        let helpers = Helpers {
            first: self.first.load(Ordering::Relaxed),
            limit: self.limit.load(Ordering::Relaxed),
            of: self.of.load(Ordering::Relaxed),
        };
        (self.has_task(state) && helpers.contain(index)).then_some(state & !CLOSED)
    }

    fn has_task(&self, state: u64) -> bool {
        (state & CLOSED) < self.tasks.load(Ordering::Acquire) as u64
    }

    /// Does tasks of the run of that epoch until there are no more, while `go_on`.
    pub(crate) fn claim_all(&self, epoch: u64, go_on: impl Fn() -> bool) {
        while let Some((job, index)) = self.claim(epoch) {
            // SAFETY: the claim succeeded, so the run is not over and its caller keeps the job alive
            // until the task is counted as done below.
            let job = unsafe { &*job };
            let skip = job.panic.lock().is_ok_and(|panic| panic.is_some());
            if !skip && let Err(payload) = catch_unwind(AssertUnwindSafe(|| (job.task)(index))) {
                let mut panic = job.panic.lock().unwrap_or_else(PoisonError::into_inner);
                panic.get_or_insert(payload);
            }
            self.done.0.fetch_add(1, Ordering::Release);
            if !go_on() {
                return;
            }
        }
    }

    fn claim(&self, epoch: u64) -> Option<(*const Job<'static>, usize)> {
        let mut state = self.state.0.load(Ordering::Acquire);
        loop {
            if state & !CLOSED != epoch || !self.has_task(state) {
                return None;
            }
            let job = self.job.load(Ordering::Acquire);
            let claimed = self.state.0.compare_exchange_weak(
                state,
                state + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match claimed {
                Ok(_) => return Some((job, (state & CLOSED) as usize)),
                Err(now) => state = now,
            }
        }
    }

    fn wait(&self, tasks: usize) {
        let start = Instant::now();
        while self.done.0.load(Ordering::Acquire) < tasks {
            if start.elapsed() < SPIN {
                std::hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
    }
}
