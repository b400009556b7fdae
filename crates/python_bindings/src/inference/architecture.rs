use cpu_inference::{Family, Layout, ModelConfig};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::raise;

/// Name, shape, kind, and whether the network cannot do without.
type Tensor = (String, Vec<usize>, &'static str, bool);

#[pyfunction]
pub fn families_json() -> PyResult<String> {
    json(&Family::all())
}

#[pyfunction]
pub fn layout_json(metadata_json: &str) -> PyResult<String> {
    json(&layout(metadata_json)?)
}

#[pyfunction]
pub fn tensors_of_model(metadata_json: &str) -> PyResult<Vec<Tensor>> {
    let tensors = layout(metadata_json)?.tensors().into_iter();
    Ok(tensors
        .map(|tensor| {
            (
                tensor.name,
                tensor.shape,
                tensor.kind.name(),
                tensor.is_needed,
            )
        })
        .collect())
}

fn layout(metadata_json: &str) -> PyResult<Layout> {
    let config = ModelConfig::from_json(metadata_json).map_err(|fault| raise(&fault))?;
    Layout::of(&config).map_err(|fault| raise(&fault))
}

fn json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
