//! AVX-512 F, BW, VL, DQ and VNNI: sixteen lanes are one register.

#[allow(
    clippy::wildcard_imports,
    reason = "the intrinsics of one instruction set"
)]
use std::arch::x86_64::*;

use super::{LANES, Simd, row_of_quarter};

/// AVX-512 with VNNI.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The CPU has AVX2, FMA, F16C and AVX-512 F, BW, VL, DQ and VNNI.
    #[inline(always)]
    pub(crate) const unsafe fn assume() -> Self {
        Self(())
    }
}

/// Intrinsics on values and on references of the right length.
macro_rules! proven {
    ($body:expr) => {
        // SAFETY: `self` proves the features; loads and stores go through references to whole vectors.
        unsafe { $body }
    };
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;

    const WIDE: bool = true;
    const CODE_OFFSET: i32 = 0;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        proven!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, v: __m512, out: &mut [f32; LANES]) {
        proven!(_mm512_storeu_ps(out.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()))
        )))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        proven!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<
            { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
        >(a))
    }
    #[inline(always)]
    fn exp2_integer(self, n: __m512) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(
            _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127))
        )))
    }
    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        proven!(_mm512_mask_blend_ps(
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b),
            y,
            x
        ))
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        proven!({
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        })
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        proven!({
            let a = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        })
    }
    #[inline(always)]
    fn smallest(self, a: __m512) -> f32 {
        proven!({
            let a = _mm256_min_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_min_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_min_ss(a, _mm_movehdup_ps(a)))
        })
    }
    #[inline(always)]
    fn max_magnitude(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_max_epi32(
            _mm512_castps_si512(_mm512_abs_ps(a)),
            _mm512_castps_si512(b)
        )))
    }
    #[inline(always)]
    fn largest_magnitude(self, a: __m512) -> f32 {
        proven!({
            let a = _mm512_castps_si512(a);
            let a = _mm256_max_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a));
            let a = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let a = _mm_max_epi32(a, _mm_shuffle_epi32::<0b01_00_11_10>(a));
            f32::from_bits(_mm_cvtsi128_si32(_mm_max_epi32(
                a,
                _mm_shuffle_epi32::<0b10_11_00_01>(a),
            )) as u32)
        })
    }
    #[inline(always)]
    fn transpose(self, rows: [__m512; LANES]) -> [__m512; LANES] {
        proven!({
            // Pairs, then fours within 128-bit lanes; then the lanes themselves, twice.
            let mut pairs = rows;
            for i in (0..LANES).step_by(2) {
                pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
            }
            let mut fours = pairs;
            for i in (0..LANES).step_by(4) {
                for j in 0..2 {
                    let (a, b) = (
                        _mm512_castps_pd(pairs[i + j]),
                        _mm512_castps_pd(pairs[i + j + 2]),
                    );
                    fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            let mut eights = fours;
            for i in [0, 8] {
                for j in 0..4 {
                    let (a, b) = (fours[i + j], fours[i + j + 4]);
                    eights[i + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                    eights[i + j + 4] = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
                }
            }
            let mut columns = eights;
            for j in 0..8 {
                let (a, b) = (eights[j], eights[j + 8]);
                columns[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b);
                columns[j + 8] = _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b);
            }
            columns
        })
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        proven!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn load_u8_as_i32(self, x: &[u8; LANES]) -> __m512i {
        proven!(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn mul_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn to_f32(self, a: __m512i) -> __m512 {
        proven!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn to_i32(self, a: __m512) -> __m512i {
        proven!(_mm512_cvtps_epi32(a))
    }
    #[inline(always)]
    fn store_i8(self, a: __m512i, out: &mut [i8; LANES]) {
        proven!(_mm_storeu_si128(
            out.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(a)
        ));
    }
    #[inline(always)]
    fn store_u8(self, a: __m512i, out: &mut [u8; LANES]) {
        proven!(_mm_storeu_si128(
            out.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(a)
        ));
    }
    #[inline(always)]
    fn sum_i32(self, a: __m512i) -> i32 {
        proven!({
            let a = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a));
            let a = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let a = _mm_add_epi32(a, _mm_shuffle_epi32::<0b01_00_11_10>(a));
            _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32::<0b10_11_00_01>(a)))
        })
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> __m512i {
        proven!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_bytes(self, v: __m512i, out: &mut [u8; 64]) {
        proven!(_mm512_storeu_si512(out.as_mut_ptr().cast(), v));
    }
    #[inline(always)]
    fn field(self, v: __m512i, width: usize, index: usize) -> __m512i {
        proven!({
            // Words are shifted; what crosses from the other byte is masked away.
            let shifted = _mm512_srl_epi16(v, _mm_cvtsi32_si128((width * index) as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi8((u8::MAX >> (8 - width)) as i8))
        })
    }
    #[inline(always)]
    fn set_field(self, a: __m512i, b: __m512i, width: usize, index: usize) -> __m512i {
        // Nothing is shifted out of its byte.
        let count = (width * index) as i32;
        proven!(_mm512_or_si512(
            a,
            _mm512_sll_epi16(b, _mm_cvtsi32_si128(count))
        ))
    }
    #[inline(always)]
    fn at_most(self, v: __m512i, limit: u8) -> __m512i {
        proven!(_mm512_min_epu8(v, _mm512_set1_epi8(limit as i8)))
    }
    #[inline(always)]
    fn pack_rows(self, rows: [__m512i; 4]) -> __m512i {
        let [a, b, c, d] = rows;
        proven!(_mm512_packus_epi16(
            _mm512_packs_epi32(a, b),
            _mm512_packs_epi32(c, d)
        ))
    }
    #[inline(always)]
    fn unpack_row(self, v: __m512i, row: usize) -> __m512i {
        proven!(_mm512_shuffle_epi8(
            v,
            _mm512_broadcast_i32x4(row_of_quarter(row))
        ))
    }
    #[inline(always)]
    fn transpose_quarters(self, v: [__m512i; 4]) -> [__m512i; 4] {
        let [a, b, c, d] = v;
        proven!({
            let ab = _mm512_shuffle_i32x4::<0b01_00_01_00>(a, b);
            let cd = _mm512_shuffle_i32x4::<0b01_00_01_00>(c, d);
            let ab_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(a, b);
            let cd_high = _mm512_shuffle_i32x4::<0b11_10_11_10>(c, d);
            [
                _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd),
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd),
                _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_high, cd_high),
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_high, cd_high),
            ]
        })
    }
    #[inline(always)]
    fn dot<const NARROW: bool>(self, sum: __m512i, codes: __m512i, acts: i32) -> __m512i {
        proven!(_mm512_dpbusd_epi32(sum, codes, _mm512_set1_epi32(acts)))
    }

    #[inline(always)]
    fn load_part(self, x: &[f32]) -> __m512 {
        assert!(x.len() <= LANES);
        // SAFETY: the mask keeps the load within `x`.
        unsafe { _mm512_maskz_loadu_ps(((1_u32 << x.len()) - 1) as __mmask16, x.as_ptr()) }
    }
    #[inline(always)]
    fn store_part(self, v: __m512, out: &mut [f32]) {
        assert!(out.len() <= LANES);
        // SAFETY: the mask keeps the store within `out`.
        unsafe {
            _mm512_mask_storeu_ps(out.as_mut_ptr(), ((1_u32 << out.len()) - 1) as __mmask16, v);
        }
    }
}
