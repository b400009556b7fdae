//! The border: `ai_os_diffusion._native`. It converts, releases the GIL and maps errors; it decides nothing.
// What Python hands over arrives by value.
#![allow(clippy::needless_pass_by_value)]
// `check_signals` is tied to one lifetime of the GIL; only a closure takes any.
#![allow(clippy::redundant_closure_for_method_calls)]

mod encoding;
mod error;
mod html;
mod inference;
mod json;
mod kernels;
mod markdown;
mod sentences;
mod storage;
mod tokenizer;
mod training;
mod weights;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    kernels::register(module)?;
    weights::register(module)?;
    tokenizer::register(module)?;
    inference::register(module)?;
    training::register(module)?;
    encoding::register(module)?;
    html::register(module)?;
    json::register(module)?;
    markdown::register(module)?;
    sentences::register(module)?;
    storage::register(module)
}
