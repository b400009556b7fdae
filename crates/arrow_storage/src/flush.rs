//! From log to segment: the next version of a store's files.

use crate::dead_table;
use crate::error::{At, Error, Result};
use crate::log::Log;
use crate::manifest::{
    LogEntry, Sealed, SegmentEntry, TombstonesEntry, dead_table_name, draft_name, log_name,
    table_name, text_index_name, tombstones_name, vectors_name,
};
use crate::merge::Merged;
use crate::segment::Segment;
use crate::state::{Live, State};
use crate::table::{SummedFile, TableWriter, rows_per_group};
use crate::tombstones;
use crate::vectors::{self, VectorsWriter};
use crate::vfs::Vfs;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// A segment is sparse when more than one in this many of its rows is gone.
const SPARSE: usize = 4;

/// Larger segments are merged by `compact` alone, or as sparse
/// by `flush` and `close`, so that no commit waits long.
const MERGE_BYTES: u64 = 256 << 20;

/// Which segments are written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// Recent ones that are not larger than what is written anyway, and sparse ones, unless they are large:
    /// each row is then written again about as often as the store doubles, and segments stay few.
    Few,
    /// The same, and sparse ones of any size: nobody is waiting for a commit.
    Sparse,
    /// The same as `Few` of the first `own`. Those behind are another store's, and move in as they are.
    Foreign { own: usize },
    /// All of them, into one without gaps.
    All,
}

/// Called between slices of long work; an error stops it, and nothing has changed.
pub type Check<'a> = &'a mut dyn FnMut() -> Result<()>;

/// The next version of a store, whose segments are written and which no manifest names yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) state: State,
    /// Files that were written.
    made: Vec<String>,
    /// Files that no manifest names any more once this version is committed.
    pub(crate) obsolete: Vec<String>,
}

impl Draft {
    /// Writes all that `state` has in its logs into a segment; the last of the logs goes on behind it.
    pub(crate) fn write(
        vfs: &dyn Vfs,
        dir: &Path,
        state: &State,
        rewrite: Rewrite,
        check: Check<'_>,
    ) -> Result<Self> {
        let mut made = Vec::new();
        match write_files(vfs, dir, state, rewrite, check, &mut made) {
            Ok(next) => Ok(Self {
                state: next,
                made,
                obsolete: state.manifest.files(),
            }),
            Err(error) => {
                discard(vfs, dir, &made);
                Err(error)
            }
        }
    }

    /// Begins a new log. The one that was written into the segment is then done with.
    pub(crate) fn begin_log(&mut self, vfs: &dyn Vfs, dir: &Path) -> Result<Log> {
        let manifest = Arc::make_mut(&mut self.state.manifest);
        manifest.log = LogEntry::new(manifest.next_file);
        manifest.next_file += 1;
        let (number, salt) = (manifest.log.number, manifest.log.salt);
        self.made.push(log_name(number));
        let made = Log::create(vfs, &dir.join(log_name(number)), number, salt);
        made.inspect_err(|_| self.discard(vfs, dir))
    }

    /// Makes the indexes of the segments that lack one, while commits go on. Without one a segment is as good: a query
    /// makes it.
    pub(crate) fn index_texts(self, vfs: &dyn Vfs, dir: &Path, check: Check<'_>) -> Result<Self> {
        for live in &self.state.segments {
            check().inspect_err(|_| self.discard(vfs, dir))?;
            let _ = live.segment.restore_text_index(vfs, dir, false);
        }
        Ok(self)
    }

    /// Removes what was written.
    pub(crate) fn discard(&self, vfs: &dyn Vfs, dir: &Path) {
        discard(vfs, dir, &self.made);
    }

