//! Errors of weight files as Python's.

use arrow_quant::WeightFileError;
use pyo3::prelude::*;

use crate::error::WeightError;

pub fn raise(error: WeightFileError) -> PyErr {
    // Operating system errors keep their own classes (FileNotFoundError, PermissionError, ...).
    match error {
        WeightFileError::File { path, problem } => match *problem {
            WeightFileError::Io(error) if error.raw_os_error().is_some() => {
                let code = error.raw_os_error().unwrap_or_default();
                pyo3::exceptions::PyOSError::new_err((
                    code,
                    os_message(&error),
                    path.display().to_string(),
                ))
            }
            problem => WeightError::new_err(format!("{}: {problem}", path.display())),
        },
        other => WeightError::new_err(other.to_string()),
    }
}

/// Names the tensor in an error about its values.
pub fn named(py: Python, name: &str, error: PyErr) -> PyErr {
    if error.is_instance_of::<WeightError>(py) {
        WeightError::new_err(format!("tensor {name:?}: {}", error.value(py)))
    } else {
        error
    }
}

/// The system's words without Rust's "(os error 2)".
fn os_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}
