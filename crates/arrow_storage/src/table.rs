//! seg-N.parquet: rows sorted by id, as plain Parquet compressed with zstd.

use crate::arrow_schema;
use crate::checksum::{BlockSums, CheckedBytes};
use crate::error::{At, Error, Result};
use crate::memory::Memory;
use crate::vfs::VfsFile;
use bytes::{Buf, Bytes};
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length, SerializedPageReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SCHEMA: &str = "message memories {
    required binary memory_id (STRING);
    required binary content (STRING);
    required binary metadata (STRING);
    required int64 created_at (TIMESTAMP(MICROS, true));
    required int64 updated_at (TIMESTAMP(MICROS, true));
    required group embedding (LIST) { repeated group list { required float element; } }
}";

/// Version of the table's columns, under this key of the file's metadata.
const VERSION_KEY: &str = "aios.format_version";
const DIMENSION_KEY: &str = "aios.dimension";
/// What made the vectors, when that is known.
pub(crate) const MODEL_KEY: &str = "aios.model";
/// What a file names as its writer.
pub(crate) const CREATED_BY: &str = "aios";
const VERSION: u32 = 1;

/// Rows that are handed to a text column at once: a page ends only between two such groups, and a hit
/// decompresses a page.
const PAGE_ROWS: usize = 32;
const TEXT_PAGE_BYTES: usize = 16 << 10;
const ROW_GROUP_BYTES: usize = 16 << 20;

/// The columns, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Id,
    Content,
    Metadata,
    CreatedAt,
    UpdatedAt,
    Embedding,
}

/// Rows in a group, so that a group of vectors takes some megabytes.
pub(crate) fn rows_per_group(dimension: usize) -> usize {
    (ROW_GROUP_BYTES / (4 * dimension.max(1))).clamp(512, 16_384)
}

/// Appends to a file and computes its checksums.
#[derive(Debug)]
pub(crate) struct SummedFile {
    pub(crate) file: Box<dyn VfsFile>,
    pub(crate) sums: BlockSums,
}

impl Write for SummedFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.file.write_at(data, self.sums.len())?;
        self.sums.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a table group by group.
pub(crate) struct TableWriter {
    writer: SerializedFileWriter<SummedFile>,
    path: PathBuf,
}

impl TableWriter {
    pub(crate) fn create(
        file: Box<dyn VfsFile>,
        path: &Path,
        dimension: usize,
        model: Option<&str>,
    ) -> Result<Self> {
        let sink = SummedFile {
            file,
            sums: BlockSums::default(),
        };
        let schema = parse_message_type(SCHEMA).map_err(|error| failed(path, error))?;
        let properties = Arc::new(properties(dimension, model));
        let writer = SerializedFileWriter::new(sink, Arc::new(schema), properties)
            .map_err(|error| failed(path, error))?;
        Ok(Self {
            writer,
            path: path.to_owned(),
        })
    }

    /// Adds to what the file says about itself.
    pub(crate) fn note(&mut self, key: &str, value: &str) {
        let pair = KeyValue::new(key.to_owned(), value.to_owned());
        self.writer.append_key_value_metadata(pair);
    }

    /// Writes one group of rows.
    pub(crate) fn write(&mut self, rows: &[Arc<Memory>]) -> Result<()> {
        let path = self.path.clone();
        write_group(&mut self.writer, rows).map_err(|error| failed(&path, error))
    }

    /// Ends the file durably and returns its checksums.
    pub(crate) fn finish(self) -> Result<BlockSums> {
        let Self { writer, path } = self;
        let sink = writer.into_inner().map_err(|error| failed(&path, error))?;
        sink.file.sync().at("sync", &path)?;
        Ok(sink.sums)
    }
}

fn properties(dimension: usize, model: Option<&str>) -> WriterProperties {
    let pair = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    let mut pairs = vec![
        pair(VERSION_KEY, VERSION.to_string()),
        pair(DIMENSION_KEY, dimension.to_string()),
        pair("ARROW:schema", arrow_schema::encode(dimension)),
    ];
    pairs.extend(model.map(|model| pair(MODEL_KEY, model.to_owned())));
    let fast = Compression::ZSTD(ZstdLevel::default());
    let text = ZstdLevel::try_new(3).map_or(fast, Compression::ZSTD);
    let embedding = ColumnPath::new(["embedding", "list", "element"].map(str::to_owned).to_vec());
    WriterProperties::builder()
        .set_created_by(CREATED_BY.to_owned())
        .set_dictionary_enabled(false)
        .set_compression(text)
        .set_column_compression(embedding.clone(), fast)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_statistics_enabled(embedding.clone(), EnabledStatistics::None)
        .set_data_page_size_limit(TEXT_PAGE_BYTES)
        .set_column_data_page_size_limit(embedding, 1 << 20)
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(pairs))
        .build()
}

