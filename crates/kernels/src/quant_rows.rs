//! Activations as signed bytes: what the integer products multiply.

use crate::panel16::groups;
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{LANES, Simd, dispatched};
use crate::vector::abs_max_on;
use crate::{ThreadPool, isa};

/// Values a task quantises: enough to be worth handing to another thread.
const TASK_VALUES: usize = 8 * 1024;

/// Rows of activations quantised per row and group. The buffers are reused from call to call.
#[derive(Debug, Default, Clone)]
pub struct QuantRows {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) group_size: usize,
    /// Bytes of a row: `k` rounded up to 64 so that no step of any width runs past it; zeros beyond `k`.
    pub(crate) stride: usize,
    /// `[m, stride]`, each in `[-127, 127]`.
    pub(crate) codes: Vec<i8>,
    /// `[m, groups]`.
    pub(crate) scales: Vec<f32>,
    /// `[m, groups]`: sums of the codes, which carry the weights' zeros.
    pub(crate) sums: Vec<i32>,
    /// `[m, groups]`: scale times sum, which carries the weights' minima.
    pub(crate) shares: Vec<f32>,
}

impl QuantRows {
    /// Empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows held.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.m
    }

    /// Columns held.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.k
    }

    /// Codes `[m, k rounded up to 64]`, each in `[-127, 127]`, zeros beyond `k`.
    #[must_use]
    pub fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// Scales `[m, groups]`.
    #[must_use]
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Sums of the codes `[m, groups]`.
    #[must_use]
    pub fn sums(&self) -> &[i32] {
        &self.sums
    }

    pub(crate) const fn groups(&self) -> usize {
        groups(self.k, self.group_size)
    }

    /// Replaces the contents by `x`, `[m, k]`: `x ≈ scale * code`, symmetric, the largest magnitude of a
    /// group at 127. `group_size` is that of the weights; 0 is the whole row. A value that is not finite
    /// makes its whole group NaN rather than silently wrong.
    ///
    /// # Panics
    /// If `x.len() != m * k`.
    pub fn quantize(&mut self, x: &[f32], m: usize, k: usize, group_size: usize) {
        assert_eq!(x.len(), m * k, "x is [m, k]");
        self.reset(m, k, group_size);
        let rows = self.shared();
        for row in 0..m {
            // SAFETY: one row at a time.
            unsafe { rows.quantize(row, &x[row * k..(row + 1) * k]) };
        }
    }

    /// [`quantize`](Self::quantize) on all threads, of rows that `fill` computes: a norm or an activation
    /// function is applied on the way, and its result never leaves the cache. `fill(row, values)` must
    /// write all `k` values, which hold anything before.
    pub fn quantize_with<F>(
        &mut self,
        pool: &ThreadPool,
        m: usize,
        k: usize,
        group_size: usize,
        fill: F,
    ) where
        F: Fn(usize, &mut [f32]) + Sync,
    {
        self.reset(m, k, group_size);
        let rows = self.shared();
        let per_task = TASK_VALUES.div_ceil(k.max(1));
        pool.run(m.div_ceil(per_task), |task| {
            let mut scratch = Scratch::take(k * 4);
            let values = &mut scratch.vectors().as_flattened_mut()[..k];
            for row in task * per_task..((task + 1) * per_task).min(m) {
                fill(row, values);
                // SAFETY: tasks have different rows.
                unsafe { rows.quantize(row, values) };
            }
        });
    }

    fn reset(&mut self, m: usize, k: usize, group_size: usize) {
        self.m = m;
        self.k = k;
        self.group_size = group_size;
        self.stride = k.next_multiple_of(64);
        // Every row is written whole, so what earlier calls left need not be cleared.
        self.codes.resize(m * self.stride, 0);
        self.scales.resize(m * self.groups(), 0.0);
        self.sums.resize(m * self.groups(), 0);
        self.shares.resize(m * self.groups(), 0.0);
    }
}

/// The buffers while threads fill them.
struct SharedRows<'a> {
    isa: crate::Isa,
    group_size: usize,
    groups: usize,
    stride: usize,
    codes: SharedOut<'a, i8>,
    scales: SharedOut<'a, f32>,
    sums: SharedOut<'a, i32>,
    shares: SharedOut<'a, f32>,
}

impl QuantRows {
    fn shared(&mut self) -> SharedRows<'_> {
        SharedRows {
            isa: isa(),
            group_size: self.group_size,
            groups: self.groups(),
            stride: self.stride,
            codes: SharedOut::new(&mut self.codes),
            scales: SharedOut::new(&mut self.scales),
            sums: SharedOut::new(&mut self.sums),
            shares: SharedOut::new(&mut self.shares),
        }
    }
}

impl SharedRows<'_> {
    /// # Safety
    /// No other thread quantises `row` meanwhile.
    unsafe fn quantize(&self, row: usize, values: &[f32]) {
        // SAFETY: parts of different rows do not overlap.
        let (codes, scales, sums, shares) = unsafe {
            (
                self.codes.part(row * self.stride, self.stride),
                self.scales.part(row * self.groups, self.groups),
                self.sums.part(row * self.groups, self.groups),
                self.shares.part(row * self.groups, self.groups),
            )
        };
        let (codes, padding) = codes.split_at_mut(values.len());
        padding.fill(0);
        let width = if self.group_size == 0 {
            values.len().max(1)
        } else {
            self.group_size
        };
        quantize_isa(self.isa, values, width, codes, scales, sums);
        for ((share, scale), sum) in shares.iter_mut().zip(scales).zip(sums) {
            *share = *scale * *sum as f32;
        }
    }
}

dispatched!(
    fn quantize_isa(values: &[f32], width: usize, codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) =
        quantize_on
);

#[inline(always)]
fn quantize_on<S: Simd>(
    s: S,
    values: &[f32],
    width: usize,
    codes: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
) {
    let groups = values.chunks(width).zip(codes.chunks_mut(width));
    for ((values, codes), (scale, sum)) in groups.zip(scales.iter_mut().zip(sums)) {
        let largest = abs_max_on(s, values);
        // 127 / largest overflows for subnormal groups, which are as good as zero.
        let inverse = if largest >= f32::MIN_POSITIVE {
            127.0 / largest
        } else {
            0.0
        };
        if largest.is_finite() {
            *scale = largest / 127.0;
            *sum = quantize_group(s, values, inverse, codes);
        } else {
            *scale = f32::NAN;
            *sum = 0;
            codes.fill(0);
        }
    }
}

/// Writes the codes and returns their sum.
#[inline(always)]
fn quantize_group<S: Simd>(s: S, values: &[f32], inverse: f32, codes: &mut [i8]) -> i32 {
    let inverse = s.splat(inverse);
    let mut sum = s.splat_i32(0);
    let (whole, rest) = values.as_chunks::<LANES>();
    let (whole_codes, rest_codes) = codes.as_chunks_mut::<LANES>();
    for (values, codes) in whole.iter().zip(whole_codes) {
        let code = s.to_i32(s.mul(s.load(values), inverse));
        sum = s.add_i32(sum, code);
        s.store_i8(code, codes);
    }
    if !rest.is_empty() {
        let code = s.to_i32(s.mul(s.load_part(rest), inverse));
        sum = s.add_i32(sum, code);
        let mut last = [0; LANES];
        s.store_i8(code, &mut last);
        rest_codes.copy_from_slice(&last[..rest_codes.len()]);
    }
    s.sum_i32(sum)
}
