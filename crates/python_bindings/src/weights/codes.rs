//! Codes, one a byte or packed into panels.

use arrow_quant::{CodeBits, Layout};
use numpy::{PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Packs uint8[n, k] codes into panels.
#[pyfunction]
pub fn pack_codes<'py>(
    py: Python<'py>,
    codes: PyReadonlyArrayDyn<'py, u8>,
    bits: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let bits = bits_of(bits)?;
    let (n, k) = matrix_of(codes.shape())?;
    let codes = checked_codes(&codes, bits)?;
    Ok(numpy::PyArray1::from_vec(py, arrow_quant::pack_panel16(codes, n, k, bits)).into_any())
}

/// Unpacks panels into uint8[n, k] codes.
#[pyfunction]
pub fn unpack_codes<'py>(
    py: Python<'py>,
    packed: PyReadonlyArrayDyn<'py, u8>,
    n: usize,
    k: usize,
    bits: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let bits = bits_of(bits)?;
    let expected = arrow_quant::packed_len(n, k, bits, Layout::Panel16);
    let packed = packed.as_slice()?;
    if expected != Some(packed.len()) {
        let expected = expected.map_or("fewer rows and columns".to_owned(), |len| {
            format!("{len} bytes")
        });
        let message = format!(
            "packed: expected {expected} for [{n}, {k}], got {}",
            packed.len()
        );
        return Err(PyValueError::new_err(message));
    }
    let codes = arrow_quant::unpack_panel16(packed, n, k, bits);
    Ok(numpy::PyArray1::from_vec(py, codes)
        .reshape([n, k])?
        .into_any())
}

pub fn bits_of(bits: usize) -> PyResult<CodeBits> {
    match bits {
        8 => Ok(CodeBits::Int8),
        4 => Ok(CodeBits::Int4),
        2 => Ok(CodeBits::Int2),
        other => Err(PyValueError::new_err(format!(
            "bits: expected 8, 4 or 2, got {other}"
        ))),
    }
}

pub fn matrix_of(shape: &[usize]) -> PyResult<(usize, usize)> {
    match shape {
        [n, rest @ ..] if !rest.is_empty() => Ok((*n, rest.iter().product())),
        _ => Err(PyValueError::new_err(format!(
            "expected at least two axes to quantise, got shape {shape:?}"
        ))),
    }
}

/// The codes, all of which the width can hold.
pub fn checked_codes<'a>(
    codes: &'a PyReadonlyArrayDyn<'_, u8>,
    bits: CodeBits,
) -> PyResult<&'a [u8]> {
    let codes = codes.as_slice()?;
    if codes.iter().any(|&code| usize::from(code) >= bits.levels()) {
        return Err(PyValueError::new_err(format!(
            "codes: expected values below {}",
            bits.levels()
        )));
    }
    Ok(codes)
}
