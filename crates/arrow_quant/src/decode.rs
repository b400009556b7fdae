//! Reads weight tables of any Parquet writer into memory: any compression, page version, row
//! grouping, `string` or `large_string`, `list<int32>` or `list<int64>`.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row as Record};
use parquet::schema::types::{Type, TypePtr};

use crate::aligned;
use crate::error::{Result, WeightFileError};
use crate::spec::{PARTS, Row};
use crate::tensor::Tensor;

/// Columns of schema V1; V2 has those of quantisation besides.
const COLUMNS: [&str; 5] = ["layer_name", "shape", "dtype", "data", "num_params"];
const QUANT_COLUMNS: [&str; 5] = [
    "quant_type",
    "scales",
    "zero_points",
    "quant_axis",
    "group_size",
];

/// Which schema the file's columns follow; extra columns are left alone.
pub fn schema_version(parquet: &ParquetMetaData) -> Result<u8> {
    let fields = parquet
        .file_metadata()
        .schema_descr()
        .root_schema()
        .get_fields();
    let has = |name: &str| fields.iter().any(|field| field.name() == name);
    let version = if has("quant_type") { 2 } else { 1 };
    let wanted = COLUMNS.iter().chain(if version == 2 {
        &QUANT_COLUMNS[..]
    } else {
        &[]
    });
    match wanted.into_iter().find(|name| !has(name)) {
        Some(name) => Err(column(name, "a column of the weight schema", "none")),
        None => Ok(version),
    }
}

/// Decodes all tensors. Details the columns leave open come from `index` (by name), else from the
/// file's `metadata`, else from the defaults of the format's documentation.
pub fn decode(
    file: File,
    metadata: &BTreeMap<String, String>,
    index: &[Row],
) -> Result<(Vec<Tensor>, Vec<Row>)> {
    let details: HashMap<&str, &Row> = index.iter().map(|row| (row.name.as_str(), row)).collect();
    let (mut tensors, mut rows) = (Vec::new(), Vec::new());
    for_each_record(
        file,
        |_| true,
        |record| {
            let (mut row, parts) = read(record)?;
            if let Some(known) = details.get(row.name.as_str()) {
                row.packing.clone_from(&known.packing);
                row.scale_dtype.clone_from(&known.scale_dtype);
                row.zero_point.clone_from(&known.zero_point);
                row.crc32c.clone_from(&known.crc32c);
            } else {
                row.packing = metadata.get("aios.packing").cloned();
                row.scale_dtype = metadata.get("aios.scale_dtype").cloned();
                let zero_point = if parts[2].is_empty() {
                    "middle"
                } else {
                    "uint8"
                };
                row.zero_point = Some(
                    metadata
                        .get("aios.zero_point")
                        .map_or(zero_point, String::as_str)
                        .to_owned(),
                );
            }
            tensors.push(row.check()?.attach(parts)?);
            rows.push(row);
            Ok(())
        },
    )?;
    Ok((tensors, rows))
}

/// The small columns of a file, without the bytes.
pub fn descriptions(file: Bytes) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for_each_record(
        file,
        |column| !PARTS.contains(&column),
        |record| {
            rows.push(read(record)?.0);
            Ok(())
        },
    )?;
    Ok(rows)
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs code of the `parquet` crate, which panics on some damaged files: such a panic is an error,
/// and says nothing on standard error.
pub fn guarded<T>(read: impl FnOnce() -> std::result::Result<T, ParquetError>) -> Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                report(panic);
            }
        }));
    });
    GUARDED.set(true);
    let result = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(false);
    match result {
        Ok(result) => result.map_err(|error| WeightFileError::Parquet(error.to_string())),
        Err(_) => Err(WeightFileError::Parquet(
            "its pages contradict each other".to_owned(),
        )),
    }
}

