//! A share of the process's threads.

use crate::meeting;
use crate::run::CLOSED;
use crate::workers::Workers;

/// Bytes that one core streams from memory in a nanosecond. Processors lie between 6 and 25; the number of threads
/// follows its root.
const BYTES_PER_NS: f64 = 10.0;

/// How many threads its owner's runs may take. Workers are helpers, never needed: the caller does tasks like
/// everyone else, so a run ends even if no worker wakes in time, or none exists any more, as in a forked child.
///
/// Runs from several threads at once, and runs inside a task, share the workers there are.
#[derive(Debug, Clone, Copy)]
pub struct ThreadPool {
    workers: &'static Workers,
    threads: usize,
}

impl ThreadPool {
    /// A share of `threads` threads, the caller of [`run`](Self::run) counted; 0 counts as 1. Where the system
    /// refuses a thread the share is smaller, as [`threads`](Self::threads) tells.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let workers = Workers::of_process();
        let wanted = threads.saturating_sub(1);
        let helpers = workers.grow(wanted).min(wanted);
        Self {
            workers,
            threads: helpers + 1,
        }
    }

    /// Threads that take part in a run at the most, the caller included.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// The part of this share that pays for work that takes one thread as long as streaming `bytes` from memory.
    ///
    /// With `k` threads, work of `w` takes `w / k`, and as every thread touches the words of the run one after the
    /// other, `k` times what a meeting costs: least at the root of one over the other.
    #[must_use]
    pub fn paying(&self, bytes: usize) -> Self {
        // A second thread pays for nearly all that is worth a run at all: not worth measuring for.
        if self.threads <= 2 {
            return *self;
        }
        let work = bytes as f64 / BYTES_PER_NS;
        let threads = (work / meeting::cost_ns(self)).sqrt();
        Self {
            workers: self.workers,
            threads: (threads as usize).clamp(1, self.threads),
        }
    }

    /// Calls `task` once with every index below `tasks`, in any order, on all threads; returns when all are done.
    ///
    /// # Panics
    /// With the payload of the first task that panicked; tasks not yet started are then skipped.
    pub fn run<F: Fn(usize) + Sync>(&self, tasks: usize, task: F) {
        let helpers = self.threads.min(tasks).saturating_sub(1);
        let alone = helpers == 0 || tasks as u64 >= CLOSED;
        if alone || !self.workers.run(tasks, helpers, &task) {
            (0..tasks).for_each(task);
        }
    }
}
