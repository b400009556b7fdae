//! `_native.Store`, `_native.Snapshot` and `_native.Scan`.

// Arguments of a Python call arrive owned.
#![allow(clippy::needless_pass_by_value)]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_storage::{
    Bm25, Check, Durability, Error, Filter, Hit, IndexState, Memory, Metric, Options, Patch,
    Result, Scan, SearchOptions, Snapshot, Store, TextOptions,
};
use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{
    DimensionError, FilterError, StorageError, StoreCorruptedError, StoreLockedError,
};

const LOGGER: &str = "ai_os_diffusion.storage";

/// id, content, metadata as JSON, microseconds of creation and of the last change, embedding.
type Row<'py> = (String, String, String, i64, i64, Bound<'py, PyArray1<f32>>);

/// Says which Python class an error is.
fn to_python(py: Python<'_>, error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Corrupted { .. } => StoreCorruptedError::new_err(message),
        Error::Locked { .. } => StoreLockedError::new_err(message),
        Error::Dimension { .. } | Error::Vector { .. } => DimensionError::new_err(message),
        Error::Filter { .. } => FilterError::new_err(message),
        Error::Io { source, .. } => {
            let raised = StorageError::new_err(message);
            raised.set_cause(py, Some(source.into()));
            raised
        }
        _ => StorageError::new_err(message),
    }
}

/// Works without the GIL. Between slices of the work Ctrl-C is looked for: it stops what can be undone,
/// and is raised behind what cannot.
fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(Check<'_>) -> Result<T> + Send,
) -> PyResult<T> {
    let (result, raised) = py.detach(|| {
        let mut raised = None;
        let mut check = || {
            Python::attach(|py| py.check_signals()).map_err(|error| {
                raised = Some(error);
                Error::Interrupted
            })
        };
        let result = work(&mut check);
        (result, raised)
    });
    match raised {
        Some(signal) => Err(signal),
        None => result.map_err(|error| to_python(py, error)),
    }
}

/// Logs what a user should know about damage that was made good.
fn warn(py: Python<'_>, snapshot: &Snapshot) -> PyResult<()> {
    for warning in snapshot.warnings() {
        let logger = py.import("logging")?.call_method1("getLogger", (LOGGER,))?;
        logger.call_method1("warning", (warning,))?;
    }
    Ok(())
}

fn row<'py>(py: Python<'py>, memory: &Memory) -> Row<'py> {
    (
        memory.id.clone(),
        memory.content.clone(),
        memory.metadata.clone(),
        memory.created_at,
        memory.updated_at,
        PyArray1::from_slice(py, &memory.embedding),
    )
}

fn parse_filter(py: Python<'_>, filter: Option<&str>) -> PyResult<Option<Filter>> {
    filter
        .map(Filter::parse)
        .transpose()
        .map_err(|error| to_python(py, error))
}

fn one_of<T: Copy>(what: &str, value: &str, choices: &[(&str, T)]) -> PyResult<T> {
    choices
        .iter()
        .find(|(name, _)| *name == value)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            StorageError::new_err(format!(
                "{what}: expected one of {}, got {value:?}",
                names.join(", ")
            ))
        })
}

/// Rows of parallel columns; `times` are those of creation and of the last change.
fn memories(
    ids: Vec<String>,
    contents: Vec<String>,
    metadata: Vec<String>,
    embeddings: &PyReadonlyArray2<'_, f32>,
    times: Option<(&[i64], &[i64])>,
) -> PyResult<Vec<Memory>> {
    let (count, dimension) = (embeddings.shape()[0], embeddings.shape()[1]);
    let vectors = embeddings.as_slice()?;
    let even = [ids.len(), contents.len(), metadata.len()] == [count; 3]
        && times.is_none_or(|(created, updated)| created.len() == count && updated.len() == count);
    if !even {
        return Err(StorageError::new_err("save: columns of different lengths"));
    }
    let texts = ids.into_iter().zip(contents).zip(metadata);
    let memories = texts.enumerate().map(|(index, ((id, content), metadata))| {
        let vector = vectors[index * dimension..(index + 1) * dimension].to_vec();
        let mut memory = Memory::new(id, content, metadata, vector);
        if let Some((created, updated)) = times {
            (memory.created_at, memory.updated_at) = (created[index], updated[index]);
        }
        memory
    });
    Ok(memories.collect())
}

#[pyclass(name = "Store", module = "ai_os_diffusion._native", frozen)]
struct PyStore(Arc<Store>);

