//! `arrow_quant` for Python: weight files as `NumPy` views, a streaming writer, quantisation.

mod array;
mod codes;
mod dequantize;
mod error;
mod file;
mod progress;
mod quantize;
mod scales;
mod view;
mod writer;

pub use file::WeightFile;

use pyo3::prelude::*;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WeightFile>()?;
    module.add_class::<writer::WeightWriter>()?;
    module.add_function(wrap_pyfunction!(quantize::quantize_array, module)?)?;
    module.add_function(wrap_pyfunction!(dequantize::dequantize_array, module)?)?;
    module.add_function(wrap_pyfunction!(codes::pack_codes, module)?)?;
    module.add_function(wrap_pyfunction!(codes::unpack_codes, module)?)
}
