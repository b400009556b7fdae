//! Exact scans: every row is compared with every query.

use crate::{Bitmap, Query, Scored, TopK};
use std::ops::Range;

/// Embeddings in one block of memory.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// `[n, dim]`, row-major.
    vectors: &'a [f32],
    /// `[n]`, one over the length of each row.
    inverse_norms: &'a [f32],
    dim: usize,
}

/// Rows a thread must have to itself before a second one pays for its start, in floats.
const FLOATS_PER_THREAD: usize = 1 << 20;

impl<'a> Rows<'a> {
    /// Rows of length `dim`.
    ///
    /// # Panics
    /// When `vectors` does not hold `dim` floats per inverse norm.
    #[must_use]
    pub fn new(vectors: &'a [f32], inverse_norms: &'a [f32], dim: usize) -> Self {
        assert_eq!(
            vectors.len(),
            inverse_norms.len() * dim,
            "[n, dim] vectors and [n] norms"
        );
        Self {
            vectors,
            inverse_norms,
            dim,
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inverse_norms.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inverse_norms.is_empty()
    }

    /// One row.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn row(&self, index: usize) -> &'a [f32] {
        &self.vectors[index * self.dim..(index + 1) * self.dim]
    }
}

/// Finds the best `k` rows for each query among those in `mask` (all when `None`), scoring at least `floor`.
///
/// The queries share one pass over the rows, which up to `threads` threads divide among themselves.
/// Results do not depend on that number.
///
/// # Panics
/// When a query's length differs from the rows'.
#[must_use]
pub fn search(
    queries: &[Query],
    rows: Rows<'_>,
    mask: Option<&Bitmap>,
    k: usize,
    floor: f32,
    threads: usize,
) -> Vec<Vec<Scored>> {
    let candidates = mask.map_or(rows.len(), Bitmap::count);
    let work = candidates * rows.dim * queries.len();
    let threads = threads.min(work / FLOATS_PER_THREAD).max(1);
    // Whole words of the mask per thread, so that ranges share none.
    let share = rows.len().div_ceil(threads).next_multiple_of(64);
    let scan = |range: Range<usize>| scan_range(queries, rows, mask, k, floor, range);
    let mut best = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads)
            .map(|i| (i * share).min(rows.len())..((i + 1) * share).min(rows.len()))
            .map(|range| scope.spawn(move || scan_range(queries, rows, mask, k, floor, range)))
            .collect();
        let mut best = scan(0..share.min(rows.len()));
        for thread in others {
            match thread.join() {
                Ok(found) => best
                    .iter_mut()
                    .zip(found)
                    .for_each(|(best, found)| best.merge(found)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        best
    });
    best.drain(..).map(TopK::into_sorted).collect()
}

fn scan_range(
    queries: &[Query],
    rows: Rows<'_>,
    mask: Option<&Bitmap>,
    k: usize,
    floor: f32,
    range: Range<usize>,
) -> Vec<TopK> {
    let mut best = vec![TopK::new(k, floor); queries.len()];
    if k == 0 {
        return best;
    }
    let mut tile = [0; 4];
    let mut filled = 0;
    let mut push = |row: usize| {
        tile[filled] = row;
        filled += 1;
        if filled == 4 {
            score_tile(queries, rows, tile, 4, &mut best);
            filled = 0;
        }
    };
    match mask {
        Some(mask) => mask.rows(range).for_each(&mut push),
        None => range.for_each(&mut push),
    }
    if filled > 0 {
        let last = tile[filled - 1];
        tile[filled..].fill(last);
        score_tile(queries, rows, tile, filled, &mut best);
    }
    best
}

#[inline]
fn score_tile(
    queries: &[Query],
    rows: Rows<'_>,
    tile: [usize; 4],
    filled: usize,
    best: &mut [TopK],
) {
    let vectors = tile.map(|row| rows.row(row));
    let norms = tile.map(|row| rows.inverse_norms[row]);
    for (query, best) in queries.iter().zip(best) {
        let scores = query.similarities(vectors, norms);
        for (&row, &score) in tile.iter().zip(&scores).take(filled) {
            best.offer(Scored { row, score });
        }
    }
}