#[pymethods]
impl PyStore {
    #[new]
    #[pyo3(signature = (path, *, dimension=None, read_only=false, durability="commit", lock_timeout_s=0.0, model=None, skip_damaged=false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        dimension: Option<usize>,
        read_only: bool,
        durability: &str,
        lock_timeout_s: f64,
        model: Option<String>,
        skip_damaged: bool,
    ) -> PyResult<Self> {
        kernels::isa_checked().map_err(|error| StorageError::new_err(error.to_string()))?;
        let choices = [
            ("commit", Durability::Commit),
            ("batch", Durability::Batch),
            ("none", Durability::None),
        ];
        let options = Options {
            read_only,
            skip_damaged,
            dimension,
            model,
            durability: one_of("durability", durability, &choices)?,
            lock_timeout: Duration::try_from_secs_f64(lock_timeout_s).map_err(|_| {
                StorageError::new_err(format!(
                    "lock_timeout_s: expected seconds >= 0, got {lock_timeout_s}"
                ))
            })?,
            ..Options::default()
        };
        let store = detached(py, |check| Store::open(&path, options, check))?;
        Ok(Self(Arc::new(store)))
    }

    /// Parallel columns; `embeddings` is float32[n, dim]; `times` int64[n] of creation and of the last
    /// change, kept as they are when given. `gone` are ids that the same commit removes. With `new`, ids that
    /// are there are refused.
    #[pyo3(signature = (ids, contents, metadata, embeddings, times=None, gone=Vec::new(), new=false))]
    #[allow(clippy::too_many_arguments)]
    fn save(
        &self,
        py: Python<'_>,
        ids: Vec<String>,
        contents: Vec<String>,
        metadata: Vec<String>,
        embeddings: PyReadonlyArray2<'_, f32>,
        times: Option<(PyReadonlyArray1<'_, i64>, PyReadonlyArray1<'_, i64>)>,
        gone: Vec<String>,
        new: bool,
    ) -> PyResult<()> {
        let times = times
            .as_ref()
            .map(|(created, updated)| Ok::<_, PyErr>((created.as_slice()?, updated.as_slice()?)));
        let times = times.transpose()?;
        let memories = memories(ids, contents, metadata, &embeddings, times)?;
        let keep_times = times.is_some();
        detached(py, |check| {
            if new {
                self.0.insert(memories, keep_times, check)
            } else {
                self.0.replace(&gone, memories, keep_times, check)
            }
        })
    }

    /// Places and reasons of the columns' rows that `save` would refuse.
    fn refusals(
        &self,
        py: Python<'_>,
        ids: Vec<String>,
        contents: Vec<String>,
        metadata: Vec<String>,
        embeddings: PyReadonlyArray2<'_, f32>,
    ) -> PyResult<Vec<(usize, String)>> {
        let memories = memories(ids, contents, metadata, &embeddings, None)?;
        let refused = detached(py, |_| self.0.refusals(&memories))?;
        let told = |(index, error): (usize, Error)| (index, error.to_string());
        Ok(refused.into_iter().map(told).collect())
    }

    /// Takes in another store's memories and removes those of the ids `gone`, in one commit.
    fn absorb(&self, py: Python<'_>, other: &PySnapshot, gone: Vec<String>) -> PyResult<()> {
        detached(py, |check| self.0.absorb(&other.0, &gone, check))
    }

    #[pyo3(signature = (id, content=None, metadata=None, embedding=None))]
    fn update(
        &self,
        py: Python<'_>,
        id: &str,
        content: Option<String>,
        metadata: Option<String>,
        embedding: Option<PyReadonlyArray1<'_, f32>>,
    ) -> PyResult<bool> {
        let embedding = embedding
            .map(|vector| vector.as_slice().map(<[f32]>::to_vec))
            .transpose()?;
        let patch = Patch {
            content,
            metadata,
            embedding,
        };
        detached(py, |check| self.0.update(id, patch, check))
    }

    fn delete(&self, py: Python<'_>, ids: Vec<String>) -> PyResult<usize> {
        detached(py, |check| self.0.delete(&ids, check))
    }

    #[pyo3(signature = (filter, everything=false))]
    fn delete_where(&self, py: Python<'_>, filter: &str, everything: bool) -> PyResult<usize> {
        let filter = Filter::parse(filter).map_err(|error| to_python(py, error))?;
        detached(py, |check| self.0.delete_where(&filter, everything, check))
    }

    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, |check| self.0.flush(check))
    }

    fn compact(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, |check| self.0.compact(check))
    }

    fn rebuild_text_index(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, |check| self.0.rebuild_text_index(check))
    }

    fn snapshot(&self, py: Python<'_>) -> PyResult<PySnapshot> {
        let snapshot = detached(py, |_| self.0.snapshot())?;
        warn(py, &snapshot)?;
        Ok(PySnapshot(snapshot))
    }

    /// Messages about what is damaged.
    fn verify(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let damage = detached(py, |check| self.0.verify(check))?;
        Ok(damage.iter().map(ToString::to_string).collect())
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = detached(py, |_| self.0.stats())?;
        let out = PyDict::new(py);
        out.set_item("count", stats.count)?;
        out.set_item("dimension", stats.dimension)?;
        out.set_item("model", stats.model)?;
        out.set_item("segments", stats.segments)?;
        out.set_item("dead_rows", stats.dead_rows)?;
        out.set_item("log_rows", stats.log_rows)?;
        out.set_item("table_bytes", stats.table_bytes)?;
        out.set_item("vector_bytes", stats.vector_bytes)?;
        out.set_item("text_index_bytes", stats.text_index_bytes)?;
        out.set_item("log_bytes", stats.log_bytes)?;
        out.set_item("commits", stats.commits)?;
        out.set_item("format_version", stats.format_version)?;
        out.set_item("torn_bytes", stats.torn_bytes)?;
        out.set_item("damage", stats.damage)?;
        Ok(out)
    }

    #[pyo3(signature = (path, verify=true))]
    fn import_parquet(&self, py: Python<'_>, path: PathBuf, verify: bool) -> PyResult<usize> {
        detached(py, |check| {
            arrow_storage::import_parquet(&path, &self.0, verify, check)
        })
    }

    /// Refuses vectors of a model that do not compare with the store's; an empty store becomes one of it.
    fn take_model(&self, py: Python<'_>, path: PathBuf, model: &str) -> PyResult<()> {
        detached(py, |_| self.0.take_model(&path, model))
    }

    fn is_made_by(&self, py: Python<'_>, model: &str) -> PyResult<bool> {
        detached(py, |_| self.0.is_made_by(model))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, |check| self.0.close(check))
    }
}

