//! An output buffer that the tasks of one parallel run fill together.

use std::marker::PhantomData;

/// Hands out disjoint parts of one exclusive slice to several threads.
#[derive(Debug)]
pub struct SharedOut<'a, T> {
    data: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

impl<T> Clone for SharedOut<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedOut<'_, T> {}

// SAFETY: the only way to the data is unsafe and asks for disjoint places.
unsafe impl<T: Send> Send for SharedOut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedOut<'_, T> {}

impl<'a, T> SharedOut<'a, T> {
    /// Takes `out` for the life of the parts.
    pub fn new(out: &'a mut [T]) -> Self {
        Self {
            data: out.as_mut_ptr(),
            len: out.len(),
            lifetime: PhantomData,
        }
    }

    /// Elements `[start, start + len)`.
    ///
    /// # Panics
    /// If they lie beyond the end.
    ///
    /// # Safety
    /// No other part handed out overlaps this one while both live.
    #[inline(always)]
    #[must_use]
    pub unsafe fn part(self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len && len <= self.len - start);
        // SAFETY: in bounds of the exclusive slice, and the caller keeps parts disjoint.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), len) }
    }
    /// Where element `at` lies, for instructions that go from row to row by themselves.
    ///
    /// # Panics
    /// If there is none.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn address(self, at: usize) -> *mut T {
        assert!(at < self.len);
        // SAFETY: in bounds of the slice.
        unsafe { self.data.add(at) }
    }
}
