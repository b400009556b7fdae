//! Normalisation layers, row by row.

use crate::adapter::Adapter;
use crate::error::Result;
use crate::layout;
use crate::sites::Vector;
use crate::tensors::Tensors;

/// A norm of either kind.
#[derive(Debug, Clone)]
pub(crate) enum Norm {
    Rms(RmsNorm),
    Layer(LayerNorm),
}

impl Norm {
    /// Loads `{name}.weight` and, if the norm has a shift, `{name}.bias`, each `[width]`.
    pub(crate) fn load(tensors: &Tensors, spec: &layout::Norm, eps: f32) -> Result<Self> {
        Ok(match spec.needs_bias {
            None => Self::Rms(RmsNorm::load(tensors, spec, eps)?),
            Some(_) => Self::Layer(LayerNorm::load(tensors, spec, eps)?),
        })
    }

    /// `out = norm(x)`.
    pub(crate) fn apply(&self, adapter: Option<&Adapter>, x: &[f32], out: &mut [f32]) {
        match self {
            Self::Rms(norm) => norm.apply(adapter, x, out),
            Self::Layer(norm) => norm.apply(adapter, x, out),
        }
    }

    /// `stream += delta; out = norm(stream)`.
    pub(crate) fn join(
        &self,
        adapter: Option<&Adapter>,
        delta: &[f32],
        stream: &mut [f32],
        out: &mut [f32],
    ) {
        match self {
            Self::Rms(norm) => norm.join(adapter, delta, stream, out),
            Self::Layer(norm) => norm.join(adapter, delta, stream, out),
        }
    }
}

/// Subtracts the mean and divides by the deviation, then scales and shifts.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    gamma: Vector,
    /// Zeros where the norm does not shift.
    beta: Vector,
    eps: f32,
}

impl LayerNorm {
    fn load(tensors: &Tensors, spec: &layout::Norm, eps: f32) -> Result<Self> {
        let bias = format!("{}.bias", spec.name);
        let is_there = spec.needs_bias == Some(true) || tensors.contains(&bias);
        Ok(Self {
            gamma: tensors.replaceable(&format!("{}.weight", spec.name), spec.width)?,
            beta: if is_there {
                tensors.replaceable(&bias, spec.width)?
            } else {
                Vector::fixed(vec![0.0; spec.width])
            },
            eps,
        })
    }

    /// `stream += delta; out = norm(stream)`.
    fn join(&self, adapter: Option<&Adapter>, delta: &[f32], stream: &mut [f32], out: &mut [f32]) {
        let (gamma, beta) = (self.gamma.of(adapter), self.beta.of(adapter));
        kernels::add_layer_norm(delta, stream, gamma, beta, self.eps, out);
    }

    /// `out = norm(x)`.
    fn apply(&self, adapter: Option<&Adapter>, x: &[f32], out: &mut [f32]) {
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
    /// Loads `{name}.weight`, `[width]`.
    pub(crate) fn load(tensors: &Tensors, spec: &layout::Norm, eps: f32) -> Result<Self> {
        Ok(Self {
            gamma: tensors.replaceable(&format!("{}.weight", spec.name), spec.width)?,
            eps,
        })
    }

    /// One that does not scale.
    pub(crate) fn unscaled(width: usize, eps: f32) -> Self {
        Self {
            gamma: Vector::fixed(vec![1.0; width]),
            eps,
        }
    }

    /// `out = norm(x)`.
    fn apply(&self, adapter: Option<&Adapter>, x: &[f32], out: &mut [f32]) {
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
