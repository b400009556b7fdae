//! Products whose operands are rounded to brain floats: for training, which bears the rounding and needs the speed.
//!
//! Where the CPU multiplies brain floats, rows of `x` are rounded once a call into blocks of sixteen, then each task
//! rounds the weights of two panels of sixteen outputs, a block of columns at a time, and all its rows pass.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod dot;
#[cfg(target_arch = "x86_64")]
mod pack;
#[cfg(target_arch = "x86_64")]
mod packed;
mod portable;
#[cfg(target_arch = "x86_64")]
mod quant;
mod rows;
mod unit;

pub use rows::Bf16Rows;
pub use unit::Bf16Unit;

use crate::{Onto, QuantPanels, ThreadPool};

/// The right-hand side, rounded as it is packed.
#[derive(Debug, Clone, Copy)]
pub enum Bf16Weights<'a> {
    /// `[n, k]`: a row for each output.
    Outputs(&'a [f32]),
    /// `[k, n]`: a row for each input.
    Inputs(&'a [f32]),
    /// `[n, k]`, quantised.
    OutputPanels(QuantPanels<'a>),
    /// `[k, n]`, quantised: what goes back through a layer.
    InputPanels(QuantPanels<'a>),
}

impl Bf16Weights<'_> {
    fn check(&self, n: usize, k: usize) {
        match self {
            Self::Outputs(values) | Self::Inputs(values) => {
                assert_eq!(values.len(), n * k, "w is [n, k] or [k, n]");
            }
            Self::OutputPanels(w) => assert_eq!((w.n, w.k), (n, k), "w is [n, k]"),
            Self::InputPanels(w) => assert_eq!((w.n, w.k), (k, n), "w is [k, n]"),
        }
    }
}

/// `out[m, n] = x[m, k] · w`, onto what there is, with `x` and `w` rounded to brain floats (nearest, ties to even).
///
/// Products and sums are of single precision. Unlike those of [`gemm_plain`](crate::gemm_plain), the order of the sums depends on
/// the [`Bf16Unit`], and units but the portable one take numbers below 2⁻¹²⁶ for zero: an output differs between CPUs
/// by at most `k · 2⁻²²` of the sum of its terms' magnitudes. It depends neither on `m` nor on the number of threads.
///
/// # Panics
/// If the lengths of `x`, `w`, a bias and `out` do not follow from `m`, `n` and `k`.
#[expect(
    clippy::too_many_arguments,
    reason = "the operands of a matrix product with their shape"
)]
pub fn gemm_bf16(
    pool: &ThreadPool,
    x: &[f32],
    m: usize,
    k: usize,
    w: Bf16Weights<'_>,
    n: usize,
    onto: Onto<'_>,
    out: &mut [f32],
) {
    let x = Bf16Rows::new(pool, x, m, k, 0);
    gemm_bf16_rows(pool, &x, &[w], n, onto, out);
}

/// [`gemm_bf16`] of rows that are rounded already: the sum of the products of their parts, one for each of `w`.
///
/// # Panics
/// If the lengths of `w`, a bias and `out` do not follow from the rows, their columns and `n`, or there are other
/// than one or two of `w`.
pub fn gemm_bf16_rows(
    pool: &ThreadPool,
    x: &Bf16Rows,
    w: &[Bf16Weights<'_>],
    n: usize,
    onto: Onto<'_>,
    out: &mut [f32],
) {
    assert!((1..=2).contains(&w.len()), "one or two right-hand sides");
    for (w, &k) in w.iter().zip(&x.columns) {
        w.check(n, k);
    }
    assert_eq!(out.len(), x.rows * n, "out is [m, n]");
    onto.check(n);
    #[cfg(target_arch = "x86_64")]
    if x.unit != Bf16Unit::Portable && x.columns[..w.len()].iter().any(|&k| k > 0) {
        return packed::multiply_all(pool, x, w, n, onto, out);
    }
    portable::multiply_all(pool, x, w, n, onto, out);
}
