//! The block of a decoder: attention and a gated feed-forward layer, each behind an RMS norm.

use kernels::{ThreadPool, fit};

use crate::attention::{Heads, LayerKeys};
use crate::config::{Architecture, ModelConfig};
use crate::error::Result;
use crate::kv_cache::KvCache;
use crate::linear::{Input, Linear};
use crate::norm::RmsNorm;
use crate::pass::Pass;
use crate::rows::for_each_run;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// One block and what distinguishes its family.
#[derive(Debug)]
pub(crate) struct Block {
    attention_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Norms of each head's query and key (Qwen3).
    head_norms: Option<(RmsNorm, RmsNorm)>,
    mlp_norm: RmsNorm,
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
        let heads = Heads::of(config);
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

    /// Joins the delta of the block before, if there is one, to the stream and writes that of the
    /// attention to `workspace.delta`.
    pub(crate) fn attend(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        layer: usize,
        pass: &Pass,
        caches: &mut [KvCache],
    ) {
        let tokens = pass.rows();
        let (heads, hidden_width) = (self.heads, self.output.weight.rows);
        let Workspace {
            hidden,
            delta,
            queries,
            keys,
            values,
            attended,
            cos,
            sin,
            input: buffers,
            sight,
            ..
        } = workspace;
        let delta = fit(delta, tokens * hidden_width);
        let layers = [&self.query.weight, &self.key.weight, &self.value.weight];
        let stream = (fit(hidden, tokens * hidden_width), hidden_width);
        let mut input = Input::beside(pool, pass, buffers, stream, layers, |row, stream, out| {
            let adapter = pass.adapter(row);
            if layer == 0 {
                self.attention_norm.apply(adapter, stream, out);
            } else {
                let delta = &delta[row * hidden_width..(row + 1) * hidden_width];
                self.attention_norm.join(adapter, delta, stream, out);
            }
        });
        let queries = fit(queries, tokens * heads.query_width());
        let keys = fit(keys, tokens * heads.kv_width());
        let values = fit(values, tokens * heads.kv_width());
        input.project(pool, &self.query, queries);
        input.project(pool, &self.key, keys);
        input.project(pool, &self.value, values);
        let (query_norm, key_norm) = match &self.head_norms {
            Some((query, key)) => (Some(query), Some(key)),
            None => (None, None),
        };
        let attended = fit(attended, tokens * heads.query_width());
        let (angles, spare) = ((&**cos, &**sin), &mut *attended);
        turn(
            pool,
            pass,
            queries,
            heads.query_width(),
            query_norm,
            angles,
            spare,
        );
        turn(pool, pass, keys, heads.kv_width(), key_norm, angles, spare);
        for (cache, rows, _) in pass.appends() {
            let rows = rows.start * heads.kv_width()..rows.end * heads.kv_width();
            caches[cache].write(pool, layer, &keys[rows.clone()], &values[rows]);
        }
        let keys = LayerKeys {
            heads,
            layer,
            keys,
            values,
            caches,
        };
        sight.attend(pool, heads, queries, &keys, attended);
        Input::copied(pool, Some(pass), buffers, attended, [&self.output.weight]).project(
            pool,
            &self.output,
            delta,
        );
    }

    /// Joins the attention's delta to the stream and writes that of the gated feed-forward layer to
    /// `workspace.delta`.
    pub(crate) fn feed_forward(&self, pool: &ThreadPool, workspace: &mut Workspace, pass: &Pass) {
        let tokens = pass.rows();
        let (hidden_width, width) = (self.down.weight.rows, self.down.weight.cols);
        let Workspace {
            hidden,
            delta,
            wide,
            gate,
            input: buffers,
            ..
        } = workspace;
        let delta = fit(delta, tokens * hidden_width);
        let layers = [&self.gate.weight, &self.up.weight];
        let stream = (fit(hidden, tokens * hidden_width), hidden_width);
        let mut input = Input::beside(pool, pass, buffers, stream, layers, |row, stream, out| {
            let delta = &delta[row * hidden_width..(row + 1) * hidden_width];
            self.mlp_norm.join(pass.adapter(row), delta, stream, out);
        });
        let (gate, up) = (fit(gate, tokens * width), fit(wide, tokens * width));
        input.project(pool, &self.gate, gate);
        input.project(pool, &self.up, up);
        let fill = |row: usize, out: &mut [f32]| {
            let span = row * width..(row + 1) * width;
            kernels::silu_mul(&gate[span.clone()], &up[span], out);
        };
        Input::new(pool, Some(pass), buffers, tokens, [&self.down.weight], fill)
            .project(pool, &self.down, delta);
    }
}

/// Normalises the heads of each row of `x`, `[tokens, width]`, where there is a norm, and rotates them by
/// `angles`, their cosines and sines. `spare` is as long as `x` or longer.
fn turn(
    pool: &ThreadPool,
    pass: &Pass,
    x: &mut [f32],
    width: usize,
    norm: Option<&RmsNorm>,
    (cos, sin): (&[f32], &[f32]),
    spare: &mut [f32],
) {
    let half = cos.len() / (x.len() / width);
    for_each_run(pool, [x, spare], width, |first, [rows, spare]| {
        for (token, row) in (first..).zip(rows.chunks_exact_mut(width)) {
            if let Some(norm) = norm {
                row.chunks_exact_mut(2 * half).for_each(|head| {
                    norm.apply_in_place(pass.adapter(token), head, &mut spare[..2 * half]);
                });
            }
            let span = token * half..(token + 1) * half;
            kernels::rope(row, &cos[span.clone()], &sin[span]);
        }
    });
}
