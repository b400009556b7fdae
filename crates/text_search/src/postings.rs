//! Postings: in which texts a term stands, and how often.
//!
//! Blocks of 128 and then what is left, one by one:
//!
//! ```text
//! per block   u16 last document   u8 bits of a gap   u8 bits of a count
//!             128 gaps, then 128 counts less one, packed by BitPacker4x
//! per rest    varint gap   varint count less one
//! ```
//!
//! A gap is the distance to the document before, less one; before the first stands document -1.

use crate::error::{Result, malformed};
use crate::varint;
use bitpacking::{BitPacker, BitPacker4x};

/// Postings in a block.
pub(crate) const BLOCK: usize = BitPacker4x::BLOCK_LEN;
const HEADER_BYTES: usize = 4;

/// Postings in memory: documents ascending, and a count for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Postings {
    pub(crate) documents: Vec<u32>,
    pub(crate) counts: Vec<u32>,
}

/// Appends postings, whose documents are below 65,536.
pub(crate) fn encode(postings: &Postings, out: &mut Vec<u8>) {
    let packer = BitPacker4x::new();
    let mut before = u32::MAX;
    let mut gap = |document: u32| {
        let gap = document.wrapping_sub(before).wrapping_sub(1);
        before = document;
        gap
    };
    let documents = postings.documents.chunks(BLOCK);
    for (documents, counts) in documents.zip(postings.counts.chunks(BLOCK)) {
        if documents.len() < BLOCK {
            for (&document, &count) in documents.iter().zip(counts) {
                varint::put(out, gap(document));
                varint::put(out, count - 1);
            }
            return;
        }
        let mut gaps = [0; BLOCK];
        let mut less = [0; BLOCK];
        for index in 0..BLOCK {
            gaps[index] = gap(documents[index]);
            less[index] = counts[index] - 1;
        }
        let bits = [packer.num_bits(&gaps), packer.num_bits(&less)];
        out.extend((documents[BLOCK - 1] as u16).to_le_bytes());
        out.extend(bits);
        for (values, bits) in [(gaps, bits[0]), (less, bits[1])] {
            let start = out.len();
            out.resize(start + packed_bytes(bits), 0);
            packer.compress(&values, &mut out[start..], bits);
        }
    }
}

fn packed_bytes(bits: u8) -> usize {
    usize::from(bits) * BLOCK / 8
}

/// Encoded postings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded<'a> {
    /// How many there are.
    pub(crate) len: u32,
    pub(crate) bytes: &'a [u8],
    /// Where they lie in the file.
    pub(crate) offset: usize,
}

impl Encoded<'_> {
    /// Hands out the postings, some at a time; without those blocks of whose documents, first to last, `wanted` says
    /// that there is no need. Documents ascend and are below `end`.
    pub(crate) fn for_each(
        &self,
        end: u32,
        wanted: impl Fn(u32, u32) -> bool,
        mut take: impl FnMut(&[u32], &[u32]),
    ) -> Result<()> {
        let bad = || malformed(self.offset, "postings that no list of documents has");
        let packer = BitPacker4x::new();
        let mut rest = self.bytes;
        let mut documents = [0; BLOCK];
        let mut counts = [0; BLOCK];
        let mut next = 0u32;
        for _ in 0..self.len as usize / BLOCK {
            let &[low, high, gap_bits, count_bits] =
                rest.first_chunk::<HEADER_BYTES>().ok_or_else(bad)?;
            if gap_bits > 16 || count_bits > 32 {
                return Err(bad());
            }
            let (gaps, size) = (
                packed_bytes(gap_bits),
                packed_bytes(gap_bits) + packed_bytes(count_bits),
            );
            let packed = rest
                .get(HEADER_BYTES..HEADER_BYTES + size)
                .ok_or_else(bad)?;
            rest = &rest[HEADER_BYTES + size..];
            let last = u32::from(u16::from_le_bytes([low, high]));
            if last < next || last >= end {
                return Err(bad());
            }
            if wanted(next, last) {
                packer.decompress(&packed[..gaps], &mut documents, gap_bits);
                packer.decompress(&packed[gaps..], &mut counts, count_bits);
                for index in 0..BLOCK {
                    // Sixteen bits a gap: no sum of a block overflows.
                    next += documents[index];
                    documents[index] = next;
                    next += 1;
                    counts[index] = counts[index].saturating_add(1);
                }
                if next != last + 1 {
                    return Err(bad());
                }
                take(&documents, &counts);
            }
            next = last + 1;
        }
        let left = self.len as usize % BLOCK;
        for index in 0..left {
            let gap = varint::take(&mut rest).ok_or_else(bad)?;
            let count = varint::take(&mut rest).ok_or_else(bad)?;
            let document = next
                .checked_add(gap)
                .filter(|&document| document < end)
                .ok_or_else(bad)?;
            documents[index] = document;
            counts[index] = count.saturating_add(1);
            next = document + 1;
        }
        if !rest.is_empty() {
            return Err(bad());
        }
        if left > 0 {
            take(&documents[..left], &counts[..left]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Encoded, Postings, encode};
    use proptest::prelude::*;

    fn encoded(postings: &Postings) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(postings, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn postings_come_back(documents in prop::collection::btree_set(0u32..65_536, 0..600), spread in 1u32..4) {
            let documents: Vec<u32> = documents.into_iter().collect();
            let counts: Vec<u32> = documents.iter().map(|document| 1 + document % spread * 1000).collect();
            let postings = Postings { documents, counts };
            let bytes = encoded(&postings);
            let read = Encoded { len: postings.documents.len() as u32, bytes: &bytes, offset: 0 };
            let mut found = Postings::default();
            read.for_each(65_536, |_, _| true, |documents, counts| {
                found.documents.extend_from_slice(documents);
                found.counts.extend_from_slice(counts);
            }).unwrap();
            prop_assert_eq!(found.documents, postings.documents);
            prop_assert_eq!(found.counts, postings.counts);
        }

        #[test]
        fn foreign_bytes_are_refused_or_are_documents_in_order(
            bytes in prop::collection::vec(any::<u8>(), 0..900), len in 0u32..300, end in 0u32..70_000,
        ) {
            let mut before = None;
            let _ = Encoded { len, bytes: &bytes, offset: 0 }.for_each(end, |_, _| true, |documents, _| {
                for &document in documents {
                    assert!(document < end && before.is_none_or(|before| before < document));
                    before = Some(document);
                }
            });
        }
    }
}
