//! Exact scans: every row is compared with every query.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use threads::ThreadPool;

use crate::{Bitmap, Query, Scored, TopK};

/// Embeddings in one block of memory.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// `[n, dim]`, row-major.
    vectors: &'a [f32],
    /// `[n]`, one over the length of each row.
    inverse_norms: &'a [f32],
    dim: usize,
}

/// What a thread compares before it claims more, in floats: far longer than a claim or waking a thread takes.
const FLOATS_PER_CLAIM: usize = 1 << 18;
/// Rows whose scores are held at once.
const BLOCK: usize = 64;

impl<'a> Rows<'a> {
    /// Rows of length `dim`.
    ///
    /// # Panics
    /// When `dim` is 0 or `vectors` does not hold `dim` floats per inverse norm.
    #[must_use]
    pub fn new(vectors: &'a [f32], inverse_norms: &'a [f32], dim: usize) -> Self {
        assert!(dim > 0, "rows of at least one float");
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
/// The queries, all of one metric, share one pass over the rows, which up to `threads` threads divide among
/// themselves. Results do not depend on that number.
///
/// # Panics
/// When a query's length differs from the rows', or its metric from the others'.
#[must_use]
pub fn search(
    queries: &[Query],
    rows: Rows<'_>,
    mask: Option<&Bitmap>,
    k: usize,
    floor: f32,
    threads: usize,
) -> Vec<Vec<Scored>> {
    let Some(scan) = Scan::new(queries, rows, mask).filter(|_| k > 0) else {
        return vec![Vec::new(); queries.len()];
    };
    let nothing = vec![TopK::new(k, floor); queries.len()];
    let candidates = mask.map_or(rows.len(), Bitmap::count);
    let claims = (candidates * rows.dim * queries.len()).div_ceil(FLOATS_PER_CLAIM);
    let share = rows.len().div_ceil(claims.max(1));
    let next = AtomicUsize::new(0);
    let best = Mutex::new(nothing.clone());
    let threads = threads.min(claims).max(1);
    ThreadPool::new(threads).run(threads, |_| {
        let mut found = nothing.clone();
        loop {
            let start = next.fetch_add(1, Ordering::Relaxed) * share;
            if start >= rows.len() {
                break;
            }
            scan.range(start..(start + share).min(rows.len()), &mut found);
        }
        let mut best = best.lock().unwrap_or_else(PoisonError::into_inner);
        for (best, found) in best.iter_mut().zip(found) {
            best.merge(found);
        }
    });
    let best = best.into_inner().unwrap_or_else(PoisonError::into_inner);
    best.into_iter().map(TopK::into_sorted).collect()
}

/// What is compared with what.
struct Scan<'a> {
    queries: &'a [Query],
    /// `[queries, dim]`, so that the queries share each row while it is in the registers.
    vectors: Vec<f32>,
    rows: Rows<'a>,
    mask: Option<&'a Bitmap>,
}

impl<'a> Scan<'a> {
    /// `None` without a query.
    fn new(queries: &'a [Query], rows: Rows<'a>, mask: Option<&'a Bitmap>) -> Option<Self> {
        let metric = queries.first()?.metric();
        let mut vectors = Vec::with_capacity(queries.len() * rows.dim);
        for query in queries {
            assert_eq!(query.vector().len(), rows.dim, "vectors of equal length");
            assert_eq!(query.metric(), metric, "queries of one metric");
            vectors.extend_from_slice(query.vector());
        }
        Some(Self {
            queries,
            vectors,
            rows,
            mask,
        })
    }

    fn range(&self, range: Range<usize>, best: &mut [TopK]) {
        let mut compared = vec![0.0; BLOCK * self.queries.len()];
        let mut block = |rows: Range<usize>| self.block(rows, &mut compared, best);
        match self.mask {
            None => blocks(range, &mut block),
            Some(mask) => {
                // Neighbours go together.
                let mut run = range.start..range.start;
                for row in mask.rows(range) {
                    if row != run.end {
                        blocks(std::mem::replace(&mut run, row..row), &mut block);
                    }
                    run.end = row + 1;
                }
                blocks(run, &mut block);
            }
        }
    }

    /// Offers at most [`BLOCK`] neighbouring rows to every query.
    fn block(&self, rows: Range<usize>, compared: &mut [f32], best: &mut [TopK]) {
        let (count, dim) = (rows.len(), self.rows.dim);
        let compared = &mut compared[..count * self.queries.len()];
        let vectors = &self.rows.vectors[rows.start * dim..rows.end * dim];
        self.queries[0]
            .metric()
            .compare(&self.vectors, vectors, dim, compared);
        let inverse_norms = &self.rows.inverse_norms[rows.clone()];
        for ((query, best), compared) in self
            .queries
            .iter()
            .zip(best)
            .zip(compared.chunks_exact(count))
        {
            for ((row, &compared), &inverse) in rows.clone().zip(compared).zip(inverse_norms) {
                let score = query.similarity_of(compared, inverse);
                best.offer(Scored { row, score });
            }
        }
    }
}

fn blocks(rows: Range<usize>, mut visit: impl FnMut(Range<usize>)) {
    for start in rows.clone().step_by(BLOCK) {
        visit(start..(start + BLOCK).min(rows.end));
    }
}
