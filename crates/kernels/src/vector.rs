//! Arithmetic on slices.

use crate::isa;
use crate::simd::{LANES, Simd, dispatched};

/// `Σ a·b`, in 64 partial sums: element `i` goes to sum `i % 64`, and halves are added until one is left.
///
/// # Panics
/// If the lengths differ.
#[must_use]
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "a dot product of equally long slices");
    dot_isa(isa(), a, b)
}

/// `y += alpha · x`.
///
/// # Panics
/// If the lengths differ.
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "x and y are equally long");
    axpy_isa(isa(), alpha, x, y);
}

/// `y += x`.
///
/// # Panics
/// If the lengths differ.
pub fn add(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "x and y are equally long");
    add_isa(isa(), x, y);
}

/// `y *= alpha`.
pub fn scale(alpha: f32, y: &mut [f32]) {
    scale_isa(isa(), alpha, y);
}

/// Largest magnitude; 0 for an empty slice, NaN if any value is.
#[must_use]
pub fn abs_max(x: &[f32]) -> f32 {
    abs_max_isa(isa(), x)
}

/// Converts half precision bits.
///
/// # Panics
/// If the lengths differ.
pub fn f16_to_f32(bits: &[u16], out: &mut [f32]) {
    assert_eq!(bits.len(), out.len(), "one value per half");
    f16_isa(isa(), bits, out);
}

/// Converts brain float bits.
///
/// # Panics
/// If the lengths differ.
pub fn bf16_to_f32(bits: &[u16], out: &mut [f32]) {
    assert_eq!(bits.len(), out.len(), "one value per brain float");
    bf16_isa(isa(), bits, out);
}

dispatched!(fn dot_isa(a: &[f32], b: &[f32]) -> f32 = dot_on);
dispatched!(fn axpy_isa(alpha: f32, x: &[f32], y: &mut [f32]) = axpy_on);
dispatched!(fn add_isa(x: &[f32], y: &mut [f32]) = add_on);
dispatched!(fn scale_isa(alpha: f32, y: &mut [f32]) = scale_on);
dispatched!(fn abs_max_isa(x: &[f32]) -> f32 = abs_max_on);
dispatched!(fn f16_isa(bits: &[u16], out: &mut [f32]) = f16_on);
dispatched!(fn bf16_isa(bits: &[u16], out: &mut [f32]) = bf16_on);

/// Replaces each vector `$old` of `$y` by `$new`. Like the others below a macro, not a function that takes a
/// closure: the compiler could leave the closure outside the function that enables the instruction set.
macro_rules! map_in_place {
    ($s:ident, $y:expr, |$old:ident| $new:expr) => {{
        let (whole, rest) = $y.as_chunks_mut::<{ $crate::simd::LANES }>();
        for y in whole {
            let $old = $s.load(y);
            $s.store($new, y);
        }
        if !rest.is_empty() {
            let $old = $s.load_part(rest);
            $s.store_part($new, rest);
        }
    }};
}
pub(crate) use map_in_place;

/// Replaces each vector `$b` of `$y` by `$new`, where `$a` is the vector of `$x` beside it.
macro_rules! map_with {
    ($s:ident, $x:expr, $y:expr, |$a:pat_param, $b:pat_param| $new:expr) => {{
        let (whole_x, rest_x) = $x.as_chunks::<{ $crate::simd::LANES }>();
        let (whole, rest) = $y.as_chunks_mut::<{ $crate::simd::LANES }>();
        for (x, y) in whole_x.iter().zip(whole) {
            let ($a, $b) = ($s.load(x), $s.load(y));
            $s.store($new, y);
        }
        if !rest.is_empty() {
            let ($a, $b) = ($s.load_part(rest_x), $s.load_part(rest));
            $s.store_part($new, rest);
        }
    }};
}
pub(crate) use map_with;

