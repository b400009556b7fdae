//! The product on packed operands.

use std::ops::Range;

use super::amx::{Cells, Operands, Tiles};
use super::dot;
use super::pack::{Line, pack_panels};
use super::rows::STEP;
use super::{Bf16Rows, Bf16Unit, Bf16Weights};
use crate::ThreadPool;
use crate::onto::Onto;
use crate::plan::{Plan, few_rows_work};
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{Avx512, LANES, Simd, prefetch};

/// Rows and columns of two by two tiles.
const SIDE: usize = 2 * LANES;
/// Steps of a block: two panels of it take 40 KiB, which L1 holds while all rows pass.
const BLOCK: usize = 20;

/// `x · w`, where `k` is not 0, on a unit other than the portable one.
pub(super) fn multiply_all(
    pool: &ThreadPool,
    x: &Bf16Rows,
    w: &[Bf16Weights<'_>],
    n: usize,
    onto: Onto<'_>,
    out: &mut [f32],
) {
    let Bf16Rows { unit, rows: m, .. } = *x;
    let mut parts: [Option<Weights<'_>>; 2] = [None, None];
    let (mut steps, mut k) = (0, 0);
    for (part, (&w, &columns)) in parts.iter_mut().zip(w.iter().zip(&x.columns)) {
        let end = steps + columns.div_ceil(STEP);
        *part = Some(Weights {
            w,
            k: columns,
            steps: steps..end,
        });
        (steps, k) = (end, k + columns);
    }
    // While single precision computes one row, these compute about as many.
    let speed = if unit == Bf16Unit::Tiles { 8 } else { 2 };
    let pool = pool.paying(few_rows_work(m, n * k * size_of::<f32>()) / speed);
    // Half of what it is: rounding the weights once more takes longer than rows from beyond L2.
    let row_bytes = steps * size_of::<Line>() / 2;
    let plan = Plan::new(
        pool.threads(),
        (m, row_bytes),
        (n.div_ceil(LANES), 2),
        SIDE,
        LANES * row_bytes,
    );
    let (blocks, stride) = (m.div_ceil(LANES), x.steps);
    let product = Product {
        unit,
        x: &x.scratch.as_pairs()[..blocks * stride * LANES],
        stride,
        steps,
        parts,
        n,
        onto,
        out: SharedOut::new(out),
    };
    pool.run(plan.tasks(), |task| {
        let (rows, panels) = plan.task(task);
        // SAFETY: a unit that is not portable comes with the features.
        unsafe { product.multiply(rows, panels) };
    });
}

/// What a part of the rows is multiplied with.
#[derive(Clone)]
struct Weights<'a> {
    w: Bf16Weights<'a>,
    k: usize,
    /// Of all steps those that are its own.
    steps: Range<usize>,
}

struct Product<'a> {
    unit: Bf16Unit,
    /// Blocks of sixteen rows.
    x: &'a [Line],
    /// Steps of a block.
    stride: usize,
    /// Steps of the product, the first ones.
    steps: usize,
    parts: [Option<Weights<'a>>; 2],
    n: usize,
    onto: Onto<'a>,
    /// A task writes the cells of its rows and panels, and nobody else does.
    out: SharedOut<'a, f32>,
}

/// At most 32 rows and columns of the output, which the calling task owns.
#[derive(Clone, Copy)]
struct Part {
    row: usize,
    height: usize,
    column: usize,
    width: usize,
}

impl<'a> Product<'a> {
    /// `rows` begin where a block does.
    #[target_feature(
        enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16"
    )]
    fn multiply(&self, rows: Range<usize>, panels: Range<usize>) {
        let with_tiles = self.unit == Bf16Unit::Tiles;
        // SAFETY: this unit is used only where the CPU has it and the system permits it.
        let tiles = with_tiles.then(|| unsafe { Tiles::configured() });
        // Blocks are about equally long, and the same whatever the rows.
        let block = self.steps.div_ceil(self.steps.div_ceil(BLOCK));
        let mut scratch = Scratch::take(2 * block * LANES * size_of::<Line>());
        for panel in panels.step_by(2) {
            let column = panel * LANES;
            for start in (0..self.steps).step_by(block) {
                let steps = start..(start + block).min(self.steps);
                let packed = &mut scratch.pairs()[..2 * LANES * steps.len()];
                self.pack(panel, steps.clone(), packed);
                for row in rows.clone().step_by(SIDE) {
                    let part = Part {
                        row,
                        height: (rows.end - row).min(SIDE),
                        column,
                        width: (self.n - column).min(SIDE),
                    };
                    match &tiles {
                        Some(tiles) => self.tiles(tiles, part, steps.clone(), packed),
                        None => self.pairs(part, steps.clone(), packed),
                    }
                }
            }
        }
    }

    /// Writes the steps of two panels.
    #[inline]
    #[target_feature(
        enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16"
    )]
    fn pack(&self, panel: usize, steps: Range<usize>, packed: &mut [Line]) {
        for Weights { w, k, steps: own } in self.parts.iter().flatten() {
            let shared = own.start.max(steps.start)..own.end.min(steps.end);
            if !shared.is_empty() {
                let packed = &mut packed[2 * LANES * (shared.start - steps.start)..];
                let own = shared.start - own.start..shared.end - own.start;
                pack_panels(*w, (self.n, *k), panel, own, packed);
            }
        }
    }

    /// What the sums from step `first` on are added to.
    #[inline]
    fn onto(&self, first: usize) -> Onto<'a> {
        if first == 0 { self.onto } else { Onto::Out }
    }

    /// The lines of row `row` and those below it, from step `step` on.
    #[inline]
    fn x(&self, row: usize, step: usize) -> &[Line] {
        &self.x[(row / LANES * self.stride + step) * LANES + row % LANES..]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn tiles(&self, tiles: &Tiles, part: Part, steps: Range<usize>, w: &[Line]) {
        let second = if part.height > LANES { LANES } else { 0 };
        let x = [part.row, part.row + second].map(|row| {
            let lines = &self.x(row, steps.start)[..steps.len() * LANES];
            lines.as_ptr()
        });
        assert!(w.len() == 2 * LANES * steps.len());
        let operands = |start, end| Operands {
            x,
            w: w.as_ptr(),
            steps: steps.len(),
            start,
            end,
        };
        let onto = self.onto(steps.start);
        if part.width == SIDE && part.height.is_multiple_of(LANES) {
            let first = part.row * self.n + part.column;
            let blocks = [first, first + second * self.n].map(|cell| {
                let last = cell + (LANES - 1) * self.n + SIDE - 1;
                (self.out.address(cell), self.out.address(last)).0
            });
            // Sums that start from elsewhere would wait for their lines only when they are stored.
            for row in 0..part.height {
                for line in 0..2 {
                    prefetch(blocks[0].wrapping_add(row * self.n + line * LANES));
                }
            }
            let stride = self.n * size_of::<f32>();
            let start = match onto {
                Onto::Nothing => Cells::alike(&[0.0; SIDE]),
                Onto::Bias(bias) => Cells::alike(&bias[part.column..][..SIDE]),
                Onto::Out => Cells {
                    blocks: blocks.map(<*mut f32>::cast_const),
                    stride,
                },
            };
            // SAFETY: slices and assertions above bound the lines and the cells, which this task owns.
            unsafe { operands(start, Cells { blocks, stride }).multiply(tiles) };
            return;
        }
        let mut cells = [[0.0; SIDE]; SIDE];
        for (r, cells) in cells[..part.height].iter_mut().enumerate() {
            let cells = &mut cells[..part.width];
            match onto {
                Onto::Nothing => {}
                Onto::Bias(bias) => cells.copy_from_slice(&bias[part.column..][..part.width]),
                // SAFETY: this task owns the part, and the slice ends with the statement.
                Onto::Out => cells.copy_from_slice(unsafe { self.row(part, r) }),
            }
        }
        let end = cells.as_mut_ptr().cast::<f32>();
        let blocks = [end, end.wrapping_add(second * SIDE)];
        let stride = SIDE * size_of::<f32>();
        let start = Cells {
            blocks: blocks.map(<*mut f32>::cast_const),
            stride,
        };
        // SAFETY: as above; the cells are ours.
        unsafe { operands(start, Cells { blocks, stride }).multiply(tiles) };
        for (r, cells) in cells[..part.height].iter().enumerate() {
            // SAFETY: this task owns the part, and the slice ends with the statement.
            unsafe { self.row(part, r) }.copy_from_slice(&cells[..part.width]);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pairs(&self, part: Part, steps: Range<usize>, w: &[Line]) {
        // SAFETY: the caller, who has these features, has the others too.
        let s = unsafe { Avx512::assume() };
        let onto = self.onto(steps.start);
        for first in (0..part.height).step_by(dot::ROWS) {
            let rows = first..(first + dot::ROWS).min(part.height);
            let mut sums = [[s.splat(0.0); 2]; dot::ROWS];
            for r in rows.clone() {
                let start = match onto {
                    Onto::Nothing => continue,
                    Onto::Bias(bias) => &bias[part.column..][..part.width],
                    // SAFETY: this task owns the part, and the slice ends with the loop's body.
                    Onto::Out => unsafe { self.row(part, r) },
                };
                for (sum, start) in sums[r - first].iter_mut().zip(start.chunks(LANES)) {
                    *sum = s.load_part(start);
                }
            }
            let x = self.x(part.row + first, steps.start);
            dot::multiply(x, w, steps.len(), &mut sums);
            for r in rows {
                // SAFETY: as above.
                let cells = unsafe { self.row(part, r) };
                for (&sum, cells) in sums[r - first].iter().zip(cells.chunks_mut(LANES)) {
                    s.store_part(sum, cells);
                }
            }
        }
    }

    /// Row `r` of a part.
    ///
    /// # Safety
    /// The part belongs to the calling task, which holds no other slice of the row.
    #[inline]
    unsafe fn row(&self, part: Part, r: usize) -> &'a mut [f32] {
        let first = (part.row + r) * self.n + part.column;
        // SAFETY: by contract.
        unsafe { self.out.part(first, part.width) }
    }
}
