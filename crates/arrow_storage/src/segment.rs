//! A segment: an immutable table of rows sorted by id, and the vectors beside it.

use crate::checksum::{BlockSums, CheckedBytes};
use crate::error::{At, Error, Result};
use crate::filter::Filter;
use crate::manifest::{SegmentEntry, table_name, text_index_name, vectors_name};
use crate::memory::Memory;
use crate::table::{Column, Table, rows_per_group};
use crate::text_index::TextIndex;
use crate::vectors::{Vectors, VectorsWriter};
use crate::vfs::{self, Vfs};
use bytes::Bytes;
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use vector_search::{Bitmap, Rows};

/// Filters whose rows a segment remembers; its rows never change.
const REMEMBERED_FILTERS: usize = 16;

/// An opened segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) entry: SegmentEntry,
    vectors: Vectors,
    /// Content of the vectors file when it had to be made again to be opened.
    rebuilt: Option<Bytes>,
    /// The same when damage was met later.
    mended: OnceLock<(Vectors, Bytes)>,
    told: AtomicBool,
    is_mapped: bool,
    dimension: usize,
    table_bytes: Bytes,
    table_path: std::path::PathBuf,
    table: OnceLock<Table>,
    filters: Mutex<HashMap<String, Arc<Bitmap>>>,
    skip_damaged: bool,
    pub(crate) text: TextIndex,
}

