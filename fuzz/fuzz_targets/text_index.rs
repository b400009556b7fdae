//! Any damage to the index of a segment's texts, by chance or under checksums that fit.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// Bytes of the header, and of the entry of the only part.
const HEADER: usize = 64;
const ENTRY: usize = 24;

fuzz_target!(|data: &[u8]| {
    let part = fuzz::store::shared(".fts");
    let mut bytes = part.bytes.clone();
    let Some((kind, edits)) = data.split_first() else {
        return;
    };
    fuzz::damage(&mut bytes[HEADER..], edits);
    if kind % 2 == 0 {
        let (end, directory) = (bytes.len() - 4, bytes.len() - 4 - ENTRY);
        let crc = crc32c::crc32c(&bytes[HEADER..directory]);
        bytes[directory + 16..directory + 20].copy_from_slice(&crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[directory..end]);
        bytes[end..].copy_from_slice(&crc.to_le_bytes());
    }
    part.read(&bytes);
});
