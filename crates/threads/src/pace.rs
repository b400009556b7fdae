//! How long runs of a size take with how many threads, learned while they run.
//!
//! What one more thread costs a run differs tenfold between machines and between moments: cores that are two
//! threads of one, caches far apart, other work on some of them. So it is not computed but tried: most runs take
//! the number of threads that was quickest so far, a few its half or its double.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

/// Sizes by powers of two of bytes, numbers of threads by powers of two.
const SIZES: usize = usize::BITS as usize;
const COUNTS: usize = 10;
/// One of so many runs tries another number of threads, more of them until it is known.
const TRY: u32 = 32;
const TRY_UNKNOWN: u32 = 4;
/// Runs with a number of threads before its mean tells something.
const KNOWN: u32 = 6;
/// By how much the mean has to be less, so that equals do not alternate.
const BETTER: f32 = 0.97;
/// Share of a new run in a mean, and how many times the mean it counts at the most: a thread may lose its core to
/// another process for a thousand times as long as a run takes.
const SHARE: f32 = 0.125;
const MOST: f32 = 4.0;

/// What a run begins with: nanoseconds of one thread's work that pay for one more thread, and the bytes that one
/// core streams from memory in a nanosecond.
const FIRST_COST_NS: f64 = 1500.0;
const BYTES_PER_NS: f64 = 10.0;

/// A number of threads that a run of a size takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tried {
    bytes: usize,
    count: usize,
}

/// What is known of runs of one size.
#[derive(Debug)]
struct Size {
    runs: AtomicU32,
    /// One more than the number of threads as an index; 0 before the first run.
    best: AtomicU8,
    /// Mean nanoseconds a byte as bits of a float, and how many runs they are of.
    means: [AtomicU32; COUNTS],
    seen: [AtomicU32; COUNTS],
}

impl Size {
    fn best(&self, bytes: usize) -> usize {
        match self.best.load(Ordering::Relaxed) {
            0 => index_of(at_first(bytes)),
            known => usize::from(known) - 1,
        }
    }
}

/// What is known of the runs of the process.
///
/// Threads read and write it without waiting for each other: a run that is lost, or counted twice, changes nothing.
#[derive(Debug)]
pub(crate) struct Pace([Size; SIZES]);

impl Pace {
    pub(crate) const fn new() -> Self {
        Self(
            [const {
                Size {
                    runs: AtomicU32::new(0),
                    best: AtomicU8::new(0),
                    means: [const { AtomicU32::new(0) }; COUNTS],
                    seen: [const { AtomicU32::new(0) }; COUNTS],
                }
            }; SIZES],
        )
    }

    /// How many of `share` threads a run takes that reads as many bytes.
    pub(crate) fn choose(&self, bytes: usize, share: usize) -> (usize, Tried) {
        let size = &self.0[bytes.max(1).ilog2() as usize];
        let last = index_of(share);
        let best = size.best(bytes).min(last);
        let run = size.runs.fetch_add(1, Ordering::Relaxed);
        // Which runs try is scattered: those of one kind come at regular distances.
        let draw = run.wrapping_mul(0x9E37_79B9) >> 16;
        let other = if draw & 1 == 0 {
            best.saturating_sub(1)
        } else {
            last.min(best + 1)
        };
        let is_known = size.seen[other].load(Ordering::Relaxed) >= KNOWN;
        let every = if is_known { TRY } else { TRY_UNKNOWN };
        let count = if (draw >> 1).is_multiple_of(every) {
            other
        } else {
            best
        };
        (share.min(1 << count), Tried { bytes, count })
    }

