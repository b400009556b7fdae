//! Weights in single precision.

use arrow_quant::{Layout, Memory, QuantTensor, Tensor, TensorData};
use bytes::Bytes;
use numpy::ndarray::IxDyn;
use numpy::{
    PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::array::lent;
use super::codes::{bits_of, matrix_of};
use super::error::raise;
use super::scales::{scales_of, zero_of};

/// The inverse of `quantize_array`: float32[n, k], in `out` when given.
#[pyfunction]
#[pyo3(signature = (codes, scales, zero_points, shape, bits, group_size=0, out=None))]
#[allow(clippy::too_many_arguments)]
pub fn dequantize_array<'py>(
    py: Python<'py>,
    codes: PyReadonlyArrayDyn<'py, u8>,
    scales: &Bound<'py, PyUntypedArray>,
    zero_points: Option<&Bound<'py, PyUntypedArray>>,
    shape: Vec<usize>,
    bits: usize,
    group_size: usize,
    out: Option<Bound<'py, PyUntypedArray>>,
) -> PyResult<Bound<'py, PyAny>> {
    let bits = bits_of(bits)?;
    let (n, k) = matrix_of(&shape)?;
    let copied = |bytes: &[u8], _size, _what| Ok(Bytes::copy_from_slice(bytes));
    let scales = scales_of(scales, copied)?;
    let zero = zero_of(zero_points, copied)?;
    let quant = QuantTensor {
        bits,
        group_size,
        layout: Layout::Panel16,
        codes: lent(&codes)?,
        scales,
        zero,
    };
    let tensor = Tensor::new("array", vec![n, k], TensorData::Quant(quant)).map_err(raise)?;
    dequantized(py, &tensor, out)
}

/// The weights in `out`, or in a new array. `NumPy` allocates it, for it asks for huge pages.
pub fn dequantized<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    out: Option<Bound<'py, PyUntypedArray>>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(out) = out else {
        let array = PyArrayDyn::<f32>::zeros(py, IxDyn(&tensor.shape), false);
        // SAFETY: the array was just made, so nobody else sees it.
        let values = unsafe { array.as_slice_mut()? };
        py.detach(|| tensor.dequantize_into(values, Memory::New));
        return Ok(array.into_any());
    };
    let expected = || {
        format!(
            "out: expected a writable C-contiguous float32 array of shape {:?}",
            tensor.shape
        )
    };
    let array = out
        .cast::<PyArrayDyn<f32>>()
        .map_err(|_| PyTypeError::new_err(format!("{}, got {}", expected(), out.dtype())))?;
    if out.shape() != tensor.shape {
        return Err(PyValueError::new_err(format!(
            "{}, got shape {:?}",
            expected(),
            out.shape()
        )));
    }
    if !out.is_c_contiguous() {
        return Err(PyValueError::new_err(format!(
            "{}, got strides",
            expected()
        )));
    }
    let mut writable = array
        .try_readwrite()
        .map_err(|error| PyValueError::new_err(format!("{}: {error}", expected())))?;
    let values = writable
        .as_slice_mut()
        .map_err(|_| PyValueError::new_err(format!("{}, got strides", expected())))?;
    py.detach(|| tensor.dequantize_into(values, Memory::Reused));
    drop(writable);
    Ok(out.into_any())
}
