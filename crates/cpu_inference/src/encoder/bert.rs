//! BERT: learned positions, attention and feed-forward layers with norms after each.
//!
//! Source: arXiv:1810.04805; tensor names of Hugging Face `BertModel`.

use kernels::ThreadPool;

use crate::activation::Activation;
use crate::attention::{Heads, Ragged, attend_ragged};
use crate::config::ModelConfig;
use crate::error::{InferenceError, Result};
use crate::linear::{Input, Linear};
use crate::matrix::Matrix;
use crate::norm::LayerNorm;
use crate::rows::for_each_run;
use crate::tensors::Tensors;
use crate::workspace::{Workspace, fit};

/// The network of an encoder.
#[derive(Debug)]
pub(crate) struct Bert {
    words: Matrix,
    positions: Matrix,
    /// Embedding of segment 0, which every token belongs to.
    segment: Vec<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: Heads,
    activation: Activation,
    intermediate: usize,
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
        let mut segment = vec![0.0; hidden];
        tensors
            .matrix("embeddings.token_type_embeddings.weight", types, hidden)?
            .row(0, &mut segment);
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
            segment,
            norm: LayerNorm::load(tensors, "embeddings.LayerNorm", hidden, config.norm_eps)?,
            layers: layers.collect::<Result<_>>()?,
            heads: Heads {
                heads: config.num_heads,
                kv_heads: config.num_heads,
                dim: config.head_width(),
            },
            activation: Activation::parse(&config.hidden_act)?,
            intermediate: config.intermediate_size,
        })
    }

    /// Fills `workspace.hidden`, `[tokens, hidden]`, from the workspace's ids and offsets.
    pub(crate) fn forward(&self, pool: &ThreadPool, workspace: &mut Workspace) {
        let tokens = workspace.ids.len();
        let width = self.words.cols;
        self.embed(pool, workspace);
        let Workspace {
            hidden,
            delta,
            queries,
            keys,
            values,
            attended,
            wide,
            quantised,
            offsets,
            ..
        } = workspace;
        let hidden = fit(hidden, tokens * width);
        let delta = fit(delta, tokens * width);
        let (queries, keys) = (fit(queries, tokens * width), fit(keys, tokens * width));
        let (values, attended) = (fit(values, tokens * width), fit(attended, tokens * width));
        let wide = fit(wide, tokens * self.intermediate);
        for layer in &self.layers {
            let mut input = Input::new(hidden, tokens, width, quantised);
            input.project(pool, &layer.query, queries);
            input.project(pool, &layer.key, keys);
            input.project(pool, &layer.value, values);
            let batch = Ragged {
                queries,
                keys,
                values,
                offsets,
                heads: self.heads,
                causal: false,
            };
            attend_ragged(pool, &batch, attended);
            Input::new(attended, tokens, width, quantised).project(
                pool,
                &layer.attention_output,
                delta,
            );
            layer.attention_norm.add_and_apply(pool, delta, hidden);
            Input::new(hidden, tokens, width, quantised).project(pool, &layer.intermediate, wide);
            self.activation.apply(pool, wide, self.intermediate);
            Input::new(wide, tokens, self.intermediate, quantised).project(
                pool,
                &layer.output,
                delta,
            );
            layer.output_norm.add_and_apply(pool, delta, hidden);
        }
    }

    /// Sum of the word, position and segment embeddings, normalised.
    fn embed(&self, pool: &ThreadPool, workspace: &mut Workspace) {
        let width = self.words.cols;
        let Workspace {
            hidden,
            delta,
            normed,
            ids,
            offsets,
            ..
        } = workspace;
        let tokens = ids.len();
        let (sum, place) = (fit(delta, tokens * width), fit(normed, tokens * width));
        for_each_run(pool, [sum, place], width, |first, [sums, places]| {
            let mut sequence = offsets.partition_point(|&offset| offset <= first) - 1;
            let rows = sums
                .chunks_exact_mut(width)
                .zip(places.chunks_exact_mut(width));
            for (token, (sum, place)) in (first..).zip(rows) {
                while token >= offsets[sequence + 1] {
                    sequence += 1;
                }
                self.words.row(ids[token] as usize, sum);
                self.positions.row(token - offsets[sequence], place);
                kernels::add(place, sum);
                kernels::add(&self.segment, sum);
            }
        });
        self.norm.apply(
            pool,
            fit(delta, tokens * width),
            fit(hidden, tokens * width),
        );
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
}
