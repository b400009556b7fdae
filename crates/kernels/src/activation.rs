//! Exponentials and the functions made of them.

use crate::isa;
use crate::simd::{LANES, Simd, dispatched};
use crate::vector::{fold, map_in_place, map_with, sum_of};

/// Turns scores into probabilities in place: `exp(x − max) / Σ exp(x − max)`. A row of nothing but −∞
/// becomes zeros. Error of a probability: relative 4e-7.
pub fn softmax(row: &mut [f32]) {
    softmax_isa(isa(), row);
}

/// Puts the gradient of scores in the place of `dp`, that of the probabilities `p` that [`softmax`] made of them.
///
/// # Panics
/// If the lengths differ.
pub fn softmax_back(p: &[f32], dp: &mut [f32]) {
    let mean = crate::dot_f32(p, dp);
    softmax_back_isa(isa(), p, mean, dp);
}

/// Gaussian error linear unit by the error function, in place: `x · Φ(x)`. Absolute error below 5e-7 up to
/// `|x| = 8` and below rounding beyond.
pub fn gelu(x: &mut [f32]) {
    gelu_isa(isa(), x);
}

/// The tanh form of GELU (`gelu_new`), in place. Relative error 1e-6.
pub fn gelu_tanh(x: &mut [f32]) {
    gelu_tanh_isa(isa(), x);
}

/// `out = gate · sigmoid(gate) · up`. Error: relative 5e-7, or `5e-39 · |gate · up|` where the sigmoid is smaller.
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(
        gate.len() == up.len() && gate.len() == out.len(),
        "gate, up and out are equally long"
    );
    silu_mul_isa(isa(), gate, up, out);
}

/// Puts the gradients of `gate` and `up` in their places, for `dout`, that of what [`silu_mul`] writes.
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul_back(gate: &mut [f32], up: &mut [f32], dout: &[f32]) {
    assert!(
        gate.len() == up.len() && gate.len() == dout.len(),
        "gate, up and dout are equally long"
    );
    silu_mul_back_isa(isa(), gate, up, dout);
}

dispatched!(fn softmax_isa(row: &mut [f32]) = softmax_on);
dispatched!(fn softmax_back_isa(p: &[f32], mean: f32, dp: &mut [f32]) = softmax_back_on);
dispatched!(fn gelu_isa(x: &mut [f32]) = gelu_on);
dispatched!(fn gelu_tanh_isa(x: &mut [f32]) = gelu_tanh_on);
dispatched!(fn silu_mul_isa(gate: &[f32], up: &[f32], out: &mut [f32]) = silu_mul_on);
dispatched!(fn silu_mul_back_isa(gate: &mut [f32], up: &mut [f32], dout: &[f32]) = silu_mul_back_on);

#[inline(always)]
fn softmax_on<S: Simd>(s: S, row: &mut [f32]) {
    let top = largest(s, row);
    if top == f32::NEG_INFINITY {
        row.fill(0.0);
        return;
    }
    let top = s.splat(top);
    map_in_place!(s, row, |x| exp(s, s.sub(x, top)));
    let inverse = s.splat(1.0 / sum_of(s, fold!(s, row, s.splat(0.0), |sum, x| s.add(sum, x))));
    map_in_place!(s, row, |x| s.mul(x, inverse));
}

#[inline(always)]
fn softmax_back_on<S: Simd>(s: S, p: &[f32], mean: f32, dp: &mut [f32]) {
    let mean = s.splat(mean);
    map_with!(s, p, dp, |p, change| s.mul(p, s.sub(change, mean)));
}

/// Largest value; −∞ for an empty row.
#[inline(always)]
pub(crate) fn largest<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut top = s.splat(f32::NEG_INFINITY);
    let (whole, rest) = row.as_chunks();
    for x in whole {
        top = s.max(s.load(x), top);
    }
    rest.iter()
        .fold(s.largest(top), |top, &x| if x > top { x } else { top })
}

