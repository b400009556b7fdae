//! A tile of queries that absorbs keys and values block by block.

use kernels::Isa;

use crate::simd::{self, LANES, Product};

/// Positions of a block of keys and values.
pub(crate) const BLOCK: usize = 64;

/// Width of a row of values: `dim` rounded up to whole vectors.
pub(crate) const fn padded(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

/// Queries and what they have seen so far.
#[derive(Debug, Default)]
pub(super) struct Tile {
    dim: usize,
    /// Scaled queries, `[rows, dim]`.
    queries: Vec<f32>,
    /// Row `r` sees the positions below `limits[r]`.
    limits: Vec<usize>,
    /// Greatest score of each row.
    maximum: Vec<f32>,
    /// Sum of `exp(score - maximum)` of each row.
    sum: Vec<f32>,
    /// Values weighted by `exp(score - maximum)`, `[rows, padded(dim)]`.
    accumulated: Vec<f32>,
    /// Scores of one block, `[rows, BLOCK]`.
    scores: Vec<f32>,
}

impl Tile {
    /// Forgets everything; queries are `dim` wide.
    pub(super) fn begin(&mut self, dim: usize) {
        self.dim = dim;
        self.queries.clear();
        self.limits.clear();
        self.maximum.clear();
        self.sum.clear();
        self.accumulated.clear();
    }

    /// Adds a query that sees the positions below `limit`.
    pub(super) fn push(&mut self, query: &[f32], scale: f32, limit: usize) {
        self.queries.extend(query.iter().map(|value| value * scale));
        self.limits.push(limit);
        self.maximum.push(f32::NEG_INFINITY);
        self.sum.push(0.0);
        self.accumulated
            .resize(self.limits.len() * padded(self.dim), 0.0);
    }

    /// Attends to positions `first .. first + BLOCK`.
    ///
    /// `keys` is `[dim, BLOCK]`, `values` is `[BLOCK, padded(dim)]`; positions no row sees may hold
    /// anything finite.
    pub(super) fn absorb(&mut self, isa: Isa, first: usize, keys: &[f32], values: &[f32]) {
        let rows = self.limits.len();
        let furthest = self
            .limits
            .iter()
            .max()
            .map_or(0, |limit| limit.saturating_sub(first))
            .min(BLOCK);
        let cols = furthest.next_multiple_of(LANES);
        let width = padded(self.dim);
        self.scores.resize(rows * BLOCK, 0.0);
        simd::multiply(
            isa,
            Product {
                a: &self.queries,
                a_stride: self.dim,
                b: keys,
                b_stride: BLOCK,
                c: &mut self.scores,
                c_stride: BLOCK,
                rows,
                inner: self.dim,
                cols,
                accumulate: false,
            },
        );
        for row in 0..rows {
            let scores = &mut self.scores[row * BLOCK..row * BLOCK + cols];
            let visible = self.limits[row].saturating_sub(first).min(cols);
            scores[visible..].fill(f32::NEG_INFINITY);
            let before = self.maximum[row];
            let maximum = simd::greatest(isa, scores).max(before);
            if maximum == f32::NEG_INFINITY && visible == 0 {
                scores.fill(0.0);
                continue;
            }
            let sum = simd::exp_sum(isa, scores, maximum);
            let correction = (before - maximum).exp();
            self.maximum[row] = maximum;
            self.sum[row] = self.sum[row] * correction + sum;
            if correction < 1.0 {
                for value in &mut self.accumulated[row * width..(row + 1) * width] {
                    *value *= correction;
                }
            }
        }
        simd::multiply(
            isa,
            Product {
                a: &self.scores,
                a_stride: BLOCK,
                b: values,
                b_stride: width,
                c: &mut self.accumulated,
                c_stride: width,
                rows,
                inner: furthest,
                cols: width,
                accumulate: true,
            },
        );
    }

    /// Writes the attended value of query `row` to `out`, `[dim]`.
    pub(super) fn write(&self, row: usize, out: &mut [f32]) {
        let start = row * padded(self.dim);
        let inverse = 1.0 / self.sum[row];
        for (out, value) in out
            .iter_mut()
            .zip(&self.accumulated[start..start + self.dim])
        {
            *out = value * inverse;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_give_the_softmax_of_the_whole_row() {
        let (dim, length) = (5, 150);
        let number = |i: usize| ((i * 7919 % 1000) as f32) / 250.0 - 2.0;
        let key = |p: usize, d: usize| number(p * dim + d);
        let value = |p: usize, d: usize| number(p * dim + d + 77_777);
        let query: Vec<f32> = (0..dim).map(|d| number(d + 31)).collect();
        for limit in [1, 63, 64, 65, 150] {
            let mut tile = Tile::default();
            tile.begin(dim);
            tile.push(&query, 0.5, limit);
            tile.push(&query, 0.5, 1);
            for first in (0..limit).step_by(BLOCK) {
                let mut keys = vec![0.0; dim * BLOCK];
                let mut values = vec![0.0; BLOCK * padded(dim)];
                for p in 0..BLOCK.min(length - first) {
                    for d in 0..dim {
                        keys[d * BLOCK + p] = key(first + p, d);
                        values[p * padded(dim) + d] = value(first + p, d);
                    }
                }
                tile.absorb(kernels::isa(), first, &keys, &values);
            }
            let weights: Vec<f64> = (0..limit)
                .map(|p| {
                    (0..dim)
                        .map(|d| f64::from(query[d] * key(p, d)))
                        .sum::<f64>()
                        * 0.5
                })
                .map(f64::exp)
                .collect();
            let total: f64 = weights.iter().sum();
            let mut out = vec![0.0; dim];
            tile.write(0, &mut out);
            for (d, got) in out.iter().enumerate() {
                let expected: f64 = weights
                    .iter()
                    .enumerate()
                    .map(|(p, w)| w * f64::from(value(p, d)))
                    .sum::<f64>()
                    / total;
                assert!((f64::from(*got) - expected).abs() < 1e-5, "{limit} {d}");
            }
            tile.write(1, &mut out);
            assert!(
                (out[0] - value(0, 0)).abs() < 1e-6,
                "a row that sees one position copies it"
            );
        }
    }
}
