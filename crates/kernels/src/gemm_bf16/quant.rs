//! Panels of quantised weights as both units read them: dequantised while they are packed.
//!
//! A panel's codes hold sixteen outputs side by side, as lines of outputs do; where inputs are to stand side by side,
//! sixteen columns are turned. What is packed equals the weights in single precision, rounded.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm_loadu_si128, _mm256_loadu_si256, _mm512_add_ps, _mm512_and_si512,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtph_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_maskz_mov_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_srlv_epi32, _mm512_sub_ps,
};
use std::ops::Range;

use super::pack::{Line, beside, rounded_pair, store};
use crate::panel16::{GroupScales, GroupZero, PANEL_ROWS, QuantPanels, STEP_BYTES};
use crate::simd::{Avx512, LANES, Simd};

/// Columns of a code step that lie in the bytes of one field.
const QUAD: usize = 4;

/// One step of a panel of outputs: lines of the pairs of columns `columns`, which begin at a multiple of 32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
pub(super) fn pack_outputs(
    w: &QuantPanels<'_>,
    panel: usize,
    columns: Range<usize>,
    lines: &mut [Line],
) {
    for (half, lines) in lines.chunks_exact_mut(LANES / 2).enumerate() {
        let first = columns.start + half * LANES;
        if panel >= w.panels() || first >= columns.end {
            lines.fill([0; LANES]);
            continue;
        }
        let mut pairs = [_mm512_setzero_ps(); LANES / 2];
        let mut levels = Levels::none();
        for quad in 0..LANES / QUAD {
            let four = quad_of(w, panel, first, quad, &mut levels);
            pairs[2 * quad] = beside(four[0], four[1]);
            pairs[2 * quad + 1] = beside(four[2], four[3]);
        }
        for (pairs, line) in pairs.into_iter().zip(lines) {
            store(pairs, line);
        }
    }
}

/// One step of a panel of inputs, the sixteen from `first` on: lines of the pairs of outputs of two panels, of which
/// `panel` is the first.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
pub(super) fn pack_inputs(w: &QuantPanels<'_>, panel: usize, first: usize, lines: &mut [Line]) {
    if first >= w.k {
        lines.fill([0; LANES]);
        return;
    }
    let mut columns = [_mm512_setzero_ps(); LANES];
    let mut levels = [Levels::none(), Levels::none()];
    // What stands in rows beyond the last is anything.
    let rows = |panel: usize| {
        let rows = w.n.saturating_sub(panel * PANEL_ROWS).min(PANEL_ROWS);
        ((1_u32 << rows) - 1) as u16
    };
    let masks = [rows(panel), rows(panel + 1)];
    for quad in 0..LANES / QUAD {
        let mut fours = [[_mm512_setzero_ps(); QUAD]; 2];
        for p in 0..2 {
            if masks[p] != 0 {
                fours[p] = quad_of(w, panel + p, first, quad, &mut levels[p]);
            }
        }
        for i in 0..QUAD {
            let [low, high] = [0, 1].map(|p| _mm512_maskz_mov_ps(masks[p], fours[p][i]));
            columns[quad * QUAD + i] = rounded_pair(low, high);
        }
    }
    // SAFETY: this function asks for what AVX-512 stands for; its operations move pairs as they are.
    let pairs = unsafe { Avx512::assume() }.transpose(columns);
    for (pairs, line) in pairs.into_iter().zip(lines) {
        store(pairs, line);
    }
}

/// What the codes of a group stand for, a lane for each output.
struct Levels {
    /// Its first column is behind these of the last that were read.
    is_read: bool,
    scale: __m512,
    offset: __m512,
}

impl Levels {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn none() -> Self {
        Self {
            is_read: false,
            scale: _mm512_setzero_ps(),
            offset: _mm512_setzero_ps(),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
    fn read(w: &QuantPanels<'_>, panel: usize, group: usize) -> Self {
        let first = (panel * w.groups() + group) * PANEL_ROWS;
        Self {
            is_read: true,
            scale: match w.scales {
                GroupScales::F16(halves) => from_halves(&halves[first..][..LANES]),
                GroupScales::F32(values) => {
                    let values = &values[first..][..LANES];
                    // SAFETY: the slice has sixteen values.
                    unsafe { _mm512_loadu_ps(values.as_ptr()) }
                }
            },
            offset: match w.zero {
                GroupZero::Middle => _mm512_set1_ps(f32::from(w.bits.middle())),
                GroupZero::U8(zeros) => {
                    let zeros = &zeros[first..][..LANES];
                    // SAFETY: the slice has sixteen bytes.
                    let zeros = unsafe { _mm_loadu_si128(zeros.as_ptr().cast()) };
                    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(zeros))
                }
                GroupZero::MinF16(halves) => from_halves(&halves[first..][..LANES]),
            },
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c,avx512f")]
fn from_halves(halves: &[u16]) -> __m512 {
    assert_eq!(halves.len(), LANES, "a vector of halves");
    // SAFETY: the slice has sixteen halves.
    let halves: __m256i = unsafe { _mm256_loadu_si256(halves.as_ptr().cast()) };
    _mm512_cvtph_ps(halves)
}

/// Four columns of a panel, zeros beyond the last: those of quad `quad` of the sixteen from `first` on.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
fn quad_of(
    w: &QuantPanels<'_>,
    panel: usize,
    first: usize,
    quad: usize,
    levels: &mut Levels,
) -> [__m512; QUAD] {
    let column = first + quad * QUAD;
    let mut four = [_mm512_setzero_ps(); QUAD];
    if column >= w.k {
        return four;
    }
    // Groups are whole quads; most are whole vectors.
    if !levels.is_read || !w.group_size.is_multiple_of(LANES) {
        let group = column.checked_div(w.group_size).unwrap_or(0);
        *levels = Levels::read(w, panel, group);
    }
    let (bits, wide) = (w.bits.width(), w.bits.step_columns());
    let start = (panel * w.steps() + column / wide) * STEP_BYTES;
    let step = &w.codes[start..][..STEP_BYTES];
    // SAFETY: the slice has 64 bytes.
    let step: __m512i = unsafe { _mm512_loadu_si512(step.as_ptr().cast()) };
    let mask = _mm512_set1_epi32((1 << bits) - 1);
    for i in 0..QUAD {
        if column + i < w.k {
            let shift = 8 * i + column % wide / QUAD * bits;
            let code = _mm512_srlv_epi32(step, _mm512_set1_epi32(shift as i32));
            let code = _mm512_cvtepi32_ps(_mm512_and_si512(code, mask));
            four[i] = if matches!(w.zero, GroupZero::MinF16(_)) {
                _mm512_add_ps(_mm512_mul_ps(levels.scale, code), levels.offset)
            } else {
                _mm512_mul_ps(levels.scale, _mm512_sub_ps(code, levels.offset))
            };
        }
    }
    four
}
