//! The index of the texts of rows that no longer change, as a file.
//!
//! ```text
//! 0    "AIOSFTS\0"   8  u32 format version   12  u32 zero   16  u64 rows
//! 24   u64 bytes of the table   32  u32 crc32c of the table   36  zeros   60  u32 crc32c of bytes 0-59
//! 64   parts
//!      per part: u64 offset, u64 bytes, u32 crc32c of them, u32 zero
//!      u32 crc32c of these
//! ```

use crate::accumulator::Accumulator;
use crate::bm25::{Scorer, Statistics};
use crate::error::{Error, Result, malformed};
use crate::part::{PART_ROWS, Part};
use crate::postings::Encoded;
use crate::query::Query;
use bytes::Bytes;
use std::ops::Range;
use std::sync::OnceLock;
use vector_search::{Bitmap, TopK};

const MAGIC: [u8; 8] = *b"AIOSFTS\0";
/// Grows with every change of the format, and of how texts are taken apart: a new version of a library that does it, too.
const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;

/// What an index was made of: length and CRC-32C of the file of its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Length.
    pub size_bytes: u64,
    /// Checksum.
    pub crc32c: u32,
}

/// Where a part lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartEntry {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) crc32c: u32,
}

pub(crate) fn encode_header(rows: usize, stamp: Stamp) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&(rows as u64).to_le_bytes());
    header[24..32].copy_from_slice(&stamp.size_bytes.to_le_bytes());
    header[32..36].copy_from_slice(&stamp.crc32c.to_le_bytes());
    let crc = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(crate) fn encode_directory(parts: &[PartEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENTRY_BYTES * parts.len() + 4);
    for part in parts {
        out.extend(part.offset.to_le_bytes());
        out.extend(part.len.to_le_bytes());
        out.extend(part.crc32c.to_le_bytes());
        out.extend([0; 4]);
    }
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    out
}

/// An opened index. A part is compared with its checksum when it is first read.
#[derive(Debug)]
pub struct Index {
    bytes: Bytes,
    rows: usize,
    parts: Vec<(Range<usize>, u32)>,
    whole: Vec<OnceLock<bool>>,
}

impl Index {
    /// Checks the header and the directory; the rest when it is first read.
    ///
    /// # Errors
    /// `Malformed`, `Version`, and `Stale` when it is not of `rows` rows of the file of `stamp`.
    pub fn open(bytes: Bytes, rows: usize, stamp: Stamp) -> Result<Self> {
        let header = bytes.first_chunk::<HEADER_BYTES>();
        let header = header.ok_or_else(|| malformed(0, "the file is shorter than its header"))?;
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[..8] != MAGIC || crc32c::crc32c(&header[..60]) != word(60) {
            return Err(malformed(0, "the header fails its checksum"));
        }
        if word(8) != VERSION {
            return Err(Error::Version {
                found: word(8),
                known: VERSION,
            });
        }
        if *header != encode_header(rows, stamp) {
            return Err(Error::Stale);
        }
        let parts = read_directory(&bytes, rows.div_ceil(PART_ROWS))?;
        Ok(Self {
            whole: parts.iter().map(|_| OnceLock::new()).collect(),
            bytes,
            rows,
            parts,
        })
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn part(&self, index: usize) -> Result<Part<'_>> {
        let (range, crc) = &self.parts[index];
        let bytes = &self.bytes[range.clone()];
        if !self.whole[index].get_or_init(|| crc32c::crc32c(bytes) == *crc) {
            return Err(malformed(range.start, "a part fails its checksum"));
        }
        let documents = (self.rows - index * PART_ROWS).min(PART_ROWS);
        Part::open(bytes, documents, range.start)
    }

    /// Looks for the terms of a query.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn find(&self, query: &Query) -> Result<Found<'_>> {
        let parts = (0..self.parts.len()).map(|index| {
            let part = self.part(index)?;
            let lists = query.terms.iter().map(|term| part.dictionary.find(term));
            Ok((part, lists.collect::<Result<_>>()?))
        });
        Ok(Found {
            parts: parts.collect::<Result<_>>()?,
        })
    }

    /// Reads everything.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn check(&self) -> Result<()> {
        for (index, (range, crc)) in self.parts.iter().enumerate() {
            // Not as it was when it was first read.
            if crc32c::crc32c(&self.bytes[range.clone()]) != *crc {
                return Err(malformed(range.start, "a part fails its checksum"));
            }
            self.part(index)?.check(range.start)?;
        }
        Ok(())
    }
}

