//! A card as it is given to a model.

use std::collections::HashMap;
use std::ops::Deref;

use arrow_quant::Tensor;

use crate::error::{InferenceError, Result};
use crate::low_rank::all_finite;

/// A low-rank card: what it adds to the layers of a model, and what it puts in their place.
///
/// Tensors are named as the model's: `{layer}.lora_A.weight` `[rank, inputs]` and `{layer}.lora_B.weight`
/// `[outputs, rank]` add `scaling · B A` to a layer; with `{layer}.lora_row_scale` `[outputs]`, what a magnitude
/// (`{layer}.lora_magnitude_vector`) makes of the base's rows, the layer is `scale ⊙ (W + scaling · B A)`; a
/// norm's `weight` or `bias`, or the table of token types, replaces the model's; `model.embed_tokens.rows`
/// `[n, hidden]` replaces the rows `row_ids` of the embedding and of a tied head; `{block}.side_down.weight`
/// `[width, hidden]` and `{block}.side_up.weight` `[hidden, width]` are a side block; and of `heads`,
/// `{head}.weight` `[outputs, hidden]` with or without `{head}.bias` is one of the card's own.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its tensors.
    pub tensors: &'a [Tensor],
    /// Factor of every product of two factors: `alpha / rank`, or `alpha / sqrt(rank)` for rsLoRA.
    pub scaling: f32,
    /// Which rows of the embedding the card replaces.
    pub row_ids: &'a [u32],
    /// Names of the heads that the card brings.
    pub heads: &'a [&'a str],
    /// How much of the card is used: 1 is all of it.
    pub weight: f32,
}

/// A card with its tensors by name: there are hundreds, and each is asked for more than once.
pub(crate) struct Indexed<'a> {
    card: Card<'a>,
    by_name: HashMap<&'a str, &'a Tensor>,
}

impl<'a> Deref for Indexed<'a> {
    type Target = Card<'a>;

    fn deref(&self) -> &Card<'a> {
        &self.card
    }
}

impl<'a> Indexed<'a> {
    pub(crate) fn new(card: Card<'a>) -> Self {
        let named = card
            .tensors
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor));
        Self {
            by_name: named.collect(),
            card,
        }
    }

    pub(crate) fn fault(&self, detail: &str) -> InferenceError {
        InferenceError::Card {
            name: self.name.to_owned(),
            detail: detail.to_owned(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Tensor> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn find(&self, name: &str) -> Result<&'a Tensor> {
        self.get(name)
            .ok_or_else(|| self.fault(&format!("lacks the tensor {name:?}")))
    }

    /// The numbers of a tensor of that shape.
    pub(crate) fn numbers(&self, tensor: &Tensor, shape: &[usize]) -> Result<Vec<f32>> {
        if tensor.shape != shape {
            return Err(self.fault(&format!(
                "does not fit this model: tensor {:?} is {:?}, expected {shape:?}",
                tensor.name, tensor.shape
            )));
        }
        let numbers = tensor.dequantize();
        if !all_finite(&numbers) {
            let name = &tensor.name;
            return Err(self.fault(&format!("has numbers that are not finite in {name:?}")));
        }
        Ok(numbers)
    }
}
