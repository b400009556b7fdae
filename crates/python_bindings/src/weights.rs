//! `arrow_quant` for Python: weight files as `NumPy` views, a streaming writer, quantisation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_quant::{
    Bits, Dtype, Grid, Layout, Memory, QuantTensor, Quantization, Rows, Scales, Tensor, TensorData,
    WeightFileError, Zero,
};
use bytes::Bytes;
use numpy::ndarray::{ArrayView, IxDyn};
use numpy::{
    Element, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error::WeightError;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WeightFile>()?;
    module.add_class::<WeightWriter>()?;
    module.add_function(wrap_pyfunction!(quantize_array, module)?)?;
    module.add_function(wrap_pyfunction!(dequantize_array, module)?)?;
    module.add_function(wrap_pyfunction!(pack_codes, module)?)?;
    module.add_function(wrap_pyfunction!(unpack_codes, module)?)?;
    Ok(())
}

fn raise(error: WeightFileError) -> PyErr {
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

/// The system's words without Rust's "(os error 2)".
fn os_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

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
        let shape = scale_shape(tensor, quant);
        match &quant.scales {
            Scales::F16(bytes) => view_of(this.as_any(), bytes, &shape, Dtype::F16),
            Scales::F32(bytes) => view_of(this.as_any(), bytes, &shape, Dtype::F32),
        }
    }

    /// Zero points in the order of the scales: uint8 codes or float16 minimums; None for the middle code.
    fn zero_points<'py>(
        this: &Bound<'py, Self>,
        name: &str,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (tensor, quant) = this.get().quant(name)?;
        let shape = scale_shape(tensor, quant);
        match &quant.zero {
            Zero::Middle => Ok(None),
            Zero::U8(bytes) => {
                view::<u8>(this.as_any(), bytes, &shape).map(|array| Some(array.into_any()))
            }
            Zero::MinF16(bytes) => view_of(this.as_any(), bytes, &shape, Dtype::F16).map(Some),
        }
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

fn scale_shape(tensor: &Tensor, quant: &QuantTensor) -> Vec<usize> {
    let (n, k) = tensor.matrix();
    match quant.layout {
        Layout::RowMajor => vec![n, quant.groups(k)],
        Layout::Panel16 => vec![n.div_ceil(16), quant.groups(k), 16],
    }
}

/// A read-only array over `bytes`, which live as long as `owner`.
fn view<'py, T: Element>(
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
fn view_of<'py>(
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

/// The weights in `out`, or in a new array. `NumPy` allocates it, for it asks for huge pages.
fn dequantized<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    out: Option<Bound<'py, PyUntypedArray>>,
) -> PyResult<Bound<'py, PyAny>> {
    let Some(out) = out else {
        let array = PyArrayDyn::<f32>::zeros(py, IxDyn(&tensor.shape), false);
        // SAFETY: the array was just made, so nobody else sees it.
        let values = unsafe { array.as_slice_mut()? };
        py.detach(|| tensor.dequantize_into(values, Memory::New));
        return Ok(array.into_any());
    };
    let expected = || {
        format!(
            "out: expected a writable C-contiguous float32 array of shape {:?}",
            tensor.shape
        )
    };
    let array = out
        .cast::<PyArrayDyn<f32>>()
        .map_err(|_| PyTypeError::new_err(format!("{}, got {}", expected(), out.dtype())))?;
    if out.shape() != tensor.shape {
        return Err(PyValueError::new_err(format!(
            "{}, got shape {:?}",
            expected(),
            out.shape()
        )));
    }
    if !out.is_c_contiguous() {
        return Err(PyValueError::new_err(format!(
            "{}, got strides",
            expected()
        )));
    }
    let mut writable = array
        .try_readwrite()
        .map_err(|error| PyValueError::new_err(format!("{}: {error}", expected())))?;
    let values = writable
        .as_slice_mut()
        .map_err(|_| PyValueError::new_err(format!("{}, got strides", expected())))?;
    py.detach(|| tensor.dequantize_into(values, Memory::Reused));
    drop(writable);
    Ok(out.into_any())
}

