//! The append-only log: the commits since the last flush.
//!
//! ```text
//! 0   "AIOSLOG\0"   8   u32 format version   12  u32 salt   16  u64 number
//! 24  u32 crc32c of the bytes before   28  u32 zero
//! 32  frames, then zeros that were allocated ahead
//! ```
//! Space is allocated ahead because a sync that leaves the file's length alone costs half as much. It is written once:
//! behind a commit that failed the log is cut durably, and a log that is not in order is followed by a new one. So what
//! a loss of power leaves unwritten is zeros, by which `torn` tells it from damage.

use crate::error::{At, Error, Result};
use crate::frame::{self, Body, Commit, Frame, HEADER_BYTES};
use crate::manifest::{Ended, LogEntry, Sealed};
use crate::removals::Removed;
use crate::state::State;
use crate::torn::{self, Failing};
use crate::vfs::{Vfs, VfsFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const LOG_HEADER_BYTES: u64 = 32;
const MAGIC: [u8; 8] = *b"AIOSLOG\0";
const VERSION: u32 = 1;
const MAX_AHEAD_BYTES: u64 = 1 << 20;
const MIN_AHEAD_BYTES: u64 = 16 << 10;

/// A log being written.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) file: Arc<dyn VfsFile>,
    path: PathBuf,
    salt: u32,
    /// End of the last frame.
    pub(crate) end: u64,
    allocated: u64,
}

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) frames: Vec<Frame>,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// End of the last whole frame.
    pub(crate) end: u64,
    /// Bytes behind it that are not zeros: a commit that was never acknowledged.
    pub(crate) torn_bytes: u64,
    /// Durable records that no longer pass their checksum.
    pub(crate) damage: Vec<Error>,
    /// Whether nothing tells how many commits there were.
    pub(crate) end_is_lost: bool,
}

impl Log {
    /// Creates a durable, empty log. Its name is durable once the folder is synced.
    pub(crate) fn create(vfs: &dyn Vfs, path: &Path, number: u64, salt: u32) -> Result<Self> {
        let file: Arc<dyn VfsFile> = Arc::from(vfs.create(path).at("create", path)?);
        file.write_at(&header(number, salt), 0).at("write", path)?;
        file.sync().at("sync", path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            salt,
            end: LOG_HEADER_BYTES,
            allocated: LOG_HEADER_BYTES,
        })
    }

    /// Takes over a log that is known to be durable, all of it.
    pub(crate) fn resume(vfs: &dyn Vfs, path: &Path, salt: u32, end: u64) -> Result<Self> {
        let file: Arc<dyn VfsFile> = Arc::from(vfs.open(path, true).at("open", path)?);
        Ok(Self {
            file,
            path: path.to_owned(),
            salt,
            end,
            allocated: end,
        })
    }

    /// Appends a frame; it is durable after the next sync. A failure leaves the log as it was,
    /// unless even that cannot be made sure: then the error comes with `false`.
    pub(crate) fn append(&mut self, commit: &Commit<'_>) -> Result<(), (Error, bool)> {
        let frame = frame::encode(self.salt, self.end, commit);
        let end = self.end + frame.len() as u64;
        if end > self.allocated {
            self.allocate(end);
        }
        if let Err(error) = self.file.write_at(&frame, self.end).at("write", &self.path) {
            // Durably: sectors of two commits in one place, after a loss of power, would look like damage.
            let cut = self.file.set_len(self.end);
            let whole = cut.and_then(|()| self.file.sync()).is_ok();
            self.allocated = self.end;
            return Err((error, whole));
        }
        self.end = end;
        self.allocated = self.allocated.max(end);
        Ok(())
    }

    /// Writes zeros past `end`. Failing is no error: the frame itself may still fit.
    fn allocate(&mut self, end: u64) {
        let ahead = end.clamp(MIN_AHEAD_BYTES, MAX_AHEAD_BYTES);
        let target = (end + ahead).next_multiple_of(4096);
        if self.write_zeros(target).is_err() && self.file.set_len(self.end).is_ok() {
            self.allocated = self.end;
        }
    }

    /// Allocates `len` bytes of a new log, so that no sync within them waits for more than their content.
    pub(crate) fn reserve(&mut self, len: u64) -> Result<()> {
        while self.allocated < len {
            let next = len.min(self.allocated + MAX_AHEAD_BYTES);
            self.write_zeros(next).at("write", &self.path)?;
        }
        self.file.sync().at("sync", &self.path)
    }

    fn write_zeros(&mut self, end: u64) -> std::io::Result<()> {
        let zeros = vec![0; (end - self.allocated) as usize];
        self.file.write_at(&zeros, self.allocated)?;
        self.allocated = end;
        Ok(())
    }

    /// Appends the frame that tells a later reader that nothing before it may be missing. The manifest tells that
    /// it may not be missing itself.
    pub(crate) fn close(&mut self, state: &State, entry: &mut LogEntry) -> Result<()> {
        let closing = Commit {
            seq: state.seq,
            durable: self.end,
            before: &state.removals,
            removed: &Removed::default(),
            body: &Body::Closed,
        };
        self.append(&closing).map_err(|(error, _)| error)?;
        self.seal(state, entry)
    }

    /// Makes the log durable without what was allocated ahead, and notes what it is then, and the state behind it.
    pub(crate) fn seal(&mut self, state: &State, entry: &mut LogEntry) -> Result<()> {
        self.file.set_len(self.end).at("truncate", &self.path)?;
        self.allocated = self.end;
        self.file.sync().at("sync", &self.path)?;
        let mut bytes = vec![0; self.end as usize];
        let read = self.file.read_at(&mut bytes, 0).at("read", &self.path)?;
        entry.closed = Some(Sealed {
            size_bytes: self.end,
            crc32c: crc32c::crc32c(&bytes[..read]),
        });
        entry.ended = Some(Ended {
            seq: state.seq,
            removals: state.removals.clone(),
        });
        Ok(())
    }
}

