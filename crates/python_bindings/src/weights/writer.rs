//! `_native.WeightWriter`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_quant::{Layout, PlainRows, QuantTensor, Tensor, TensorData};
use kernels::PANEL_ROWS;
use numpy::{PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::array::{Weights, bytes_of};
use super::codes::{bits_of, checked_codes, matrix_of};
use super::error::{named, raise};
use super::progress::watched;
use super::quantize::quantization;
use super::scales::{panels, scales_of, zero_of};

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
            PlainRows::F32(values) => bytes_of(values),
            PlainRows::F16(values) | PlainRows::Bf16(values) => bytes_of(values),
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
            let mut quant = arrow_quant::quantize(rows, n, k, how, |done| watch(done as u64))?;
            if n < PANEL_ROWS {
                quant = quant.row_major(n, k);
            }
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
        let codes = checked_codes(&codes, bits)?;
        let groups = if group_size == 0 {
            1
        } else {
            k.div_ceil(group_size)
        };
        let in_panels = |bytes: &[u8], size, what| panels(bytes, n, groups, size, what);
        let scales = scales_of(scales, in_panels)?;
        let zero = zero_of(zero_points, in_panels)?;
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
