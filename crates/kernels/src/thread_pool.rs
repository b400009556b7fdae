//! A fork-join pool for short parallel runs: microseconds of work, thousands of times a second.
//!
//! Workers are helpers, never needed: the caller claims tasks like everyone else, so a run ends even if
//! no worker wakes in time (or none exists any more, as in a forked child). The state of a run is one
//! word, `epoch << 32 | next task`; claiming a task is a compare-and-swap on it, which fails for a worker
//! that looked at a run that is over. A worker touches the job only after a claim, and the caller leaves
//! only after every claimed task is done, so the job can live on the caller's stack.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle worker watches for the next run before it sleeps; waking a sleeper takes about as long.
const SPIN: Duration = Duration::from_micros(60);
/// Task index of a state that offers no task.
const CLOSED: u64 = u32::MAX as u64;

type Task<'a> = dyn Fn(usize) + Sync + 'a;

struct Job<'a> {
    task: &'a Task<'a>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Keeps a word that one thread writes and others watch on cache lines of its own.
#[repr(align(128))]
struct Apart<T>(T);

struct Shared {
    /// `epoch << 32 | next task`.
    state: Apart<AtomicU64>,
    done: Apart<AtomicUsize>,
    tasks: AtomicUsize,
    job: AtomicPtr<Job<'static>>,
    stop: AtomicBool,
    sleeping: Vec<Apart<AtomicBool>>,
    spin: Duration,
}

/// Persistent worker threads. Runs from several threads at once are safe: one gets the workers, the others,
/// and runs inside a task, do their tasks themselves.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    busy: AtomicBool,
    process: u32,
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPool")
            .field("threads", &self.threads())
            .finish_non_exhaustive()
    }
}