fn for_each_record<R: ChunkReader + 'static>(
    file: R,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(&Record) -> Result<()>,
) -> Result<()> {
    let reader = guarded(|| SerializedFileReader::new(file))?;
    let schema = reader
        .metadata()
        .file_metadata()
        .schema_descr()
        .root_schema();
    let known = |field: &&TypePtr| {
        let name = field.name();
        (COLUMNS.contains(&name) || QUANT_COLUMNS.contains(&name)) && wanted(name)
    };
    let fields: Vec<TypePtr> = schema.get_fields().iter().filter(known).cloned().collect();
    let projection = guarded(|| {
        Type::group_type_builder(schema.name())
            .with_fields(fields)
            .build()
    })?;
    // One row at a time: a batch would hold all tensors twice.
    let mut records =
        guarded(|| Ok(RowIter::from_file(Some(projection), &reader)?.with_batch_size(1)))?;
    while let Some(record) = guarded(|| records.next().transpose())? {
        take(&record)?;
    }
    Ok(())
}

fn read(record: &Record) -> Result<(Row, [Bytes; 3])> {
    let mut row = Row {
        quant_axis: -1,
        ..Row::default()
    };
    let mut parts = [Bytes::new(), Bytes::new(), Bytes::new()];
    let mut num_params = 0;
    for (name, field) in record.get_column_iter() {
        match name.as_str() {
            "layer_name" => row.name = text(name, field)?,
            "shape" => row.shape = integers(name, field)?,
            "dtype" => row.dtype = text(name, field)?,
            "num_params" => num_params = integer(name, field)?,
            // Absent for a plain tensor of a quantised file.
            "quant_type" | "quant_axis" | "group_size" if matches!(field, Field::Null) => {}
            "quant_type" => row.quant_type = Some(text(name, field)?),
            "quant_axis" => row.quant_axis = integer(name, field)?,
            "group_size" => row.group_size = integer(name, field)?,
            "data" => parts[0] = binary(name, field)?,
            "scales" => parts[1] = binary(name, field)?,
            "zero_points" => parts[2] = binary(name, field)?,
            _ => {}
        }
    }
    // Shapes that no array can have are refused for themselves, later.
    let possible = row.shape.iter().all(|&axis| axis >= 0);
    let product = row
        .shape
        .iter()
        .try_fold(1, |n: i64, &axis| n.checked_mul(axis));
    if possible && product.is_some_and(|product| product != num_params) {
        return Err(WeightFileError::Shape {
            tensor: row.name,
            shape: row.shape,
            problem: "contradicts num_params, which is expected to be the product of the axes",
        });
    }
    Ok((row, parts))
}

fn text(name: &str, field: &Field) -> Result<String> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        Field::Bytes(bytes) => String::from_utf8(bytes.data().to_vec())
            .map_err(|_| column(name, "text in UTF-8", "other bytes")),
        other => Err(column(name, "text", &other.to_string())),
    }
}

fn integer(name: &str, field: &Field) -> Result<i64> {
    match *field {
        Field::Byte(value) => Ok(value.into()),
        Field::Short(value) => Ok(value.into()),
        Field::Int(value) => Ok(value.into()),
        Field::Long(value) => Ok(value),
        Field::UByte(value) => Ok(value.into()),
        Field::UShort(value) => Ok(value.into()),
        Field::UInt(value) => Ok(value.into()),
        _ => Err(column(name, "integers", &field.to_string())),
    }
}

fn integers(name: &str, field: &Field) -> Result<Vec<i64>> {
    match field {
        Field::ListInternal(list) => list
            .elements()
            .iter()
            .map(|element| integer(name, element))
            .collect(),
        other => Err(column(name, "a list of integers", &other.to_string())),
    }
}

fn binary(name: &str, field: &Field) -> Result<Bytes> {
    match field {
        Field::Null => Ok(Bytes::new()),
        Field::Bytes(bytes) => Ok(aligned::copied(bytes.data())),
        Field::Str(text) => Ok(aligned::copied(text.as_bytes())),
        _ => Err(column(name, "binary", "another type")),
    }
}

fn column(name: &str, expected: &'static str, got: &str) -> WeightFileError {
    let got: String = got.chars().take(80).collect();
    WeightFileError::Column {
        column: name.to_owned(),
        expected,
        got,
    }
}
