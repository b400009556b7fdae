//! Sixteen lanes on every instruction set, so that each kernel is written once.
//!
//! A kernel is a function generic over [`Simd`]; the macro [`dispatched!`] compiles it once per
//! instruction set. Each operation below is exact or correctly rounded and every reduction has one fixed
//! order, so all instruction sets give the same bits and [`Scalar`] defines them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use scalar::Scalar;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// Asks for the cache line at `address`, which may lie anywhere.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing that the program sees and never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The byte shuffle that widens row `row` of a quarter to four 32-bit integers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn row_of_quarter(row: usize) -> std::arch::x86_64::__m128i {
    // An index with its highest bit set gives a zero byte.
    const ROWS: [[[i8; 4]; 4]; 4] = {
        let mut rows = [[[-1; 4]; 4]; 4];
        let mut i = 0;
        while i < 16 {
            rows[i / 4][i % 4][0] = i as i8;
            i += 1;
        }
        rows
    };
    // SAFETY: both are 16 plain bytes, and any bits are a value of either.
    unsafe { std::mem::transmute(ROWS[row]) }
}

/// An instruction set. A value of the type proves that this CPU has it, which makes the methods safe.
pub(crate) trait Simd: Copy {
    /// Sixteen `f32`.
    type F: Copy;
    /// Sixteen `i32`.
    type I: Copy;
    /// Sixty-four bytes: one step of a panel.
    type B: Copy;

    /// Whether the register file holds tiles of two vectors by twelve rows; else one by six.
    const WIDE: bool;
    /// What [`dot`](Self::dot) subtracts from each code of eight bits.
    const CODE_OFFSET: i32;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, v: Self::F, out: &mut [f32; LANES]);
    fn load_f16(self, x: &[u16; LANES]) -> Self::F;
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a > b ? a : b`, so `b` where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a < b ? a : b`, so `b` where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^n` for integers `n` in `[-126, 127]`; anything for other values.
    fn exp2_integer(self, n: Self::F) -> Self::F;
    /// `a < b ? x : y`.
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// Sum of the lanes: halves added until one is left.
    fn sum(self, a: Self::F) -> f32;
    /// Largest lane: halves compared by [`max`](Self::max) until one is left.
    fn largest(self, a: Self::F) -> f32;
    /// Smallest lane: halves compared by [`min`](Self::min) until one is left.
    fn smallest(self, a: Self::F) -> f32;
    /// The larger of `|a|` and `b`, where `b` is not negative; NaN counts as larger than any number.
    fn max_magnitude(self, a: Self::F, b: Self::F) -> Self::F;
    /// The largest lane of a vector without negative lanes; NaN counts as larger than any number.
    fn largest_magnitude(self, a: Self::F) -> f32;
    /// Rows to columns.
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES];

    fn splat_i32(self, x: i32) -> Self::I;
    fn load_u8_as_i32(self, x: &[u8; LANES]) -> Self::I;
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I;
    fn sub_i32(self, a: Self::I, b: Self::I) -> Self::I;
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I;
    fn to_f32(self, a: Self::I) -> Self::F;
    /// To the nearest, ties to even, of values that an `i32` can hold; anything for other values.
    fn to_i32(self, a: Self::F) -> Self::I;
    /// Low bytes of values within `[-128, 127]`.
    fn store_i8(self, a: Self::I, out: &mut [i8; LANES]);
    /// Low bytes of values within `[0, 255]`.
    fn store_u8(self, a: Self::I, out: &mut [u8; LANES]);
    fn sum_i32(self, a: Self::I) -> i32;

    fn load_bytes(self, x: &[u8; 64]) -> Self::B;
    fn store_bytes(self, v: Self::B, out: &mut [u8; 64]);
    /// Field `index` of every byte, of `width` bits.
    fn field(self, v: Self::B, width: usize, index: usize) -> Self::B;
    /// `a` with field `index` of every byte, of `width` bits and 0 so far, set to that of `b`, which has no other bits.
    fn set_field(self, a: Self::B, b: Self::B, width: usize, index: usize) -> Self::B;
    /// The smaller of every byte and `limit`.
    fn at_most(self, v: Self::B, limit: u8) -> Self::B;
    /// Four rows of sixteen columns as unsigned bytes, saturated: quarter `i`, of 16 bytes, holds columns
    /// `4i..4i + 4` of each row, one row after the other.
    fn pack_rows(self, rows: [Self::I; 4]) -> Self::B;
    /// Row `row` of what [`pack_rows`](Self::pack_rows) gives.
    fn unpack_row(self, v: Self::B, row: usize) -> Self::I;
    /// Quarter `j` of vector `i`, of 16 bytes, becomes quarter `i` of vector `j`.
    fn transpose_quarters(self, v: [Self::B; 4]) -> [Self::B; 4];
    /// Adds to lane `r` the products of bytes `4r..4r + 4` and the four signed bytes of `acts`, each in
    /// `[-127, 127]`. `NARROW` promises codes below 16; others lose [`CODE_OFFSET`](Self::CODE_OFFSET).
    fn dot<const NARROW: bool>(self, sum: Self::I, codes: Self::B, acts: i32) -> Self::I;

    /// At most sixteen values, zeros beyond.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::F {
        if let Ok(whole) = x.try_into() {
            return self.load(whole);
        }
        let mut lanes = [0.0; LANES];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// As many lanes as `out` holds, at most sixteen.
    #[inline(always)]
    fn store_part(self, v: Self::F, out: &mut [f32]) {
        if let Ok(whole) = <&mut [f32; LANES]>::try_from(&mut *out) {
            return self.store(v, whole);
        }
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        out.copy_from_slice(&lanes[..out.len()]);
    }
}

/// Compiles a generic kernel for every instruction set and chooses by the first argument.
macro_rules! dispatched {
    ($vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? = $generic:path) => {
        #[expect(clippy::allow_attributes, reason = "not every kernel has many arguments")]
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: this function asks for the same features.
                    $generic(unsafe { $crate::simd::Avx2::assume() }, $($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    // SAFETY: this function asks for the same features.
                    $generic(unsafe { $crate::simd::Avx512::assume() }, $($arg),*)
                }
                match isa {
                    // SAFETY: only an instruction set that this CPU has is ever chosen.
                    $crate::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    $crate::Isa::Scalar => {}
                }
            }
            $generic($crate::simd::Scalar, $($arg),*)
        }
    };
}
pub(crate) use dispatched;
