//! The gate of a feed-forward layer, `silu(gate) · up`, and its gradients.

use kernels::ThreadPool;

use crate::buffers::for_each_row;

/// Writes `silu(gate) · up`; all `[rows, width]`.
pub(crate) fn forward(pool: &ThreadPool, rows: usize, gate: &[f32], up: &[f32], out: &mut [f32]) {
    for_each_row(pool, rows, [out], |row, [out]| {
        let span = row * out.len()..(row + 1) * out.len();
        kernels::silu_mul(&gate[span.clone()], &up[span], out);
    });
}

/// Puts the gradients of gate and up in their places, for those of what [`forward`] writes.
pub(crate) fn backward(
    pool: &ThreadPool,
    rows: usize,
    gate: &mut [f32],
    up: &mut [f32],
    dout: &[f32],
) {
    for_each_row(pool, rows, [gate, up], |row, [gate, up]| {
        let dout = &dout[row * gate.len()..][..gate.len()];
        kernels::silu_mul_back(gate, up, dout);
    });
}
