//! What a loss needs of a row of logits, which may lie in parts.

use crate::activation::{exp, largest as largest_on};
use crate::isa;
use crate::simd::{LANES, Simd, dispatched};
use crate::vector::{map_in_place, sum_of};

/// Largest value; −∞ of none. NaN is passed over.
#[must_use]
pub fn largest(x: &[f32]) -> f32 {
    largest_isa(isa(), x)
}

/// `Σ exp(x − shift)`; a term below e^−87.33 is zero.
#[must_use]
pub fn sum_exp(x: &[f32], shift: f32) -> f32 {
    sum_exp_isa(isa(), x, shift)
}

/// `x = factor · exp(x − shift)`: the gradient of `factor · log Σ exp(x)` where that logarithm is `shift`.
pub fn scaled_exp(x: &mut [f32], shift: f32, factor: f32) {
    scaled_exp_isa(isa(), x, shift, factor);
}

/// `Σ p · (log p − log q)` for `p = exp(targets − theirs)` and `q = exp(x − ours)`, of which `factor` times the gradient,
/// `q − p`, takes the place of `x`.
///
/// # Panics
/// If the lengths differ.
pub fn divergence(x: &mut [f32], ours: f32, targets: &[f32], theirs: f32, factor: f32) -> f32 {
    assert_eq!(x.len(), targets.len(), "a target for each logit");
    divergence_isa(isa(), x, ours, targets, theirs, factor)
}

dispatched!(fn largest_isa(x: &[f32]) -> f32 = largest_on);
dispatched!(fn sum_exp_isa(x: &[f32], shift: f32) -> f32 = sum_exp_on);
dispatched!(fn scaled_exp_isa(x: &mut [f32], shift: f32, factor: f32) = scaled_exp_on);
dispatched!(
    fn divergence_isa(x: &mut [f32], ours: f32, targets: &[f32], theirs: f32, factor: f32) -> f32 = divergence_on
);

/// At most sixteen values, `rest` beyond.
#[inline(always)]
fn load_padded<S: Simd>(s: S, x: &[f32], rest: f32) -> S::F {
    let mut lanes = [rest; LANES];
    lanes[..x.len()].copy_from_slice(x);
    s.load(&lanes)
}

#[inline(always)]
fn sum_exp_on<S: Simd>(s: S, x: &[f32], shift: f32) -> f32 {
    let shift = s.splat(shift);
    let mut sums = [s.splat(0.0); 4];
    let (whole, rest) = x.as_chunks::<LANES>();
    for (i, x) in whole.iter().enumerate() {
        sums[i % 4] = s.add(sums[i % 4], exp(s, s.sub(s.load(x), shift)));
    }
    if !rest.is_empty() {
        let x = load_padded(s, rest, f32::NEG_INFINITY);
        sums[0] = s.add(sums[0], exp(s, s.sub(x, shift)));
    }
    sum_of(s, sums)
}

#[inline(always)]
fn scaled_exp_on<S: Simd>(s: S, x: &mut [f32], shift: f32, factor: f32) {
    let (shift, factor) = (s.splat(shift), s.splat(factor));
    map_in_place!(s, x, |x| s.mul(factor, exp(s, s.sub(x, shift))));
}

#[inline(always)]
fn divergence_on<S: Simd>(
    s: S,
    x: &mut [f32],
    ours: f32,
    targets: &[f32],
    theirs: f32,
    factor: f32,
) -> f32 {
    /// A logit whose share is zero, and finite.
    const NEVER: f32 = -1e30;
    let (ours, theirs, factor) = (s.splat(ours), s.splat(theirs), s.splat(factor));
    let mut sums = [s.splat(0.0); 4];
    macro_rules! step {
        ($x:expr, $target:expr, $sum:expr) => {{
            let (log_q, log_p) = (s.sub($x, ours), s.sub($target, theirs));
            let (q, p) = (exp(s, log_q), exp(s, log_p));
            $sum = s.fma(p, s.sub(log_p, log_q), $sum);
            s.mul(factor, s.sub(q, p))
        }};
    }
    let (whole, rest) = x.as_chunks_mut::<LANES>();
    let (whole_targets, rest_targets) = targets.as_chunks::<LANES>();
    for (i, (x, target)) in whole.iter_mut().zip(whole_targets).enumerate() {
        let change = step!(s.load(x), s.load(target), sums[i % 4]);
        s.store(change, x);
    }
    if !rest.is_empty() {
        let (logits, target) = (s.load_part(rest), load_padded(s, rest_targets, NEVER));
        let change = step!(logits, target, sums[0]);
        s.store_part(change, rest);
    }
    sum_of(s, sums)
}
