//! Work on the rows of buffers, shared out over the threads.

use kernels::{SharedOut, ThreadPool};

/// Fewer numbers than this cost less than waking a thread.
const SMALL: usize = 16 * 1024;

/// Runs of rows per thread: enough to even out threads of different speed.
const RUNS_PER_THREAD: usize = 4;

/// Calls `work(first_row, runs)` on consecutive runs of the rows of `buffers`, each `[n, width]`.
pub(crate) fn for_each_run<const N: usize>(
    pool: &ThreadPool,
    buffers: [&mut [f32]; N],
    width: usize,
    work: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    let len = buffers.iter().map(|buffer| buffer.len()).min().unwrap_or(0);
    let rows = len / width;
    if len <= SMALL || pool.threads() == 1 {
        work(0, buffers.map(|buffer| &mut buffer[..rows * width]));
        return;
    }
    let run = rows.div_ceil(pool.threads() * RUNS_PER_THREAD);
    let shared = buffers.map(SharedOut::new);
    pool.run(rows.div_ceil(run), |task| {
        let first = task * run;
        let last = (first + run).min(rows);
        // SAFETY: runs of different tasks cover different rows.
        let parts =
            shared.map(|buffer| unsafe { buffer.part(first * width, (last - first) * width) });
        work(first, parts);
    });
}
