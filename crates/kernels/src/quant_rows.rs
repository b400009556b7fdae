//! Activations as signed bytes: what the integer products multiply.

use crate::panel16::groups;
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{LANES, Simd, dispatched};
use crate::vector::abs_max_on;
use crate::{ThreadPool, isa};

/// Values a task quantises: enough to be worth handing to another thread.
const TASK_VALUES: usize = 8 * 1024;

/// A group has a second term if its squared scale is above this many times the mean of the row's: the few
/// groups with the outliers of a transformer's hidden states, where one step costs the neighbours most.
const FINE_ABOVE: f32 = 2.0;
/// Steps of the second term in one of the first: half a step is 127 of them.
const FINE_STEPS: f32 = 254.0;

/// How many terms stand for a group of activations.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Terms {
    /// `scale * code`.
    #[default]
    One,
    /// Residual quantisation, `scale * code + scale / 254 * fine code`, in the groups whose steps are large
    /// beside the others of their row.
    ResidualWhereCoarse,
}

/// Rows of activations quantised per row and group. The buffers are reused from call to call.
#[derive(Debug, Default, Clone)]
pub struct QuantRows {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) group_size: usize,
    /// Bytes of a row: `k` rounded up to 64 so that no step of any width runs past it; zeros beyond `k`.
    pub(crate) stride: usize,
    /// Words of a row in `fine_groups`; none if no group has a second term.
    pub(crate) words: usize,
    /// The first term of every group.
    pub(crate) coarse: Term,
    /// The second, if there is one; where a group has none its scale and sum are 0, its codes anything.
    pub(crate) fine: Term,
    /// `[m, words]`, a bit for each group: those that have a second term.
    pub(crate) fine_groups: Vec<u64>,
    /// `[m, groups]`: scales times sums of both terms, which carry the weights' minima.
    pub(crate) shares: Vec<f32>,
}

/// One term of the activations.
#[derive(Debug, Default, Clone)]
pub(crate) struct Term {
    /// `[m, stride]`, each in `[-127, 127]`.
    pub(crate) codes: Vec<i8>,
    /// `[m, groups]`.
    pub(crate) scales: Vec<f32>,
    /// `[m, groups]`: sums of the codes, which carry the weights' zeros.
    pub(crate) sums: Vec<i32>,
}

impl Term {
    fn resize(&mut self, codes: usize, groups: usize) {
        // What a row keeps of earlier calls is overwritten, or has a scale of 0.
        self.codes.resize(codes, 0);
        self.scales.resize(groups, 0.0);
        self.sums.resize(groups, 0);
    }
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

    /// The number that stands for column `column` of row `row`.
    ///
    /// # Panics
    /// If there is no such row or column.
    #[must_use]
    pub fn value(&self, row: usize, column: usize) -> f32 {
        assert!(row < self.m && column < self.k, "a cell of [m, k]");
        let group = column.checked_div(self.group_size).unwrap_or(0);
        let term = |term: &Term| {
            let scale = term.scales[row * self.groups() + group];
            scale * f32::from(term.codes[row * self.stride + column])
        };
        if self.words == 0 {
            term(&self.coarse)
        } else {
            term(&self.coarse) + term(&self.fine)
        }
    }

    pub(crate) const fn groups(&self) -> usize {
        groups(self.k, self.group_size)
    }

    /// Word `word` of the groups in which any of the `rows` rows from `row` has a second term.
    #[inline(always)]
    pub(crate) fn fine_word(&self, row: usize, rows: usize, word: usize) -> u64 {
        let mut any = 0;
        for row in row..row + rows {
            any |= self.fine_groups[row * self.words + word];
        }
        any
    }

