//! Tables of memories as files of their own.

use crate::error::{At, Error, Result};
use crate::flush::Check;
use crate::foreign::RowReader;
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::table::{CREATED_BY, MODEL_KEY, TableWriter, rows_per_group};
use crate::vfs::disk_file;
use atomic_file::AtomicFile;
use parquet::basic::Compression;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The CRC-32C of the whole file, in hexadecimal, with zeros in place of itself.
const SUM_KEY: &str = "aios.crc32c";
const NO_SUM: &str = "00000000";

impl Snapshot {
    /// Writes the memories to a Parquet file with a checksum, replacing it atomically; returns how many.
    ///
    /// # Errors
    /// Those of reading the store and of writing the file; `NoStore` when there is nothing to write.
    pub fn export_parquet(&self, path: &Path, check: Check<'_>) -> Result<usize> {
        let Some(dimension) = self.dimension() else {
            return Err(Error::invalid(
                "export",
                "a store that has held memories",
                "a new one",
            ));
        };
        let draft = AtomicFile::create(path).at("write", path)?;
        let count = self.write_table(draft.file(), path, dimension, check)?;
        draft.commit().at("write", path)?;
        Ok(count)
    }

    fn write_table(
        &self,
        file: &File,
        path: &Path,
        dimension: usize,
        check: Check<'_>,
    ) -> Result<usize> {
        let sink = disk_file(file.try_clone().at("write", path)?);
        let mut table = TableWriter::create(sink, path, dimension, self.model())?;
        table.note(SUM_KEY, NO_SUM);
        let mut scan = self.scan(None)?;
        let mut count = 0;
        loop {
            check()?;
            let batch = scan.next_batch(rows_per_group(dimension))?;
            if batch.is_empty() {
                break;
            }
            count += batch.len();
            table.write(&batch)?;
        }
        let sums = table.finish()?;
        let at = place_of_sum(file, path)?.ok_or_else(|| {
            Error::corrupted(path, 0, "the file lacks the checksum just written to it")
        })?;
        let sum = format!("{:08x}", sums.whole());
        file.write_all_at(sum.as_bytes(), at).at("write", path)?;
        Ok(count)
    }
}

/// Rows handed to `save` at once.
const BATCH_ROWS: usize = 8192;

/// Reads a Parquet file with the columns `memory_id`, `content` and `embedding`, and optionally
/// `metadata` (JSON, a struct or a map), `created_at` and `updated_at`, and saves its memories; returns how many.
///
/// A file that was exported has a checksum, which is compared first if `verify`. Files of other programs have
/// none. A file that says which model made its vectors is taken by a store of that model, or by an empty one,
/// which is then a store of that model.
///
/// They are saved in batches: an error leaves those before it saved.
///
/// # Errors
/// `ForeignVectors`, `Io`, `Invalid` when the file is not such a table or fails its checksum, and those of
/// [`Store::save`].
pub fn import_parquet(path: &Path, store: &Store, verify: bool, check: Check<'_>) -> Result<usize> {
    let file = File::open(path).at("open", path)?;
    // The file may come from anywhere; a panic of the Parquet library is that file's fault.
    let guarded = std::panic::AssertUnwindSafe(|| read_table(path, file, store, verify, check));
    std::panic::catch_unwind(guarded).unwrap_or_else(|_| {
        Err(Error::invalid(
            path.display().to_string(),
            "a Parquet file",
            "one that is damaged",
        ))
    })
}

