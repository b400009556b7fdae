//! MANIFEST: which files make up the store.
//!
//! Two equal lines `aios-store <version> <crc32c> <json>`, so that a flipped bit in one leaves the other.
//! The file is replaced by an atomic rename between two syncs.

use crate::error::{At, Error, Result};
use crate::removals::Removals;
use crate::vfs::Vfs;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version 2 has `frozen`, the logs before the last; a reader of version 1 would miss what they hold. The commits of
/// version 3 say again what those before them removed. Those of version 4 end in a footer, and a reader of version 3 would
/// take them for a torn end.
pub(crate) const FORMAT_VERSION: u32 = 4;
const OLDEST_VERSION: u32 = 1;
pub(crate) const NAME: &str = "MANIFEST";
/// A `seg-N.vec` being made again.
pub(crate) const REBUILT: &str = "rebuilt.tmp";
const DRAFT: &str = ".draft";
const MAGIC: &str = "aios-store";

/// The content of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Grows by one with every manifest.
    pub(crate) generation: u64,
    /// Length of the vectors, once known.
    pub(crate) dimension: Option<usize>,
    /// Fingerprint of the model that made the vectors, when given.
    pub(crate) model: Option<String>,
    /// Number of the last commit that the segments hold.
    pub(crate) seq: u64,
    /// Number of the next file.
    pub(crate) next_file: u64,
    /// Immutable files of rows.
    pub(crate) segments: Vec<SegmentEntry>,
    /// The rows of the segments that were deleted or replaced.
    pub(crate) tombstones: Option<TombstonesEntry>,
    /// Logs of the commits since, oldest first, that are being moved into a segment.
    #[serde(default)]
    pub(crate) frozen: Vec<LogEntry>,
    /// The log behind them, to which commits are appended.
    pub(crate) log: LogEntry,
}

/// A segment: `seg-N.parquet` and `seg-N.vec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) rows: usize,
    pub(crate) table: Sealed,
    pub(crate) vectors: Sealed,
}

/// Length and checksum of a finished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    pub(crate) size_bytes: u64,
    pub(crate) crc32c: u32,
}

impl Sealed {
    /// Compares a whole file with what it was.
    ///
    /// # Errors
    /// `Corrupted`.
    pub(crate) fn check(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 == self.size_bytes && crc32c::crc32c(bytes) == self.crc32c {
            return Ok(());
        }
        let what = "the file fails the checksum in the manifest";
        Err(Error::corrupted(path, 0, what))
    }
}

/// The dead rows: `dead-N`, and the same as a table, `dead-N.parquet`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TombstonesEntry {
    pub(crate) number: u64,
    pub(crate) sealed: Sealed,
    /// None in stores that were last written before there was a table.
    pub(crate) table: Option<Sealed>,
    /// How many rows of each segment are dead; none in stores that were last written before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rows: Option<Vec<usize>>,
}

/// The log: `log-N`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogEntry {
    pub(crate) number: u64,
    pub(crate) salt: u32,
    /// How the log began when a writer closed the store, or wrote anew what it found: whatever comes behind,
    /// these bytes were durable.
    pub(crate) closed: Option<Sealed>,
    /// The last of the commits in these bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<Ended>,
}

/// The end of a log: what would be said again by a commit behind it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Number of the last commit.
    pub(crate) seq: u64,
    pub(crate) removals: Removals,
}

impl LogEntry {
    pub(crate) fn new(number: u64) -> Self {
        Self {
            number,
            salt: random_salt(),
            closed: None,
            ended: None,
        }
    }
}

/// A manifest as read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) manifest: Manifest,
    /// A damaged copy beside the whole one.
    pub(crate) damage: Option<Error>,
}

impl Manifest {
    pub(crate) fn new(dimension: Option<usize>, model: Option<String>) -> Self {
        Self {
            generation: 1,
            dimension,
            model,
            seq: 0,
            next_file: 2,
            segments: Vec::new(),
            tombstones: None,
            frozen: Vec::new(),
            log: LogEntry::new(1),
        }
    }

    /// Replaces the store's manifest durably. The files it names are durable already.
    ///
    /// The second part of the error tells whether the old manifest surely still stands.
    pub(crate) fn commit(&self, vfs: &dyn Vfs, dir: &Path) -> Result<(), (Error, bool)> {
        let path = dir.join(NAME);
        let draft = dir.join("MANIFEST.tmp");
        self.write(vfs, &draft).map_err(|error| (error, true))?;
        vfs.rename(&draft, &path)
            .at("replace", &path)
            .map_err(|error| (error, true))?;
        vfs.sync_dir(dir)
            .at("sync", dir)
            .map_err(|error| (error, false))
    }

    fn write(&self, vfs: &dyn Vfs, path: &Path) -> Result<()> {
        let file = vfs.create(path).at("create", path)?;
        file.write_at(self.encode(path)?.as_bytes(), 0)
            .at("write", path)?;
        file.sync().at("sync", path)
    }

