//! Numbers read where they lie in a mapped file.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

mod sealed {
    pub trait Number: Copy + 'static {}
    impl Number for f32 {}
    impl Number for u16 {}
    impl Number for u8 {}
}

/// Types of which every bit pattern is a value.
pub(crate) trait Number: sealed::Number {}
impl<T: sealed::Number> Number for T {}

/// A slice of numbers: shared bytes where they are aligned, else a copy. A clone shares them.
#[derive(Debug, Clone)]
pub(crate) struct View<T> {
    storage: Storage<T>,
}

#[derive(Debug, Clone)]
enum Storage<T> {
    Shared(Bytes, PhantomData<T>),
    Owned(Arc<Vec<T>>),
}

impl<T: Number> View<T> {
    /// Views `bytes`; a remainder shorter than one number is dropped.
    pub(crate) fn new(bytes: Bytes) -> Self {
        if bytes.as_ptr().cast::<T>().is_aligned() {
            return Self {
                storage: Storage::Shared(bytes, PhantomData),
            };
        }
        let count = bytes.len() / size_of::<T>();
        let mut copy = Vec::<T>::with_capacity(count);
        // SAFETY: the vector has room for `count` numbers, the source holds as many bytes, the two do
        // not overlap, and every bit pattern is a valid `T`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                copy.as_mut_ptr().cast::<u8>(),
                count * size_of::<T>(),
            );
            copy.set_len(count);
        }
        Self::from(copy)
    }

    /// The numbers.
    pub(crate) fn as_slice(&self) -> &[T] {
        match &self.storage {
            // SAFETY: alignment was checked when the view was made, bytes never move, the length is
            // rounded down to whole numbers, and every bit pattern is a valid `T`.
            Storage::Shared(bytes, _) => unsafe {
                std::slice::from_raw_parts(bytes.as_ptr().cast::<T>(), bytes.len() / size_of::<T>())
            },
            Storage::Owned(values) => values,
        }
    }
}

impl<T: Number> From<Vec<T>> for View<T> {
    fn from(values: Vec<T>) -> Self {
        Self {
            storage: Storage::Owned(Arc::new(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_bytes_are_copied_and_equal() {
        let values: Vec<f32> = (0..9u8).map(f32::from).collect();
        let mut bytes = vec![0u8];
        bytes.extend(values.iter().flat_map(|value| value.to_ne_bytes()));
        let shared = Bytes::from(bytes);
        for start in 0..4 {
            let slice = shared.slice(start..);
            let view = View::<f32>::new(slice.clone());
            let expected: Vec<u32> = slice
                .chunks_exact(4)
                .map(|b| u32::from_ne_bytes(b.try_into().unwrap()))
                .collect();
            let got: Vec<u32> = view
                .as_slice()
                .iter()
                .map(|value| value.to_bits())
                .collect();
            assert_eq!(got, expected);
        }
    }
}
