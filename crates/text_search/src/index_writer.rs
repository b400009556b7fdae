//! From the texts of rows to the file of their index.

use crate::index::{HEADER_BYTES, PartEntry, Stamp, encode_directory, encode_header};
use crate::inverted::{Inverted, Slice};
use crate::part::{PART_ROWS, encode_part};
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use threads::ThreadPool;

/// Texts that are read at once.
const BATCH_ROWS: usize = 1024;

/// Writes the index of the texts of rows 0 to `rows`, and hands back the sink.
///
/// `texts` reads those of some rows; it is called from up to `threads` threads. The bytes depend on the texts and on
/// `stamp` alone.
///
/// # Errors
/// Those of `texts` and of the sink.
pub fn write_index<W: Write, E: From<io::Error> + Send>(
    mut sink: W,
    rows: usize,
    stamp: Stamp,
    threads: usize,
    texts: &(impl Fn(Range<usize>) -> Result<Vec<String>, E> + Sync),
) -> Result<W, E> {
    sink.write_all(&encode_header(rows, stamp))?;
    let mut parts = Vec::new();
    let mut offset = HEADER_BYTES as u64;
    for start in (0..rows).step_by(PART_ROWS) {
        let part = start..(start + PART_ROWS).min(rows);
        let bytes = encode_part(&invert(part, threads, texts)?);
        sink.write_all(&bytes)?;
        parts.push(PartEntry {
            offset,
            len: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
        });
        offset += bytes.len() as u64;
    }
    sink.write_all(&encode_directory(&parts))?;
    sink.flush()?;
    Ok(sink)
}

/// Inverts the texts of some rows, in about as many slices as there are threads.
fn invert<E: Send>(
    rows: Range<usize>,
    threads: usize,
    texts: &(impl Fn(Range<usize>) -> Result<Vec<String>, E> + Sync),
) -> Result<Vec<Inverted>, E> {
    let batches = rows.len().div_ceil(BATCH_ROWS);
    let threads = threads.clamp(1, batches.max(1));
    let share = batches.div_ceil(threads) * BATCH_ROWS;
    let slices: Vec<Mutex<Result<Inverted, E>>> = (0..threads)
        .map(|_| Mutex::new(Ok(Inverted::default())))
        .collect();
    ThreadPool::new(threads).run(threads, |slice| {
        let start = (rows.start + slice * share).min(rows.end);
        let mine = start..(start + share).min(rows.end);
        let inverted = invert_slice(mine, texts);
        *slices[slice].lock().unwrap_or_else(PoisonError::into_inner) = inverted;
    });
    let slices = slices.into_iter();
    slices
        .map(|slice| slice.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

fn invert_slice<E>(
    rows: Range<usize>,
    texts: &impl Fn(Range<usize>) -> Result<Vec<String>, E>,
) -> Result<Inverted, E> {
    let mut slice = Slice::default();
    for start in rows.clone().step_by(BATCH_ROWS) {
        for text in texts(start..(start + BATCH_ROWS).min(rows.end))? {
            slice.add(&text);
        }
    }
    Ok(slice.invert())
}
