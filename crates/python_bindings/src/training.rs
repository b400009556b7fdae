//! `_native.Trainer`.

// Arguments of a Python call arrive owned.
#![allow(clippy::needless_pass_by_value)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow_quant::Tensor;
use cpu_inference::ModelConfig;
use cpu_training::{
    AdamW, Base, Batch, Beneath, Goal, Parameter, Precision, Settings, TrainingError as Fault,
};
use numpy::ndarray::Array2;
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{ModelLoadError, TrainingError};
use crate::inference::{plain_tensors, raise};
use crate::kernels::active_isa;
use crate::weights::WeightFile;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Trainer>()
}

#[pyclass(module = "ai_os_diffusion._native", frozen)]
pub struct Trainer {
    inner: Mutex<cpu_training::Trainer>,
    width: usize,
}

type Ints<'py> = PyReadonlyArray1<'py, i32>;
type Floats<'py> = PyReadonlyArray1<'py, f32>;
/// Tokens, places, levels, numbers of masked copies and of documents, each `[positions]`.
type PyBatch<'py> = (Ints<'py>, Ints<'py>, Ints<'py>, Ints<'py>, Ints<'py>);
/// Values and moments of a parameter.
type State<'py> = (
    Bound<'py, PyArrayDyn<f32>>,
    Bound<'py, PyArray1<f32>>,
    Bound<'py, PyArray1<f32>>,
);

/// A batch, as numbers of Rust.
struct Arrays {
    ids: Vec<u32>,
    positions: Vec<u32>,
    level: Vec<i32>,
    noisy: Vec<i32>,
    document: Vec<i32>,
}

/// A batch with what it is to write.
struct Asked {
    arrays: Arrays,
    weights: Vec<f32>,
    wanted: Wanted,
}

enum Wanted {
    Labels(Vec<u32>),
    Base(Vec<f32>),
    States(Vec<f32>),
}

/// Numbers below zero become too large for any vocabulary or window, and are refused there.
fn unsigned(values: &[i32]) -> Vec<u32> {
    values.iter().map(|&value| value as u32).collect()
}

impl Arrays {
    fn new(batch: &PyBatch<'_>) -> PyResult<Self> {
        Ok(Self {
            ids: unsigned(batch.0.as_slice()?),
            positions: unsigned(batch.1.as_slice()?),
            level: batch.2.as_slice()?.to_vec(),
            noisy: batch.3.as_slice()?.to_vec(),
            document: batch.4.as_slice()?.to_vec(),
        })
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            positions: &self.positions,
            level: &self.level,
            noisy: &self.noisy,
            document: &self.document,
        }
    }
}

impl Asked {
    fn new(
        batch: &PyBatch<'_>,
        weights: &Floats<'_>,
        labels: Option<&Ints<'_>>,
        base: Option<&PyReadonlyArray2<'_, f32>>,
    ) -> PyResult<Self> {
        let wanted = match (labels, base) {
            (Some(labels), None) => Wanted::Labels(unsigned(labels.as_slice()?)),
            (None, Some(states)) => Wanted::Base(states.as_slice()?.to_vec()),
            _ => {
                return Err(TrainingError::new_err(
                    "expected labels or base, one of them",
                ));
            }
        };
        Ok(Self {
            arrays: Arrays::new(batch)?,
            weights: weights.as_slice()?.to_vec(),
            wanted,
        })
    }

    fn goal(&self) -> Goal<'_> {
        let weights = &self.weights;
        match &self.wanted {
            Wanted::Labels(labels) => Goal::Labels { labels, weights },
            Wanted::Base(states) => Goal::Base { states, weights },
            Wanted::States(gradient) => Goal::States { gradient },
        }
    }
}

