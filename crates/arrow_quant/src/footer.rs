//! The Parquet footer of a weight file: schema, one row group a tensor, key-value metadata.
//!
//! Source: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use crate::page::Chunk;
use crate::thrift::Struct;

pub const MAGIC: &[u8; 4] = b"PAR1";
/// Marks the checksum that lies before the footer of our own files.
pub const SEAL: &[u8; 4] = b"AIOW";
/// Bytes of seal and checksum.
pub const SEAL_LEN: usize = 8;

/// Key of the format's version in the file's metadata.
pub const FORMAT_VERSION: &str = "aios.format_version";
/// Key of the alignment of values in bytes.
pub const ALIGNMENT: &str = "aios.alignment";
/// Key of the tensor index, a JSON list in the order of the row groups.
pub const TENSORS: &str = "aios.tensors";
/// Prefix of the keys that belong to the format.
pub const RESERVED: &str = "aios.";

const INT32: i32 = 1;
const INT64: i32 = 2;
const BYTE_ARRAY: i32 = 6;

/// Physical type of a column; text carries a logical type besides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
    Text,
    Int32s,
    Binary,
    Int64,
    Int32,
}

/// The columns in order; schema V1 is the first five.
const COLUMNS: [(&str, Column); 10] = [
    ("layer_name", Column::Text),
    ("shape", Column::Int32s),
    ("dtype", Column::Text),
    ("data", Column::Binary),
    ("num_params", Column::Int64),
    ("quant_type", Column::Text),
    ("scales", Column::Binary),
    ("zero_points", Column::Binary),
    ("quant_axis", Column::Int32),
    ("group_size", Column::Int32),
];

/// Number of columns of a schema version.
pub const fn columns(schema_version: u8) -> usize {
    if schema_version == 1 { 5 } else { 10 }
}

impl Column {
    const fn physical(self) -> i32 {
        match self {
            Self::Text | Self::Binary => BYTE_ARRAY,
            Self::Int32s | Self::Int32 => INT32,
            Self::Int64 => INT64,
        }
    }
}

/// Encodes the footer; `row_groups` holds the chunks of each tensor in the order of the columns.
pub fn encode(
    schema_version: u8,
    row_groups: &[Vec<Chunk>],
    metadata: &[(String, String)],
) -> Vec<u8> {
    let columns = &COLUMNS[..columns(schema_version)];
    let mut out = Vec::new();
    Struct::write(&mut out, |file| {
        file.i32(1, 1);
        let schema = schema(columns);
        file.structs(2, &schema, |out, element| element.write(out));
        file.i64(3, row_groups.len() as u64);
        file.structs(4, row_groups, |group, chunks| {
            let bytes = chunks.iter().map(|chunk| chunk.len).sum();
            let chunks: Vec<_> = columns.iter().zip(chunks).collect();
            group.structs(1, &chunks, |out, &(&(name, column), chunk)| {
                out.i64(2, 0);
                out.nested(3, |out| column_metadata(out, name, column, *chunk));
            });
            group.i64(2, bytes);
            group.i64(3, 1);
        });
        file.structs(5, metadata, |out, (key, value)| {
            out.text(1, key);
            out.text(2, value);
        });
        file.text(
            6,
            concat!("ai-os-diffusion version ", env!("CARGO_PKG_VERSION")),
        );
    });
    out
}

fn column_metadata(out: &mut Struct, name: &str, column: Column, chunk: Chunk) {
    const PLAIN: i32 = 0;
    const RLE: i32 = 3;
    const UNCOMPRESSED: i32 = 0;
    out.i32(1, column.physical());
    out.i32s(2, &[PLAIN, RLE]);
    match column {
        Column::Int32s => out.texts(3, &[name, "list", "element"]),
        _ => out.texts(3, &[name]),
    }
    out.i32(4, UNCOMPRESSED);
    out.i64(5, chunk.values);
    out.i64(6, chunk.len);
    out.i64(7, chunk.len);
    out.i64(9, chunk.offset);
}

/// One node of the schema, depth first.
struct Element {
    name: &'static str,
    physical: Option<i32>,
    repetition: Option<i32>,
    children: usize,
    logical: Option<Logical>,
}

#[derive(Clone, Copy)]
enum Logical {
    Text,
    List,
}

impl Element {
    fn write(&self, out: &mut Struct) {
        if let Some(physical) = self.physical {
            out.i32(1, physical);
        }
        if let Some(repetition) = self.repetition {
            out.i32(3, repetition);
        }
        out.text(4, self.name);
        if self.children > 0 {
            out.i32(5, self.children as i32);
        }
        if let Some(logical) = self.logical {
            // The converted type for old readers, then the logical type: a union of empty structs.
            let (converted, member) = match logical {
                Logical::Text => (0, 1),
                Logical::List => (3, 3),
            };
            out.i32(6, converted);
            out.nested(10, |union| union.nested(member, |_| ()));
        }
    }
}

fn schema(columns: &[(&'static str, Column)]) -> Vec<Element> {
    const REQUIRED: Option<i32> = Some(0);
    const REPEATED: Option<i32> = Some(2);
    let root = Element {
        name: "schema",
        physical: None,
        repetition: None,
        children: columns.len(),
        logical: None,
    };
    let mut elements = vec![root];
    for &(name, column) in columns {
        let leaf = |name, logical| Element {
            name,
            physical: Some(column.physical()),
            repetition: REQUIRED,
            children: 0,
            logical,
        };
        match column {
            Column::Int32s => elements.extend([
                Element {
                    name,
                    physical: None,
                    repetition: REQUIRED,
                    children: 1,
                    logical: Some(Logical::List),
                },
                Element {
                    name: "list",
                    physical: None,
                    repetition: REPEATED,
                    children: 1,
                    logical: None,
                },
                leaf("element", None),
            ]),
            Column::Text => elements.push(leaf(name, Some(Logical::Text))),
            _ => elements.push(leaf(name, None)),
        }
    }
    elements
}
