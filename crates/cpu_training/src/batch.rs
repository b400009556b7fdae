//! Positions that are computed together.

use std::ops::Range;

use crate::error::{Result, TrainingError};

/// Positions of documents, one behind the other, without padding.
///
/// What a position sees is in its own document: clean positions of a lower level; a clean one those of its own
/// level too; one of a copy those of the copy that are of no higher level. With the place in the text as the
/// level that is a decoder's attention, and copies are texts that share their beginning.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Tokens.
    pub ids: &'a [u32],
    /// Places in the text.
    pub positions: &'a [u32],
    /// Clean positions of a lower level are seen.
    pub level: &'a [i32],
    /// 0 for clean positions; each copy has a number of its own.
    pub noisy: &'a [i32],
    /// Numbers of the documents; those of one stand together.
    pub document: &'a [i32],
}

/// A batch that was checked, with its documents.
pub(crate) struct Checked<'a> {
    pub(crate) batch: Batch<'a>,
    pub(crate) documents: Vec<Range<usize>>,
    /// Runs of positions that each position sees, ascending.
    seen: Vec<Vec<Range<usize>>>,
}

impl Checked<'_> {
    /// Runs of positions that a position sees, ascending.
    pub(crate) fn seen(&self, query: usize) -> &[Range<usize>] {
        &self.seen[query]
    }
}

impl<'a> Batch<'a> {
    /// Positions.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    pub(crate) fn checked(self, vocab: usize, window: usize) -> Result<Checked<'a>> {
        let len = self.len();
        let fault = |detail| Err(TrainingError::Batch { detail });
        let lens = [
            self.positions.len(),
            self.level.len(),
            self.noisy.len(),
            self.document.len(),
        ];
        if lens.iter().any(|&other| other != len) {
            return fault(format!("expected {len} of everything, got {lens:?}"));
        }
        if let Some(id) = self.ids.iter().find(|&&id| id as usize >= vocab) {
            return fault(format!("token {id} of a vocabulary of {vocab}"));
        }
        if let Some(place) = self.positions.iter().find(|&&at| at as usize >= window) {
            return fault(format!("position {place} of a window of {window}"));
        }
        let mut documents: Vec<Range<usize>> = Vec::new();
        for at in 0..len {
            match documents.last_mut() {
                Some(last) if self.document[last.start] == self.document[at] => last.end = at + 1,
                _ => documents.push(at..at + 1),
            }
        }
        let mut numbers: Vec<i32> = documents
            .iter()
            .map(|one| self.document[one.start])
            .collect();
        numbers.sort_unstable();
        if numbers.windows(2).any(|pair| pair[0] == pair[1]) {
            return fault("a document stands in two places".to_owned());
        }
        let of_document = |document: &Range<usize>| {
            let document = document.clone();
            document
                .clone()
                .map(move |query| self.runs(query, document.clone()))
        };
        let seen = documents.iter().flat_map(of_document).collect();
        Ok(Checked {
            batch: self,
            documents,
            seen,
        })
    }

    /// Runs of positions of its document that a position sees.
    fn runs(&self, query: usize, document: Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for key in document.filter(|&key| self.sees(query, key)) {
            match runs.last_mut() {
                Some(run) if run.end == key => run.end += 1,
                _ => runs.push(key..key + 1),
            }
        }
        runs
    }

    /// Whether a position sees another of its document.
    fn sees(&self, query: usize, key: usize) -> bool {
        if self.noisy[key] != 0 {
            return self.noisy[query] == self.noisy[key] && self.level[key] <= self.level[query];
        }
        let is_own = self.level[key] == self.level[query] && self.noisy[query] == 0;
        self.level[key] < self.level[query] || is_own
    }
}
