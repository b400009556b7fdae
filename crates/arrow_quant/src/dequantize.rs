//! Stored tensors back to floats.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::levels::Lanes;
use crate::pack::{PANEL, code_stride, panel_len, unpack_panel, unpack_panel16, unpack_row_major};
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
        let (_, k) = self.matrix();
        if out.is_empty() {
            return;
        }
        let streamed = memory == Memory::Reused && out.len() >= STREAM_WEIGHTS;
        // Whole panels.
        let rows = (JOB_WEIGHTS / k).next_multiple_of(PANEL).max(PANEL);
        let jobs = out.chunks_mut(rows * k).enumerate();
        let threads = parallel::threads(self.num_params());
        let scratch = || Scratch::new(self, k, streamed);
        let done: std::result::Result<(), std::convert::Infallible> =
            parallel::try_each(jobs, threads, scratch, |scratch, (job, out)| {
                let first = job * rows;
                match &self.data {
                    TensorData::Plain { dtype, data } => {
                        let size = dtype.size_bytes();
                        plain(*dtype, &data[first * k * size..][..out.len() * size], out);
                    }
                    TensorData::Quant(quant) => {
                        for (i, out) in out.chunks_mut(PANEL * k).enumerate() {
                            quant.panel(scratch, first + i * PANEL, k, out);
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
    /// Rows of codes, one a byte, `code_stride` apart.
    codes: Vec<u8>,
    /// Scales and offsets `[groups, 16]`.
    scales: Vec<Lanes>,
    offsets: Vec<Lanes>,
    /// A row on its way past the cache; empty where rows go straight to their place.
    row: Vec<f32>,
}

impl Scratch {
    fn new(tensor: &Tensor, k: usize, streamed: bool) -> Self {
        let TensorData::Quant(quant) = &tensor.data else {
            return Self {
                codes: Vec::new(),
                scales: Vec::new(),
                offsets: Vec::new(),
                row: Vec::new(),
            };
        };
        let groups = vec![[0.0; PANEL]; quant.groups(k)];
        Self {
            codes: vec![0; PANEL * code_stride(k)],
            scales: groups.clone(),
            offsets: groups,
            row: vec![0.0; if streamed { k } else { 0 }],
        }
    }
}

impl QuantTensor {
    /// Dequantises the rows from `first` on, a multiple of 16, that fill `out`: at most 16.
    fn panel(&self, scratch: &mut Scratch, first: usize, k: usize, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512bw") {
                // SAFETY: the CPU has the feature the function is compiled for.
                return unsafe { self.panel_avx512(scratch, first, k, out) };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: as above.
                return unsafe { self.panel_avx2(scratch, first, k, out) };
            }
        }
        self.panel_portable(scratch, first, k, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    fn panel_avx512(&self, scratch: &mut Scratch, first: usize, k: usize, out: &mut [f32]) {
        self.panel_portable(scratch, first, k, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn panel_avx2(&self, scratch: &mut Scratch, first: usize, k: usize, out: &mut [f32]) {
        self.panel_portable(scratch, first, k, out);
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // Must be compiled into each of its callers.
    fn panel_portable(&self, scratch: &mut Scratch, first: usize, k: usize, out: &mut [f32]) {
        let count = out.len() / k;
        self.unpack(&mut scratch.codes, first, count, k);
        self.load_scales(scratch, first, count);
        let stride = code_stride(k);
        let rows = out
            .chunks_exact_mut(k)
            .zip(scratch.codes.chunks_exact(stride));
        for (row, (out, codes)) in rows.enumerate() {
            let codes = &codes[..k];
            if scratch.row.is_empty() {
                self.row(codes, &scratch.scales, &scratch.offsets, row, out);
            } else {
                self.row(
                    codes,
                    &scratch.scales,
                    &scratch.offsets,
                    row,
                    &mut scratch.row,
                );
                stream::copy(&scratch.row, out);
            }
        }
    }

    /// Unpacks the codes of `count` rows.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn unpack(&self, codes: &mut [u8], first: usize, count: usize, k: usize) {
        match self.layout {
            Layout::Panel16 => {
                let len = panel_len(k, self.bits);
                unpack_panel(&self.codes[first / PANEL * len..][..len], self.bits, codes);
            }
            Layout::RowMajor => {
                let rows = codes.chunks_exact_mut(code_stride(k));
                for (row, codes) in (first..first + count).zip(rows) {
                    unpack_row_major(&self.codes, self.bits, row, &mut codes[..k]);
                }
            }
        }
    }

    /// Reads the scales and zeros of `count` rows.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn load_scales(&self, scratch: &mut Scratch, first: usize, count: usize) {
        let groups = scratch.scales.len();
        let lanes = scratch.scales.iter_mut().zip(&mut scratch.offsets);
        for (group, (scales, offsets)) in lanes.enumerate() {
            // The places of a group's values: side by side in panels, a row apart in rows.
            let (start, step) = match self.layout {
                Layout::Panel16 => (first * groups + group * PANEL, 1),
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

    /// Dequantises one row of codes with the scales of lane `lane`.
    #[inline(always)]
    #[allow(clippy::inline_always)]
    fn row(&self, codes: &[u8], scales: &[Lanes], offsets: &[Lanes], lane: usize, out: &mut [f32]) {
        let width = if self.group_size == 0 {
            codes.len()
        } else {
            self.group_size
        };
        let lanes = scales
            .iter()
            .zip(offsets)
            .map(|(scales, offsets)| (scales[lane], offsets[lane]));
        let groups = codes.chunks(width).zip(out.chunks_mut(width)).zip(lanes);
        if matches!(self.zero, Zero::MinF16(_)) {
            for ((codes, out), (scale, minimum)) in groups {
                each(codes, out, |code| scale * code + minimum);
            }
        } else {
            for ((codes, out), (scale, zero)) in groups {
                each(codes, out, |code| scale * (code - zero));
            }
        }
    }
}

/// Writes `value` of every code.
#[inline(always)]
#[allow(clippy::inline_always)]
fn each(codes: &[u8], out: &mut [f32], value: impl Fn(f32) -> f32) {
    // Arrays of a fixed length become single instructions.
    let (codes, codes_rest) = codes.as_chunks::<PANEL>();
    let (out, out_rest) = out.as_chunks_mut::<PANEL>();
    for (out, codes) in out.iter_mut().zip(codes) {
        *out = codes.map(|code| value(f32::from(code)));
    }
    for (out, &code) in out_rest.iter_mut().zip(codes_rest) {
        *out = value(f32::from(code));
    }
}

/// Reads the half-precision numbers at `places`.
#[inline(always)]
#[allow(clippy::inline_always)]
fn halves(bytes: &[u8], places: impl Iterator<Item = usize>, out: &mut Lanes) {
    let mut bits = [0; PANEL];
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
    use super::*;
    use crate::{Bits, Grid, Quantization, Rows, quantize};

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
            (Bits::Int8, 0, Grid::Symmetric),
            (Bits::Int4, 32, Grid::Asymmetric),
            (Bits::Int2, 32, Grid::Minimum),
        ] {
            let how = Quantization {
                bits,
                group_size,
                grid,
            };
            let quant = quantize(Rows::F32(&weights), n, k, how, |_| true).unwrap();
            let data = TensorData::Quant(quant.clone());
            let tensor = Tensor::new("w", vec![n, k], data).unwrap();
            let mut portable = vec![0.0; n * k];
            let mut scratch = Scratch::new(&tensor, k, false);
            for (i, out) in portable.chunks_mut(PANEL * k).enumerate() {
                quant.panel_portable(&mut scratch, i * PANEL, k, out);
            }
            assert_eq!(tensor.dequantize(), portable);
            let mut reused = vec![1.0; n * k + 1];
            tensor.dequantize_into(&mut reused[1..], Memory::Reused);
            assert_eq!(reused[1..], portable);
        }
    }
}
