//! What bytes of a log are that are no whole frame: a commit that was never finished, or damage to one that was.
//!
//! A log is only appended to, in space that was zeros when it was allocated, and a disk writes sectors of 512 bytes
//! whole or not at all. So a commit that a loss of power tore has a piece of zeros that it was not written with, or
//! the file ends before it; one that another process is writing ends in zeros. A frame says how many of its pieces
//! are zeros by nature, and ends in a byte that is none. Where nothing is missing, the bytes are not those that were
//! written.

use crate::error::Result;
use crate::frame::{self, Body, Footer, Frame, HEADER_BYTES, Header, Operation};
use std::path::Path;

/// What a place is that holds no whole frame.
#[derive(Debug)]
pub(crate) enum Failing {
    /// Nothing, or part of a commit.
    Torn,
    /// What was a whole commit.
    Damaged {
        /// Where it ends, where that is known.
        end: Option<usize>,
        /// What it still tells: all that it did, or only what it removed.
        frame: Option<Frame>,
    },
}

/// Tells what is at `at`, between there and `until`: the next whole frame, or the last byte that is no zero.
///
/// # Errors
/// `Version` when a frame is of a kind this build does not know.
pub(crate) fn judge(
    path: &Path,
    salt: u32,
    bytes: &[u8],
    at: usize,
    until: usize,
) -> Result<Failing> {
    let rest = &bytes[at..];
    let seen = until.saturating_sub(at);
    if seen < HEADER_BYTES || rest[..8] == [0; 8] {
        return Ok(Failing::Torn);
    }
    let header = Header::read(rest);
    let frame = header.and_then(|header| rest.get(..header.frame_len()));
    // The length may be what is damaged: then the last byte tells it.
    let up_to_there = rest.get(..seen.next_multiple_of(8));
    for frame in frame.into_iter().chain(up_to_there) {
        if let Some(footer) = Footer::read(salt, frame) {
            if frame::zero_pieces(at, frame) > footer.zero_pieces {
                return Ok(Failing::Torn);
            }
            return Ok(Failing::Damaged {
                end: Some(at + frame.len()),
                frame: removals_alone(&footer, frame.len()),
            });
        }
    }
    let unknown = Failing::Damaged {
        end: None,
        frame: None,
    };
    // Marker and length are in one sector, which is there.
    let Some(header) = header else {
        return Ok(unknown);
    };
    let Some(frame) = frame.filter(|frame| header.is_there_to_its_end(frame)) else {
        return Ok(Failing::Torn);
    };
    if let Some(whole) = frame::decode_without_footer(path, salt, frame)? {
        let footer = frame.len() - frame::footer_len(frame);
        if frame::zero_pieces(at + footer, &frame[footer..]) > 0 {
            return Ok(Failing::Torn);
        }
        return Ok(Failing::Damaged {
            end: Some(at + frame.len()),
            frame: Some(whole),
        });
    }
    if frame::zero_pieces(at, frame) > 0 {
        return Ok(Failing::Torn);
    }
    Ok(unknown)
}

/// The commit as far as its footer tells it.
fn removals_alone(footer: &Footer<'_>, len: usize) -> Option<Frame> {
    let removed = footer.removed()?;
    Some(Frame {
        seq: footer.seq,
        durable: 0,
        before: None,
        body: Body::Operations(removed.into_iter().map(Operation::Delete).collect()),
        len,
    })
}
