//! The words of texts that come and go, in memory.

use crate::accumulator::Accumulator;
use crate::analyzer::Analyzer;
use crate::bm25::{Scorer, Statistics};
use crate::postings::Postings;
use crate::query::Query;
use vector_search::{Bitmap, TopK};

/// Texts in the order in which they came. None goes; which ones count is said with every question.
#[derive(Debug, Default)]
pub struct Recent {
    analyzer: Analyzer,
    /// Of each term.
    postings: Vec<Postings>,
    /// How many words each text has.
    lengths: Vec<u32>,
}

impl Recent {
    /// Adds a text and returns its row.
    pub fn add(&mut self, text: &str) -> usize {
        let row = self.lengths.len();
        let postings = &mut self.postings;
        let length = self.analyzer.read(text, |term, count| {
            let term = term as usize;
            if postings.len() <= term {
                postings.resize_with(term + 1, Postings::default);
            }
            postings[term].documents.push(row as u32);
            postings[term].counts.push(count);
        });
        self.lengths.push(length);
        row
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks for the terms of a query.
    #[must_use]
    pub fn find(&self, query: &Query) -> FoundRecent<'_> {
        FoundRecent {
            lengths: &self.lengths,
            lists: query
                .terms
                .iter()
                .map(|term| self.postings.get(self.analyzer.number(term)? as usize))
                .collect(),
        }
    }
}

/// What texts in memory hold of a query.
#[derive(Debug)]
pub struct FoundRecent<'a> {
    lengths: &'a [u32],
    lists: Vec<Option<&'a Postings>>,
}

impl FoundRecent<'_> {
    /// Adds what the rows of `alive` hold to the statistics.
    pub fn count(&self, alive: &Bitmap, statistics: &mut Statistics<'_>) {
        for row in alive.rows(0..self.lengths.len()) {
            statistics.documents += 1;
            statistics.length += u64::from(self.lengths[row]);
        }
        for (holding, list) in statistics.holding.iter_mut().zip(&self.lists) {
            let rows = list.iter().flat_map(|list| &list.documents);
            *holding += rows.filter(|&&row| alive.contains(row as usize)).count() as u64;
        }
    }

    /// Offers the rows of `mask` that hold a term; returns the scores of `wanted` rows.
    pub fn score(
        &self,
        scorer: &Scorer,
        mask: &Bitmap,
        wanted: &[usize],
        accumulator: &mut Accumulator,
        best: &mut TopK,
    ) -> Vec<f32> {
        accumulator.begin(self.lengths.len());
        for term in &scorer.terms {
            if let Some(list) = self.lists[term.term] {
                let length = |row: u32| self.lengths[row as usize];
                accumulator.add(scorer, term.weight, &list.documents, &list.counts, length);
            }
        }
        accumulator.offer(0, Some(mask), best);
        wanted.iter().map(|&row| accumulator.score(row)).collect()
    }
}
