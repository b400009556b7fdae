//! Stored tensors back to floats.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use kernels::{PANEL_ROWS, PanelLevels, dequantize_panel, unpack_panel16};

use crate::levels::Lanes;
use crate::pack::unpack_row_major;
use crate::tensor::{Dtype, Layout, QuantTensor, Scales, Tensor, TensorData, Zero};
use crate::{parallel, stream};

/// Weights of one job.
const JOB_WEIGHTS: usize = 1 << 16;
/// Fewer weights than this stay in the cache for whoever reads them next.
const STREAM_WEIGHTS: usize = 1 << 22;

/// What [`Tensor::dequantize_into`] writes to. The values are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Not touched before.
    New,
    /// Used before: much of it is written without passing through the cache.
    Reused,
}

impl Tensor {
    /// The weights in single precision, row-major, on all cores.
    #[must_use]
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.num_params()];
        self.dequantize_into(&mut out, Memory::New);
        out
    }

    /// As [`Tensor::dequantize`], into `out` of `num_params` elements.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn dequantize_into(&self, out: &mut [f32], memory: Memory) {
        assert_eq!(
            out.len(),
            self.num_params(),
            "out must have the tensor's elements"
        );
        self.dequantize_rows(0, out, memory);
    }

    /// As [`Tensor::dequantize_into`], of the rows from `start` that fill `out`.
    ///
    /// # Panics
    /// If `start` is no multiple of 16, or `out` is no whole rows that there are.
    pub fn dequantize_rows(&self, start: usize, out: &mut [f32], memory: Memory) {
        let (n, k) = self.matrix();
        if out.is_empty() {
            return;
        }
        assert!(
            start.is_multiple_of(PANEL_ROWS) && out.len().is_multiple_of(k),
            "whole rows, from a panel's first"
        );
        assert!(start + out.len() / k <= n, "rows of the tensor");
        let streamed = memory == Memory::Reused && out.len() >= STREAM_WEIGHTS;
        // Whole panels.
        let rows = (JOB_WEIGHTS / k)
            .next_multiple_of(PANEL_ROWS)
            .max(PANEL_ROWS);
        let threads = parallel::threads(out.len());
        let jobs = out.chunks_mut(rows * k).enumerate();
        let scratch = || Scratch::new(self, k, streamed);
        let done: std::result::Result<(), std::convert::Infallible> =
            parallel::try_each(jobs, threads, scratch, |scratch, (job, out)| {
                let first = start + job * rows;
                match &self.data {
                    TensorData::Plain { dtype, data } => {
                        let size = dtype.size_bytes();
                        plain(*dtype, &data[first * k * size..][..out.len() * size], out);
                    }
                    TensorData::Quant(quant) => {
                        for (i, out) in out.chunks_mut(PANEL_ROWS * k).enumerate() {
                            quant.panel(scratch, first + i * PANEL_ROWS, k, out);
                        }
                    }
                }
                Ok(())
            });
        let Ok(()) = done;
    }

    /// The codes, row-major, one a byte; `None` for a plain tensor.
    #[must_use]
    pub fn codes(&self) -> Option<Vec<u8>> {
        let TensorData::Quant(quant) = &self.data else {
            return None;
        };
        let (n, k) = self.matrix();
        if quant.layout == Layout::Panel16 {
            return Some(unpack_panel16(&quant.codes, n, k, quant.bits));
        }
        let mut codes = vec![0; n * k];
        for (row, codes) in codes.chunks_exact_mut(k.max(1)).enumerate() {
            unpack_row_major(&quant.codes, quant.bits, row, codes);
        }
        Some(codes)
    }
}

/// What a thread needs for one panel after the other.
struct Scratch {
    /// Scales and offsets `[groups, 16]`.
    scales: Vec<Lanes>,
    offsets: Vec<Lanes>,
    /// Codes of a row of row-major order, one a byte; empty for panels.
    codes: Vec<u8>,
    /// A panel's weights on their way past the cache; empty where they go straight to their place.
    weights: Vec<f32>,
}

impl Scratch {
    fn new(tensor: &Tensor, k: usize, streamed: bool) -> Self {
        let (groups, codes) = match &tensor.data {
            TensorData::Plain { .. } => (0, 0),
            TensorData::Quant(quant) => match quant.layout {
                Layout::Panel16 => (quant.groups(k), 0),
                Layout::RowMajor => (quant.groups(k), k),
            },
        };
        Self {
            scales: vec![[0.0; PANEL_ROWS]; groups],
            offsets: vec![[0.0; PANEL_ROWS]; groups],
            codes: vec![0; codes],
            weights: vec![0.0; if streamed { PANEL_ROWS * k } else { 0 }],
        }
    }
}

