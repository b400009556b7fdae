//! The framing of log records: one frame is one commit, applied whole or not at all.
//!
//! ```text
//! 0   u32  marker "FRM2"
//! 4   u32  bytes of the frame behind these 32, a multiple of 8
//! 8   u32  crc32c of everything else before the footer, continued from the log's salt
//! 12  u16  kind: 3 operations, 4 closed
//! 14  u16  bytes of the footer
//! 16  u64  number of the commit
//! 24  u64  bytes of this log known to be durable when the frame was written
//! 32       payload, padded with zeros to a multiple of 8: the removals before, then the operations
//!          footer: the ids that the commit itself removed, padded with zeros to a multiple of 8
//! -24 u64  number of the commit
//! -16 u32  bytes of these ids, 2^32 - 1 when they are too many to list
//! -12 u32  how many pieces of the frame were zeros when it was written
//! -8  u32  crc32c of the frame's length and the footer up to here, continued from the log's salt
//! -4  u32  marker "END2"
//! ```
//!
//! A piece is what of a frame lies in one aligned sector of 512 bytes of its log. Head and footer tell the end of the
//! frame each on its own, so damage to one leaves the other; `torn` says what a frame that fails was.
//!
//! "FRM1" has no footer. Its length is that of the payload, and its kind a u32: also 1 and 2, the same without the
//! removals before.

use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::removals::{Removals, Removed};
use std::path::Path;
use std::sync::Arc;

pub(crate) const HEADER_BYTES: usize = 32;
const BARE_MARKER: [u8; 4] = *b"FRM1";
const MARKER: [u8; 4] = *b"FRM2";
const END_MARKER: [u8; 4] = *b"END2";
/// The footer without ids.
const END_BYTES: usize = 24;
const TOO_MANY: u32 = u32::MAX;

/// Most operations of a frame. A larger commit goes straight into a segment.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 256 << 20;
/// Most of everything else.
const MAX_REST_BYTES: usize = 64 << 10;
/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

const KIND_BARE_OPERATIONS: u32 = 1;
const KIND_BARE_CLOSED: u32 = 2;
const KIND_OPERATIONS: u32 = 3;
const KIND_CLOSED: u32 = 4;
const OP_PUT: u8 = 1;
const OP_DELETE: u8 = 2;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    /// Stores a memory, replacing the one of its id.
    Put(Arc<Memory>),
    /// Removes a memory.
    Delete(String),
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body {
    /// The changes of a commit.
    Operations(Vec<Operation>),
    /// The writer closed the store; everything before is durable.
    Closed,
}

/// A frame as read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) seq: u64,
    pub(crate) durable: u64,
    /// What the commits before it removed; none in logs that were written before it was noted.
    pub(crate) before: Option<Removals>,
    pub(crate) body: Body,
    /// Bytes it takes in the log.
    pub(crate) len: usize,
}

/// A commit as it is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commit<'a> {
    pub(crate) seq: u64,
    pub(crate) durable: u64,
    /// What the commits before it removed.
    pub(crate) before: &'a Removals,
    /// What it removes.
    pub(crate) removed: &'a Removed,
    pub(crate) body: &'a Body,
}

/// A frame's first bytes. They are in one sector, so a torn frame has them as they were written, or zeros.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    has_footer: bool,
    len: usize,
}

impl Header {
    /// Reads a header; `None` when the bytes are not one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let len = u32_at(bytes, 4) as usize;
        let has_footer = bytes[..4] == MARKER;
        let fits = if has_footer {
            len.is_multiple_of(8) && len <= MAX_PAYLOAD_BYTES + MAX_REST_BYTES
        } else {
            bytes[..4] == BARE_MARKER && len <= MAX_PAYLOAD_BYTES
        };
        fits.then_some(Self { has_footer, len })
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(self) -> usize {
        HEADER_BYTES + self.len.next_multiple_of(8)
    }

    /// Whether the last byte that a writer makes no zero is there: then so is all before it, or a sector is missing.
    pub(crate) fn is_there_to_its_end(self, frame: &[u8]) -> bool {
        let written = HEADER_BYTES + self.len;
        frame
            .get(..written)
            .is_some_and(|frame| frame.last() != Some(&0))
    }
}

/// What a frame says at its end, for when the rest of it is damaged.
#[derive(Debug)]
pub(crate) struct Footer<'a> {
    pub(crate) seq: u64,
    /// Pieces that were zeros.
    pub(crate) zero_pieces: u32,
    len: usize,
    removed: Option<&'a [u8]>,
}

