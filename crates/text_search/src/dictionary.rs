//! The terms of a part, sorted, each with where its postings lie.
//!
//! Sixteen terms share a head, whose offset is listed. Behind the head of a group:
//!
//! ```text
//! varint start of the group's postings
//! per term   varint bytes it shares with the one before it in the group   varint bytes that follow, and these
//!            varint postings   varint bytes of them
//! ```

use crate::error::{Result, malformed};
use crate::postings::Encoded;
use crate::stems::MAX_TERM_BYTES;
use crate::varint;

/// Terms in a group.
const GROUP: usize = 16;

/// Writes a dictionary, term by ascending term.
#[derive(Debug, Default)]
pub(crate) struct DictionaryWriter {
    pub(crate) heads: Vec<u8>,
    pub(crate) entries: Vec<u8>,
    pub(crate) len: u32,
    before: Vec<u8>,
}

impl DictionaryWriter {
    /// `start` and `end` are where the term's postings lie.
    pub(crate) fn push(&mut self, term: &[u8], postings: usize, start: usize, end: usize) {
        if (self.len as usize).is_multiple_of(GROUP) {
            self.heads.extend((self.entries.len() as u32).to_le_bytes());
            varint::put(&mut self.entries, start as u32);
            self.before.clear();
        }
        let shared = self
            .before
            .iter()
            .zip(term)
            .take_while(|(a, b)| a == b)
            .count();
        varint::put(&mut self.entries, shared as u32);
        varint::put(&mut self.entries, (term.len() - shared) as u32);
        self.entries.extend_from_slice(&term[shared..]);
        varint::put(&mut self.entries, postings as u32);
        varint::put(&mut self.entries, (end - start) as u32);
        self.before.clear();
        self.before.extend_from_slice(term);
        self.len += 1;
    }
}

/// Bytes of the list of heads.
pub(crate) fn heads_bytes(terms: u32) -> usize {
    4 * (terms as usize).div_ceil(GROUP)
}

/// A dictionary as read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dictionary<'a> {
    pub(crate) terms: u32,
    pub(crate) heads: &'a [u8],
    pub(crate) entries: &'a [u8],
    pub(crate) postings: &'a [u8],
    /// Where the entries lie in the file, and the postings.
    pub(crate) offsets: (usize, usize),
}

/// Reads the terms of a group one after another.
struct Group<'a> {
    dictionary: Dictionary<'a>,
    rest: &'a [u8],
    left: usize,
    term: Vec<u8>,
    start: usize,
}

impl<'a> Dictionary<'a> {
    fn bad(&self) -> crate::Error {
        malformed(self.offsets.0, "terms that no dictionary has")
    }

    fn group(&self, group: usize) -> Result<Group<'a>> {
        let head = self
            .heads
            .get(4 * group..4 * group + 4)
            .ok_or_else(|| self.bad())?;
        let at = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let mut rest = self.entries.get(at..).ok_or_else(|| self.bad())?;
        let start = varint::take(&mut rest).ok_or_else(|| self.bad())? as usize;
        Ok(Group {
            dictionary: *self,
            rest,
            left: (self.terms as usize - GROUP * group).min(GROUP),
            term: Vec::new(),
            start,
        })
    }

    /// The first term of a group, which is there whole.
    fn head(&self, group: usize) -> Result<&'a [u8]> {
        let mut rest = self.group(group)?.rest;
        let shared = varint::take(&mut rest);
        let len = varint::take(&mut rest).ok_or_else(|| self.bad())? as usize;
        let term = rest.get(..len).filter(|_| shared == Some(0));
        term.ok_or_else(|| self.bad())
    }

    /// The postings of a term.
    pub(crate) fn find(&self, term: &[u8]) -> Result<Option<Encoded<'a>>> {
        let (mut low, mut high) = (0, (self.terms as usize).div_ceil(GROUP));
        while low < high {
            let middle = low.midpoint(high);
            if self.head(middle)? <= term {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let Some(group) = low.checked_sub(1) else {
            return Ok(None);
        };
        let mut group = self.group(group)?;
        while let Some(postings) = group.next()? {
            match group.term.as_slice().cmp(term) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(Some(postings)),
                std::cmp::Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Goes through all terms, which ascend.
    pub(crate) fn for_each(
        &self,
        mut visit: impl FnMut(&[u8], Encoded<'a>) -> Result<()>,
    ) -> Result<()> {
        let mut before: Vec<u8> = Vec::new();
        let mut end = 0;
        for index in 0..(self.terms as usize).div_ceil(GROUP) {
            let mut group = self.group(index)?;
            if group.start != end {
                return Err(self.bad());
            }
            while let Some(postings) = group.next()? {
                if group.term <= before {
                    return Err(self.bad());
                }
                visit(&group.term, postings)?;
                before.clone_from(&group.term);
            }
            end = group.start;
        }
        if end == self.postings.len() {
            Ok(())
        } else {
            Err(self.bad())
        }
    }
}

impl<'a> Group<'a> {
    fn next(&mut self) -> Result<Option<Encoded<'a>>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let dictionary = self.dictionary;
        let entry = self.entry().ok_or_else(|| dictionary.bad())?;
        Ok(Some(entry))
    }

    fn entry(&mut self) -> Option<Encoded<'a>> {
        let shared = varint::take(&mut self.rest)? as usize;
        let len = varint::take(&mut self.rest)? as usize;
        if shared > self.term.len() || shared + len == 0 || shared + len > 2 * MAX_TERM_BYTES {
            return None;
        }
        self.term.truncate(shared);
        self.term.extend_from_slice(self.rest.get(..len)?);
        self.rest = &self.rest[len..];
        let postings = varint::take(&mut self.rest)?;
        let bytes = varint::take(&mut self.rest)? as usize;
        let range = self.start..self.start.checked_add(bytes)?;
        let encoded = Encoded {
            len: postings,
            bytes: self.dictionary.postings.get(range.clone())?,
            offset: self.dictionary.offsets.1 + range.start,
        };
        self.start = range.end;
        Some(encoded)
    }
}
