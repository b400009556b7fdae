//! Opens weight files: maps our own, decodes those of other writers.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use crate::aligned::ALIGNMENT;
use crate::decode;
use crate::error::{Result, WeightFileError};
use crate::footer::{self, MAGIC, SEAL, SEAL_LEN};
use crate::spec::{PARTS, Row, Spec};
use crate::tensor::Tensor;

/// Footer length and magic at the end of a Parquet file.
const TAIL_LEN: usize = 8;

/// An open weight file. Cloning is cheap and shares the map.
///
/// The map is read-only. A file that another process cuts short while it is mapped is beyond what
/// a map can defend; writers of this crate only ever replace a file by renaming.
#[derive(Debug, Clone)]
pub struct WeightFile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    size_bytes: u64,
    schema_version: u8,
    metadata: BTreeMap<String, String>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    /// Stored descriptions, with checksums where the writer left them.
    rows: Vec<Row>,
    /// `None` where the file was decoded.
    map: Option<Map>,
}

/// The mapped file, which tensors share.
#[derive(Debug, Clone)]
struct Map(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Map {
    /// Lets go of the pages of `bytes`, so that reading a whole file does not make it resident.
    fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        {
            let start = (bytes.as_ptr() as usize).wrapping_sub(self.0.as_ptr() as usize);
            // SAFETY: the map is of a file and never written, so a page that was let go comes back
            // with the same content. The call fails harmlessly for a range outside the map.
            let _ = unsafe {
                self.0.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    start,
                    bytes.len(),
                )
            };
        }
    }
}

impl WeightFile {
    /// Opens a file in time and memory that depend on the number of tensors, not on their size,
    /// if it was written by [`crate::WeightWriter`]; decodes it into memory otherwise.
    ///
    /// The footer's checksum, every length and every offset are checked before anything is mapped.
    /// Contents are checked by [`WeightFile::verify`].
    ///
    /// # Errors
    /// A [`WeightFileError::File`] around what is wrong.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        open(path)
            .map(|inner| Self(Arc::new(inner)))
            .map_err(|error| error.in_file(path))
    }

    /// The file's path as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// All tensors, in the order of the file.
    #[must_use]
    pub fn tensors(&self) -> &[Tensor] {
        &self.0.tensors
    }

    /// The tensor of that name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.0.by_name.get(name).map(|&i| &self.0.tensors[i])
    }

    /// Key-value metadata of the file, without the tensor index.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// 1 for plain tensors, 2 with the columns of quantisation.
    #[must_use]
    pub fn schema_version(&self) -> u8 {
        self.0.schema_version
    }

    /// Whether the tensors are views of the mapped file; otherwise they were decoded into memory.
    #[must_use]
    pub fn is_zero_copy(&self) -> bool {
        self.0.map.is_some()
    }

    /// Size of the file.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.0.size_bytes
    }

    /// Reads everything and compares it with the stored checksums, and the columns with the index.
    /// Returns the number of tensors that carry a checksum.
    ///
    /// `progress` is called with the bytes checked so far; returning `false` stops.
    ///
    /// # Errors
    /// `Checksum`, `Index`, `Parquet`, `Cancelled`, `Io`.
    pub fn verify(&self, progress: impl FnMut(u64) -> bool) -> Result<usize> {
        self.0
            .verify(progress)
            .map_err(|error| error.in_file(&self.0.path))
    }
}

impl Inner {
    fn verify(&self, mut progress: impl FnMut(u64) -> bool) -> Result<usize> {
        if let Some(map) = &self.map {
            let columns = decode::descriptions(Bytes::from_owner(map.clone()))?;
            let indexed = self.rows.iter().map(Row::columns);
            if !columns.iter().map(Row::columns).eq(indexed) {
                return Err(index("contradicts the columns of the table"));
            }
        }
        let (mut done, mut checked) = (0, 0);
        for (tensor, row) in self.tensors.iter().zip(&self.rows) {
            if let Some(word) = &row.crc32c {
                let expected = u32::from_str_radix(word, 16)
                    .map_err(|_| index("holds a checksum that is no hexadecimal number"))?;
                let got = tensor.crc32c();
                if got != expected {
                    return Err(WeightFileError::Checksum {
                        part: format!("tensor {:?}", tensor.name),
                        expected,
                        got,
                    });
                }
                checked += 1;
            }
            if let Some(map) = &self.map {
                for part in tensor.parts().into_iter().filter(|part| !part.is_empty()) {
                    map.release(part);
                }
            }
            done += tensor.size_bytes() as u64;
            if !progress(done) {
                return Err(WeightFileError::Cancelled);
            }
        }
        Ok(checked)
    }
}