fn read_table(
    path: &Path,
    file: File,
    store: &Store,
    verify: bool,
    check: Check<'_>,
) -> Result<usize> {
    let handle = file.try_clone().at("open", path)?;
    let not_parquet =
        |found: String| Error::invalid(path.display().to_string(), "a Parquet file", found);
    let reader = SerializedFileReader::new(file).map_err(|error| not_parquet(error.to_string()))?;
    let about = reader.metadata().file_metadata();
    // Another program that read the file and wrote it anew may have kept our notes about it.
    if verify && about.created_by() == Some(CREATED_BY) {
        compare_sum(&handle, path, note(&reader, SUM_KEY), check)?;
    }
    if let Some(model) = note(&reader, MODEL_KEY) {
        store.take_model(path, &model)?;
    }
    check_compression(path, reader.metadata())?;
    let rows_of = RowReader::new(path, about);
    let rows = reader
        .get_row_iter(None)
        .map_err(|error| not_parquet(error.to_string()))?;
    let mut batch = Vec::new();
    let mut count = 0;
    for row in rows {
        let row = row.map_err(|error| not_parquet(error.to_string()))?;
        batch.push(rows_of.memory(count, &row)?);
        count += 1;
        if batch.len() == BATCH_ROWS {
            check()?;
            store.save(std::mem::take(&mut batch), true, check)?;
        }
    }
    if !batch.is_empty() {
        store.save(batch, true, check)?;
    }
    Ok(count)
}

/// Refuses a file of which a column cannot be decompressed, before anything of it is stored.
fn check_compression(path: &Path, about: &ParquetMetaData) -> Result<()> {
    let columns = about
        .row_groups()
        .iter()
        .flat_map(RowGroupMetaData::columns);
    for column in columns {
        let codec = match column.compression() {
            Compression::BROTLI(_) => "brotli",
            Compression::LZO => "LZO",
            _ => continue,
        };
        return Err(Error::invalid(
            format!("{}, column {}", path.display(), column.column_path()),
            "compression with zstd, gzip, snappy or lz4, or none",
            format!("{codec}; write the file again with one of these"),
        ));
    }
    Ok(())
}

/// What a file says about itself.
fn note(reader: &SerializedFileReader<File>, key: &str) -> Option<String> {
    let pairs = reader.metadata().file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.clone()
}

/// Compares an exported file with its checksum; those of before there was one have none.
fn compare_sum(file: &File, path: &Path, noted: Option<String>, check: Check<'_>) -> Result<()> {
    let Some(noted) = noted else {
        return Ok(());
    };
    let found = match place_of_sum(file, path)? {
        Some(at) => format!("{:08x}", sum_without(file, path, at, check)?),
        None => "no place of it".to_owned(),
    };
    if found == noted {
        return Ok(());
    }
    Err(Error::invalid(
        path.display().to_string(),
        format!("the file that was exported, of checksum {noted}"),
        format!("{found}: it was damaged or changed since; verify=False (--no-verify) takes it"),
    ))
}

/// Where in the file the digits of its checksum are.
fn place_of_sum(file: &File, path: &Path) -> Result<Option<u64>> {
    let len = file.metadata().at("read", path)?.len();
    let mut tail = [0; 8];
    file.read_exact_at(&mut tail, len.saturating_sub(8))
        .at("read", path)?;
    let footer_len = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])).min(len);
    let start = len.saturating_sub(8 + footer_len);
    let mut footer = vec![0; footer_len as usize];
    file.read_exact_at(&mut footer, start).at("read", path)?;
    // In the compact encoding of the footer, a byte of type and one of length stand between key and value.
    let key = SUM_KEY.as_bytes();
    let found = footer.windows(key.len()).rposition(|bytes| bytes == key);
    let value = found.map(|at| at + key.len() + 2);
    let value = value.filter(|at| at + NO_SUM.len() <= footer.len());
    Ok(value.map(|at| start + at as u64))
}

/// The checksum of a file with zeros at the eight digits from `at`.
fn sum_without(file: &File, path: &Path, at: u64, check: Check<'_>) -> Result<u32> {
    let mut sum = 0;
    let mut offset = 0;
    let mut buffer = vec![0; 1 << 20];
    let digits = at..at + NO_SUM.len() as u64;
    loop {
        check()?;
        let read = file.read_at(&mut buffer, offset).at("read", path)?;
        if read == 0 {
            return Ok(sum);
        }
        for digit in digits.clone() {
            if let Some(place) = digit
                .checked_sub(offset)
                .filter(|place| *place < read as u64)
            {
                buffer[place as usize] = b'0';
            }
        }
        sum = crc32c::crc32c_append(sum, &buffer[..read]);
        offset += read as u64;
    }
}