impl QuantTensor {
    /// Dequantises the rows from `first` on, a multiple of 16, that fill `out`: at most 16.
    fn panel(&self, scratch: &mut Scratch, first: usize, k: usize, out: &mut [f32]) {
        let count = out.len() / k;
        self.load_scales(scratch, first, count);
        let width = if self.group_size == 0 {
            k
        } else {
            self.group_size
        };
        let levels = PanelLevels {
            scale: &scratch.scales,
            offset: &scratch.offsets,
            is_minimum: matches!(self.zero, Zero::MinF16(_)),
        };
        if self.layout == Layout::RowMajor {
            for (row, out) in out.chunks_exact_mut(k).enumerate() {
                unpack_row_major(&self.codes, self.bits, first + row, &mut scratch.codes);
                dequantize_row(&scratch.codes, width, levels, row, out);
            }
            return;
        }
        let len = self.bits.panel_bytes(k);
        let codes = &self.codes[first / PANEL_ROWS * len..][..len];
        if scratch.weights.is_empty() {
            dequantize_panel(codes, k, width, levels, self.bits, out);
        } else {
            let weights = &mut scratch.weights[..out.len()];
            dequantize_panel(codes, k, width, levels, self.bits, weights);
            stream::copy(weights, out);
        }
    }

    /// Reads the scales and zeros of `count` rows.
    fn load_scales(&self, scratch: &mut Scratch, first: usize, count: usize) {
        let groups = scratch.scales.len();
        let lanes = scratch.scales.iter_mut().zip(&mut scratch.offsets);
        for (group, (scales, offsets)) in lanes.enumerate() {
            // The places of a group's values: side by side in panels, a row apart in rows.
            let (start, step) = match self.layout {
                Layout::Panel16 => (first * groups + group * PANEL_ROWS, 1),
                Layout::RowMajor => (first * groups + group, groups),
            };
            let places = || (start..).step_by(step).take(count);
            match &self.scales {
                Scales::F16(bytes) => halves(bytes, places(), scales),
                Scales::F32(bytes) => {
                    for (scale, at) in scales.iter_mut().zip(places()) {
                        let at = at * 4;
                        *scale = f32::from_le_bytes([
                            bytes[at],
                            bytes[at + 1],
                            bytes[at + 2],
                            bytes[at + 3],
                        ]);
                    }
                }
            }
            match &self.zero {
                Zero::Middle => offsets.fill(f32::from(self.bits.middle())),
                Zero::U8(bytes) => {
                    for (zero, at) in offsets.iter_mut().zip(places()) {
                        *zero = f32::from(bytes[at]);
                    }
                }
                Zero::MinF16(bytes) => halves(bytes, places(), offsets),
            }
        }
    }
}

/// Dequantises the codes of one row, as [`dequantize_panel`] does those of sixteen.
fn dequantize_row(
    codes: &[u8],
    width: usize,
    levels: PanelLevels<'_>,
    row: usize,
    out: &mut [f32],
) {
    let groups = codes.chunks(width).zip(out.chunks_mut(width));
    for ((codes, out), (scale, offset)) in groups.zip(levels.scale.iter().zip(levels.offset)) {
        let (scale, offset) = (scale[row], offset[row]);
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = if levels.is_minimum {
                scale * f32::from(code) + offset
            } else {
                scale * (f32::from(code) - offset)
            };
        }
    }
}

/// Reads the half-precision numbers at `places`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn halves(bytes: &[u8], places: impl Iterator<Item = usize>, out: &mut Lanes) {
    let mut bits = [0; PANEL_ROWS];
    for (bits, at) in bits.iter_mut().zip(places) {
        *bits = u16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]]);
    }
    bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
}

fn plain(dtype: Dtype, data: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (out, bytes) in out.iter_mut().zip(data.chunks_exact(4)) {
                *out = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
        Dtype::F16 => {
            for (out, bytes) in out.iter_mut().zip(data.chunks_exact(2)) {
                *out = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
        Dtype::Bf16 => {
            for (out, bytes) in out.iter_mut().zip(data.chunks_exact(2)) {
                *out = bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // Exactness is the promise.
mod tests {
    use kernels::Isa;

    use super::*;
    use crate::{CodeBits, Grid, PlainRows, Quantization, quantize};

    #[test]
    fn every_instruction_set_and_memory_gives_the_same_values() {
        let (n, k) = (2064, 2080);
        let weights: Vec<f32> = (0..n * k)
            .map(|i| (i * 7919 % 1009) as f32 - 504.0)
            .collect();
        assert!(
            weights.len() >= STREAM_WEIGHTS,
            "large enough to be streamed"
        );
        for (bits, group_size, grid) in [
            (CodeBits::Int8, 0, Grid::Symmetric),
            (CodeBits::Int4, 32, Grid::Asymmetric),
            (CodeBits::Int2, 32, Grid::Minimum),
        ] {
            let how = Quantization {
                bits,
                group_size,
                grid,
            };
            let quant = quantize(PlainRows::F32(&weights), n, k, how, |_| true).unwrap();
            let data = TensorData::Quant(quant.clone());
            let tensor = Tensor::new("w", vec![n, k], data).unwrap();
            let portable = Isa::Scalar.scope(|| tensor.dequantize());
            for isa in Isa::available() {
                assert_eq!(isa.scope(|| tensor.dequantize()), portable, "{isa} {how:?}");
            }
            let rows = TensorData::Quant(quant.row_major(n, k));
            let rows = Tensor::new("w", vec![n, k], rows).unwrap();
            assert_eq!(rows.dequantize(), portable, "row by row {how:?}");
            let mut reused = vec![1.0; n * k + 1];
            tensor.dequantize_into(&mut reused[1..], Memory::Reused);
            assert_eq!(reused[1..], portable);
        }
    }
}
