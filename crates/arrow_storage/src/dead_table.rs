//! dead-N.parquet: the rows that are gone, for other tools to leave out of the segments' tables.
//!
//! It says what the list of dead rows beside it says, and is read here when that is damaged. A row is known
//! by the file name of its table and its id.

use crate::checksum::BlockSums;
use crate::error::{At, Error, Result};
use crate::manifest::{Sealed, draft_name, table_name};
use crate::state::Live;
use crate::table::SummedFile;
use crate::vfs::Vfs;
use bytes::Bytes;
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use std::path::Path;
use std::sync::Arc;
use vector_search::Bitmap;

const SCHEMA: &str = "message dead {
    required binary segment (STRING);
    required binary memory_id (STRING);
}";

/// Reads the dead rows of `segments`, those of other segments left out.
pub(crate) fn read(
    vfs: &dyn Vfs,
    path: &Path,
    sealed: Sealed,
    segments: &[Live],
) -> Result<Vec<Bitmap>> {
    let bad = |what: String| Error::corrupted(path, 0, what);
    let bytes = vfs.read(path).at("read", path)?;
    sealed.check(path, &bytes)?;
    let mut dead: Vec<Bitmap> = segments
        .iter()
        .map(|live| Bitmap::empty(live.segment.rows()))
        .collect();
    let table = SerializedFileReader::new(Bytes::from(bytes)).map_err(|e| bad(e.to_string()))?;
    for row in table
        .get_row_iter(None)
        .map_err(|error| bad(error.to_string()))?
    {
        let row = row.map_err(|error| bad(error.to_string()))?;
        let text = |column| {
            row.get_string(column)
                .map_err(|error| bad(error.to_string()))
        };
        let (table, id) = (text(0)?, text(1)?);
        let named = |live: &Live| table_name(live.segment.entry.number) == *table;
        let Some(at) = segments.iter().position(named) else {
            continue;
        };
        let Some(row) = segments[at].segment.find(id)? else {
            return Err(bad(format!("{table} has no memory {id:?}")));
        };
        dead[at].insert(row);
    }
    Ok(dead)
}

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
