//! The best k of a stream of scored rows.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row and its similarity to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Row number.
    pub row: usize,
    /// Similarity; higher is nearer.
    pub score: f32,
}

impl Eq for Scored {}

impl Ord for Scored {
    /// Best first: the higher score, then the lower row.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .score
            .total_cmp(&self.score)
            .then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the best `k` rows it is offered that score at least `floor`.
#[derive(Debug, Clone)]
pub struct TopK {
    /// The worst kept row is on top.
    heap: BinaryHeap<Scored>,
    k: usize,
    floor: f32,
}

impl TopK {
    /// An empty selection.
    #[must_use]
    pub fn new(k: usize, floor: f32) -> Self {
        Self {
            heap: BinaryHeap::new(),
            k,
            floor,
        }
    }

    /// Considers a row.
    #[inline]
    pub fn offer(&mut self, candidate: Scored) {
        if candidate.score < self.floor {
            return;
        }
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }

    /// What a row must score to be kept, at least.
    #[must_use]
    #[inline]
    pub fn least(&self) -> f32 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() >= self.k => worst.score.max(self.floor),
            _ => self.floor,
        }
    }

    /// Takes over the rows another selection kept.
    pub fn merge(&mut self, other: Self) {
        for candidate in other.heap {
            self.offer(candidate);
        }
    }

    /// The kept rows, best first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<Scored> {
        self.heap.into_sorted_vec()
    }
}