/// What the end of a file says about the rest.
struct Footer {
    parquet: ParquetMetaData,
    metadata: BTreeMap<String, String>,
    /// Whether our own checksum lies before it, and fits.
    sealed: bool,
    /// Where the footer, or its checksum, starts.
    start: u64,
}

fn open(path: &Path) -> Result<Inner> {
    let mut file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(std::io::Error::other("expected a regular file").into());
    }
    let size_bytes = found.len();
    let mut footer = read_footer(&mut file, size_bytes)?;
    let version = footer.metadata.get(footer::FORMAT_VERSION);
    if let Some(version) = version.filter(|version| *version != "1") {
        return Err(WeightFileError::Unknown {
            subject: "file".to_owned(),
            field: footer::FORMAT_VERSION,
            got: version.clone(),
            expected: "1",
        });
    }
    let index = read_index(footer.metadata.remove(footer::TENSORS))?;
    let schema_version = decode::schema_version(&footer.parquet)?;
    let (tensors, rows, map) = match index {
        Some(rows) if footer.sealed => {
            let (tensors, map) = map(&file, &footer, &rows)?;
            (tensors, rows, Some(map))
        }
        index => {
            let known = index.unwrap_or_default();
            let (tensors, rows) = decode::decode(file, &footer.metadata, &known)?;
            (tensors, rows, None)
        }
    };
    let mut by_name = HashMap::with_capacity(tensors.len());
    for (i, tensor) in tensors.iter().enumerate() {
        if by_name.insert(tensor.name.clone(), i).is_some() {
            return Err(WeightFileError::Duplicate {
                tensor: tensor.name.clone(),
            });
        }
    }
    Ok(Inner {
        path: path.to_owned(),
        size_bytes,
        schema_version,
        metadata: footer.metadata,
        tensors,
        by_name,
        rows,
        map,
    })
}

fn read_footer(file: &mut File, size: u64) -> Result<Footer> {
    let mut head = vec![0; size.min(MAGIC.len() as u64) as usize];
    file.read_exact(&mut head)?;
    check_magic("start", &head)?;
    let smallest = (MAGIC.len() + TAIL_LEN) as u64;
    if size < smallest {
        return Err(WeightFileError::Truncated {
            expected: smallest,
            got: size,
        });
    }
    let mut tail = [0; TAIL_LEN];
    file.seek(SeekFrom::Start(size - TAIL_LEN as u64))?;
    file.read_exact(&mut tail)?;
    check_magic("end", &tail[4..])?;
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if length + smallest > size {
        return Err(WeightFileError::Truncated {
            expected: length + smallest,
            got: size,
        });
    }
    let start = size - TAIL_LEN as u64 - length;
    let seal_len = (start - MAGIC.len() as u64).min(SEAL_LEN as u64);
    let mut bytes = vec![0; (seal_len + length) as usize + TAIL_LEN];
    file.seek(SeekFrom::Start(start - seal_len))?;
    file.read_exact(&mut bytes)?;
    let (seal, end) = bytes.split_at(seal_len as usize);
    let sealed = check_seal(seal, end)?;
    let parquet =
        decode::guarded(|| ParquetMetaDataReader::decode_metadata(&end[..length as usize]))?;
    let pairs = parquet
        .file_metadata()
        .key_value_metadata()
        .map_or(&[][..], Vec::as_slice);
    let metadata = pairs
        .iter()
        .filter(|pair| pair.key != "ARROW:schema")
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default()))
        .collect();
    Ok(Footer {
        parquet,
        metadata,
        sealed,
        start: if sealed { start - seal_len } else { start },
    })
}

