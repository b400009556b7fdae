//! Round to nearest: each group of columns gets a scale that clips nothing, so that the error of a
//! weight is at most half a step of the scale as it is stored.

use bytes::Bytes;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::aligned;
use crate::error::{Result, WeightFileError};
use crate::half_step::half_bits;
use crate::levels::{Lanes, Levels, larger, smaller};
use crate::pack::{PANEL, code_stride, pack_panel, panel_len};
use crate::parallel;
use crate::tensor::{Bits, Layout, QuantTensor, Rows, Scales, Zero, groups};

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
    pub bits: Bits,
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
    weights: Rows,
    n: usize,
    k: usize,
    how: Quantization,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<QuantTensor> {
    let (plan, panels) = (Plan::new(how, k)?, n.div_ceil(PANEL));
    if n.checked_mul(k) != Some(weights.len()) {
        return Err(WeightFileError::Length {
            tensor: String::new(),
            part: "weights",
            what: format!("[{n}, {k}]"),
            expected: n as u64 * k as u64,
            got: weights.len() as u64,
        });
    }
    let scale_count = panels * plan.groups * PANEL;
    let (scale_len, zero_len) = (
        scale_count * plan.scale_size(),
        scale_count * plan.zero_size(),
    );
    let (mut result, mut scales, mut zeros) = (Ok(()), Bytes::new(), Bytes::new());
    let codes = aligned::filled(panels * plan.panel, |codes| {
        scales = aligned::filled(scale_len, |scales| {
            zeros = aligned::filled(zero_len, |zeros| {
                let out = Parts {
                    codes,
                    scales,
                    zeros,
                };
                result = plan.run(weights, out, &mut progress);
            });
        });
    });
    result?;
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
    codes: &'a mut [u8],
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
            panel: panel_len(k, how.bits),
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
        weights: Rows,
        out: Parts,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<()> {
        if self.k == 0 || weights.is_empty() {
            return Ok(());
        }
        let threads = parallel::threads(weights.len());
        let (scales, zeros) = (self.scale_size(), self.zero_size());
        let slice = (SLICE_WEIGHTS / (self.k * PANEL)).max(threads);
        let (mut codes_left, mut scales_left, mut zeros_left) = (out.codes, out.scales, out.zeros);
        let mut row = 0;
        let rows = weights.len() / self.k;
        while row < rows {
            let taken = slice.min((rows - row).div_ceil(PANEL));
            let per_panel = self.groups * PANEL;
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
                        row + i * PANEL,
                        Parts {
                            codes,
                            scales,
                            zeros: zeros_of.next().unwrap_or_default(),
                        },
                    )
                });
            let scratch = || Scratch::new(self, weights);
            parallel::try_each(jobs, threads, scratch, |scratch, (first, mut out)| {
                let count = PANEL.min(rows - first);
                let weights = weights.slice(first * self.k, count * self.k);
                self.panel(scratch, weights, first, &mut out)
            })?;
            row += taken * PANEL;
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
        rows: Rows,
        first: usize,
        out: &mut Parts,
    ) -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512bw") {
                // SAFETY: the CPU has the feature the function is compiled for.
                return unsafe { self.panel_avx512(scratch, rows, first, out) };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { self.panel_avx2(scratch, rows, first, out) };
            }
        }
        self.panel_portable(scratch, rows, first, out)
    }

    // The same code for wider registers: the compiler vectorises it, and as it never fuses
    // multiplications with additions the result is the same on every CPU.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn panel_avx512(
        &self,
        scratch: &mut Scratch,
        rows: Rows,
        first: usize,
        out: &mut Parts,
    ) -> Result<()> {
        self.panel_portable(scratch, rows, first, out)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn panel_avx2(
        &self,
        scratch: &mut Scratch,
        rows: Rows,
        first: usize,
        out: &mut Parts,
    ) -> Result<()> {
        self.panel_portable(scratch, rows, first, out)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // Must be compiled into each of its callers.
    fn panel_portable(
        &self,
        scratch: &mut Scratch,
        rows: Rows,
        first: usize,
        out: &mut Parts,
    ) -> Result<()> {
        self.measure(scratch, rows, first)?;
        self.place_levels(scratch, first, out)?;
        self.round(scratch, rows);
        pack_panel(&scratch.codes, self.how.bits, out.codes);
        Ok(())
    }

    /// Finds the range of every group.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn measure(&self, scratch: &mut Scratch, rows: Rows, first: usize) -> Result<()> {
        scratch.ranges.fill(([0.0; PANEL], [0.0; PANEL]));
        for row in 0..rows.len() / self.k {
            let values = values(rows.slice(row * self.k, self.k), &mut scratch.converted);
            let mut magnitude = [0; LANES];
            let groups = values.chunks_exact(self.width).zip(&mut scratch.ranges);
            for (values, (low, high)) in groups {
                (low[row], high[row]) = range(values, &mut magnitude);
            }
            // Infinities and NaN are the largest magnitudes.
            let infinity = f32::INFINITY.to_bits();
            if magnitude.iter().any(|&bits| bits >= infinity) {
                return Err(not_finite(values, first + row));
            }
        }
        Ok(())
    }

    /// Chooses the levels of every group, and stores their scales and zeros.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn place_levels(&self, scratch: &mut Scratch, first: usize, out: &mut Parts) -> Result<()> {
        scratch.levels.clear();
        for (group, (low, high)) in scratch.ranges.iter().enumerate() {
            let levels = Levels::new(self.how, low, high);
            if let Some(row) = levels.unbounded(self.how, low, high) {
                return Err(WeightFileError::Range {
                    row: first + row,
                    column: group * self.width,
                    range: high[row] - low[row],
                });
            }
            let at = group * PANEL..(group + 1) * PANEL;
            let of = |size: usize| at.start * size..at.end * size;
            if self.half_scales() {
                store_halves(&levels.scale, &mut out.scales[of(2)]);
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
                Grid::Minimum => store_halves(&levels.minimum, &mut out.zeros[of(2)]),
            }
            scratch.levels.push(levels);
        }
        Ok(())
    }

    /// Rounds every weight to its code.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn round(&self, scratch: &mut Scratch, rows: Rows) {
        let steps = (self.how.bits.levels() - 1) as f32;
        let stride = code_stride(self.k);
        let count = rows.len() / self.k;
        // Rows that the matrix lacks are stored as zeros.
        scratch.codes[count * stride..].fill(0);
        for (row, codes) in scratch
            .codes
            .chunks_exact_mut(stride)
            .take(count)
            .enumerate()
        {
            let values = values(rows.slice(row * self.k, self.k), &mut scratch.converted);
            let groups = values
                .chunks_exact(self.width)
                .zip(codes.chunks_mut(self.width));
            for ((values, codes), levels) in groups.zip(&scratch.levels) {
                let rounding = Rounding {
                    inverse: levels.inverse[row],
                    minimum: levels.minimum[row],
                    below: -levels.zero[row],
                    above: steps - levels.zero[row],
                    zero: levels.zero[row] as u8,
                };
                rounding.all(values, codes);
            }
        }
    }
}