    /// Replaces the contents by `x`, `[m, k]`: symmetric, the largest magnitude of a group at 127.
    /// `group_size` is that of the weights; 0 is the whole row, which never has a second term. A value that
    /// is not finite makes its whole group NaN rather than silently wrong.
    ///
    /// # Panics
    /// If `x.len() != m * k`.
    pub fn quantize(&mut self, x: &[f32], m: usize, k: usize, group_size: usize, terms: Terms) {
        assert_eq!(x.len(), m * k, "x is [m, k]");
        self.reset(m, k, group_size, terms);
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
        (m, k): (usize, usize),
        group_size: usize,
        terms: Terms,
        fill: F,
    ) where
        F: Fn(usize, &mut [f32]) + Sync,
    {
        self.reset(m, k, group_size, terms);
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

    fn reset(&mut self, m: usize, k: usize, group_size: usize, terms: Terms) {
        self.m = m;
        self.k = k;
        self.group_size = group_size;
        self.stride = k.next_multiple_of(64);
        let groups = m * self.groups();
        self.coarse.resize(m * self.stride, groups);
        self.words = match terms {
            Terms::One => 0,
            Terms::ResidualWhereCoarse => {
                self.fine.resize(m * self.stride, groups);
                self.groups().div_ceil(64)
            }
        };
        self.fine_groups.resize(m * self.words, 0);
        self.shares.resize(groups, 0.0);
    }
}

/// The buffers while threads fill them.
struct SharedRows<'a> {
    isa: crate::Isa,
    group_size: usize,
    groups: usize,
    words: usize,
    stride: usize,
    coarse: SharedTerm<'a>,
    fine: SharedTerm<'a>,
    fine_groups: SharedOut<'a, u64>,
    shares: SharedOut<'a, f32>,
}

struct SharedTerm<'a> {
    codes: SharedOut<'a, i8>,
    scales: SharedOut<'a, f32>,
    sums: SharedOut<'a, i32>,
}

/// One row of a term.
struct TermRow<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
}

impl<'a> SharedTerm<'a> {
    fn new(term: &'a mut Term) -> Self {
        Self {
            codes: SharedOut::new(&mut term.codes),
            scales: SharedOut::new(&mut term.scales),
            sums: SharedOut::new(&mut term.sums),
        }
    }

    /// Row `row` without the padding beyond its `columns` codes, which becomes zeros.
    ///
    /// # Safety
    /// No other thread has `row` meanwhile.
    unsafe fn row(&self, row: usize, shape: &SharedRows<'_>, columns: usize) -> TermRow<'_> {
        let groups = shape.groups;
        // SAFETY: parts of different rows do not overlap.
        let (codes, scales, sums) = unsafe {
            (
                self.codes.part(row * shape.stride, shape.stride),
                self.scales.part(row * groups, groups),
                self.sums.part(row * groups, groups),
            )
        };
        let (codes, padding) = codes.split_at_mut(columns);
        padding.fill(0);
        TermRow {
            codes,
            scales,
            sums,
        }
    }
}

impl QuantRows {
    fn shared(&mut self) -> SharedRows<'_> {
        SharedRows {
            isa: isa(),
            group_size: self.group_size,
            groups: self.groups(),
            words: self.words,
            stride: self.stride,
            coarse: SharedTerm::new(&mut self.coarse),
            fine: SharedTerm::new(&mut self.fine),
            fine_groups: SharedOut::new(&mut self.fine_groups),
            shares: SharedOut::new(&mut self.shares),
        }
    }
}

impl SharedRows<'_> {
    /// # Safety
    /// No other thread quantises `row` meanwhile.
    unsafe fn quantize(&self, row: usize, values: &[f32]) {
        // SAFETY: parts of different rows do not overlap.
        let (mut coarse, shares) = unsafe {
            (
                self.coarse.row(row, self, values.len()),
                self.shares.part(row * self.groups, self.groups),
            )
        };
        let width = if self.group_size == 0 {
            values.len().max(1)
        } else {
            self.group_size
        };
        quantize_isa(self.isa, values, width, &mut coarse);
        shares.fill(0.0);
        add_shares(&coarse, shares);
        if self.words == 0 {
            return;
        }
        // SAFETY: as above.
        let (mut fine, chosen) = unsafe {
            (
                self.fine.row(row, self, values.len()),
                self.fine_groups.part(row * self.words, self.words),
            )
        };
        choose_fine(coarse.scales, chosen);
        refine_isa(self.isa, values, width, chosen, &coarse, &mut fine);
        add_shares(&fine, shares);
    }
}

