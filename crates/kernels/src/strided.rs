//! Products of one row with many, which need not stand together: those of one head, say.
//!
//! A call for each row would take longer than its arithmetic.

use crate::isa;
use crate::simd::{LANES, Simd, dispatched};
use crate::vector::dot_on;

/// Columns whose sums are kept in registers while rows pass.
const BLOCK: usize = 4 * LANES;

/// `out[i] = Σ x · row i`, each as [`dot_f32`](crate::dot_f32) computes it; row `i` begins at `rows[i · stride]` and
/// is as long as `x`.
///
/// # Panics
/// If `rows` ends before the last row does.
pub fn strided_dots(x: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    check(rows, stride, x.len(), out.len());
    dots_isa(isa(), x, rows, stride, out);
}

/// `y += Σ weights[i] · row i`, one row after the other as [`axpy`](crate::axpy) adds them.
///
/// # Panics
/// If `rows` ends before the last row does.
pub fn strided_sum(weights: &[f32], rows: &[f32], stride: usize, y: &mut [f32]) {
    check(rows, stride, y.len(), weights.len());
    sum_isa(isa(), weights, rows, stride, y);
}

/// `row i += weights[i] · x`, where rows are as long as `x` and stand behind each other.
///
/// # Panics
/// If `rows` has another length.
pub fn add_outer(weights: &[f32], x: &[f32], rows: &mut [f32]) {
    assert_eq!(rows.len(), weights.len() * x.len(), "a row for each weight");
    if !x.is_empty() {
        outer_isa(isa(), weights, x, rows);
    }
}

fn check(rows: &[f32], stride: usize, width: usize, count: usize) {
    let needed = count.checked_sub(1).map_or(0, |last| last * stride + width);
    assert!(needed <= rows.len(), "{count} rows of {width} numbers");
}

dispatched!(fn dots_isa(x: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) = dots_on);
dispatched!(fn sum_isa(weights: &[f32], rows: &[f32], stride: usize, y: &mut [f32]) = sum_on);
dispatched!(fn outer_isa(weights: &[f32], x: &[f32], rows: &mut [f32]) = outer_on);

#[inline(always)]
fn dots_on<S: Simd>(s: S, x: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = dot_on(s, x, &rows[i * stride..][..x.len()]);
    }
}

#[inline(always)]
fn sum_on<S: Simd>(s: S, weights: &[f32], rows: &[f32], stride: usize, y: &mut [f32]) {
    let (blocks, rest) = y.as_chunks_mut::<BLOCK>();
    let whole = blocks.len() * BLOCK;
    for (number, block) in blocks.iter_mut().enumerate() {
        let (block, _) = block.as_chunks_mut::<LANES>();
        let mut sums = [s.splat(0.0); BLOCK / LANES];
        for i in 0..sums.len() {
            sums[i] = s.load(&block[i]);
        }
        for (i, &weight) in weights.iter().enumerate() {
            let (row, _) = rows[i * stride + number * BLOCK..][..BLOCK].as_chunks::<LANES>();
            let weight = s.splat(weight);
            for j in 0..sums.len() {
                sums[j] = s.fma(weight, s.load(&row[j]), sums[j]);
            }
        }
        for i in 0..sums.len() {
            s.store(sums[i], &mut block[i]);
        }
    }
    for (number, part) in rest.chunks_mut(LANES).enumerate() {
        let mut sum = s.load_part(part);
        for (i, &weight) in weights.iter().enumerate() {
            let row = &rows[i * stride + whole + number * LANES..][..part.len()];
            sum = s.fma(s.splat(weight), s.load_part(row), sum);
        }
        s.store_part(sum, part);
    }
}

#[inline(always)]
fn outer_on<S: Simd>(s: S, weights: &[f32], x: &[f32], rows: &mut [f32]) {
    let (whole, rest) = x.as_chunks::<LANES>();
    for (&weight, row) in weights.iter().zip(rows.chunks_exact_mut(x.len())) {
        let weight = s.splat(weight);
        let (whole_row, rest_row) = row.as_chunks_mut::<LANES>();
        for (x, y) in whole.iter().zip(whole_row) {
            s.store(s.fma(weight, s.load(x), s.load(y)), y);
        }
        if !rest.is_empty() {
            let sum = s.fma(weight, s.load_part(rest), s.load_part(rest_row));
            s.store_part(sum, rest_row);
        }
    }
}
