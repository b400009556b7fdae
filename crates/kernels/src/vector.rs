//! Arithmetic on slices.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16, slice::HalfBitsSliceExt};

/// `Σ a·b`.
///
/// # Panics
/// If the lengths differ.
#[must_use]
pub fn dot_f32(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |sum, (a, b)| a.mul_add(*b, sum))
}

/// `y += alpha · x`.
///
/// # Panics
/// If the lengths differ.
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(y) {
        *y = alpha.mul_add(*x, *y);
    }
}

/// `y += x`.
///
/// # Panics
/// If the lengths differ.
pub fn add(x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    for (x, y) in x.iter().zip(y) {
        *y += x;
    }
}

/// `y *= alpha`.
pub fn scale(alpha: f32, y: &mut [f32]) {
    for y in y {
        *y *= alpha;
    }
}

/// Largest magnitude; 0 for an empty slice. NaN if any value is NaN.
#[must_use]
pub fn abs_max(x: &[f32]) -> f32 {
    x.iter().fold(
        0.0,
        |largest, x| if x.abs() <= largest { largest } else { x.abs() },
    )
}

/// Converts half precision bits.
///
/// # Panics
/// If the lengths differ.
pub fn f16_to_f32(bits: &[u16], out: &mut [f32]) {
    bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
}

/// Converts brain float bits.
///
/// # Panics
/// If the lengths differ.
pub fn bf16_to_f32(bits: &[u16], out: &mut [f32]) {
    bits.reinterpret_cast::<bf16>().convert_to_f32_slice(out);
}
