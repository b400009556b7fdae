//! BERT: learned positions, attention and feed-forward layers with norms after each.
//!
//! Source: arXiv:1810.04805; tensor names of Hugging Face `BertModel`.

use kernels::{SharedOut, ThreadPool, fit};

use crate::activation::Activation;
use crate::attention::{Heads, LayerKeys};
use crate::config::ModelConfig;
use crate::error::{InferenceError, Result};
use crate::linear::{Input, Linear};
use crate::matrix::Matrix;
use crate::norm::LayerNorm;
use crate::pass::Pass;
use crate::rows::for_each_run;
use crate::sites::Vector;
use crate::tensors::Tensors;
use crate::workspace::Workspace;

/// The network of an encoder.
#[derive(Debug)]
pub(crate) struct Bert {
    words: Matrix,
    positions: Matrix,
    /// Embeddings of the token types, `[types, hidden]`.
    types: Vector,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: Heads,
    activation: Activation,
}

#[derive(Debug)]
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Bert {
    pub(crate) fn load(config: &ModelConfig, tensors: &Tensors) -> Result<Self> {
        let hidden = config.hidden_size;
        let types = config.type_vocab_size.unwrap_or(2);
        if types == 0 {
            return Err(InferenceError::ConfigValue {
                field: "type_vocab_size",
                expected: "at least 1".to_owned(),
                got: "0".to_owned(),
            });
        }
        let types = tensors.table("embeddings.token_type_embeddings.weight", types, hidden)?;
        let layers = (0..config.num_layers).map(|index| Layer::load(config, tensors, index));
        Ok(Self {
            words: tensors.matrix(
                "embeddings.word_embeddings.weight",
                config.vocab_size,
                hidden,
            )?,
            positions: tensors.matrix(
                "embeddings.position_embeddings.weight",
                config.max_position_embeddings,
                hidden,
            )?,
            types,
            norm: LayerNorm::load(tensors, "embeddings.LayerNorm", hidden, config.norm_eps)?,
            layers: layers.collect::<Result<_>>()?,
            heads: Heads {
                heads: config.num_heads,
                kv_heads: config.num_heads,
                dim: config.head_width(),
            },
            activation: Activation::parse(&config.hidden_act)?,
        })
    }

    /// Fills `workspace.states` with the final hidden states of the wanted rows.
    pub(crate) fn forward(&self, pool: &ThreadPool, workspace: &mut Workspace, pass: &Pass) {
        self.embed(pool, workspace, pass);
        let mut previous = None;
        for layer in &self.layers {
            layer.attend(pool, workspace, pass, self.heads, previous);
            layer.feed_forward(pool, workspace, pass, self.activation);
            previous = Some(&layer.output_norm);
        }
        let width = self.words.cols;
        let Workspace {
            hidden,
            delta,
            states,
            ..
        } = workspace;
        let hidden = SharedOut::new(hidden);
        let wanted = pass.wanted();
        let states = fit(states, wanted.len() * width);
        for_each_run(pool, [states], width, |first, [states]| {
            for (&row, out) in wanted[first..].iter().zip(states.chunks_exact_mut(width)) {
                // SAFETY: wanted rows ascend, so no two parts overlap.
                let stream = unsafe { hidden.part(row * width, width) };
                match previous {
                    Some(norm) => {
                        let delta = &delta[row * width..(row + 1) * width];
                        norm.join(pass.adapter(row), delta, stream, out);
                    }
                    None => out.copy_from_slice(stream),
                }
            }
        });
    }

    /// Sum of the word, position and segment embeddings, normalised.
    fn embed(&self, pool: &ThreadPool, workspace: &mut Workspace, pass: &Pass) {
        let width = self.words.cols;
        let Workspace { hidden, delta, .. } = workspace;
        let len = pass.rows() * width;
        let buffers = [fit(hidden, len), fit(delta, len)];
        for_each_run(pool, buffers, width, |first, [hidden, sums]| {
            let rows = hidden
                .chunks_exact_mut(width)
                .zip(sums.chunks_exact_mut(width));
            for (row, (out, sum)) in (first..).zip(rows) {
                self.words.row(pass.ids()[row] as usize, sum);
                self.positions.row(pass.positions()[row] as usize, out);
                kernels::add(out, sum);
                let adapter = pass.adapter(row);
                let types = self.types.of(adapter);
                kernels::add(
                    &types[usize::from(pass.types()[row]) * width..][..width],
                    sum,
                );
                self.norm.apply(adapter, sum, out);
            }
        });
    }
}

