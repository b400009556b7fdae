//! Normalisations of one row.

use crate::isa;
use crate::simd::{LANES, Simd, dispatched};
use crate::vector::{fold, map_with, sum_of};

/// `out = (x − mean) / sqrt(variance + eps) · gamma + beta`.
///
/// # Panics
/// If the lengths differ.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
    check(x.len(), &[gamma.len(), beta.len(), out.len()]);
    layer_norm_isa(isa(), x, gamma, beta, eps, out);
}

/// `residual += delta`, then [`layer_norm`] of it.
///
/// # Panics
/// If the lengths differ.
pub fn add_layer_norm(
    delta: &[f32],
    residual: &mut [f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    crate::add(delta, residual);
    layer_norm(residual, gamma, beta, eps, out);
}

/// `out = x / sqrt(mean(x²) + eps) · gamma`.
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm(x: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
    check(x.len(), &[gamma.len(), out.len()]);
    rms_norm_isa(isa(), x, gamma, eps, out);
}

/// `residual += delta`, then [`rms_norm`] of it.
///
/// # Panics
/// If the lengths differ.
pub fn add_rms_norm(delta: &[f32], residual: &mut [f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
    crate::add(delta, residual);
    rms_norm(residual, gamma, eps, out);
}

/// Adds to `dx` the gradient of `x` for `dy`, that of what [`rms_norm`] writes.
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm_back(x: &[f32], gamma: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    check(x.len(), &[gamma.len(), dy.len(), dx.len()]);
    rms_norm_back_isa(isa(), x, gamma, eps, dy, dx);
}

fn check(len: usize, others: &[usize]) {
    assert!(
        others.iter().all(|&other| other == len),
        "a row of {len} values with operands of {others:?}"
    );
}

dispatched!(fn layer_norm_isa(x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) = layer_norm_on);
dispatched!(fn rms_norm_isa(x: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) = rms_norm_on);

dispatched!(fn rms_norm_back_isa(x: &[f32], gamma: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) = rms_norm_back_on);

#[inline(always)]
fn layer_norm_on<S: Simd>(s: S, x: &[f32], gamma: &[f32], beta: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len() as f32;
    let zero = s.splat(0.0);
    let mean = sum_of(s, fold!(s, x, zero, |sum, x| s.add(sum, x))) / n;
    // Centred values go through `out`: the zeros that fill its last vector then add nothing to the squares.
    let negative = s.splat(-mean);
    map_with!(s, x, out, |x, _| s.add(x, negative));
    let variance = sum_of(s, fold!(s, out, zero, |sum, x| s.fma(x, x, sum))) / n;
    let inverse = s.splat(1.0 / (variance + eps).sqrt());
    let affine = gamma.chunks(LANES).zip(beta.chunks(LANES));
    for (out, (gamma, beta)) in out.chunks_mut(LANES).zip(affine) {
        let scaled = s.mul(s.load_part(out), inverse);
        s.store_part(s.fma(scaled, s.load_part(gamma), s.load_part(beta)), out);
    }
}

#[inline(always)]
fn rms_norm_on<S: Simd>(s: S, x: &[f32], gamma: &[f32], eps: f32, out: &mut [f32]) {
    let square = sum_of(s, fold!(s, x, s.splat(0.0), |sum, x| s.fma(x, x, sum))) / x.len() as f32;
    let inverse = s.splat(1.0 / (square + eps).sqrt());
    for ((out, x), gamma) in out
        .chunks_mut(LANES)
        .zip(x.chunks(LANES))
        .zip(gamma.chunks(LANES))
    {
        s.store_part(
            s.mul(s.mul(s.load_part(x), inverse), s.load_part(gamma)),
            out,
        );
    }
}

/// With `r = 1 / sqrt(mean(x²) + eps)` it is `r · (γ dy − x · r² · mean(x · γ dy))`.
#[inline(always)]
fn rms_norm_back_on<S: Simd>(s: S, x: &[f32], gamma: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = x.len() as f32;
    let square = sum_of(s, fold!(s, x, s.splat(0.0), |sum, x| s.fma(x, x, sum))) / n;
    let inverse = 1.0 / (square + eps).sqrt();
    let mut sums = [s.splat(0.0); 4];
    let parts = x
        .chunks(LANES)
        .zip(gamma.chunks(LANES).zip(dy.chunks(LANES)));
    for (i, (x, (gamma, dy))) in parts.enumerate() {
        let scaled = s.mul(s.load_part(gamma), s.load_part(dy));
        sums[i % 4] = s.fma(s.load_part(x), scaled, sums[i % 4]);
    }
    let along = s.splat(-sum_of(s, sums) * inverse * inverse / n);
    let inverse = s.splat(inverse);
    let parts = x
        .chunks(LANES)
        .zip(gamma.chunks(LANES).zip(dy.chunks(LANES)));
    for (dx, (x, (gamma, dy))) in dx.chunks_mut(LANES).zip(parts) {
        let scaled = s.mul(s.load_part(gamma), s.load_part(dy));
        let change = s.fma(s.load_part(x), along, scaled);
        s.store_part(s.fma(inverse, change, s.load_part(dx)), dx);
    }
}