fn write_group(
    writer: &mut SerializedFileWriter<SummedFile>,
    rows: &[Arc<Memory>],
) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    write_texts(&mut group, rows, |memory| &memory.id)?;
    write_texts(&mut group, rows, |memory| &memory.content)?;
    write_texts(&mut group, rows, |memory| &memory.metadata)?;
    write_times(&mut group, rows, |memory| memory.created_at)?;
    write_times(&mut group, rows, |memory| memory.updated_at)?;
    write_vectors(&mut group, rows)?;
    group.close().map(|_| ())
}

type Group<'a> = SerializedRowGroupWriter<'a, SummedFile>;

fn next<'a>(
    group: &'a mut Group<'_>,
) -> Result<parquet::file::writer::SerializedColumnWriter<'a>, ParquetError> {
    group
        .next_column()?
        .ok_or_else(|| ParquetError::General("a column too many".to_owned()))
}

fn write_texts(
    group: &mut Group<'_>,
    rows: &[Arc<Memory>],
    text: fn(&Memory) -> &str,
) -> Result<(), ParquetError> {
    let mut column = next(group)?;
    for page in rows.chunks(PAGE_ROWS) {
        let values: Vec<ByteArray> = page
            .iter()
            .map(|memory| ByteArray::from(text(memory)))
            .collect();
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, None, None)?;
    }
    column.close()
}

fn write_times(
    group: &mut Group<'_>,
    rows: &[Arc<Memory>],
    time: fn(&Memory) -> i64,
) -> Result<(), ParquetError> {
    let mut column = next(group)?;
    let values: Vec<i64> = rows.iter().map(|memory| time(memory)).collect();
    column
        .typed::<Int64Type>()
        .write_batch(&values, None, None)?;
    column.close()
}

/// Every list is full, so definition levels are all 1 and repetition levels 0 at the start of a list.
fn write_vectors(group: &mut Group<'_>, rows: &[Arc<Memory>]) -> Result<(), ParquetError> {
    let mut column = next(group)?;
    let dimension = rows.first().map_or(0, |memory| memory.embedding.len());
    let at_once = (65_536 / dimension.max(1)).max(1);
    let definition = vec![1i16; at_once * dimension];
    let repetition: Vec<i16> = (0..at_once * dimension)
        .map(|i| i16::from(i % dimension != 0))
        .collect();
    let mut values = Vec::with_capacity(at_once * dimension);
    for chunk in rows.chunks(at_once) {
        values.clear();
        for memory in chunk {
            values.extend_from_slice(&memory.embedding);
        }
        column.typed::<FloatType>().write_batch(
            &values,
            Some(&definition[..values.len()]),
            Some(&repetition[..values.len()]),
        )?;
    }
    column.close()
}

/// A finished table. Every block is verified before it is decoded.
#[derive(Debug)]
pub(crate) struct Table {
    bytes: Arc<CheckedBytes>,
    metadata: ParquetMetaData,
    /// Row at which each group begins, and the number of rows at the end.
    starts: Vec<usize>,
    pub(crate) dimension: usize,
}

impl Table {
    pub(crate) fn open(bytes: CheckedBytes) -> Result<Self> {
        let bytes = Arc::new(bytes);
        let source = Source(bytes.clone());
        let path = bytes.path();
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .parse_and_finish(&source)
            .map_err(|error| failed(path, error))?;
        let value = |key: &str| {
            let pairs = metadata.file_metadata().key_value_metadata()?;
            pairs
                .iter()
                .find(|pair| pair.key == key)?
                .value
                .as_deref()?
                .parse::<u32>()
                .ok()
        };
        match value(VERSION_KEY) {
            Some(VERSION) => {}
            Some(found) => {
                return Err(Error::Version {
                    path: path.to_owned(),
                    found,
                    known: VERSION,
                });
            }
            None => {
                return Err(Error::corrupted(
                    path,
                    0,
                    "the Parquet file is not a table of memories",
                ));
            }
        }
        let columns = metadata.file_metadata().schema_descr().num_columns();
        let Some(dimension) = value(DIMENSION_KEY).filter(|_| columns == 6) else {
            return Err(Error::corrupted(
                path,
                0,
                "the columns are not those of a table of memories",
            ));
        };
        let mut starts = vec![0];
        for group in metadata.row_groups() {
            starts.push(starts[starts.len() - 1] + group.num_rows().max(0) as usize);
        }
        Ok(Self {
            dimension: dimension as usize,
            starts,
            metadata,
            bytes,
        })
    }