/// `e^x`: zero below −87.33, at most `e^88.37`; relative error below 2e-7.
///
/// The argument is reduced to `|r| <= ln 2 / 2` and `e^r` is its Taylor polynomial with the coefficients
/// shifted to spread the error (Cephes `expf`).
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    let lowest = s.splat(-87.33);
    // The operand order keeps NaN.
    let clamped = s.max(lowest, s.min(s.splat(88.37), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts: the first has few bits, so n times it is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), clamped);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let coefficients = [
        1.987_569_2e-4,
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let p = polynomial(s, r, &coefficients);
    let p = s.add(s.fma(s.mul(r, r), p, r), s.splat(1.0));
    s.select_less(x, lowest, s.splat(0.0), s.mul(p, s.exp2_integer(n)))
}

/// Horner's rule, highest coefficient first.
#[inline(always)]
fn polynomial<S: Simd>(s: S, x: S::F, coefficients: &[f32]) -> S::F {
    let mut y = s.splat(coefficients[0]);
    for &c in &coefficients[1..] {
        y = s.fma(y, x, s.splat(c));
    }
    y
}

/// `gelu(x) = max(x, 0) − a · Φ(−a)` with `a = |x|`, and `Φ(−a) = e^(−a²/2) · Q(a)`, where `Q` is smooth.
///
/// `Q` is fitted on `[0, 6]` by reweighted least squares to the least largest error of `a · Φ(−a)`: 4e-9.
#[inline(always)]
fn gelu_on<S: Simd>(s: S, x: &mut [f32]) {
    const Q: [f32; 13] = [
        3.239_731_7e-8,
        -9.771_683e-7,
        1.337_597_2e-5,
        -1.110_954_7e-4,
        6.345_418e-4,
        -2.695_930_2e-3,
        9.062_974e-3,
        -2.540_787_5e-2,
        6.178_496e-2,
        -1.327_027e-1,
        2.499_362e-1,
        -3.989_349_3e-1,
        4.999_997e-1,
    ];
    map_in_place!(s, x, |x| {
        let a = s.min(s.splat(6.0), s.abs(x));
        let gauss = exp(s, s.mul(s.mul(a, a), s.splat(-0.5)));
        let tail = s.mul(s.mul(a, gauss), polynomial(s, a, &Q));
        s.sub(s.max(s.splat(0.0), x), tail)
    });
}

/// `0.5 · x · (1 + tanh u) = x · sigmoid(2u)` with `u = √(2/π) · (x + 0.044715 x³)`.
#[inline(always)]
fn gelu_tanh_on<S: Simd>(s: S, x: &mut [f32]) {
    map_in_place!(s, x, |x| {
        let cubic = s.fma(s.mul(s.splat(0.044_715), s.mul(x, x)), x, x);
        s.mul(x, sigmoid(s, s.mul(s.splat(1.595_769), cubic)))
    });
}

#[inline(always)]
fn silu_mul_on<S: Simd>(s: S, gate: &[f32], up: &[f32], out: &mut [f32]) {
    let rows = gate.chunks(LANES).zip(up.chunks(LANES));
    for ((gate, up), out) in rows.zip(out.chunks_mut(LANES)) {
        let (gate, up) = (s.load_part(gate), s.load_part(up));
        s.store_part(s.mul(s.mul(gate, sigmoid(s, gate)), up), out);
    }
}

#[inline(always)]
fn silu_mul_back_on<S: Simd>(s: S, gate: &mut [f32], up: &mut [f32], dout: &[f32]) {
    let one = s.splat(1.0);
    let rows = gate.chunks_mut(LANES).zip(up.chunks_mut(LANES));
    for ((gate, up), dout) in rows.zip(dout.chunks(LANES)) {
        let (g, u, d) = (s.load_part(gate), s.load_part(up), s.load_part(dout));
        let part = sigmoid(s, g);
        // Of `g · part`: the slope of the sigmoid is `part · (1 − part)`.
        let slope = s.mul(part, s.fma(g, s.sub(one, part), one));
        s.store_part(s.mul(s.mul(d, u), slope), gate);
        s.store_part(s.mul(d, s.mul(g, part)), up);
    }
}

#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::F) -> S::F {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
}
