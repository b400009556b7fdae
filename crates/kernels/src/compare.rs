//! Queries beside rows: the arithmetic of an exact search.

use crate::isa;
use crate::simd::{LANES, Simd, dispatched, prefetch};

/// How far ahead of the sums rows are asked for, in floats: what a core reads while memory answers.
const AHEAD: usize = 2048;

/// `out[q, r] = Σ queries[q]·rows[r]` of `queries[m, k]`, `rows[n, k]` and `out[m, n]`.
///
/// Element `i` goes to sum `i % 16`, and halves are added until one is left, however many queries and rows
/// are compared at once.
///
/// # Panics
/// If `k` is 0 or a length is not the product of its sides.
pub fn dot_rows(queries: &[f32], rows: &[f32], k: usize, out: &mut [f32]) {
    check(queries, rows, k, out);
    dot_isa(isa(), queries, rows, k, out);
}

/// `out[q, r] = Σ (queries[q] − rows[r])²`, in the order of [`dot_rows`].
///
/// # Panics
/// As [`dot_rows`].
pub fn squared_distance_rows(queries: &[f32], rows: &[f32], k: usize, out: &mut [f32]) {
    check(queries, rows, k, out);
    distance_isa(isa(), queries, rows, k, out);
}

fn check(queries: &[f32], rows: &[f32], k: usize, out: &[f32]) {
    assert!(
        k > 0 && queries.len().is_multiple_of(k) && rows.len().is_multiple_of(k),
        "whole rows of {k} floats"
    );
    assert_eq!(
        out.len(),
        (queries.len() / k) * (rows.len() / k),
        "one value per query and row"
    );
}

dispatched!(fn dot_isa(queries: &[f32], rows: &[f32], k: usize, out: &mut [f32]) = dot_on);
dispatched!(fn distance_isa(queries: &[f32], rows: &[f32], k: usize, out: &mut [f32]) = distance_on);

#[inline(always)]
fn dot_on<S: Simd>(s: S, queries: &[f32], rows: &[f32], k: usize, out: &mut [f32]) {
    compare::<S, false>(s, queries, rows, k, out);
}

#[inline(always)]
fn distance_on<S: Simd>(s: S, queries: &[f32], rows: &[f32], k: usize, out: &mut [f32]) {
    compare::<S, true>(s, queries, rows, k, out);
}

/// One query streams the rows; several share each row while it is in the registers.
#[inline(always)]
fn compare<S: Simd, const DISTANCE: bool>(
    s: S,
    queries: &[f32],
    rows: &[f32],
    k: usize,
    out: &mut [f32],
) {
    if queries.len() == k {
        tiles::<S, DISTANCE, 1, 2>(s, queries, rows, k, out);
    } else if S::WIDE {
        tiles::<S, DISTANCE, 4, 4>(s, queries, rows, k, out);
    } else {
        tiles::<S, DISTANCE, 2, 2>(s, queries, rows, k, out);
    }
}

/// Tiles of `Q` queries by `R` rows, then what is left one by one.
#[inline(always)]
fn tiles<S: Simd, const DISTANCE: bool, const Q: usize, const R: usize>(
    s: S,
    queries: &[f32],
    rows: &[f32],
    k: usize,
    out: &mut [f32],
) {
    let n = rows.len() / k;
    for (block, group) in rows.chunks(R * k).enumerate() {
        let row = block * R;
        // Nothing beyond the rows: the next ones in memory may not be wanted.
        let ahead = AHEAD.min(rows.len() - row * k - group.len());
        for (part, several) in queries.chunks(Q * k).enumerate() {
            let out = &mut out[part * Q * n..];
            if several.len() == Q * k && group.len() == R * k {
                let sums = tile::<S, DISTANCE, Q, R>(s, several, group, k, ahead);
                for q in 0..Q {
                    out[q * n + row..][..R].copy_from_slice(&sums[q]);
                }
            } else {
                for (q, query) in several.chunks_exact(k).enumerate() {
                    for (r, one) in group.chunks_exact(k).enumerate() {
                        out[q * n + row + r] =
                            tile::<S, DISTANCE, 1, 1>(s, query, one, k, ahead)[0][0];
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const DISTANCE: bool, const Q: usize, const R: usize>(
    s: S,
    queries: &[f32],
    rows: &[f32],
    k: usize,
    ahead: usize,
) -> [[f32; R]; Q] {
    let queries: [&[f32]; Q] = std::array::from_fn(|q| &queries[q * k..][..k]);
    let rows: [&[f32]; R] = std::array::from_fn(|r| &rows[r * k..][..k]);
    let steps = k / LANES;
    // Cut to the same length, so that the loop needs no checks.
    let whole_queries = queries.map(|query| &query.as_chunks::<LANES>().0[..steps]);
    let whole_rows = rows.map(|row| &row.as_chunks::<LANES>().0[..steps]);
    let mut sums = [[s.splat(0.0); R]; Q];
    for step in 0..steps {
        let mut several = [s.splat(0.0); Q];
        for q in 0..Q {
            several[q] = s.load(&whole_queries[q][step]);
        }
        for r in 0..R {
            let values = &whole_rows[r][step];
            prefetch(values.as_ptr().wrapping_add(ahead));
            let row = s.load(values);
            for q in 0..Q {
                sums[q][r] = joined::<S, DISTANCE>(s, several[q], row, sums[q][r]);
            }
        }
    }
    if steps * LANES < k {
        for r in 0..R {
            let row = s.load_part(&rows[r][steps * LANES..]);
            for q in 0..Q {
                let query = s.load_part(&queries[q][steps * LANES..]);
                sums[q][r] = joined::<S, DISTANCE>(s, query, row, sums[q][r]);
            }
        }
    }
    // Loops, not closures: those could be left outside the function that enables the instruction set.
    let mut out = [[0.0; R]; Q];
    for q in 0..Q {
        for r in 0..R {
            out[q][r] = s.sum(sums[q][r]);
        }
    }
    out
}

#[inline(always)]
fn joined<S: Simd, const DISTANCE: bool>(s: S, a: S::F, b: S::F, sum: S::F) -> S::F {
    if DISTANCE {
        let difference = s.sub(a, b);
        s.fma(difference, difference, sum)
    } else {
        s.fma(a, b, sum)
    }
}
