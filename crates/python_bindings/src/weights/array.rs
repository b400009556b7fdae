//! `NumPy` arrays that come in.

use arrow_quant::{Dtype, PlainRows};
use bytes::Bytes;
use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// A contiguous `NumPy` array of weights.
pub enum Weights<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, u16>),
    Bf16(PyReadonlyArrayDyn<'py, u16>),
}

impl<'py> Weights<'py> {
    /// float32, float16, or uint16 as the bits of bfloat16.
    pub fn new(array: &Bound<'py, PyUntypedArray>) -> PyResult<Self> {
        let dtype = array.dtype().to_string();
        if !array.is_c_contiguous() {
            return Err(PyValueError::new_err(
                "expected a C-contiguous array; use numpy.ascontiguousarray",
            ));
        }
        let bits =
            |array: &Bound<'py, PyAny>| Ok::<_, PyErr>(array.cast::<PyArrayDyn<u16>>()?.readonly());
        match dtype.as_str() {
            "float32" => Ok(Self::F32(array.cast::<PyArrayDyn<f32>>()?.readonly())),
            "float16" => bits(&array.call_method1("view", ("uint16",))?).map(Self::F16),
            "uint16" => bits(array.as_any()).map(Self::Bf16),
            other => Err(PyTypeError::new_err(format!(
                "expected float32, float16 or uint16 (bfloat16), got {other}"
            ))),
        }
    }

    pub fn rows(&self) -> PyResult<PlainRows<'_>> {
        Ok(match self {
            Self::F32(array) => PlainRows::F32(array.as_slice()?),
            Self::F16(array) => PlainRows::F16(array.as_slice()?),
            Self::Bf16(array) => PlainRows::Bf16(array.as_slice()?),
        })
    }

    pub fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
        }
    }
}

/// Bytes of numbers.
pub fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: every caller passes integers or floats, which have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The bytes of an array that `Bytes` keeps alive.
struct Lent {
    _array: Py<PyAny>,
    start: *const u8,
    len: usize,
}

// SAFETY: the bytes are only read, and Python's reference counts are kept by any thread.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the array owns `len` bytes from `start` on for as long as `_array` is held.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// The bytes of an array, without a copy.
pub fn lent(array: &PyReadonlyArrayDyn<'_, u8>) -> PyResult<Bytes> {
    let bytes = array.as_slice()?;
    let (start, len) = (bytes.as_ptr(), bytes.len());
    let array = array.as_any().clone().unbind();
    Ok(Bytes::from_owner(Lent {
        _array: array,
        start,
        len,
    }))
}
