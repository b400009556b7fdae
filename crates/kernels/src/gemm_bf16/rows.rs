//! Rows of a left-hand side, rounded once for all products that they take part in.

use std::ops::Range;

use super::Bf16Unit;
use crate::ThreadPool;
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::LANES;

/// Rows `[rows, columns]`, rounded to brain floats, and beside them others that later take up their room.
///
/// Its memory goes back to the thread that drops it, which uses it again.
pub struct Bf16Rows {
    pub(super) unit: Bf16Unit,
    pub(super) rows: usize,
    /// Columns of the first part and of the second.
    pub(super) columns: [usize; 2],
    /// Steps of 32 columns of a block: those of the first part, and room for the second.
    pub(super) steps: usize,
    /// As the unit reads them: lines of blocks of sixteen rows, or the numbers of one part behind those of the other.
    pub(super) scratch: Scratch,
}

impl std::fmt::Debug for Bf16Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bf16Rows")
            .field("unit", &self.unit)
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl Bf16Rows {
    /// Rounds `x`, `[rows, columns]`, and leaves room for `beside` columns more.
    ///
    /// # Panics
    /// If `x` has another length.
    #[must_use]
    pub fn new(pool: &ThreadPool, x: &[f32], rows: usize, columns: usize, beside: usize) -> Self {
        let unit = Bf16Unit::in_use();
        let mut new = Self {
            unit,
            rows,
            columns: [columns, 0],
            steps: columns.div_ceil(STEP) + beside.div_ceil(STEP),
            scratch: Scratch::take(0),
        };
        let bytes = match unit {
            Bf16Unit::Portable => rows * (columns + beside) * size_of::<f32>(),
            _ => rows.div_ceil(LANES) * new.steps * LANES * LINE_BYTES,
        };
        new.scratch.reserve(bytes);
        new.round(pool, 0, x);
        new
    }

    /// Rounds `x`, `[rows, columns]`, into the room beside the others.
    ///
    /// # Panics
    /// If `x` has another length, or there is not as much room.
    pub fn put_beside(&mut self, pool: &ThreadPool, x: &[f32], columns: usize) {
        let room = self.steps - self.columns[0].div_ceil(STEP);
        assert!(columns.div_ceil(STEP) <= room, "room for {columns} columns");
        self.columns[1] = columns;
        self.round(pool, 1, x);
    }

    /// Rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Where the numbers of a part are, if they are not lines.
    pub(super) fn place(&self, part: usize) -> Range<usize> {
        let first = self.rows * self.columns[0];
        [0..first, first..first + self.rows * self.columns[1]][part].clone()
    }

    fn round(&mut self, pool: &ThreadPool, part: usize, x: &[f32]) {
        let columns = self.columns[part];
        assert_eq!(x.len(), self.rows * columns, "x is [rows, columns]");
        if columns == 0 {
            return;
        }
        match self.unit {
            Bf16Unit::Portable => {
                let place = self.place(part);
                self.scratch.reserve(place.end * size_of::<f32>());
                let values = self.scratch.vectors().as_flattened_mut();
                super::portable::round(pool, x, &mut values[place]);
            }
            #[cfg(target_arch = "x86_64")]
            _ => {
                let rows = self.rows;
                let (blocks, lines) = (rows.div_ceil(LANES), self.steps * LANES);
                let first = part * self.columns[0].div_ceil(STEP) * LANES;
                let shared = SharedOut::new(&mut self.scratch.pairs()[..blocks * lines]);
                pool.paying(size_of_val(x)).run(blocks, |block| {
                    let rows = block * LANES..((block + 1) * LANES).min(rows);
                    // SAFETY: a block has one task; a unit that is not portable comes with the features.
                    unsafe {
                        let block = shared.part(block * lines + first, lines - first);
                        super::pack::pack_rows(x, rows, columns, block);
                    }
                });
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("other units are of x86-64"),
        }
    }
}

/// Columns of a step.
pub(super) const STEP: usize = 2 * LANES;
/// Sixteen pairs of brain floats.
const LINE_BYTES: usize = LANES * 4;
