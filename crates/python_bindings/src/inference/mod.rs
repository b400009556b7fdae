//! `_native.Model`, `_native.Session` and `_native.Sampler`.

// Arguments of a Python call arrive owned.
#![allow(clippy::needless_pass_by_value)]

mod adapter;
mod architecture;
mod model;
mod session;

pub(crate) use model::plain_tensors;

use cpu_inference::{InferenceError as Fault, Watch};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2};
use pyo3::prelude::*;

use crate::error::{
    CardError, InferenceError, ModelLoadError, SamplingError, ShapeError, WeightError,
};

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<adapter::Adapter>()?;
    module.add_class::<model::Model>()?;
    module.add_class::<session::Sampler>()?;
    module.add_class::<session::Session>()?;
    module.add_function(wrap_pyfunction!(architecture::families_json, module)?)?;
    module.add_function(wrap_pyfunction!(architecture::layout_json, module)?)?;
    module.add_function(wrap_pyfunction!(architecture::tensors_of_model, module)?)
}

pub(crate) fn raise(fault: &Fault) -> PyErr {
    let message = fault.to_string();
    match fault {
        Fault::ConfigSyntax { .. }
        | Fault::ConfigValue { .. }
        | Fault::UnsupportedArchitecture { .. }
        | Fault::Unsupported { .. } => ModelLoadError::new_err(message),
        Fault::MissingTensor { .. }
        | Fault::TensorShape { .. }
        | Fault::TensorBytes { .. }
        | Fault::TensorLayout { .. }
        | Fault::TensorQuantised { .. } => WeightError::new_err(message),
        Fault::Offsets { .. } | Fault::Pass { .. } => ShapeError::new_err(message),
        Fault::Card { .. }
        | Fault::ForeignAdapter
        | Fault::MergedAdapter
        | Fault::NoHead { .. } => CardError::new_err(message),
        Fault::Sampling { .. } => SamplingError::new_err(message),
        _ => InferenceError::new_err(message),
    }
}

/// Runs `work` with the GIL released; its watch looks at Ctrl-C.
fn watched<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(Watch<'_>) -> cpu_inference::Result<T> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let result = py.detach(|| {
        work(&mut || match Python::attach(|py| py.check_signals()) {
            Ok(()) => true,
            Err(error) => {
                raised = Some(error);
                false
            }
        })
    });
    match raised {
        Some(error) => Err(error),
        None => result.map_err(|fault| raise(&fault)),
    }
}

/// `[rows, width]`.
fn matrix(py: Python<'_>, numbers: Vec<f32>, width: usize) -> PyResult<Bound<'_, PyArray2<f32>>> {
    let rows = numbers.len() / width;
    let array = Array2::from_shape_vec((rows, width), numbers)
        .map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))?;
    Ok(array.into_pyarray(py))
}