fn check_magic(place: &'static str, got: &[u8]) -> Result<()> {
    if got == MAGIC {
        Ok(())
    } else {
        Err(WeightFileError::Magic {
            place,
            got: got.to_vec(),
        })
    }
}

/// Whether there is a seal; an error if it does not fit.
fn check_seal(seal: &[u8], end: &[u8]) -> Result<bool> {
    let Some(stored) = seal.strip_prefix(SEAL).and_then(|crc| crc.try_into().ok()) else {
        return Ok(false);
    };
    let (expected, got) = (u32::from_le_bytes(stored), crc32c::crc32c(end));
    if expected != got {
        return Err(WeightFileError::Checksum {
            part: "the footer".to_owned(),
            expected,
            got,
        });
    }
    Ok(true)
}

fn read_index(json: Option<String>) -> Result<Option<Vec<Row>>> {
    json.map(|json| {
        serde_json::from_str(&json).map_err(|error| index(&format!("cannot be read: {error}")))
    })
    .transpose()
}

fn index(problem: &str) -> WeightFileError {
    WeightFileError::Index {
        problem: problem.to_owned(),
    }
}

/// Views of the tensors in the map. Nothing of the map is read.
fn map(file: &File, footer: &Footer, rows: &[Row]) -> Result<(Vec<Tensor>, Map)> {
    let groups = footer.parquet.row_groups();
    if groups.len() != rows.len() {
        return Err(index(&format!(
            "lists {} tensors, the file holds {}",
            rows.len(),
            groups.len()
        )));
    }
    let schema = footer.parquet.file_metadata().schema_descr();
    let columns = PARTS.map(|part| {
        schema
            .columns()
            .iter()
            .position(|column| column.path().string() == part)
    });
    let mut views = Vec::with_capacity(rows.len());
    for (row, group) in rows.iter().zip(groups) {
        let spec = row.check()?;
        let mut ranges = [0..0, 0..0, 0..0];
        for (((range, part), length), column) in ranges
            .iter_mut()
            .zip(PARTS)
            .zip(spec.lengths())
            .zip(columns)
        {
            if length > 0 {
                let chunk = column.and_then(|column| group.columns().get(column));
                let (offset, len) = chunk.map_or((0, 0), |chunk| {
                    (chunk.data_page_offset(), chunk.compressed_size())
                });
                // The value is the end of its only page.
                let at = offset
                    .checked_add(len)
                    .and_then(|end| end.checked_sub_unsigned(length))
                    .unwrap_or(-1);
                *range = check_range(&spec, part, at, length, footer.start)?;
            }
        }
        views.push((spec, ranges));
    }
    // SAFETY: the map is private to this process and never written. Every range handed out lies
    // within the length the file had when its footer was read; `WeightFile` names what remains.
    let map = Map(Arc::new(unsafe { memmap2::Mmap::map(file)? }));
    let bytes = Bytes::from_owner(map.clone());
    if (bytes.len() as u64) < footer.start {
        return Err(WeightFileError::Truncated {
            expected: footer.start,
            got: bytes.len() as u64,
        });
    }
    let tensors = views
        .into_iter()
        .map(|(spec, ranges)| spec.attach(ranges.map(|range| bytes.slice(range))))
        .collect::<Result<_>>()?;
    Ok((tensors, map))
}

fn check_range(
    spec: &Spec,
    part: &'static str,
    offset: i64,
    length: u64,
    limit: u64,
) -> Result<std::ops::Range<usize>> {
    let end = u64::try_from(offset)
        .ok()
        .and_then(|start| start.checked_add(length));
    match end {
        Some(end) if end <= limit && offset % ALIGNMENT as i64 == 0 => {
            Ok(offset as usize..end as usize)
        }
        _ => Err(WeightFileError::Offset {
            tensor: spec.name.clone(),
            part,
            offset,
            length,
            limit,
        }),
    }
}
