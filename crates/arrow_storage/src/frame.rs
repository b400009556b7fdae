//! The framing of log records: one frame is one commit, applied whole or not at all.
//!
//! ```text
//! 0   u32  marker "FRM1"
//! 4   u32  length of the payload
//! 8   u32  crc32c of everything else in the frame, continued from the log's salt
//! 12  u32  kind: 3 operations, 4 closed; 1 and 2, the same without the removals before
//! 16  u64  number of the commit
//! 24  u64  bytes of this log known to be durable when the frame was written
//! 32       payload, padded with zeros to a multiple of 8: the removals before, then the operations
//! ```

use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::removals::Removals;
use std::path::Path;
use std::sync::Arc;

pub(crate) const HEADER_BYTES: usize = 32;
const MARKER: [u8; 4] = *b"FRM1";

/// Largest payload. A larger commit goes straight into a segment.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 256 << 20;

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

/// A frame's header, its checksum not yet compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    payload_len: usize,
    crc: u32,
}

impl Header {
    /// Reads a header; `None` when the bytes are not one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let payload_len = u32_at(bytes, 4) as usize;
        (bytes[..4] == MARKER && payload_len <= MAX_PAYLOAD_BYTES).then(|| Self {
            payload_len,
            crc: u32_at(bytes, 8),
        })
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_len(self) -> usize {
        HEADER_BYTES + self.payload_len.next_multiple_of(8)
    }
}

/// Writes a frame.
pub(crate) fn encode(salt: u32, seq: u64, durable: u64, before: &Removals, body: &Body) -> Vec<u8> {
    let mut frame = vec![0; HEADER_BYTES];
    encode_removals(before, &mut frame);
    let kind = match body {
        Body::Closed => KIND_CLOSED,
        Body::Operations(operations) => {
            for operation in operations {
                encode_operation(operation, &mut frame);
            }
            KIND_OPERATIONS
        }
    };
    let payload_len = frame.len() - HEADER_BYTES;
    frame.resize(HEADER_BYTES + payload_len.next_multiple_of(8), 0);
    frame[..4].copy_from_slice(&MARKER);
    frame[4..8].copy_from_slice(&(payload_len as u32).to_le_bytes());
    frame[12..16].copy_from_slice(&kind.to_le_bytes());
    frame[16..24].copy_from_slice(&seq.to_le_bytes());
    frame[24..32].copy_from_slice(&durable.to_le_bytes());
    let crc = checksum(salt, &frame);
    frame[8..12].copy_from_slice(&crc.to_le_bytes());
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
    if checksum(salt, frame) != header.crc {
        return Ok(None);
    }
    let mut payload = &frame[HEADER_BYTES..HEADER_BYTES + header.payload_len];
    let kind = u32_at(frame, 12);
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
    Ok(Some(Frame {
        seq: u64_at(frame, 16),
        durable: u64_at(frame, 24),
        before,
        body,
        len: frame.len(),
    }))
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
    use super::{Body, Operation, decode, encode};
    use crate::memory::Memory;
    use crate::removals::Removals;
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

    proptest! {
        #[test]
        fn frames_survive_and_a_flipped_bit_never_passes(ops in operations(), before in removals(), flip in any::<prop::sample::Index>(), bit in 0u8..8) {
            let path = Path::new("log");
            let body = Body::Operations(ops);
            let mut bytes = encode(7, 3, 99, &before, &body);
            let frame = decode(path, 7, &bytes).unwrap().unwrap();
            prop_assert_eq!(frame.before, Some(before));
            prop_assert_eq!((frame.seq, frame.durable, frame.len), (3, 99, bytes.len()));
            prop_assert_eq!(frame.body, body);
            prop_assert!(decode(path, 8, &bytes).unwrap().is_none(), "another log's salt");
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(path, 7, &bytes).unwrap().is_none());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = super::decode_operations(Path::new("log"), &bytes);
            let _ = super::decode_removals(Path::new("log"), &mut bytes.as_slice());
            let _ = decode(Path::new("log"), 0, &bytes);
        }
    }
}
