//! The block of a decoder: attention and a gated feed-forward layer, each behind an RMS norm.

use kernels::ThreadPool;

use super::network::Context;
use crate::attention::{Heads, Ragged, attend_cached, attend_ragged};
use crate::config::{Architecture, ModelConfig};
use crate::error::Result;
use crate::linear::{Input, Linear};
use crate::norm::RmsNorm;
use crate::rows::for_each_run;
use crate::tensors::Tensors;
use crate::workspace::{Workspace, fit};

/// One block and what distinguishes its family.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Norms of each head's query and key (Qwen3).
    head_norms: Option<(RmsNorm, RmsNorm)>,
    pub(crate) mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    heads: Heads,
}

impl Block {
    pub(crate) fn load(
        config: &ModelConfig,
        family: Architecture,
        tensors: &Tensors,
        index: usize,
    ) -> Result<Self> {
        let heads = Heads {
            heads: config.num_heads,
            kv_heads: config.kv_heads(),
            dim: config.head_width(),
        };
        let (hidden, wide, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.norm_eps,
        );
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear =
            |part: &str, outputs, inputs, bias| tensors.linear(&name(part), outputs, inputs, bias);
        let norm = |part: &str, width| RmsNorm::load(tensors, &name(part), width, eps);
        let bias = config
            .attention_bias
            .unwrap_or(family == Architecture::Qwen2);
        let head_norms = if family == Architecture::Qwen3 {
            Some((
                norm("self_attn.q_norm", heads.dim)?,
                norm("self_attn.k_norm", heads.dim)?,
            ))
        } else {
            None
        };
        Ok(Self {
            attention_norm: norm("input_layernorm", hidden)?,
            query: linear("self_attn.q_proj", heads.query_width(), hidden, bias)?,
            key: linear("self_attn.k_proj", heads.kv_width(), hidden, bias)?,
            value: linear("self_attn.v_proj", heads.kv_width(), hidden, bias)?,
            output: linear("self_attn.o_proj", hidden, heads.query_width(), false)?,
            head_norms,
            mlp_norm: norm("post_attention_layernorm", hidden)?,
            gate: linear("mlp.gate_proj", wide, hidden, false)?,
            up: linear("mlp.up_proj", wide, hidden, false)?,
            down: linear("mlp.down_proj", hidden, wide, false)?,
            heads,
        })
    }

    /// Attention of `workspace.normed`, into `workspace.delta`, both `[tokens, hidden]`.
    pub(crate) fn attend(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        layer: usize,
        context: &mut Context<'_>,
    ) {
        let tokens = workspace.ids.len();
        let (heads, hidden) = (self.heads, self.output.weight.rows);
        let Workspace {
            delta,
            normed,
            queries,
            keys,
            values,
            attended,
            cos,
            sin,
            quantised,
            offsets,
            ..
        } = workspace;
        let queries = fit(queries, tokens * heads.query_width());
        let keys = fit(keys, tokens * heads.kv_width());
        let values = fit(values, tokens * heads.kv_width());
        let attended = fit(attended, tokens * heads.query_width());
        let mut input = Input::new(normed, tokens, hidden, quantised);
        input.project(pool, &self.query, queries);
        input.project(pool, &self.key, keys);
        input.project(pool, &self.value, values);
        let (query_norm, key_norm) = match &self.head_norms {
            Some((query, key)) => (Some(query), Some(key)),
            None => (None, None),
        };
        turn(pool, queries, heads.query_width(), query_norm, cos, sin);
        turn(pool, keys, heads.kv_width(), key_norm, cos, sin);
        match context {
            Context::Batch => {
                let batch = Ragged {
                    queries,
                    keys,
                    values,
                    offsets,
                    heads,
                    causal: true,
                };
                attend_ragged(pool, &batch, attended);
            }
            Context::Cache(cache) => {
                cache.append(layer, keys, values);
                attend_cached(pool, cache, layer, queries, attended);
            }
        }
        Input::new(attended, tokens, heads.query_width(), quantised).project(
            pool,
            &self.output,
            fit(delta, tokens * hidden),
        );
    }

    /// Gated feed-forward layer of `workspace.normed`, into `workspace.delta`, both `[tokens, hidden]`.
    pub(crate) fn feed_forward(&self, pool: &ThreadPool, workspace: &mut Workspace) {
        let tokens = workspace.ids.len();
        let (hidden, width) = (self.down.weight.rows, self.down.weight.cols);
        let Workspace {
            delta,
            normed,
            wide,
            gate,
            gated,
            quantised,
            ..
        } = workspace;
        let (gate, up) = (fit(gate, tokens * width), fit(wide, tokens * width));
        let gated = fit(gated, tokens * width);
        let mut input = Input::new(normed, tokens, hidden, quantised);
        input.project(pool, &self.gate, gate);
        input.project(pool, &self.up, up);
        for_each_run(pool, [gated], width, |first, [out]| {
            let span = first * width..first * width + out.len();
            kernels::silu_mul(&gate[span.clone()], &up[span], out);
        });
        Input::new(gated, tokens, width, quantised).project(
            pool,
            &self.down,
            fit(delta, tokens * hidden),
        );
    }
}

/// Normalises the heads of each row of `x`, `[tokens, width]`, where there is a norm, and rotates them.
fn turn(
    pool: &ThreadPool,
    x: &mut [f32],
    width: usize,
    norm: Option<&RmsNorm>,
    cos: &[f32],
    sin: &[f32],
) {
    let half = cos.len() / (x.len() / width);
    for_each_run(pool, [x], width, |first, [rows]| {
        let mut scratch = vec![0.0; if norm.is_some() { 2 * half } else { 0 }];
        for (token, row) in (first..).zip(rows.chunks_exact_mut(width)) {
            if let Some(norm) = norm {
                row.chunks_exact_mut(2 * half)
                    .for_each(|head| norm.apply_in_place(head, &mut scratch));
            }
            let span = token * half..(token + 1) * half;
            kernels::rope(row, &cos[span.clone()], &sin[span]);
        }
    });
}
