//! The network of a decoder: embedding, blocks, norm and head.

use kernels::{SharedOut, Terms, ThreadPool, fit};

use super::block::Block;
use crate::config::{Architecture, ModelConfig};
use crate::error::{InferenceError, Result};
use crate::kv_cache::KvCache;
use crate::linear::{Input, InputBuffers};
use crate::matrix::Matrix;
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::rotary::Rotary;
use crate::rows::for_each_run;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

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

    /// Fills `workspace.states` with the final hidden states of the wanted rows.
    pub(crate) fn forward(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        pass: &Pass,
        caches: &mut [KvCache],
    ) {
        self.begin(pool, workspace, pass);
        for (layer, block) in self.blocks.iter().enumerate() {
            block.attend(pool, workspace, layer, pass, caches);
            block.feed_forward(pool, workspace, pass);
        }
        self.finish(pool, workspace, pass);
    }

    /// Embeds the tokens and finds the angles of their positions.
    fn begin(&self, pool: &ThreadPool, workspace: &mut Workspace, pass: &Pass) {
        let width = self.embedding.cols;
        // A decoder's few columns of outliers cost perplexity, where an encoder's hardly turn its vectors.
        workspace.input.terms = Terms::TwoWhereCoarse;
        let Workspace {
            hidden, cos, sin, ..
        } = workspace;
        let hidden = fit(hidden, pass.rows() * width);
        for_each_run(pool, [hidden], width, |first, [rows]| {
            let ids = (first..).zip(&pass.ids()[first..]);
            for (row, (at, &id)) in rows.chunks_exact_mut(width).zip(ids) {
                match pass.adapter(at).and_then(|adapter| adapter.row(id)) {
                    Some(replaced) => row.copy_from_slice(replaced),
                    None => self.embedding.row(id as usize, row),
                }
            }
        });
        self.rotary.angles(pass.positions(), cos, sin);
    }

    /// Joins the last delta, if there is one, to the stream of the wanted rows and normalises it.
    fn finish(&self, pool: &ThreadPool, workspace: &mut Workspace, pass: &Pass) {
        let wanted = pass.wanted();
        let width = self.embedding.cols;
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
                if self.blocks.is_empty() {
                    self.norm.apply(pass.adapter(row), stream, out);
                } else {
                    let delta = &delta[row * width..(row + 1) * width];
                    self.norm.join(pass.adapter(row), delta, stream, out);
                }
            }
        });
    }

    pub(crate) const fn embedding(&self) -> &Matrix {
        &self.embedding
    }

    /// Whether the embedding table is the head.
    pub(crate) const fn is_tied(&self) -> bool {
        self.head.is_none()
    }

    /// The head, `[vocab, hidden]`.
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
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
