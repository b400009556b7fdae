//! Products with weights stored as floats.
//!
//! Rows of weights are transposed, a block of columns at a time, into panels of sixteen lanes that stay in
//! cache while all rows of `x` pass. Every output is then one chain of fused multiply-adds along `k`.

use std::ops::Range;

use crate::onto::Onto;
use crate::plain_rows::{Values, with_values};
use crate::plan::{Plan, few_rows_work};
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{LANES, Simd, dispatched};
use crate::tile::{SixteenRows, TileRows, fma_tile, pack_columns};
use crate::{Isa, PlainRows, ThreadPool, isa};

/// Columns of a block: a pair of panels takes 48 KiB, within L2 beside the rows of `x`.
const BLOCK: usize = 384;
/// Rows that read weights where they stand, if these stand as panels do: packing would be as much work as a tile.
const FEW_ROWS: usize = 24;
/// Columns that they pass at a time, along which the weights are read line by line.
const FEW_COLUMNS: usize = 16;

/// `out[m, n] = x[m, k] · wᵀ`, onto what there is.
///
/// Every output is one chain of fused multiply-adds along `k`, so the result depends neither on the CPU,
/// nor on `m`, nor on the number of threads.
///
/// # Panics
/// If the lengths of `x`, `w`, a bias and `out` do not follow from `m`, `n` and `k`.
#[expect(
    clippy::too_many_arguments,
    reason = "the operands of a matrix product with their shape"
)]
pub fn gemm_plain(
    pool: &ThreadPool,
    x: &[f32],
    m: usize,
    k: usize,
    w: PlainRows<'_>,
    n: usize,
    onto: Onto<'_>,
    out: &mut [f32],
) {
    assert_eq!(w.len(), n * k, "w is [n, k]");
    multiply_all(pool, (x, m, k), Weights::Outputs(w), n, onto, out);
}

/// `out[m, n] = x[m, k] · w[k, n]`, onto what there is: what goes back through a layer.
///
/// It depends on as little as [`gemm_plain`].
///
/// # Panics
/// If the lengths of `x`, `w`, a bias and `out` do not follow from `m`, `n` and `k`.
#[expect(
    clippy::too_many_arguments,
    reason = "the operands of a matrix product with their shape"
)]
pub fn gemm_back(
    pool: &ThreadPool,
    x: &[f32],
    m: usize,
    k: usize,
    w: &[f32],
    n: usize,
    onto: Onto<'_>,
    out: &mut [f32],
) {
    assert_eq!(w.len(), k * n, "w is [k, n]");
    multiply_all(pool, (x, m, k), Weights::Inputs(w), n, onto, out);
}

fn multiply_all(
    pool: &ThreadPool,
    (x, m, k): (&[f32], usize, usize),
    w: Weights<'_>,
    n: usize,
    onto: Onto<'_>,
    out: &mut [f32],
) {
    assert_eq!(x.len(), m * k, "x is [m, k]");
    assert_eq!(out.len(), m * n, "out is [m, n]");
    onto.check(n);
    let isa = isa();
    let (unit, tile_rows) = if isa == Isa::Avx512 { (2, 12) } else { (1, 6) };
    let pool = pool.paying(few_rows_work(m, w.bytes()));
    let plan = Plan::new(
        pool.threads(),
        (m, k * 4),
        (n.div_ceil(LANES), unit),
        tile_rows,
        w.bytes() / n.div_ceil(LANES).max(1),
    );
    let product = Product {
        x,
        k,
        w,
        n,
        onto,
        out: SharedOut::new(out),
    };
    pool.run(plan.tasks(), |task| {
        let (rows, panels) = plan.task(task);
        multiply(isa, &product, rows, panels);
    });
}

/// The right-hand side.
#[derive(Clone, Copy)]
enum Weights<'a> {
    /// `[n, k]`: a row for each output.
    Outputs(PlainRows<'a>),
    /// `[k, n]`: a row for each input.
    Inputs(&'a [f32]),
}

impl Weights<'_> {
    const fn bytes(self) -> usize {
        match self {
            Self::Outputs(rows) => rows.bytes(),
            Self::Inputs(values) => size_of_val(values),
        }
    }
}

struct Product<'a> {
    x: &'a [f32],
    k: usize,
    w: Weights<'a>,
    n: usize,
    onto: Onto<'a>,
    /// A task writes the cells of its rows and panels, and nobody else does.
    out: SharedOut<'a, f32>,
}

