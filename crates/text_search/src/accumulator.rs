//! The scores of some texts while the terms of a query are gone through.

use crate::bm25::Scorer;
use vector_search::{Bitmap, Scored, TopK};

/// Texts whose best score is looked at before their own.
const GLANCE: usize = 64;

/// Scores being added up. One is reused for many queries.
#[derive(Debug, Default)]
pub struct Accumulator {
    scores: Vec<f32>,
}

impl Accumulator {
    pub(crate) fn begin(&mut self, documents: usize) {
        self.scores.clear();
        self.scores.resize(documents, 0.0);
    }

    /// Adds what a term says of some documents. `length` gives how many words one has.
    #[inline]
    pub(crate) fn add(
        &mut self,
        scorer: &Scorer,
        weight: f32,
        documents: &[u32],
        counts: &[u32],
        length: impl Fn(u32) -> u32,
    ) {
        for (&document, &count) in documents.iter().zip(counts) {
            if let Some(score) = self.scores.get_mut(document as usize) {
                *score += scorer.of(weight, count, length(document));
            }
        }
    }

    /// The score of one document.
    pub(crate) fn score(&self, document: usize) -> f32 {
        self.scores.get(document).copied().unwrap_or(0.0)
    }

    /// Offers the documents that hold a term and whose rows, `base` further, are in `mask`.
    pub(crate) fn offer(&self, base: usize, mask: Option<&Bitmap>, best: &mut TopK) {
        for (glance, scores) in self.scores.chunks(GLANCE).enumerate() {
            let most = scores.iter().fold(0.0f32, |most, &score| most.max(score));
            if most <= 0.0 || most < best.least() {
                continue;
            }
            for (index, &score) in scores.iter().enumerate() {
                let row = base + glance * GLANCE + index;
                if score > 0.0 && mask.is_none_or(|mask| mask.contains(row)) {
                    best.offer(Scored { row, score });
                }
            }
        }
    }
}
