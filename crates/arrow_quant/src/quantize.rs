//! Round to nearest: each group of columns gets a scale that clips nothing, so that the error of a
//! weight is at most half a step of the scale as it is stored.

use bytes::Bytes;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::aligned;
use crate::error::{Result, WeightFileError};
use crate::pack::{PANEL, pack_row, panel_len, per_byte};
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
/// `NotFinite`, `GroupSize`, `Range` (a scale beyond float16), `Length` (`weights` is not
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
            parallel::try_each(jobs, threads, |(first, mut out)| {
                let count = PANEL.min(rows - first);
                self.panel(
                    weights.slice(first * self.k, count * self.k),
                    first,
                    &mut out,
                )
            })?;
            row += taken * PANEL;
            if !progress(row.min(rows) * self.k) {
                return Err(WeightFileError::Cancelled);
            }
        }
        Ok(())
    }

    /// Quantises up to 16 rows; `first` is the number of the first, for messages.
    fn panel(&self, rows: Rows, first: usize, out: &mut Parts) -> Result<()> {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512bw") {
                // SAFETY: the CPU has the feature the function is compiled for.
                return unsafe { self.panel_avx512(rows, first, out) };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { self.panel_avx2(rows, first, out) };
            }
        }
        self.panel_portable(rows, first, out)
    }

    // The same code for wider registers: the compiler vectorises it, and as it never fuses
    // multiplications with additions the result is the same on every CPU.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn panel_avx512(&self, rows: Rows, first: usize, out: &mut Parts) -> Result<()> {
        self.panel_portable(rows, first, out)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn panel_avx2(&self, rows: Rows, first: usize, out: &mut Parts) -> Result<()> {
        self.panel_portable(rows, first, out)
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // Must be compiled into each of its callers.
    fn panel_portable(&self, rows: Rows, first: usize, out: &mut Parts) -> Result<()> {
        let mut converted = vec![
            0.0;
            if matches!(rows, Rows::F32(_)) {
                0
            } else {
                self.k
            }
        ];
        let mut codes = vec![0; self.k];
        for row in 0..rows.len() / self.k {
            let values = values(rows.slice(row * self.k, self.k), &mut converted);
            let groups = values
                .chunks_exact(self.width)
                .zip(codes.chunks_exact_mut(self.width));
            for (group, (values, codes)) in groups.enumerate() {
                let (low, high) = range(values)
                    .ok_or_else(|| not_finite(values, first + row, group * self.width))?;
                let levels = self.levels(low, high).ok_or(WeightFileError::Range {
                    row: first + row,
                    column: group * self.width,
                    range: high - low,
                })?;
                levels.round(values, codes);
                let at = group * PANEL + row;
                if self.half_scales() {
                    let scale = f16::from_f32(levels.scale);
                    out.scales[at * 2..at * 2 + 2].copy_from_slice(&scale.to_le_bytes());
                } else {
                    out.scales[at * 4..at * 4 + 4].copy_from_slice(&levels.scale.to_le_bytes());
                }
                match self.how.grid {
                    Grid::Symmetric => {}
                    Grid::Asymmetric => out.zeros[at] = levels.zero,
                    Grid::Minimum => {
                        let minimum = f16::from_f32(levels.minimum).to_le_bytes();
                        out.zeros[at * 2..at * 2 + 2].copy_from_slice(&minimum);
                    }
                }
            }
            pack_row(&codes, self.how.bits, row, out.codes);
        }
        debug_assert_eq!(
            self.panel,
            self.k.div_ceil(4 * per_byte(self.how.bits)) * 64
        );
        Ok(())
    }

    /// Levels that reach from `low` to `high`; `None` if half precision cannot hold them.
    fn levels(&self, low: f32, high: f32) -> Option<Levels> {
        let bits = self.how.bits;
        let (middle, steps) = (f32::from(bits.middle()), (bits.levels() - 1) as f32);
        let mut levels = match self.how.grid {
            Grid::Symmetric => {
                let (longer, shorter) = (high.max(-low), high.min(-low));
                let scale = self.scale((longer / middle).max(shorter / (middle - 1.0)))?;
                let scale = if high > -low { -scale } else { scale };
                Levels {
                    scale,
                    zero: bits.middle(),
                    below: middle,
                    above: middle - 1.0,
                    ..Levels::default()
                }
            }
            Grid::Asymmetric => {
                let (low, high) = (low.min(0.0), high.max(0.0));
                let scale = self.scale(half_range(low, high) / steps * 2.0)?;
                let zero = if scale > 0.0 {
                    (-low / scale).round_ties_even().min(steps)
                } else {
                    0.0
                };
                Levels {
                    scale,
                    zero: zero as u8,
                    below: zero,
                    above: steps - zero,
                    ..Levels::default()
                }
            }
            Grid::Minimum => {
                let minimum = f16_below(low)?;
                let scale = self.scale(half_range(minimum, high) / steps * 2.0)?;
                Levels {
                    scale,
                    minimum,
                    above: steps,
                    ..Levels::default()
                }
            }
        };
        levels.inverse = if levels.scale == 0.0 {
            0.0
        } else {
            levels.scale.recip()
        };
        Some(levels)
    }

    /// The scale as stored. In half precision it is never below the exact one, so that nothing clips.
    fn scale(&self, exact: f32) -> Option<f32> {
        if !self.half_scales() {
            if exact == 0.0 {
                return Some(0.0);
            }
            // A subnormal scale has no inverse; one rounded up from the largest floats would make
            // the outermost level infinite.
            let scale = exact.max(f32::MIN_POSITIVE);
            let outermost = scale * (self.how.bits.levels() - 1) as f32;
            return Some(if outermost.is_finite() {
                scale
            } else {
                scale.next_down()
            });
        }
        let mut scale = f16::from_f32(exact);
        if scale.to_f32() < exact {
            scale = f16::from_bits(scale.to_bits() + 1);
        }
        Some(scale.to_f32()).filter(|scale| scale.is_finite())
    }
}