impl ThreadPool {
    /// A pool of `threads` threads, the caller of [`run`](Self::run) counted; 0 counts as 1. Where the
    /// system refuses a thread the pool is smaller, as [`threads`](Self::threads) tells.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let helpers = threads.saturating_sub(1);
        // A spinning worker without a core of its own would only hold up the one with the work.
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shared = Arc::new(Shared {
            state: Apart(AtomicU64::new(CLOSED)),
            done: Apart(AtomicUsize::new(0)),
            tasks: AtomicUsize::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            stop: AtomicBool::new(false),
            sleeping: (0..helpers)
                .map(|_| Apart(AtomicBool::new(false)))
                .collect(),
            spin: if threads <= cores {
                SPIN
            } else {
                Duration::ZERO
            },
        });
        let workers = (0..helpers)
            .map_while(|index| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("kernels-{index}"))
                    .spawn(move || shared.work(index))
                    .ok()
            })
            .collect();
        Self {
            shared,
            workers,
            busy: AtomicBool::new(false),
            process: std::process::id(),
        }
    }

    /// Threads that take part in a run, the caller included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task` once with every index below `tasks`, in any order, on all threads; returns when all are done.
    ///
    /// # Panics
    /// With the payload of the first task that panicked; tasks not yet started are then skipped.
    pub fn run<F: Fn(usize) + Sync>(&self, tasks: usize, task: F) {
        let alone = tasks <= 1 || self.workers.is_empty() || tasks as u64 >= CLOSED;
        if alone || self.busy.swap(true, Ordering::Acquire) {
            (0..tasks).for_each(task);
            return;
        }
        let job = Job {
            task: &task,
            panic: Mutex::new(None),
        };
        self.publish(&job, tasks);
        self.shared.help();
        self.shared.wait(tasks);
        self.busy.store(false, Ordering::Release);
        let panic = job
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    fn publish(&self, job: &Job<'_>, tasks: usize) {
        let shared = &*self.shared;
        let epoch = (shared.state.0.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        // Closing first makes a claim fail for a worker that pairs the old state with the new job.
        shared.state.0.store(epoch | CLOSED, Ordering::Release);
        shared.done.0.store(0, Ordering::Relaxed);
        shared.tasks.store(tasks, Ordering::Release);
        shared
            .job
            .store(std::ptr::from_ref(job).cast_mut().cast(), Ordering::Release);
        // SeqCst here and in `sleep`: either this thread sees the sleeper or the sleeper sees the run.
        shared.state.0.store(epoch, Ordering::SeqCst);
        for (worker, sleeping) in self.workers.iter().zip(&shared.sleeping) {
            if sleeping.0.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // A forked child owns copies of the handles but none of the threads: joining would wait for ever.
        if self.process != std::process::id() {
            return;
        }
        self.shared.stop.store(true, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // Tasks' panics are caught where they run; a worker has nothing to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn work(&self, index: usize) {
        let mut idle_since = Instant::now();
        while !self.stop.load(Ordering::Acquire) {
            if self.help() {
                idle_since = Instant::now();
            } else if idle_since.elapsed() < self.spin {
                for _ in 0..16 {
                    std::hint::spin_loop();
                }
            } else {
                self.sleep(index);
                idle_since = Instant::now();
            }
        }
    }

    fn sleep(&self, index: usize) {
        let sleeping = &self.sleeping[index].0;
        sleeping.store(true, Ordering::SeqCst);
        while !self.has_task(self.state.0.load(Ordering::SeqCst))
            && !self.stop.load(Ordering::Acquire)
        {
            thread::park();
        }
        sleeping.store(false, Ordering::Relaxed);
    }

    fn has_task(&self, state: u64) -> bool {
        (state & CLOSED) < self.tasks.load(Ordering::Acquire) as u64
    }

    /// Runs tasks until none is left; whether it ran any.
    fn help(&self) -> bool {
        let mut helped = false;
        while let Some((job, index)) = self.claim() {
            // SAFETY: the claim succeeded, so the run is not over and its caller keeps the job alive
            // until the task is counted as done below.
            let job = unsafe { &*job };
            let skip = job.panic.lock().is_ok_and(|panic| panic.is_some());
            if !skip && let Err(payload) = catch_unwind(AssertUnwindSafe(|| (job.task)(index))) {
                job.panic
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .get_or_insert(payload);
            }
            self.done.0.fetch_add(1, Ordering::Release);
            helped = true;
        }
        helped
    }

    fn claim(&self) -> Option<(*const Job<'static>, usize)> {
        let mut state = self.state.0.load(Ordering::Acquire);
        loop {
            if !self.has_task(state) {
                return None;
            }
            let job = self.job.load(Ordering::Acquire);
            match self.state.0.compare_exchange_weak(
                state,
                state + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pool: &ThreadPool, tasks: usize) -> Vec<usize> {
        let counts: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        pool.run(tasks, |task| {
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_runs_once() {
        for threads in [0, 1, 2, 5] {
            let pool = ThreadPool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            for tasks in [0, 1, 2, 3, 100, 1000].repeat(20) {
                assert!(counts(&pool, tasks).iter().all(|&count| count == 1));
            }
        }
    }

    #[test]
    fn sleeping_workers_wake_and_tasks_really_run_in_parallel() {
        let pool = ThreadPool::new(2);
        thread::sleep(SPIN * 20);
        let barrier = std::sync::Barrier::new(2);
        // Both tasks wait for each other: this ends only if a worker takes one.
        pool.run(2, |_| {
            barrier.wait();
        });
    }

    #[test]
    fn runs_nest_and_come_from_several_threads() {
        let pool = ThreadPool::new(3);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(7, |_| {
                            pool.run(3, |_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 200 * 7 * 3);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = ThreadPool::new(2);
        let run = catch_unwind(AssertUnwindSafe(|| {
            pool.run(50, |task| assert!(task != 17, "task seventeen"));
        }));
        assert_eq!(run.unwrap_err().downcast_ref(), Some(&"task seventeen"));
        assert!(counts(&pool, 10).iter().all(|&count| count == 1));
    }
}
