//! A slice of texts, inverted.

use crate::analyzer::Analyzer;
use crate::postings::Postings;

/// Texts read one after another, 65,536 at most.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    analyzer: Analyzer,
    /// Term, text and count, 32, 16 and 16 bits: appended in one stream, which is far faster than to a list for each term.
    stream: Vec<u64>,
    lengths: Vec<u32>,
}

impl Slice {
    pub(crate) fn add(&mut self, text: &str) {
        let document = (self.lengths.len() as u64 & 0xffff) << 16;
        let stream = &mut self.stream;
        let length = self.analyzer.read(text, |term, count| {
            stream.push(u64::from(term) << 32 | document | u64::from(count));
        });
        self.lengths.push(length);
    }

    /// Gathers what belongs to each term.
    pub(crate) fn invert(self) -> Inverted {
        let mut ends = vec![0usize; self.analyzer.len()];
        for &posting in &self.stream {
            ends[(posting >> 32) as usize] += 1;
        }
        let mut next = 0;
        for end in &mut ends {
            next += std::mem::replace(end, next);
        }
        let mut postings = vec![0; self.stream.len()];
        for posting in self.stream {
            let at = &mut ends[(posting >> 32) as usize];
            postings[*at] = posting as u32;
            *at += 1;
        }
        Inverted {
            analyzer: self.analyzer,
            postings,
            ends,
            lengths: self.lengths,
        }
    }
}

/// The postings of the terms of a slice.
#[derive(Debug, Default)]
pub(crate) struct Inverted {
    analyzer: Analyzer,
    /// Text and count, 16 bits each, term by term.
    postings: Vec<u32>,
    ends: Vec<usize>,
    /// How many words each text has.
    pub(crate) lengths: Vec<u32>,
}

impl Inverted {
    /// All terms, ascending, and the number of each.
    pub(crate) fn sorted(&self) -> Vec<(&[u8], u32)> {
        self.analyzer.sorted()
    }

    /// Appends the postings of a term, of documents that are `base` further.
    pub(crate) fn append(&self, term: u32, base: u32, to: &mut Postings) {
        let term = term as usize;
        let start = if term == 0 { 0 } else { self.ends[term - 1] };
        for &posting in &self.postings[start..self.ends[term]] {
            to.documents.push(base + (posting >> 16));
            to.counts.push(posting & 0xffff);
        }
    }
}