/// Runs `work` without the GIL. The function it is given reports progress to Python and returns
/// whether to go on; Ctrl-C or an exception of the callback stops the work and is raised.
fn watched<T: Send>(
    py: Python,
    progress: Option<Py<PyAny>>,
    work: impl FnOnce(&mut (dyn FnMut(u64) -> bool + Send)) -> Result<T, WeightFileError> + Send,
) -> PyResult<T> {
    let mut raised = None;
    let result = py.detach(|| {
        work(&mut |done| {
            let seen = Python::attach(|py| {
                py.check_signals()?;
                progress
                    .as_ref()
                    .map_or(Ok(()), |progress| progress.call1(py, (done,)).map(drop))
            });
            raised = seen.err();
            raised.is_none()
        })
    });
    match raised {
        Some(error) => Err(error),
        None => result.map_err(raise),
    }
}

/// A contiguous `NumPy` array of weights.
enum Weights<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, u16>),
    Bf16(PyReadonlyArrayDyn<'py, u16>),
}

impl<'py> Weights<'py> {
    /// float32, float16, or uint16 as the bits of bfloat16.
    fn new(array: &Bound<'py, PyUntypedArray>) -> PyResult<Self> {
        let dtype = array.dtype().to_string();
        if !array.is_c_contiguous() {
            return Err(PyValueError::new_err(
                "expected a C-contiguous array; use numpy.ascontiguousarray",
            ));
        }
        let bits =
            |array: &Bound<'py, PyAny>| Ok::<_, PyErr>(array.cast::<PyArrayDyn<u16>>()?.readonly());
        match dtype.as_str() {
            "float32" => Ok(Self::F32(array.cast::<PyArrayDyn<f32>>()?.readonly())),
            "float16" => bits(&array.call_method1("view", ("uint16",))?).map(Self::F16),
            "uint16" => bits(array.as_any()).map(Self::Bf16),
            other => Err(PyTypeError::new_err(format!(
                "expected float32, float16 or uint16 (bfloat16), got {other}"
            ))),
        }
    }

    fn rows(&self) -> PyResult<Rows<'_>> {
        Ok(match self {
            Self::F32(array) => Rows::F32(array.as_slice()?),
            Self::F16(array) => Rows::F16(array.as_slice()?),
            Self::Bf16(array) => Rows::Bf16(array.as_slice()?),
        })
    }

    fn dtype(&self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::F16(_) => Dtype::F16,
            Self::Bf16(_) => Dtype::Bf16,
        }
    }
}