impl<'a> Footer<'a> {
    /// Reads the footer at the end of a frame; `None` when it is none of a frame of this length.
    pub(crate) fn read(salt: u32, frame: &'a [u8]) -> Option<Self> {
        let end = frame.len().checked_sub(HEADER_BYTES + END_BYTES)? + HEADER_BYTES;
        let (ids, said) = (&frame[..end], &frame[end..]);
        if said[20..] != END_MARKER {
            return None;
        }
        let ids_len = match u32_at(said, 8) {
            TOO_MANY => None,
            len => Some(len as usize),
        };
        let padded = ids_len.unwrap_or(0).checked_next_multiple_of(8)?;
        let start = ids.len().checked_sub(padded)?;
        let removed = ids_len.map(|len| &ids[start..start + len]);
        (start >= HEADER_BYTES && footer_checksum(salt, frame, start) == u32_at(said, 16)).then(
            || Self {
                seq: u64_at(said, 0),
                zero_pieces: u32_at(said, 12),
                len: padded + END_BYTES,
                removed,
            },
        )
    }

    /// The ids that the commit removed; `None` when they were too many to list.
    pub(crate) fn removed(&self) -> Option<Vec<String>> {
        let mut cursor = Cursor {
            rest: self.removed?,
        };
        let mut ids = Vec::new();
        while !cursor.rest.is_empty() {
            ids.push(cursor.text()?);
        }
        Some(ids)
    }
}

/// Counts the pieces of a frame, or of part of one, at byte `at` of its log that are all zeros.
pub(crate) fn zero_pieces(at: usize, bytes: &[u8]) -> u32 {
    let first = (at.next_multiple_of(SECTOR_BYTES) - at).min(bytes.len());
    let (first, rest) = bytes.split_at(first);
    let pieces = std::iter::once(first).chain(rest.chunks(SECTOR_BYTES));
    let is_zero = |piece: &&[u8]| !piece.is_empty() && piece.iter().all(|&byte| byte == 0);
    pieces.filter(is_zero).count() as u32
}

