//! Fork and join over jobs that own their piece of the output.

use std::sync::{Mutex, PoisonError};

use threads::{ThreadPool, cores};

/// Fewer weights than this per thread are not worth starting one.
const WEIGHTS_PER_THREAD: usize = 1 << 16;

/// Threads that `weights` weights are worth.
pub fn threads(weights: usize) -> usize {
    cores().min(weights / WEIGHTS_PER_THREAD).max(1)
}

/// Runs every job, in order of demand, on `threads` threads, each with a `scratch` of its own;
/// returns the error of the earliest failing job. Jobs after a failed one may be left out.
pub fn try_each<J: Send, S, E: Send>(
    jobs: impl Iterator<Item = J> + Send,
    threads: usize,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, J) -> Result<(), E> + Sync,
) -> Result<(), E> {
    if threads <= 1 {
        let mut scratch = scratch();
        return { jobs }.try_for_each(|job| work(&mut scratch, job));
    }
    let queue = Mutex::new(jobs.enumerate().fuse());
    let failed: Mutex<Option<(usize, E)>> = Mutex::new(None);
    let run = || {
        let mut scratch = scratch();
        loop {
            let taken = lock(&queue).next();
            let Some((i, job)) = taken else { return };
            if let Err(error) = work(&mut scratch, job) {
                let mut first = lock(&failed);
                if first.as_ref().is_none_or(|(earlier, _)| i < *earlier) {
                    *first = Some((i, error));
                }
                // Whoever holds an earlier job still finishes it.
                return;
            }
        }
    };
    ThreadPool::new(threads).run(threads, |_| run());
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), |(_, error)| Err(error))
}

/// A panicking job poisons the lock and is raised again by the pool, so the value is never used after.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
