//! Opening: from the files on disk to a state.

use crate::error::{At, Error, Result};
use crate::frame::{Body, Frame};
use crate::log::{self, Before};
use crate::manifest::{self, Manifest, log_name};
use crate::removals::{Removals, Removed};
use crate::segment::Segment;
use crate::state::{Live, State};
use crate::tombstones;
use crate::vfs::{Stamp, Vfs};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store as it was found.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Of the manifest, taken before it was read.
    pub(crate) stamp: Stamp,
    /// Path and end of each log of the manifest.
    pub(crate) logs: Vec<(PathBuf, u64)>,
    /// The commits of the logs.
    pub(crate) commits: Vec<Applied>,
    /// What a crash left behind the last commit.
    pub(crate) torn_bytes: u64,
    /// Whether the log is as the manifest says it was when it was last known to be durable. Anything else
    /// could be read and may yet be nowhere but in memory.
    pub(crate) durable: bool,
    /// What was skipped.
    pub(crate) damage: Vec<Error>,
}

/// A commit of the log, applied.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) frame: Frame,
    /// What those before it removed.
    pub(crate) before: Removals,
    /// What it removed.
    pub(crate) removed: Removed,
}

/// How often a reader starts again because a writer replaced the files it was opening.
const ATTEMPTS: usize = 20;

/// Loads the store in `dir`, reusing segments that are already open.
///
/// # Errors
/// `NoStore`, `Version`, `Io`, and `Corrupted` unless damage is to be skipped.
pub(crate) fn load(
    vfs: &dyn Vfs,
    dir: &Path,
    opened: &[Live],
    skip_damaged: bool,
) -> Result<Loaded> {
    let path = manifest::path(dir);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let stamp = stamp(vfs, dir, &path)?;
        match load_once(vfs, dir, opened, skip_damaged, stamp) {
            Err(error) if error.is_missing_file() => {
                if vfs.stamp(&path).at("look at", &path)? == stamp {
                    return Err(missing(error));
                }
                last = Some(error);
            }
            other => return other,
        }
    }
    Err(last.map_or_else(
        || Error::corrupted(path, 0, "the manifest changes all the time"),
        missing,
    ))
}

/// A file that the manifest names and that is not there.
fn missing(error: Error) -> Error {
    match error {
        Error::Io { path, .. } => {
            Error::corrupted(path, 0, "the file is gone although the manifest names it")
        }
        other => other,
    }
}

fn stamp(vfs: &dyn Vfs, dir: &Path, path: &Path) -> Result<Stamp> {
    match vfs.stamp(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(no_manifest(vfs, dir)),
        other => other.at("look at", path),
    }
}

/// Tells a folder that is no store from a store that lost its manifest.
fn no_manifest(vfs: &dyn Vfs, dir: &Path) -> Error {
    let names = vfs.list(dir).unwrap_or_default();
    if names
        .iter()
        .any(|name| manifest::is_ours(name) && name.starts_with("seg-"))
    {
        return Error::corrupted(
            manifest::path(dir),
            0,
            "the file is gone although there are segments",
        );
    }
    Error::NoStore {
        path: dir.to_owned(),
        what: "the folder holds no MANIFEST".to_owned(),
    }
}

fn load_once(
    vfs: &dyn Vfs,
    dir: &Path,
    opened: &[Live],
    skip: bool,
    stamp: Stamp,
) -> Result<Loaded> {
    let path = manifest::path(dir);
    let bytes = vfs.read(&path).at("read", &path)?;
    let read = Manifest::decode(&path, &bytes)?;
    let mut damage = Vec::new();
    damage.extend(read.damage.filter(|_| skip));
    let manifest = read.manifest;
    let mut segments = open_segments(vfs, dir, &manifest, opened, skip, &mut damage)?;
    let unknown = tombstones::read(vfs, dir, &manifest, &mut segments, skip)?;
    damage.extend(unknown.map(missing));
    let logs = read_logs(vfs, dir, &manifest, skip, &mut damage)?;
    let mut state = State {
        dimension: manifest.dimension,
        seq: manifest.seq,
        manifest: Arc::new(manifest),
        segments,
        fresh: BTreeSet::new(),
        removals: Removals::default(),
    };
    let commits = apply(dir, &mut state, logs.frames, logs.end_is_lost, &mut damage)?;
    Ok(Loaded {
        state,
        stamp,
        logs: logs.ends,
        commits,
        torn_bytes: logs.torn_bytes,
        durable: logs.durable,
        damage,
    })
}

