//! Rows of Parquet files that other programs wrote.

use crate::error::{Error, Result};
use crate::memory::{Memory, TIMES, now_micros};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::file::metadata::FileMetaData;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

const DAY_MICROS: i64 = 86_400_000_000;

/// Reads rows as memories.
#[derive(Debug)]
pub(crate) struct RowReader {
    path: PathBuf,
    /// The columns whose times are whole nanoseconds. Of all others a value itself tells its unit.
    in_nanos: Vec<String>,
}

impl RowReader {
    pub(crate) fn new(path: &Path, file: &FileMetaData) -> Self {
        let columns = file.schema_descr().columns().iter();
        let in_nanos = columns.filter(|column| {
            let Some(LogicalType::Timestamp(time)) = column.logical_type_ref() else {
                return false;
            };
            matches!(time.unit, TimeUnit::NANOS)
        });
        Self {
            path: path.to_owned(),
            in_nanos: in_nanos.map(|column| column.name().to_owned()).collect(),
        }
    }

    pub(crate) fn not_a_table(&self, found: &str) -> Error {
        Error::invalid(
            self.path.display().to_string(),
            "a Parquet file with the columns memory_id, content and embedding",
            found,
        )
    }

    /// Reads a row; errors name it by its number.
    pub(crate) fn memory(&self, number: usize, row: &Row) -> Result<Memory> {
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
            let wrong = |expected: &str| {
                let found: String = field.to_string().chars().take(100).collect();
                Error::invalid(
                    format!("{}, {name} in row {number}", self.path.display()),
                    expected,
                    found,
                )
            };
            match name.as_str() {
                "memory_id" => memory.id = text(field).ok_or_else(|| wrong("a text"))?,
                "content" => memory.content = text(field).ok_or_else(|| wrong("a text"))?,
                "embedding" => {
                    memory.embedding = floats(field).ok_or_else(|| wrong("a list of numbers"))?;
                }
                "metadata" => {
                    memory.metadata = json(field).ok_or_else(|| wrong("JSON, finite numbers"))?;
                }
                "created_at" | "updated_at" if matches!(field, Field::Null) => {}
                "created_at" | "updated_at" => {
                    let time = self.micros(name, field).filter(|time| TIMES.contains(time));
                    let time = time.ok_or_else(|| {
                        wrong("a time of the years 1 to 9999; a number is one of seconds")
                    })?;
                    match name.as_str() {
                        "created_at" => memory.created_at = time,
                        _ => memory.updated_at = time,
                    }
                }
                _ => {}
            }
            seen += usize::from(["memory_id", "content", "embedding"].contains(&name.as_str()));
        }
        if seen < 3 {
            return Err(self.not_a_table("some of them missing"));
        }
        Ok(memory)
    }

    /// A time in microseconds; one without a zone is one of UTC.
    fn micros(&self, name: &str, field: &Field) -> Option<i64> {
        match field {
            Field::TimestampMicros(micros) => Some(*micros),
            Field::TimestampMillis(millis) => millis.checked_mul(1000),
            Field::Long(nanos) if self.in_nanos.iter().any(|column| column == name) => {
                Some(nanos.div_euclid(1000))
            }
            Field::Date(days) => i64::from(*days).checked_mul(DAY_MICROS),
            Field::Long(seconds) => seconds.checked_mul(1_000_000),
            Field::Int(seconds) => i64::from(*seconds).checked_mul(1_000_000),
            Field::Double(seconds) => Some((seconds * 1e6).round()).and_then(whole),
            Field::Float(seconds) => Some((f64::from(*seconds) * 1e6).round()).and_then(whole),
            _ => None,
        }
    }
}

fn whole(number: f64) -> Option<i64> {
    let fits = number.abs() < i64::MAX as f64;
    fits.then_some(number as i64)
}

/// A text, also one that its file calls bytes.
fn text(field: &Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec()).ok(),
        _ => None,
    }
}

/// Metadata is the text of a JSON object, or a struct or map.
fn json(field: &Field) -> Option<String> {
    match field {
        Field::Null => Some("{}".to_owned()),
        Field::Group(_) | Field::MapInternal(_) => Some(value(field)?.to_string()),
        field => text(field),
    }
}

fn value(field: &Field) -> Option<Value> {
    match field {
        Field::Null => Some(Value::Null),
        Field::Bool(truth) => Some(Value::from(*truth)),
        Field::Byte(number) => Some(Value::from(*number)),
        Field::Short(number) => Some(Value::from(*number)),
        Field::Int(number) => Some(Value::from(*number)),
        Field::Long(number) => Some(Value::from(*number)),
        Field::UByte(number) => Some(Value::from(*number)),
        Field::UShort(number) => Some(Value::from(*number)),
        Field::UInt(number) => Some(Value::from(*number)),
        Field::ULong(number) => Some(Value::from(*number)),
        Field::Float(number) if number.is_finite() => Some(Value::from(*number)),
        Field::Double(number) if number.is_finite() => Some(Value::from(*number)),
        Field::Group(row) => {
            let members = row
                .get_column_iter()
                .map(|(name, field)| Some((name.clone(), value(field)?)));
            members.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        Field::ListInternal(list) => {
            let elements = list.elements().iter().map(value);
            elements.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Field::MapInternal(map) => {
            let members = map
                .entries()
                .iter()
                .map(|(name, field)| Some((text(name)?, value(field)?)));
            members.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        field => text(field).map(Value::from),
    }
}

fn floats(field: &Field) -> Option<Vec<f32>> {
    let Field::ListInternal(list) = field else {
        return None;
    };
    let elements = list.elements().iter().map(|element| match element {
        Field::Float16(value) => Some(value.to_f32()),
        Field::Float(value) => Some(*value),
        Field::Double(value) => Some(*value as f32),
        Field::Byte(value) => Some(f32::from(*value)),
        Field::Short(value) => Some(f32::from(*value)),
        Field::Int(value) => Some(*value as f32),
        Field::Long(value) => Some(*value as f32),
        _ => None,
    });
    elements.collect()
}
