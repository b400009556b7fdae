//! Products of quantised activations and quantised weights.
//!
//! Narrow codes are first unpacked, a panel or two at a time, to steps of eight bits that stay in cache
//! while all rows pass; one tile kernel then serves every width. A single row unpacks in registers instead:
//! it reads each weight once and runs at the speed of memory.

use std::ops::Range;

use crate::onto::Onto;
use crate::panel16::{PANEL_ROWS, STEP_BYTES};
use crate::plan::Plan;
use crate::quant_rows::Term;
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{Simd, dispatched, prefetch};
use crate::tile::lanes;
use crate::{CodeBits, GroupScales, GroupZero, Isa, QuantPanels, QuantRows, ThreadPool, isa};

/// How far ahead of a single row its weights are asked for, in steps: the processor's own prefetching ends
/// with every page of 4 KiB.
const PREFETCH_STEPS: usize = 160;

/// A product of rows of activations and weights as stored: `out[rows, n] = x[rows, k] · wᵀ`, onto what there is.
///
/// `y = Σ_g sx_g · (sw_g · (Σ code·act − zero_g·Σ act))`, or `+ sx_g · min_g · Σ act` for weights with a
/// minimum, then the same for the second terms of the activations. The integer sums are exact and the groups
/// are added in ascending order with fused multiply-adds, so the result depends neither on the CPU, nor on
/// the number of rows, nor on the number of threads, nor on what is computed beside it.
#[derive(Debug)]
pub struct QuantProduct<'a> {
    x: &'a QuantRows,
    /// The rows of `x`.
    rows: Range<usize>,
    w: QuantPanels<'a>,
    /// Groups of a row, kept because they cost a division.
    groups: usize,
    onto: Onto<'a>,
    /// A task writes the cells of its rows and panels, and nobody else does.
    out: SharedOut<'a, f32>,
}

impl<'a> QuantProduct<'a> {
    /// The product of `rows` of `x`.
    ///
    /// # Panics
    /// If the shapes of `x`, `w`, what it goes onto and `out` disagree, or [`QuantPanels::check`] fails.
    pub fn new(
        x: &'a QuantRows,
        rows: Range<usize>,
        w: QuantPanels<'a>,
        onto: Onto<'a>,
        out: &'a mut [f32],
    ) -> Self {
        if let Err(error) = w.check() {
            panic!("{error}");
        }
        assert!(rows.start <= rows.end && rows.end <= x.m, "rows of x");
        assert_eq!(x.k, w.k, "activations and weights have the same k");
        assert!(
            x.groups() == w.groups() && (w.groups() == 1 || x.group_size == w.group_size),
            "activations are quantised with the group size of the weights: expected {}, got {}",
            w.group_size,
            x.group_size
        );
        assert_eq!(out.len(), rows.len() * w.n, "out is [rows, n]");
        onto.check(w.n);
        Self {
            x,
            rows,
            groups: w.groups(),
            w,
            onto,
            out: SharedOut::new(out),
        }
    }

    fn plan(&self, threads: usize, isa: Isa) -> Plan {
        let rows = self.rows.len();
        let (unit, tile_rows) = if rows > 1 && isa == Isa::Avx512 {
            (2, 12)
        } else {
            (1, 4)
        };
        Plan::new(
            threads,
            (rows, self.x.stride),
            (self.w.panels(), unit),
            tile_rows,
        )
    }
}

/// `out[m, n] = x[m, k] · wᵀ + bias`, with `w` as stored.
///
/// # Panics
/// As [`QuantProduct::new`].
pub fn gemm_quant(
    pool: &ThreadPool,
    x: &QuantRows,
    w: &QuantPanels<'_>,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    gemm_quant_all(pool, &[QuantProduct::new(x, 0..x.m, *w, bias.into(), out)]);
}

/// Products of one run of the pool, whose plans are kept while it lasts.
const BESIDE: usize = 16;

