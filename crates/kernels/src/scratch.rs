//! Memory that a thread keeps between calls, so that the kernels allocate nothing once warm.

use std::cell::Cell;

/// A cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

thread_local! {
    /// A buffer for each depth to which they were taken, the outermost last.
    static KEPT: Cell<Vec<Vec<Line>>> = const { Cell::new(Vec::new()) };
}

/// Uninitialised in meaning, initialised in fact: holds whatever the last user left.
pub(crate) struct Scratch(Vec<Line>);

impl Scratch {
    /// At least `bytes` bytes. A second scratch may be taken while the first is held.
    pub(crate) fn take(bytes: usize) -> Self {
        let mut kept = KEPT.take();
        let lines = kept.pop().unwrap_or_default();
        KEPT.set(kept);
        let mut scratch = Self(lines);
        scratch.reserve(bytes);
        scratch
    }

    /// Grows to at least `bytes` bytes.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        let needed = bytes.div_ceil(64);
        if self.0.len() < needed {
            self.0.resize(needed, Line([0; 64]));
        }
    }

    /// The whole buffer as `f32`, to read.
    pub(crate) fn as_floats(&self) -> &[f32] {
        // SAFETY: a line has the size and at least the alignment of sixteen f32, and any bytes are f32.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 16 * self.0.len()) }
    }

    /// The whole buffer as vectors of sixteen pairs of brain floats, to read.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn as_pairs(&self) -> &[[u32; 16]] {
        // SAFETY: a line has the size and at least the alignment of sixteen u32, and any bytes are u32.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len()) }
    }

    /// The whole buffer as vectors of sixteen `f32`.
    pub(crate) fn vectors(&mut self) -> &mut [[f32; 16]] {
        // SAFETY: a line has the size and at least the alignment of sixteen f32, and any bytes are f32.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len()) }
    }

    /// The whole buffer as vectors of sixteen pairs of brain floats.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn pairs(&mut self) -> &mut [[u32; 16]] {
        // SAFETY: a line has the size and at least the alignment of sixteen u32, and any bytes are u32.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len()) }
    }

    /// The whole buffer as steps of a panel.
    pub(crate) fn steps(&mut self) -> &mut [[u8; 64]] {
        // SAFETY: a line is sixty-four bytes.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len()) }
    }
}

/// The first `len` numbers of `buffer`, which grows when it must and never shrinks.
pub fn fit(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut kept = KEPT.take();
        kept.push(std::mem::take(&mut self.0));
        KEPT.set(kept);
    }
}
