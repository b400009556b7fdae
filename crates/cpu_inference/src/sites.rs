//! What of a model a card may change, by name.

use std::ops::Range;

use crate::adapter::Adapter;
use crate::matrix::{Matrix, Numbers};
use crate::side_block::SideSites;

/// The layers and vectors of a model, in the order in which they were loaded.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    pub(crate) hidden: usize,
    /// What a card calls rows of the embedding.
    pub(crate) rows: String,
    /// A card may bring some: of an encoder the embedding stays as it is.
    pub(crate) takes_rows: bool,
    pub(crate) layers: Vec<LayerSite>,
    /// Layers that multiply the same rows as the same integers: what cards add to them begins with one product. Any
    /// other is alone.
    pub(crate) inputs: Vec<Range<usize>>,
    /// The head, tied or not.
    pub(crate) head: Option<LayerSite>,
    pub(crate) vectors: Vec<VectorSite>,
    /// `None`: it takes no side blocks.
    pub(crate) sides: Option<SideSites>,
}

/// A linear layer.
#[derive(Debug)]
pub(crate) struct LayerSite {
    pub(crate) name: String,
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) numbers: Numbers,
    /// The model's own, which it shares.
    pub(crate) weight: Matrix,
}

impl LayerSite {
    pub(crate) fn of(name: &str, weight: &Matrix) -> Self {
        Self {
            name: name.to_owned(),
            outputs: weight.rows,
            inputs: weight.cols,
            numbers: weight.numbers(),
            weight: weight.clone(),
        }
    }
}

/// A norm's scale or shift, or a small table.
#[derive(Debug)]
pub(crate) struct VectorSite {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) base: Vec<f32>,
}

/// A vector that a card may replace.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    numbers: Vec<f32>,
    /// `None`: it follows from the family, and no card may replace it.
    site: Option<usize>,
}

impl Vector {
    pub(crate) const fn new(numbers: Vec<f32>, site: usize) -> Self {
        Self {
            numbers,
            site: Some(site),
        }
    }

    /// A vector that stays as it is.
    pub(crate) const fn fixed(numbers: Vec<f32>) -> Self {
        Self {
            numbers,
            site: None,
        }
    }

    /// The numbers for a row that uses `adapter`.
    #[inline]
    pub(crate) fn of<'a>(&'a self, adapter: Option<&'a Adapter>) -> &'a [f32] {
        adapter
            .and_then(|adapter| adapter.vector(self.site?))
            .unwrap_or(&self.numbers)
    }
}