    pub(crate) fn rows(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// Reads a text column at ascending rows.
    pub(crate) fn texts(&self, column: Column, rows: &[usize]) -> Result<Vec<String>> {
        let values: Vec<ByteArray> = self.values::<ByteArrayType>(column, rows, 1)?;
        values
            .into_iter()
            .map(|value| {
                let text = std::str::from_utf8(value.data()).map(str::to_owned);
                text.map_err(|_| Error::corrupted(self.bytes.path(), 0, "a text is not UTF-8"))
            })
            .collect()
    }

    /// Reads a column of times at ascending rows, in microseconds since the epoch.
    pub(crate) fn times(&self, column: Column, rows: &[usize]) -> Result<Vec<i64>> {
        self.values::<Int64Type>(column, rows, 1)
    }

    /// Reads vectors at ascending rows: `[rows, dimension]`.
    pub(crate) fn vectors(&self, rows: &[usize]) -> Result<Vec<f32>> {
        self.values::<FloatType>(Column::Embedding, rows, self.dimension)
    }

    fn values<T: DataType>(
        &self,
        column: Column,
        rows: &[usize],
        width: usize,
    ) -> Result<Vec<T::T>> {
        let mut values = Vec::with_capacity(rows.len() * width);
        let mut rest = rows;
        while let Some(&first) = rest.first() {
            let group = self.starts.partition_point(|&start| start <= first) - 1;
            if group >= self.metadata.num_row_groups() {
                return Err(Error::corrupted(
                    self.bytes.path(),
                    0,
                    format!("there is no row {first}"),
                ));
            }
            let here = rest.partition_point(|&row| row < self.starts[group + 1]);
            self.read_group::<T>(group, column, &rest[..here], &mut values)
                .map_err(|error| failed(self.bytes.path(), error))?;
            rest = &rest[here..];
        }
        if values.len() != rows.len() * width {
            return Err(Error::corrupted(
                self.bytes.path(),
                0,
                format!("{column:?} holds too few values"),
            ));
        }
        Ok(values)
    }

    fn read_group<T: DataType>(
        &self,
        group: usize,
        column: Column,
        rows: &[usize],
        values: &mut Vec<T::T>,
    ) -> Result<(), ParquetError> {
        let meta = self.metadata.row_group(group);
        let chunk = meta.column(column as usize);
        if chunk.column_type() != T::get_physical_type() {
            return Err(ParquetError::General(format!(
                "{column:?} has another type"
            )));
        }
        let pages = self
            .metadata
            .page_index_for_row_group(group)
            .page_locations(column as usize)
            .cloned();
        let source = Arc::new(Source(self.bytes.clone()));
        let pages =
            SerializedPageReader::new(source, chunk, meta.num_rows().max(0) as usize, pages)?;
        let mut reader = ColumnReaderImpl::<T>::new(chunk.column_descr_ptr(), Box::new(pages));
        let (mut definition, mut repetition) = (Vec::new(), Vec::new());
        let mut at = self.starts[group];
        let mut rest = rows;
        while let Some(&first) = rest.first() {
            let run = rest
                .iter()
                .zip(first..)
                .take_while(|(row, expected)| *row == expected)
                .count();
            reader.skip_records(first - at)?;
            definition.clear();
            repetition.clear();
            let (read, ..) =
                reader.read_records(run, Some(&mut definition), Some(&mut repetition), values)?;
            if read < run {
                return Err(ParquetError::EOF(format!(
                    "{column:?} ends at row {}",
                    first + read
                )));
            }
            at = first + run;
            rest = &rest[run..];
        }
        Ok(())
    }
}

/// Gives the Parquet reader verified bytes only.
struct Source(Arc<CheckedBytes>);

impl Length for Source {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl ChunkReader for Source {
    type T = SourceReader;

    fn get_read(&self, start: u64) -> Result<SourceReader, ParquetError> {
        Ok(SourceReader {
            bytes: self.0.clone(),
            at: start as usize,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let start = start as usize;
        self.0
            .slice(start..start.saturating_add(length))
            .map_err(|error| ParquetError::External(Box::new(error)))
    }
}

/// Reads on from a place, verifying block by block.
struct SourceReader {
    bytes: Arc<CheckedBytes>,
    at: usize,
}

impl Read for SourceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = self.at.saturating_add(buffer.len()).min(self.bytes.len());
        let start = self.at.min(end);
        let mut data = self.bytes.get(start..end).map_err(io::Error::other)?;
        let len = data.len();
        data.copy_to_slice(&mut buffer[..len]);
        self.at = end;
        Ok(len)
    }
}

/// Finds our own error inside the Parquet library's, or wraps that.
fn failed(path: &Path, error: ParquetError) -> Error {
    let what = error.to_string();
    let ParquetError::External(inner) = error else {
        return Error::corrupted(path, 0, what);
    };
    let source = match inner.downcast::<Error>() {
        Ok(ours) => return *ours,
        Err(other) => other.downcast::<io::Error>(),
    };
    let Ok(source) = source else {
        return Error::corrupted(path, 0, what);
    };
    match source.downcast::<Error>() {
        Ok(ours) => ours,
        Err(source) => Error::Io {
            action: "write",
            path: path.to_owned(),
            source,
        },
    }
}
