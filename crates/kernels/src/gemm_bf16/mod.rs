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
mod unit;

pub use unit::Bf16Unit;

use half::bf16;

use crate::shared::SharedOut;
use crate::{Onto, PlainRows, ThreadPool, gemm_back, gemm_plain};

/// The right-hand side in single precision, rounded as it is packed.
#[derive(Debug, Clone, Copy)]
pub enum Bf16Weights<'a> {
    /// `[n, k]`: a row for each output.
    Outputs(&'a [f32]),
    /// `[k, n]`: a row for each input.
    Inputs(&'a [f32]),
}

/// `out[m, n] = x[m, k] · w`, onto what there is, with `x` and `w` rounded to brain floats (nearest, ties to even).
///
/// Products and sums are of single precision. Unlike those of [`gemm_plain`], the order of the sums depends on
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
    let (Bf16Weights::Outputs(values) | Bf16Weights::Inputs(values)) = w;
    assert_eq!(values.len(), n * k, "w is [n, k] or [k, n]");
    assert_eq!(x.len(), m * k, "x is [m, k]");
    assert_eq!(out.len(), m * n, "out is [m, n]");
    onto.check(n);
    #[cfg(target_arch = "x86_64")]
    {
        let unit = Bf16Unit::in_use();
        if unit != Bf16Unit::Portable && k > 0 {
            return packed::multiply_all(unit, pool, (x, m, k), w, n, onto, out);
        }
    }
    let x = rounded(pool, x);
    let rounded = rounded(pool, values);
    match w {
        Bf16Weights::Outputs(_) => {
            let rows = PlainRows::F32(&rounded);
            gemm_plain(pool, &x, m, k, rows, n, onto, out);
        }
        Bf16Weights::Inputs(_) => gemm_back(pool, &x, m, k, &rounded, n, onto, out),
    }
}

/// The nearest brain floats, as single precision.
fn rounded(pool: &ThreadPool, values: &[f32]) -> Vec<f32> {
    /// Values of a task.
    const PART: usize = 1 << 15;
    let mut nearest = vec![0.0; values.len()];
    let shared = SharedOut::new(&mut nearest);
    let parts = values.len().div_ceil(PART);
    pool.paying(size_of_val(values)).run(parts, |part| {
        let values = &values[part * PART..values.len().min((part + 1) * PART)];
        // SAFETY: a part has one task.
        let nearest = unsafe { shared.part(part * PART, values.len()) };
        for (nearest, &value) in nearest.iter_mut().zip(values) {
            *nearest = bf16::from_f32(value).to_f32();
        }
    });
    nearest
}
