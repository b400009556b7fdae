//! Normalisation layers, row by row.

use crate::error::Result;
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

    /// `stream = norm(stream + delta)`; `scratch` is as wide.
    pub(crate) fn join(&self, delta: &[f32], stream: &mut [f32], scratch: &mut [f32]) {
        kernels::add_layer_norm(delta, stream, &self.gamma, &self.beta, self.eps, scratch);
        stream.copy_from_slice(scratch);
    }

    /// `out = norm(x)`.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) {
        kernels::layer_norm(x, &self.gamma, &self.beta, self.eps, out);
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

    /// `out = norm(x)`.
    pub(crate) fn apply(&self, x: &[f32], out: &mut [f32]) {
        kernels::rms_norm(x, &self.gamma, self.eps, out);
    }

    /// `stream += delta; out = norm(stream)`.
    pub(crate) fn join(&self, delta: &[f32], stream: &mut [f32], out: &mut [f32]) {
        kernels::add_rms_norm(delta, stream, &self.gamma, self.eps, out);
    }

    /// `row = norm(row)` with room for one row in `scratch`.
    pub(crate) fn apply_in_place(&self, row: &mut [f32], scratch: &mut [f32]) {
        scratch.copy_from_slice(row);
        kernels::rms_norm(scratch, &self.gamma, self.eps, row);
    }
}
