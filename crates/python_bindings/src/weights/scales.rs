//! Scales and zero points that come in, as a quantised tensor holds them.

use arrow_quant::{Scales, Zero};
use bytes::Bytes;
use numpy::{PyArrayDyn, PyArrayMethods, PyUntypedArray};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::array::{Weights, bytes_of};

/// Takes over float16 or float32 scales; `store` is given the bytes, the bytes of one value and the argument's name.
pub fn scales_of(
    array: &Bound<'_, PyUntypedArray>,
    store: impl Fn(&[u8], usize, &'static str) -> PyResult<Bytes>,
) -> PyResult<Scales> {
    match Weights::new(array)? {
        Weights::F32(array) => store(bytes_of(array.as_slice()?), 4, "scales").map(Scales::F32),
        Weights::F16(array) => store(bytes_of(array.as_slice()?), 2, "scales").map(Scales::F16),
        Weights::Bf16(_) => Err(PyTypeError::new_err(
            "scales: expected float16 or float32, got uint16",
        )),
    }
}

/// Takes over zero points as [`scales_of`] does scales: uint8 codes, float16 minimums, or none for the middle code.
pub fn zero_of(
    array: Option<&Bound<'_, PyUntypedArray>>,
    store: impl Fn(&[u8], usize, &'static str) -> PyResult<Bytes>,
) -> PyResult<Zero> {
    let Some(array) = array else {
        return Ok(Zero::Middle);
    };
    if let Ok(codes) = array.cast::<PyArrayDyn<u8>>() {
        return store(codes.readonly().as_slice()?, 1, "zero_points").map(Zero::U8);
    }
    match Weights::new(array)? {
        Weights::F16(array) => {
            store(bytes_of(array.as_slice()?), 2, "zero_points").map(Zero::MinF16)
        }
        _ => Err(PyTypeError::new_err(
            "zero_points: expected uint8 or float16",
        )),
    }
}

/// [n, groups] values of `size` bytes as [n / 16, groups, 16], padded with zeros.
pub fn panels(bytes: &[u8], n: usize, groups: usize, size: usize, what: &str) -> PyResult<Bytes> {
    if bytes.len() != n * groups * size {
        let message = format!(
            "{what}: expected [{n}, {groups}], got {} values",
            bytes.len() / size
        );
        return Err(PyValueError::new_err(message));
    }
    let mut out = vec![0; n.div_ceil(16) * 16 * groups * size];
    for (i, value) in bytes.chunks_exact(size).enumerate() {
        let (row, group) = (i / groups, i % groups);
        let at = ((row / 16 * groups + group) * 16 + row % 16) * size;
        out[at..at + size].copy_from_slice(value);
    }
    Ok(out.into())
}
