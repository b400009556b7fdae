//! dead-N: the rows of each segment that were deleted or replaced.
//!
//! ```text
//! "AIOSDEAD"  u32 format version  u32 segments
//! per segment: u64 number, u64 rows, u64 words of the bitmap
//! u32 crc32c of everything before
//! ```

use crate::dead_table;
use crate::error::{At, Error, Result};
use crate::manifest::{
    Manifest, REBUILT, Sealed, TombstonesEntry, dead_table_name, tombstones_name,
};
use crate::state::{Live, State};
use crate::vfs::Vfs;
use std::path::Path;
use std::sync::Arc;
use vector_search::Bitmap;

const MAGIC: [u8; 8] = *b"AIOSDEAD";
const VERSION: u32 = 1;

/// Tells the segments which of their rows were dead under a manifest: by the list; when that is damaged, by
/// the table of the same rows; when both are, by the manifest, which knows of segments without dead rows.
///
/// With `skip`, a row of which nothing tells whether it is dead is taken to be: what was forgotten stays so. The
/// damage of the list is returned then.
///
/// # Errors
/// Those of the list, when nothing else tells the rows.
pub(crate) fn read(
    vfs: &dyn Vfs,
    dir: &Path,
    manifest: &Manifest,
    segments: &mut [Live],
    skip: bool,
) -> Result<Option<Error>> {
    let Some(entry) = &manifest.tombstones else {
        return Ok(None);
    };
    let error = match read_list(vfs, dir, manifest, entry, segments) {
        Ok(()) => return Ok(None),
        Err(error @ Error::Version { .. }) => return Err(error),
        Err(error) => error,
    };
    let told = read_table(vfs, dir, entry, segments)
        || none_dead(manifest, entry, segments).all(|none_dead| none_dead);
    if !told && !skip {
        return Err(error);
    }
    if !told {
        let unknown: Vec<bool> = none_dead(manifest, entry, segments)
            .map(|none| !none)
            .collect();
        for (live, _) in segments
            .iter_mut()
            .zip(unknown)
            .filter(|(_, unknown)| *unknown)
        {
            live.dead = Arc::new(Bitmap::full(live.segment.rows()));
        }
    }
    Ok(Some(error).filter(|_| skip))
}

/// Makes the list and the table of dead rows again when one of them is damaged.
pub(crate) fn restore(vfs: &dyn Vfs, dir: &Path, state: &mut State) -> Result<()> {
    let Some(entry) = &state.manifest.tombstones else {
        return Ok(());
    };
    let list = dir.join(tombstones_name(entry.number));
    let table = dead_table_name(entry.number);
    let whole = |path: &Path, sealed: Sealed| {
        let read = vfs.read(path).at("read", path);
        read.and_then(|bytes| sealed.check(path, &bytes)).is_ok()
    };
    let list_is_whole = whole(&list, entry.sealed);
    let table_is_whole = entry
        .table
        .is_none_or(|sealed| whole(&dir.join(&table), sealed));
    if list_is_whole && table_is_whole {
        return Ok(());
    }
    // The log may have added to what the segments know.
    let mut segments: Vec<Live> = state
        .segments
        .iter()
        .map(|live| Live::new(live.segment.clone()))
        .collect();
    read(vfs, dir, &state.manifest, &mut segments, false)?;
    if !list_is_whole {
        let lists = segments
            .iter()
            .map(|live| (live.segment.entry.number, live.dead.as_ref()));
        let draft = dir.join(REBUILT);
        let file = vfs.create(&draft).at("create", &draft)?;
        file.write_at(&encode(lists), 0).at("write", &draft)?;
        file.sync().at("sync", &draft)?;
        vfs.rename(&draft, &list).at("replace", &list)?;
    }
    if !table_is_whole {
        let sealed = dead_table::write(vfs, dir, &table, &segments)?;
        // Another version of the compressor may have written the old one.
        if entry.table != Some(sealed) {
            let mut manifest = state.manifest.as_ref().clone();
            manifest.generation += 1;
            manifest.tombstones = Some(TombstonesEntry {
                table: Some(sealed),
                ..entry.clone()
            });
            vfs.sync_dir(dir).at("sync", dir)?;
            manifest.commit(vfs, dir).map_err(|(error, _)| error)?;
            state.manifest = Arc::new(manifest);
            return Ok(());
        }
    }
    vfs.sync_dir(dir).at("sync", dir)
}

