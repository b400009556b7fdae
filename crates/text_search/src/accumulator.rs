//! The scores of some texts while the terms of a query are gone through.

use crate::bm25::Scorer;
use crate::postings::BLOCK;
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
        let mut values = [0.0; BLOCK];
        for (documents, counts) in documents.chunks(BLOCK).zip(counts.chunks(BLOCK)) {
            let values = &mut values[..documents.len()];
            for (value, &document) in values.iter_mut().zip(documents) {
                *value = scorer.norm(length(document));
            }
            // Apart from what is gathered before and scattered behind, so that many are divided at once.
            for (value, &count) in values.iter_mut().zip(counts) {
                let count = count as f32;
                *value = weight * count / (count + *value);
            }
            for (&value, &document) in values.iter().zip(documents) {
                if let Some(score) = self.scores.get_mut(document as usize) {
                    *score += value;
                }
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