/// Folds the vectors `$v` of `$x` into four accumulators in turn: four chains hide the latency. The last
/// vector is filled with zeros.
macro_rules! fold {
    ($s:ident, $x:expr, $start:expr, |$sum:ident, $v:ident| $next:expr) => {{
        let mut sums = [$start; 4];
        let (blocks, rest) = $x.as_chunks::<{ 4 * $crate::simd::LANES }>();
        for block in blocks {
            let (block, _) = block.as_chunks::<{ $crate::simd::LANES }>();
            for i in 0..4 {
                let ($sum, $v) = (sums[i], $s.load(&block[i]));
                sums[i] = $next;
            }
        }
        for (i, x) in rest.chunks($crate::simd::LANES).enumerate() {
            let ($sum, $v) = (sums[i], $s.load_part(x));
            sums[i] = $next;
        }
        sums
    }};
}
pub(crate) use fold;

/// The lanes of four accumulators added in a fixed order.
#[inline(always)]
pub(crate) fn sum_of<S: Simd>(s: S, sums: [S::F; 4]) -> f32 {
    s.sum(s.add(s.add(sums[0], sums[2]), s.add(sums[1], sums[3])))
}

#[inline(always)]
pub(crate) fn dot_on<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [s.splat(0.0); 4];
    let (blocks_a, rest_a) = a.as_chunks::<{ 4 * LANES }>();
    let (blocks_b, rest_b) = b.as_chunks::<{ 4 * LANES }>();
    for (a, b) in blocks_a.iter().zip(blocks_b) {
        let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
        for i in 0..4 {
            sums[i] = s.fma(s.load(&a[i]), s.load(&b[i]), sums[i]);
        }
    }
    for ((sum, a), b) in sums
        .iter_mut()
        .zip(rest_a.chunks(LANES))
        .zip(rest_b.chunks(LANES))
    {
        *sum = s.fma(s.load_part(a), s.load_part(b), *sum);
    }
    sum_of(s, sums)
}

#[inline(always)]
fn axpy_on<S: Simd>(s: S, alpha: f32, x: &[f32], y: &mut [f32]) {
    let alpha = s.splat(alpha);
    map_with!(s, x, y, |x, y| s.fma(alpha, x, y));
}

#[inline(always)]
fn add_on<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    map_with!(s, x, y, |x, y| s.add(y, x));
}

#[inline(always)]
fn scale_on<S: Simd>(s: S, alpha: f32, y: &mut [f32]) {
    let alpha = s.splat(alpha);
    map_in_place!(s, y, |y| s.mul(alpha, y));
}

#[inline(always)]
pub(crate) fn abs_max_on<S: Simd>(s: S, x: &[f32]) -> f32 {
    let largest = fold!(s, x, s.splat(0.0), |largest, x| s.max_magnitude(x, largest));
    let pairs = [
        s.max_magnitude(largest[0], largest[2]),
        s.max_magnitude(largest[1], largest[3]),
    ];
    s.largest_magnitude(s.max_magnitude(pairs[0], pairs[1]))
}

/// Converts vectors of sixteen by the method `$load`.
macro_rules! convert {
    ($s:ident, $load:ident, $bits:ident, $out:ident) => {{
        let (whole, rest) = $bits.as_chunks::<LANES>();
        let (whole_out, rest_out) = $out.as_chunks_mut::<LANES>();
        for (bits, out) in whole.iter().zip(whole_out) {
            $s.store($s.$load(bits), out);
        }
        if !rest.is_empty() {
            let mut last = [0; LANES];
            last[..rest.len()].copy_from_slice(rest);
            $s.store_part($s.$load(&last), rest_out);
        }
    }};
}

#[inline(always)]
fn f16_on<S: Simd>(s: S, bits: &[u16], out: &mut [f32]) {
    convert!(s, load_f16, bits, out);
}

#[inline(always)]
fn bf16_on<S: Simd>(s: S, bits: &[u16], out: &mut [f32]) {
    convert!(s, load_bf16, bits, out);
}
