//! AVX2 with FMA and F16C: sixteen lanes are two registers.

#[allow(
    clippy::wildcard_imports,
    reason = "the intrinsics of one instruction set"
)]
use std::arch::x86_64::*;

use super::{LANES, Simd, row_of_quarter};

/// AVX2.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU has AVX2, FMA and F16C.
    #[inline(always)]
    pub(crate) const unsafe fn assume() -> Self {
        Self(())
    }
}

/// Intrinsics on values and on references of the right length.
macro_rules! proven {
    ($body:expr) => {
        // SAFETY: the `Avx2` at hand proves the features; loads and stores go through references to whole vectors.
        unsafe { $body }
    };
}

/// An expression for both halves. No closure: the compiler could leave it outside the function that
/// enables the instruction set.
macro_rules! halves {
    (|$i:ident| $half:expr) => {
        proven!([
            {
                let $i = 0;
                $half
            },
            {
                let $i = 1;
                $half
            }
        ])
    };
}

/// The same intrinsic on both halves.
macro_rules! both {
    ($name:ident, $a:expr) => {
        proven!([$name($a[0]), $name($a[1])])
    };
    ($name:ident, $a:expr, $b:expr) => {
        proven!([$name($a[0], $b[0]), $name($a[1], $b[1])])
    };
    ($name:ident, $a:expr, $b:expr, $c:expr) => {
        proven!([$name($a[0], $b[0], $c[0]), $name($a[1], $b[1], $c[1])])
    };
}

impl Simd for Avx2 {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type B = [__m256i; 2];

