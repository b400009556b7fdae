//! Cards as a model applies them: low-rank factors, replaced vectors and rows, heads.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_quant::Tensor;
use kernels::ThreadPool;

use crate::card::{Card, Indexed};
use crate::error::{InferenceError, Result};
use crate::low_rank::{CardFactors, Factors, Gathered};
use crate::matrix::Matrix;
use crate::merged;
use crate::side_block::{self, SideBlock};
use crate::sites::{LayerSite, Sites};

/// Numbers of adapters.
static ADAPTERS: AtomicU64 = AtomicU64::new(0);

/// What of a model a card may change, by name.
struct Places<'a> {
    layers: HashSet<&'a str>,
    /// Places among [`Sites::vectors`].
    vectors: HashMap<&'a str, usize>,
}

/// One or several cards, mixed by their weights, for one model. The model itself stays as it is.
#[derive(Debug)]
pub struct Adapter {
    number: u64,
    /// The model's.
    model: u64,
    /// By input that layers share; empty where the cards are merged.
    factors: Vec<Option<Factors>>,
    /// By layer, what stands in place of the model's weights; empty where the cards are not merged.
    merged: Vec<Option<Matrix>>,
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
        pool: &ThreadPool,
        model: u64,
        sites: &Sites,
        embedding: &Matrix,
        cards: &[Card<'_>],
        merge: bool,
    ) -> Result<Self> {
        let places = Places::of(sites);
        let cards: Vec<Indexed<'_>> = cards.iter().copied().map(Indexed::new).collect();
        let mut adapter = Self {
            number: ADAPTERS.fetch_add(1, Ordering::Relaxed),
            model,
            factors: Vec::new(),
            merged: Vec::new(),
            head_factors: None,
            vectors: vec![None; sites.vectors.len()],
            rows: Vec::new(),
            heads: Vec::new(),
            sides: side_block::gather(sites.sides.as_ref(), &cards)?,
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
                    adapter.take_rows(embedding, card, tensor)?;
                } else if !side_block::is_side(&tensor.name) {
                    adapter.take(sites, &places, card, tensor)?;
                }
            }
        }
        if merge && merged::pays(&sites.layers, &cards) {
            adapter.merged = each(pool, &sites.layers, |site| {
                site.merged(&gather_one(site, &cards)?)
            })?;
        } else {
            adapter.factors = each(pool, &sites.inputs, |layers| {
                gather(&sites.layers[layers.clone()], &cards)
            })?;
        }
        adapter.head_factors = gather(sites.head.as_slice(), &cards)?;
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

    /// Those beside the layers that share an input.
    pub(crate) fn factors(&self, input: usize) -> Option<&Factors> {
        self.factors.get(input)?.as_ref()
    }

    /// Whether it serves passes alone whose rows all use it.
    pub(crate) const fn is_merged(&self) -> bool {
        !self.merged.is_empty()
    }

    /// What stands in place of a layer's weights, if anything does.
    pub(crate) fn weight(&self, layer: usize) -> Option<&Matrix> {
        self.merged.get(layer)?.as_ref()
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

    fn take(
        &mut self,
        sites: &Sites,
        places: &Places<'_>,
        card: &Indexed<'_>,
        tensor: &Tensor,
    ) -> Result<()> {
        let name = tensor.name.as_str();
        if let Some(layer) = name.strip_suffix(".lora_A.weight") {
            if places.layers.contains(layer) {
                return card.find(&format!("{layer}.lora_B.weight")).map(drop);
            }
            return Err(card.fault(&format!(
                "has factors of a layer {layer:?}, which the model does not have"
            )));
        }
        if let Some(layer) = name.strip_suffix(".lora_B.weight") {
            return card.find(&format!("{layer}.lora_A.weight")).map(drop);
        }
        if let Some(layer) = name.strip_suffix(".lora_magnitude_vector") {
            return card.find(&format!("{layer}.lora_row_scale")).map(drop);
        }
        if let Some(layer) = name.strip_suffix(".lora_row_scale") {
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
        if let Some(&index) = places.vectors.get(name) {
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

    fn take_rows(&mut self, embedding: &Matrix, card: &Indexed<'_>, tensor: &Tensor) -> Result<()> {
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
        card: &Indexed<'_>,
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

impl<'a> Places<'a> {
    fn of(sites: &'a Sites) -> Self {
        let layers = sites.layers.iter().chain(&sites.head);
        let vectors = sites.vectors.iter().enumerate();
        Self {
            layers: layers.map(|site| site.name.as_str()).collect(),
            vectors: vectors
                .map(|(index, site)| (site.name.as_str(), index))
                .collect(),
        }
    }
}

/// `mixed += weight · (card − base)`.
fn mix(mixed: &mut [f32], base: &[f32], card: &[f32], weight: f32) {
    for ((mixed, base), card) in mixed.iter_mut().zip(base).zip(card) {
        *mixed += weight * (card - base);
    }
}

/// What `make` makes of each item, in their order; the fault of the first that has one.
fn each<T: Sync, R: Send>(
    pool: &ThreadPool,
    items: &[T],
    make: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let made: Vec<Mutex<Option<Result<R>>>> = items.iter().map(|_| Mutex::default()).collect();
    pool.run(items.len(), |at| {
        let done = make(&items[at]);
        *made[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
    });
    made.into_iter()
        .filter_map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect()
}

/// The factors of the cards for layers that share an input.
fn gather(sites: &[LayerSite], cards: &[Indexed<'_>]) -> Result<Option<Factors>> {
    let layers = sites.iter().map(|site| gather_one(site, cards));
    Factors::of(sites, layers.collect::<Result<Vec<_>>>()?)
}

/// The factors of the cards for a layer.
fn gather_one(site: &LayerSite, cards: &[Indexed<'_>]) -> Result<Gathered> {
    let LayerSite {
        name,
        inputs,
        outputs,
        ..
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
        let scales = card.get(&format!("{name}.lora_row_scale"));
        gathered.push(CardFactors {
            a: &card.numbers(a, &[rank, *inputs])?,
            b: card.numbers(b, &[*outputs, rank])?,
            row_scales: scales
                .map(|scales| card.numbers(scales, &[*outputs]))
                .transpose()?,
            scaling: card.scaling,
            weight: card.weight,
        });
    }
    Ok(gathered)
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
