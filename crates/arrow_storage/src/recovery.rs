//! Opening: from the files on disk to a state.

use crate::error::{At, Error, Result};
use crate::frame::Body;
use crate::log::{self, Log, Replay};
use crate::manifest::{self, Manifest, log_name};
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
    pub(crate) log_path: PathBuf,
    pub(crate) log_end: u64,
    /// What a crash left behind the last commit.
    pub(crate) torn_bytes: u64,
    /// Whether the last writer closed the store.
    pub(crate) closed: bool,
    /// What was skipped.
    pub(crate) damage: Vec<Error>,
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
    let log_path = dir.join(log_name(manifest.log.number));
    let replay = read_log(vfs, &log_path, &manifest, skip, &mut damage)?;
    let mut state = State {
        dimension: manifest.dimension,
        seq: manifest.seq,
        manifest: Arc::new(manifest),
        segments,
        fresh: BTreeSet::new(),
    };
    // An empty log is as it was made: nothing was ever appended.
    let mut closed = replay.len == log::LOG_HEADER_BYTES;
    let mut at = log::LOG_HEADER_BYTES;
    for frame in replay.frames {
        // The closing frame counts only when everything before it was known to be durable.
        closed = matches!(frame.body, Body::Closed) && frame.durable == at;
        at += frame.len as u64;
        if let Body::Operations(operations) = frame.body {
            state.apply(operations)?;
            state.seq = frame.seq;
        }
    }
    Ok(Loaded {
        state,
        stamp,
        log_path,
        log_end: replay.end,
        torn_bytes: replay.torn_bytes,
        closed,
        damage,
    })
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

/// Reads the log. A writer may be appending to it: damage counts only when it is seen three times.
fn read_log(
    vfs: &dyn Vfs,
    path: &Path,
    manifest: &Manifest,
    skip: bool,
    damage: &mut Vec<Error>,
) -> Result<Replay> {
    let mut replay = Replay::default();
    for _ in 0..3 {
        let bytes = match vfs.read(path) {
            Err(error) if skip && error.kind() == std::io::ErrorKind::NotFound => {
                damage.push(Error::corrupted(
                    path,
                    0,
                    "the file is gone although the manifest names it",
                ));
                return Ok(Replay::default());
            }
            other => other.at("read", path)?,
        };
        replay = log::replay(path, &bytes, &manifest.log, manifest.seq)?;
        if replay.damage.is_empty() {
            return Ok(replay);
        }
    }
    if !skip {
        return Err(replay.damage.swap_remove(0));
    }
    damage.append(&mut replay.damage);
    Ok(replay)
}

/// Makes an empty store. The manifest comes last: without one, the next writer begins again.
pub(crate) fn create(vfs: &dyn Vfs, dir: &Path, manifest: &Manifest) -> Result<()> {
    let path = dir.join(log_name(manifest.log.number));
    Log::create(vfs, &path, manifest.log.number, manifest.log.salt)?;
    vfs.sync_dir(dir).at("sync", dir)?;
    manifest.commit(vfs, dir).map_err(|(error, _)| error)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // A folder that may not be read cannot be synced; the store's own names are durable all the same.
        let _ = vfs.sync_dir(parent);
    }
    Ok(())
}

/// Whether a store may be made here: the folder holds nothing, or what a crash of `create` left.
///
/// # Errors
/// `NoStore` when it holds other files, `Corrupted` when a store lost its manifest.
pub(crate) fn may_create(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    for name in vfs.list(dir).at("list", dir)? {
        let empty_log = name == log_name(1)
            && vfs
                .stamp(&dir.join(&name))
                .is_ok_and(|log| log.len <= log::LOG_HEADER_BYTES);
        if empty_log || name == "LOCK" || name == "MANIFEST.tmp" {
            continue;
        }
        if manifest::is_ours(&name) {
            let what = format!("the file is gone although there is {name}");
            return Err(Error::corrupted(manifest::path(dir), 0, what));
        }
        return Err(Error::NoStore {
            path: dir.to_owned(),
            what: format!("the folder holds other files ({name}); give an empty or a new one"),
        });
    }
    Ok(())
}

/// Removes files that no manifest names: those of an interrupted flush, or of before one.
pub(crate) fn remove_orphans(vfs: &dyn Vfs, dir: &Path, manifest: &Manifest) -> Result<()> {
    let kept = manifest.files();
    for name in vfs.list(dir).at("list", dir)? {
        if manifest::is_ours(&name) && !kept.contains(&name) {
            let path = dir.join(&name);
            vfs.remove(&path).at("remove", &path)?;
        }
    }
    Ok(())
}

/// Writes the vectors files that had to be made again.
pub(crate) fn restore_vectors(vfs: &dyn Vfs, dir: &Path, state: &State) -> Result<()> {
    for live in &state.segments {
        if let Some(bytes) = live.segment.made_again() {
            let draft = dir.join(manifest::REBUILT);
            let path = dir.join(manifest::vectors_name(live.segment.entry.number));
            let file = vfs.create(&draft).at("create", &draft)?;
            file.write_at(bytes, 0).at("write", &draft)?;
            file.sync().at("sync", &draft)?;
            vfs.rename(&draft, &path).at("replace", &path)?;
            vfs.sync_dir(dir).at("sync", dir)?;
        }
    }
    Ok(())
}