    const WIDE: bool = false;
    const CODE_OFFSET: i32 = 128;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        proven!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        proven!([
            _mm256_loadu_ps(x.as_ptr()),
            _mm256_loadu_ps(x[8..].as_ptr())
        ])
    }
    #[inline(always)]
    fn store(self, v: Self::F, out: &mut [f32; LANES]) {
        proven!({
            _mm256_storeu_ps(out.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(out[8..].as_mut_ptr(), v[1]);
        });
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; LANES]) -> Self::F {
        both!(_mm256_cvtph_ps, load_halves(self, x))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u16; LANES]) -> Self::F {
        let wide = both!(_mm256_cvtepu16_epi32, load_halves(self, x));
        proven!([
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide[0])),
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide[1])),
        ])
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        both!(_mm256_fmadd_ps, a, b, c)
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps, sign, a)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        halves!(|i| _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a[i]))
    }
    #[inline(always)]
    fn exp2_integer(self, n: Self::F) -> Self::F {
        halves!(|i| {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n[i]), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        halves!(|i| _mm256_blendv_ps(y[i], x[i], _mm256_cmp_ps::<_CMP_LT_OQ>(a[i], b[i])))
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        proven!({
            let a = _mm256_add_ps(a[0], a[1]);
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_movehdup_ps(a)))
        })
    }
    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        proven!({
            let a = _mm256_max_ps(a[0], a[1]);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)))
        })
    }
    #[inline(always)]
    fn smallest(self, a: Self::F) -> f32 {
        proven!({
            let a = _mm256_min_ps(a[0], a[1]);
            let a = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_min_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_min_ss(a, _mm_movehdup_ps(a)))
        })
    }
    #[inline(always)]
    fn max_magnitude(self, a: Self::F, b: Self::F) -> Self::F {
        let a = self.abs(a);
        halves!(|i| _mm256_castsi256_ps(_mm256_max_epi32(
            _mm256_castps_si256(a[i]),
            _mm256_castps_si256(b[i])
        )))
    }
    #[inline(always)]
    fn largest_magnitude(self, a: Self::F) -> f32 {
        proven!({
            let a = _mm256_max_epi32(_mm256_castps_si256(a[0]), _mm256_castps_si256(a[1]));
            let a = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let a = _mm_max_epi32(a, _mm_shuffle_epi32::<0b01_00_11_10>(a));
            f32::from_bits(_mm_cvtsi128_si32(_mm_max_epi32(
                a,
                _mm_shuffle_epi32::<0b10_11_00_01>(a),
            )) as u32)
        })
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
        let mut columns = rows;
        for half in 0..2 {
            for from in [0, 8] {
                let mut block = [rows[0][0]; 8];
                for i in 0..8 {
                    block[i] = rows[from + i][half];
                }
                let block = transpose8(self, block);
                for i in 0..8 {
                    columns[8 * half + i][from / 8] = block[i];
                }
            }
        }
        columns
    }

    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I {
        proven!([_mm256_set1_epi32(x); 2])
    }
    #[inline(always)]
    fn load_u8_as_i32(self, x: &[u8; LANES]) -> Self::I {
        proven!({
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            [
                _mm256_cvtepu8_epi32(bytes),
                _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes)),
            ]
        })
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_sub_epi32, a, b)
    }
    #[inline(always)]
    fn mul_i32(self, a: Self::I, b: Self::I) -> Self::I {
        both!(_mm256_mullo_epi32, a, b)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        both!(_mm256_cvtepi32_ps, a)
    }
    #[inline(always)]
    fn to_i32(self, a: Self::F) -> Self::I {
        both!(_mm256_cvtps_epi32, a)
    }
    #[inline(always)]
    fn store_i8(self, a: Self::I, out: &mut [i8; LANES]) {
        proven!({
            let [low, high] = words(self, a);
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_packs_epi16(low, high));
        });
    }
    #[inline(always)]
    fn store_u8(self, a: Self::I, out: &mut [u8; LANES]) {
        proven!({
            let [low, high] = words(self, a);
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm_packus_epi16(low, high));
        });
    }
    #[inline(always)]
    fn sum_i32(self, a: Self::I) -> i32 {
        proven!({
            let a = _mm256_add_epi32(a[0], a[1]);
            let a = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a));
            let a = _mm_add_epi32(a, _mm_shuffle_epi32::<0b01_00_11_10>(a));
            _mm_cvtsi128_si32(_mm_add_epi32(a, _mm_shuffle_epi32::<0b10_11_00_01>(a)))
        })
    }

    #[inline(always)]
    fn load_bytes(self, x: &[u8; 64]) -> Self::B {
        proven!([
            _mm256_loadu_si256(x.as_ptr().cast()),
            _mm256_loadu_si256(x[32..].as_ptr().cast())
        ])
    }
    #[inline(always)]
    fn store_bytes(self, v: Self::B, out: &mut [u8; 64]) {
        proven!({
            _mm256_storeu_si256(out.as_mut_ptr().cast(), v[0]);
            _mm256_storeu_si256(out[32..].as_mut_ptr().cast(), v[1]);
        });
    }
    #[inline(always)]
    fn field(self, v: Self::B, width: usize, index: usize) -> Self::B {
        // Words are shifted; what crosses from the other byte is masked away.
        let mask = (u8::MAX >> (8 - width)) as i8;
        halves!(|i| _mm256_and_si256(
            _mm256_srl_epi16(v[i], _mm_cvtsi32_si128((width * index) as i32)),
            _mm256_set1_epi8(mask)
        ))
    }
    #[inline(always)]
    fn set_field(self, a: Self::B, b: Self::B, width: usize, index: usize) -> Self::B {
        // Nothing is shifted out of its byte.
        halves!(|i| _mm256_or_si256(
            a[i],
            _mm256_sll_epi16(b[i], _mm_cvtsi32_si128((width * index) as i32))
        ))
    }
    #[inline(always)]
    fn at_most(self, v: Self::B, limit: u8) -> Self::B {
        halves!(|i| _mm256_min_epu8(v[i], _mm256_set1_epi8(limit as i8)))
    }
    #[inline(always)]
    fn pack_rows(self, rows: [Self::I; 4]) -> Self::B {
        let [a, b, c, d] = rows;
        halves!(|i| _mm256_packus_epi16(
            _mm256_packs_epi32(a[i], b[i]),
            _mm256_packs_epi32(c[i], d[i])
        ))
    }
    #[inline(always)]
    fn unpack_row(self, v: Self::B, row: usize) -> Self::I {
        halves!(|i| _mm256_shuffle_epi8(v[i], _mm256_broadcastsi128_si256(row_of_quarter(row))))
    }
    #[inline(always)]
    fn transpose_quarters(self, v: [Self::B; 4]) -> [Self::B; 4] {
        let [a, b, c, d] = v;
        proven!([
            [
                _mm256_permute2x128_si256::<0x20>(a[0], b[0]),
                _mm256_permute2x128_si256::<0x20>(c[0], d[0]),
            ],
            [
                _mm256_permute2x128_si256::<0x31>(a[0], b[0]),
                _mm256_permute2x128_si256::<0x31>(c[0], d[0]),
            ],
            [
                _mm256_permute2x128_si256::<0x20>(a[1], b[1]),
                _mm256_permute2x128_si256::<0x20>(c[1], d[1]),
            ],
            [
                _mm256_permute2x128_si256::<0x31>(a[1], b[1]),
                _mm256_permute2x128_si256::<0x31>(c[1], d[1]),
            ],
        ])
    }
    #[inline(always)]
    fn dot<const NARROW: bool>(self, sum: Self::I, codes: Self::B, acts: i32) -> Self::I {
        halves!(|i| {
            let acts = _mm256_set1_epi32(acts);
            let pairs = if NARROW {
                _mm256_maddubs_epi16(codes[i], acts)
            } else {
                // Codes less 128, as magnitude and sign: 2 * 128 * 127 fits 16 bits, 2 * 255 * 127 would not.
                let signed = _mm256_xor_si256(codes[i], _mm256_set1_epi8(i8::MIN));
                _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(acts, signed))
            };
            _mm256_add_epi32(sum[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
}

#[inline(always)]
fn load_halves(_: Avx2, x: &[u16; LANES]) -> [__m128i; 2] {
    proven!([
        _mm_loadu_si128(x.as_ptr().cast()),
        _mm_loadu_si128(x[8..].as_ptr().cast())
    ])
}

/// Sixteen lanes as 16-bit words, saturated.
#[inline(always)]
fn words(_: Avx2, a: [__m256i; 2]) -> [__m128i; 2] {
    proven!({
        // Packing works within 128-bit lanes, so words come out as quarters 0 2 1 3.
        let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(a[0], a[1]));
        [
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256::<1>(words),
        ]
    })
}

#[inline(always)]
fn transpose8(_: Avx2, rows: [__m256; 8]) -> [__m256; 8] {
    proven!({
        let mut pairs = rows;
        for i in (0..8).step_by(2) {
            pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
        }
        let mut fours = pairs;
        for i in [0, 4] {
            for j in 0..2 {
                let (a, b) = (pairs[i + j], pairs[i + j + 2]);
                fours[i + 2 * j] = _mm256_shuffle_ps::<0b01_00_01_00>(a, b);
                fours[i + 2 * j + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(a, b);
            }
        }
        let mut columns = fours;
        for j in 0..4 {
            columns[j] = _mm256_permute2f128_ps::<0x20>(fours[j], fours[j + 4]);
            columns[j + 4] = _mm256_permute2f128_ps::<0x31>(fours[j], fours[j + 4]);
        }
        columns
    })
}