fn read_list(
    vfs: &dyn Vfs,
    dir: &Path,
    manifest: &Manifest,
    entry: &TombstonesEntry,
    segments: &mut [Live],
) -> Result<()> {
    let path = dir.join(tombstones_name(entry.number));
    let bytes = vfs.read(&path).at("read", &path)?;
    let expected: Vec<_> = manifest
        .segments
        .iter()
        .map(|segment| (segment.number, segment.rows))
        .collect();
    let lists = decode(&path, &bytes, entry.sealed, &expected)?;
    // Some segments may have been skipped.
    for (&(number, _), dead) in expected.iter().zip(lists) {
        let mut named = segments.iter_mut();
        if let Some(live) = named.find(|live| live.segment.entry.number == number) {
            live.dead = dead;
        }
    }
    Ok(())
}

/// Whether the table tells which rows are dead.
fn read_table(vfs: &dyn Vfs, dir: &Path, entry: &TombstonesEntry, segments: &mut [Live]) -> bool {
    let path = dir.join(dead_table_name(entry.number));
    let read = entry
        .table
        .map(|sealed| dead_table::read(vfs, &path, sealed, segments));
    let Some(Ok(lists)) = read else {
        return false;
    };
    for (live, dead) in segments.iter_mut().zip(lists) {
        live.dead = Arc::new(dead);
    }
    true
}

/// For each segment, whether the manifest knows that none of its rows is dead.
fn none_dead<'a>(
    manifest: &'a Manifest,
    entry: &'a TombstonesEntry,
    segments: &'a [Live],
) -> impl Iterator<Item = bool> + 'a {
    segments.iter().map(|live| {
        let counts = manifest.segments.iter().zip(entry.rows.iter().flatten());
        let mut known = counts.filter(|(segment, _)| segment.number == live.segment.entry.number);
        known.next().is_some_and(|(_, &count)| count == 0)
    })
}

/// Writes the dead rows of numbered segments.
pub(crate) fn encode<'a>(segments: impl ExactSizeIterator<Item = (u64, &'a Bitmap)>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((segments.len() as u32).to_le_bytes());
    for (number, dead) in segments {
        out.extend(number.to_le_bytes());
        out.extend((dead.len() as u64).to_le_bytes());
        out.extend(dead.words().iter().flat_map(|word| word.to_le_bytes()));
    }
    out.extend(crc32c::crc32c(&out).to_le_bytes());
    out
}

/// Reads the dead rows of the segments `expected`, given as number and rows.
pub(crate) fn decode(
    path: &Path,
    bytes: &[u8],
    sealed: Sealed,
    expected: &[(u64, usize)],
) -> Result<Vec<Arc<Bitmap>>> {
    let bad = |offset: usize, what: &str| Error::corrupted(path, offset as u64, what);
    sealed.check(path, bytes)?;
    let version = bytes
        .get(8..12)
        .map(|v| u32::from_le_bytes([v[0], v[1], v[2], v[3]]));
    match version {
        Some(VERSION) if bytes[..8] == MAGIC => {}
        Some(found) if bytes[..8] == MAGIC => {
            return Err(Error::Version {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
        _ => return Err(bad(0, "the file does not begin like a list of dead rows")),
    }
    let mut at = 16;
    let mut dead = Vec::with_capacity(expected.len());
    for &(number, rows) in expected {
        let next = |at: &mut usize| -> Option<u64> {
            let word = bytes.get(*at..*at + 8)?;
            *at += 8;
            Some(
                word.iter()
                    .rev()
                    .fold(0, |value, &byte| value << 8 | u64::from(byte)),
            )
        };
        let start = at;
        if (next(&mut at), next(&mut at)) != (Some(number), Some(rows as u64)) {
            return Err(bad(start, "the segments differ from those in the manifest"));
        }
        let words: Option<Vec<u64>> = (0..rows.div_ceil(64)).map(|_| next(&mut at)).collect();
        let set = words.and_then(|words| Bitmap::from_words(words, rows));
        dead.push(Arc::new(
            set.ok_or_else(|| bad(start, "the list is cut short"))?,
        ));
    }
    Ok(dead)
}
