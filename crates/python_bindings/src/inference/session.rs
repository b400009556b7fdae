use std::sync::Arc;

use cpu_inference::{
    Block, CachePrecision, Guidance, InferenceError, PredictionRequest, SamplingSettings,
};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::False;

use super::adapter::Adapter;
use super::model::Model;
use super::{matrix, raise, watched};

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

    #[getter]
    const fn settings(&self) -> (f32, usize, f32, f32, f32) {
        let settings = self.inner.settings();
        (
            settings.temperature,
            settings.top_k,
            settings.top_p,
            settings.min_p,
            settings.repetition_penalty,
        )
    }

    fn draws<'py>(&mut self, py: Python<'py>, count: usize) -> Bound<'py, PyArray1<f64>> {
        let drawn: Vec<f64> = (0..count).map(|_| self.inner.unit()).collect();
        drawn.into_pyarray(py)
    }
}

type Ids<'py> = PyReadonlyArray1<'py, i32>;

/// For some rows, by index, the only tokens that may be chosen.
type Allowed = Vec<(usize, Vec<u32>)>;

/// Ids, confidence and entropy of each row; the most probable ids and their confidence; logits.
type Predictions<'py> = (
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray2<i32>>,
    Bound<'py, PyArray2<f32>>,
    Option<Bound<'py, PyArray2<f32>>>,
);

/// Rows of a block; a negative one is none of it.
fn wanted(rows: &PyReadonlyArray1<'_, i64>) -> PyResult<Vec<usize>> {
    let rows = rows.as_slice()?.iter();
    Ok(rows
        .map(|&row| usize::try_from(row).unwrap_or(usize::MAX))
        .collect())
}

fn slices<'a>(ids: &'a [Ids<'_>]) -> PyResult<Vec<&'a [i32]>> {
    Ok(ids
        .iter()
        .map(|ids| ids.as_slice())
        .collect::<Result<_, _>>()?)
}

/// Objects to be changed, all different.
fn borrowed<'py, T: PyClass<Frozen = False>>(
    objects: &[Bound<'py, T>],
) -> PyResult<Vec<PyRefMut<'py, T>>> {
    Ok(objects
        .iter()
        .map(Bound::try_borrow_mut)
        .collect::<Result<_, _>>()?)
}

fn predictions(
    py: Python<'_>,
    found: cpu_inference::Predictions,
    logits: bool,
) -> PyResult<Predictions<'_>> {
    let count = found.ids.len();
    let to_i32 = |ids: Vec<u32>| -> Vec<i32> { ids.into_iter().map(|id| id as i32).collect() };
    let columns = found.top_ids.len() / count.max(1);
    let vocab = found.logits.len() / count.max(1);
    let logits = logits.then(|| matrix(py, found.logits, vocab.max(1)));
    Ok((
        to_i32(found.ids).into_pyarray(py),
        found.confidence.into_pyarray(py),
        found.entropy.into_pyarray(py),
        Array2::from_shape_vec((count, columns), to_i32(found.top_ids))
            .unwrap_or_default()
            .into_pyarray(py),
        Array2::from_shape_vec((count, columns), found.top_confidence)
            .unwrap_or_default()
            .into_pyarray(py),
        logits.transpose()?,
    ))
}

