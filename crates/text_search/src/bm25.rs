//! BM25 (Robertson and Zaragoza, 2009) over texts that lie in several places.
//!
//! The score of a text is the sum over the words of the query of `weight · tf / (tf + k1 · (1 - b + b · length / mean))`,
//! where `weight` is `ln(1 + (N - n + 0.5) / (n + 0.5))`, with `n` of `N` texts holding the word in any form. The
//! exact form adds as much as it is rarer than all forms: a text that has it scores as if only it had been looked for.

use crate::query::Query;

/// What shapes a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bm25 {
    /// How soon more of a word stops counting; at least 0.
    pub k1: f32,
    /// How much long texts are held back, 0 to 1.
    pub b: f32,
}

impl Default for Bm25 {
    fn default() -> Self {
        Self { k1: 0.9, b: 0.4 }
    }
}

/// What the texts hold of a query, all places together.
#[derive(Debug, Clone)]
pub struct Statistics<'q> {
    pub(crate) query: &'q Query,
    /// Texts.
    pub(crate) documents: u64,
    /// Words in all of them.
    pub(crate) length: u64,
    /// Texts that hold each term of the query.
    pub(crate) holding: Vec<u64>,
}

impl<'q> Statistics<'q> {
    /// Those of no text.
    #[must_use]
    pub fn new(query: &'q Query) -> Self {
        Self {
            query,
            documents: 0,
            length: 0,
            holding: vec![0; query.terms.len()],
        }
    }

    /// Weighs the terms.
    #[must_use]
    pub fn scorer(&self, bm25: Bm25) -> Scorer {
        let rarity = |holding: u64| {
            let (all, holding) = (self.documents as f64, holding as f64);
            (1.0 + (all - holding + 0.5) / (holding + 0.5)).ln()
        };
        let mut terms = Vec::new();
        let mut first = 0;
        for of in &self.query.words {
            let behind = first + of.stems;
            let of_all = rarity(self.holding[first..behind].iter().sum());
            let count = f64::from(of.count);
            let mut weigh = |term: usize, weight: f64| {
                let weight = (count * weight) as f32;
                if self.holding[term] > 0 && weight > 0.0 {
                    terms.push(Term { term, weight });
                }
            };
            (first..behind).for_each(|term| weigh(term, of_all));
            if of.has_exact {
                weigh(behind, (rarity(self.holding[behind]) - of_all).max(0.0));
            }
            first = behind + usize::from(of.has_exact);
        }
        terms.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.term.cmp(&b.term)));
        let mean = self.length as f64 / self.documents.max(1) as f64;
        let (k1, b) = (f64::from(bm25.k1), f64::from(bm25.b));
        Scorer {
            terms,
            base: (k1 * (1.0 - b)) as f32,
            slope: (k1 * b / mean.max(1.0)) as f32,
        }
    }
}

/// Scores texts.
#[derive(Debug, Clone)]
pub struct Scorer {
    /// The terms that stand in a text, the heaviest first: scores are added up in this order wherever a text lies.
    pub(crate) terms: Vec<Term>,
    base: f32,
    slope: f32,
}

/// A term of a query, and its weight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub(crate) term: usize,
    pub(crate) weight: f32,
}

impl Scorer {
    /// How much a text of some length is held back.
    #[inline]
    pub(crate) fn norm(&self, length: u32) -> f32 {
        self.base + self.slope * length as f32
    }
}
