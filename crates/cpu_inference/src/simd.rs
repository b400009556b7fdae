//! Loops over a row of logits, compiled once per instruction set from one source.
//!
//! Each wrapper enables features for the same inlined body, so the compiler vectorises it as wide as
//! the features allow. Every version adds in the same order and rounds the same products, so results are
//! equal to the bit.
#![expect(
    clippy::inline_always,
    reason = "a body takes on its caller's instruction set only when inlined"
)]

use kernels::Isa;

/// Numbers that one vector step handles.
pub(crate) const LANES: usize = 16;

macro_rules! dispatch {
    ($(#[$doc:meta])* $name:ident, $body:ident, $avx2:ident, $avx512:ident, ($($arg:ident: $type:ty),*) $(-> $ret:ty)?) => {
        $(#[$doc])*
        pub(crate) fn $name(isa: Isa, $($arg: $type),*) $(-> $ret)? {
            match isa {
                // SAFETY: the process runs at this level only if the processor has its features.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => unsafe { $avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { $avx2($($arg),*) },
                _ => $body($($arg),*),
            }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $avx2($($arg: $type),*) $(-> $ret)? {
            $body($($arg),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn $avx512($($arg: $type),*) $(-> $ret)? {
            $body($($arg),*)
        }
    };
}

dispatch! {
    /// Replaces `row` by `exp(row - maximum)` and returns the sum. `row` is a multiple of [`LANES`] long.
    exp_sum, exp_sum_body, exp_sum_avx2, exp_sum_avx512, (row: &mut [f32], maximum: f32) -> f32
}

dispatch! {
    /// The greatest of `row`, or minus infinity. `row` is a multiple of [`LANES`] long.
    greatest, greatest_body, greatest_avx2, greatest_avx512, (row: &[f32]) -> f32
}

#[inline(always)]
fn greatest_body(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in row.chunks_exact(LANES) {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] {
                chunk[lane]
            } else {
                lanes[lane]
            };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
}

#[inline(always)]
fn exp_sum_body(row: &mut [f32], maximum: f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for chunk in row.chunks_exact_mut(LANES) {
        for lane in 0..LANES {
            let value = exp(chunk[lane] - maximum);
            chunk[lane] = value;
            lanes[lane] += value;
        }
    }
    lanes.into_iter().sum()
}

/// `e^x` for `x <= 0` within two units in the last place; 0 below -87; NaN stays NaN.
///
/// Splits `x = n ln 2 + r` and evaluates a polynomial in `r` (coefficients of Cephes' `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const FLOOR: f32 = -87.0;
    let clamped = if x < FLOOR { FLOOR } else { x };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    let mut p: f32 = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5e-1,
    ] {
        p = p.mul_add(r, coefficient);
    }
    let fraction = (p * r).mul_add(r, r + 1.0);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = fraction * power;
    if x < FLOOR { 0.0 } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_matches_the_standard_library() {
        let mut worst = 0.0f32;
        for step in 0..87_000 {
            let x = -(step as f32) / 1000.0;
            worst = worst.max((exp(x) / x.exp() - 1.0).abs());
        }
        assert!(worst < 3e-7, "{worst}");
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert!(exp(f32::NAN).is_nan());
    }
}
