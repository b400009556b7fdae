//! Parquet data pages with a single value, and the small columns beside the big ones.
//!
//! Source: <https://parquet.apache.org/docs/file-format/data-pages/>.

use crate::spec::Row;
use crate::thrift::{Struct, varint};

/// A page's place in the file.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    pub offset: u64,
    /// Header and body.
    pub len: u64,
    pub values: u64,
}

/// Header of an uncompressed PLAIN page of `body_len` bytes.
pub fn header(body_len: usize, values: usize) -> Vec<u8> {
    const DATA_PAGE: i32 = 0;
    const PLAIN: i32 = 0;
    const RLE: i32 = 3;
    let mut out = Vec::with_capacity(24);
    Struct::write(&mut out, |page| {
        page.i32(1, DATA_PAGE);
        page.i32(2, body_len as i32);
        page.i32(3, body_len as i32);
        page.nested(5, |data| {
            data.i32(1, values as i32);
            data.i32(2, PLAIN);
            data.i32(3, RLE);
            data.i32(4, RLE);
        });
    });
    out
}

/// Appends the pages of a row's small columns, in the order of the schema, to `out`, which lies
/// `base` bytes into the file. Binary columns are left `None`.
pub fn small_pages(row: &Row, num_params: u64, base: u64, out: &mut Vec<u8>) -> Vec<Option<Chunk>> {
    let mut append = |body: &[u8], values: usize| {
        let start = out.len();
        out.extend_from_slice(&header(body.len(), values));
        out.extend_from_slice(body);
        Some(Chunk {
            offset: base + start as u64,
            len: (out.len() - start) as u64,
            values: values as u64,
        })
    };
    let mut chunks = vec![
        append(&text(&row.name), 1),
        append(&list(&row.shape), row.shape.len().max(1)),
        append(&text(&row.dtype), 1),
        None,
        append(&num_params.to_le_bytes(), 1),
    ];
    if let Some(quant_type) = &row.quant_type {
        chunks.extend([
            append(&text(quant_type), 1),
            None,
            None,
            append(&(row.quant_axis as i32).to_le_bytes(), 1),
            append(&(row.group_size as i32).to_le_bytes(), 1),
        ]);
    }
    chunks
}

fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u32).to_le_bytes(), value.as_bytes()].concat()
}

/// One list of required 32-bit integers: repetition levels, definition levels, values.
fn list(values: &[i64]) -> Vec<u8> {
    let mut out = Vec::new();
    let repeated = values.len().saturating_sub(1) as u64;
    levels(&[(1, 0), (repeated, 1)], &mut out);
    levels(
        &[(values.len().max(1) as u64, u8::from(!values.is_empty()))],
        &mut out,
    );
    for &value in values {
        out.extend_from_slice(&(value as i32).to_le_bytes());
    }
    out
}

/// Runs of levels of one bit: a length in bytes, then (count, level) pairs.
fn levels(runs: &[(u64, u8)], out: &mut Vec<u8>) {
    let mut encoded = Vec::new();
    for &(count, level) in runs.iter().filter(|(count, _)| *count > 0) {
        varint(&mut encoded, count << 1);
        encoded.push(level);
    }
    out.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    out.extend_from_slice(&encoded);
}
