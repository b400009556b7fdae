//! The gate of a feed-forward layer, `silu(gate) · up`, and its gradients.

use kernels::ThreadPool;

use crate::buffers::{Buffer, for_each_row};
use crate::linear::Context;
use crate::products::Precision;

/// Gate and up, each `[rows, width]`, from the way forth to the way back. They are more than half of what is kept, so
/// they are kept as brain floats where products round to these.
pub(crate) enum Wide {
    Single([Buffer; 2]),
    /// Both in the bits of one number: the upper half is the gate's.
    Rounded(Buffer),
}

impl Wide {
    pub(crate) fn keep(context: &Context<'_>, rows: usize, wide: [Buffer; 2]) -> Self {
        if context.precision == Precision::Single {
            return Self::Single(wide);
        }
        let [mut gate, up] = wide;
        for_each_row(context.pool, rows, [&mut gate], |row, [gate]| {
            let up = &up[row * gate.len()..][..gate.len()];
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = f32::from_bits(rounded(*gate) | rounded(*up) >> 16);
            }
        });
        Self::Rounded(gate)
    }

    pub(crate) fn read(self, context: &Context<'_>, rows: usize) -> [Buffer; 2] {
        let mut gate = match self {
            Self::Single(wide) => return wide,
            Self::Rounded(both) => both,
        };
        let mut up = context.spare.take(gate.len());
        for_each_row(context.pool, rows, [&mut gate, &mut up], |_, [gate, up]| {
            for (gate, up) in gate.iter_mut().zip(up) {
                let both = gate.to_bits();
                (*gate, *up) = (f32::from_bits(both & UPPER), f32::from_bits(both << 16));
            }
        });
        [gate, up]
    }
}

const UPPER: u32 = 0xFFFF_0000;

/// The bits of the nearest brain float, ties to even, in the upper half.
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    // What is no number stays none.
    (if value.is_nan() {
        bits | 0x0040_0000
    } else {
        nearest
    }) & UPPER
}

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

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn the_nearest_brain_float_is_taken() {
        let step = f32::powi(2.0, -7);
        let nearest = |value: f32| f32::from_bits(rounded(value));
        assert_eq!(nearest(1.0 + 0.49 * step), 1.0);
        assert_eq!(nearest(-1.0 - 0.51 * step), -1.0 - step);
        assert_eq!(nearest(1.0 + 0.5 * step), 1.0);
        assert_eq!(nearest(1.0 + 1.5 * step), 1.0 + 2.0 * step);
        assert_eq!(nearest(f32::MAX), f32::INFINITY);
        assert_eq!(nearest(f32::NEG_INFINITY), f32::NEG_INFINITY);
        assert!(nearest(f32::NAN).is_nan() && nearest(f32::from_bits(0x7FFF_FFFF)).is_nan());
    }
}
