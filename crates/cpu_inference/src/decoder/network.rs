//! The network of a decoder: embedding, blocks, norm and head.

use kernels::{Terms, ThreadPool};

use super::block::Block;
use crate::attention::{continuation, sequences};
use crate::config::{Architecture, ModelConfig};
use crate::error::{InferenceError, Result};
use crate::kv_cache::KvCache;
use crate::linear::{Input, InputBuffers};
use crate::matrix::Matrix;
use crate::norm::RmsNorm;
use crate::rotary::Rotary;
use crate::rows::for_each_run;
use crate::tensors::Tensors;
use crate::workspace::{Workspace, fit};

/// What the new tokens can look back to.
pub(crate) enum Context<'a> {
    /// Nothing but the earlier tokens of their own sequence.
    Batch,
    /// One sequence whose keys and values are kept.
    Cache(&'a mut KvCache),
}

/// A decoder with its weights.
#[derive(Debug)]
pub(crate) struct Decoder {
    embedding: Matrix,
    blocks: Vec<Block>,
    norm: RmsNorm,
    /// `None` where the embedding table is the head.
    head: Option<Matrix>,
    rotary: Rotary,
}

impl Decoder {
    pub(crate) fn load(
        config: &ModelConfig,
        family: Architecture,
        tensors: &Tensors,
    ) -> Result<Self> {
        if !matches!(config.hidden_act.as_str(), "silu" | "swish") {
            return Err(InferenceError::Unsupported {
                feature: "hidden_act",
                got: config.hidden_act.clone(),
                supported: "silu",
            });
        }
        let hidden = config.hidden_size;
        let tied = config
            .tied_embeddings
            .unwrap_or(!tensors.contains("lm_head.weight"));
        let head = if tied {
            None
        } else {
            Some(tensors.matrix("lm_head.weight", config.vocab_size, hidden)?)
        };
        let blocks =
            (0..config.num_layers).map(|index| Block::load(config, family, tensors, index));
        Ok(Self {
            embedding: tensors.matrix("model.embed_tokens.weight", config.vocab_size, hidden)?,
            blocks: blocks.collect::<Result<_>>()?,
            norm: RmsNorm::load(tensors, "model.norm", hidden, config.norm_eps)?,
            head,
            rotary: Rotary::from_config(config)?,
        })
    }

    pub(crate) const fn num_layers(&self) -> usize {
        self.blocks.len()
    }

    /// Fills `workspace.normed`, `[tokens, hidden]`, with the final hidden states of the workspace's ids.
    pub(crate) fn forward(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        context: &mut Context<'_>,
    ) {
        self.begin(pool, workspace, context);
        for (layer, block) in self.blocks.iter().enumerate() {
            block.attend(pool, workspace, layer, context);
            block.feed_forward(pool, workspace);
        }
        self.finish(pool, workspace);
        if let Context::Cache(cache) = context {
            cache.advance(workspace.ids.len());
        }
    }

    /// Embeds the tokens and finds the angles of their positions and what they attend to.
    fn begin(&self, pool: &ThreadPool, workspace: &mut Workspace, context: &Context<'_>) {
        let width = self.embedding.cols;
        // A decoder's few columns of outliers cost perplexity, where an encoder's hardly turn its vectors.
        workspace.input.terms = Terms::TwoWhereCoarse;
        let Workspace {
            hidden,
            cos,
            sin,
            ids,
            offsets,
            spans,
            ..
        } = workspace;
        let hidden = fit(hidden, ids.len() * width);
        for_each_run(pool, [hidden], width, |first, [rows]| {
            for (row, &id) in rows.chunks_exact_mut(width).zip(&ids[first..]) {
                self.embedding.row(id as usize, row);
            }
        });
        match context {
            Context::Cache(cache) => {
                self.rotary
                    .angles(cache.len()..cache.len() + ids.len(), cos, sin);
                spans.clear();
                spans.push(continuation(cache.len(), ids.len()));
            }
            Context::Batch => {
                let positions = offsets.windows(2).flat_map(|pair| 0..pair[1] - pair[0]);
                self.rotary.angles(positions, cos, sin);
                sequences(offsets, true, spans);
            }
        }
    }

    /// Joins the last delta, if there is one, to the stream and normalises it.
    fn finish(&self, pool: &ThreadPool, workspace: &mut Workspace) {
        let width = self.embedding.cols;
        let len = workspace.ids.len() * width;
        let Workspace {
            hidden,
            delta,
            normed,
            ..
        } = workspace;
        let (hidden, normed) = (fit(hidden, len), fit(normed, len));
        for_each_run(pool, [hidden, normed], width, |first, [hidden, normed]| {
            let rows = hidden
                .chunks_exact_mut(width)
                .zip(normed.chunks_exact_mut(width));
            for (row, (stream, out)) in (first..).zip(rows) {
                if self.blocks.is_empty() {
                    self.norm.apply(stream, out);
                } else {
                    let delta = &delta[row * width..(row + 1) * width];
                    self.norm.join(delta, stream, out);
                }
            }
        });
    }

    /// Writes the logits, `[rows, vocab]`, of `rows` final hidden states, `[rows, hidden]`.
    pub(crate) fn logits(
        &self,
        pool: &ThreadPool,
        states: &[f32],
        buffers: &mut InputBuffers,
        out: &mut [f32],
    ) {
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        Input::copied(pool, buffers, states, [head]).multiply(pool, head, None, out);
    }
}
