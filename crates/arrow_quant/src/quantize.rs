//! Round to nearest: each group of columns gets a scale that clips nothing, so that the error of a
//! weight is at most half a step of the scale as it is stored.

use std::mem::MaybeUninit;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use kernels::{PANEL_ROWS, PanelLanes, PanelRounding, panel_ranges, round_panel};

use crate::aligned;
use crate::error::{Result, WeightFileError};
use crate::half_step::half_bits;
use crate::levels::{Lanes, Levels};
use crate::parallel;
use crate::tensor::{CodeBits, Layout, PlainRows, QuantTensor, Scales, Zero, groups};

/// Weights between two calls of a progress function.
const SLICE_WEIGHTS: usize = 1 << 22;

/// Where the levels of a group lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grid {
    /// Around zero. A scale may be negative: the code range has one more level below the middle,
    /// and the sign gives it to the side that reaches further.
    Symmetric,
    /// From the smallest to the largest weight (zero included), with a one-byte code of zero.
    Asymmetric,
    /// From the smallest to the largest weight, with the smallest stored in half precision.
    Minimum,
}

/// How to quantise a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quantization {
    /// Width of a code.
    pub bits: CodeBits,
    /// Columns that share a scale, a multiple of 16 that divides them; 0 is the whole row.
    pub group_size: usize,
    /// Where the levels lie.
    pub grid: Grid,
}

/// Quantises `[n, k]` weights into panels, on all cores. Scales are float16 for groups and float32
/// for whole rows.
///
/// `progress` is called with the weights done after every few million; returning `false` stops.
///
/// # Errors
/// `NotFinite`, `GroupSize`, `Range` (levels beyond what the scale's precision holds), `Length` (`weights` is not
/// `n * k` long), `Cancelled`.
pub fn quantize(
    weights: PlainRows,
    n: usize,
    k: usize,
    how: Quantization,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<QuantTensor> {
    let (plan, panels) = (Plan::new(how, k)?, n.div_ceil(PANEL_ROWS));
    if n.checked_mul(k) != Some(weights.len()) {
        return Err(WeightFileError::Length {
            tensor: String::new(),
            part: "weights",
            what: format!("[{n}, {k}]"),
            expected: n as u64 * k as u64,
            got: weights.len() as u64,
        });
    }
    let scale_count = panels * plan.groups * PANEL_ROWS;
    let (scale_len, zero_len) = (
        scale_count * plan.scale_size(),
        scale_count * plan.zero_size(),
    );
    let (mut scales, mut zeros) = (vec![0; scale_len], vec![0; zero_len]);
    let write = |codes: &mut [MaybeUninit<u8>]| {
        let out = Parts {
            codes,
            scales: &mut scales,
            zeros: &mut zeros,
        };
        plan.run(weights, out, &mut progress)
    };
    // To zero the codes of a small matrix first would take a third of the time.
    // SAFETY: `run` fails or has written every panel.
    let codes = unsafe { aligned::written(panels * plan.panel, write) }?;
    let (scales, zeros) = (aligned::copied(&scales), aligned::copied(&zeros));
    let scales = if plan.half_scales() {
        Scales::F16(scales)
    } else {
        Scales::F32(scales)
    };
    let zero = match how.grid {
        Grid::Symmetric => Zero::Middle,
        Grid::Asymmetric => Zero::U8(zeros),
        Grid::Minimum => Zero::MinF16(zeros),
    };
    let (bits, group_size) = (how.bits, how.group_size);
    Ok(QuantTensor {
        bits,
        group_size,
        layout: Layout::Panel16,
        codes,
        scales,
        zero,
    })
}

/// Output of one or more panels.
struct Parts<'a> {
    codes: &'a mut [MaybeUninit<u8>],
    scales: &'a mut [u8],
    zeros: &'a mut [u8],
}

/// Sizes that all panels of a matrix share.
struct Plan {
    how: Quantization,
    /// Columns.
    k: usize,
    /// Columns of a group.
    width: usize,
    /// Groups of a row.
    groups: usize,
    /// Bytes of a panel's codes.
    panel: usize,
}

