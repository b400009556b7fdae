//! Normalisation layers over the rows of a buffer.

use kernels::ThreadPool;

use crate::error::Result;
use crate::rows::for_each_run;
use crate::tensors::Tensors;

/// Subtracts the mean and divides by the deviation, then scales and shifts.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    pub(crate) fn load(tensors: &Tensors, prefix: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            gamma: tensors.vector(&format!("{prefix}.weight"), width)?,
            beta: tensors.vector(&format!("{prefix}.bias"), width)?,
            eps,
        })
    }

    /// `out = norm(x)`, both `[n, width]`.
    pub(crate) fn apply(&self, pool: &ThreadPool, x: &mut [f32], out: &mut [f32]) {
        let width = self.gamma.len();
        for_each_run(pool, [x, out], width, |_, [x, out]| {
            for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
                kernels::layer_norm(x, &self.gamma, &self.beta, self.eps, out);
            }
        });
    }

    /// `residual = norm(residual + delta)`, both `[n, width]`; `delta` is used up.
    pub(crate) fn add_and_apply(&self, pool: &ThreadPool, delta: &mut [f32], residual: &mut [f32]) {
        let width = self.gamma.len();
        for_each_run(pool, [delta, residual], width, |_, [delta, residual]| {
            for (delta, residual) in delta
                .chunks_exact_mut(width)
                .zip(residual.chunks_exact_mut(width))
            {
                kernels::add(residual, delta);
                kernels::layer_norm(delta, &self.gamma, &self.beta, self.eps, residual);
            }
        });
    }
}

/// Divides by the root of the mean square, then scales.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    gamma: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    /// Loads `{prefix}.weight`, `[width]`.
    pub(crate) fn load(tensors: &Tensors, prefix: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            gamma: tensors.vector(&format!("{prefix}.weight"), width)?,
            eps,
        })
    }

    /// `out = norm(x)`, both `[n, width]`.
    pub(crate) fn apply(&self, pool: &ThreadPool, x: &[f32], out: &mut [f32]) {
        let width = self.gamma.len();
        for_each_run(pool, [out], width, |first, [out]| {
            for (x, out) in x[first * width..]
                .chunks_exact(width)
                .zip(out.chunks_exact_mut(width))
            {
                kernels::rms_norm(x, &self.gamma, self.eps, out);
            }
        });
    }

    /// `residual += delta; out = norm(residual)`, all `[n, width]`.
    pub(crate) fn add_and_apply(
        &self,
        pool: &ThreadPool,
        delta: &[f32],
        residual: &mut [f32],
        out: &mut [f32],
    ) {
        let width = self.gamma.len();
        for_each_run(pool, [residual, out], width, |first, [residual, out]| {
            let rows = residual
                .chunks_exact_mut(width)
                .zip(out.chunks_exact_mut(width));
            for (delta, (residual, out)) in delta[first * width..].chunks_exact(width).zip(rows) {
                kernels::add_rms_norm(delta, residual, &self.gamma, self.eps, out);
            }
        });
    }

    /// `row = norm(row)` with room for one row in `scratch`.
    pub(crate) fn apply_in_place(&self, row: &mut [f32], scratch: &mut [f32]) {
        scratch.copy_from_slice(row);
        kernels::rms_norm(scratch, &self.gamma, self.eps, row);
    }
}