/// Bytes of numbers.
fn bytes_of<T: Element>(values: &[T]) -> &[u8] {
    // SAFETY: every caller passes integers or floats, which have no padding.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

fn bits_of(bits: usize) -> PyResult<Bits> {
    match bits {
        8 => Ok(Bits::Int8),
        4 => Ok(Bits::Int4),
        2 => Ok(Bits::Int2),
        other => Err(PyValueError::new_err(format!(
            "bits: expected 8, 4 or 2, got {other}"
        ))),
    }
}

fn quantization(bits: usize, group_size: usize, grid: &str) -> PyResult<Quantization> {
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

fn matrix_of(shape: &[usize]) -> PyResult<(usize, usize)> {
    match shape {
        [n, rest @ ..] if !rest.is_empty() => Ok((*n, rest.iter().product())),
        _ => Err(PyValueError::new_err(format!(
            "expected at least two axes to quantise, got shape {shape:?}"
        ))),
    }
}

/// Streams tensors into a weight file that appears whole, by `finish`, or not at all.
#[pyclass(module = "ai_os_diffusion._native")]
pub struct WeightWriter {
    writer: Option<arrow_quant::WeightWriter>,
}

#[pymethods]
impl WeightWriter {
    #[new]
    #[pyo3(signature = (path, metadata=BTreeMap::new(), schema_version=2))]
    fn new(
        path: PathBuf,
        metadata: BTreeMap<String, String>,
        schema_version: u8,
    ) -> PyResult<Self> {
        let writer =
            arrow_quant::WeightWriter::create(&path, schema_version, metadata).map_err(raise)?;
        Ok(Self {
            writer: Some(writer),
        })
    }

    /// Adds float32, float16, or bfloat16 as uint16.
    fn add_plain(
        &mut self,
        py: Python,
        name: &str,
        array: &Bound<'_, PyUntypedArray>,
    ) -> PyResult<()> {
        let weights = Weights::new(array)?;
        let shape = array.shape().to_vec();
        let (rows, dtype) = (weights.rows()?, weights.dtype());
        let writer = self.writer()?;
        let bytes = match rows {
            Rows::F32(values) => bytes_of(values),
            Rows::F16(values) | Rows::Bf16(values) => bytes_of(values),
        };
        py.detach(|| writer.add_plain(name, &shape, dtype, bytes))
            .map_err(raise)
    }

    /// Quantises an array as `quantize_array` does, and adds it.
    #[pyo3(signature = (name, array, bits, group_size=0, grid="symmetric", progress=None))]
    #[allow(clippy::too_many_arguments)]
    fn add_quantized(
        &mut self,
        py: Python,
        name: &str,
        array: &Bound<'_, PyUntypedArray>,
        bits: usize,
        group_size: usize,
        grid: &str,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let how = quantization(bits, group_size, grid)?;
        let weights = Weights::new(array)?;
        let shape = array.shape().to_vec();
        let (n, k) = matrix_of(&shape)?;
        let rows = weights.rows()?;
        let writer = self.writer()?;
        watched(py, progress, |watch| {
            let quant = arrow_quant::quantize(rows, n, k, how, |done| watch(done as u64))?;
            writer.add(&Tensor {
                name: name.to_owned(),
                shape,
                data: TensorData::Quant(quant),
            })
        })
        .map_err(|error| named(py, name, error))
    }

    /// Packs and adds codes that another quantiser chose.
    ///
    /// `codes` is uint8[n, k], `scales` float16[n, groups] or float32, `zero_points` None, uint8 or float16 minimums.
    #[pyo3(signature = (name, codes, scales, zero_points, bits, group_size))]
    #[allow(clippy::too_many_arguments)]
    fn add_codes(
        &mut self,
        py: Python,
        name: &str,
        codes: PyReadonlyArrayDyn<u8>,
        scales: &Bound<'_, PyUntypedArray>,
        zero_points: Option<&Bound<'_, PyUntypedArray>>,
        bits: usize,
        group_size: usize,
    ) -> PyResult<()> {
        let bits = bits_of(bits)?;
        let shape = codes.shape().to_vec();
        let (n, k) = matrix_of(&shape)?;
        let codes = codes.as_slice()?;
        if codes.iter().any(|&code| usize::from(code) >= bits.levels()) {
            return Err(PyValueError::new_err(format!(
                "codes: expected values below {}",
                bits.levels()
            )));
        }
        let groups = if group_size == 0 {
            1
        } else {
            k.div_ceil(group_size)
        };
        let scales = match Weights::new(scales)? {
            Weights::F32(array) => {
                Scales::F32(panels(bytes_of(array.as_slice()?), n, groups, 4, "scales")?)
            }
            Weights::F16(array) => {
                Scales::F16(panels(bytes_of(array.as_slice()?), n, groups, 2, "scales")?)
            }
            Weights::Bf16(_) => {
                return Err(PyTypeError::new_err(
                    "scales: expected float16 or float32, got uint16",
                ));
            }
        };
        let zero = zero_points.map_or(Ok(Zero::Middle), |array| zero_of(array, n, groups))?;
        let writer = self.writer()?;
        py.detach(|| {
            let codes = arrow_quant::pack_panel16(codes, n, k, bits).into();
            let quant = QuantTensor {
                bits,
                group_size,
                layout: Layout::Panel16,
                codes,
                scales,
                zero,
            };
            writer.add(&Tensor {
                name: name.to_owned(),
                shape,
                data: TensorData::Quant(quant),
            })
        })
        .map_err(raise)
    }

    /// Writes the footer, syncs, renames into place; returns the size in bytes.
    fn finish(&mut self, py: Python) -> PyResult<u64> {
        self.writer()?;
        let writer = self.writer.take();
        py.detach(|| writer.map_or(Ok(0), arrow_quant::WeightWriter::finish))
            .map_err(raise)
    }

    /// Drops what was written. Does nothing after `finish`.
    fn abort(&mut self) {
        self.writer = None;
    }
}

impl WeightWriter {
    fn writer(&mut self) -> PyResult<&mut arrow_quant::WeightWriter> {
        self.writer
            .as_mut()
            .ok_or_else(|| PyValueError::new_err("the writer is finished or aborted"))
    }
}

/// Names the tensor in an error about its values.
fn named(py: Python, name: &str, error: PyErr) -> PyErr {
    if error.is_instance_of::<WeightError>(py) {
        WeightError::new_err(format!("tensor {name:?}: {}", error.value(py)))
    } else {
        error
    }
}

fn zero_of(array: &Bound<'_, PyUntypedArray>, n: usize, groups: usize) -> PyResult<Zero> {
    if let Ok(codes) = array.cast::<PyArrayDyn<u8>>() {
        return Ok(Zero::U8(panels(
            codes.readonly().as_slice()?,
            n,
            groups,
            1,
            "zero_points",
        )?));
    }
    match Weights::new(array)? {
        Weights::F16(array) => Ok(Zero::MinF16(panels(
            bytes_of(array.as_slice()?),
            n,
            groups,
            2,
            "zero_points",
        )?)),
        _ => Err(PyTypeError::new_err(
            "zero_points: expected uint8 or float16",
        )),
    }
}

/// [n, groups] values of `size` bytes as [n / 16, groups, 16], padded with zeros.
fn panels(bytes: &[u8], n: usize, groups: usize, size: usize, what: &str) -> PyResult<Bytes> {
    if bytes.len() != n * groups * size {
        let message = format!(
            "{what}: expected [{n}, {groups}], got {} values",
            bytes.len() / size
        );
        return Err(PyValueError::new_err(message));
    }
    let mut out = vec![0; n.div_ceil(16) * 16 * groups * size];
    for (i, value) in bytes.chunks_exact(size).enumerate() {
        let (row, group) = (i / groups, i % groups);
        let at = ((row / 16 * groups + group) * 16 + row % 16) * size;
        out[at..at + size].copy_from_slice(value);
    }
    Ok(out.into())
}

type Quantized<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyAny>,
    Option<Bound<'py, PyAny>>,
);

/// Rounds [n, k] weights to the nearest levels: (packed codes, scales, zero points or None).
#[pyfunction]
#[pyo3(signature = (array, bits, group_size=0, grid="symmetric", progress=None))]
fn quantize_array<'py>(
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
    let shape = scale_shape(&tensor, &quant);
    let owner = Bound::new(py, Buffers { _tensor: tensor })?.into_any();
    let codes = view::<u8>(&owner, &quant.codes, &[quant.codes.len()])?.into_any();
    let scales = match &quant.scales {
        Scales::F16(bytes) => view_of(&owner, bytes, &shape, Dtype::F16)?,
        Scales::F32(bytes) => view_of(&owner, bytes, &shape, Dtype::F32)?,
    };
    let zero_points = match &quant.zero {
        Zero::Middle => None,
        Zero::U8(bytes) => Some(view::<u8>(&owner, bytes, &shape)?.into_any()),
        Zero::MinF16(bytes) => Some(view_of(&owner, bytes, &shape, Dtype::F16)?),
    };
    Ok((codes, scales, zero_points))
}

