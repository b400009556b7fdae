use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_quant::{Dtype, Tensor, TensorData};
use bytes::Bytes;
use cpu_inference::{ModelConfig, Pooling, Sequences};
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray1,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::adapter::{Adapter, shared};
use super::{matrix, raise, watched};
use crate::error::WeightError;
use crate::kernels::active_isa;
use crate::weights::WeightFile;

#[pyclass(module = "ai_os_diffusion._native", frozen)]
pub struct Model {
    pub inner: Arc<cpu_inference::Model>,
}

type Ids<'py> = PyReadonlyArray1<'py, i32>;
type Offsets<'py> = PyReadonlyArray1<'py, i64>;
type Matrix<'py> = Bound<'py, PyArray2<f32>>;

#[pymethods]
impl Model {
    #[new]
    fn new(
        py: Python,
        weights: &Bound<'_, PyAny>,
        metadata_json: &str,
        num_threads: usize,
    ) -> PyResult<Self> {
        active_isa()?;
        let config = ModelConfig::from_json(metadata_json).map_err(|fault| raise(&fault))?;
        let load = |tensors: &[Tensor]| {
            py.detach(|| cpu_inference::Model::load(config, tensors, num_threads))
                .map_err(|fault| raise(&fault))
        };
        let model = match weights.cast::<WeightFile>() {
            Ok(file) => load(file.get().file.tensors())?,
            Err(_) => load(&plain_tensors(weights.cast::<PyDict>()?)?)?,
        };
        Ok(Self {
            inner: Arc::new(model),
        })
    }

    #[getter]
    fn dimension(&self) -> usize {
        self.inner.config().hidden_size
    }

    #[getter]
    fn num_threads(&self) -> usize {
        self.inner.threads()
    }

    fn limit_prefixes(&self, size_bytes: usize) {
        self.inner.limit_prefixes(size_bytes);
    }

    fn prefix_stats(&self) -> BTreeMap<&'static str, u64> {
        let stats = self.inner.prefix_stats();
        BTreeMap::from([
            ("size_bytes", stats.size_bytes as u64),
            ("limit_bytes", stats.limit_bytes as u64),
            ("pages", stats.pages as u64),
            ("reused_tokens", stats.reused_tokens),
            ("dropped_pages", stats.dropped_pages),
        ])
    }

    #[pyo3(signature = (ids, offsets, pooling, normalize, skip=0, adapter=None))]
    #[allow(clippy::too_many_arguments)] // What Python passes, by name.
    fn embed<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        offsets: Offsets<'py>,
        pooling: &str,
        normalize: bool,
        skip: usize,
        adapter: Option<&Adapter>,
    ) -> PyResult<Matrix<'py>> {
        let pooling = Pooling::parse(pooling).map_err(|fault| raise(&fault))?;
        let sequences = Sequences {
            adapter: shared(adapter),
            ..Sequences::from((ids.as_slice()?, offsets.as_slice()?))
        };
        let vectors = watched(py, |watch| {
            self.inner.embed(sequences, pooling, skip, normalize, watch)
        })?;
        matrix(py, vectors, self.inner.config().hidden_size)
    }

    #[pyo3(signature = (ids, offsets, adapter=None))]
    fn hidden_states<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        offsets: Offsets<'py>,
        adapter: Option<&Adapter>,
    ) -> PyResult<Matrix<'py>> {
        let sequences = Sequences {
            adapter: shared(adapter),
            ..Sequences::from((ids.as_slice()?, offsets.as_slice()?))
        };
        let states = watched(py, |watch| self.inner.hidden_states(sequences, watch))?;
        matrix(py, states, self.inner.config().hidden_size)
    }

    fn head_scores<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        offsets: Offsets<'py>,
        types: PyReadonlyArray1<'py, u8>,
        head: &str,
        adapter: &Adapter,
    ) -> PyResult<Matrix<'py>> {
        let sequences = Sequences {
            types: types.as_slice()?,
            adapter: Some(&adapter.inner),
            ..Sequences::from((ids.as_slice()?, offsets.as_slice()?))
        };
        let scores = watched(py, |watch| self.inner.head_scores(sequences, head, watch))?;
        let outputs = scores.len() / sequences.ids.len().max(1);
        matrix(py, scores, outputs.max(1))
    }

    fn class_scores<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        offsets: Offsets<'py>,
        types: PyReadonlyArray1<'py, u8>,
        pooling: &str,
        adapter: Option<&Adapter>,
    ) -> PyResult<Matrix<'py>> {
        let pooling = Pooling::parse(pooling).map_err(|fault| raise(&fault))?;
        let sequences = Sequences {
            types: types.as_slice()?,
            adapter: shared(adapter),
            ..Sequences::from((ids.as_slice()?, offsets.as_slice()?))
        };
        let scores = watched(py, |watch| {
            self.inner.class_scores(sequences, pooling, watch)
        })?;
        matrix(py, scores, self.inner.config().num_labels)
    }

    #[pyo3(signature = (ids, adapter=None))]
    fn logits<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        adapter: Option<&Adapter>,
    ) -> PyResult<Matrix<'py>> {
        let ids = ids.as_slice()?;
        let logits = watched(py, |watch| self.inner.logits(ids, shared(adapter), watch))?;
        matrix(py, logits, self.inner.config().vocab_size)
    }

    #[pyo3(signature = (ids, first, adapter=None))]
    fn token_nll<'py>(
        &self,
        py: Python<'py>,
        ids: Ids<'py>,
        first: usize,
        adapter: Option<&Adapter>,
    ) -> PyResult<Bound<'py, PyArray1<f32>>> {
        let ids = ids.as_slice()?;
        let losses = watched(py, |watch| {
            self.inner.token_nll(ids, first, shared(adapter), watch)
        })?;
        Ok(losses.into_pyarray(py))
    }
}

/// Copies a dictionary of float32 arrays.
pub(crate) fn plain_tensors(arrays: &Bound<'_, PyDict>) -> PyResult<Vec<Tensor>> {
    let copy = |(name, array): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let name: String = name.extract()?;
        let wrong = || {
            WeightError::new_err(format!(
                "tensor {name:?}: expected a contiguous array of float32"
            ))
        };
        let array = array.cast::<PyArrayDyn<f32>>().map_err(|_| wrong())?;
        let numbers = array.to_vec().map_err(|_| wrong())?;
        let data: Vec<u8> = numbers.into_iter().flat_map(f32::to_ne_bytes).collect();
        let shape = array.shape().to_vec();
        Ok(Tensor {
            name,
            shape,
            data: TensorData::Plain {
                dtype: Dtype::F32,
                data: Bytes::from(data),
            },
        })
    };
    arrays.iter().map(copy).collect()
}