    /// Makes this version the store's.
    ///
    /// The second part of an error tells whether the old manifest surely still stands.
    pub(crate) fn commit(&mut self, vfs: &dyn Vfs, dir: &Path) -> Result<(), (Error, bool)> {
        let named = vfs.sync_dir(dir).at("sync", dir);
        let committed = named
            .map_err(|error| (error, true))
            .and_then(|()| self.state.manifest.commit(vfs, dir));
        if matches!(committed, Err((_, true))) {
            self.discard(vfs, dir);
        }
        let kept = self.state.manifest.files();
        self.obsolete.retain(|name| !kept.contains(name));
        committed
    }
}

/// Removes files. What stays behind is removed when the store is next opened.
pub(crate) fn discard(vfs: &dyn Vfs, dir: &Path, names: &[String]) {
    for name in names {
        let _ = vfs.remove(&dir.join(name));
    }
}

fn write_files(
    vfs: &dyn Vfs,
    dir: &Path,
    state: &State,
    rewrite: Rewrite,
    check: Check<'_>,
    made: &mut Vec<String>,
) -> Result<State> {
    let mut manifest = state.manifest.as_ref().clone();
    manifest.generation += 1;
    manifest.dimension = state.dimension;
    manifest.seq = state.seq;
    manifest.frozen.clear();
    let mut number = || {
        manifest.next_file += 1;
        manifest.next_file - 1
    };
    let own = match rewrite {
        Rewrite::Foreign { own } => own,
        _ => state.segments.len(),
    };
    let (own, foreign) = state.segments.split_at(own);
    let (merged, mut segments) = choose(own, state.fresh.len(), rewrite);
    for live in foreign {
        let number = number();
        made.extend([
            table_name(number),
            vectors_name(number),
            text_index_name(number),
        ]);
        segments.push(Live {
            segment: Arc::new(live.segment.moved(vfs, dir, number)?),
            dead: live.dead.clone(),
        });
    }
    let merged = Merged::new(merged, &state.fresh)?;
    if !merged.order.is_empty() {
        let number = number();
        made.extend([
            draft_name(&table_name(number)),
            table_name(number),
            vectors_name(number),
            draft_name(&text_index_name(number)),
            text_index_name(number),
        ]);
        let model = state.manifest.model.as_deref();
        let segment = write_segment(vfs, dir, number, &merged, model, check)?;
        segments.push(Live::new(Arc::new(segment)));
    }
    // A list without rows is written too: the query of other tools then always finds one.
    let tombstones = if segments.is_empty() {
        None
    } else {
        let number = number();
        let table = dead_table_name(number);
        made.extend([tombstones_name(number), draft_name(&table), table]);
        Some(write_tombstones(vfs, dir, number, &segments)?)
    };
    manifest.tombstones = tombstones;
    let entries = segments.iter().map(|live| live.segment.entry.clone());
    manifest.segments = entries.collect();
    Ok(State {
        manifest: Arc::new(manifest),
        segments,
        fresh: BTreeSet::new(),
        dimension: state.dimension,
        seq: state.seq,
        removals: state.removals.clone(),
    })
}

/// Splits the segments into those to merge and those to keep.
fn choose(segments: &[Live], fresh: usize, rewrite: Rewrite) -> (Vec<Live>, Vec<Live>) {
    let size =
        |live: &Live| live.segment.entry.table.size_bytes + live.segment.entry.vectors.size_bytes;
    let mut rows = fresh;
    let mut trailing = segments.len();
    let mut bytes = 0;
    while let Some(live) = trailing.checked_sub(1).map(|last| &segments[last]) {
        bytes += size(live);
        if live.alive() > rows || bytes > MERGE_BYTES {
            break;
        }
        rows += live.alive();
        trailing -= 1;
    }
    let mut index = 0;
    segments.iter().cloned().partition(|live| {
        index += 1;
        let sparse = SPARSE * live.dead.count() > live.segment.rows();
        let small = size(live) <= MERGE_BYTES;
        match rewrite {
            Rewrite::All => true,
            Rewrite::Sparse => index > trailing || sparse,
            Rewrite::Few | Rewrite::Foreign { .. } => index > trailing || sparse && small,
        }
    })
}