/// The parts follow each other from the header to the directory.
fn read_directory(bytes: &[u8], parts: usize) -> Result<Vec<(Range<usize>, u32)>> {
    let bad = |what| malformed(bytes.len().saturating_sub(4), what);
    let size = parts
        .checked_mul(ENTRY_BYTES)
        .and_then(|size| size.checked_add(4));
    let start = size
        .and_then(|size| bytes.len().checked_sub(size))
        .filter(|&start| start >= HEADER_BYTES);
    let start = start.ok_or_else(|| bad("the file is shorter than the list of its parts"))?;
    let (directory, crc) = bytes[start..].split_at(bytes.len() - start - 4);
    if crc32c::crc32c(directory).to_le_bytes() != crc {
        return Err(bad("the list of parts fails its checksum"));
    }
    let mut end = HEADER_BYTES;
    let mut found = Vec::with_capacity(parts);
    for entry in directory.chunks_exact(ENTRY_BYTES) {
        let word = |at: usize| {
            u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let len = usize::try_from(long(8))
            .ok()
            .filter(|&len| len <= start - end);
        let len = len.filter(|_| long(0) == end as u64);
        let len = len.ok_or_else(|| bad("a part is not behind the one before it"))?;
        found.push((end..end + len, word(16)));
        end += len;
    }
    if end == start {
        Ok(found)
    } else {
        Err(bad("there are bytes that belong to no part"))
    }
}

/// What an index holds of a query.
#[derive(Debug)]
pub struct Found<'a> {
    /// Postings of each term of the query, in each part.
    parts: Vec<(Part<'a>, Vec<Option<Encoded<'a>>>)>,
}

impl Found<'_> {
    /// Adds what the rows that are not `dead` hold to the statistics.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn count(&self, dead: Option<&Bitmap>, statistics: &mut Statistics<'_>) -> Result<()> {
        for (index, (part, lists)) in self.parts.iter().enumerate() {
            let base = index * PART_ROWS;
            let end = base + part.documents as usize;
            statistics.documents += u64::from(part.documents);
            statistics.length += part.length;
            for row in dead.into_iter().flat_map(|dead| dead.rows(base..end)) {
                statistics.documents -= 1;
                let length = u64::from(part.length_of((row - base) as u32));
                statistics.length = statistics.length.saturating_sub(length);
            }
            for (holding, list) in statistics.holding.iter_mut().zip(lists) {
                let Some(list) = list else { continue };
                *holding += u64::from(list.len);
                let Some(dead) = dead else { continue };
                let some = |first, last| has_any(dead, base, first, last);
                list.for_each(part.documents, some, |documents, _| {
                    let gone = documents
                        .iter()
                        .filter(|&&document| dead.contains(base + document as usize));
                    *holding -= gone.count() as u64;
                })?;
            }
        }
        Ok(())
    }

    /// Offers the rows of `mask`, all when there is none, that hold a term; returns the scores of `wanted` rows, which are
    /// among these.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn score(
        &self,
        scorer: &Scorer,
        mask: Option<&Bitmap>,
        wanted: &[usize],
        accumulator: &mut Accumulator,
        best: &mut TopK,
    ) -> Result<Vec<f32>> {
        let mut scores = vec![0.0; wanted.len()];
        for (index, (part, lists)) in self.parts.iter().enumerate() {
            let base = index * PART_ROWS;
            accumulator.begin(part.documents as usize);
            let some = |first, last| mask.is_none_or(|mask| has_any(mask, base, first, last));
            for term in &scorer.terms {
                let Some(list) = lists[term.term] else {
                    continue;
                };
                list.for_each(part.documents, some, |documents, counts| {
                    accumulator.add(scorer, term.weight, documents, counts, |document| {
                        part.length_of(document)
                    });
                })?;
            }
            accumulator.offer(base, mask, best);
            for (score, &row) in scores.iter_mut().zip(wanted) {
                if row / PART_ROWS == index {
                    *score = accumulator.score(row - base);
                }
            }
        }
        Ok(scores)
    }
}

fn has_any(rows: &Bitmap, base: usize, first: u32, last: u32) -> bool {
    rows.rows(base + first as usize..base + last as usize + 1)
        .next()
        .is_some()
}
