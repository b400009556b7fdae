//! Operands as both units read them: lines of sixteen pairs of brain floats.
//!
//! A step is 32 columns. Of `x`, a block of sixteen rows has sixteen lines a step, a row in each; of `w`, a panel of
//! sixteen outputs has sixteen lines a step, a pair of columns in each. What lies beyond an edge is zero.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, __mmask16, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cvtne2ps_pbh, _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_ps,
    _mm512_storeu_ps,
};
use std::mem::transmute;
use std::ops::Range;

use super::rows::STEP;
use super::{Bf16Weights, quant};
use crate::simd::{Avx512, LANES, Simd};

/// Sixteen pairs of brain floats.
pub(super) type Line = [u32; LANES];

/// Writes rows `rows` of `x`, at most sixteen, as a block: as many steps as `k` columns take.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub(super) fn pack_rows(x: &[f32], rows: Range<usize>, k: usize, block: &mut [Line]) {
    let block = &mut block[..k.div_ceil(STEP) * LANES];
    for r in 0..LANES {
        let lines = block[r..].iter_mut().step_by(LANES);
        if rows.start + r < rows.end {
            let row = &x[(rows.start + r) * k..][..k];
            for (line, columns) in lines.zip(row.chunks(STEP)) {
                store(rounded(columns), line);
            }
        } else {
            lines.for_each(|line| *line = [0; LANES]);
        }
    }
}

/// Writes the columns of steps `steps` of panels `panel` and `panel + 1`: of each step, sixteen lines of one, then
/// sixteen of the other.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")]
pub(super) fn pack_panels(
    w: Bf16Weights<'_>,
    (n, k): (usize, usize),
    panel: usize,
    steps: Range<usize>,
    packed: &mut [Line],
) {
    match w {
        Bf16Weights::OutputPanels(w) => return quant::pack_outputs(&w, panel, steps, packed),
        Bf16Weights::InputPanels(w) => {
            return quant::pack_inputs(&w, panel * LANES, steps, packed);
        }
        Bf16Weights::Outputs(_) | Bf16Weights::Inputs(_) => {}
    }
    for (step, lines) in steps.zip(packed.chunks_exact_mut(2 * LANES)) {
        let columns = step * STEP..((step + 1) * STEP).min(k);
        match w {
            Bf16Weights::Outputs(w) => {
                for (p, lines) in lines.chunks_exact_mut(LANES).enumerate() {
                    pack_outputs(w, k, panel_range(panel + p, n), columns.clone(), lines);
                }
            }
            Bf16Weights::Inputs(w) => pack_inputs(w, n, panel, columns, lines),
            // Above.
            Bf16Weights::OutputPanels(_) | Bf16Weights::InputPanels(_) => {}
        }
    }
}

/// The outputs of a panel, none where there is no such panel.
fn panel_range(panel: usize, n: usize) -> Range<usize> {
    (panel * LANES).min(n)..((panel + 1) * LANES).min(n)
}

/// One step of a panel of `w[n, k]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
fn pack_outputs(
    w: &[f32],
    k: usize,
    outputs: Range<usize>,
    columns: Range<usize>,
    lines: &mut [Line],
) {
    let mut rows = [_mm512_setzero_ps(); LANES];
    for (row, output) in rows.iter_mut().zip(outputs) {
        *row = rounded(&w[output * k..][columns.clone()]);
    }
    // SAFETY: this function asks for what AVX-512 stands for; its operations move pairs as they are.
    let pairs = unsafe { Avx512::assume() }.transpose(rows);
    for (pairs, line) in pairs.into_iter().zip(lines) {
        store(pairs, line);
    }
}

/// One step of two panels of `w[k, n]`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pack_inputs(w: &[f32], n: usize, panel: usize, columns: Range<usize>, lines: &mut [Line]) {
    let outputs = [panel_range(panel, n), panel_range(panel + 1, n)];
    for i in 0..LANES {
        let column = columns.start + 2 * i;
        for p in 0..2 {
            let row = |column: usize| {
                if column < columns.end {
                    &w[column * n..][outputs[p].clone()]
                } else {
                    &[]
                }
            };
            let pairs = beside(load(row(column)), load(row(column + 1)));
            store(pairs, &mut lines[p * LANES + i]);
        }
    }
}

/// At most sixteen values, zeros beyond.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    let mask = (1_u32 << values.len().min(LANES)).wrapping_sub(1) as __mmask16;
    // SAFETY: lanes beyond the values are not read.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

/// At most 32 values as sixteen pairs of neighbours.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn rounded(values: &[f32]) -> __m512 {
    let (low, high) = values.split_at(values.len().min(LANES));
    rounded_pair(load(low), load(high))
}

/// The sixteen lanes of both, rounded, one behind the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn rounded_pair(low: __m512, high: __m512) -> __m512 {
    pairs(_mm512_cvtne2ps_pbh(high, low))
}

/// Lane `i` of both, rounded, as pair `i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) fn beside(low: __m512, high: __m512) -> __m512 {
    const ORDER: [u16; 2 * LANES] = {
        let mut order = [0; 2 * LANES];
        let mut i = 0;
        while i < 2 * LANES {
            order[i] = (i / 2 + i % 2 * LANES) as u16;
            i += 1;
        }
        order
    };
    // SAFETY: both are 64 plain bytes, and any bits are a value of either.
    let order = unsafe { transmute::<[u16; 2 * LANES], __m512i>(ORDER) };
    let pairs = _mm512_castps_si512(rounded_pair(low, high));
    _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, pairs))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn pairs(halves: __m512bh) -> __m512 {
    // SAFETY: both are 64 plain bytes, and any bits are a value of either.
    unsafe { transmute::<__m512bh, __m512>(halves) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn store(pairs: __m512, line: &mut Line) {
    // SAFETY: a line is 64 bytes.
    unsafe { _mm512_storeu_ps(line.as_mut_ptr().cast(), pairs) }
}