/// Keeps the buffers of a quantised array alive under its views.
#[pyclass(frozen, module = "ai_os_diffusion._native")]
struct Buffers {
    _tensor: Tensor,
}

/// The inverse of `quantize_array`: float32[n, k], in `out` when given.
#[pyfunction]
#[pyo3(signature = (codes, scales, zero_points, shape, bits, group_size=0, out=None))]
#[allow(clippy::too_many_arguments)]
fn dequantize_array<'py>(
    py: Python<'py>,
    codes: PyReadonlyArrayDyn<'py, u8>,
    scales: &Bound<'py, PyUntypedArray>,
    zero_points: Option<&Bound<'py, PyUntypedArray>>,
    shape: Vec<usize>,
    bits: usize,
    group_size: usize,
    out: Option<Bound<'py, PyUntypedArray>>,
) -> PyResult<Bound<'py, PyAny>> {
    let bits = bits_of(bits)?;
    let (n, k) = matrix_of(&shape)?;
    let scales = match Weights::new(scales)? {
        Weights::F32(array) => Scales::F32(Bytes::copy_from_slice(bytes_of(array.as_slice()?))),
        Weights::F16(array) => Scales::F16(Bytes::copy_from_slice(bytes_of(array.as_slice()?))),
        Weights::Bf16(_) => {
            return Err(PyTypeError::new_err(
                "scales: expected float16 or float32, got uint16",
            ));
        }
    };
    let zero = match zero_points {
        None => Zero::Middle,
        Some(array) => match array.cast::<PyArrayDyn<u8>>() {
            Ok(codes) => Zero::U8(Bytes::copy_from_slice(codes.readonly().as_slice()?)),
            Err(_) => match Weights::new(array)? {
                Weights::F16(array) => {
                    Zero::MinF16(Bytes::copy_from_slice(bytes_of(array.as_slice()?)))
                }
                _ => {
                    return Err(PyTypeError::new_err(
                        "zero_points: expected uint8 or float16",
                    ));
                }
            },
        },
    };
    let quant = QuantTensor {
        bits,
        group_size,
        layout: Layout::Panel16,
        codes: lent(&codes)?,
        scales,
        zero,
    };
    let tensor = Tensor::new("array", vec![n, k], TensorData::Quant(quant)).map_err(raise)?;
    dequantized(py, &tensor, out)
}

