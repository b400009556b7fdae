//! dead-N: the rows of each segment that were deleted or replaced.
//!
//! ```text
//! "AIOSDEAD"  u32 format version  u32 segments
//! per segment: u64 number, u64 rows, u64 words of the bitmap
//! u32 crc32c of everything before
//! ```

use crate::error::{Error, Result};
use crate::manifest::Sealed;
use std::path::Path;
use std::sync::Arc;
use vector_search::Bitmap;

const MAGIC: [u8; 8] = *b"AIOSDEAD";
const VERSION: u32 = 1;

/// Writes the dead rows of numbered segments.
pub(crate) fn encode<'a>(segments: impl ExactSizeIterator<Item = (u64, &'a Bitmap)>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(VERSION.to_le_bytes());
    out.extend((segments.len() as u32).to_le_bytes());
    for (number, dead) in segments {
        out.extend(number.to_le_bytes());
        out.extend((dead.len() as u64).to_le_bytes());
        out.extend(dead.words().iter().flat_map(|word| word.to_le_bytes()));
    }
    out.extend(crc32c::crc32c(&out).to_le_bytes());
    out
}

/// Reads the dead rows of the segments `expected`, given as number and rows.
pub(crate) fn decode(
    path: &Path,
    bytes: &[u8],
    sealed: Sealed,
    expected: &[(u64, usize)],
) -> Result<Vec<Arc<Bitmap>>> {
    let bad = |offset: usize, what: &str| Error::corrupted(path, offset as u64, what);
    if bytes.len() as u64 != sealed.size_bytes || crc32c::crc32c(bytes) != sealed.crc32c {
        return Err(bad(0, "the file fails the checksum in the manifest"));
    }
    let version = bytes
        .get(8..12)
        .map(|v| u32::from_le_bytes([v[0], v[1], v[2], v[3]]));
    match version {
        Some(VERSION) if bytes[..8] == MAGIC => {}
        Some(found) if bytes[..8] == MAGIC => {
            return Err(Error::Version {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
        _ => return Err(bad(0, "the file does not begin like a list of dead rows")),
    }
    let mut at = 16;
    let mut dead = Vec::with_capacity(expected.len());
    for &(number, rows) in expected {
        let next = |at: &mut usize| -> Option<u64> {
            let word = bytes.get(*at..*at + 8)?;
            *at += 8;
            Some(
                word.iter()
                    .rev()
                    .fold(0, |value, &byte| value << 8 | u64::from(byte)),
            )
        };
        let start = at;
        if (next(&mut at), next(&mut at)) != (Some(number), Some(rows as u64)) {
            return Err(bad(start, "the segments differ from those in the manifest"));
        }
        let words: Option<Vec<u64>> = (0..rows.div_ceil(64)).map(|_| next(&mut at)).collect();
        let set = words.and_then(|words| Bitmap::from_words(words, rows));
        dead.push(Arc::new(
            set.ok_or_else(|| bad(start, "the list is cut short"))?,
        ));
    }
    Ok(dead)
}