impl Segment {
    /// Opens a segment, making its vectors again from the table when their file is missing or damaged.
    ///
    /// With `skip_damaged`, all of the vectors are verified now, so that a scan meets no damage.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        dir: &Path,
        entry: &SegmentEntry,
        dimension: usize,
        skip_damaged: bool,
    ) -> Result<Self> {
        let table_path = dir.join(table_name(entry.number));
        let table_bytes = vfs.map(&table_path).at("open", &table_path)?;
        if table_bytes.len() as u64 != entry.table.size_bytes {
            let what = format!(
                "the file has {} bytes, not the {} of the manifest",
                table_bytes.len(),
                entry.table.size_bytes
            );
            return Err(Error::corrupted(
                table_path,
                entry.table.size_bytes.min(table_bytes.len() as u64),
                what,
            ));
        }
        let path = dir.join(vectors_name(entry.number));
        let opened = vfs
            .map(&path)
            .at("open", &path)
            .and_then(|bytes| Vectors::open(&path, bytes, entry.rows, dimension, entry.table))
            .and_then(|vectors| {
                // Reading all of it takes long, and would keep it in memory.
                let damage = skip_damaged.then(|| vectors.checked().damage());
                match damage.unwrap_or_default().first() {
                    Some(&offset) => Err(Error::corrupted(
                        &path,
                        offset,
                        "a block of 64 KiB fails its checksum",
                    )),
                    None => Ok(vectors),
                }
            });
        let (vectors, rebuilt) = match opened {
            Ok(vectors) => (vectors, None),
            Err(error) if matches!(error, Error::Corrupted { .. }) || error.is_missing_file() => {
                let bytes = rebuild(&table_path, &table_bytes, entry, dimension)?;
                (
                    Vectors::open(&path, bytes.clone(), entry.rows, dimension, entry.table)?,
                    Some(bytes),
                )
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            entry: entry.clone(),
            vectors,
            rebuilt,
            mended: OnceLock::new(),
            told: AtomicBool::new(false),
            is_mapped: vfs.maps(),
            dimension,
            table_bytes,
            table_path,
            table: OnceLock::new(),
            filters: Mutex::default(),
            skip_damaged,
            text: TextIndex::find(vfs, dir, entry),
        })
    }

    /// Moves the files into a folder, under a number of its store, and opens them there.
    pub(crate) fn moved(&self, vfs: &dyn Vfs, dir: &Path, number: u64) -> Result<Self> {
        let table = dir.join(table_name(number));
        let vectors = dir.join(vectors_name(number));
        vfs.rename(&self.table_path, &table).at("create", &table)?;
        let path = self.vectors.checked().path();
        vfs.rename(path, &vectors).at("create", &vectors)?;
        let from = path.with_file_name(text_index_name(self.entry.number));
        // It is made again when it stays behind.
        let _ = vfs.rename(&from, &dir.join(text_index_name(number)));
        let entry = SegmentEntry {
            number,
            ..self.entry.clone()
        };
        Self::open(vfs, dir, &entry, self.dimension, self.skip_damaged)
    }

    /// Gives back the memory of what was read; it comes from the files again.
    pub(crate) fn give_back(&self) {
        if self.is_mapped {
            vfs::give_back(&self.table_bytes);
            if self.rebuilt.is_none() {
                vfs::give_back(self.vectors.checked().unchecked());
            }
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.vectors.count()
    }

    pub(crate) fn id(&self, row: usize) -> Result<&str> {
        self.whole_vectors(|vectors| vectors.id(row))
    }

    /// The row of an id.
    pub(crate) fn find(&self, id: &str) -> Result<Option<usize>> {
        self.whole_vectors(|vectors| vectors.find(id))
    }

    /// All vectors, for a scan.
    pub(crate) fn scan_rows(&self) -> Result<Rows<'_>> {
        self.whole_vectors(Vectors::rows)
    }

    /// Reads from the vectors; from ones made of the table when those of the file are damaged there.
    fn whole_vectors<'a, T>(&'a self, read: impl Fn(&'a Vectors) -> Result<T>) -> Result<T> {
        if let Some((vectors, _)) = self.mended.get() {
            return read(vectors);
        }
        match read(&self.vectors) {
            Err(Error::Corrupted { .. }) if self.rebuilt.is_none() => read(self.mend()?),
            other => other,
        }
    }

    fn mend(&self) -> Result<&Vectors> {
        let entry = &self.entry;
        let bytes = rebuild(&self.table_path, &self.table_bytes, entry, self.dimension)?;
        let path = self.vectors.checked().path();
        let vectors = Vectors::open(path, bytes.clone(), entry.rows, self.dimension, entry.table)?;
        Ok(&self.mended.get_or_init(|| (vectors, bytes)).0)
    }

    /// Content of the vectors file when it had to be made again.
    pub(crate) fn made_again(&self) -> Option<&Bytes> {
        let mended = self.mended.get().map(|(_, bytes)| bytes);
        mended.or(self.rebuilt.as_ref())
    }

    /// What to tell the user, once, about a vectors file that had to be made again.
    pub(crate) fn warning(&self) -> Option<String> {
        if self.made_again().is_none() || self.told.swap(true, Ordering::Relaxed) {
            return None;
        }
        let path = self.vectors.checked().path();
        Some(format!(
            "{} was missing or damaged; its vectors are made again from the table beside it",
            path.display()
        ))
    }

    /// Whether the vectors file that was opened has damaged blocks.
    pub(crate) fn is_damaged(&self) -> bool {
        !self.vectors.checked().damage().is_empty()
    }

    pub(crate) fn table(&self) -> Result<&Table> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let checked = CheckedBytes::new(
            &self.table_path,
            self.table_bytes.clone(),
            self.vectors.table_sums(),
        );
        let table = Table::open(checked)?;
        if table.rows() != self.rows() {
            let what = format!("the table has {} rows, not {}", table.rows(), self.rows());
            return Err(Error::corrupted(&self.table_path, 0, what));
        }
        Ok(self.table.get_or_init(|| table))
    }

    /// Reads whole memories at ascending rows; `None` for one that is damaged and to be skipped.
    pub(crate) fn memories(&self, rows: &[usize]) -> Result<Vec<Option<Memory>>> {
        self.readable(rows, |rows| {
            let table = self.table()?;
            let contents = table.texts(Column::Content, rows)?;
            let metadata = table.texts(Column::Metadata, rows)?;
            let created = table.times(Column::CreatedAt, rows)?;
            let updated = table.times(Column::UpdatedAt, rows)?;
            let texts = contents.into_iter().zip(metadata);
            let times = created.into_iter().zip(updated);
            rows.iter()
                .zip(texts.zip(times))
                .map(|(&row, ((content, metadata), (created_at, updated_at)))| {
                    Ok(Memory {
                        id: self.id(row)?.to_owned(),
                        content,
                        metadata,
                        created_at,
                        updated_at,
                        embedding: self.vector(row)?.into_owned(),
                    })
                })
                .collect()
        })
    }

    /// Reads the metadata at ascending rows; `None` for one that is damaged and to be skipped.
    pub(crate) fn metadata(&self, rows: &[usize]) -> Result<Vec<Option<String>>> {
        self.readable(rows, |rows| self.table()?.texts(Column::Metadata, rows))
    }

    /// Reads the contents at ascending rows; `None` for one that is damaged and to be skipped.
    pub(crate) fn contents(&self, rows: &[usize]) -> Result<Vec<Option<String>>> {
        self.readable(rows, |rows| self.table()?.texts(Column::Content, rows))
    }

    /// One vector, from the table when the vectors are damaged there.
    pub(crate) fn vector(&self, row: usize) -> Result<Cow<'_, [f32]>> {
        match self.whole_vectors(|vectors| vectors.vector(row)) {
            Ok(vector) => Ok(Cow::Borrowed(vector)),
            Err(Error::Corrupted { .. }) => Ok(Cow::Owned(self.table()?.vectors(&[row])?)),
            Err(error) => Err(error),
        }
    }

    /// The rows that satisfy a filter.
    pub(crate) fn matching(&self, filter: &Filter) -> Result<Arc<Bitmap>> {
        if let Some(known) = lock(&self.filters).get(filter.text()) {
            return Ok(known.clone());
        }
        let mut found = Bitmap::empty(self.rows());
        let all: Vec<usize> = (0..self.rows()).collect();
        for rows in all.chunks(rows_per_group(self.dimension)) {
            let holds = self.readable(rows, |rows| self.evaluate(filter, rows))?;
            for (&row, holds) in rows.iter().zip(holds) {
                if holds == Some(true) {
                    found.insert(row);
                }
            }
        }
        let found = Arc::new(found);
        let mut known = lock(&self.filters);
        if known.len() >= REMEMBERED_FILTERS {
            known.clear();
        }
        known.insert(filter.text().to_owned(), found.clone());
        Ok(found)
    }

    /// Reads the columns that a filter looks at and asks it.
    fn evaluate(&self, filter: &Filter, rows: &[usize]) -> Result<Vec<bool>> {
        let table = self.table()?;
        let texts = filter
            .looks_at_metadata()
            .then(|| table.texts(Column::Metadata, rows));
        let texts = texts.transpose()?;
        let times = |column| filter.looks_at_times().then(|| table.times(column, rows));
        let created = times(Column::CreatedAt).transpose()?;
        let updated = times(Column::UpdatedAt).transpose()?;
        let time =
            |times: &Option<Vec<i64>>, index: usize| times.as_ref().map_or(0, |times| times[index]);
        let holds = rows.iter().enumerate().map(|(index, &row)| {
            let json = texts.as_ref().map_or("{}", |texts| &texts[index]);
            let times = (time(&created, index), time(&updated, index));
            Ok(filter.selects(self.id(row)?, times, json))
        });
        holds.collect()
    }

    /// Reads rows, and when damaged ones are to be skipped, halves of them until those are alone.
    fn readable<T>(
        &self,
        rows: &[usize],
        read: impl Fn(&[usize]) -> Result<Vec<T>> + Copy,
    ) -> Result<Vec<Option<T>>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        match read(rows) {
            Ok(values) => Ok(values.into_iter().map(Some).collect()),
            Err(Error::Corrupted { .. }) if self.skip_damaged => {
                if rows.len() == 1 {
                    return Ok(vec![None]);
                }
                let (left, right) = rows.split_at(rows.len() / 2);
                let mut values = self.readable(left, read)?;
                values.extend(self.readable(right, read)?);
                Ok(values)
            }
            Err(error) => Err(error),
        }
    }

    /// Whole-file checks: what is damaged, and where.
    pub(crate) fn damage(&self, vfs: &dyn Vfs, dir: &Path) -> Vec<Error> {
        let mut found = Vec::new();
        let block = |path: &Path, offset| {
            Error::corrupted(path, offset, "a block of 64 KiB fails its checksum")
        };
        let path = dir.join(vectors_name(self.entry.number));
        match vfs.map(&path).at("open", &path) {
            Ok(bytes) => {
                let sealed = self.entry.vectors;
                let offsets = self.vectors.checked().damage();
                if self.rebuilt.is_none() && !offsets.is_empty() {
                    found.extend(offsets.iter().map(|&offset| block(&path, offset)));
                } else if bytes.len() as u64 != sealed.size_bytes
                    || crc32c::crc32c(&bytes) != sealed.crc32c
                {
                    found.push(Error::corrupted(
                        &path,
                        0,
                        "the file fails the checksum in the manifest",
                    ));
                }
            }
            Err(error) => found.push(error),
        }
        let checked = CheckedBytes::new(
            &self.table_path,
            self.table_bytes.clone(),
            self.vectors.table_sums(),
        );
        let offsets = checked.damage();
        if offsets.is_empty() && crc32c::crc32c(&self.table_bytes) != self.entry.table.crc32c {
            found.push(Error::corrupted(
                &self.table_path,
                0,
                "the file fails the checksum in the manifest",
            ));
        }
        found.extend(
            offsets
                .iter()
                .map(|&offset| block(&self.table_path, offset)),
        );
        if found.is_empty() {
            found.extend(self.contradiction().err());
        }
        found.extend(self.text_index_damage(vfs, dir));
        found
    }

    /// Whether the two files agree and the ids ascend.
    fn contradiction(&self) -> Result<()> {
        let all: Vec<usize> = (0..self.rows()).collect();
        let table = self.table()?;
        let mut before = String::new();
        for rows in all.chunks(rows_per_group(table.dimension)) {
            let vectors = table.vectors(rows)?;
            let ids = table.texts(Column::Id, rows)?;
            for ((&row, id), vector) in rows.iter().zip(ids).zip(vectors.chunks(table.dimension)) {
                if id <= before
                    || self.vectors.id(row)? != id
                    || self.vectors.vector(row)? != vector
                {
                    let what = format!("row {row} differs between the segment's two files");
                    return Err(Error::corrupted(&self.table_path, 0, what));
                }
                before = id;
            }
            table.texts(Column::Content, rows)?;
            table.texts(Column::Metadata, rows)?;
        }
        Ok(())
    }
}

