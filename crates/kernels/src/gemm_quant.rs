//! Products of quantised activations and quantised weights.
//!
//! Narrow codes are first unpacked, a panel or two at a time, to steps of eight bits that stay in cache
//! while all rows pass; one tile kernel then serves every width. A few rows, which fit the registers beside a
//! step of codes, unpack there instead: they read each weight once and run at the speed of memory.

use std::ops::Range;

use crate::onto::Onto;
use crate::panel16::{PANEL_ROWS, STEP_BYTES};
use crate::plan::{Plan, few_rows_work};
use crate::quant_dot::{PREFETCH_BYTES, dot_part, dot_tile, unpack};
use crate::quant_rows::Term;
use crate::row_product::RowProduct;
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{Simd, dispatched};
use crate::tile::lanes;
use crate::{CodeBits, GroupScales, GroupZero, Isa, QuantPanels, QuantRows, ThreadPool, isa};

/// Most rows that unpack in registers at a time, where the register file is wide.
const FEW: usize = 8;
/// Most rows of which as many parts as needed unpack the same codes, each in its registers: the second finds them
/// in cache, which costs no more than unpacking to memory.
const FEW_TWICE: usize = 2 * FEW;
/// Rows up to which every row of a product pays for what it alone gets besides ([`QuantProduct::and`]).
pub const FEW_ROWS: usize = FEW_TWICE;

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
    /// By row, what it gets besides; empty where none gets anything.
    besides: &'a [Option<RowProduct<'a>>],
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
            besides: &[],
            out: SharedOut::new(out),
        }
    }

    /// The same with a product of its own added to each row that has one.
    ///
    /// # Panics
    /// If there is not one place for each row, or one has other outputs.
    #[must_use]
    pub fn and(self, besides: &'a [Option<RowProduct<'a>>]) -> Self {
        assert_eq!(besides.len(), self.rows.len(), "a place for each row");
        assert!(
            besides
                .iter()
                .flatten()
                .all(|own| own.outputs() == self.w.n),
            "as many outputs"
        );
        Self { besides, ..self }
    }

    /// Bytes of weights that a row of it reads, as [`few_rows_work`] counts them.
    fn work(&self) -> usize {
        let own = few_rows_work(self.rows.len(), self.w.bytes());
        let besides = self.besides.iter().flatten().map(RowProduct::bytes);
        own + besides.sum::<usize>()
    }

    fn plan(&self, threads: usize, isa: Isa) -> Plan {
        let rows = self.rows.len();
        let (unit, tile_rows) = if rows > FEW_TWICE && isa == Isa::Avx512 {
            (2, 12)
        } else {
            (1, 4)
        };
        Plan::new(
            threads,
            (rows, self.x.stride),
            (self.w.panels(), unit),
            tile_rows,
            self.w.bits.panel_bytes(self.w.k),
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
    let isa = isa();
    for products in products.chunks(BESIDE) {
        let pool = pool.paying(products.iter().map(QuantProduct::work).sum());
        let mut plans = [Plan::default(); BESIDE];
        for (plan, product) in plans.iter_mut().zip(products) {
            *plan = product.plan(pool.threads(), isa);
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
    let are_few = rows.len() <= if S::WIDE { FEW_TWICE } else { 1 };
    match (product.w.bits, are_few) {
        (CodeBits::Int8, true) => product.few::<S, 8>(s, rows, panels),
        (CodeBits::Int4, true) => product.few::<S, 4>(s, rows, panels),
        (CodeBits::Int2, true) => product.few::<S, 2>(s, rows, panels),
        (CodeBits::Int8, false) => product.several::<S, 8>(s, rows, panels),
        (CodeBits::Int4, false) => product.several::<S, 4>(s, rows, panels),
        (CodeBits::Int2, false) => product.several::<S, 2>(s, rows, panels),
    }
}

impl QuantProduct<'_> {
    /// A few rows against panels as stored.
    #[inline(always)]
    fn few<S: Simd, const WIDTH: usize>(&self, s: S, rows: Range<usize>, panels: Range<usize>) {
        // Parts of equal height.
        let height = rows.len().div_ceil(rows.len().div_ceil(FEW));
        for panel in panels {
            let mut row = rows.start;
            while row < rows.end {
                let part = height.min(rows.end - row);
                macro_rules! part {
                    ($($height:literal),*) => {
                        match part {
                            $($height if S::WIDE => self.part::<S, WIDTH, $height>(s, row, panel),)*
                            _ => self.part::<S, WIDTH, 1>(s, row, panel),
                        }
                    };
                }
                part!(8, 7, 6, 5, 4, 3, 2);
                row += part;
            }
        }
    }

    /// `R` rows against a panel as stored.
    #[inline(always)]
    fn part<S: Simd, const WIDTH: usize, const R: usize>(&self, s: S, row: usize, panel: usize) {
        let panel_bytes = self.w.steps() * STEP_BYTES;
        let (codes, _) = self.w.codes[panel * panel_bytes..][..panel_bytes].as_chunks();
        let columns = self.w.bits.step_columns();
        // Behind the last weight lies what nobody asked for; what is read now costs nothing.
        let ahead = panel * panel_bytes + PREFETCH_BYTES;
        let ahead = self.w.codes.get(ahead..).unwrap_or(codes.as_flattened());
        let ahead = ahead.as_ptr();
        for own in self.besides(row, R).iter().flatten() {
            own.prefetch(panel + 1);
        }
        let mut y = [[s.splat(0.0)]; R];
        macro_rules! add {
            ($prefetch:literal, $term:expr, $acts:expr, $group:expr) => {{
                let steps = self.group_steps($group, columns, codes.len());
                let start = self.start_group(s, $term, row, [panel], $group);
                let dots = dot_part::<S, WIDTH, R, $prefetch>(s, codes, ahead, $acts, steps, start);
                self.add_group(s, $term, row, [panel], $group, dots, &mut y);
            }};
        }
        let acts = self.acts::<R>(&self.x.coarse, row);
        for group in 0..self.groups {
            self.add_minimum(s, row, [panel], group, &mut y);
            add!(true, &self.x.coarse, acts, group);
        }
        if self.x.words > 0 {
            let acts = self.acts::<R>(&self.x.fine, row);
            for_each_fine!(self.x, row, R, |group| add!(
                false,
                &self.x.fine,
                acts,
                group
            ));
        }
        self.finish(s, row, [panel], y);
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

    /// What `rows` rows from `row` get besides: a place for each, or none.
    #[inline(always)]
    fn besides(&self, row: usize, rows: usize) -> &[Option<RowProduct<'_>>] {
        if self.besides.is_empty() {
            return &[];
        }
        &self.besides[row - self.rows.start..][..rows]
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
                if let Some(Some(own)) = self.besides(row, R).get(r) {
                    y = own.add(s, panels[p], y, bias);
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