    fn encode(&self, path: &Path) -> Result<String> {
        let json = serde_json::to_string(self)
            .map_err(std::io::Error::other)
            .at("write", path)?;
        let line = format!(
            "{MAGIC} {FORMAT_VERSION} {:08x} {json}\n",
            checksum(&FORMAT_VERSION.to_string(), &json)
        );
        Ok(line.repeat(2))
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// `Version` when it is newer than this build, `Corrupted` when neither copy is whole.
    pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Read> {
        let mut damage = None;
        let mut newer = None;
        let mut whole = None;
        let mut copies = 0;
        let mut take = |copy: &[u8], at: usize| match decode_line(copy) {
            Line::Whole(manifest) => {
                copies += 1;
                whole.get_or_insert(*manifest);
            }
            Line::Newer(version) => newer = Some(version),
            Line::Damaged(what) => {
                damage.get_or_insert_with(|| Error::corrupted(path, at as u64, what));
            }
        };
        let mut at = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            take(line, at);
            at += line.len();
        }
        // The byte that parts the copies may be the damaged one.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        if !first.ends_with(b"\n") {
            take(first.split_last().map_or(first, |(_, line)| line), 0);
            take(second, first.len());
        }
        if copies == 1 {
            damage.get_or_insert_with(|| {
                Error::corrupted(path, at as u64, "the second copy is missing")
            });
        }
        match (whole, newer) {
            (Some(manifest), _) => Ok(Read { manifest, damage }),
            (None, Some(found)) => Err(Error::Version {
                path: path.to_owned(),
                found,
                known: FORMAT_VERSION,
            }),
            (None, None) => {
                Err(damage.unwrap_or_else(|| Error::corrupted(path, 0, "the manifest is empty")))
            }
        }
    }

    /// All logs, oldest first.
    pub(crate) fn logs(&self) -> impl DoubleEndedIterator<Item = &LogEntry> {
        self.frozen.iter().chain(std::iter::once(&self.log))
    }

    /// Every file that belongs to the store under this manifest. The index of a segment may be missing.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = self.logs().map(|log| log_name(log.number)).collect();
        for segment in &self.segments {
            files.push(table_name(segment.number));
            files.push(vectors_name(segment.number));
            files.push(text_index_name(segment.number));
        }
        // Last, so that whoever removes them in this order never shows a dead row to other tools.
        if let Some(entry) = &self.tombstones {
            files.push(tombstones_name(entry.number));
            files.push(dead_table_name(entry.number));
        }
        files
    }
}

enum Line {
    Whole(Box<Manifest>),
    Newer(u32),
    Damaged(&'static str),
}

fn decode_line(line: &[u8]) -> Line {
    let Ok(text) = std::str::from_utf8(line) else {
        return Line::Damaged("the line is not text");
    };
    let mut parts = text.splitn(4, ' ');
    let (Some(MAGIC), Some(version), Some(crc), Some(json)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Line::Damaged("the line is not one of a manifest");
    };
    let json = json.strip_suffix('\n').unwrap_or(json);
    if crc != format!("{:08x}", checksum(version, json)) {
        return Line::Damaged("the line fails its checksum");
    }
    match version.parse() {
        Ok(OLDEST_VERSION..=FORMAT_VERSION) => serde_json::from_str(json)
            .map_or(Line::Damaged("the line is not a manifest"), |manifest| {
                Line::Whole(Box::new(manifest))
            }),
        Ok(newer) => Line::Newer(newer),
        Err(_) => Line::Damaged("the version is not a number"),
    }
}

/// The version is under the checksum too; later versions keep this much of the line.
fn checksum(version: &str, json: &str) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(version.as_bytes()), json.as_bytes())
}

/// A number that frames of another log will not carry.
fn random_salt() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish() as u32
}

pub(crate) fn log_name(number: u64) -> String {
    format!("log-{number:08}")
}

pub(crate) fn table_name(number: u64) -> String {
    format!("seg-{number:08}.parquet")
}

/// A table being written, under a name that other tools do not take for a table.
pub(crate) fn draft_name(table: &str) -> String {
    format!("{table}{DRAFT}")
}

pub(crate) fn vectors_name(number: u64) -> String {
    format!("seg-{number:08}.vec")
}

pub(crate) fn text_index_name(number: u64) -> String {
    format!("seg-{number:08}.fts")
}

pub(crate) fn tombstones_name(number: u64) -> String {
    format!("dead-{number:08}")
}

pub(crate) fn dead_table_name(number: u64) -> String {
    format!("dead-{number:08}.parquet")
}

/// Whether a store made this file, so that recovery may remove it when no manifest names it.
pub(crate) fn is_ours(name: &str) -> bool {
    let numbered = |rest: &str| rest.len() >= 8 && rest.bytes().all(|byte| byte.is_ascii_digit());
    let table = name.strip_suffix(DRAFT).unwrap_or(name);
    let stem = table
        .strip_suffix(".parquet")
        .or_else(|| table.strip_suffix(".fts"))
        .or_else(|| name.strip_suffix(".vec"));
    name == "MANIFEST.tmp"
        || name == REBUILT
        || stem
            .and_then(|stem| {
                stem.strip_prefix("seg-")
                    .or_else(|| stem.strip_prefix("dead-"))
            })
            .is_some_and(numbered)
        || name.strip_prefix("log-").is_some_and(numbered)
        || name.strip_prefix("dead-").is_some_and(numbered)
}

/// Path of the manifest in a store.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}