    /// Learns how long a run took.
    pub(crate) fn learn(&self, tried: Tried, taken: Duration) {
        let Tried { bytes, count } = tried;
        let size = &self.0[bytes.max(1).ilog2() as usize];
        let now = taken.as_nanos() as f32 / bytes.max(1) as f32;
        let mean_of = |count: usize| f32::from_bits(size.means[count].load(Ordering::Relaxed));
        let seen = size.seen[count].load(Ordering::Relaxed);
        let mean = if seen == 0 {
            now
        } else {
            let mean = mean_of(count);
            let share = SHARE.max(1.0 / (seen + 1) as f32);
            mean + share * (now.min(MOST * mean) - mean)
        };
        size.means[count].store(mean.to_bits(), Ordering::Relaxed);
        size.seen[count].store(seen.saturating_add(1), Ordering::Relaxed);
        let best = size.best(bytes);
        let is_known = |count: usize| size.seen[count].load(Ordering::Relaxed) >= KNOWN;
        if count != best && is_known(count) && is_known(best) && mean < BETTER * mean_of(best) {
            size.best.store(count as u8 + 1, Ordering::Relaxed);
        }
    }
}

/// The least power of two that is not below a number of threads.
fn index_of(threads: usize) -> usize {
    (threads.max(1).next_power_of_two().ilog2() as usize).min(COUNTS - 1)
}

/// With `k` threads, work of `w` takes `w / k`, and as every thread touches the words of the run one after the
/// other, `k` times what that costs: least at the root of one over the other.
fn at_first(bytes: usize) -> usize {
    (bytes as f64 / BYTES_PER_NS / FIRST_COST_NS).sqrt() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of some sizes in turn, each as long as `cost` says of its bytes and threads; the mean time of the last
    /// half over that of the best number.
    fn over_best(pace: &Pace, share: usize, cost: impl Fn(usize, usize) -> f64) -> f64 {
        let sizes = [30_000, 150_000, 900_000, 17_000_000];
        let (mut taken, mut least) = (0.0, 0.0);
        for run in 0..8000 {
            let bytes = sizes[run % sizes.len()];
            let (threads, tried) = pace.choose(bytes, share);
            assert!((1..=share).contains(&threads));
            pace.learn(tried, Duration::from_nanos(cost(bytes, threads) as u64));
            if run >= 4000 {
                taken += cost(bytes, threads);
                least += (1..=share).map(|k| cost(bytes, k)).fold(f64::MAX, f64::min);
            }
        }
        taken / least
    }

    #[test]
    fn the_quickest_number_is_found_whatever_a_thread_costs() {
        for share in [3, 4, 12, 16, 64] {
            for a_thread in [0.0, 100.0, 1700.0, 20_000.0] {
                let cost = |bytes: usize, threads: usize| {
                    bytes as f64 / 10.0 / threads as f64 + a_thread * threads as f64
                };
                let over = over_best(&Pace::new(), share, cost);
                assert!(over < 1.15, "{share} threads, {a_thread} ns each: {over}");
            }
        }
    }

    #[test]
    fn a_cliff_behind_the_physical_cores_is_not_jumped_from() {
        let cost = |bytes: usize, threads: usize| {
            let stalls = if threads > 8 { 30_000.0 } else { 0.0 };
            bytes as f64 / 10.0 / threads as f64 + 500.0 * threads as f64 + stalls
        };
        let over = over_best(&Pace::new(), 16, cost);
        assert!(over < 1.15, "{over}");
    }

    #[test]
    fn what_was_learned_is_forgotten_when_the_machine_gets_busy() {
        let pace = Pace::new();
        let quiet = |bytes: usize, threads: usize| bytes as f64 / 10.0 / threads as f64;
        let busy = |bytes: usize, threads: usize| {
            bytes as f64 / 10.0 / threads.min(2) as f64 + 5000.0 * threads as f64
        };
        assert!(over_best(&pace, 16, quiet) < 1.1);
        let over = over_best(&pace, 16, busy);
        assert!(over < 1.2, "{over}");
    }

    #[test]
    fn one_run_that_lost_its_core_does_not_decide() {
        let pace = Pace::new();
        for run in 0..4000 {
            let (threads, tried) = pace.choose(1_000_000, 8);
            let stall = if run % 97 == 0 { 10_000_000 } else { 0 };
            pace.learn(
                tried,
                Duration::from_nanos(100_000 / threads as u64 + stall),
            );
        }
        let chosen = (0..64).filter(|_| pace.choose(1_000_000, 8).0 == 8).count();
        assert!(chosen > 50, "{chosen} of 64");
    }
}