fn header(number: u64, salt: u32) -> [u8; LOG_HEADER_BYTES as usize] {
    let mut header = [0; LOG_HEADER_BYTES as usize];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&salt.to_le_bytes());
    header[16..24].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

/// The commit before a log's first: its number, and where it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before<'a> {
    pub(crate) seq: u64,
    /// In the log before this one, when there is one.
    pub(crate) end: Option<(&'a Path, u64)>,
}

/// Reads a whole log.
///
/// Bytes that were there when the store was closed and are not now are damage, and no torn end. So is a
/// commit that is missing between two logs: the earlier one was durable when the later one began.
pub(crate) fn replay(
    path: &Path,
    bytes: &[u8],
    entry: &LogEntry,
    before: Before<'_>,
) -> Result<Replay> {
    let mut replay = replay_frames(path, bytes, entry, before)?;
    let Some(closed) = entry.closed.filter(|_| replay.damage.is_empty()) else {
        return Ok(replay);
    };
    let what = match bytes.get(..closed.size_bytes as usize) {
        None => format!(
            "the log has {} bytes; it had {} when the store was closed",
            bytes.len(),
            closed.size_bytes
        ),
        Some(bytes) if crc32c::crc32c(bytes) != closed.crc32c => {
            "the log fails the checksum it had when the store was closed".to_owned()
        }
        Some(_) => return Ok(replay),
    };
    let at = replay.end.min(closed.size_bytes);
    replay.end_is_lost = entry.ended.is_none();
    replay.damage.push(Error::corrupted(path, at, what));
    Ok(replay)
}

