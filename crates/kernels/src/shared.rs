//! An output buffer that the tasks of one parallel run fill together.

use std::marker::PhantomData;

/// Hands out disjoint parts of one exclusive slice to several threads.
#[derive(Clone, Copy)]
pub(crate) struct SharedOut<'a> {
    data: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only ways to touch the data are unsafe and ask for disjoint places.
unsafe impl Send for SharedOut<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedOut<'_> {}

impl<'a> SharedOut<'a> {
    pub(crate) fn new(out: &'a mut [f32]) -> Self {
        Self {
            data: out.as_mut_ptr(),
            len: out.len(),
            lifetime: PhantomData,
        }
    }

    /// # Safety
    /// No other thread touches `index` meanwhile.
    pub(crate) unsafe fn write(self, index: usize, value: f32) {
        assert!(index < self.len);
        // SAFETY: in bounds, and the caller owns the place.
        unsafe { self.data.add(index).write(value) };
    }
}