#[pyclass(name = "Snapshot", module = "ai_os_diffusion._native", frozen)]
struct PySnapshot(Snapshot);

#[pymethods]
impl PySnapshot {
    #[getter]
    fn dimension(&self) -> Option<usize> {
        self.0.dimension()
    }

    #[getter]
    fn model(&self) -> Option<&str> {
        self.0.model()
    }

    /// Number of the last commit.
    #[getter]
    fn version(&self) -> u64 {
        self.0.seq()
    }

    fn load<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Option<Row<'py>>> {
        let memory = detached(py, |_| self.0.load(id))?;
        warn(py, &self.0)?;
        Ok(memory.map(|memory| row(py, &memory)))
    }

    /// Each of several memories; None where there is none of that id.
    fn load_many<'py>(&self, py: Python<'py>, ids: Vec<String>) -> PyResult<Vec<Option<Row<'py>>>> {
        let memories = detached(py, |_| self.0.load_many(&ids))?;
        warn(py, &self.0)?;
        Ok(memories
            .iter()
            .map(|memory| memory.as_ref().map(|memory| row(py, memory)))
            .collect())
    }

    #[pyo3(signature = (filter=None))]
    fn count(&self, py: Python<'_>, filter: Option<&str>) -> PyResult<usize> {
        match parse_filter(py, filter)? {
            None => Ok(self.0.count()),
            Some(filter) => detached(py, |_| self.0.count_where(&filter)),
        }
    }

    /// For each row of `queries`, float32[n, dim], the nearest memories and their similarities.
    #[pyo3(signature = (queries, top_k, metric="cosine", min_similarity=None, filter=None, num_threads=0))]
    #[allow(clippy::too_many_arguments)]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArray2<'_, f32>,
        top_k: usize,
        metric: &str,
        min_similarity: Option<f32>,
        filter: Option<&str>,
        num_threads: usize,
    ) -> PyResult<Vec<Vec<(Row<'py>, f32)>>> {
        let filter = parse_filter(py, filter)?;
        let options = SearchOptions {
            top_k,
            metric: metric_of(metric)?,
            min_similarity: min_similarity.unwrap_or(f32::NEG_INFINITY),
            filter: filter.as_ref(),
            threads: threads(num_threads),
        };
        let dimension = queries.shape()[1];
        let queries: Vec<Vec<f32>> = if dimension == 0 {
            vec![Vec::new(); queries.shape()[0]]
        } else {
            queries
                .as_slice()?
                .chunks(dimension)
                .map(<[f32]>::to_vec)
                .collect()
        };
        let found = detached(py, |_| self.0.search(&queries, &options))?;
        warn(py, &self.0)?;
        let pair = |hit: &Hit| (row(py, &hit.memory), hit.similarity);
        Ok(found
            .iter()
            .map(|hits| hits.iter().map(pair).collect())
            .collect())
    }

    /// The memories that hold words of a query and their scores, and how the words were looked for.
    #[pyo3(signature = (query, top_k, k1, b, filter=None))]
    fn search_text<'py>(
        &self,
        py: Python<'py>,
        query: &str,
        top_k: usize,
        k1: f32,
        b: f32,
        filter: Option<&str>,
    ) -> PyResult<(Vec<(Row<'py>, f32)>, &'static str)> {
        let filter = parse_filter(py, filter)?;
        let options = TextOptions {
            top_k,
            filter: filter.as_ref(),
            bm25: Bm25 { k1, b },
        };
        let found = detached(py, |_| self.0.search_text(query, &options))?;
        warn(py, &self.0)?;
        let hits = found.hits.iter();
        let hits = hits
            .map(|(memory, score)| (row(py, memory), *score))
            .collect();
        Ok((hits, name_of(found.state)))
    }

    /// The memories nearest to `vector`, float32[dim], and those that hold words of a query; similarity and score of all
    /// of them, and how the words were looked for.
    #[pyo3(signature = (vector, query, top_k, k1, b, metric="cosine", min_similarity=None, filter=None, num_threads=0))]
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn search_both<'py>(
        &self,
        py: Python<'py>,
        vector: PyReadonlyArray1<'_, f32>,
        query: &str,
        top_k: usize,
        k1: f32,
        b: f32,
        metric: &str,
        min_similarity: Option<f32>,
        filter: Option<&str>,
        num_threads: usize,
    ) -> PyResult<(Vec<(Row<'py>, f32, f32)>, &'static str)> {
        let filter = parse_filter(py, filter)?;
        let options = SearchOptions {
            top_k,
            metric: metric_of(metric)?,
            min_similarity: min_similarity.unwrap_or(f32::NEG_INFINITY),
            filter: filter.as_ref(),
            threads: threads(num_threads),
        };
        let vector = vector.as_slice()?;
        let bm25 = Bm25 { k1, b };
        let found = detached(py, |_| self.0.search_both(vector, query, &options, bm25))?;
        warn(py, &self.0)?;
        let hits = found.hits.iter();
        let hits = hits.map(|hit| (row(py, &hit.memory), hit.similarity, hit.score));
        Ok((hits.collect(), name_of(found.state)))
    }

    #[pyo3(signature = (filter=None))]
    fn scan(&self, py: Python<'_>, filter: Option<&str>) -> PyResult<PyScan> {
        let filter = parse_filter(py, filter)?;
        Ok(PyScan(Mutex::new(detached(py, |_| {
            self.0.scan(filter.as_ref())
        })?)))
    }

    fn export_parquet(&self, py: Python<'_>, path: PathBuf) -> PyResult<usize> {
        detached(py, |check| self.0.export_parquet(&path, check))
    }
}

