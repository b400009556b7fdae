//! Stored tensors back to floats.

use half::{bf16, f16};

use crate::pack::{PANEL, panel_len, unpack_row, unpack_row_major};
use crate::parallel;
use crate::tensor::{Dtype, Layout, QuantTensor, Scales, Tensor, TensorData, Zero};

/// Weights of one job.
const JOB_WEIGHTS: usize = 1 << 16;

impl Tensor {
    /// The weights in single precision, row-major, on all cores.
    #[must_use]
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.num_params()];
        self.dequantize_into(&mut out);
        out
    }

    /// As [`Tensor::dequantize`], into `out` of `num_params` elements.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn dequantize_into(&self, out: &mut [f32]) {
        assert_eq!(
            out.len(),
            self.num_params(),
            "out must have the tensor's elements"
        );
        let (_, k) = self.matrix();
        if out.is_empty() {
            return;
        }
        let rows = (JOB_WEIGHTS / k).max(1);
        let jobs = out.chunks_mut(rows * k).enumerate();
        let threads = parallel::threads(self.num_params());
        let done: std::result::Result<(), std::convert::Infallible> =
            parallel::try_each(jobs, threads, |(job, out)| {
                let first = job * rows;
                match &self.data {
                    TensorData::Plain { dtype, data } => {
                        let size = dtype.size_bytes();
                        plain(*dtype, &data[first * k * size..][..out.len() * size], out);
                    }
                    TensorData::Quant(quant) => quant.rows(first, k, out),
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
        let mut codes = vec![0; n * k];
        for (row, codes) in codes.chunks_exact_mut(k.max(1)).enumerate() {
            quant.codes_of(row, codes);
        }
        Some(codes)
    }
}

impl QuantTensor {
    /// Dequantises the rows from `first` on that fill `out`.
    fn rows(&self, first: usize, k: usize, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has the feature the function is compiled for.
            return unsafe { self.rows_avx2(first, k, out) };
        }
        self.rows_portable(first, k, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn rows_avx2(&self, first: usize, k: usize, out: &mut [f32]) {
        self.rows_portable(first, k, out);
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // Must be compiled into each of its callers.
    fn rows_portable(&self, first: usize, k: usize, out: &mut [f32]) {
        let width = if self.group_size == 0 {
            k
        } else {
            self.group_size
        };
        let mut codes = vec![0; k];
        for (row, out) in (first..).zip(out.chunks_exact_mut(k)) {
            self.codes_of(row, &mut codes);
            for (group, (codes, out)) in codes.chunks(width).zip(out.chunks_mut(width)).enumerate()
            {
                let at = self.group_index(row, group, self.groups(k));
                let scale = self.scales.get(at);
                match &self.zero {
                    Zero::MinF16(minimums) => {
                        let minimum = f16_at(minimums, at);
                        for (out, &code) in out.iter_mut().zip(codes) {
                            *out = scale * f32::from(code) + minimum;
                        }
                    }
                    zero => {
                        let zero = match zero {
                            Zero::U8(zeros) => i32::from(zeros[at]),
                            _ => i32::from(self.bits.middle()),
                        };
                        for (out, &code) in out.iter_mut().zip(codes) {
                            *out = scale * (i32::from(code) - zero) as f32;
                        }
                    }
                }
            }
        }
    }

    #[inline]
    fn codes_of(&self, row: usize, codes: &mut [u8]) {
        match self.layout {
            Layout::RowMajor => unpack_row_major(&self.codes, self.bits, row, codes),
            Layout::Panel16 => {
                let len = panel_len(codes.len(), self.bits);
                unpack_row(
                    &self.codes[row / PANEL * len..][..len],
                    self.bits,
                    row % PANEL,
                    codes,
                );
            }
        }
    }

    /// Index of a group's scale.
    #[inline]
    const fn group_index(&self, row: usize, group: usize, groups: usize) -> usize {
        match self.layout {
            Layout::RowMajor => row * groups + group,
            Layout::Panel16 => (row / PANEL * groups + group) * PANEL + row % PANEL,
        }
    }
}

impl Scales {
    #[inline]
    fn get(&self, at: usize) -> f32 {
        match self {
            Self::F16(bytes) => f16_at(bytes, at),
            Self::F32(bytes) => f32::from_le_bytes([
                bytes[at * 4],
                bytes[at * 4 + 1],
                bytes[at * 4 + 2],
                bytes[at * 4 + 3],
            ]),
        }
    }
}

#[inline]
fn f16_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]]).to_f32()
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
