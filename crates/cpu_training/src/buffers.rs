//! Work on the rows of buffers, shared out over the threads.

use kernels::{SharedOut, ThreadPool};

/// Runs per thread: enough to even out threads of different speed.
const RUNS_PER_THREAD: usize = 4;

/// Calls `work(row, parts)` for each of `rows` rows; `parts` are the row's of `buffers`, each `[rows, width]`.
pub(crate) fn for_each_row<const N: usize>(
    pool: &ThreadPool,
    rows: usize,
    buffers: [&mut [f32]; N],
    work: impl Fn(usize, [&mut [f32]; N]) + Sync,
) {
    if rows == 0 {
        return;
    }
    let shared = buffers.map(|buffer| (buffer.len() / rows, SharedOut::new(buffer)));
    let run = rows.div_ceil(pool.threads() * RUNS_PER_THREAD);
    pool.run(rows.div_ceil(run), |task| {
        for row in task * run..((task + 1) * run).min(rows) {
            // SAFETY: rows of different tasks differ.
            let parts = shared.map(|(width, buffer)| unsafe { buffer.part(row * width, width) });
            work(row, parts);
        }
    });
}

/// The first `len` numbers of a buffer, which holds anything.
pub(crate) fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// `[rows, width]` to `[width, rows]`.
pub(crate) fn transposed(x: &[f32], rows: usize, out: &mut Vec<f32>) {
    let width = x.len() / rows.max(1);
    let out = fit(out, x.len());
    for (row, values) in x.chunks_exact(width.max(1)).enumerate() {
        for (column, &value) in values.iter().enumerate() {
            out[column * rows + row] = value;
        }
    }
}
