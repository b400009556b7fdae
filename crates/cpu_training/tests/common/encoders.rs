//! Small encoders of random weights, and texts for them.
#![allow(dead_code, clippy::unwrap_used)]

use arrow_quant::Tensor;
use cpu_inference::{Layout, ModelConfig, TensorKind};
use cpu_training::{Base, Batch, Parameter, Precision, Settings, Trainer};

use super::{Random, plain};

pub const FAMILIES: [&str; 2] = ["bert", "roberta"];
pub const ACTIVATIONS: [&str; 3] = ["gelu", "gelu_new", "relu"];
const HIDDEN: usize = 24;
const VOCAB: usize = 60;
const RANK: usize = 3;

/// An encoder, what is trained of it, and texts.
#[derive(Clone)]
pub struct EncoderCase {
    pub config: ModelConfig,
    pub tensors: Vec<Tensor>,
    pub parameters: Vec<Parameter>,
    pub ids: Vec<u32>,
    pub positions: Vec<u32>,
    pub zeros: Vec<i32>,
    pub document: Vec<i32>,
    /// What a loss changes by with the states.
    pub gradient: Vec<f32>,
}

impl EncoderCase {
    pub fn new(family: &str, activation: &str) -> Self {
        let text = serde_json::json!({
            "architecture": family, "hidden_size": HIDDEN, "num_layers": 2, "num_heads": 3,
            "intermediate_size": 40, "vocab_size": VOCAB, "max_position_embeddings": 32,
            "position_offset": if family == "roberta" { 2 } else { 0 }, "type_vocab_size": 2,
            "norm_eps": 1e-5, "hidden_act": activation, "tied_embeddings": true,
        });
        let config = ModelConfig::from_json(&text.to_string()).unwrap();
        let layout = Layout::of(&config).unwrap();
        let mut random = Random(17);
        let (mut tensors, mut parameters) = (Vec::new(), Vec::new());
        for spec in layout.tensors() {
            if !spec.is_needed {
                continue;
            }
            let len: usize = spec.shape.iter().product();
            let mut values = random.vector(len, 0.4);
            if spec.name.contains("LayerNorm.weight") {
                for value in &mut values {
                    *value += 1.0;
                }
            }
            if spec.kind == TensorKind::Linear {
                let layer = spec.name.strip_suffix(".weight").unwrap();
                let (outputs, inputs) = (spec.shape[0], spec.shape[1]);
                for (part, shape) in [("lora_A", [RANK, inputs]), ("lora_B", [outputs, RANK])] {
                    let values = random.vector(shape[0] * shape[1], 0.2);
                    let name = format!("{layer}.{part}.weight");
                    parameters.push(Parameter::new(&name, shape.to_vec(), values));
                }
            }
            tensors.push(plain(&spec.name, spec.shape, &values));
        }
        let lengths = [5_u32, 9, 3];
        let ids: Vec<u32> = (0..17).map(|_| random.below(VOCAB) as u32).collect();
        let document = lengths.iter().zip(0..);
        let document = document.flat_map(|(&len, number)| (0..len).map(move |_| number));
        Self {
            config,
            tensors,
            parameters,
            gradient: random.vector(ids.len() * HIDDEN, 0.3),
            positions: lengths.iter().flat_map(|&len| 0..len).collect(),
            zeros: vec![0; ids.len()],
            document: document.collect(),
            ids,
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            positions: &self.positions,
            level: &self.zeros,
            noisy: &self.zeros,
            document: &self.document,
        }
    }

    pub fn trainer(
        &self,
        parameters: Vec<Parameter>,
        dropout: f32,
    ) -> cpu_training::Result<Trainer> {
        let settings = Settings {
            scaling: 1.3,
            row_ids: Vec::new(),
            dropout,
            precision: Precision::Single,
        };
        let base = Base {
            tensors: &self.tensors,
            beneath: None,
        };
        Trainer::new(&self.config, base, parameters, settings, 2)
    }
}