#[pymethods]
impl Trainer {
    #[new]
    #[pyo3(signature = (weights, metadata_json, parameters, *, scaling, row_ids=Vec::new(), dropout=0.0, num_threads=0, brain_floats=false, beneath=None))]
    #[allow(clippy::too_many_arguments)] // What Python passes, by name.
    fn new(
        py: Python,
        weights: &Bound<'_, PyAny>,
        metadata_json: &str,
        parameters: &Bound<'_, PyDict>,
        scaling: f32,
        row_ids: Vec<u32>,
        dropout: f32,
        num_threads: usize,
        brain_floats: bool,
        beneath: Option<(PyRef<'_, WeightFile>, f32, Vec<u32>)>,
    ) -> PyResult<Self> {
        active_isa()?;
        let config = ModelConfig::from_json(metadata_json).map_err(|fault| raise(&fault))?;
        let trained = plain_tensors(parameters)?
            .iter()
            .map(|one| Parameter::new(&one.name, one.shape.clone(), one.dequantize()))
            .collect();
        let settings = Settings {
            scaling,
            row_ids,
            dropout,
            precision: if brain_floats {
                Precision::BrainFloat
            } else {
                Precision::Single
            },
        };
        let width = config.hidden_size;
        let threads = if num_threads == 0 {
            threads::cores()
        } else {
            num_threads
        };
        let card = beneath.as_ref().map(|(file, scaling, row_ids)| Beneath {
            tensors: file.file.tensors(),
            scaling: *scaling,
            row_ids,
        });
        let load = |tensors: &[Tensor]| {
            let base = Base {
                tensors,
                beneath: card,
            };
            py.detach(|| cpu_training::Trainer::new(&config, base, trained, settings, threads))
                .map_err(|fault| refuse(&fault))
        };
        let inner = match weights.cast::<WeightFile>() {
            Ok(file) => load(file.get().file.tensors())?,
            Err(_) => load(&plain_tensors(weights.cast::<PyDict>()?)?)?,
        };
        Ok(Self {
            inner: Mutex::new(inner),
            width,
        })
    }

    #[pyo3(signature = (batch, weights, *, labels=None, base=None, first_row=0, seed=0))]
    #[allow(clippy::too_many_arguments)] // What Python passes, by name.
    fn accumulate(
        &self,
        py: Python,
        batch: PyBatch<'_>,
        weights: Floats<'_>,
        labels: Option<Ints<'_>>,
        base: Option<PyReadonlyArray2<'_, f32>>,
        first_row: usize,
        seed: u64,
    ) -> PyResult<f64> {
        let asked = Asked::new(&batch, &weights, labels.as_ref(), base.as_ref())?;
        py.detach(|| {
            self.lock()
                .accumulate(asked.arrays.batch(), asked.goal(), first_row, seed)
        })
        .map_err(|fault| refuse(&fault))
    }

    #[pyo3(signature = (batch, weights, *, labels=None, base=None))]
    fn measure(
        &self,
        py: Python,
        batch: PyBatch<'_>,
        weights: Floats<'_>,
        labels: Option<Ints<'_>>,
        base: Option<PyReadonlyArray2<'_, f32>>,
    ) -> PyResult<(f64, u64)> {
        let asked = Asked::new(&batch, &weights, labels.as_ref(), base.as_ref())?;
        py.detach(|| self.lock().measure(asked.arrays.batch(), asked.goal()))
            .map_err(|fault| refuse(&fault))
    }

    #[pyo3(signature = (batch, gradient, *, first_row=0, seed=0))]
    fn accumulate_states(
        &self,
        py: Python,
        batch: PyBatch<'_>,
        gradient: PyReadonlyArray2<'_, f32>,
        first_row: usize,
        seed: u64,
    ) -> PyResult<f64> {
        let asked = Asked {
            arrays: Arrays::new(&batch)?,
            weights: Vec::new(),
            wanted: Wanted::States(gradient.as_slice()?.to_vec()),
        };
        py.detach(|| {
            self.lock()
                .accumulate(asked.arrays.batch(), asked.goal(), first_row, seed)
        })
        .map_err(|fault| refuse(&fault))
    }

    #[pyo3(signature = (batch, *, first_row=0, seed=0))]
    fn states<'py>(
        &self,
        py: Python<'py>,
        batch: PyBatch<'_>,
        first_row: usize,
        seed: u64,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let arrays = Arrays::new(&batch)?;
        let states = py
            .detach(|| self.lock().states(arrays.batch(), first_row, seed))
            .map_err(|fault| refuse(&fault))?;
        self.rows(py, arrays.ids.len(), states)
    }

