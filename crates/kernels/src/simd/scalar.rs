//! The definition of every lane operation.

use half::{bf16, f16};

use super::{LANES, Simd};

/// Portable Rust.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar;

#[inline(always)]
fn map2<T: Copy, U>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> U) -> [U; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

#[inline(always)]
fn halve<T: Copy>(mut lanes: [T; LANES], f: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

impl Simd for Scalar {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];

    const WIDE: bool = false;
    const CODE_OFFSET: i32 = 0;

    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        *out = v;
    }
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        x.map(|bits| f16::from_bits(bits).to_f32())
    }
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        x.map(|bits| bf16::from_bits(bits).to_f32())
    }
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a + b)
    }
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a - b)
    }
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a * b)
    }
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| a / b)
    }
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    fn abs(self, a: Self::F) -> Self::F {
        a.map(f32::abs)
    }
    fn round(self, a: Self::F) -> Self::F {
        a.map(f32::round_ties_even)
    }
    fn exp2_integer(self, n: Self::F) -> Self::F {
        n.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    fn sum(self, a: Self::F) -> f32 {
        halve(a, |a, b| a + b)
    }
    fn largest(self, a: Self::F) -> f32 {
        halve(a, |a, b| if a > b { a } else { b })
    }
    fn smallest(self, a: Self::F) -> f32 {
        halve(a, |a, b| if a < b { a } else { b })
    }
    fn max_magnitude(self, a: Self::F, b: Self::F) -> Self::F {
        map2(a, b, |a, b| {
            f32::from_bits(a.abs().to_bits().max(b.to_bits()))
        })
    }
    fn largest_magnitude(self, a: Self::F) -> f32 {
        halve(a, |a, b| f32::from_bits(a.to_bits().max(b.to_bits())))
    }
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
        std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
    }

    fn splat_i32(self, x: i32) -> Self::I {
        [x; LANES]
    }
    fn load_u8_as_i32(self, x: &[u8; LANES]) -> Self::I {
        x.map(i32::from)
    }
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        map2(a, b, i32::wrapping_add)
    }
    fn sub_i32(self, a: Self::I, b: Self::I) -> Self::I {
        map2(a, b, i32::wrapping_sub)
    }
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I {
        map2(a, b, i32::wrapping_mul)
    }
    fn to_f32(self, a: Self::I) -> Self::F {
        a.map(|a| a as f32)
    }
    fn to_i32(self, a: Self::F) -> Self::I {
        a.map(|a| a.round_ties_even() as i32)
    }
    fn store_i8(self, a: Self::I, out: &mut [i8; LANES]) {
        *out = a.map(|a| a as i8);
    }
    fn store_u8(self, a: Self::I, out: &mut [u8; LANES]) {
        *out = a.map(|a| a as u8);
    }
    fn sum_i32(self, a: Self::I) -> i32 {
        halve(a, i32::wrapping_add)
    }

    fn load_bytes(self, x: &[u8; 64]) -> Self::B {
        *x
    }
    fn store_bytes(self, v: Self::B, out: &mut [u8; 64]) {
        *out = v;
    }
    fn field(self, v: Self::B, width: usize, index: usize) -> Self::B {
        v.map(|byte| byte >> (width * index) & (u8::MAX >> (8 - width)))
    }
    fn set_field(self, a: Self::B, b: Self::B, width: usize, index: usize) -> Self::B {
        std::array::from_fn(|i| a[i] | b[i] << (width * index))
    }
    fn at_most(self, v: Self::B, limit: u8) -> Self::B {
        v.map(|byte| byte.min(limit))
    }
    fn pack_rows(self, rows: [Self::I; 4]) -> Self::B {
        std::array::from_fn(|i| rows[i % 16 / 4][i / 16 * 4 + i % 4].clamp(0, 255) as u8)
    }
    fn unpack_row(self, v: Self::B, row: usize) -> Self::I {
        std::array::from_fn(|column| i32::from(v[column / 4 * 16 + row * 4 + column % 4]))
    }
    fn transpose_quarters(self, v: [Self::B; 4]) -> [Self::B; 4] {
        std::array::from_fn(|j| std::array::from_fn(|i| v[i / 16][j * 16 + i % 16]))
    }
    fn dot<const NARROW: bool>(self, sum: Self::I, codes: Self::B, acts: i32) -> Self::I {
        let acts = acts.to_le_bytes().map(|act| i32::from(act as i8));
        std::array::from_fn(|r| {
            let products = (0..4).map(|i| i32::from(codes[4 * r + i]) * acts[i]);
            sum[r].wrapping_add(products.sum())
        })
    }
}