/// Half of `high - low`, which cannot overflow.
fn half_range(low: f32, high: f32) -> f32 {
    high * 0.5 - low * 0.5
}

/// Largest half-precision number not above `value`.
fn f16_below(value: f32) -> Option<f32> {
    let mut half = f16::from_f32(value);
    if half.to_f32() > value {
        // One step towards minus infinity: bits count away from zero.
        half = match half.to_bits() {
            0 => f16::from_bits(0x8001),
            bits if bits < 0x8000 => f16::from_bits(bits - 1),
            bits => f16::from_bits(bits + 1),
        };
    }
    Some(half.to_f32()).filter(|value| value.is_finite())
}

/// Levels of one group: code `c` stands for `scale * (c - zero) + minimum`.
#[derive(Default)]
struct Levels {
    scale: f32,
    inverse: f32,
    minimum: f32,
    zero: u8,
    /// Steps below zero.
    below: f32,
    /// Steps above zero.
    above: f32,
}

impl Levels {
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn round(&self, values: &[f32], codes: &mut [u8]) {
        // Adding 1.5 * 2^23 leaves no bits for a fraction: the sum is rounded to the nearest
        // integer, ties to even, and its low byte is that integer in two's complement.
        const MAGIC: f32 = 12_582_912.0;
        for (code, value) in codes.iter_mut().zip(values) {
            let steps = (value - self.minimum) * self.inverse;
            let steps = if steps < -self.below {
                -self.below
            } else {
                steps
            };
            let steps = if steps > self.above {
                self.above
            } else {
                steps
            };
            *code = ((steps + MAGIC).to_bits() as u8).wrapping_add(self.zero);
        }
    }
}

/// Smallest and largest value; `None` if one is not finite.
#[inline(always)]
#[allow(clippy::inline_always)]
fn range(values: &[f32]) -> Option<(f32, f32)> {
    const LANES: usize = 16;
    let first = values[0];
    let (mut low, mut high, mut magnitude) = ([first; LANES], [first; LANES], [0; LANES]);
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    let mut take = |lane: usize, value: f32| {
        low[lane] = if value < low[lane] { value } else { low[lane] };
        high[lane] = if value > high[lane] {
            value
        } else {
            high[lane]
        };
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
    // Infinities and NaN are the largest magnitudes.
    if magnitude
        .iter()
        .any(|&bits| bits >= f32::INFINITY.to_bits())
    {
        return None;
    }
    Some((
        low.into_iter().fold(first, f32::min),
        high.into_iter().fold(first, f32::max),
    ))
}

fn not_finite(values: &[f32], row: usize, column: usize) -> WeightFileError {
    let at = values
        .iter()
        .position(|value| !value.is_finite())
        .unwrap_or_default();
    WeightFileError::NotFinite {
        row,
        column: column + at,
        value: values[at],
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