/// The bytes of an array that `Bytes` keeps alive.
struct Lent {
    _array: Py<PyAny>,
    start: *const u8,
    len: usize,
}

// SAFETY: the bytes are only read, and Python's reference counts are kept by any thread.
unsafe impl Send for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the array owns `len` bytes from `start` on for as long as `_array` is held.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

/// The bytes of an array, without a copy.
fn lent(array: &PyReadonlyArrayDyn<'_, u8>) -> PyResult<Bytes> {
    let bytes = array.as_slice()?;
    let (start, len) = (bytes.as_ptr(), bytes.len());
    let array = array.as_any().clone().unbind();
    Ok(Bytes::from_owner(Lent {
        _array: array,
        start,
        len,
    }))
}

/// Packs uint8[n, k] codes into panels.
#[pyfunction]
fn pack_codes<'py>(
    py: Python<'py>,
    codes: PyReadonlyArrayDyn<'py, u8>,
    bits: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let bits = bits_of(bits)?;
    let (n, k) = matrix_of(codes.shape())?;
    let codes = codes.as_slice()?;
    if codes.iter().any(|&code| usize::from(code) >= bits.levels()) {
        return Err(PyValueError::new_err(format!(
            "codes: expected values below {}",
            bits.levels()
        )));
    }
    Ok(numpy::PyArray1::from_vec(py, arrow_quant::pack_panel16(codes, n, k, bits)).into_any())
}

/// Unpacks panels into uint8[n, k] codes.
#[pyfunction]
fn unpack_codes<'py>(
    py: Python<'py>,
    packed: PyReadonlyArrayDyn<'py, u8>,
    n: usize,
    k: usize,
    bits: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let bits = bits_of(bits)?;
    let expected = arrow_quant::packed_len(n, k, bits, Layout::Panel16);
    let packed = packed.as_slice()?;
    if expected != Some(packed.len()) {
        let expected = expected.map_or("fewer rows and columns".to_owned(), |len| {
            format!("{len} bytes")
        });
        let message = format!(
            "packed: expected {expected} for [{n}, {k}], got {}",
            packed.len()
        );
        return Err(PyValueError::new_err(message));
    }
    let codes = arrow_quant::unpack_panel16(packed, n, k, bits);
    Ok(numpy::PyArray1::from_vec(py, codes)
        .reshape([n, k])?
        .into_any())
}