dispatched!(fn multiply(product: &Product<'_>, rows: Range<usize>, panels: Range<usize>) = multiply_on);

#[inline(always)]
fn multiply_on<S: Simd>(s: S, product: &Product<'_>, rows: Range<usize>, panels: Range<usize>) {
    let mut panel = panels.start;
    if rows.len() <= FEW_ROWS {
        panel = product.few_rows(s, rows.clone(), panels.clone());
    }
    while panel < panels.end {
        if S::WIDE && panels.end - panel >= 2 {
            product.panels::<S, 2>(s, rows.clone(), panel);
            panel += 2;
        } else {
            product.panels::<S, 1>(s, rows.clone(), panel);
            panel += 1;
        }
    }
}

impl<'a> Product<'a> {
    /// The panels whose weights stand in memory as a tile reads them, which some rows read there; returns the first
    /// panel that is left.
    #[inline(always)]
    fn few_rows<S: Simd>(&self, s: S, rows: Range<usize>, panels: Range<usize>) -> usize {
        let Weights::Inputs(w) = self.w else {
            return panels.start;
        };
        let unit = if S::WIDE { 2 } else { 1 };
        let end = panels.end.min(self.n / LANES);
        let end = end - (end.max(panels.start) - panels.start) % unit;
        for start in (0..self.k).step_by(FEW_COLUMNS) {
            let columns = start..(start + FEW_COLUMNS).min(self.k);
            for panel in (panels.start..end).step_by(unit) {
                let w = (&w[start * self.n + panel * LANES..], self.n);
                if S::WIDE {
                    self.block::<S, 2>(s, rows.clone(), panel, columns.clone(), w);
                } else {
                    self.block::<S, 1>(s, rows.clone(), panel, columns.clone(), w);
                }
            }
        }
        if self.k == 0 {
            panels.start
        } else {
            end.max(panels.start)
        }
    }

    #[inline(always)]
    fn panels<S: Simd, const P: usize>(&self, s: S, rows: Range<usize>, panel: usize) {
        let mut scratch = Scratch::take(P * BLOCK * LANES * 4);
        let mut start = 0;
        loop {
            let columns = start..(start + BLOCK).min(self.k);
            let packed = &mut scratch.vectors()[..P * columns.len()];
            for p in 0..P {
                self.pack::<S, P>(s, panel, p, columns.clone(), packed);
            }
            let packed = (packed.as_flattened(), P * LANES);
            self.block::<S, P>(s, rows.clone(), panel, columns.clone(), packed);
            start = columns.end;
            if start == self.k {
                break;
            }
        }
    }

    /// Writes `columns` of panel `panel + p` as vectors of sixteen rows, `P` panels interleaved.
    #[inline(always)]
    fn pack<S: Simd, const P: usize>(
        &self,
        s: S,
        panel: usize,
        p: usize,
        columns: Range<usize>,
        packed: &mut [[f32; LANES]],
    ) {
        let (first, last, k, column) = ((panel + p) * LANES, self.n - 1, self.k, columns.start);
        match self.w {
            Weights::Outputs(w) => with_values!(w, |w| {
                let rows = PanelRows {
                    w,
                    first,
                    last,
                    k,
                    column,
                };
                pack_columns(s, &rows, columns.len(), packed, (P, p));
            }),
            Weights::Inputs(w) => {
                let width = (self.n - first).min(LANES);
                for (j, places) in columns.zip(packed.chunks_exact_mut(P)) {
                    s.store(
                        s.load_part(&w[j * self.n + first..][..width]),
                        &mut places[p],
                    );
                }
            }
        }
    }

    /// All rows against one block of weights, `[columns, P · 16]`, and what its rows lie apart.
    #[inline(always)]
    fn block<S: Simd, const P: usize>(
        &self,
        s: S,
        rows: Range<usize>,
        panel: usize,
        columns: Range<usize>,
        weights: (&[f32], usize),
    ) {
        let mut row = rows.start;
        macro_rules! tile {
            ($($height:literal),*) => {$(
                while rows.end - row >= $height {
                    self.tile::<S, P, $height>(s, row, panel, columns.clone(), weights);
                    row += $height;
                }
            )*};
        }
        if S::WIDE {
            tile!(12, 8);
        }
        tile!(6, 4, 2, 1);
    }

    #[inline(always)]
    fn tile<S: Simd, const P: usize, const R: usize>(
        &self,
        s: S,
        row: usize,
        panel: usize,
        columns: Range<usize>,
        (weights, stride): (&[f32], usize),
    ) {
        let (first, last) = (columns.start == 0, columns.end == self.k);
        let mut y = [[s.splat(0.0); P]; R];
        if !first || matches!(self.onto, Onto::Out) {
            for r in 0..R {
                for p in 0..P {
                    // SAFETY: the slice ends with the statement.
                    y[r][p] = s.load_part(unsafe { self.cells(row + r, panel + p) });
                }
            }
        }
        let x = TileRows::new(&self.x[row * self.k + columns.start..], self.k);
        fma_tile(s, x, weights, stride, columns.len(), &mut y);
        for r in 0..R {
            for p in 0..P {
                let column = (panel + p) * LANES;
                // SAFETY: the slice ends with the loop's body.
                let cells = unsafe { self.cells(row + r, panel + p) };
                let y = match self.onto {
                    Onto::Bias(bias) if last => {
                        s.add(y[r][p], s.load_part(&bias[column..column + cells.len()]))
                    }
                    _ => y[r][p],
                };
                s.store_part(y, cells);
            }
        }
    }

    /// The cells of one row and panel that exist.
    ///
    /// # Safety
    /// The row and panel belong to the calling task, which holds no other slice of them.
    #[inline(always)]
    unsafe fn cells(&self, row: usize, panel: usize) -> &'a mut [f32] {
        let column = panel * LANES;
        // SAFETY: by contract.
        unsafe {
            self.out
                .part(row * self.n + column, (self.n - column).min(LANES))
        }
    }
}

/// Rows of a panel from one column on.
struct PanelRows<V> {
    w: V,
    first: usize,
    last: usize,
    k: usize,
    column: usize,
}

impl<V> PanelRows<V> {
    /// Rows beyond the last repeat it: their lanes are never written.
    #[inline(always)]
    fn at(&self, r: usize, j: usize) -> usize {
        (self.first + r).min(self.last) * self.k + self.column + j
    }
}

impl<V: Values> SixteenRows for PanelRows<V> {
    #[inline(always)]
    fn vector<S: Simd>(&self, s: S, r: usize, j: usize) -> S::F {
        self.w.load(s, self.at(r, j))
    }
    #[inline(always)]
    fn value(&self, r: usize, j: usize) -> f32 {
        self.w.get(self.at(r, j))
    }
}
