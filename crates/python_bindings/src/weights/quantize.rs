//! Weights rounded to few bits.

use arrow_quant::{Grid, Quantization, Tensor, TensorData};
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::array::Weights;
use super::codes::{bits_of, matrix_of};
use super::progress::watched;
use super::view::{scales, view, zero_points};

type Quantized<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyAny>>,
);

/// Rounds [n, k] weights to the nearest levels: (packed codes, scales, zero points or None).
#[pyfunction]
#[pyo3(signature = (array, bits, group_size=0, grid="symmetric", progress=None))]
pub fn quantize_array<'py>(
    py: Python<'py>,
    array: &Bound<'py, PyUntypedArray>,
    bits: usize,
    group_size: usize,
    grid: &str,
    progress: Option<Py<PyAny>>,
) -> PyResult<Quantized<'py>> {
    let how = quantization(bits, group_size, grid)?;
    let weights = Weights::new(array)?;
    let (n, k) = matrix_of(array.shape())?;
    let rows = weights.rows()?;
    let quant = watched(py, progress, |watch| {
        arrow_quant::quantize(rows, n, k, how, |done| watch(done as u64))
    })?;
    let tensor = Tensor {
        name: String::new(),
        shape: vec![n, k],
        data: TensorData::Quant(quant.clone()),
    };
    let owner = Bound::new(
        py,
        Buffers {
            _tensor: tensor.clone(),
        },
    )?
    .into_any();
    Ok((
        view::<u8>(&owner, &quant.codes, &[quant.codes.len()])?.into_any(),
        scales(&owner, &tensor, &quant)?,
        zero_points(&owner, &tensor, &quant)?,
    ))
}

/// Keeps the buffers of a quantised array alive under its views.
#[pyclass(frozen, module = "ai_os_diffusion._native")]
struct Buffers {
    _tensor: Tensor,
}

pub fn quantization(bits: usize, group_size: usize, grid: &str) -> PyResult<Quantization> {
    let grid = match grid {
        "symmetric" => Grid::Symmetric,
        "asymmetric" => Grid::Asymmetric,
        "minimum" => Grid::Minimum,
        other => {
            let message = format!(
                "grid: expected \"symmetric\", \"asymmetric\" or \"minimum\", got {other:?}"
            );
            return Err(PyValueError::new_err(message));
        }
    };
    Ok(Quantization {
        bits: bits_of(bits)?,
        group_size,
        grid,
    })
}