/// Reads the frames of a log.
///
/// A frame that fails is damage when a later whole frame or the manifest says that it had been durable, or when no
/// loss of power can have left it so. Reading then goes on behind it, with what it still tells. Otherwise it is the
/// torn end of an unacknowledged commit.
fn replay_frames(
    path: &Path,
    bytes: &[u8],
    entry: &LogEntry,
    before: Before<'_>,
) -> Result<Replay> {
    let salt = entry.salt;
    let mut replay = Replay {
        len: bytes.len() as u64,
        ..Replay::default()
    };
    let is_ours = check_header(path, bytes, entry.number, salt, &mut replay.damage)?;
    let known_durable = entry.closed.map_or(0, |closed| closed.size_bytes);
    let mut at = (LOG_HEADER_BYTES as usize).min(bytes.len());
    let mut next_seq = before.seq + 1;
    replay.end = at as u64;
    let mut nothing_tells = false;
    loop {
        if let Some(frame) = frame::decode(path, salt, &bytes[at..])? {
            if frame.seq != next_seq
                && !matches!(frame.body, Body::Closed)
                && replay.damage.is_empty()
            {
                let what = format!("commit {} follows commit {}", frame.seq, next_seq - 1);
                let earlier = before.end.filter(|_| replay.frames.is_empty());
                let (path, at) = earlier.unwrap_or((path, at as u64));
                replay.damage.push(Error::corrupted(path, at, what));
            }
            at += frame.len;
            next_seq = frame.seq + 1;
            nothing_tells = false;
            replay.end = at as u64;
            replay.frames.push(frame);
            continue;
        }
        let found = next_whole_frame(path, salt, bytes, at + 8)?;
        let until = found.map_or_else(|| last_written(bytes), |(found, _)| found);
        let (end, frame) = match (torn::judge(path, salt, bytes, at, until)?, found) {
            (Failing::Damaged { end, frame }, _) => (end.unwrap_or(until), frame),
            (Failing::Torn, Some((found, durable))) if durable.max(known_durable) > at as u64 => {
                (found, None)
            }
            (Failing::Torn, _) => break,
        };
        let what = format!("a record of {} bytes fails its checksum", end - at);
        replay.damage.push(Error::corrupted(path, at as u64, what));
        at = end.min(bytes.len());
        replay.end = at as u64;
        nothing_tells = frame.is_none();
        // A closing frame repeats a number.
        if let Some(frame) = frame.filter(|frame| frame.seq >= next_seq) {
            next_seq = frame.seq + 1;
            replay.frames.push(frame);
        }
    }
    if bytes[at..].iter().any(|&byte| byte != 0) {
        replay.torn_bytes = (bytes.len() - at) as u64;
    }
    let ended_before = entry.ended.is_none() || at as u64 > known_durable;
    replay.end_is_lost = !is_ours && replay.frames.is_empty() || nothing_tells && ended_before;
    Ok(replay)
}

/// Behind the last byte that is no zero.
fn last_written(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1)
}

/// Notes a header that is not the one expected. Returns whether it is that one all the same, but for a few bytes.
fn check_header(
    path: &Path,
    bytes: &[u8],
    number: u64,
    salt: u32,
    damage: &mut Vec<Error>,
) -> Result<bool> {
    let expected = header(number, salt);
    let found = bytes.get(..expected.len()).unwrap_or_default();
    let same = found
        .iter()
        .zip(expected)
        .filter(|&(&found, expected)| found == expected);
    let is_ours = same.count() >= expected.len() * 3 / 4;
    if found == expected {
        return Ok(true);
    }
    if found.len() == expected.len()
        && found[..8] == MAGIC
        && crc32c::crc32c(&found[..24]).to_le_bytes() == found[24..28]
        && found[8..12] != VERSION.to_le_bytes()
    {
        return Err(Error::Version {
            path: path.to_owned(),
            found: u32::from_le_bytes([found[8], found[9], found[10], found[11]]),
            known: VERSION,
        });
    }
    damage.push(Error::corrupted(
        path,
        0,
        "the header of the log is not the one its manifest names",
    ));
    Ok(is_ours)
}

/// Looks for a whole frame at or behind `from`; returns where it is and what it knew to be durable.
fn next_whole_frame(
    path: &Path,
    salt: u32,
    bytes: &[u8],
    from: usize,
) -> Result<Option<(usize, u64)>> {
    let mut at = from;
    while at + HEADER_BYTES <= bytes.len() {
        if let Some(frame) = frame::decode(path, salt, &bytes[at..])? {
            return Ok(Some((at, frame.durable)));
        }
        at += 8;
    }
    Ok(None)
}
