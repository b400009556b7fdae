//! Cards as a model applies them: low-rank factors, replaced vectors and rows, heads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_quant::Tensor;

use crate::error::{InferenceError, Result};
use crate::low_rank::{Factors, Gathered};
use crate::matrix::Matrix;
use crate::side_block::{self, SideBlock};
use crate::sites::{LayerSite, Sites};

/// Numbers of adapters.
static ADAPTERS: AtomicU64 = AtomicU64::new(0);

/// A low-rank card: what it adds to the layers of a model, and what it puts in their place.
///
/// Tensors are named as the model's: `{layer}.lora_A.weight` `[rank, inputs]` and `{layer}.lora_B.weight`
/// `[outputs, rank]` add `scaling · B A` to a layer; a norm's `weight` or `bias`, or the table of token types,
/// replaces the model's; `model.embed_tokens.rows` `[n, hidden]` replaces the rows `row_ids` of the embedding and
/// of a tied head; `{block}.side_down.weight` `[width, hidden]` and `{block}.side_up.weight` `[hidden, width]` are a
/// side block; and of `heads`, `{head}.weight` `[outputs, hidden]` with or without `{head}.bias` is one of the card's
/// own.
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

/// One or several cards, mixed by their weights, for one model. The model itself stays as it is.
#[derive(Debug)]
pub struct Adapter {
    number: u64,
    /// The model's.
    model: u64,
    /// By layer.
    factors: Vec<Option<Factors>>,
    /// Of the head of a decoder.
    head_factors: Option<Factors>,
    /// By vector: norms and token types, mixed.
    vectors: Vec<Option<Vec<f32>>>,
    /// Rows of the embedding by id, ascending.
    rows: Vec<(u32, Vec<f32>)>,
    heads: Vec<Head>,
    /// By block; empty without any.
    sides: Vec<Option<SideBlock>>,
}