    fn base_states<'py>(
        &self,
        py: Python<'py>,
        batch: PyBatch<'_>,
        rows: PyReadonlyArray1<'_, i64>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let rows: Vec<usize> = rows.as_slice()?.iter().map(|&row| row as usize).collect();
        let arrays = Arrays::new(&batch)?;
        let states = py
            .detach(|| self.lock().base_states(arrays.batch(), &rows))
            .map_err(|fault| refuse(&fault))?;
        self.rows(py, rows.len(), states)
    }

    #[pyo3(signature = (rate, *, betas=[0.9, 0.98], weight_decay=0.0, clip=1.0))]
    fn step(
        &self,
        py: Python,
        rate: f32,
        betas: [f32; 2],
        weight_decay: f32,
        clip: f32,
    ) -> PyResult<f32> {
        let optimizer = AdamW {
            betas,
            weight_decay,
            clip,
            ..AdamW::default()
        };
        py.detach(|| self.lock().step(optimizer, rate))
            .map_err(|fault| refuse(&fault))
    }

    #[getter]
    fn steps(&self) -> u64 {
        self.lock().steps()
    }

    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for one in self.lock().parameters() {
            found.set_item(&one.name, shaped(py, &one.shape, one.values.clone())?)?;
        }
        Ok(found)
    }

    fn gradients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for one in self.lock().parameters() {
            found.set_item(&one.name, shaped(py, &one.shape, one.gradient.clone())?)?;
        }
        Ok(found)
    }

    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = PyDict::new(py);
        for one in self.lock().parameters() {
            let [first, second] = one.moments.clone().map(|moment| moment.into_pyarray(py));
            let state: State<'py> = (shaped(py, &one.shape, one.values.clone())?, first, second);
            found.set_item(&one.name, state)?;
        }
        Ok(found)
    }

    fn restore(&self, steps: u64, state: &Bound<'_, PyDict>) -> PyResult<()> {
        let mut parameters = Vec::new();
        for (name, state) in state.iter() {
            let (values, first, second): State<'_> = state.extract()?;
            let (name, shape): (String, Vec<usize>) = (name.extract()?, {
                use numpy::PyUntypedArrayMethods;
                values.shape().to_vec()
            });
            let mut one = Parameter::new(&name, shape, values.to_vec()?);
            one.moments = [first.to_vec()?, second.to_vec()?];
            parameters.push(one);
        }
        self.lock()
            .restore(steps, parameters)
            .map_err(|fault| refuse(&fault))
    }
}

impl Trainer {
    fn rows<'py>(
        &self,
        py: Python<'py>,
        rows: usize,
        states: Vec<f32>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let array = Array2::from_shape_vec((rows, self.width), states);
        let array = array.map_err(|error| TrainingError::new_err(error.to_string()))?;
        Ok(array.into_pyarray(py))
    }

    fn lock(&self) -> MutexGuard<'_, cpu_training::Trainer> {
        // A panic inside is raised in Python; what it left is not used again by anything that matters.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shaped<'py>(
    py: Python<'py>,
    shape: &[usize],
    values: Vec<f32>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    values.into_pyarray(py).reshape(shape.to_vec())
}

fn refuse(fault: &Fault) -> PyErr {
    match fault {
        Fault::Base(fault) => raise(fault),
        Fault::Unsupported { .. } => ModelLoadError::new_err(fault.to_string()),
        _ => TrainingError::new_err(fault.to_string()),
    }
}
