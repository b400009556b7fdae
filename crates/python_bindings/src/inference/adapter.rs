use std::sync::Arc;

use arrow_quant::Tensor;
use cpu_inference::Card;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::model::{Model, plain_tensors};
use super::raise;
use crate::weights::WeightFile;

#[pyclass(module = "ai_os_diffusion._native", frozen)]
pub struct Adapter {
    pub inner: Arc<cpu_inference::Adapter>,
}

/// What Python tells of a card: name, tensors, scaling, ids of replaced rows, names of heads, weight.
type PyCard<'py> = (String, Bound<'py, PyAny>, f32, Vec<u32>, Vec<String>, f32);

#[pymethods]
impl Adapter {
    #[new]
    #[pyo3(signature = (model, cards, merge=false))]
    fn new(py: Python, model: &Model, cards: Vec<PyCard<'_>>, merge: bool) -> PyResult<Self> {
        let tensors: Vec<Vec<Tensor>> = cards
            .iter()
            .map(|(_, weights, ..)| match weights.cast::<WeightFile>() {
                Ok(file) => Ok(file.get().file.tensors().to_vec()),
                Err(_) => plain_tensors(weights.cast::<PyDict>()?),
            })
            .collect::<PyResult<_>>()?;
        let heads: Vec<Vec<&str>> = cards
            .iter()
            .map(|card| card.4.iter().map(String::as_str).collect())
            .collect();
        let parts = cards.iter().zip(&tensors).zip(&heads);
        let cards: Vec<Card<'_>> = parts
            .map(
                |(((name, _, scaling, row_ids, _, weight), tensors), heads)| Card {
                    name,
                    tensors,
                    scaling: *scaling,
                    row_ids,
                    heads,
                    weight: *weight,
                },
            )
            .collect();
        let inner = py
            .detach(|| {
                if merge {
                    model.inner.merged_adapter(&cards)
                } else {
                    model.inner.adapter(&cards)
                }
            })
            .map_err(|fault| raise(&fault))?;
        Ok(Self { inner })
    }
}

/// The adapter, if there is one.
pub fn shared(adapter: Option<&Adapter>) -> Option<&Arc<cpu_inference::Adapter>> {
    adapter.map(|adapter| &adapter.inner)
}