/// Applies the commits of the logs; returns them, each with what it and those before it removed. Where some are
/// missing, which is damage that is being skipped, nothing is shown that they may have removed.
fn apply(
    dir: &Path,
    state: &mut State,
    frames: Vec<Frame>,
    end_is_lost: bool,
    damage: &mut Vec<Error>,
) -> Result<Vec<Applied>> {
    let mut hide = |state: &mut State, removals: Option<&Removals>| {
        if !state.hide(removals)? {
            let what = format!(
                "commits behind number {} cannot be read, and nothing tells what they removed; no memory from \
                 before them is shown",
                state.seq
            );
            let path = dir.join(log_name(state.manifest.log.number));
            damage.push(Error::corrupted(path, 0, what));
        }
        Ok::<_, Error>(())
    };
    let mut applied = Vec::with_capacity(frames.len());
    for frame in frames {
        let last_before = match frame.body {
            Body::Operations(_) => frame.seq - 1,
            Body::Closed => frame.seq,
        };
        if last_before > state.seq {
            hide(state, frame.before.as_ref())?;
            state.seq = last_before;
        }
        let before = state.removals.clone();
        if let Body::Operations(operations) = &frame.body {
            let changes = state.look_up(operations)?;
            let removed = changes.removed.clone();
            state.carry_out(operations.clone(), changes);
            applied.push(Applied {
                frame,
                before,
                removed,
            });
        }
    }
    let manifest = state.manifest.clone();
    for ended in manifest.logs().filter_map(|log| log.ended.as_ref()) {
        if ended.seq > state.seq {
            hide(state, Some(&ended.removals))?;
            state.seq = ended.seq;
        }
    }
    if end_is_lost {
        hide(state, None)?;
    }
    Ok(applied)
}

fn open_segments(
    vfs: &dyn Vfs,
    dir: &Path,
    manifest: &Manifest,
    opened: &[Live],
    skip: bool,
    damage: &mut Vec<Error>,
) -> Result<Vec<Live>> {
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for entry in &manifest.segments {
        let Some(dimension) = manifest.dimension else {
            return Err(Error::corrupted(
                manifest::path(dir),
                0,
                "there are segments but no dimension",
            ));
        };
        let known = opened.iter().find(|live| live.segment.entry == *entry);
        let segment = match known {
            Some(live) => Ok(live.segment.clone()),
            None => Segment::open(vfs, dir, entry, dimension, skip).map(Arc::new),
        };
        match segment {
            Ok(segment) => {
                if skip {
                    damage.extend(segment.damage(vfs, dir));
                }
                segments.push(Live::new(segment));
            }
            Err(error)
                if skip
                    && (matches!(error, Error::Corrupted { .. }) || error.is_missing_file()) =>
            {
                damage.push(missing(error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(segments)
}

/// What the logs of a manifest hold together.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    pub(crate) frames: Vec<Frame>,
    /// Path and end of each.
    ends: Vec<(PathBuf, u64)>,
    torn_bytes: u64,
    durable: bool,
    /// Whether nothing tells how many commits there were.
    end_is_lost: bool,
}

/// Reads the logs. A writer may be appending to them: damage counts only when it is seen three times.
pub(crate) fn read_logs(
    vfs: &dyn Vfs,
    dir: &Path,
    manifest: &Manifest,
    skip: bool,
    damage: &mut Vec<Error>,
) -> Result<Logs> {
    let mut tries = 0;
    loop {
        let mut found = Vec::new();
        let logs = read_logs_once(vfs, dir, manifest, skip, &mut found)?;
        tries += 1;
        if found.is_empty() || (tries == 3 && skip) {
            damage.append(&mut found);
            return Ok(logs);
        }
        if tries == 3 {
            return Err(found.swap_remove(0));
        }
    }
}

fn read_logs_once(
    vfs: &dyn Vfs,
    dir: &Path,
    manifest: &Manifest,
    skip: bool,
    damage: &mut Vec<Error>,
) -> Result<Logs> {
    // The last first: an earlier one is whole when a later one begins, so it is whole when it is read after.
    let mut contents = Vec::new();
    for entry in manifest.logs().rev() {
        let path = dir.join(log_name(entry.number));
        contents.push(match vfs.read(&path).at("read", &path) {
            Err(error) if skip && error.is_missing_file() => {
                damage.push(missing(error));
                None
            }
            other => Some(other?),
        });
    }
    let mut logs = Logs::default();
    let mut seq = manifest.seq;
    for (entry, bytes) in manifest.logs().zip(contents.into_iter().rev()) {
        let path = dir.join(log_name(entry.number));
        let Some(bytes) = bytes else {
            logs.ends.push((path, 0));
            logs.end_is_lost = true;
            continue;
        };
        let end = logs.ends.last().map(|(path, end)| (path.as_path(), *end));
        let mut replay = log::replay(&path, &bytes, entry, Before { seq, end })?;
        seq = replay.frames.last().map_or(seq, |frame| frame.seq);
        // An empty log is as it was made: nothing was ever appended.
        let known = entry.closed.map(|closed| closed.size_bytes);
        logs.durable = replay.len == known.unwrap_or(log::LOG_HEADER_BYTES);
        logs.torn_bytes += replay.torn_bytes;
        // A commit in a later log tells of those in an earlier one.
        logs.end_is_lost &= replay.frames.is_empty();
        logs.end_is_lost |= replay.end_is_lost;
        logs.frames.append(&mut replay.frames);
        logs.ends.push((path, replay.end));
        damage.append(&mut replay.damage);
    }
    logs.durable &= manifest.frozen.is_empty() && damage.is_empty();
    Ok(logs)
}