/// Computes products side by side, in one run of the pool: small ones would cost more in waking threads than
/// in arithmetic.
pub fn gemm_quant_all(pool: &ThreadPool, products: &[QuantProduct<'_>]) {
    let (isa, threads) = (isa(), pool.threads());
    for products in products.chunks(BESIDE) {
        let mut plans = [Plan::default(); BESIDE];
        for (plan, product) in plans.iter_mut().zip(products) {
            *plan = product.plan(threads, isa);
        }
        pool.run(plans.iter().map(Plan::tasks).sum(), |task| {
            let mut task = task;
            for (plan, product) in plans.iter().zip(products) {
                if task < plan.tasks() {
                    let (rows, panels) = plan.task(task);
                    let first = product.rows.start;
                    multiply(isa, product, first + rows.start..first + rows.end, panels);
                    return;
                }
                task -= plan.tasks();
            }
        });
    }
}

/// Runs `$body` for each `$group` in which any of the `$rows` rows from `$row` has a second term.
macro_rules! for_each_fine {
    ($x:expr, $row:expr, $rows:expr, |$group:ident| $body:expr) => {
        for word in 0..$x.words {
            let mut left = $x.fine_word($row, $rows, word);
            while left != 0 {
                let $group = word * 64 + left.trailing_zeros() as usize;
                left &= left - 1;
                $body;
            }
        }
    };
}

dispatched!(fn multiply(product: &QuantProduct<'_>, rows: Range<usize>, panels: Range<usize>) = multiply_on);

#[inline(always)]
fn multiply_on<S: Simd>(
    s: S,
    product: &QuantProduct<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
) {
    match (product.w.bits, rows.len()) {
        (CodeBits::Int8, 1) => product.single::<S, 8>(s, rows.start, panels),
        (CodeBits::Int4, 1) => product.single::<S, 4>(s, rows.start, panels),
        (CodeBits::Int2, 1) => product.single::<S, 2>(s, rows.start, panels),
        (CodeBits::Int8, _) => product.several::<S, 8>(s, rows, panels),
        (CodeBits::Int4, _) => product.several::<S, 4>(s, rows, panels),
        (CodeBits::Int2, _) => product.several::<S, 2>(s, rows, panels),
    }
}

impl QuantProduct<'_> {
    /// One row against panels as stored.
    #[inline(always)]
    fn single<S: Simd, const WIDTH: usize>(&self, s: S, row: usize, panels: Range<usize>) {
        for panel in panels {
            let panel_bytes = self.w.steps() * STEP_BYTES;
            let (codes, _) = self.w.codes[panel * panel_bytes..][..panel_bytes].as_chunks();
            let columns = self.w.bits.step_columns();
            let mut y = [[s.splat(0.0)]];
            macro_rules! add {
                ($prefetch:literal, $term:expr, $group:expr) => {{
                    let acts = &$term.codes[row * self.x.stride..][..self.x.stride];
                    let steps = self.group_steps($group, columns, codes.len());
                    let [[start]] = self.start_group(s, $term, row, [panel], $group);
                    let dots = [[dot_group::<S, WIDTH, $prefetch>(
                        s, codes, acts, steps, start,
                    )]];
                    self.add_group(s, $term, row, [panel], $group, dots, &mut y);
                }};
            }
            for group in 0..self.groups {
                self.add_minimum(s, row, [panel], group, &mut y);
                add!(true, &self.x.coarse, group);
            }
            for_each_fine!(self.x, row, 1, |group| add!(false, &self.x.fine, group));
            self.finish(s, row, [panel], y);
        }
    }

    /// Several rows: two panels at a time where the register file allows.
    #[inline(always)]
    fn several<S: Simd, const WIDTH: usize>(&self, s: S, rows: Range<usize>, panels: Range<usize>) {
        let steps = self.w.steps() * self.w.bits.per_byte();
        let mut scratch = Scratch::take(if WIDTH == 8 {
            0
        } else {
            2 * steps * STEP_BYTES
        });
        let mut panel = panels.start;
        while panel < panels.end {
            let pair = S::WIDE && panels.end - panel >= 2;
            let count = if pair { 2 } else { 1 };
            let panel_bytes = self.w.steps() * STEP_BYTES;
            let (stored, _) =
                self.w.codes[panel * panel_bytes..][..count * panel_bytes].as_chunks();
            let codes = if WIDTH == 8 {
                stored
            } else {
                let unpacked = &mut scratch.steps()[..count * steps];
                unpack::<S, WIDTH>(s, stored, unpacked);
                &*unpacked
            };
            if pair {
                self.tiles::<S, WIDTH, 2>(s, rows.clone(), panel, codes);
            } else {
                self.tiles::<S, WIDTH, 1>(s, rows.clone(), panel, codes);
            }
            panel += count;
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const WIDTH: usize, const P: usize>(
        &self,
        s: S,
        rows: Range<usize>,
        panel: usize,
        codes: &[[u8; 64]],
    ) {
        let steps = codes.len() / P;
        let mut panels: [&[[u8; 64]]; P] = [&[]; P];
        for (p, panel) in panels.iter_mut().enumerate() {
            *panel = &codes[p * steps..][..steps];
        }
        let codes = panels;
        // Without groups the floats are not live in the inner loop and the tile can be twice as tall.
        let tall = S::WIDE && self.groups == 1;
        let mut row = rows.start;
        macro_rules! tile {
            ($($height:literal),*) => {$(
                while rows.end - row >= $height {
                    self.tile::<S, WIDTH, P, $height>(s, row, panel, codes);
                    row += $height;
                }
            )*};
        }
        if tall {
            tile!(12);
        }
        if S::WIDE {
            tile!(6);
        }
        tile!(4, 2, 1);
    }

    #[inline(always)]
    fn tile<S: Simd, const WIDTH: usize, const P: usize, const R: usize>(
        &self,
        s: S,
        row: usize,
        panel: usize,
        codes: [&[[u8; 64]]; P],
    ) {
        let mut panels = [panel; P];
        for (p, panel) in panels.iter_mut().enumerate() {
            *panel += p;
        }
        let mut y = [[s.splat(0.0); P]; R];
        macro_rules! add {
            ($term:expr, $acts:expr, $group:expr) => {{
                let steps = self.group_steps($group, 4, codes[0].len());
                let start = self.start_group(s, $term, row, panels, $group);
                let dots = dot_tile::<S, WIDTH, P, R>(s, codes, $acts, steps, start);
                self.add_group(s, $term, row, panels, $group, dots, &mut y);
            }};
        }
        let acts = self.acts::<R>(&self.x.coarse, row);
        for group in 0..self.groups {
            self.add_minimum(s, row, panels, group, &mut y);
            add!(&self.x.coarse, acts, group);
        }
        if self.x.words > 0 {
            let acts = self.acts::<R>(&self.x.fine, row);
            for_each_fine!(self.x, row, R, |group| add!(&self.x.fine, acts, group));
        }
        self.finish(s, row, panels, y);
    }

    /// The codes of `R` rows.
    #[inline(always)]
    fn acts<'t, const R: usize>(&self, term: &'t Term, row: usize) -> [&'t [i8]; R] {
        let mut acts: [&[i8]; R] = [&[]; R];
        for (r, acts) in acts.iter_mut().enumerate() {
            *acts = &term.codes[(row + r) * self.x.stride..][..self.x.stride];
        }
        acts
    }

    /// The steps, of `columns` columns each, of a group.
    #[inline(always)]
    fn group_steps(&self, group: usize, columns: usize, steps: usize) -> Range<usize> {
        if self.w.group_size == 0 {
            return 0..steps;
        }
        let size = self.w.group_size / columns;
        group * size..((group + 1) * size).min(steps)
    }

    /// What the integer sums of a group start from, so that they end free of the codes' zero.
    #[inline(always)]
    fn start_group<S: Simd, const P: usize, const R: usize>(
        &self,
        s: S,
        term: &Term,
        row: usize,
        panels: [usize; P],
        group: usize,
    ) -> [[S::I; P]; R] {
        let groups = self.groups;
        let sums = Strided::<i32, R>::new(&term.sums, row * groups + group, groups);
        let offset = if matches!(self.w.bits, CodeBits::Int8) {
            S::CODE_OFFSET
        } else {
            0
        };
        let mut start = [[s.splat_i32(0); P]; R];
        match self.w.zero {
            GroupZero::Middle => {
                let zero = i32::from(self.w.bits.middle()) - offset;
                for r in 0..R {
                    start[r] = [s.splat_i32(-zero * sums.get(r)); P];
                }
            }
            GroupZero::U8(zeros) => {
                for p in 0..P {
                    let zeros = lanes(zeros, (panels[p] * groups + group) * PANEL_ROWS);
                    let negative = s.sub_i32(s.splat_i32(offset), s.load_u8_as_i32(zeros));
                    for r in 0..R {
                        start[r][p] = s.mul_i32(negative, s.splat_i32(sums.get(r)));
                    }
                }
            }
            GroupZero::MinF16(_) if offset == 0 => {}
            GroupZero::MinF16(_) => {
                for r in 0..R {
                    start[r] = [s.splat_i32(offset * sums.get(r)); P];
                }
            }
        }
        start
    }

    /// Adds what a group's minima, if there are any, contribute with both terms.
    #[inline(always)]
    fn add_minimum<S: Simd, const P: usize, const R: usize>(
        &self,
        s: S,
        row: usize,
        panels: [usize; P],
        group: usize,
        y: &mut [[S::F; P]; R],
    ) {
        let groups = self.groups;
        if let GroupZero::MinF16(mins) = self.w.zero {
            let shares = Strided::<f32, R>::new(&self.x.shares, row * groups + group, groups);
            for p in 0..P {
                let min = s.load_f16(lanes(mins, (panels[p] * groups + group) * PANEL_ROWS));
                for r in 0..R {
                    y[r][p] = s.fma(min, s.splat(shares.get(r)), y[r][p]);
                }
            }
        }
    }

    /// Adds a group's integer sums to the rows' results: the one place where they become floats.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "a tile's place and its numbers")]
    fn add_group<S: Simd, const P: usize, const R: usize>(
        &self,
        s: S,
        term: &Term,
        row: usize,
        panels: [usize; P],
        group: usize,
        dots: [[S::I; P]; R],
        y: &mut [[S::F; P]; R],
    ) {
        let groups = self.groups;
        let act_scales = Strided::<f32, R>::new(&term.scales, row * groups + group, groups);
        for p in 0..P {
            let index = (panels[p] * groups + group) * PANEL_ROWS;
            let scale = match self.w.scales {
                GroupScales::F16(scales) => s.load_f16(lanes(scales, index)),
                GroupScales::F32(scales) => s.load(lanes(scales, index)),
            };
            for r in 0..R {
                let scaled = s.mul(scale, s.to_f32(dots[r][p]));
                y[r][p] = s.fma(scaled, s.splat(act_scales.get(r)), y[r][p]);
            }
        }
    }

    /// Adds the bias and writes the cells that exist.
    #[inline(always)]
    fn finish<S: Simd, const P: usize, const R: usize>(
        &self,
        s: S,
        row: usize,
        panels: [usize; P],
        y: [[S::F; P]; R],
    ) {
        let n = self.w.n;
        for p in 0..P {
            let column = panels[p] * PANEL_ROWS;
            let width = (n - column).min(PANEL_ROWS);
            let bias = match self.onto {
                Onto::Bias(bias) => s.load_part(&bias[column..column + width]),
                Onto::Nothing | Onto::Out => s.splat(0.0),
            };
            for r in 0..R {
                // A row that shares a tile with rows of more second terms has zeros added: a bias of zero
                // leaves no trace of them, not even the sign of a zero.
                let mut y = s.add(y[r][p], bias);
                let cell = (row + r - self.rows.start) * n + column;
                // SAFETY: the cells belong to this task.
                let out = unsafe { self.out.part(cell, width) };
                if matches!(self.onto, Onto::Out) {
                    y = s.add(s.load_part(out), y);
                }
                s.store_part(y, out);
            }
        }
    }
}

/// One value of each of `R` rows.
#[derive(Clone, Copy)]
struct Strided<'a, T, const R: usize> {
    values: &'a [T],
    stride: usize,
}

impl<'a, T: Copy, const R: usize> Strided<'a, T, R> {
    #[inline(always)]
    fn new(values: &'a [T], first: usize, stride: usize) -> Self {
        Self {
            values: &values[first..][..=(R - 1) * stride],
            stride,
        }
    }

    #[inline(always)]
    fn get(self, r: usize) -> T {
        assert!(r < R);
        // SAFETY: the slice reaches to row `R - 1`.
        unsafe { *self.values.get_unchecked(r * self.stride) }
    }
}

/// Four signed bytes as the operand of a dot-product instruction.
///
/// # Safety
/// `4 * step + 4 <= acts.len()`.
#[inline(always)]
unsafe fn four(acts: &[i8], step: usize) -> i32 {
    // SAFETY: in bounds by contract, and unaligned reads are allowed.
    i32::from_le(unsafe { acts.as_ptr().add(4 * step).cast::<i32>().read_unaligned() })
}

#[inline(always)]
fn unpack<S: Simd, const WIDTH: usize>(s: S, stored: &[[u8; 64]], unpacked: &mut [[u8; 64]]) {
    let per_byte = 8 / WIDTH;
    for (step, fields) in stored.iter().zip(unpacked.chunks_exact_mut(per_byte)) {
        let step = s.load_bytes(step);
        for (index, field) in fields.iter_mut().enumerate() {
            s.store_bytes(s.field(step, WIDTH, index), field);
        }
    }
}

/// One row against stored steps of one panel, those further on asked for if `PREFETCH`.
#[inline(always)]
fn dot_group<S: Simd, const WIDTH: usize, const PREFETCH: bool>(
    s: S,
    codes: &[[u8; 64]],
    acts: &[i8],
    steps: Range<usize>,
    start: S::I,
) -> S::I {
    let per_byte = 8 / WIDTH;
    assert!(steps.end <= codes.len() && 4 * per_byte * steps.end <= acts.len());
    // Four sums hide the latency of the dot product.
    let mut sums = [s.splat_i32(0); 4];
    sums[0] = start;
    let at_once = 4 / per_byte;
    let mut step = steps.start;
    macro_rules! add {
        ($steps:expr) => {
            for ahead in 0..$steps {
                if PREFETCH {
                    prefetch(codes.as_ptr().wrapping_add(step + ahead + PREFETCH_STEPS));
                }
                // SAFETY: `step + ahead < steps.end`, which the assertion bounds.
                let code = s.load_bytes(unsafe { codes.get_unchecked(step + ahead) });
                for index in 0..per_byte {
                    let field = if WIDTH == 8 {
                        code
                    } else {
                        s.field(code, WIDTH, index)
                    };
                    // SAFETY: as above.
                    let act = unsafe { four(acts, (step + ahead) * per_byte + index) };
                    let sum = &mut sums[(ahead * per_byte + index) % 4];
                    *sum = dot_width::<S, WIDTH>(s, *sum, field, act);
                }
            }
            step += $steps;
        };
    }
    while step + at_once <= steps.end {
        add!(at_once);
    }
    while step < steps.end {
        add!(1);
    }
    s.add_i32(s.add_i32(sums[0], sums[1]), s.add_i32(sums[2], sums[3]))
}

#[inline(always)]
fn dot_width<S: Simd, const WIDTH: usize>(s: S, sum: S::I, codes: S::B, acts: i32) -> S::I {
    if WIDTH == 8 {
        s.dot::<false>(sum, codes, acts)
    } else {
        s.dot::<true>(sum, codes, acts)
    }
}

/// `R` rows against unpacked steps of `P` panels.
#[inline(always)]
fn dot_tile<S: Simd, const WIDTH: usize, const P: usize, const R: usize>(
    s: S,
    codes: [&[[u8; 64]]; P],
    acts: [&[i8]; R],
    steps: Range<usize>,
    start: [[S::I; P]; R],
) -> [[S::I; P]; R] {
    assert!(codes.iter().all(|codes| steps.end <= codes.len()));
    assert!(acts.iter().all(|acts| 4 * steps.end <= acts.len()));
    let mut sums = start;
    for step in steps {
        // SAFETY: `step < steps.end`, which the assertions bound.
        let mut step_codes = [s.load_bytes(unsafe { codes[0].get_unchecked(step) }); P];
        for p in 1..P {
            // SAFETY: as above.
            step_codes[p] = s.load_bytes(unsafe { codes[p].get_unchecked(step) });
        }
        for r in 0..R {
            // SAFETY: as above.
            let act = unsafe { four(acts[r], step) };
            for p in 0..P {
                sums[r][p] = dot_width::<S, WIDTH>(s, sums[r][p], step_codes[p], act);
            }
        }
    }
    sums
}
