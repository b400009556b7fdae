//! A share of the process's threads.

use crate::pace::{Pace, Tried};
use crate::run::CLOSED;
use crate::workers::Workers;
use std::time::Instant;

static PACE: Pace = Pace::new();

/// How many threads its owner's runs may take. Workers are helpers, never needed: the caller does tasks like
/// everyone else, so a run ends even if no worker wakes in time, or none exists any more, as in a forked child.
///
/// Runs from several threads at once, and runs inside a task, share the workers there are.
#[derive(Debug, Clone, Copy)]
pub struct ThreadPool {
    workers: &'static Workers,
    threads: usize,
    /// Whose runs are timed.
    tried: Option<Tried>,
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
            tried: None,
        }
    }

    /// Threads that take part in a run at the most, the caller included.
    #[must_use]
    pub const fn threads(&self) -> usize {
        self.threads
    }

    /// The part of this share that is quickest for a run that reads as many bytes, as far as is known from the
    /// runs before.
    #[must_use]
    pub fn paying(&self, bytes: usize) -> Self {
        // A second thread pays for nearly all that is worth a run at all: not worth learning.
        if self.threads <= 2 {
            return *self;
        }
        let (threads, tried) = PACE.choose(bytes, self.threads);
        Self {
            threads,
            tried: Some(tried),
            ..*self
        }
    }

    /// Calls `task` once with every index below `tasks`, in any order, on all threads; returns when all are done.
    ///
    /// # Panics
    /// With the payload of the first task that panicked; tasks not yet started are then skipped.
    pub fn run<F: Fn(usize) + Sync>(&self, tasks: usize, task: F) {
        let begun = self.tried.map(|tried| (tried, Instant::now()));
        let helpers = self.threads.min(tasks).saturating_sub(1);
        let alone = helpers == 0 || tasks as u64 >= CLOSED;
        if alone || !self.workers.run(tasks, helpers, &task) {
            (0..tasks).for_each(task);
        }
        if let Some((tried, begun)) = begun {
            PACE.learn(tried, begun.elapsed());
        }
    }
}