/// `shares += scale · sum`.
fn add_shares(term: &TermRow<'_>, shares: &mut [f32]) {
    for ((share, scale), sum) in shares.iter_mut().zip(&*term.scales).zip(&*term.sums) {
        *share += *scale * *sum as f32;
    }
}

/// Sets the bits of the groups that get a second term. A scale that is NaN chooses none of its row.
fn choose_fine(scales: &[f32], chosen: &mut [u64]) {
    let squares: f32 = scales.iter().map(|scale| scale * scale).sum();
    let limit = FINE_ABOVE * squares / scales.len() as f32;
    for (word, scales) in chosen.iter_mut().zip(scales.chunks(64)) {
        *word = 0;
        for (bit, scale) in scales.iter().enumerate() {
            *word |= u64::from(scale * scale > limit) << bit;
        }
    }
}

dispatched!(fn quantize_isa(values: &[f32], width: usize, coarse: &mut TermRow<'_>) = quantize_on);
dispatched!(
    fn refine_isa(values: &[f32], width: usize, chosen: &[u64], coarse: &TermRow<'_>, fine: &mut TermRow<'_>) =
        refine_on
);

#[inline(always)]
fn quantize_on<S: Simd>(s: S, values: &[f32], width: usize, coarse: &mut TermRow<'_>) {
    let groups = values.chunks(width).zip(coarse.codes.chunks_mut(width));
    let numbers = coarse.scales.iter_mut().zip(coarse.sums.iter_mut());
    for ((values, codes), (scale, sum)) in groups.zip(numbers) {
        let largest = abs_max_on(s, values);
        if largest.is_finite() {
            *scale = largest / 127.0;
            *sum = round_group::<S, false>(s, values, inverse(largest), codes);
        } else {
            *scale = f32::NAN;
            *sum = 0;
            codes.fill(0);
        }
    }
}

/// Steps in one; 0 for subnormal groups, which are as good as zero and whose inverse overflows.
#[inline(always)]
fn inverse(largest: f32) -> f32 {
    if largest >= f32::MIN_POSITIVE {
        127.0 / largest
    } else {
        0.0
    }
}

/// Writes the second term of the chosen groups.
#[inline(always)]
fn refine_on<S: Simd>(
    s: S,
    values: &[f32],
    width: usize,
    chosen: &[u64],
    coarse: &TermRow<'_>,
    fine: &mut TermRow<'_>,
) {
    fine.scales.fill(0.0);
    fine.sums.fill(0);
    for (word, &chosen) in chosen.iter().enumerate() {
        let mut left = chosen;
        while left != 0 {
            let group = word * 64 + left.trailing_zeros() as usize;
            left &= left - 1;
            let columns = group * width..((group + 1) * width).min(values.len());
            let values = &values[columns.clone()];
            let inverse = inverse(abs_max_on(s, values));
            fine.scales[group] = coarse.scales[group] / FINE_STEPS;
            fine.sums[group] = round_group::<S, true>(s, values, inverse, &mut fine.codes[columns]);
        }
    }
}

/// Writes the codes of a group, of what the first term leaves if `FINE`, and returns their sum.
#[inline(always)]
fn round_group<S: Simd, const FINE: bool>(
    s: S,
    values: &[f32],
    inverse: f32,
    codes: &mut [i8],
) -> i32 {
    let inverse = s.splat(inverse);
    let mut sum = s.splat_i32(0);
    macro_rules! code {
        ($values:expr) => {{
            let steps = s.mul($values, inverse);
            let code = s.to_i32(if FINE {
                s.mul(s.sub(steps, s.round(steps)), s.splat(FINE_STEPS))
            } else {
                steps
            });
            sum = s.add_i32(sum, code);
            code
        }};
    }
    let (whole, rest) = values.as_chunks::<LANES>();
    let (whole_codes, rest_codes) = codes.as_chunks_mut::<LANES>();
    for (values, codes) in whole.iter().zip(whole_codes) {
        s.store_i8(code!(s.load(values)), codes);
    }
    if !rest.is_empty() {
        let mut last = [0; LANES];
        s.store_i8(code!(s.load_part(rest)), &mut last);
        rest_codes.copy_from_slice(&last[..rest_codes.len()]);
    }
    s.sum_i32(sum)
}
