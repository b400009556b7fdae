//! Rows to columns.

use crate::isa;
use crate::simd::{LANES, Simd, dispatched};

/// Writes `x`, `[rows, columns]`, as `[columns, rows]`.
///
/// # Panics
/// If the lengths do not follow from the shape.
pub fn transpose(x: &[f32], rows: usize, columns: usize, out: &mut [f32]) {
    assert_eq!(x.len(), rows * columns, "x is [rows, columns]");
    assert_eq!(out.len(), x.len(), "out is [columns, rows]");
    transpose_isa(isa(), x, rows, columns, out);
}

dispatched!(fn transpose_isa(x: &[f32], rows: usize, columns: usize, out: &mut [f32]) = transpose_on);

#[inline(always)]
fn transpose_on<S: Simd>(s: S, x: &[f32], rows: usize, columns: usize, out: &mut [f32]) {
    for row in (0..rows).step_by(LANES) {
        let height = (rows - row).min(LANES);
        for column in (0..columns).step_by(LANES) {
            let width = (columns - column).min(LANES);
            let mut block = [s.splat(0.0); LANES];
            for i in 0..height {
                block[i] = s.load_part(&x[(row + i) * columns + column..][..width]);
            }
            let block = s.transpose(block);
            for i in 0..width {
                s.store_part(block[i], &mut out[(column + i) * rows + row..][..height]);
            }
        }
    }
}
