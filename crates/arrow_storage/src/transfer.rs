//! Tables of memories as files of their own.

use crate::error::{At, Error, Result};
use crate::flush::Check;
use crate::memory::{Memory, now_micros};
use crate::snapshot::Snapshot;
use crate::store::Store;
use crate::table::{MODEL_KEY, TableWriter, rows_per_group};
use crate::vfs::{VfsFile, disk_file};
use atomic_file::AtomicFile;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use std::fs::File;
use std::path::Path;

impl Snapshot {
    /// Writes the memories to a Parquet file, replacing it atomically; returns how many.
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
        let file = draft.file().try_clone().at("write", path)?;
        let count = self.write_table(disk_file(file), path, dimension, check)?;
        draft.commit().at("write", path)?;
        Ok(count)
    }

    fn write_table(
        &self,
        file: Box<dyn VfsFile>,
        path: &Path,
        dimension: usize,
        check: Check<'_>,
    ) -> Result<usize> {
        let mut table = TableWriter::create(file, path, dimension, self.model())?;
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
        table.finish()?;
        Ok(count)
    }
}

/// Rows handed to `save` at once.
const BATCH_ROWS: usize = 8192;

/// Reads a Parquet file with the columns `memory_id`, `content` and `embedding`, and optionally
/// `metadata` (JSON), `created_at` and `updated_at`, and saves its memories; returns how many.
///
/// A file that says which model made its vectors is taken by a store of that model, or by an empty one, which
/// is then a store of that model.
///
/// They are saved in batches: an error leaves those before it saved.
///
/// # Errors
/// `ForeignVectors`, `Io`, `Invalid` when the file is not such a table, and those of [`Store::save`].
pub fn import_parquet(path: &Path, store: &Store, check: Check<'_>) -> Result<usize> {
    let file = File::open(path).at("open", path)?;
    // The file may come from anywhere; a panic of the Parquet library is that file's fault.
    let guarded = std::panic::AssertUnwindSafe(|| read_table(path, file, store, check));
    std::panic::catch_unwind(guarded).unwrap_or_else(|_| Err(not_a_table(path, "it is damaged")))
}

fn read_table(path: &Path, file: File, store: &Store, check: Check<'_>) -> Result<usize> {
    let reader =
        SerializedFileReader::new(file).map_err(|error| not_a_table(path, &error.to_string()))?;
    if let Some(model) = model_of(&reader) {
        store.take_model(path, &model)?;
    }
    let rows = reader
        .get_row_iter(None)
        .map_err(|error| not_a_table(path, &error.to_string()))?;
    let mut batch = Vec::new();
    let mut count = 0;
    for row in rows {
        let row = row.map_err(|error| not_a_table(path, &error.to_string()))?;
        batch.push(memory(path, count, &row)?);
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

/// The model that a file says made its vectors.
fn model_of(reader: &SerializedFileReader<File>) -> Option<String> {
    let pairs = reader.metadata().file_metadata().key_value_metadata()?;
    let pair = pairs.iter().find(|pair| pair.key == MODEL_KEY)?;
    pair.value.clone()
}

fn not_a_table(path: &Path, found: &str) -> Error {
    Error::invalid(
        path.display().to_string(),
        "a Parquet file with the columns memory_id, content and embedding",
        found,
    )
}

fn memory(path: &Path, number: usize, row: &Row) -> Result<Memory> {
    let now = now_micros();
    let mut memory = Memory {
        id: String::new(),
        content: String::new(),
        metadata: "{}".to_owned(),
        created_at: now,
        updated_at: now,
        embedding: Vec::new(),
    };
    let mut seen = 0;
    for (name, field) in row.get_column_iter() {
        let wrong = || not_a_table(path, &format!("{name} {field} in row {number}"));
        match (name.as_str(), field) {
            ("memory_id", Field::Str(text)) => memory.id.clone_from(text),
            ("content", Field::Str(text)) => memory.content.clone_from(text),
            ("metadata", Field::Str(text)) => memory.metadata.clone_from(text),
            ("metadata" | "created_at" | "updated_at", Field::Null) => {}
            ("created_at", field) => memory.created_at = micros(field).ok_or_else(wrong)?,
            ("updated_at", field) => memory.updated_at = micros(field).ok_or_else(wrong)?,
            ("embedding", field) => memory.embedding = floats(field).ok_or_else(wrong)?,
            ("memory_id" | "content" | "metadata", _) => return Err(wrong()),
            _ => continue,
        }
        seen += usize::from(matches!(
            name.as_str(),
            "memory_id" | "content" | "embedding"
        ));
    }
    if seen < 3 {
        return Err(not_a_table(path, "some of them missing"));
    }
    Ok(memory)
}

fn micros(field: &Field) -> Option<i64> {
    match field {
        Field::TimestampMicros(micros) | Field::Long(micros) => Some(*micros),
        Field::TimestampMillis(millis) => millis.checked_mul(1000),
        _ => None,
    }
}

fn floats(field: &Field) -> Option<Vec<f32>> {
    let Field::ListInternal(list) = field else {
        return None;
    };
    let elements = list.elements().iter().map(|element| match element {
        Field::Float(value) => Some(*value),
        Field::Double(value) => Some(*value as f32),
        _ => None,
    });
    elements.collect()
}
