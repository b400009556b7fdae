//! The threads of the process, for short parallel runs: microseconds of work, thousands of times a second.
//!
//! All pools share one set of workers, however many engines, stores and tokenizers there are: never do more threads
//! work than there are cores, unless a pool was asked for that is wider. Where the system gives the process fewer cores, by affinity
//! or a quota of its control group, there are fewer.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod pace;
mod pool;
mod run;
mod workers;

pub use pool::ThreadPool;

use std::num::NonZero;
use std::sync::OnceLock;

/// Cores that the process may use.
#[must_use]
pub fn cores() -> usize {
    // Asking the system takes longer than a small run.
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZero::get))
}
