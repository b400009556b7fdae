//! seg-N.vec: what a scan and a look-up need of a segment, mapped into memory. Rebuilt from its table.
//!
//! ```text
//! 0    "AIOSVEC\0"   8   u32 format version   12  u32 dimension   16  u64 rows
//! 24   u64 bytes of all ids   32  u64 bytes of the table   40  u32 crc32c of the table
//! 44   zeros   60  u32 crc32c of the bytes before
//! 64   f32 vectors [rows, dimension]
//!      f32 inverse norms [rows], then zeros to a multiple of 8
//!      u64 ends of the ids [rows]
//!      ids, sorted by their bytes, then zeros to a multiple of 8
//!      u32 crc32c of each block of 64 KiB of the table
//!      u32 crc32c of each block of 64 KiB of this file up to here
//!      u32 crc32c of those
//! ```

use crate::checksum::{BlockSums, CheckedBytes, sums_len};
use crate::error::{At, Error, Result};
use crate::manifest::Sealed;
use crate::memory::MAX_DIMENSION;
use bytes::Bytes;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use vector_search::{Rows, norm};

#[cfg(target_endian = "big")]
compile_error!("the store maps little-endian numbers");

const MAGIC: [u8; 8] = *b"AIOSVEC\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;

/// Where the parts of the file lie.
#[derive(Debug, Clone)]
struct Layout {
    rows: usize,
    dimension: usize,
    vectors: Range<usize>,
    norms: Range<usize>,
    ends: Range<usize>,
    ids: Range<usize>,
    table_sums: Range<usize>,
    own_sums: Range<usize>,
    len: usize,
}

impl Layout {
    /// `None` when the numbers overflow.
    fn new(rows: usize, dimension: usize, id_bytes: usize, table_len: u64) -> Option<Self> {
        let after = |start: usize, len: usize| Some(start..start.checked_add(len)?);
        let vectors = after(HEADER_BYTES, rows.checked_mul(dimension)?.checked_mul(4)?)?;
        let norms = after(vectors.end, rows.checked_mul(4)?)?;
        let ends = after(norms.end.checked_next_multiple_of(8)?, rows.checked_mul(8)?)?;
        let ids = after(ends.end, id_bytes)?;
        let table_sums = after(
            ids.end.checked_next_multiple_of(8)?,
            usize::try_from(sums_len(table_len)).ok()?,
        )?;
        let own_sums = after(table_sums.end, sums_len(table_sums.end as u64) as usize)?;
        Some(Self {
            rows,
            dimension,
            len: own_sums.end.checked_add(4)?,
            vectors,
            norms,
            ends,
            ids,
            table_sums,
            own_sums,
        })
    }
}

/// Writes the file: all vectors first, then the rest.
pub(crate) struct VectorsWriter<W> {
    sink: W,
    sums: BlockSums,
    inverse_norms: Vec<f32>,
    layout: Layout,
}

impl<W: Write> VectorsWriter<W> {
    /// `table` are the checksums of the finished table.
    pub(crate) fn new(
        sink: W,
        rows: usize,
        dimension: usize,
        id_bytes: usize,
        table: Sealed,
    ) -> io::Result<Self> {
        let layout = Layout::new(rows, dimension, id_bytes, table.size_bytes)
            .ok_or_else(|| io::Error::other("the segment is too large"))?;
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(dimension as u32).to_le_bytes());
        header[16..24].copy_from_slice(&(rows as u64).to_le_bytes());
        header[24..32].copy_from_slice(&(id_bytes as u64).to_le_bytes());
        header[32..40].copy_from_slice(&table.size_bytes.to_le_bytes());
        header[40..44].copy_from_slice(&table.crc32c.to_le_bytes());
        let crc = crc32c::crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        let mut writer = Self {
            sink,
            sums: BlockSums::default(),
            inverse_norms: Vec::with_capacity(rows),
            layout,
        };
        writer.put(&header)?;
        Ok(writer)
    }

    /// Appends vectors: `[n, dimension]`.
    pub(crate) fn push(&mut self, vectors: &[f32]) -> io::Result<()> {
        let inverse = vectors
            .chunks_exact(self.layout.dimension)
            .map(|row| 1.0 / norm(row));
        self.inverse_norms.extend(inverse);
        self.put(as_bytes(vectors))
    }

    /// Writes what follows the vectors and returns the length and checksum of the file.
    pub(crate) fn finish<'a>(
        mut self,
        ids: impl Iterator<Item = &'a str> + Clone,
        table_sums: &[u8],
    ) -> io::Result<(W, Sealed)> {
        let norms = std::mem::take(&mut self.inverse_norms);
        self.put(as_bytes(&norms))?;
        self.pad()?;
        let mut end = 0u64;
        let ends: Vec<u8> = ids
            .clone()
            .flat_map(|id| {
                end += id.len() as u64;
                end.to_le_bytes()
            })
            .collect();
        self.put(&ends)?;
        let ids: Vec<u8> = ids.flat_map(str::bytes).collect();
        self.put(&ids)?;
        self.pad()?;
        self.put(table_sums)?;
        if self.sums.len() != self.layout.table_sums.end as u64 {
            return Err(io::Error::other("the parts of a segment differ in length"));
        }
        let mut whole = self.sums.whole();
        let len = self.layout.len as u64;
        let mut own = self.sums.into_bytes();
        own.extend(crc32c::crc32c(&own).to_le_bytes());
        whole = crc32c::crc32c_append(whole, &own);
        self.sink.write_all(&own)?;
        Ok((
            self.sink,
            Sealed {
                size_bytes: len,
                crc32c: whole,
            },
        ))
    }

    fn put(&mut self, data: &[u8]) -> io::Result<()> {
        self.sums.update(data);
        self.sink.write_all(data)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.sums.len().next_multiple_of(8) - self.sums.len();
        self.put(&[0; 8][..missing as usize])
    }
}

