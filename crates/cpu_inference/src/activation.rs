//! Element-wise activations of feed-forward layers.

use crate::error::{InferenceError, Result};

/// Activation of a feed-forward layer or a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// By the error function.
    Gelu,
    /// By the hyperbolic tangent.
    GeluTanh,
    Relu,
    Silu,
    Tanh,
}

impl Activation {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "relu" => Ok(Self::Relu),
            "silu" | "swish" => Ok(Self::Silu),
            "tanh" => Ok(Self::Tanh),
            _ => Err(InferenceError::Unsupported {
                feature: "hidden_act",
                got: name.to_owned(),
                supported: "gelu, gelu_new, relu, silu, tanh",
            }),
        }
    }

    /// `out = activation(gate) · up`.
    pub(crate) fn gate(self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        if self == Self::Silu {
            return kernels::silu_mul(gate, up, out);
        }
        out.copy_from_slice(gate);
        self.apply(out);
        out.iter_mut().zip(up).for_each(|(out, up)| *out *= up);
    }

    /// Replaces each number of `x`.
    pub(crate) fn apply(self, x: &mut [f32]) {
        match self {
            Self::Gelu => kernels::gelu(x),
            Self::GeluTanh => kernels::gelu_tanh(x),
            Self::Relu => x.iter_mut().for_each(|x| *x = x.max(0.0)),
            Self::Silu => x.iter_mut().for_each(|x| *x /= 1.0 + (-*x).exp()),
            Self::Tanh => x.iter_mut().for_each(|x| *x = x.tanh()),
        }
    }
}
