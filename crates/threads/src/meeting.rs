//! What it costs a run that one more thread takes part.

use crate::ThreadPool;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs that are timed; the quickest tells, for other work only makes them slower.
const RUNS: usize = 100;
/// How long each thread works in one: long enough for all to arrive.
const TASK: Duration = Duration::from_micros(20);
/// Less is not believed: the clock ticks in tens of nanoseconds, and one thread cannot see what another wrote sooner.
const LEAST_NS: f64 = 50.0;

/// Nanoseconds that a run takes longer for each thread in it, as measured on this machine, once, for up to
/// six milliseconds.
pub(crate) fn cost_ns(pool: &ThreadPool) -> f64 {
    // Not a lock, which a forked child could find held by nobody. Measured twice it is as good.
    static COST: AtomicU64 = AtomicU64::new(0);
    let known = f64::from_bits(COST.load(Ordering::Relaxed));
    if known > 0.0 {
        return known;
    }
    let cost = measure(pool);
    COST.store(cost.to_bits(), Ordering::Relaxed);
    cost
}

fn measure(pool: &ThreadPool) -> f64 {
    let times = (0..RUNS).map(|_| {
        let begun = Instant::now();
        pool.run(pool.threads(), |_| {
            let begun = Instant::now();
            while begun.elapsed() < TASK {
                std::hint::spin_loop();
            }
        });
        begun.elapsed()
    });
    let quickest = times.min().unwrap_or(TASK);
    let meeting = quickest.saturating_sub(TASK).as_nanos() as f64;
    (meeting / pool.threads() as f64).max(LEAST_NS)
}
