//! Normalisation layers, row by row.

use crate::adapter::Adapter;
use crate::error::Result;
use crate::sites::Vector;
use crate::tensors::Tensors;

/// Subtracts the mean and divides by the deviation, then scales and shifts.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    gamma: Vector,
    beta: Vector,
    eps: f32,
}

impl LayerNorm {
    pub(crate) fn load(tensors: &Tensors, prefix: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            gamma: tensors.replaceable(&format!("{prefix}.weight"), width)?,
            beta: tensors.replaceable(&format!("{prefix}.bias"), width)?,
            eps,
        })
    }

    /// `stream = norm(stream + delta)`; `scratch` is as wide.
    pub(crate) fn join(
        &self,
        adapter: Option<&Adapter>,
        delta: &[f32],
        stream: &mut [f32],
        scratch: &mut [f32],
    ) {
        let (gamma, beta) = (self.gamma.of(adapter), self.beta.of(adapter));
        kernels::add_layer_norm(delta, stream, gamma, beta, self.eps, scratch);
        stream.copy_from_slice(scratch);
    }

    /// `out = norm(x)`.
    pub(crate) fn apply(&self, adapter: Option<&Adapter>, x: &[f32], out: &mut [f32]) {
        let (gamma, beta) = (self.gamma.of(adapter), self.beta.of(adapter));
        kernels::layer_norm(x, gamma, beta, self.eps, out);
    }
}

/// Divides by the root of the mean square, then scales.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    gamma: Vector,
    eps: f32,
}

impl RmsNorm {
    /// Loads `{prefix}.weight`, `[width]`.
    pub(crate) fn load(tensors: &Tensors, prefix: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            gamma: tensors.replaceable(&format!("{prefix}.weight"), width)?,
            eps,
        })
    }

    /// `out = norm(x)`.
    pub(crate) fn apply(&self, adapter: Option<&Adapter>, x: &[f32], out: &mut [f32]) {
        kernels::rms_norm(x, self.gamma.of(adapter), self.eps, out);
    }

    /// `stream += delta; out = norm(stream)`.
    pub(crate) fn join(
        &self,
        adapter: Option<&Adapter>,
        delta: &[f32],
        stream: &mut [f32],
        out: &mut [f32],
    ) {
        kernels::add_rms_norm(delta, stream, self.gamma.of(adapter), self.eps, out);
    }

    /// `row = norm(row)` with room for one row in `scratch`.
    pub(crate) fn apply_in_place(
        &self,
        adapter: Option<&Adapter>,
        row: &mut [f32],
        scratch: &mut [f32],
    ) {
        scratch.copy_from_slice(row);
        kernels::rms_norm(scratch, self.gamma.of(adapter), self.eps, row);
    }
}
