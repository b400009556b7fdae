//! Loops over floats that attention and sampling share, compiled once per instruction set from one source.
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

/// Products with this many rows at a time keep their sums in registers.
const ROWS_WIDE: usize = 8;
const ROWS: usize = 4;

/// A product `c (+)= a b` of row-major matrices with row strides.
pub(crate) struct Product<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) a_stride: usize,
    pub(crate) b: &'a [f32],
    pub(crate) b_stride: usize,
    pub(crate) c: &'a mut [f32],
    pub(crate) c_stride: usize,
    pub(crate) rows: usize,
    /// Columns of `a`, rows of `b`.
    pub(crate) inner: usize,
    /// Columns of `b` and `c`; a multiple of [`LANES`].
    pub(crate) cols: usize,
    /// Whether to add to `c` or overwrite it.
    pub(crate) accumulate: bool,
}

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
                _ => $body::<ROWS>($($arg),*),
            }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        fn $avx2($($arg: $type),*) $(-> $ret)? {
            $body::<ROWS>($($arg),*)
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn $avx512($($arg: $type),*) $(-> $ret)? {
            $body::<ROWS_WIDE>($($arg),*)
        }
    };
}

dispatch! {
    /// Computes a product.
    multiply, multiply_body, multiply_avx2, multiply_avx512, (product: Product<'_>)
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
fn multiply_body<const R: usize>(product: Product<'_>) {
    let mut product = product;
    let mut row = 0;
    while row + R <= product.rows {
        stripe::<R>(&mut product, row);
        row += R;
    }
    while row < product.rows {
        stripe::<1>(&mut product, row);
        row += 1;
    }
}

/// `R` rows of a product.
#[inline(always)]
fn stripe<const R: usize>(product: &mut Product<'_>, first: usize) {
    let inner = product.inner;
    let mut a: [&[f32]; R] = [&[]; R];
    for (r, row) in a.iter_mut().enumerate() {
        let start = (first + r) * product.a_stride;
        *row = &product.a[start..start + inner];
    }
    for col in (0..product.cols).step_by(LANES) {
        let mut sums = [[0.0f32; LANES]; R];
        if product.accumulate {
            for (r, sum) in sums.iter_mut().enumerate() {
                let start = (first + r) * product.c_stride + col;
                sum.copy_from_slice(&product.c[start..start + LANES]);
            }
        }
        for p in 0..inner {
            let start = p * product.b_stride + col;
            let b = &product.b[start..start + LANES];
            for (row, sum) in a.iter().zip(&mut sums) {
                for (sum, &b) in sum.iter_mut().zip(b) {
                    *sum = row[p].mul_add(b, *sum);
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            let start = (first + r) * product.c_stride + col;
            product.c[start..start + LANES].copy_from_slice(sum);
        }
    }
}

#[inline(always)]
fn greatest_body<const R: usize>(row: &[f32]) -> f32 {
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
fn exp_sum_body<const R: usize>(row: &mut [f32], maximum: f32) -> f32 {
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

    #[test]
    fn products_match_the_definition_at_every_level() {
        let (rows, inner, cols) = (13, 7, 32);
        let a: Vec<f32> = (0..rows * inner)
            .map(|i| ((i * 7 % 11) as f32) - 5.0)
            .collect();
        let b: Vec<f32> = (0..inner * cols)
            .map(|i| ((i * 5 % 13) as f32) - 6.0)
            .collect();
        let level = kernels::isa();
        for isa in [Isa::Scalar, level] {
            let mut c = vec![1.0; rows * cols];
            multiply(
                isa,
                Product {
                    a: &a,
                    a_stride: inner,
                    b: &b,
                    b_stride: cols,
                    c: &mut c,
                    c_stride: cols,
                    rows,
                    inner,
                    cols,
                    accumulate: true,
                },
            );
            for row in 0..rows {
                for col in 0..cols {
                    let sum: f32 = (0..inner)
                        .map(|p| a[row * inner + p] * b[p * cols + col])
                        .sum();
                    assert_eq!(c[row * cols + col], sum + 1.0, "small integers are exact");
                }
            }
        }
    }
}
