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
use super::rows::STEP;
use crate::panel16::{CodeBits, GroupScales, GroupZero, PANEL_ROWS, QuantPanels, STEP_BYTES};
use crate::simd::{Avx512, LANES, Simd, prefetch};

/// Steps between the one that is packed and the one that is asked for.
const AHEAD: usize = 4;

/// Columns of a code step that lie in the bytes of one field.
const QUAD: usize = 4;

/// Steps of two panels of outputs: `packed` has sixteen lines of one and of the other for each.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
pub(super) fn pack_outputs(
    w: &QuantPanels<'_>,
    panel: usize,
    steps: Range<usize>,
    packed: &mut [Line],
) {
    for p in 0..2 {
        for (step, lines) in steps.clone().zip(packed.chunks_exact_mut(2 * LANES)) {
            let (panel, first) = (panel + p, step * STEP);
            let lines = &mut lines[p * LANES..][..LANES];
            if panel >= w.panels() {
                lines.fill([0; LANES]);
            } else if is_plain(w, first, STEP) {
                match w.bits {
                    CodeBits::Int8 => outputs_of::<8>(w, panel, first, lines),
                    CodeBits::Int4 => outputs_of::<4>(w, panel, first, lines),
                    CodeBits::Int2 => outputs_of::<2>(w, panel, first, lines),
                }
            } else {
                outputs_of_any(w, panel, first, lines);
            }
        }
    }
}

/// Steps of two panels of inputs, the first from column `first` on.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
pub(super) fn pack_inputs(
    w: &QuantPanels<'_>,
    first: usize,
    steps: Range<usize>,
    packed: &mut [Line],
) {
    for (step, lines) in steps.zip(packed.chunks_exact_mut(2 * LANES)) {
        // Panels lie too far apart for the processor to follow.
        for panel in 2 * (step + AHEAD)..2 * (step + AHEAD + 1) {
            prefetch_columns(w, panel, first);
        }
        for (p, lines) in lines.chunks_exact_mut(LANES).enumerate() {
            // A step is of two panels of outputs.
            let (panel, first) = (2 * step, first + p * LANES);
            if first >= w.k {
                lines.fill([0; LANES]);
            } else if is_plain(w, first, LANES) && (panel + 2) * PANEL_ROWS <= w.n {
                match w.bits {
                    CodeBits::Int8 => inputs_of::<8>(w, panel, first, lines),
                    CodeBits::Int4 => inputs_of::<4>(w, panel, first, lines),
                    CodeBits::Int2 => inputs_of::<2>(w, panel, first, lines),
                }
            } else {
                inputs_of_any(w, panel, first, lines);
            }
        }
    }
}

/// Asks for what packing 32 columns of a panel reads.
fn prefetch_columns(w: &QuantPanels<'_>, panel: usize, first: usize) {
    if panel >= w.panels() || first >= w.k {
        return;
    }
    let wide = w.bits.step_columns();
    let start = (panel * w.steps() + first / wide) * STEP_BYTES;
    let len = (STEP / wide * STEP_BYTES).min(w.codes.len() - start);
    for line in w.codes[start..][..len].chunks(64) {
        prefetch(line.as_ptr());
    }
    let group = first.checked_div(w.group_size).unwrap_or(0);
    let first = (panel * w.groups() + group) * PANEL_ROWS;
    match w.scales {
        GroupScales::F16(scales) => prefetch(&raw const scales[first]),
        GroupScales::F32(scales) => prefetch(&raw const scales[first]),
    }
    match w.zero {
        GroupZero::Middle => {}
        GroupZero::U8(zeros) => prefetch(&raw const zeros[first]),
        GroupZero::MinF16(minima) => prefetch(&raw const minima[first]),
    }
}

/// Whether those columns are there, and each sixteen of them have the same levels, as nearly all do.
fn is_plain(w: &QuantPanels<'_>, first: usize, columns: usize) -> bool {
    first + columns <= w.k && w.group_size.is_multiple_of(LANES)
}

/// Step `step` of codes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load_step(codes: &[u8], step: usize) -> __m512i {
    let step = &codes[step * STEP_BYTES..][..STEP_BYTES];
    // SAFETY: the slice has 64 bytes.
    unsafe { _mm512_loadu_si512(step.as_ptr().cast()) }
}

/// Sixteen columns of a panel that have the same levels, of codes of `BITS` bits.
///
/// A macro: of a function the columns would come through memory.
macro_rules! columns {
    ($w:ident, $panel:expr, $first:expr) => {{
        let (panel, first): (usize, usize) = ($panel, $first);
        let levels = Levels::read($w, panel, first.checked_div($w.group_size).unwrap_or(0));
        let wide = 4 * (8 / BITS);
        let start = (panel * $w.steps() + first / wide) * STEP_BYTES;
        let codes = &$w.codes[start..][..LANES / wide * STEP_BYTES];
        let mask = _mm512_set1_epi32((1 << BITS) - 1);
        let mut columns = [_mm512_setzero_ps(); LANES];
        for i in 0..LANES {
            let step = load_step(codes, i / wide);
            let shift = 8 * (i % 4) + BITS * (i % wide / 4);
            let code = _mm512_srlv_epi32(step, _mm512_set1_epi32(shift as i32));
            columns[i] = _mm512_cvtepi32_ps(_mm512_and_si512(code, mask));
        }
        if matches!($w.zero, GroupZero::MinF16(_)) {
            for i in 0..LANES {
                columns[i] = _mm512_add_ps(_mm512_mul_ps(levels.scale, columns[i]), levels.offset);
            }
        } else {
            for i in 0..LANES {
                columns[i] = _mm512_mul_ps(levels.scale, _mm512_sub_ps(columns[i], levels.offset));
            }
        }
        columns
    }};
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
fn outputs_of<const BITS: usize>(
    w: &QuantPanels<'_>,
    panel: usize,
    first: usize,
    lines: &mut [Line],
) {
    for (half, lines) in lines.chunks_exact_mut(LANES / 2).enumerate() {
        let columns = columns!(w, panel, first + half * LANES);
        for i in 0..LANES / 2 {
            store(beside(columns[2 * i], columns[2 * i + 1]), &mut lines[i]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
fn inputs_of<const BITS: usize>(
    w: &QuantPanels<'_>,
    panel: usize,
    first: usize,
    lines: &mut [Line],
) {
    let (low, high) = (columns!(w, panel, first), columns!(w, panel + 1, first));
    let mut pairs = [_mm512_setzero_ps(); LANES];
    for i in 0..LANES {
        pairs[i] = rounded_pair(low[i], high[i]);
    }
    // SAFETY: this function asks for what AVX-512 stands for; its operations move pairs as they are.
    let pairs = unsafe { Avx512::assume() }.transpose(pairs);
    for (pairs, line) in pairs.into_iter().zip(lines) {
        store(pairs, line);
    }
}

/// One step of a panel of outputs, from a column on.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
fn outputs_of_any(w: &QuantPanels<'_>, panel: usize, first: usize, lines: &mut [Line]) {
    for (half, lines) in lines.chunks_exact_mut(LANES / 2).enumerate() {
        let mut pairs = [_mm512_setzero_ps(); LANES / 2];
        let mut levels = Levels::none();
        for quad in 0..LANES / QUAD {
            let four = quad_of(w, panel, first + half * LANES, quad, &mut levels);
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
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
fn inputs_of_any(w: &QuantPanels<'_>, panel: usize, first: usize, lines: &mut [Line]) {
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
    let step = load_step(w.codes, panel * w.steps() + column / wide);
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