fn write_segment(
    vfs: &dyn Vfs,
    dir: &Path,
    number: u64,
    merged: &Merged,
    model: Option<&str>,
    check: Check<'_>,
) -> Result<Segment> {
    let table_path = dir.join(table_name(number));
    let draft = dir.join(draft_name(&table_name(number)));
    let mut dimension = 0;
    let mut table: Option<TableWriter> = None;
    let mut rest = merged.order.as_slice();
    while let Some(first) = rest.first() {
        check()?;
        if dimension == 0 {
            dimension = merged
                .read(&[*first])?
                .first()
                .map_or(0, |memory| memory.embedding.len());
        }
        let (now, later) = rest.split_at(rows_per_group(dimension).min(rest.len()));
        let table = match &mut table {
            Some(table) => table,
            None => table.insert(TableWriter::create(
                vfs.create(&draft).at("create", &table_path)?,
                &table_path,
                dimension,
                model,
            )?),
        };
        table.write(&merged.read(now)?)?;
        merged.give_back();
        rest = later;
    }
    let Some(table) = table else {
        return Err(Error::invalid("a segment", "rows", "none"));
    };
    let sums = table.finish()?;
    // Other tools read every table they find, so it gets its name when it is whole.
    vfs.rename(&draft, &table_path).at("create", &table_path)?;
    let sealed = Sealed {
        size_bytes: sums.len(),
        crc32c: sums.whole(),
    };
    let vectors = write_vectors(
        vfs,
        &dir.join(vectors_name(number)),
        dimension,
        merged,
        sealed,
        &sums.into_bytes(),
        check,
    )?;
    let entry = SegmentEntry {
        number,
        rows: merged.order.len(),
        table: sealed,
        vectors,
    };
    Segment::open(vfs, dir, &entry, dimension, false)
}

fn write_vectors(
    vfs: &dyn Vfs,
    path: &Path,
    dimension: usize,
    merged: &Merged,
    table: Sealed,
    table_sums: &[u8],
    check: Check<'_>,
) -> Result<Sealed> {
    let mut ids = Vec::with_capacity(merged.order.len());
    for &place in &merged.order {
        ids.push(merged.id(place)?);
    }
    let id_bytes = ids.iter().map(|id| id.len()).sum();
    let sink = std::io::BufWriter::with_capacity(
        1 << 20,
        SummedFile {
            file: vfs.create(path).at("create", path)?,
            sums: crate::checksum::BlockSums::default(),
        },
    );
    let mut writer =
        VectorsWriter::new(sink, ids.len(), dimension, id_bytes, table).at("write", path)?;
    for places in merged.order.chunks(rows_per_group(dimension)) {
        check()?;
        for &place in places {
            writer.push(&merged.vector(place)?).at("write", path)?;
        }
        merged.give_back();
    }
    let (sink, sealed) = writer
        .finish(ids.into_iter(), table_sums)
        .at("write", path)?;
    let file = sink
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .at("write", path)?;
    vectors::seal(&file, path)?;
    Ok(sealed)
}

fn write_tombstones(
    vfs: &dyn Vfs,
    dir: &Path,
    number: u64,
    segments: &[Live],
) -> Result<TombstonesEntry> {
    let bytes = tombstones::encode(
        segments
            .iter()
            .map(|live| (live.segment.entry.number, live.dead.as_ref())),
    );
    let path = dir.join(tombstones_name(number));
    let file = vfs.create(&path).at("create", &path)?;
    file.write_at(&bytes, 0).at("write", &path)?;
    file.sync().at("sync", &path)?;
    let table = dead_table::write(vfs, dir, &dead_table_name(number), segments)?;
    Ok(TombstonesEntry {
        number,
        table: Some(table),
        rows: Some(segments.iter().map(|live| live.dead.count()).collect()),
        sealed: Sealed {
            size_bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
        },
    })
}
