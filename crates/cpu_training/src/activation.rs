//! Element-wise activations of feed-forward layers without a gate, and their slopes.

use kernels::ThreadPool;

use crate::buffers::for_each_row;
use crate::error::{Result, TrainingError};

/// An activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// By the error function.
    Gelu,
    /// By the hyperbolic tangent.
    GeluTanh,
    Relu,
}

/// The density of the normal distribution at 0, which is `1 / sqrt(2π)`.
const DENSITY: f32 = 0.398_942_3;

/// `sqrt(2 / π)`, and the cubic term of GELU's tanh form.
const TANH: [f32; 2] = [0.797_884_6, 0.044_715];

impl Activation {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "relu" => Ok(Self::Relu),
            _ => Err(TrainingError::Unsupported {
                feature: "hidden_act",
                got: name.to_owned(),
                expected: "gelu, gelu_new, relu",
            }),
        }
    }

    /// Writes the activation of `x`, both `[rows, width]`.
    pub(crate) fn forward(self, pool: &ThreadPool, rows: usize, x: &[f32], y: &mut [f32]) {
        for_each_row(pool, rows, [y], |row, [y]| {
            y.copy_from_slice(&x[row * y.len()..][..y.len()]);
            self.apply(y);
        });
    }

    /// Multiplies `dy` by the slopes at `x`.
    pub(crate) fn backward(self, pool: &ThreadPool, rows: usize, x: &[f32], dy: &mut [f32]) {
        for_each_row(pool, rows, [dy], |row, [dy]| {
            let x = &x[row * dy.len()..][..dy.len()];
            let mut y = x.to_vec();
            self.apply(&mut y);
            for (dy, (&x, y)) in dy.iter_mut().zip(x.iter().zip(y)) {
                *dy *= self.slope(x, y);
            }
        });
    }

    fn apply(self, x: &mut [f32]) {
        match self {
            Self::Gelu => kernels::gelu(x),
            Self::GeluTanh => kernels::gelu_tanh(x),
            Self::Relu => x.iter_mut().for_each(|x| *x = x.max(0.0)),
        }
    }

    /// Of the activation at `x`, which is `y` there.
    fn slope(self, x: f32, y: f32) -> f32 {
        match self {
            Self::Relu => f32::from(u8::from(x > 0.0)),
            Self::Gelu => {
                // The distribution function is y / x; near 0, where little is divided by little, its series.
                let below = if x.abs() < 0.25 {
                    0.5 + DENSITY * x * (1.0 - x * x / 6.0 + x * x * x * x / 40.0)
                } else {
                    y / x
                };
                below + x * DENSITY * (-0.5 * x * x).exp()
            }
            Self::GeluTanh => {
                let [root, cubic] = TANH;
                let tanh = (root * (x + cubic * x * x * x)).tanh();
                let inner = root * (1.0 + 3.0 * cubic * x * x);
                0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Activation;

    #[test]
    fn slopes_are_those_of_steps_to_either_side() {
        let at = |activation: Activation, x: f32| {
            let mut y = [x];
            activation.apply(&mut y);
            y[0]
        };
        for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
            for step in -60_i16..60 {
                let x = f32::from(step) * 0.1 + 0.03;
                let d = 0.02;
                let slope = (at(activation, x + d) - at(activation, x - d)) / (2.0 * d);
                let found = activation.slope(x, at(activation, x));
                assert!(
                    (slope - found).abs() < 2e-4,
                    "{activation:?} {x}: {slope}, {found}"
                );
            }
        }
        assert_eq!(Activation::Gelu.slope(0.0, 0.0), 0.5);
        assert!(Activation::parse("silu").is_err());
    }
}
