//! Streams tensors into a weight file that appears under its name whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use atomic_file::AtomicFile;

use crate::aligned::ALIGNMENT;
use crate::error::{Result, WeightFileError};
use crate::footer;
use crate::page::{self, Chunk};
use crate::spec::{Kind, PARTS, Row, Spec};
use crate::tensor::{Dtype, Tensor};

/// Parquet counts a page's bytes in 31 bits, headers included.
const MAX_VALUE: usize = 2_147_483_000;

/// Writes a weight file. Dropping it unfinished leaves nothing behind.
///
/// The big values are written as they come, each behind padding that aligns it to 64 bytes; the
/// small columns and the footer, which are what opening reads, lie together at the end.
#[derive(Debug)]
pub struct WeightWriter {
    path: PathBuf,
    /// `None` once finished.
    file: Option<BufWriter<AtomicFile>>,
    position: u64,
    schema_version: u8,
    metadata: BTreeMap<String, String>,
    names: BTreeSet<String>,
    rows: Vec<(Row, u64, [Chunk; 3])>,
}

impl WeightWriter {
    /// Starts a file that will replace `path` when finished.
    ///
    /// `schema_version` is 1 (plain tensors only) or 2.
    ///
    /// # Errors
    /// `Io`; `Unknown` for another version or a metadata key of the format's own (`aios.`).
    pub fn create(
        path: &Path,
        schema_version: u8,
        metadata: BTreeMap<String, String>,
    ) -> Result<Self> {
        Self::start(path, schema_version, metadata).map_err(|error| error.in_file(path))
    }

    fn start(path: &Path, schema_version: u8, metadata: BTreeMap<String, String>) -> Result<Self> {
        let unknown = |field, got, expected| {
            Err(WeightFileError::Unknown {
                subject: "file".to_owned(),
                field,
                got,
                expected,
            })
        };
        if !(1..=2).contains(&schema_version) {
            return unknown("schema version", schema_version.to_string(), "1, 2");
        }
        if let Some(key) = metadata
            .keys()
            .find(|key| key.starts_with(footer::RESERVED))
        {
            return unknown(
                "metadata key",
                key.clone(),
                "keys that do not start with \"aios.\"",
            );
        }
        let mut file = BufWriter::with_capacity(1 << 20, AtomicFile::create(path)?);
        file.write_all(footer::MAGIC)?;
        Ok(Self {
            path: path.to_owned(),
            file: Some(file),
            position: footer::MAGIC.len() as u64,
            schema_version,
            metadata,
            names: BTreeSet::new(),
            rows: Vec::new(),
        })
    }

    /// Appends a tensor.
    ///
    /// # Errors
    /// `Duplicate`, `Shape`, `Length`, `TooLarge`, `Io`; `Unknown` for a quantised tensor in a V1 file.
    pub fn add(&mut self, tensor: &Tensor) -> Result<()> {
        self.append(&Spec::of(tensor), tensor.parts())
            .map_err(|error| error.in_file(&self.path))
    }

    /// Appends a plain tensor from borrowed row-major, little-endian elements.
    ///
    /// # Errors
    /// As [`WeightWriter::add`].
    pub fn add_plain(
        &mut self,
        name: &str,
        shape: &[usize],
        dtype: Dtype,
        data: &[u8],
    ) -> Result<()> {
        let spec = Spec {
            name: name.to_owned(),
            shape: shape.to_vec(),
            kind: Kind::Plain(dtype),
        };
        self.append(&spec, [data, &[], &[]])
            .map_err(|error| error.in_file(&self.path))
    }

    fn append(&mut self, spec: &Spec, parts: [&[u8]; 3]) -> Result<()> {
        let crc = parts
            .iter()
            .fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        let row = spec.row(self.schema_version, crc);
        // What the reader will check, checked before anything is written.
        row.check()?.check_lengths(parts)?;
        if self.schema_version == 1 && spec.kind.is_quantized() {
            return Err(WeightFileError::Unknown {
                subject: format!("tensor {:?}", spec.name),
                field: "schema version for a quantised tensor",
                got: "1".to_owned(),
                expected: "2",
            });
        }
        if !self.names.insert(spec.name.clone()) {
            return Err(WeightFileError::Duplicate {
                tensor: spec.name.clone(),
            });
        }
        let mut chunks = [Chunk {
            offset: 0,
            len: 0,
            values: 0,
        }; 3];
        let used = if self.schema_version == 1 { 1 } else { 3 };
        for ((chunk, value), part) in chunks.iter_mut().zip(parts).zip(PARTS).take(used) {
            if value.len() > MAX_VALUE {
                let (tensor, got) = (spec.name.clone(), value.len() as u64);
                return Err(WeightFileError::TooLarge { tensor, part, got });
            }
            *chunk = self.write_value(value)?;
        }
        let num_params: usize = spec.shape.iter().product();
        self.rows.push((row, num_params as u64, chunks));
        Ok(())
    }

    fn write_value(&mut self, value: &[u8]) -> Result<Chunk> {
        let length = (value.len() as u32).to_le_bytes();
        let header = page::header(length.len() + value.len(), 1);
        let before_value = header.len() + length.len();
        let aligned = (self.position + before_value as u64).next_multiple_of(ALIGNMENT as u64);
        let offset = aligned - before_value as u64;
        let padding = [0; ALIGNMENT];
        self.write(&padding[..(offset - self.position) as usize])?;
        self.write(&header)?;
        self.write(&length)?;
        self.write(value)?;
        Ok(Chunk {
            offset,
            len: (before_value + value.len()) as u64,
            values: 1,
        })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self
            .file
            .as_mut()
            .ok_or_else(|| std::io::Error::other("the file is finished"))?;
        file.write_all(bytes)?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Writes the footer, syncs, and renames the file into place; returns its size in bytes.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(mut self) -> Result<u64> {
        let path = self.path.clone();
        self.complete().map_err(|error| error.in_file(&path))
    }

    fn complete(&mut self) -> Result<u64> {
        let mut tail = Vec::new();
        let mut row_groups = Vec::with_capacity(self.rows.len());
        for (row, num_params, values) in &self.rows {
            let mut values = values.iter();
            let small = page::small_pages(row, *num_params, self.position, &mut tail);
            row_groups.push(
                small
                    .into_iter()
                    .filter_map(|chunk| chunk.or_else(|| values.next().copied()))
                    .collect(),
            );
        }
        let index: Vec<&Row> = self.rows.iter().map(|(row, ..)| row).collect();
        let index = serde_json::to_string(&index).map_err(std::io::Error::from)?;
        let own = [
            (footer::FORMAT_VERSION.to_owned(), "1".to_owned()),
            (footer::ALIGNMENT.to_owned(), ALIGNMENT.to_string()),
            (footer::TENSORS.to_owned(), index),
        ];
        let metadata: Vec<_> = std::mem::take(&mut self.metadata)
            .into_iter()
            .chain(own)
            .collect();
        let mut end = footer::encode(self.schema_version, &row_groups, &metadata);
        let length = (end.len() as u32).to_le_bytes();
        end.extend_from_slice(&length);
        end.extend_from_slice(footer::MAGIC);
        tail.extend_from_slice(footer::SEAL);
        tail.extend_from_slice(&crc32c::crc32c(&end).to_le_bytes());
        self.write(&tail)?;
        self.write(&end)?;

        let file = self
            .file
            .take()
            .ok_or_else(|| std::io::Error::other("the file is finished"))?;
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)?
            .commit()?;
        Ok(self.position)
    }
}