/// Makes the vectors file again from a table that is whole. The bytes equal those of the first time.
fn rebuild(path: &Path, bytes: &Bytes, entry: &SegmentEntry, dimension: usize) -> Result<Bytes> {
    let mut sums = BlockSums::default();
    sums.update(bytes);
    if sums.whole() != entry.table.crc32c {
        return Err(Error::corrupted(
            path,
            0,
            "the table and the vectors beside it are both damaged",
        ));
    }
    let sums = sums.into_bytes();
    let table = Table::open(CheckedBytes::new(
        path,
        bytes.clone(),
        Bytes::from(sums.clone()),
    ))?;
    let rows: Vec<usize> = (0..table.rows()).collect();
    if table.dimension != dimension || rows.len() != entry.rows {
        return Err(Error::corrupted(
            path,
            0,
            "the table disagrees with the manifest",
        ));
    }
    let ids = table.texts(Column::Id, &rows)?;
    let id_bytes = ids.iter().map(String::len).sum();
    let write = || {
        let mut writer =
            VectorsWriter::new(Vec::new(), rows.len(), dimension, id_bytes, entry.table)?;
        for rows in rows.chunks(rows_per_group(dimension)) {
            writer.push(&table.vectors(rows).map_err(std::io::Error::other)?)?;
        }
        writer.finish(ids.iter().map(String::as_str), &sums)
    };
    let (bytes, _) = write().at("make again the vectors of", path)?;
    Ok(Bytes::from(bytes))
}

/// A poisoned lock is taken anyway: what it guards is only ever replaced whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
