//! Reading every byte of a store to find damage.

use crate::error::{At, Error, Result};
use crate::flush::Check;
use crate::manifest::{self, Manifest, Sealed, dead_table_name, log_name, tombstones_name};
use crate::recovery;
use crate::state::State;
use crate::tombstones;
use crate::vfs::Vfs;
use std::path::Path;

pub(crate) fn verify(
    vfs: &dyn Vfs,
    dir: &Path,
    state: &State,
    check: Check<'_>,
) -> Result<Vec<Error>> {
    let mut damage = Vec::new();
    let path = manifest::path(dir);
    match vfs
        .read(&path)
        .at("read", &path)
        .and_then(|bytes| Manifest::decode(&path, &bytes))
    {
        Ok(read) => damage.extend(read.damage),
        Err(error) => damage.push(error),
    }
    for live in &state.segments {
        check()?;
        damage.extend(live.segment.damage(vfs, dir));
    }
    if let Some(entry) = &state.manifest.tombstones {
        let path = dir.join(tombstones_name(entry.number));
        let segments: Vec<_> = state
            .manifest
            .segments
            .iter()
            .map(|segment| (segment.number, segment.rows))
            .collect();
        let read = vfs.read(&path).at("read", &path);
        damage.extend(
            read.and_then(|bytes| tombstones::decode(&path, &bytes, entry.sealed, &segments))
                .err(),
        );
        let path = dir.join(dead_table_name(entry.number));
        if let Some(sealed) = entry.table {
            damage.extend(compare(vfs, &path, sealed).err());
        }
    }
    check()?;
    let logs = recovery::read_logs(vfs, dir, &state.manifest, true, &mut damage)?;
    let last = logs
        .frames
        .last()
        .map_or(state.manifest.seq, |frame| frame.seq);
    if last < state.seq {
        let path = dir.join(log_name(state.manifest.log.number));
        let what = format!("the log ends at commit {last}, not {}", state.seq);
        damage.push(Error::corrupted(path, 0, what));
    }
    Ok(damage)
}

/// Compares a whole file with the manifest.
fn compare(vfs: &dyn Vfs, path: &Path, sealed: Sealed) -> Result<()> {
    sealed.check(path, &vfs.read(path).at("read", path)?)
}