/// Writes a frame that is to stand at byte `at` of its log.
pub(crate) fn encode(salt: u32, at: u64, commit: &Commit<'_>) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    encode_removals(commit.before, &mut frame);
    let kind = match commit.body {
        Body::Closed => KIND_CLOSED,
        Body::Operations(operations) => {
            for operation in operations {
                encode_operation(operation, &mut frame);
            }
            KIND_OPERATIONS
        }
    };
    frame.resize(frame.len().next_multiple_of(8), 0);
    let footer = frame.len();
    let ids_len = commit.removed.listed().map(|ids| {
        for id in ids {
            put_text(&mut frame, id);
        }
        (frame.len() - footer) as u32
    });
    let end = frame.len().next_multiple_of(8);
    frame.resize(end + END_BYTES, 0);
    let (len, footer_len) = (frame.len() - HEADER_BYTES, frame.len() - footer);
    frame[..4].copy_from_slice(&MARKER);
    frame[4..8].copy_from_slice(&(len as u32).to_le_bytes());
    frame[12..14].copy_from_slice(&(kind as u16).to_le_bytes());
    frame[14..16].copy_from_slice(&(footer_len as u16).to_le_bytes());
    frame[16..24].copy_from_slice(&commit.seq.to_le_bytes());
    frame[24..32].copy_from_slice(&commit.durable.to_le_bytes());
    let crc = checksum(salt, &frame[..footer]);
    frame[8..12].copy_from_slice(&crc.to_le_bytes());
    frame[end..end + 8].copy_from_slice(&commit.seq.to_le_bytes());
    frame[end + 8..end + 12].copy_from_slice(&ids_len.unwrap_or(TOO_MANY).to_le_bytes());
    frame[end + 20..].copy_from_slice(&END_MARKER);
    // Whatever this number is: the sectors of the footer's end hold the commit's number, or the marker.
    let zeros = zero_pieces(at as usize, &frame);
    frame[end + 12..end + 16].copy_from_slice(&zeros.to_le_bytes());
    let crc = footer_checksum(salt, &frame, footer);
    frame[end + 16..end + 20].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// Reads the frame at the start of `bytes`; `None` when there is no whole one.
///
/// # Errors
/// `Version` when a whole frame is of a kind this build does not know.
pub(crate) fn decode(path: &Path, salt: u32, bytes: &[u8]) -> Result<Option<Frame>> {
    let Some(header) = Header::read(bytes) else {
        return Ok(None);
    };
    let Some(frame) = bytes.get(..header.frame_len()) else {
        return Ok(None);
    };
    if !header.has_footer {
        if checksum(salt, frame) != u32_at(frame, 8) {
            return Ok(None);
        }
        let payload = &frame[HEADER_BYTES..HEADER_BYTES + header.len];
        return read_frame(path, frame, u32_at(frame, 12), payload).map(Some);
    }
    match Footer::read(salt, frame) {
        Some(footer) if footer.len == footer_len(frame) => decode_without_footer(path, salt, frame),
        _ => Ok(None),
    }
}

/// Reads a frame of which all but the footer is as it was written; `None` when that is not so.
///
/// # Errors
/// As `decode`.
pub(crate) fn decode_without_footer(path: &Path, salt: u32, frame: &[u8]) -> Result<Option<Frame>> {
    let footer = frame.len().checked_sub(footer_len(frame));
    let Some(rest) = footer.and_then(|footer| frame.get(HEADER_BYTES..footer)) else {
        return Ok(None);
    };
    if checksum(salt, &frame[..HEADER_BYTES + rest.len()]) != u32_at(frame, 8) {
        return Ok(None);
    }
    read_frame(path, frame, u32_at(frame, 12) & 0xffff, rest).map(Some)
}

/// Bytes of the footer, as the header has it.
pub(crate) fn footer_len(frame: &[u8]) -> usize {
    (u32_at(frame, 12) >> 16) as usize
}

fn read_frame(path: &Path, frame: &[u8], kind: u32, mut payload: &[u8]) -> Result<Frame> {
    let before = match kind {
        KIND_OPERATIONS | KIND_CLOSED => Some(decode_removals(path, &mut payload)?),
        _ => None,
    };
    let body = match kind {
        KIND_OPERATIONS | KIND_BARE_OPERATIONS => {
            Body::Operations(decode_operations(path, payload)?)
        }
        KIND_CLOSED | KIND_BARE_CLOSED => Body::Closed,
        kind => return Err(unknown(path, kind)),
    };
    Ok(Frame {
        seq: u64_at(frame, 16),
        durable: u64_at(frame, 24),
        before,
        body,
        len: frame.len(),
    })
}

fn unknown(path: &Path, found: u32) -> Error {
    Error::Version {
        path: path.to_owned(),
        found,
        known: KIND_CLOSED,
    }
}

fn checksum(salt: u32, frame: &[u8]) -> u32 {
    let start = crc32c::crc32c_append(salt, &frame[..8]);
    crc32c::crc32c_append(start, &frame[12..])
}

/// Of the footer, which begins at `start`, and of where the frame begins.
fn footer_checksum(salt: u32, frame: &[u8], start: usize) -> u32 {
    let len = crc32c::crc32c_append(salt, &(frame.len() as u32).to_le_bytes());
    crc32c::crc32c_append(len, &frame[start..frame.len() - 8])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn encode_removals(removals: &Removals, out: &mut Vec<u8>) {
    out.extend(removals.unlisted.to_le_bytes());
    out.extend((removals.listed.len() as u32).to_le_bytes());
    for (seq, ids) in &removals.listed {
        out.extend(seq.to_le_bytes());
        out.extend((ids.len() as u32).to_le_bytes());
        for id in ids {
            put_text(out, id);
        }
    }
}

/// Reads removals and moves `payload` behind them.
fn decode_removals(path: &Path, payload: &mut &[u8]) -> Result<Removals> {
    let mut cursor = Cursor { rest: payload };
    let removals = cursor.removals().ok_or_else(|| contradiction(path))?;
    *payload = cursor.rest;
    Ok(removals)
}

fn encode_operation(operation: &Operation, out: &mut Vec<u8>) {
    match operation {
        Operation::Put(memory) => {
            out.push(OP_PUT);
            put_text(out, &memory.id);
            put_text(out, &memory.content);
            put_text(out, &memory.metadata);
            out.extend(memory.created_at.to_le_bytes());
            out.extend(memory.updated_at.to_le_bytes());
            out.extend((memory.embedding.len() as u32).to_le_bytes());
            out.extend(memory.embedding.iter().flat_map(|x| x.to_le_bytes()));
        }
        Operation::Delete(id) => {
            out.push(OP_DELETE);
            put_text(out, id);
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn decode_operations(path: &Path, payload: &[u8]) -> Result<Vec<Operation>> {
    let mut cursor = Cursor { rest: payload };
    let mut operations = Vec::new();
    while let Some((&kind, rest)) = cursor.rest.split_first() {
        if cursor.rest.len() < 8 && cursor.rest.iter().all(|&byte| byte == 0) {
            break;
        }
        cursor.rest = rest;
        let operation = match kind {
            OP_PUT => cursor
                .memory()
                .map(|memory| Operation::Put(Arc::new(memory))),
            OP_DELETE => cursor.text().map(Operation::Delete),
            kind => return Err(unknown(path, u32::from(kind))),
        };
        operations.push(operation.ok_or_else(|| contradiction(path))?);
    }
    Ok(operations)
}

/// The checksum held, so a writer wrote this: it does not happen short of a bug or forgery.
fn contradiction(path: &Path) -> Error {
    Error::corrupted(path, 0, "a record contradicts its own lengths")
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        Some(u32_at(self.take(4)?, 0) as usize)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64_at(self.take(8)?, 0))
    }

    fn time(&mut self) -> Option<i64> {
        self.number().map(u64::cast_signed)
    }

    fn removals(&mut self) -> Option<Removals> {
        let unlisted = self.number()?;
        let commit = |cursor: &mut Self| {
            let seq = cursor.number()?;
            let ids: Option<Vec<String>> = (0..cursor.length()?).map(|_| cursor.text()).collect();
            Some((seq, ids?))
        };
        let listed: Option<_> = (0..self.length()?).map(|_| commit(self)).collect();
        Some(Removals {
            unlisted,
            listed: listed?,
        })
    }

    fn text(&mut self) -> Option<String> {
        let len = self.length()?;
        String::from_utf8(self.take(len)?.to_vec()).ok()
    }

    fn memory(&mut self) -> Option<Memory> {
        let memory = Memory {
            id: self.text()?,
            content: self.text()?,
            metadata: self.text()?,
            created_at: self.time()?,
            updated_at: self.time()?,
            embedding: {
                let bytes = self.length()?.checked_mul(4)?;
                self.take(bytes)?
                    .chunks_exact(4)
                    .map(|x| f32::from_bits(u32_at(x, 0)))
                    .collect()
            },
        };
        memory.validate().ok().map(|()| memory)
    }
}

#[cfg(test)]
mod tests {
    use super::{Body, Commit, Footer, Operation, decode, decode_without_footer, encode};
    use crate::memory::Memory;
    use crate::removals::{Removals, Removed};
    use proptest::prelude::*;
    use std::path::Path;
    use std::sync::Arc;

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let memory = (
            "[a-z]{1,8}",
            ".{0,40}",
            prop::collection::vec(0.5f32..2.0, 1..9),
        )
            .prop_map(|(id, content, vector)| {
                Operation::Put(Arc::new(Memory::new(
                    id,
                    content,
                    "{\"a\":1}".into(),
                    vector,
                )))
            });
        prop::collection::vec(
            prop_oneof![memory, "[a-z]{1,8}".prop_map(Operation::Delete)],
            0..6,
        )
    }

    fn removals() -> impl Strategy<Value = Removals> {
        let commit = (any::<u64>(), prop::collection::vec(".{0,9}", 0..4));
        (any::<u64>(), prop::collection::vec(commit, 0..4)).prop_map(|(unlisted, listed)| {
            Removals {
                unlisted,
                listed: listed.into(),
            }
        })
    }

    fn removed() -> impl Strategy<Value = Removed> {
        let ids = prop::collection::vec(".{1,90}", 0..4);
        ids.prop_map(|ids| {
            let mut removed = Removed::default();
            for id in &ids {
                removed.add(id);
            }
            removed
        })
    }

    proptest! {
        #[test]
        fn frames_survive_and_a_flipped_bit_never_passes(
            ops in operations(),
            (before, removed) in (removals(), removed()),
            flip in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let path = Path::new("log");
            let body = Body::Operations(ops);
            let commit = Commit { seq: 3, durable: 99, before: &before, removed: &removed, body: &body };
            let mut bytes = encode(7, 40, &commit);
            let frame = decode(path, 7, &bytes).unwrap().unwrap();
            prop_assert_eq!(frame.before.as_ref(), Some(&before));
            prop_assert_eq!((frame.seq, frame.durable, frame.len), (3, 99, bytes.len()));
            prop_assert_eq!(frame.body, body);
            let footer = Footer::read(7, &bytes).unwrap();
            prop_assert_eq!(footer.removed(), removed.listed().map(<[_]>::to_vec));
            prop_assert!(Footer::read(7, &bytes[8..]).is_none(), "of another length");
            prop_assert!(decode(path, 8, &bytes).unwrap().is_none(), "another log's salt");
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(path, 7, &bytes).unwrap().is_none());
            // Whatever one bit damages, one of the two still tells what the commit removed.
            let told = decode_without_footer(path, 7, &bytes).unwrap().is_some();
            prop_assert!(told || Footer::read(7, &bytes).is_some());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = super::decode_operations(Path::new("log"), &bytes);
            let _ = super::decode_removals(Path::new("log"), &mut bytes.as_slice());
            let _ = decode(Path::new("log"), 0, &bytes);
            let _ = Footer::read(0, &bytes).map(|footer| footer.removed());
        }
    }
}
