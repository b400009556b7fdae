//! Taking over a folder for writing: a new store, or one that another writer left, however it ended.
//!
//! What can be read need not be on the disk: a writer may have been killed before it synced, or its sync may
//! have failed, after which the system drops the pages and calls the next sync a success. So nothing that was
//! found counts as durable for having been found. It is written anew.

use crate::error::{At, Error, Result};
use crate::frame::Commit;
use crate::log::{self, Log};
use crate::manifest::{self, LogEntry, Manifest, log_name};
use crate::recovery::Loaded;
use crate::state::State;
use crate::vfs::Vfs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

/// Makes an empty store. The manifest comes last: without one, the next writer begins again.
pub(crate) fn create(vfs: &dyn Vfs, dir: &Path, manifest: &Manifest) -> Result<()> {
    let path = dir.join(log_name(manifest.log.number));
    Log::create(vfs, &path, manifest.log.number, manifest.log.salt)?;
    sync_ancestors(vfs, dir)?;
    vfs.sync_dir(dir).at("sync", dir)?;
    manifest.commit(vfs, dir).map_err(|(error, _)| error)
}

/// Makes the name of the folder durable, and the names above it: any of them may be new.
fn sync_ancestors(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    for above in dir.ancestors().skip(1) {
        match vfs.sync_dir(above) {
            // A folder that may not be read, or whose file system cannot, was not made here.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported
                ) => {}
            other => other.at("sync", above)?,
        }
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

/// Begins to write where another writer ended; returns the log to append to, and whether a manifest of this
/// writer names it.
///
/// Unless the last writer left all in order, the commits of its logs are written to a new one. `adopt` notes in
/// the manifest what the store is to remember from now on.
pub(crate) fn begin(
    vfs: &dyn Vfs,
    dir: &Path,
    loaded: &mut Loaded,
    adopt: impl FnOnce(&mut Manifest),
) -> Result<(Log, bool)> {
    let found = loaded.state.manifest.clone();
    let orphans = orphans(vfs, dir, &found)?;
    let mut manifest = found.as_ref().clone();
    adopt(&mut manifest);
    let log = if loaded.durable && orphans.is_empty() {
        let (path, end) = &loaded.logs[0];
        Log::resume(vfs, path, manifest.log.salt, *end)?
    } else {
        manifest.frozen.clear();
        manifest.log = LogEntry::new(manifest.next_file);
        manifest.next_file += 1;
        let log = write_anew(vfs, dir, &mut manifest.log, loaded)?;
        vfs.sync_dir(dir).at("sync", dir)?;
        log
    };
    let begun = manifest != *found;
    if begun {
        manifest.generation += 1;
        manifest.commit(vfs, dir).map_err(|(error, _)| error)?;
        // Only now: the manifest that was found may be one that the disk does not have.
        let kept = manifest.files();
        let obsolete = found.files().into_iter().chain(orphans);
        for name in obsolete.filter(|name| !kept.contains(name)) {
            let path = dir.join(&name);
            match vfs.remove(&path) {
                // The draft of the manifest took the place of one that a crash left.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other.at("remove", &path)?,
            }
        }
        loaded.state.manifest = Arc::new(manifest);
    }
    loaded.commits.clear();
    Ok((log, begun))
}

/// Writes the commits that were found to a log of their own, durably.
fn write_anew(vfs: &dyn Vfs, dir: &Path, entry: &mut LogEntry, loaded: &Loaded) -> Result<Log> {
    let path = dir.join(log_name(entry.number));
    let mut log = Log::create(vfs, &path, entry.number, entry.salt)?;
    for commit in &loaded.commits {
        log.append(&Commit {
            seq: commit.frame.seq,
            durable: 0,
            before: &commit.before,
            removed: &commit.removed,
            body: &commit.frame.body,
        })
        .map_err(|(error, _)| error)?;
    }
    if log.end > log::LOG_HEADER_BYTES {
        log.seal(&loaded.state, entry)?;
    }
    Ok(log)
}

/// Files that no manifest names: those of an interrupted flush, or of before one.
fn orphans(vfs: &dyn Vfs, dir: &Path, manifest: &Manifest) -> Result<Vec<String>> {
    let kept = manifest.files();
    let mut names = vfs.list(dir).at("list", dir)?;
    names.retain(|name| manifest::is_ours(name) && !kept.contains(name));
    Ok(names)
}

/// Writes the vectors files that had to be made again. Failing is no loss: they are made of the tables again.
pub(crate) fn restore_vectors(vfs: &dyn Vfs, dir: &Path, state: &State) {
    for live in &state.segments {
        if let Some(bytes) = live.segment.made_again() {
            let path = dir.join(manifest::vectors_name(live.segment.entry.number));
            let _ = replace(vfs, dir, &path, bytes);
        }
    }
}

fn replace(vfs: &dyn Vfs, dir: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = dir.join(manifest::REBUILT);
    let file = vfs.create(&draft)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    vfs.rename(&draft, path)?;
    vfs.sync_dir(dir)
}