#[pyclass(module = "ai_os_diffusion._native")]
pub struct Session {
    inner: cpu_inference::Session,
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (model, max_tokens, half_cache=false, adapter=None))]
    fn new(
        model: &Model,
        max_tokens: usize,
        half_cache: bool,
        adapter: Option<&Adapter>,
    ) -> PyResult<Self> {
        let precision = if half_cache {
            CachePrecision::F16
        } else {
            CachePrecision::F32
        };
        let mut inner =
            cpu_inference::Session::new(Arc::clone(&model.inner), max_tokens, precision)
                .map_err(|fault| raise(&fault))?;
        if let Some(adapter) = adapter {
            inner
                .adapt(Arc::clone(&adapter.inner))
                .map_err(|fault| raise(&fault))?;
        }
        Ok(Self { inner })
    }

    #[pyo3(signature = (ids, causal=true))]
    fn prefill(&mut self, py: Python, ids: Ids<'_>, causal: bool) -> PyResult<()> {
        let ids = ids.as_slice()?;
        watched(py, |watch| {
            if causal {
                self.inner.extend(ids, watch)
            } else {
                self.inner.extend_whole(ids, watch)
            }
        })
    }

    #[staticmethod]
    #[pyo3(signature = (sessions, ids, causal=true))]
    fn prefill_all(
        py: Python,
        sessions: Vec<Bound<'_, Session>>,
        ids: Vec<Ids<'_>>,
        causal: bool,
    ) -> PyResult<()> {
        for (cache, session) in sessions.iter().enumerate() {
            if sessions[..cache].iter().any(|other| other.is(session)) {
                return Err(raise(&InferenceError::TwoWriters { cache }));
            }
        }
        let mut sessions = borrowed(&sessions)?;
        let ids = slices(&ids)?;
        let mut sessions: Vec<_> = sessions
            .iter_mut()
            .map(|session| &mut session.inner)
            .collect();
        watched(py, |watch| {
            cpu_inference::extend_all(&mut sessions, &ids, causal, watch)
        })
    }

    #[pyo3(signature = (ids, rows, sampler=None, *, top_k=0, forbidden=None, logits=false))]
    #[allow(clippy::too_many_arguments)] // What Python passes, by name.
    fn predict<'py>(
        &mut self,
        py: Python<'py>,
        ids: Ids<'py>,
        rows: PyReadonlyArray1<'py, i64>,
        sampler: Option<&mut Sampler>,
        top_k: usize,
        forbidden: Option<Vec<u32>>,
        logits: bool,
    ) -> PyResult<Predictions<'py>> {
        let ids = ids.as_slice()?;
        let wanted = wanted(&rows)?;
        let forbidden = forbidden.unwrap_or_default();
        let request = PredictionRequest {
            top_k,
            forbidden: &forbidden,
            logits,
        };
        let mut greedy = None;
        let sampler = match sampler {
            Some(sampler) => &mut sampler.inner,
            None => greedy.insert(cpu_inference::Sampler::greedy()),
        };
        let found = py
            .detach(|| self.inner.predict(ids, &wanted, &request, sampler))
            .map_err(|fault| raise(&fault))?;
        predictions(py, found, logits)
    }

    #[staticmethod]
    #[pyo3(signature = (sessions, ids, rows, samplers, *, top_k=0, forbidden=None, allowed=None, guidance=None, places=None, prefix=false))]
    #[allow(clippy::too_many_arguments)] // What Python passes, by name.
    fn predict_all<'py>(
        py: Python<'py>,
        sessions: Vec<Bound<'py, Session>>,
        ids: Vec<Ids<'py>>,
        rows: Vec<PyReadonlyArray1<'py, i64>>,
        samplers: Vec<Bound<'py, Sampler>>,
        top_k: usize,
        forbidden: Option<Vec<u32>>,
        allowed: Option<Vec<Allowed>>,
        guidance: Option<(f32, Vec<Bound<'py, Session>>, Vec<Ids<'py>>)>,
        places: Option<Vec<Option<(Ids<'py>, usize)>>>,
        prefix: bool,
    ) -> PyResult<Vec<Predictions<'py>>> {
        let count = ids.len();
        let allowed = allowed.unwrap_or_else(|| vec![Vec::new(); count]);
        let places = places.unwrap_or_else(|| (0..count).map(|_| None).collect());
        let given = [
            sessions.len(),
            rows.len(),
            samplers.len(),
            allowed.len(),
            places.len(),
        ];
        if given != [count; 5] {
            return Err(raise(&InferenceError::Pass {
                detail: format!(
                    "expected sessions, rows, samplers, allowed tokens and places for {count} blocks, got {given:?}"
                ),
            }));
        }
        let scale = guidance.as_ref().map(|(scale, ..)| *scale);
        let (others, other_ids) =
            guidance.map_or_else(Default::default, |(_, others, ids)| (others, ids));
        for (cache, session) in sessions.iter().chain(&others).enumerate() {
            let mut before = sessions.iter().chain(&others).take(cache);
            if before.any(|other| other.is(session)) {
                return Err(raise(&InferenceError::TwoWriters { cache }));
            }
        }
        let mut sessions = borrowed(&sessions)?;
        let mut others = borrowed(&others)?;
        let mut samplers = borrowed(&samplers)?;
        let (ids, other_ids) = (slices(&ids)?, slices(&other_ids)?);
        let rows = rows.iter().map(wanted).collect::<PyResult<Vec<_>>>()?;
        let places = places
            .iter()
            .map(|place| {
                let Some((positions, keep)) = place else {
                    return Ok((&[][..], 0));
                };
                Ok((positions.as_slice()?, *keep))
            })
            .collect::<PyResult<Vec<_>>>()?;
        let mut blocks: Vec<Block<'_>> = samplers
            .iter_mut()
            .zip(ids.iter().zip(&rows).zip(allowed.iter().zip(places)))
            .map(
                |(sampler, ((ids, wanted), (allowed, (positions, keep))))| Block {
                    ids,
                    positions,
                    keep,
                    is_prefix: prefix,
                    wanted,
                    allowed,
                    sampler: &mut sampler.inner,
                },
            )
            .collect();
        let mut sessions: Vec<_> = sessions.iter_mut().map(|one| &mut one.inner).collect();
        let mut others: Vec<_> = others.iter_mut().map(|one| &mut one.inner).collect();
        let forbidden = forbidden.unwrap_or_default();
        let request = PredictionRequest {
            top_k,
            forbidden: &forbidden,
            logits: false,
        };
        let found = py
            .detach(|| {
                let guidance = scale.map(|scale| Guidance {
                    scale,
                    sessions: &mut others,
                    ids: &other_ids,
                });
                cpu_inference::predict_all(&mut sessions, &mut blocks, &request, guidance)
            })
            .map_err(|fault| raise(&fault))?;
        found
            .into_iter()
            .map(|one| predictions(py, one, false))
            .collect()
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
