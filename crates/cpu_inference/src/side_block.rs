//! Side blocks of cards: `x + up(gelu(down(norm(x))))` behind blocks of a decoder, `x` the residual stream.
//!
//! Source: bottleneck adapters, arXiv:1902.00751; `up` begins as zeros, as what joins a network in `ControlNet`
//! does, arXiv:2302.05543.

use arrow_quant::Tensor;
use kernels::{ThreadPool, fit};

use crate::activation::Activation;
use crate::card::Indexed;
use crate::error::{InferenceError, Result};
use crate::linear::Input;
use crate::low_rank::{all_finite, side_by_side};
use crate::matrix::{Matrix, Numbers};
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::workspace::Workspace;

/// What the names of their matrices end with, behind the name of the block.
const DOWN: &str = ".side_down.weight";
const UP: &str = ".side_up.weight";

/// One number in so many of the model's is the most that the side blocks of a card have.
const SHARE: usize = 10;

/// Where a model takes side blocks.
#[derive(Debug)]
pub(crate) struct SideSites {
    /// Names of its blocks.
    pub(crate) blocks: Vec<String>,
    /// Of the stream.
    pub(crate) hidden: usize,
    /// Those of the model.
    pub(crate) parameters: usize,
    /// What its layers are.
    pub(crate) numbers: Numbers,
}

/// What the cards of an adapter have behind one block: those of several stand side by side, as one that is wider.
#[derive(Debug)]
pub(crate) struct SideBlock {
    /// `[width, hidden]`.
    down: Matrix,
    /// `[hidden, width]`, the weights of the cards in it.
    up: Matrix,
}

/// Whether a tensor of a card is of a side block.
pub(crate) fn is_side(name: &str) -> bool {
    block_of(name).is_some()
}

fn block_of(name: &str) -> Option<&str> {
    name.strip_suffix(DOWN).or_else(|| name.strip_suffix(UP))
}

/// The side blocks of cards, by block; nothing if no card has any.
pub(crate) fn gather(
    sites: Option<&SideSites>,
    cards: &[Indexed<'_>],
) -> Result<Vec<Option<SideBlock>>> {
    let mut has_some = false;
    for card in cards {
        let own = || card.tensors.iter().filter(|tensor| is_side(&tensor.name));
        if own().next().is_none() {
            continue;
        }
        let Some(sites) = sites else {
            let detail =
                "has side blocks, which decoders alone take, with norms before their layers";
            return Err(card.fault(detail));
        };
        has_some = true;
        let mut numbers = 0;
        for Tensor { name, shape, .. } in own() {
            let block = block_of(name).unwrap_or_default();
            if !sites.blocks.iter().any(|known| known == block) {
                let last = sites.blocks.len().saturating_sub(1);
                return Err(card.fault(&format!(
                    "has a side block behind {block:?}, expected blocks 0 to {last} of the model"
                )));
            }
            let other = if name.ends_with(DOWN) { UP } else { DOWN };
            card.find(&format!("{block}{other}"))?;
            numbers += shape.iter().product::<usize>();
        }
        let most = sites.parameters / SHARE;
        if numbers > most {
            let all = sites.parameters;
            return Err(card.fault(&format!(
                "has side blocks of {numbers} numbers, expected at most {most}, one in {SHARE} of the model's {all}"
            )));
        }
    }
    match sites.filter(|_| has_some) {
        None => Ok(Vec::new()),
        Some(sites) => sites
            .blocks
            .iter()
            .map(|block| SideBlock::new(sites, block, cards))
            .collect(),
    }
}

impl SideBlock {
    fn new(sites: &SideSites, block: &str, cards: &[Indexed<'_>]) -> Result<Option<Self>> {
        let hidden = sites.hidden;
        let (mut down, mut ups) = (Vec::new(), Vec::new());
        for card in cards {
            let Some(first) = card.get(&format!("{block}{DOWN}")) else {
                continue;
            };
            let width = first.shape.first().copied().unwrap_or(0);
            if width == 0 {
                return Err(card.fault(&format!(
                    "has a side block of width 0 behind {block:?}, expected 1 or more"
                )));
            }
            let second = card.find(&format!("{block}{UP}"))?;
            let (narrow, mut wide) = (
                card.numbers(first, &[width, hidden])?,
                card.numbers(second, &[hidden, width])?,
            );
            if card.weight == 0.0 {
                continue;
            }
            kernels::scale(card.weight, &mut wide);
            if !all_finite(&wide) {
                return Err(InferenceError::NotFinite {
                    what: "a card's side block with its weight",
                });
            }
            down.extend(narrow);
            ups.push((width, wide));
        }
        let width = down.len() / hidden;
        if width == 0 {
            return Ok(None);
        }
        let up = side_by_side(&ups, hidden);
        // Whole rows: neither input is one that a layer of the model has as integers.
        let numbers = match sites.numbers {
            Numbers::Integers { .. } => Numbers::Integers { group_size: 0 },
            plain @ Numbers::Plain(_) => plain,
        };
        Ok(Some(Self {
            down: Matrix::of(&format!("{block}{DOWN}"), &down, width, hidden, numbers)?,
            up: Matrix::of(&format!("{block}{UP}"), &up, hidden, width, numbers)?,
        }))
    }
}

/// Takes the rows of `pass` whose cards have one through their side block behind the block at `layer`.
///
/// What the block gave joins their stream, and what the side block gives waits in its place. Of zeros the next layer
/// reads the same bits as without.
pub(crate) fn apply(
    pool: &ThreadPool,
    workspace: &mut Workspace,
    layer: usize,
    norm: &RmsNorm,
    pass: &Pass,
) {
    let Workspace {
        hidden,
        delta,
        wide,
        input: buffers,
        ..
    } = workspace;
    for (rows, adapter) in pass.adapted() {
        let Some(SideBlock { down, up }) = adapter.side(layer) else {
            continue;
        };
        let (count, width) = (rows.len(), up.rows);
        let span = rows.start * width..rows.end * width;
        let (stream, delta) = (&mut hidden[span.clone()], &mut delta[span]);
        let enter = |row: usize, stream: &mut [f32], out: &mut [f32]| {
            norm.join(None, &delta[row * width..][..width], stream, out);
        };
        let narrow = fit(wide, count * down.rows);
        Input::beside(pool, pass, buffers, (stream, width), [down], enter)
            .multiply(pool, down, None, narrow);
        let fill = |row: usize, out: &mut [f32]| {
            out.copy_from_slice(&narrow[row * out.len()..][..out.len()]);
            Activation::Gelu.apply(out);
        };
        Input::new(pool, None, buffers, count, [up], fill).multiply(pool, up, None, delta);
    }
}
