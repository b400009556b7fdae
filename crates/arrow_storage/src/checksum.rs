//! Files whose blocks are verified when they are first read.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

/// Bytes under one checksum.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// Computes the checksum of a stream and of each of its blocks.
#[derive(Debug, Default)]
pub(crate) struct BlockSums {
    sums: Vec<u32>,
    current: u32,
    whole: u32,
    len: u64,
}

impl BlockSums {
    pub(crate) fn update(&mut self, mut data: &[u8]) {
        self.whole = crc32c::crc32c_append(self.whole, data);
        while !data.is_empty() {
            let room = BLOCK_BYTES - self.len as usize % BLOCK_BYTES;
            let (now, later) = data.split_at(room.min(data.len()));
            self.current = crc32c::crc32c_append(self.current, now);
            self.len += now.len() as u64;
            if self.len.is_multiple_of(BLOCK_BYTES as u64) {
                self.sums.push(std::mem::take(&mut self.current));
            }
            data = later;
        }
    }

    /// Bytes seen.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Checksum of everything seen.
    pub(crate) fn whole(&self) -> u32 {
        self.whole
    }

    /// Little-endian checksums of the blocks, the last one possibly short.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        if !self.len.is_multiple_of(BLOCK_BYTES as u64) {
            self.sums.push(self.current);
        }
        self.sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()
    }
}

/// Bytes of the checksums of a file of `len` bytes.
pub(crate) fn sums_len(len: u64) -> u64 {
    len.div_ceil(BLOCK_BYTES as u64) * 4
}

/// A file's bytes, each block compared with its checksum before it is first handed out.
#[derive(Debug)]
pub(crate) struct CheckedBytes {
    path: PathBuf,
    bytes: Bytes,
    sums: Bytes,
    verified: Vec<AtomicU8>,
}

impl CheckedBytes {
    /// `sums` holds four bytes for each block of `bytes`.
    pub(crate) fn new(path: &Path, bytes: Bytes, sums: Bytes) -> Self {
        debug_assert_eq!(sums.len() as u64, sums_len(bytes.len() as u64));
        Self {
            path: path.to_owned(),
            verified: (0..bytes.len().div_ceil(BLOCK_BYTES))
                .map(|_| AtomicU8::new(0))
                .collect(),
            bytes,
            sums,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All bytes, compared with their checksums or not.
    pub(crate) fn unchecked(&self) -> &Bytes {
        &self.bytes
    }

    /// Verifies and returns a range.
    pub(crate) fn get(&self, range: Range<usize>) -> Result<&[u8]> {
        self.check(&range)?;
        Ok(&self.bytes[range])
    }

    /// Verifies and shares a range.
    pub(crate) fn slice(&self, range: Range<usize>) -> Result<Bytes> {
        self.check(&range)?;
        Ok(self.bytes.slice(range))
    }

    /// Offsets of the blocks that fail.
    pub(crate) fn damage(&self) -> Vec<u64> {
        (0..self.verified.len())
            .filter(|&block| !self.block_is_whole(block))
            .map(|block| (block * BLOCK_BYTES) as u64)
            .collect()
    }

    fn check(&self, range: &Range<usize>) -> Result<()> {
        if range.start > range.end || range.end > self.bytes.len() {
            return Err(Error::corrupted(
                &self.path,
                range.start as u64,
                format!(
                    "a reference to bytes {}..{} of {}",
                    range.start,
                    range.end,
                    self.bytes.len()
                ),
            ));
        }
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            if self.verified[block].load(Ordering::Relaxed) == 0 {
                if !self.block_is_whole(block) {
                    let offset = (block * BLOCK_BYTES) as u64;
                    return Err(Error::corrupted(
                        &self.path,
                        offset,
                        "a block of 64 KiB fails its checksum",
                    ));
                }
                self.verified[block].store(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn block_is_whole(&self, block: usize) -> bool {
        let start = block * BLOCK_BYTES;
        let data = &self.bytes[start..(start + BLOCK_BYTES).min(self.bytes.len())];
        let stored = self.sums.get(block * 4..block * 4 + 4);
        stored == Some(crc32c::crc32c(data).to_le_bytes().as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, BlockSums, CheckedBytes, sums_len};
    use bytes::Bytes;
    use std::path::Path;

    #[test]
    fn only_the_damaged_block_fails() {
        let mut data: Vec<u8> = (0..3 * BLOCK_BYTES + 5).map(|i| (i % 251) as u8).collect();
        let mut sums = BlockSums::default();
        data.chunks(1000).for_each(|chunk| sums.update(chunk));
        assert_eq!(sums.whole(), crc32c::crc32c(&data));
        let sums = sums.into_bytes();
        assert_eq!(sums.len() as u64, sums_len(data.len() as u64));
        data[BLOCK_BYTES + 1] ^= 4;
        let file = CheckedBytes::new(Path::new("f"), Bytes::from(data), Bytes::from(sums));
        assert!(file.get(0..BLOCK_BYTES).is_ok());
        assert!(
            file.get(BLOCK_BYTES - 1..BLOCK_BYTES + 1)
                .unwrap_err()
                .to_string()
                .contains("byte 65536")
        );
        assert!(file.slice(2 * BLOCK_BYTES..3 * BLOCK_BYTES + 5).is_ok());
        assert_eq!(file.damage(), [BLOCK_BYTES as u64]);
        assert!(file.get(0..file.len() + 1).is_err());
    }
}
