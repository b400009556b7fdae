//! Tiny models of random weights.
#![allow(dead_code, clippy::unwrap_used)]

use arrow_quant::{Dtype, Tensor, TensorData};
use cpu_inference::{Family, Layout, Model, ModelConfig, Random, TensorSpec};

pub const VOCAB: usize = 40;

/// A model of `architecture` with two layers, hidden width 32 and a window of 200.
pub fn tiny(architecture: &str, threads: usize) -> Model {
    let config = config(architecture);
    Model::load(config.clone(), &tensors(&config), threads).unwrap()
}

/// Every family, by name.
pub fn families() -> impl Iterator<Item = &'static str> {
    Family::all().iter().map(|family| family.name)
}

/// The families that continue texts.
pub fn decoders() -> impl Iterator<Item = &'static str> {
    let decoders = Family::all().iter().filter(|family| family.is_decoder);
    decoders.map(|family| family.name)
}

pub fn config(architecture: &str) -> ModelConfig {
    let family = Family::named(architecture).unwrap();
    let is_decoder = family.is_decoder;
    let text = serde_json::json!({
        "architecture": architecture, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
        "num_kv_heads": if is_decoder { 2 } else { 4 }, "head_dim": 8, "intermediate_size": 48,
        "vocab_size": VOCAB, "max_position_embeddings": 200, "norm_eps": 1e-6,
        "hidden_act": family.config.activation.1, "type_vocab_size": 2,
        "attention_bias": family.config.attention_bias,
        "position_offset": if family.config.is_padded { 2 } else { 0 },
        "window_reach": if family.config.has_windows { 12 } else { 0 },
        "windowed_layers": if family.config.has_windows { vec![1] } else { Vec::new() },
    });
    ModelConfig::from_json(&text.to_string()).unwrap()
}

/// The tensors that the network needs, with random numbers; a decoder's head is the table of the tokens.
pub fn tensors(config: &ModelConfig) -> Vec<Tensor> {
    let config = &ModelConfig {
        tied_embeddings: Some(true),
        ..config.clone()
    };
    let mut random = Random::new(11);
    let mut make = |spec: TensorSpec| {
        let count = spec.shape.iter().product::<usize>();
        let is_gain = spec.shape.len() == 1 && spec.name.ends_with(".weight");
        let numbers = (0..count).map(|_| {
            let number = (random.unit() - 0.5) as f32 * 0.6;
            if is_gain { number + 1.0 } else { number }
        });
        let data: Vec<u8> = numbers.flat_map(f32::to_ne_bytes).collect();
        Tensor {
            name: spec.name,
            shape: spec.shape,
            data: TensorData::Plain {
                dtype: Dtype::F32,
                data: data.into(),
            },
        }
    };
    let needed = Layout::of(config).unwrap().tensors().into_iter();
    needed
        .filter(|spec| spec.is_needed)
        .map(&mut make)
        .collect()
}

/// A tensor of plain numbers.
pub fn plain(name: &str, shape: &[usize], numbers: Vec<f32>) -> Tensor {
    Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: TensorData::Plain {
            dtype: Dtype::F32,
            data: numbers.into_iter().flat_map(f32::to_ne_bytes).collect(),
        },
    }
}

/// One of random numbers.
pub fn random(name: &str, shape: &[usize], seed: u64) -> Tensor {
    let mut random = Random::new(seed);
    let count = shape.iter().product();
    let numbers = (0..count).map(|_| (random.unit() - 0.5) as f32 * 0.4);
    plain(name, shape, numbers.collect())
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
