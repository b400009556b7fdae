//! The network of any family: tables, blocks, a norm, heads. What it computes is what its layout says.

mod block;
mod classifier;
mod entry;
mod tables;

use std::mem;

use kernels::{SharedOut, Terms, ThreadPool, fit};

use self::block::Block;
pub(crate) use self::classifier::Classifier;
use self::entry::Entry;
use self::tables::Tables;
use crate::config::ModelConfig;
use crate::error::Result;
use crate::kv_cache::KvCache;
use crate::layout::Layout;
use crate::linear::{Input, InputBuffers};
use crate::matrix::Matrix;
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::rotary::Rotary;
use crate::rows::for_each_run;
use crate::side_block;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// A network with its weights.
#[derive(Debug)]
pub(crate) struct Network {
    tables: Tables,
    blocks: Vec<Block>,
    /// Into attention and feed-forward layer of each block, and from the last to the final states.
    entries: Vec<Entry>,
    /// Into side blocks of cards.
    side_norm: RmsNorm,
    /// `None` where the table of the tokens is the head.
    head: Option<Matrix>,
    classifier: Option<Classifier>,
    /// That of all blocks, and that of blocks which see a window, where it is another.
    rotaries: [Option<Rotary>; 2],
    terms: Terms,
}

impl Network {
    pub(crate) fn load(config: &ModelConfig, layout: &Layout, tensors: &Tensors) -> Result<Self> {
        let family = layout.family;
        let blocks = layout.blocks.iter();
        let blocks = blocks.map(|block| Block::load(config, family, block, tensors));
        let rotaries = if family.is_rotary {
            [
                Some(Rotary::from_config(config)?),
                Rotary::of_windows(config)?,
            ]
        } else {
            [None, None]
        };
        let (head, classifier) = (layout.head.as_ref(), layout.classifier.as_ref());
        Ok(Self {
            tables: Tables::load(config, layout, tensors)?,
            blocks: blocks.collect::<Result<_>>()?,
            entries: Entry::load_all(config, layout, tensors)?,
            side_norm: RmsNorm::unscaled(config.hidden_size, config.norm_eps),
            head: head.map(|head| tensors.matrix_of(head)).transpose()?,
            classifier: classifier
                .map(|head| Classifier::load(config, head, tensors))
                .transpose()?,
            rotaries,
            // A decoder's few columns of outliers cost perplexity, where an encoder's hardly turn its vectors.
            terms: if family.is_decoder {
                Terms::ResidualWhereCoarse
            } else {
                Terms::default()
            },
        })
    }

    pub(crate) const fn num_layers(&self) -> usize {
        self.blocks.len()
    }

    /// Fills `workspace.states` with the final hidden states of the wanted rows.
    pub(crate) fn forward(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        pass: &Pass,
        caches: &mut [KvCache],
    ) {
        workspace.input.terms = self.terms;
        self.tables.embed(pool, workspace, pass);
        for (rotary, angles) in self.rotaries.iter().zip(&mut workspace.angles) {
            if let Some(rotary) = rotary {
                rotary.angles(pass.positions(), angles);
            }
        }
        // Behind the keys and values of the last block nobody looks at rows that are not wanted.
        let mut narrow = mem::take(&mut workspace.narrow);
        let is_narrow = pass.wanted().len() < pass.rows();
        if is_narrow {
            pass.narrow(&mut narrow);
        }
        let wanted = if is_narrow { &narrow } else { pass };
        let entries = self.entries.chunks(2);
        for (layer, (block, entries)) in self.blocks.iter().zip(entries).enumerate() {
            block.read(pool, workspace, layer, &entries[0], pass, caches);
            let is_last = layer + 1 == self.blocks.len();
            if is_last && is_narrow {
                block.narrow(workspace, pass);
            }
            let rest = if is_last { wanted } else { pass };
            if rest.rows() > 0 {
                block.attend(pool, workspace, layer, rest, caches);
                block.feed_forward(pool, workspace, &entries[1], rest);
                if rest.is_adapted() {
                    side_block::apply(pool, workspace, layer, &self.side_norm, rest);
                }
            }
        }
        self.finish(pool, workspace, wanted);
        workspace.narrow = narrow;
    }

    /// The final states of the wanted rows: what the last block gave joins their stream.
    fn finish(&self, pool: &ThreadPool, workspace: &mut Workspace, pass: &Pass) {
        let wanted = pass.wanted();
        let width = self.tables.words.cols;
        let last = &self.entries[2 * self.blocks.len()];
        let Workspace {
            hidden,
            delta,
            states,
            ..
        } = workspace;
        let hidden = SharedOut::new(hidden);
        let states = fit(states, wanted.len() * width);
        for_each_run(pool, [states], width, |first, [states]| {
            for (&row, out) in wanted[first..].iter().zip(states.chunks_exact_mut(width)) {
                // SAFETY: wanted rows ascend, so no two parts overlap.
                let stream = unsafe { hidden.part(row * width, width) };
                let delta = &delta[row * width..(row + 1) * width];
                last.enter(pass.adapter(row), delta, stream, out);
            }
        });
    }

    /// The table of the tokens.
    pub(crate) const fn words(&self) -> &Matrix {
        &self.tables.words
    }

    /// Whether the table of the tokens is the head.
    pub(crate) const fn is_tied(&self) -> bool {
        self.head.is_none()
    }

    /// The head of a decoder, `[vocab, hidden]`.
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.tables.words)
    }

    pub(crate) const fn classifier(&self) -> Option<&Classifier> {
        self.classifier.as_ref()
    }

    /// Writes the logits, `[rows, vocab]`, of `rows` final hidden states, `[rows, hidden]`.
    pub(crate) fn logits(
        &self,
        pool: &ThreadPool,
        states: &[f32],
        buffers: &mut InputBuffers,
        out: &mut [f32],
    ) {
        let head = self.head();
        Input::copied(pool, None, buffers, states, [head]).multiply(pool, head, None, out);
    }
}
