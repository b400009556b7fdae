//! The running softmax of some queries.

use std::ops::Range;

use super::PAGE_KEYS;
use crate::activation::exp;
use crate::simd::{LANES, Simd};
use crate::vector::{fold, map_in_place, map_with, sum_of};

/// Queries of a task: a multiple of every tile's height.
pub(super) const QUERIES: usize = 48;

/// What some keys gave for each query: the sum of the values weighted relative to the highest score, that
/// score, and the sum of the weights.
pub(super) struct State<'a> {
    /// Distance of two rows of `sums`.
    pub(super) width: usize,
    pub(super) sums: &'a mut [f32],
    highest: &'a mut [f32],
    totals: &'a mut [f32],
}

impl<'a> State<'a> {
    /// Numbers that a state takes.
    pub(super) const fn numbers(head_dim: usize) -> usize {
        QUERIES * (head_dim.next_multiple_of(LANES) + 2)
    }

    /// A state in memory that holds one.
    pub(super) fn of(memory: &'a mut [f32], head_dim: usize) -> Self {
        let width = head_dim.next_multiple_of(LANES);
        let (sums, rest) = memory.split_at_mut(QUERIES * width);
        let (highest, totals) = rest[..2 * QUERIES].split_at_mut(QUERIES);
        Self {
            width,
            sums,
            highest,
            totals,
        }
    }

    /// Nothing seen yet.
    pub(super) fn clear(&mut self, count: usize) {
        self.sums[..count * self.width].fill(0.0);
        self.highest.fill(f32::NEG_INFINITY);
        self.totals.fill(0.0);
    }

    /// One divided by the sum of the weights of query `t`, 0 where it has seen nothing.
    pub(super) fn inverse(&self, t: usize) -> f32 {
        let total = self.totals[t];
        if total == 0.0 { 0.0 } else { 1.0 / total }
    }

    /// A step of the online softmax (arXiv:1805.02867): turns the scores of query `t` into weights relative to
    /// its highest score so far, zero where they are not `visible`, and brings what it has summed to that base.
    #[inline(always)]
    pub(super) fn online_softmax<S: Simd>(
        &mut self,
        s: S,
        scores: &mut [f32],
        t: usize,
        visible: Range<usize>,
        keys: usize,
    ) {
        let scores = &mut scores[t * PAGE_KEYS..][..keys.next_multiple_of(LANES)];
        scores[..visible.start].fill(f32::NEG_INFINITY);
        scores[visible.end..].fill(f32::NEG_INFINITY);
        let before = self.highest[t];
        let top = fold!(s, scores, s.splat(before), |top, x| s.max(x, top));
        let top = s.largest(s.max(s.max(top[0], top[1]), s.max(top[2], top[3])));
        if top == f32::NEG_INFINITY {
            scores.fill(0.0);
            return;
        }
        let base = s.splat(top);
        map_in_place!(s, scores, |x| exp(s, s.sub(x, base)));
        let total = sum_of(s, fold!(s, scores, s.splat(0.0), |sum, x| s.add(sum, x)));
        let rescale = exp(s, s.sub(s.splat(before), base));
        let before = first(s, rescale);
        self.totals[t] = self.totals[t].mul_add(before, total);
        self.highest[t] = top;
        if before < 1.0 {
            map_in_place!(s, &mut self.sums[t * self.width..][..self.width], |x| {
                s.mul(x, rescale)
            });
        }
    }

    /// Takes in what later keys gave.
    #[inline(always)]
    pub(super) fn merge<S: Simd>(&mut self, s: S, later: &State<'_>, count: usize) {
        for t in 0..count {
            if later.totals[t] == 0.0 {
                continue;
            }
            let highest = self.highest[t].max(later.highest[t]);
            let top = s.splat(highest);
            let mine = exp(s, s.sub(s.splat(self.highest[t]), top));
            let theirs = exp(s, s.sub(s.splat(later.highest[t]), top));
            let row = t * self.width..(t + 1) * self.width;
            map_with!(s, later.sums[row.clone()], self.sums[row], |x, y| {
                s.fma(y, mine, s.mul(x, theirs))
            });
            let total = later.totals[t] * first(s, theirs);
            self.totals[t] = self.totals[t].mul_add(first(s, mine), total);
            self.highest[t] = highest;
        }
    }
}

/// The number that all lanes hold.
#[inline(always)]
fn first<S: Simd>(s: S, v: S::F) -> f32 {
    s.sum(s.mul(v, s.splat(1.0 / LANES as f32)))
}