/// What a thread needs for one panel after the other.
struct Scratch {
    /// A row in single precision; empty where the weights are.
    converted: Vec<f32>,
    /// Smallest and largest weights of each group.
    ranges: Vec<(Lanes, Lanes)>,
    levels: Vec<Levels>,
    /// Rows of codes, one a byte, `code_stride` apart.
    codes: Vec<u8>,
}

impl Scratch {
    fn new(plan: &Plan, weights: Rows) -> Self {
        let is_single = matches!(weights, Rows::F32(_));
        Self {
            converted: vec![0.0; if is_single { 0 } else { plan.k }],
            ranges: vec![([0.0; PANEL], [0.0; PANEL]); plan.groups],
            levels: Vec::with_capacity(plan.groups),
            codes: vec![0; PANEL * code_stride(plan.k)],
        }
    }
}

/// How the weights of one row and group become codes.
#[derive(Clone, Copy)]
struct Rounding {
    inverse: f32,
    minimum: f32,
    /// Steps from zero to the lowest level, and to the highest.
    below: f32,
    above: f32,
    zero: u8,
}

impl Rounding {
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn all(self, values: &[f32], codes: &mut [u8]) {
        // Arrays of a fixed length become single instructions.
        let (values, rest) = values.as_chunks::<LANES>();
        let (codes, codes_rest) = codes.as_chunks_mut::<LANES>();
        for (codes, values) in codes.iter_mut().zip(values) {
            *codes = values.map(|value| self.one(value));
        }
        for (code, &value) in codes_rest.iter_mut().zip(rest) {
            *code = self.one(value);
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn one(self, value: f32) -> u8 {
        // Adding 1.5 * 2^23 leaves no bits for a fraction: the sum is rounded to the nearest
        // integer, ties to even, and its low byte is that integer in two's complement.
        const MAGIC: f32 = 12_582_912.0;
        let steps = (value - self.minimum) * self.inverse;
        let steps = smaller(larger(steps, self.below), self.above);
        ((steps + MAGIC).to_bits() as u8).wrapping_add(self.zero)
    }
}

/// Floats of one widest register.
const LANES: usize = 16;

/// Smallest and largest value. `magnitude` collects the largest bits but for the sign.
#[inline(always)]
#[allow(clippy::inline_always)]
fn range(values: &[f32], magnitude: &mut [u32; LANES]) -> (f32, f32) {
    let first = values[0];
    let (mut low, mut high) = ([first; LANES], [first; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut take = |lane: usize, value: f32| {
        low[lane] = smaller(value, low[lane]);
        high[lane] = larger(value, high[lane]);
        magnitude[lane] = magnitude[lane].max(value.to_bits() & 0x7FFF_FFFF);
    };
    for chunk in chunks {
        for (lane, &value) in chunk.iter().enumerate() {
            take(lane, value);
        }
    }
    for (lane, &value) in rest.iter().enumerate() {
        take(lane, value);
    }
    // Halves against halves: each turn of the loop is one instruction.
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            low[lane] = smaller(low[lane + half], low[lane]);
            high[lane] = larger(high[lane + half], high[lane]);
        }
        half /= 2;
    }
    (low[0], high[0])
}

/// Stores values that half precision holds exactly.
#[inline(always)]
#[allow(clippy::inline_always)]
fn store_halves(values: &Lanes, out: &mut [u8]) {
    for (to, &value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *to = half_bits(value).to_le_bytes();
    }
}

fn not_finite(values: &[f32], row: usize) -> WeightFileError {
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

fn values<'a>(rows: Rows<'a>, buffer: &'a mut [f32]) -> &'a [f32] {
    match rows {
        Rows::F32(values) => return values,
        Rows::F16(bits) => {
            bits.reinterpret_cast::<f16>().convert_to_f32_slice(buffer);
        }
        Rows::Bf16(bits) => {
            bits.reinterpret_cast::<bf16>().convert_to_f32_slice(buffer);
        }
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        let (n, k) = (16, 192);
        let weights: Vec<f32> = (0..n * k)
            .map(|i| ((i * 7919 % 1009) as f32 - 504.0) * 0.37f32.powi((i % 23) as i32))
            .collect();
        for bits in [Bits::Int8, Bits::Int4, Bits::Int2] {
            for (group_size, grid) in [
                (0, Grid::Symmetric),
                (32, Grid::Symmetric),
                (64, Grid::Asymmetric),
                (32, Grid::Minimum),
            ] {
                let how = Quantization {
                    bits,
                    group_size,
                    grid,
                };
                let plan = Plan::new(how, k).unwrap();
                let run = |portable: bool| {
                    let scales = plan.groups * PANEL * plan.scale_size();
                    let zeros = plan.groups * PANEL * plan.zero_size();
                    let mut bytes = (vec![0; plan.panel], vec![0; scales], vec![0; zeros]);
                    let mut out = Parts {
                        codes: &mut bytes.0,
                        scales: &mut bytes.1,
                        zeros: &mut bytes.2,
                    };
                    let rows = Rows::F32(&weights);
                    let mut scratch = Scratch::new(&plan, rows);
                    let done = if portable {
                        plan.panel_portable(&mut scratch, rows, 0, &mut out)
                    } else {
                        plan.panel(&mut scratch, rows, 0, &mut out)
                    };
                    done.unwrap();
                    bytes
                };
                assert_eq!(run(true), run(false), "{how:?}");
            }
        }
    }
}