/// The opened file.
#[derive(Debug)]
pub(crate) struct Vectors {
    bytes: CheckedBytes,
    table_sums: Bytes,
    layout: Layout,
}

impl Vectors {
    /// Checks the header, the length and the table of checksums; the rest when it is first read.
    pub(crate) fn open(
        path: &Path,
        bytes: Bytes,
        rows: usize,
        dimension: usize,
        table: Sealed,
    ) -> Result<Self> {
        let bad = |what: &str| Error::corrupted(path, 0, what);
        let bytes = aligned(bytes);
        let header = bytes
            .get(..HEADER_BYTES)
            .ok_or_else(|| bad("the file is shorter than its header"))?;
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if header[..8] != MAGIC || crc32c::crc32c(&header[..60]) != word(60) {
            return Err(bad("the header fails its checksum"));
        }
        if word(8) != VERSION {
            return Err(Error::Version {
                path: path.to_owned(),
                found: word(8),
                known: VERSION,
            });
        }
        let same = (word(12) as usize, long(16), long(32), word(40))
            == (dimension, rows as u64, table.size_bytes, table.crc32c);
        if !same || dimension == 0 || dimension > MAX_DIMENSION {
            return Err(bad("the header disagrees with the manifest"));
        }
        let layout = Layout::new(rows, dimension, long(24) as usize, table.size_bytes)
            .filter(|layout| layout.len == bytes.len())
            .ok_or_else(|| bad("the length is not the one its header gives"))?;
        let own = bytes.slice(layout.own_sums.clone());
        if crc32c::crc32c(&own).to_le_bytes() != bytes[layout.own_sums.end..] {
            return Err(Error::corrupted(
                path,
                layout.own_sums.start as u64,
                "the checksums fail their own",
            ));
        }
        let checked = CheckedBytes::new(path, bytes.slice(..layout.table_sums.end), own);
        Ok(Self {
            table_sums: checked.slice(layout.table_sums.clone())?,
            bytes: checked,
            layout,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.layout.rows
    }

    pub(crate) fn checked(&self) -> &CheckedBytes {
        &self.bytes
    }

    /// Checksums of the blocks of the table.
    pub(crate) fn table_sums(&self) -> Bytes {
        self.table_sums.clone()
    }

    /// All rows, for a scan.
    pub(crate) fn rows(&self) -> Result<Rows<'_>> {
        let vectors = self.bytes.get(self.layout.vectors.clone())?;
        let norms = self.bytes.get(self.layout.norms.clone())?;
        Ok(Rows::new(
            as_floats(vectors),
            as_floats(norms),
            self.layout.dimension,
        ))
    }

    /// One vector.
    pub(crate) fn vector(&self, row: usize) -> Result<&[f32]> {
        let width = 4 * self.layout.dimension;
        let start = self.layout.vectors.start + row * width;
        Ok(as_floats(self.bytes.get(start..start + width)?))
    }

    /// One id.
    pub(crate) fn id(&self, row: usize) -> Result<&str> {
        let start = if row == 0 { 0 } else { self.id_end(row - 1)? };
        let end = self.id_end(row)?;
        let all = &self.layout.ids;
        let range = all.start + start.min(all.len())..all.start + end.min(all.len());
        let bad = || {
            Error::corrupted(
                self.bytes.path(),
                all.start as u64,
                format!("the id of row {row} is not a text"),
            )
        };
        std::str::from_utf8(self.bytes.get(range)?).map_err(|_| bad())
    }

    fn id_end(&self, row: usize) -> Result<usize> {
        let at = self.layout.ends.start + 8 * row;
        let word = self.bytes.get(at..at + 8)?;
        Ok(word
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | usize::from(byte)))
    }

    /// The row of an id, by binary search.
    pub(crate) fn find(&self, id: &str) -> Result<Option<usize>> {
        let (mut low, mut high) = (0, self.layout.rows);
        while low < high {
            let middle = low.midpoint(high);
            match self.id(middle)?.cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(Some(middle)),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }
}

/// Writes the file to its end durably.
pub(crate) fn seal(file: &crate::table::SummedFile, path: &Path) -> Result<()> {
    file.file.sync().at("sync", path)
}

fn as_bytes(floats: &[f32]) -> &[u8] {
    // SAFETY: every byte of a float is initialised, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats)) }
}

fn as_floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: any bit pattern is a float.
    let (before, floats, _) = unsafe { bytes.align_to::<f32>() };
    debug_assert!(
        before.is_empty(),
        "`open` aligned the file and its parts start at multiples of 4"
    );
    floats
}

/// Copies bytes whose address does not suit a float. Mapped files begin on a page.
fn aligned(bytes: Bytes) -> Bytes {
    struct Words(Vec<u64>, usize);
    impl AsRef<[u8]> for Words {
        fn as_ref(&self) -> &[u8] {
            // SAFETY: the words hold at least as many initialised bytes, and bytes need no alignment.
            unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.1) }
        }
    }
    if bytes.as_ptr().align_offset(align_of::<u64>()) == 0 {
        return bytes;
    }
    let mut words = vec![0u64; bytes.len().div_ceil(8)];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_ne_bytes(padded);
    }
    Bytes::from_owner(Words(words, bytes.len()))
}