impl Plan {
    fn new(how: Quantization, k: usize) -> Result<Self> {
        let group_size = how.group_size;
        if group_size != 0 && (!group_size.is_multiple_of(16) || !k.is_multiple_of(group_size)) {
            return Err(WeightFileError::GroupSize {
                group_size,
                columns: k,
            });
        }
        let width = if group_size == 0 { k } else { group_size };
        Ok(Self {
            how,
            k,
            width,
            groups: groups(k, group_size),
            panel: how.bits.panel_bytes(k),
        })
    }

    const fn half_scales(&self) -> bool {
        self.how.group_size != 0
    }

    const fn scale_size(&self) -> usize {
        if self.half_scales() { 2 } else { 4 }
    }

    const fn zero_size(&self) -> usize {
        match self.how.grid {
            Grid::Symmetric => 0,
            Grid::Asymmetric => 1,
            Grid::Minimum => 2,
        }
    }

    fn run(
        &self,
        weights: PlainRows,
        out: Parts,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<()> {
        if self.k == 0 || weights.is_empty() {
            return Ok(());
        }
        let threads = parallel::threads(weights.len());
        let (scales, zeros) = (self.scale_size(), self.zero_size());
        let slice = (SLICE_WEIGHTS / (self.k * PANEL_ROWS)).max(threads);
        let (mut codes_left, mut scales_left, mut zeros_left) = (out.codes, out.scales, out.zeros);
        let mut row = 0;
        let rows = weights.len() / self.k;
        while row < rows {
            let taken = slice.min((rows - row).div_ceil(PANEL_ROWS));
            let per_panel = self.groups * PANEL_ROWS;
            let now;
            (now, codes_left) = codes_left.split_at_mut(taken * self.panel);
            let (scales_now, scales_rest) = scales_left.split_at_mut(taken * per_panel * scales);
            let (zeros_now, zeros_rest) = zeros_left.split_at_mut(taken * per_panel * zeros);
            (scales_left, zeros_left) = (scales_rest, zeros_rest);
            let mut zeros_of = zeros_now.chunks_exact_mut((per_panel * zeros).max(1));
            let jobs = now
                .chunks_exact_mut(self.panel)
                .zip(scales_now.chunks_exact_mut(per_panel * scales))
                .enumerate()
                .map(|(i, (codes, scales))| {
                    (
                        row + i * PANEL_ROWS,
                        Parts {
                            codes,
                            scales,
                            zeros: zeros_of.next().unwrap_or_default(),
                        },
                    )
                });
            let scratch = || Scratch::new(self);
            parallel::try_each(jobs, threads, scratch, |scratch, (first, mut out)| {
                let count = PANEL_ROWS.min(rows - first);
                let weights = weights.slice(first * self.k, count * self.k);
                self.panel(scratch, weights, first, &mut out)
            })?;
            row += taken * PANEL_ROWS;
            if !progress(row.min(rows) * self.k) {
                return Err(WeightFileError::Cancelled);
            }
        }
        Ok(())
    }

    /// Quantises up to 16 rows; `first` is the number of the first, for messages.
    fn panel(
        &self,
        scratch: &mut Scratch,
        rows: PlainRows,
        first: usize,
        out: &mut Parts,
    ) -> Result<()> {
        let count = rows.len() / self.k;
        let Scratch { low, high, .. } = scratch;
        if let Some(row) = panel_ranges(rows, self.k, self.width, low, high) {
            return Err(not_finite(rows.slice(row * self.k, self.k), first + row));
        }
        self.place_levels(scratch, count, first, out)?;
        let rounding = PanelRounding {
            inverse: &scratch.inverse,
            minimum: &scratch.minimum,
            zero: &scratch.zero,
        };
        let codes = aligned::zeroed(out.codes);
        round_panel(rows, self.k, self.width, rounding, self.how.bits, codes);
        Ok(())
    }

    /// Chooses the levels of every group, and stores their scales and zeros.
    fn place_levels(
        &self,
        scratch: &mut Scratch,
        count: usize,
        first: usize,
        out: &mut Parts,
    ) -> Result<()> {
        for group in 0..self.groups {
            let (low, high) = (&mut scratch.low[group], &mut scratch.high[group]);
            // Rows that the matrix lacks are stored as zeros.
            low[count..].fill(0.0);
            high[count..].fill(0.0);
            let levels = Levels::new(self.how, low, high);
            if let Some(row) = levels.unbounded {
                return Err(WeightFileError::Range {
                    row: first + row,
                    column: group * self.width,
                    range: high[row] - low[row],
                });
            }
            let at = group * PANEL_ROWS..(group + 1) * PANEL_ROWS;
            let of = |size: usize| at.start * size..at.end * size;
            if self.half_scales() {
                store(&levels.scale.map(half_bits), &mut out.scales[of(2)]);
            } else {
                for (to, scale) in out.scales[of(4)].chunks_exact_mut(4).zip(levels.scale) {
                    to.copy_from_slice(&scale.to_le_bytes());
                }
            }
            match self.how.grid {
                Grid::Symmetric => {}
                Grid::Asymmetric => {
                    for (to, zero) in out.zeros[of(1)].iter_mut().zip(levels.zero) {
                        *to = zero as u8;
                    }
                }
                Grid::Minimum => store(&levels.minimum.map(half_bits), &mut out.zeros[of(2)]),
            }
            scratch.inverse[group] = levels.inverse;
            scratch.minimum[group] = levels.minimum;
            scratch.zero[group] = levels.zero.map(|zero| zero as i32);
        }
        Ok(())
    }
}

/// What a thread needs for one panel after the other: a value per row and group.
struct Scratch {
    /// Smallest and largest weights.
    low: Vec<Lanes>,
    high: Vec<Lanes>,
    /// How they become codes.
    inverse: Vec<Lanes>,
    minimum: Vec<Lanes>,
    zero: Vec<PanelLanes<i32>>,
}

impl Scratch {
    fn new(plan: &Plan) -> Self {
        let lanes = || vec![[0.0; PANEL_ROWS]; plan.groups];
        Self {
            low: lanes(),
            high: lanes(),
            inverse: lanes(),
            minimum: lanes(),
            zero: vec![[0; PANEL_ROWS]; plan.groups],
        }
    }
}

/// Stores half-precision bits.
fn store(halves: &PanelLanes<u16>, out: &mut [u8]) {
    for (to, half) in out.as_chunks_mut::<2>().0.iter_mut().zip(halves) {
        *to = half.to_le_bytes();
    }
}

fn not_finite(values: PlainRows, row: usize) -> WeightFileError {
    let values: Vec<f32> = match values {
        PlainRows::F32(values) => values.to_vec(),
        PlainRows::F16(bits) => bits.reinterpret_cast::<f16>().to_f32_vec(),
        PlainRows::Bf16(bits) => bits.reinterpret_cast::<bf16>().to_f32_vec(),
    };
    let column = values
        .iter()
        .position(|value| !value.is_finite())
        .unwrap_or_default();
    WeightFileError::NotFinite {
        row,
        column,
        value: values[column],
    }
}

#[cfg(test)]
mod tests {
    use kernels::Isa;

    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        // Short panels and blocks too.
        let (n, k) = (21, 192);
        let weights: Vec<f32> = (0..n * k)
            .map(|i| ((i * 7919 % 1009) as f32 - 504.0) * 0.37f32.powi((i % 23) as i32))
            .collect();
        for bits in [CodeBits::Int8, CodeBits::Int4, CodeBits::Int2] {
            for (k, group_size, grid) in [
                (9, 0, Grid::Asymmetric),
                (187, 0, Grid::Symmetric),
                (192, 32, Grid::Symmetric),
                (192, 64, Grid::Asymmetric),
                (192, 32, Grid::Minimum),
            ] {
                let how = Quantization {
                    bits,
                    group_size,
                    grid,
                };
                let run = |isa: Isa| {
                    let rows = PlainRows::F32(&weights[..n * k]);
                    isa.scope(|| quantize(rows, n, k, how, |_| true)).unwrap()
                };
                let expected = run(Isa::Scalar);
                for isa in Isa::available() {
                    let got = run(isa);
                    assert_eq!(got.codes, expected.codes, "{isa} {how:?}");
                    assert_eq!(got.scales.bytes(), expected.scales.bytes(), "{isa} {how:?}");
                    assert_eq!(got.zero.bytes(), expected.zero.bytes(), "{isa} {how:?}");
                }
            }
        }
    }
}