impl Layer {
    fn load(config: &ModelConfig, tensors: &Tensors, index: usize) -> Result<Self> {
        let (hidden, wide, eps) = (
            config.hidden_size,
            config.intermediate_size,
            config.norm_eps,
        );
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let linear =
            |part: &str, outputs, inputs| tensors.linear(&name(part), outputs, inputs, true);
        let norm = |part: &str| LayerNorm::load(tensors, &name(part), hidden, eps);
        Ok(Self {
            query: linear("attention.self.query", hidden, hidden)?,
            key: linear("attention.self.key", hidden, hidden)?,
            value: linear("attention.self.value", hidden, hidden)?,
            attention_output: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: norm("attention.output.LayerNorm")?,
            intermediate: linear("intermediate.dense", wide, hidden)?,
            output: linear("output.dense", hidden, wide)?,
            output_norm: norm("output.LayerNorm")?,
        })
    }

    /// Attention of the stream, into `workspace.delta`; `previous` is the norm with which the delta of the
    /// layer before joins the stream.
    fn attend(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        pass: &Pass,
        heads: Heads,
        previous: Option<&LayerNorm>,
    ) {
        let width = self.query.weight.cols;
        let len = pass.rows() * width;
        let Workspace {
            hidden,
            delta,
            queries,
            keys,
            values,
            attended,
            input: buffers,
            sight,
            ..
        } = workspace;
        let delta = fit(delta, len);
        let layers = [&self.query.weight, &self.key.weight, &self.value.weight];
        let stream = (fit(hidden, len), width);
        let mut input =
            Input::beside(
                pool,
                pass,
                buffers,
                stream,
                layers,
                |row, stream, out| match previous {
                    Some(norm) => {
                        let delta = &delta[row * width..(row + 1) * width];
                        norm.join(pass.adapter(row), delta, stream, out);
                    }
                    None => out.copy_from_slice(stream),
                },
            );
        let (queries, keys, values) = (fit(queries, len), fit(keys, len), fit(values, len));
        input.project(pool, &self.query, queries);
        input.project(pool, &self.key, keys);
        input.project(pool, &self.value, values);
        let attended = fit(attended, len);
        let keys = LayerKeys {
            heads,
            layer: 0,
            keys,
            values,
            caches: &[],
        };
        sight.attend(pool, heads, queries, &keys, attended);
        let output = &self.attention_output;
        Input::copied(pool, Some(pass), buffers, attended, [&output.weight])
            .project(pool, output, delta);
    }

    /// Joins the attention's delta to the stream and writes that of the feed-forward layer to
    /// `workspace.delta`.
    fn feed_forward(
        &self,
        pool: &ThreadPool,
        workspace: &mut Workspace,
        pass: &Pass,
        activation: Activation,
    ) {
        let (width, wide_width) = (self.intermediate.weight.cols, self.output.weight.cols);
        let tokens = pass.rows();
        let Workspace {
            hidden,
            delta,
            wide,
            input: buffers,
            ..
        } = workspace;
        let delta = fit(delta, tokens * width);
        let stream = (fit(hidden, tokens * width), width);
        let layers = [&self.intermediate.weight];
        let mut input = Input::beside(pool, pass, buffers, stream, layers, |row, stream, out| {
            let delta = &delta[row * width..(row + 1) * width];
            self.attention_norm
                .join(pass.adapter(row), delta, stream, out);
        });
        let wide = fit(wide, tokens * wide_width);
        input.project(pool, &self.intermediate, wide);
        let fill = |row: usize, out: &mut [f32]| {
            out.copy_from_slice(&wide[row * wide_width..(row + 1) * wide_width]);
            activation.apply(out);
        };
        Input::new(
            pool,
            Some(pass),
            buffers,
            tokens,
            [&self.output.weight],
            fill,
        )
        .project(pool, &self.output, delta);
    }
}
