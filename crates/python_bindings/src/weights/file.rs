//! `_native.WeightFile`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_quant::{Layout, QuantTensor, Scales, Tensor, TensorData, Zero};
use numpy::{PyArrayMethods, PyUntypedArray};
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::dequantize::dequantized;
use super::error::raise;
use super::progress::watched;
use super::view::{scales, view, view_of, zero_points};
use crate::error::WeightError;

/// An open weight file; its arrays are read-only views that keep it mapped.
#[pyclass(frozen, module = "ai_os_diffusion._native")]
pub struct WeightFile {
    pub file: arrow_quant::WeightFile,
}

#[pymethods]
impl WeightFile {
    #[new]
    fn new(py: Python, path: PathBuf) -> PyResult<Self> {
        py.detach(|| arrow_quant::WeightFile::open(path))
            .map(|file| Self { file })
            .map_err(raise)
    }

    #[getter]
    fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    #[getter]
    fn schema_version(&self) -> u8 {
        self.file.schema_version()
    }

    #[getter]
    fn metadata(&self) -> BTreeMap<String, String> {
        self.file.metadata().clone()
    }

    #[getter]
    fn names(&self) -> Vec<&str> {
        self.file
            .tensors()
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect()
    }

    /// Of all tensors, by name, in the order of the file.
    #[getter]
    fn shapes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shapes = PyDict::new(py);
        for tensor in self.file.tensors() {
            shapes.set_item(&tensor.name, PyTuple::new(py, &tensor.shape)?)?;
        }
        Ok(shapes)
    }

    #[getter]
    fn zero_copy(&self) -> bool {
        self.file.is_zero_copy()
    }

    #[getter]
    fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn info<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
        let tensor = self.tensor(name)?;
        let info = PyDict::new(py);
        info.set_item("name", name)?;
        info.set_item("shape", PyTuple::new(py, &tensor.shape)?)?;
        info.set_item("num_params", tensor.num_params())?;
        info.set_item("size_bytes", tensor.size_bytes())?;
        match &tensor.data {
            TensorData::Plain { dtype, .. } => {
                info.set_item("dtype", dtype.name())?;
                info.set_item("quant_type", py.None())?;
            }
            TensorData::Quant(quant) => {
                info.set_item("dtype", "float32")?;
                info.set_item("quant_type", format!("int{}", quant.bits.width()))?;
                info.set_item("group_size", quant.group_size)?;
                info.set_item(
                    "packing",
                    if quant.layout == Layout::Panel16 {
                        "panel16"
                    } else {
                        "row_major"
                    },
                )?;
                info.set_item(
                    "scale_dtype",
                    if matches!(quant.scales, Scales::F16(_)) {
                        "float16"
                    } else {
                        "float32"
                    },
                )?;
                let zero = match quant.zero {
                    Zero::Middle => "middle",
                    Zero::U8(_) => "uint8",
                    Zero::MinF16(_) => "minimum_float16",
                };
                info.set_item("zero_point", zero)?;
            }
        }
        Ok(info)
    }

    /// A plain tensor; bfloat16 as the uint16 of its bits.
    fn plain<'py>(this: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let tensor = this.get().tensor(name)?;
        let TensorData::Plain { dtype, data } = &tensor.data else {
            return Err(WeightError::new_err(format!(
                "tensor {name:?} is quantised; expected a plain one, use dequantize()"
            )));
        };
        view_of(this.as_any(), data, &tensor.shape, *dtype)
    }

    /// Packed codes of a quantised tensor, uint8.
    fn codes<'py>(this: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (_, quant) = this.get().quant(name)?;
        view::<u8>(this.as_any(), &quant.codes, &[quant.codes.len()]).map(Bound::into_any)
    }

    /// Codes of a quantised tensor, one a byte: uint8[n, k], a copy.
    fn unpacked_codes<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (tensor, _) = self.quant(name)?;
        let codes = py.detach(|| tensor.codes()).unwrap_or_default();
        let (n, k) = tensor.matrix();
        Ok(numpy::PyArray1::from_vec(py, codes)
            .reshape([n, k])?
            .into_any())
    }

    /// Scales of a quantised tensor: [panels, groups, 16], or [n, groups] in row-major files.
    fn scales<'py>(this: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (tensor, quant) = this.get().quant(name)?;
        scales(this.as_any(), tensor, quant)
    }

    /// Zero points in the order of the scales: uint8 codes or float16 minimums; None for the middle code.
    fn zero_points<'py>(
        this: &Bound<'py, Self>,
        name: &str,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (tensor, quant) = this.get().quant(name)?;
        zero_points(this.as_any(), tensor, quant)
    }

    /// Any tensor in single precision, in its own shape; a copy, in `out` when given.
    #[pyo3(signature = (name, out=None))]
    fn dequantize<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        out: Option<Bound<'py, PyUntypedArray>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        dequantized(py, self.tensor(name)?, out)
    }

    /// Compares the whole content with its checksums; returns how many tensors carry one.
    #[pyo3(signature = (progress=None))]
    fn verify(&self, py: Python, progress: Option<Py<PyAny>>) -> PyResult<usize> {
        watched(py, progress, |watch| self.file.verify(watch))
    }

    fn __len__(&self) -> usize {
        self.file.tensors().len()
    }

    fn __repr__(&self) -> String {
        let file = &self.file;
        format!(
            "WeightFile({}, schema V{}, {} tensors)",
            file.path().display(),
            file.schema_version(),
            file.tensors().len()
        )
    }
}

impl WeightFile {
    fn tensor(&self, name: &str) -> PyResult<&Tensor> {
        self.file
            .tensor(name)
            .ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn quant(&self, name: &str) -> PyResult<(&Tensor, &QuantTensor)> {
        let tensor = self.tensor(name)?;
        match &tensor.data {
            TensorData::Quant(quant) => Ok((tensor, quant)),
            TensorData::Plain { dtype, .. } => Err(WeightError::new_err(format!(
                "tensor {name:?} is {}; expected a quantised one, use plain()",
                dtype.name()
            ))),
        }
    }
}
