//! Tiny models of random weights.
#![allow(dead_code, clippy::unwrap_used)]

use arrow_quant::{Dtype, Tensor, TensorData};
use cpu_inference::{Model, ModelConfig, Random};

pub const VOCAB: usize = 40;

/// A model of `architecture` with two layers, hidden width 32 and a window of 200.
pub fn tiny(architecture: &str, threads: usize) -> Model {
    let config = config(architecture);
    Model::load(config.clone(), &tensors(&config), threads).unwrap()
}

pub fn config(architecture: &str) -> ModelConfig {
    let decoder = architecture != "bert";
    let text = serde_json::json!({
        "architecture": architecture, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
        "num_kv_heads": if decoder { 2 } else { 4 }, "head_dim": 8, "intermediate_size": 48,
        "vocab_size": VOCAB, "max_position_embeddings": 200, "norm_eps": 1e-6,
        "hidden_act": if decoder { "silu" } else { "gelu" }, "type_vocab_size": 2,
    });
    ModelConfig::from_json(&text.to_string()).unwrap()
}

/// Names and shapes that the architecture needs, with random numbers.
pub fn tensors(config: &ModelConfig) -> Vec<Tensor> {
    let mut random = Random::new(11);
    let mut make = |name: String, shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let numbers = (0..count).map(|_| {
            let number = (random.unit() - 0.5) as f32 * 0.6;
            if name.contains("norm.weight") || name.contains("Norm.weight") {
                number + 1.0
            } else {
                number
            }
        });
        let data: Vec<u8> = numbers.flat_map(f32::to_ne_bytes).collect();
        Tensor {
            name,
            shape: shape.to_vec(),
            data: TensorData::Plain {
                dtype: Dtype::F32,
                data: data.into(),
            },
        }
    };
    let (hidden, wide) = (config.hidden_size, config.intermediate_size);
    let kv = config.kv_heads() * config.head_width();
    let mut all = Vec::new();
    if config.architecture == "bert" {
        for (name, rows) in [("word", VOCAB), ("position", 200), ("token_type", 2)] {
            all.push(make(
                format!("embeddings.{name}_embeddings.weight"),
                &[rows, hidden],
            ));
        }
        let mut layers = vec![("embeddings.LayerNorm".to_owned(), vec![hidden])];
        for layer in 0..config.num_layers {
            for (part, shape) in [
                ("attention.self.query", vec![hidden, hidden]),
                ("attention.self.key", vec![hidden, hidden]),
                ("attention.self.value", vec![hidden, hidden]),
                ("attention.output.dense", vec![hidden, hidden]),
                ("attention.output.LayerNorm", vec![hidden]),
                ("intermediate.dense", vec![wide, hidden]),
                ("output.dense", vec![hidden, wide]),
                ("output.LayerNorm", vec![hidden]),
            ] {
                layers.push((format!("encoder.layer.{layer}.{part}"), shape));
            }
        }
        for (prefix, shape) in layers {
            all.push(make(format!("{prefix}.weight"), &shape));
            all.push(make(format!("{prefix}.bias"), &shape[..1]));
        }
        return all;
    }
    all.push(make(
        "model.embed_tokens.weight".to_owned(),
        &[VOCAB, hidden],
    ));
    all.push(make("model.norm.weight".to_owned(), &[hidden]));
    for layer in 0..config.num_layers {
        for (part, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![kv, hidden]),
            ("self_attn.v_proj", vec![kv, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("self_attn.q_norm", vec![config.head_width()]),
            ("self_attn.k_norm", vec![config.head_width()]),
            ("mlp.gate_proj", vec![wide, hidden]),
            ("mlp.up_proj", vec![wide, hidden]),
            ("mlp.down_proj", vec![hidden, wide]),
        ] {
            all.push(make(format!("model.layers.{layer}.{part}.weight"), &shape));
            if config.architecture == "qwen2"
                && matches!(
                    part,
                    "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj"
                )
            {
                all.push(make(
                    format!("model.layers.{layer}.{part}.bias"),
                    &shape[..1],
                ));
            }
        }
    }
    all
}

/// `count` ids that look random.
pub fn ids(count: usize, seed: u64) -> Vec<i32> {
    let mut random = Random::new(seed);
    (0..count)
        .map(|_| (random.next_u64() % VOCAB as u64) as i32)
        .collect()
}

pub fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}
