//! dead-N.parquet: the rows that are gone, for other tools to leave out of the segments' tables.
//!
//! It says what the list of dead rows beside it says, and is never read here. A row is known by the file
//! name of its table and its id.

use crate::checksum::BlockSums;
use crate::error::{At, Error, Result};
use crate::manifest::{Sealed, draft_name, table_name};
use crate::state::Live;
use crate::table::SummedFile;
use crate::vfs::Vfs;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;

const SCHEMA: &str = "message dead {
    required binary segment (STRING);
    required binary memory_id (STRING);
}";

/// Writes the file `name` durably.
pub(crate) fn write(vfs: &dyn Vfs, dir: &Path, name: &str, segments: &[Live]) -> Result<Sealed> {
    let (path, draft) = (dir.join(name), dir.join(draft_name(name)));
    let (mut tables, mut ids) = (Vec::new(), Vec::new());
    for live in segments {
        let table = ByteArray::from(table_name(live.segment.entry.number).as_str());
        for row in live.dead.rows(0..live.dead.len()) {
            tables.push(table.clone());
            ids.push(ByteArray::from(live.segment.id(row)?));
        }
    }
    let sink = SummedFile {
        file: vfs.create(&draft).at("create", &path)?,
        sums: BlockSums::default(),
    };
    let sink = encode(sink, &[tables, ids]).map_err(|error| match error {
        ParquetError::External(inner) => Error::Io {
            action: "write",
            path: path.clone(),
            source: std::io::Error::other(inner),
        },
        error => Error::corrupted(&path, 0, error.to_string()),
    })?;
    sink.file.sync().at("sync", &path)?;
    vfs.rename(&draft, &path).at("create", &path)?;
    Ok(Sealed {
        size_bytes: sink.sums.len(),
        crc32c: sink.sums.whole(),
    })
}

fn encode(sink: SummedFile, columns: &[Vec<ByteArray>]) -> Result<SummedFile, ParquetError> {
    let properties = WriterProperties::builder()
        .set_created_by("aios".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let schema = parse_message_type(SCHEMA)?;
    let mut writer = SerializedFileWriter::new(sink, Arc::new(schema), Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for values in columns {
        if let Some(mut column) = group.next_column()? {
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(values, None, None)?;
            column.close()?;
        }
    }
    group.close()?;
    writer.into_inner()
}
