//! How a matrix product is cut into tasks.

use std::ops::Range;

/// Tasks wanted per thread, so that a thread that starts late costs little.
const TASKS_PER_THREAD: usize = 4;
/// Bytes of left-hand rows that a task goes over again for every panel: they should stay in L2.
const ROWS_BYTES: usize = 512 * 1024;
/// Work, as [`few_rows_work`] counts it, below which a task costs less than claiming it: a microsecond's.
const LEAST_WORK: usize = 16 * 1024;

/// What a product of `rows` rows takes, in bytes of weights as one row reads them: eight rows compute for about as
/// long as they read, and more share what was read.
pub(crate) const fn few_rows_work(rows: usize, weight_bytes: usize) -> usize {
    weight_bytes.saturating_mul(rows + 8) / 8
}

/// A grid of tasks, columns first, so that tasks running side by side share rows.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Plan {
    rows: usize,
    panels: usize,
    rows_per_task: usize,
    panels_per_task: usize,
    tasks: usize,
}

impl Plan {
    /// `rows` left-hand rows of `row_bytes` bytes against `panels` panels, of `panel_bytes` bytes, taken `unit` at a
    /// time, in tiles of `tile_rows`.
    pub(crate) fn new(
        threads: usize,
        (rows, row_bytes): (usize, usize),
        (panels, unit): (usize, usize),
        tile_rows: usize,
        panel_bytes: usize,
    ) -> Self {
        let wanted = threads * TASKS_PER_THREAD;
        let units = panels.div_ceil(unit).max(1);
        let chunks = (rows * row_bytes)
            .div_ceil(ROWS_BYTES)
            .max(wanted.div_ceil(units));
        // A chunk below four tiles would spend its time unpacking weights.
        let rows_per_task = rows
            .div_ceil(chunks)
            .next_multiple_of(tile_rows)
            .max(4 * tile_rows);
        let chunks = rows.div_ceil(rows_per_task).max(1);
        let least = few_rows_work(rows_per_task.min(rows), unit * panel_bytes).max(1);
        let panels_per_task = units
            .div_ceil(wanted.div_ceil(chunks))
            .max(LEAST_WORK / least)
            .max(1)
            * unit;
        Self {
            rows,
            panels,
            rows_per_task,
            panels_per_task,
            tasks: rows.div_ceil(rows_per_task) * panels.div_ceil(panels_per_task),
        }
    }

    pub(crate) const fn tasks(&self) -> usize {
        self.tasks
    }

    /// Rows and panels of a task.
    pub(crate) fn task(&self, index: usize) -> (Range<usize>, Range<usize>) {
        let across = self.panels.div_ceil(self.panels_per_task);
        let part =
            |index: usize, size: usize, end: usize| index * size..((index + 1) * size).min(end);
        (
            part(index / across, self.rows_per_task, self.rows),
            part(index % across, self.panels_per_task, self.panels),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_cell_once() {
        for threads in [1, 2, 7] {
            for rows in [0, 1, 5, 48, 49, 700] {
                for panels in [0, 1, 2, 3, 24, 97] {
                    for unit in [1, 2] {
                        let plan = Plan::new(threads, (rows, 3000), (panels, unit), 12, 1500);
                        let mut seen = vec![0; rows * panels];
                        for task in 0..plan.tasks() {
                            let (r, p) = plan.task(task);
                            for row in r {
                                p.clone().for_each(|panel| seen[row * panels + panel] += 1);
                            }
                        }
                        assert!(seen.iter().all(|&count| count == 1));
                    }
                }
            }
        }
    }
}