fn metric_of(name: &str) -> PyResult<Metric> {
    let metrics = [
        ("cosine", Metric::Cosine),
        ("dot", Metric::Dot),
        ("euclidean", Metric::Euclidean),
    ];
    one_of("metric", name, &metrics)
}

fn name_of(state: IndexState) -> &'static str {
    match state {
        IndexState::Fresh => "fresh",
        IndexState::Building => "building",
        IndexState::Degraded => "degraded",
    }
}

fn threads(asked: usize) -> usize {
    if asked > 0 { asked } else { threads::cores() }
}

#[pyclass(name = "Scan", module = "ai_os_diffusion._native", frozen)]
struct PyScan(Mutex<Scan>);

#[pymethods]
impl PyScan {
    /// Id and metadata, as JSON, of the next memories; None for metadata that is damaged and skipped.
    fn next_metadata(
        &self,
        py: Python<'_>,
        most: usize,
    ) -> PyResult<Vec<(String, Option<String>)>> {
        detached(py, |_| {
            let mut scan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            scan.next_metadata(most)
        })
    }

    /// The next memories in the order of their ids; an empty list at the end.
    fn next_batch<'py>(&self, py: Python<'py>, most: usize) -> PyResult<Vec<Row<'py>>> {
        let batch = detached(py, |_| {
            let mut scan = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            scan.next_batch(most)
        })?;
        Ok(batch.iter().map(|memory| row(py, memory)).collect())
    }
}

/// Whether no memory could fail a filter, whatever it holds.
#[pyfunction]
fn filter_holds_for_all(py: Python<'_>, filter: &str) -> PyResult<bool> {
    let filter = Filter::parse(filter).map_err(|error| to_python(py, error))?;
    Ok(filter.holds_for_all())
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(filter_holds_for_all, module)?)?;
    module.add_class::<PyStore>()?;
    module.add_class::<PySnapshot>()?;
    module.add_class::<PyScan>()
}
