//! What the kernels found on this CPU.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::InferenceError;

/// The CPU features that matter to the kernels, and whether this CPU has them.
#[pyfunction]
fn cpu_features(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let features = PyDict::new(py);
    for (name, present) in kernels::cpu_features() {
        features.set_item(name, present)?;
    }
    Ok(features)
}

/// The instruction set in use; an `AIOS_ISA` that cannot be followed raises `InferenceError`.
#[pyfunction]
pub fn active_isa() -> PyResult<String> {
    kernels::isa_checked()
        .map(|isa| isa.to_string())
        .map_err(|error| InferenceError::new_err(error.to_string()))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(cpu_features, module)?)?;
    module.add_function(wrap_pyfunction!(active_isa, module)?)
}
