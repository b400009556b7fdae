//! Read-only `NumPy` arrays over bytes that something else owns.

use arrow_quant::{Dtype, Layout, QuantTensor, Scales, Tensor, Zero};
use bytes::Bytes;
use numpy::ndarray::{ArrayView, IxDyn};
use numpy::{Element, PyArrayDyn, PyArrayMethods};
use pyo3::prelude::*;

use crate::error::WeightError;

/// Scales of a quantised tensor: [panels, groups, 16], or [n, groups] in row-major files.
pub fn scales<'py>(
    owner: &Bound<'py, PyAny>,
    tensor: &Tensor,
    quant: &QuantTensor,
) -> PyResult<Bound<'py, PyAny>> {
    let shape = scale_shape(tensor, quant);
    match &quant.scales {
        Scales::F16(bytes) => view_of(owner, bytes, &shape, Dtype::F16),
        Scales::F32(bytes) => view_of(owner, bytes, &shape, Dtype::F32),
    }
}

/// Zero points in the order of the scales: uint8 codes or float16 minimums; None for the middle code.
pub fn zero_points<'py>(
    owner: &Bound<'py, PyAny>,
    tensor: &Tensor,
    quant: &QuantTensor,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let shape = scale_shape(tensor, quant);
    match &quant.zero {
        Zero::Middle => Ok(None),
        Zero::U8(bytes) => view::<u8>(owner, bytes, &shape).map(|array| Some(array.into_any())),
        Zero::MinF16(bytes) => view_of(owner, bytes, &shape, Dtype::F16).map(Some),
    }
}

fn scale_shape(tensor: &Tensor, quant: &QuantTensor) -> Vec<usize> {
    let (n, k) = tensor.matrix();
    match quant.layout {
        Layout::RowMajor => vec![n, quant.groups(k)],
        Layout::Panel16 => vec![n.div_ceil(16), quant.groups(k), 16],
    }
}

/// A read-only array over `bytes`, which live as long as `owner`.
pub fn view<'py, T: Element>(
    owner: &Bound<'py, PyAny>,
    bytes: &Bytes,
    shape: &[usize],
) -> PyResult<Bound<'py, PyArrayDyn<T>>> {
    let elements: usize = shape.iter().product();
    let start = if elements == 0 {
        std::ptr::NonNull::<T>::dangling().as_ptr().cast_const()
    } else {
        bytes.as_ptr().cast()
    };
    if elements * size_of::<T>() != bytes.len() || !start.is_aligned() {
        return Err(WeightError::new_err(format!(
            "a view of {shape:?} does not fit {} bytes",
            bytes.len()
        )));
    }
    // SAFETY: length and alignment were just checked, every bit pattern is a value of the numeric
    // types used, and the owner, which the array keeps alive, never drops or changes its bytes.
    let array = unsafe {
        let view = ArrayView::from_shape_ptr(IxDyn(shape), start);
        PyArrayDyn::borrow_from_array(&view, owner.clone())
    };
    array.readwrite().make_nonwriteable();
    Ok(array)
}

/// As [`view`], by the name of the element type; bfloat16 as uint16.
pub fn view_of<'py>(
    owner: &Bound<'py, PyAny>,
    bytes: &Bytes,
    shape: &[usize],
    dtype: Dtype,
) -> PyResult<Bound<'py, PyAny>> {
    match dtype {
        Dtype::F32 => view::<f32>(owner, bytes, shape).map(Bound::into_any),
        Dtype::Bf16 => view::<u16>(owner, bytes, shape).map(Bound::into_any),
        Dtype::F16 => view::<u16>(owner, bytes, shape)?.call_method1("view", ("float16",)),
    }
}
