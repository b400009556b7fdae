//! Which lines of a text are JSON, for a parser that takes microseconds to say that one is not.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use serde::de::IgnoredAny;

type PyLines<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// The lines of a text, from 0, that may be one JSON value each, and those that are none; blank ones are neither.
#[pyfunction]
fn json_lines<'py>(py: Python<'py>, text: &str) -> PyLines<'py> {
    let (mut values, mut others) = (Vec::new(), Vec::new());
    py.detach(|| {
        for (number, line) in (0..).zip(text.split('\n')) {
            let line = line.trim_matches(is_space);
            if !line.is_empty() {
                let lines = if may_be_json(line) {
                    &mut values
                } else {
                    &mut others
                };
                lines.push(number);
            }
        }
    });
    (values.into_pyarray(py), others.into_pyarray(py))
}

/// What `str.strip` of Python removes: the separators of ASCII too.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// False only where Python's parser, which takes numbers that are none in JSON, refuses a line.
fn may_be_json(line: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(line).is_ok()
        || line.contains("NaN")
        || line.contains("Infinity")
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(json_lines, module)?)
}
