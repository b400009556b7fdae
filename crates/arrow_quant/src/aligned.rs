//! Memory that starts on a 64-byte boundary, so that decoded tensors cast like mapped ones.

use std::convert::Infallible;
use std::mem::MaybeUninit;

use bytes::Bytes;
use memmap2::MmapMut;

/// Alignment of every value, in the file and in memory: a cache line and the widest SIMD register.
pub const ALIGNMENT: usize = 64;

/// From here on huge pages save more page faults than mapping costs.
const LARGE: usize = 4 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([MaybeUninit<u8>; ALIGNMENT]);

/// Lines of which the first `len` bytes are written.
struct Lines {
    lines: Vec<Line>,
    len: usize,
}

impl AsRef<[u8]> for Lines {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Line` is 64 bytes without padding, `len` is at most the bytes of all lines, and they are written.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

/// A buffer of `len` bytes as `write` leaves it.
///
/// # Safety
/// `write` returns `Ok` only when it has written every byte.
pub unsafe fn written<E>(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<u8>]) -> Result<(), E>,
) -> Result<Bytes, E> {
    if len >= LARGE
        && let Ok(mut map) = MmapMut::map_anon(len)
    {
        // A kernel without huge pages refuses, and small ones do.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        // SAFETY: the map is `len` bytes, and `write` only writes to them.
        write(unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), len) })?;
        return Ok(Bytes::from_owner(map));
    }
    let mut lines = vec![Line([MaybeUninit::uninit(); ALIGNMENT]); len.div_ceil(ALIGNMENT)];
    // SAFETY: the lines have at least `len` bytes; they are borrowed mutably for the life of the slice.
    write(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), len) })?;
    Ok(Bytes::from_owner(Lines { lines, len }))
}

/// The same bytes, written with zeros.
pub fn zeroed(bytes: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    bytes.fill(MaybeUninit::new(0));
    // SAFETY: every byte is written.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// A zeroed buffer of `len` bytes filled by `fill`.
pub fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Bytes {
    let write = |bytes: &mut [MaybeUninit<u8>]| {
        fill(zeroed(bytes));
        Ok::<(), Infallible>(())
    };
    // SAFETY: every byte is zeroed.
    let Ok(bytes) = unsafe { written(len, write) };
    bytes
}

/// Aligned copy of `bytes`.
pub fn copied(bytes: &[u8]) -> Bytes {
    filled(bytes.len(), |out| out.copy_from_slice(bytes))
}
