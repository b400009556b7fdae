use std::sync::Arc;

use cpu_inference::{CachePrecision, SamplingSettings};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use super::model::Model;
use super::{raise, watched};

#[pyclass(module = "ai_os_diffusion._native")]
pub struct Sampler {
    inner: cpu_inference::Sampler,
}

#[pymethods]
impl Sampler {
    #[new]
    #[pyo3(signature = (*, temperature=0.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0, seed=0))]
    fn new(
        temperature: f32,
        top_k: usize,
        top_p: f32,
        min_p: f32,
        repetition_penalty: f32,
        seed: u64,
    ) -> PyResult<Self> {
        let settings = SamplingSettings {
            repetition_penalty,
            temperature,
            top_k,
            top_p,
            min_p,
            seed,
        };
        let inner = cpu_inference::Sampler::new(settings).map_err(|fault| raise(&fault))?;
        Ok(Self { inner })
    }

    fn sample(
        &mut self,
        py: Python,
        logits: PyReadonlyArray1<'_, f32>,
        history: PyReadonlyArray1<'_, u32>,
    ) -> PyResult<(u32, f32)> {
        let (logits, history) = (logits.as_slice()?, history.as_slice()?);
        let choice = py
            .detach(|| self.inner.sample(logits, history))
            .map_err(|fault| raise(&fault))?;
        Ok((choice.id, choice.logprob))
    }
}

#[pyclass(module = "ai_os_diffusion._native")]
pub struct Session {
    inner: cpu_inference::Session,
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (model, max_tokens, half_cache=false))]
    fn new(model: &Model, max_tokens: usize, half_cache: bool) -> PyResult<Self> {
        let precision = if half_cache {
            CachePrecision::F16
        } else {
            CachePrecision::F32
        };
        let inner = cpu_inference::Session::new(Arc::clone(&model.inner), max_tokens, precision)
            .map_err(|fault| raise(&fault))?;
        Ok(Self { inner })
    }

    fn prefill(&mut self, py: Python, ids: PyReadonlyArray1<'_, i32>) -> PyResult<()> {
        let ids = ids.as_slice()?;
        watched(py, |watch| self.inner.extend(ids, watch))
    }

    fn push(&mut self, py: Python, id: i32) -> PyResult<()> {
        watched(py, |watch| self.inner.extend(&[id], watch))
    }

    fn sample(&self, py: Python, sampler: &mut Sampler) -> PyResult<(u32, f32)> {
        let choice = py
            .detach(|| self.inner.sample(&mut sampler.inner))
            .map_err(|fault| raise(&fault))?;
        Ok((choice.id, choice.logprob))
    }

    #[pyo3(signature = (count, sampler=None))]
    fn generate<'py>(
        &mut self,
        py: Python<'py>,
        count: usize,
        sampler: Option<&mut Sampler>,
    ) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let mut greedy = None;
        let sampler = match sampler {
            Some(sampler) => &mut sampler.inner,
            None => greedy.insert(cpu_inference::Sampler::greedy()),
        };
        let ids = watched(py, |watch| {
            let mut ids = Vec::with_capacity(count.min(self.inner.max_tokens()));
            for _ in 0..count {
                let choice = self.inner.sample(sampler)?;
                self.inner.extend(&[choice.id as i32], watch)?;
                ids.push(choice.id as i32);
            }
            Ok(ids)
        })?;
        Ok(ids.into_pyarray(py))
    }

    fn truncate(&mut self, length: usize) {
        self.inner.truncate(length);
    }

    fn logits<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.inner.logits())
    }

    fn __len__(&self) -> usize {
        self.inner.tokens().len()
    }

    #[getter]
    fn max_tokens(&self) -> usize {
        self.inner.max_tokens()
    }

    #[getter]
    fn cache_bytes(&self) -> usize {
        self.inner.cache_bytes()
    }
}