/// A head of a card's own.
#[derive(Debug)]
pub(crate) struct Head {
    name: String,
    outputs: usize,
    /// `[outputs, hidden]`.
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Adapter {
    pub(crate) fn new(
        model: u64,
        sites: &Sites,
        embedding: &Matrix,
        cards: &[Card<'_>],
    ) -> Result<Self> {
        let mut adapter = Self {
            number: ADAPTERS.fetch_add(1, Ordering::Relaxed),
            model,
            factors: Vec::new(),
            head_factors: None,
            vectors: vec![None; sites.vectors.len()],
            rows: Vec::new(),
            heads: Vec::new(),
            sides: side_block::gather(sites.sides.as_ref(), cards)?,
        };
        for (index, card) in cards.iter().enumerate() {
            if cards[..index].iter().any(|other| other.name == card.name) {
                return Err(card.fault("is given twice; a name is attached once"));
            }
            if !(card.weight.is_finite() && card.scaling.is_finite()) {
                let (weight, scaling) = (card.weight, card.scaling);
                let detail =
                    format!("has weight {weight} and scaling {scaling}, expected finite numbers");
                return Err(card.fault(&detail));
            }
            for tensor in card.tensors {
                if tensor.name == sites.rows {
                    if !sites.takes_rows {
                        let detail =
                            "replaces rows of the embedding, which of an encoder stays as it is";
                        return Err(card.fault(detail));
                    }
                    adapter.take_rows(embedding, *card, tensor)?;
                } else if !side_block::is_side(&tensor.name) {
                    adapter.take(sites, *card, tensor)?;
                }
            }
        }
        let gather = |site| gather(site, cards);
        adapter.factors = sites.layers.iter().map(gather).collect::<Result<_>>()?;
        adapter.head_factors = sites.head.as_ref().map(gather).transpose()?.flatten();
        adapter.rows.sort_by_key(|&(id, _)| id);
        Ok(adapter)
    }

    /// Tells it from every other adapter of the process.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) const fn model(&self) -> u64 {
        self.model
    }

    pub(crate) fn factors(&self, layer: usize) -> Option<&Factors> {
        self.factors[layer].as_ref()
    }

    /// Those of a decoder's head.
    pub(crate) const fn head_factors(&self) -> Option<&Factors> {
        self.head_factors.as_ref()
    }

    /// What stands beside the stream behind a block.
    pub(crate) fn side(&self, block: usize) -> Option<&SideBlock> {
        self.sides.get(block)?.as_ref()
    }

    /// What stands in place of a vector of the model, if anything does.
    pub(crate) fn vector(&self, index: usize) -> Option<&[f32]> {
        self.vectors[index].as_deref()
    }

    /// What stands in place of a row of the embedding, if anything does.
    pub(crate) fn row(&self, id: u32) -> Option<&[f32]> {
        let found = self.rows.binary_search_by_key(&id, |&(id, _)| id);
        found.ok().map(|at| &*self.rows[at].1)
    }

    pub(crate) fn rows(&self) -> &[(u32, Vec<f32>)] {
        &self.rows
    }

    /// The head of that name.
    ///
    /// # Errors
    /// [`InferenceError::NoHead`] with the names there are.
    pub(crate) fn head(&self, name: &str) -> Result<&Head> {
        let found = self.heads.iter().find(|head| head.name == name);
        found.ok_or_else(|| InferenceError::NoHead {
            name: name.to_owned(),
            known: self.heads.iter().map(|head| head.name.clone()).collect(),
        })
    }

    fn take(&mut self, sites: &Sites, card: Card<'_>, tensor: &Tensor) -> Result<()> {
        let name = tensor.name.as_str();
        if let Some(layer) = name.strip_suffix(".lora_A.weight") {
            if sites
                .layers
                .iter()
                .chain(&sites.head)
                .any(|site| site.name == layer)
            {
                return card.find(&format!("{layer}.lora_B.weight")).map(drop);
            }
            return Err(card.fault(&format!(
                "has factors of a layer {layer:?}, which the model does not have"
            )));
        }
        if let Some(layer) = name.strip_suffix(".lora_B.weight") {
            return card.find(&format!("{layer}.lora_A.weight")).map(drop);
        }
        if let Some((owner, part)) = name.rsplit_once('.')
            && card.heads.contains(&owner)
        {
            return match part {
                "weight" => self.take_head(sites, card, owner, tensor),
                _ => card.find(&format!("{owner}.weight")).map(drop),
            };
        }
        if let Some(index) = sites.vectors.iter().position(|site| site.name == name) {
            let site = &sites.vectors[index];
            let numbers = card.numbers(tensor, &site.shape)?;
            let mixed = self.vectors[index].get_or_insert_with(|| site.base.clone());
            mix(mixed, &site.base, &numbers, card.weight);
            return Ok(());
        }
        Err(card.fault(&format!(
            "has a tensor {name:?}, and the model has nothing of that name to change"
        )))
    }

    fn take_rows(&mut self, embedding: &Matrix, card: Card<'_>, tensor: &Tensor) -> Result<()> {
        let width = embedding.cols;
        let numbers = card.numbers(tensor, &[card.row_ids.len(), width])?;
        let mut base = vec![0.0; width];
        for (&id, row) in card.row_ids.iter().zip(numbers.chunks_exact(width)) {
            if id as usize >= embedding.rows {
                let rows = embedding.rows;
                return Err(card.fault(&format!("replaces row {id} of an embedding of {rows}")));
            }
            embedding.row(id as usize, &mut base);
            let at = self.rows.iter().position(|&(other, _)| other == id);
            let at = at.unwrap_or_else(|| {
                self.rows.push((id, base.clone()));
                self.rows.len() - 1
            });
            mix(&mut self.rows[at].1, &base, row, card.weight);
        }
        Ok(())
    }

    fn take_head(
        &mut self,
        sites: &Sites,
        card: Card<'_>,
        name: &str,
        weight: &Tensor,
    ) -> Result<()> {
        if self.heads.iter().any(|head| head.name == name) {
            return Err(card.fault(&format!("has a head {name:?}, as another card has")));
        }
        let outputs = weight.shape.first().copied().unwrap_or(0);
        let bias = match card.find(&format!("{name}.bias")) {
            Ok(bias) => card.numbers(bias, &[outputs])?,
            Err(_) => vec![0.0; outputs],
        };
        self.heads.push(Head {
            name: name.to_owned(),
            outputs,
            weight: card.numbers(weight, &[outputs, sites.hidden])?,
            bias,
        });
        Ok(())
    }
}

impl Card<'_> {
    pub(crate) fn fault(&self, detail: &str) -> InferenceError {
        InferenceError::Card {
            name: self.name.to_owned(),
            detail: detail.to_owned(),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Result<&Tensor> {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found.ok_or_else(|| self.fault(&format!("lacks the tensor {name:?}")))
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
        if numbers.iter().any(|number| !number.is_finite()) {
            let name = &tensor.name;
            return Err(self.fault(&format!("has numbers that are not finite in {name:?}")));
        }
        Ok(numbers)
    }
}

/// `mixed += weight · (card − base)`.
fn mix(mixed: &mut [f32], base: &[f32], card: &[f32], weight: f32) {
    for ((mixed, base), card) in mixed.iter_mut().zip(base).zip(card) {
        *mixed += weight * (card - base);
    }
}

/// The factors of the cards for a layer.
fn gather(site: &LayerSite, cards: &[Card<'_>]) -> Result<Option<Factors>> {
    let LayerSite {
        name,
        inputs,
        outputs,
        numbers,
    } = site;
    let mut gathered = Gathered::new(*inputs, *outputs);
    for card in cards {
        let Ok(a) = card.find(&format!("{name}.lora_A.weight")) else {
            continue;
        };
        let b = card.find(&format!("{name}.lora_B.weight"))?;
        let rank = a.shape.first().copied().unwrap_or(0);
        if rank == 0 {
            return Err(card.fault(&format!(
                "has factors of rank 0 for {name:?}, expected 1 or more"
            )));
        }
        let (a, b) = (
            card.numbers(a, &[rank, *inputs])?,
            card.numbers(b, &[*outputs, rank])?,
        );
        gathered.push(&a, b, card.scaling * card.weight);
    }
    gathered.finish(name, *numbers)
}

impl Head {
    pub(crate) const fn outputs(&self) -> usize {
        self.outputs
    }

    /// Writes the scores, `[outputs]`, of one state.
    pub(crate) fn score(&self, state: &[f32], out: &mut [f32]) {
        let rows = self.weight.chunks_exact(state.len()).zip(&self.bias);
        for (out, (row, bias)) in out.iter_mut().zip(rows) {
            *out = kernels::dot_f32(row, state) + bias;
        }
    }
}

/// Whether two rows use the same adapter, or none.
pub(crate) fn same(a: Option<&Arc<Adapter>>, b: Option<&Arc<Adapter>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
