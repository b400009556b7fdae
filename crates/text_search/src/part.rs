//! A part of an index: the words of up to 65,536 rows.
//!
//! ```text
//! 0    u32 documents   4  u32 terms   8  u32 bytes of the entries   12  u32 bytes of the postings   16  u64 words
//! 24   u32 words of each document [documents]
//!      u32 offset in the entries of each group of terms [ceil(terms / 16)]
//!      entries, then postings
//! ```

use crate::dictionary::{Dictionary, DictionaryWriter, heads_bytes};
use crate::error::{Result, malformed};
use crate::inverted::Inverted;
use crate::postings::{Postings, encode};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Rows of a part: their scores fit into the cache of a core, and their numbers into 16 bits.
pub(crate) const PART_ROWS: usize = 1 << 16;
const HEADER_BYTES: usize = 24;

/// Writes a part from texts that were inverted in slices, in the order of their rows.
pub(crate) fn encode_part(slices: &[Inverted]) -> Vec<u8> {
    let mut dictionary = DictionaryWriter::default();
    let mut encoded = Vec::new();
    let bases: Vec<u32> = slices
        .iter()
        .scan(0, |next, slice| {
            let base = *next;
            *next += slice.lengths.len() as u32;
            Some(base)
        })
        .collect();
    let sorted: Vec<_> = slices.iter().map(Inverted::sorted).collect();
    let mut cursors: Vec<_> = sorted.iter().map(|terms| terms.iter()).collect();
    let mut heads: BinaryHeap<Reverse<(&[u8], usize, u32)>> = BinaryHeap::new();
    for (slice, cursor) in cursors.iter_mut().enumerate() {
        heads.extend(
            cursor
                .next()
                .map(|&(term, number)| Reverse((term, slice, number))),
        );
    }
    let mut joined = Postings::default();
    while let Some(&Reverse((term, ..))) = heads.peek() {
        joined.documents.clear();
        joined.counts.clear();
        while let Some(&Reverse((same, slice, number))) = heads.peek() {
            if same != term {
                break;
            }
            heads.pop();
            slices[slice].append(number, bases[slice], &mut joined);
            let next = cursors[slice].next();
            heads.extend(next.map(|&(term, number)| Reverse((term, slice, number))));
        }
        // The exact form of a word that was met as a part of a name alone.
        if joined.documents.is_empty() {
            continue;
        }
        let start = encoded.len();
        encode(&joined, &mut encoded);
        dictionary.push(term, joined.documents.len(), start, encoded.len());
    }
    let lengths = || {
        slices
            .iter()
            .flat_map(|slice| slice.lengths.iter().copied())
    };
    let mut out = Vec::new();
    out.extend((lengths().count() as u32).to_le_bytes());
    out.extend(dictionary.len.to_le_bytes());
    out.extend((dictionary.entries.len() as u32).to_le_bytes());
    out.extend((encoded.len() as u32).to_le_bytes());
    out.extend(lengths().map(u64::from).sum::<u64>().to_le_bytes());
    out.extend(lengths().flat_map(u32::to_le_bytes));
    out.extend(dictionary.heads);
    out.extend(dictionary.entries);
    out.extend(encoded);
    out
}

/// A part as read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) documents: u32,
    /// Words in all of them.
    pub(crate) length: u64,
    lengths: &'a [u8],
    pub(crate) dictionary: Dictionary<'a>,
}

impl<'a> Part<'a> {
    /// Reads a part of `documents` rows that lies at `offset` of its file.
    pub(crate) fn open(bytes: &'a [u8], documents: usize, offset: usize) -> Result<Self> {
        let bad = || malformed(offset, "a part whose lengths contradict each other");
        let header = bytes.first_chunk::<HEADER_BYTES>().ok_or_else(bad)?;
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if word(0) as usize != documents {
            return Err(bad());
        }
        let mut rest = &bytes[HEADER_BYTES..];
        let mut take = |len: usize| {
            let (now, later) = rest.split_at_checked(len).ok_or_else(bad)?;
            rest = later;
            Ok(now)
        };
        let lengths = take(4 * documents)?;
        let heads = take(heads_bytes(word(4)))?;
        let entries = take(word(8) as usize)?;
        let postings = take(word(12) as usize)?;
        if !rest.is_empty() {
            return Err(bad());
        }
        let before = HEADER_BYTES + lengths.len() + heads.len();
        Ok(Self {
            documents: documents as u32,
            length: u64::from(word(16)) | u64::from(word(20)) << 32,
            lengths,
            dictionary: Dictionary {
                terms: word(4),
                heads,
                entries,
                postings,
                offsets: (offset + before, offset + before + entries.len()),
            },
        })
    }

    /// Words of a document.
    #[inline]
    pub(crate) fn length_of(&self, document: u32) -> u32 {
        let at = 4 * document as usize;
        let bytes = self
            .lengths
            .get(at..at + 4)
            .and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    /// Reads everything.
    pub(crate) fn check(&self, offset: usize) -> Result<()> {
        let lengths = (0..self.documents).map(|document| u64::from(self.length_of(document)));
        if lengths.sum::<u64>() != self.length {
            return Err(malformed(offset, "words of documents that do not add up"));
        }
        self.dictionary.for_each(|_, postings| {
            if postings.len == 0 {
                return Err(malformed(postings.offset, "a term that stands nowhere"));
            }
            postings.for_each(self.documents, |_, _| true, |_, _| {})
        })
    }
}
