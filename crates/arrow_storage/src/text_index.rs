//! seg-N.fts: the words of a segment's texts, mapped. Made again of its table whenever it is missing, damaged or of another
//! version; no manifest names it.

use crate::error::{At, Error, Result};
use crate::manifest::{SegmentEntry, draft_name, text_index_name};
use crate::segment::{Segment, lock};
use crate::table::SummedFile;
use crate::vfs::Vfs;
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use text_search::{Index, Stamp, write_index};

/// The index of a segment, once it was needed.
#[derive(Debug)]
pub(crate) struct TextIndex {
    path: PathBuf,
    /// What the file held when the segment was opened.
    found: Option<Bytes>,
    /// Held while the index is made, so that it is made once.
    opened: Mutex<Option<Arc<OpenIndex>>>,
}

/// An index, and whether it is that of the file.
#[derive(Debug)]
pub(crate) struct OpenIndex {
    pub(crate) index: Index,
    pub(crate) is_on_disk: bool,
}

pub(crate) fn stamp(entry: &SegmentEntry) -> Stamp {
    Stamp {
        size_bytes: entry.table.size_bytes,
        crc32c: entry.table.crc32c,
    }
}

fn open(bytes: Bytes, entry: &SegmentEntry) -> text_search::Result<Index> {
    Index::open(bytes, entry.rows, stamp(entry))
}

impl TextIndex {
    /// Looks whether there is a file. What is in it is looked at when it is needed.
    pub(crate) fn find(vfs: &dyn Vfs, dir: &Path, entry: &SegmentEntry) -> Self {
        let path = dir.join(text_index_name(entry.number));
        Self {
            found: vfs.map(&path).ok(),
            path,
            opened: Mutex::default(),
        }
    }
}

impl Segment {
    /// The index, and whether it had to be made for this call. Others wait while it is made.
    pub(crate) fn text_index(&self) -> Result<(Arc<OpenIndex>, bool)> {
        let mut opened = lock(&self.text.opened);
        if let Some(index) = opened.as_ref() {
            return Ok((index.clone(), false));
        }
        let found = self.text.found.clone();
        let index = found.and_then(|bytes| open(bytes, &self.entry).ok());
        let is_on_disk = index.is_some();
        let index = match index {
            Some(index) => index,
            None => self.make_text_index()?,
        };
        let index = Arc::new(OpenIndex { index, is_on_disk });
        *opened = Some(index.clone());
        Ok((index, !is_on_disk))
    }

    /// The index made of the table, in place of one that turned out to be damaged.
    pub(crate) fn mend_text_index(&self, damaged: &Arc<OpenIndex>) -> Result<Arc<OpenIndex>> {
        let mut opened = lock(&self.text.opened);
        if let Some(index) = opened.as_ref().filter(|index| !Arc::ptr_eq(index, damaged)) {
            return Ok(index.clone());
        }
        let index = Arc::new(OpenIndex {
            index: self.make_text_index()?,
            is_on_disk: false,
        });
        *opened = Some(index.clone());
        Ok(index)
    }

    fn make_text_index(&self) -> Result<Index> {
        let bytes = write_index(
            Vec::new(),
            self.rows(),
            stamp(&self.entry),
            threads::cores(),
            &|rows| self.texts(rows),
        );
        let bytes = bytes.map_err(|Failed(error)| error)?;
        // Reading the texts once is no reason to keep them in memory.
        self.give_back();
        open(Bytes::from(bytes), &self.entry)
            .map_err(|error| Error::corrupted(&self.text.path, 0, error.to_string()))
    }

    /// The contents of some rows; nothing in place of one that is damaged and to be skipped.
    fn texts(&self, rows: Range<usize>) -> Result<Vec<String>, Failed> {
        let rows: Vec<usize> = rows.collect();
        let read = self.contents(&rows).map_err(Failed)?;
        Ok(read.into_iter().map(Option::unwrap_or_default).collect())
    }

    /// Writes the file of the index if it is not there as it should be, or in any case when `anew`.
    ///
    /// # Errors
    /// When the texts cannot be read or the file not be written. Nothing is lost then.
    pub(crate) fn restore_text_index(&self, vfs: &dyn Vfs, dir: &Path, anew: bool) -> Result<()> {
        let mut opened = lock(&self.text.opened);
        let known = opened.as_ref().map(|index| index.is_on_disk);
        let is_sound = |bytes: &Bytes| open(bytes.clone(), &self.entry).is_ok();
        let is_there = known.unwrap_or_else(|| self.text.found.as_ref().is_some_and(is_sound));
        if is_there && !anew {
            return Ok(());
        }
        let draft = dir.join(draft_name(&text_index_name(self.entry.number)));
        let path = &self.text.path;
        let written = match opened.as_ref().filter(|_| !anew) {
            Some(index) => self.write_bytes(vfs, &draft, index.index.bytes()),
            None => self.write_texts(vfs, &draft),
        };
        let named = written.and_then(|()| vfs.rename(&draft, path).at("create", path));
        let mapped = named.and_then(|()| vfs.map(path).at("open", path));
        let bytes = mapped.inspect_err(|_| drop(vfs.remove(&draft)))?;
        let index = open(bytes, &self.entry)
            .map_err(|error| Error::corrupted(path, 0, error.to_string()))?;
        *opened = Some(Arc::new(OpenIndex {
            index,
            is_on_disk: true,
        }));
        Ok(())
    }

    fn write_bytes(&self, vfs: &dyn Vfs, draft: &Path, bytes: &[u8]) -> Result<()> {
        let path = &self.text.path;
        let file = vfs.create(draft).at("create", path)?;
        file.write_at(bytes, 0).at("write", path)?;
        file.sync().at("sync", path)
    }

    fn write_texts(&self, vfs: &dyn Vfs, draft: &Path) -> Result<()> {
        let path = &self.text.path;
        let sink = SummedFile {
            file: vfs.create(draft).at("create", path)?,
            sums: crate::checksum::BlockSums::default(),
        };
        let texts = |rows| self.texts(rows);
        let sink = write_index(
            sink,
            self.rows(),
            stamp(&self.entry),
            threads::cores(),
            &texts,
        );
        let sink = sink.map_err(|Failed(error)| error)?;
        self.give_back();
        sink.file.sync().at("sync", path)
    }

    /// What is wrong with the file of the index, if there is one.
    pub(crate) fn text_index_damage(&self, vfs: &dyn Vfs, dir: &Path) -> Option<Error> {
        let path = dir.join(text_index_name(self.entry.number));
        let bytes = match vfs.map(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            read => read.at("open", &path),
        };
        let checked = bytes.and_then(|bytes| {
            let checked = open(bytes, &self.entry).and_then(|index| index.check());
            checked.map_err(|error| match error {
                text_search::Error::Malformed { offset, what } => {
                    Error::corrupted(&path, offset, what)
                }
                other => Error::corrupted(&path, 0, other.to_string()),
            })
        });
        checked.err()
    }
}

/// An error of reading or of writing.
struct Failed(Error);

impl From<std::io::Error> for Failed {
    fn from(source: std::io::Error) -> Self {
        Self(Error::Io {
            action: "write",
            path: PathBuf::from("the index of a segment"),
            source,
        })
    }
}
