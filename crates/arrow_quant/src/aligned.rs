//! Memory that starts on a 64-byte boundary, so that decoded tensors cast like mapped ones.

use bytes::Bytes;
use memmap2::MmapMut;

/// Alignment of every value, in the file and in memory: a cache line and the widest SIMD register.
pub const ALIGNMENT: usize = 64;

/// From here on huge pages save more page faults than mapping costs.
const LARGE: usize = 4 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; ALIGNMENT]);

struct Lines {
    lines: Vec<Line>,
    len: usize,
}

impl AsRef<[u8]> for Lines {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Line` is 64 plain bytes without padding, and `len` is at most the bytes of all lines.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

/// A zeroed buffer of `len` bytes filled by `fill`.
pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Bytes {
    if len >= LARGE
        && let Ok(mut map) = MmapMut::map_anon(len)
    {
        // A kernel without huge pages refuses, and small ones do.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        fill(&mut map);
        return Bytes::from_owner(map);
    }
    let mut lines = vec![Line([0; ALIGNMENT]); len.div_ceil(ALIGNMENT)];
    // SAFETY: as in `as_ref`; the vector is borrowed mutably for the life of the slice.
    fill(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) });
    Bytes::from_owner(Lines { lines, len })
}

/// Aligned copy of `bytes`.
pub fn copied(bytes: &[u8]) -> Bytes {
    filled(bytes.len(), |out| out.copy_from_slice(bytes))
}
