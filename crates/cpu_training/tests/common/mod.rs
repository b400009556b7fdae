//! Small decoders of random weights, and batches for them.
#![allow(dead_code, clippy::unwrap_used)]

pub mod encoders;

use arrow_quant::{Dtype, Grid, Quantization, Tensor, TensorData, quantize};
use cpu_inference::{Layout, ModelConfig, TensorKind};
use cpu_training::{Base, Batch, Beneath, Goal, Parameter, Precision, Settings, Trainer};
use kernels::{CodeBits, PlainRows};

pub const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];
const HIDDEN: usize = 32;
const VOCAB: usize = 80;
const RANK: usize = 3;
const ROWS: [u32; 2] = [4, 70];
const ROWS_BENEATH: [u32; 2] = [70, 33];
const RANK_BENEATH: usize = 5;
const SCALING_BENEATH: f32 = 0.6;

/// Numbers that look random and are the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    pub fn vector(&mut self, len: usize, size: f32) -> Vec<f32> {
        (0..len)
            .map(|_| (self.below(20_001) as f32 / 10_000.0 - 1.0) * size)
            .collect()
    }
}

/// A network, what is trained of it, and a batch with what is to be written.
#[derive(Clone)]
pub struct Case {
    pub family: &'static str,
    pub config: ModelConfig,
    pub tensors: Vec<Tensor>,
    /// Of a card beneath; none without one.
    pub beneath: Vec<Tensor>,
    pub parameters: Vec<Parameter>,
    pub settings: Settings,
    pub ids: Vec<u32>,
    pub positions: Vec<u32>,
    pub level: Vec<i32>,
    pub noisy: Vec<i32>,
    pub document: Vec<i32>,
    pub goals: Vec<u32>,
    pub weights: Vec<f32>,
}

pub fn plain(name: &str, shape: Vec<usize>, values: &[f32]) -> Tensor {
    let data = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect::<Vec<u8>>()
        .into();
    Tensor::new(
        name,
        shape,
        TensorData::Plain {
            dtype: Dtype::F32,
            data,
        },
    )
    .unwrap()
}

fn config(family: &str) -> ModelConfig {
    let text = serde_json::json!({
        "architecture": family, "hidden_size": HIDDEN, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2,
        "head_dim": 8, "intermediate_size": 48, "vocab_size": VOCAB, "max_position_embeddings": 64,
        "norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 10000.0, "tied_embeddings": family != "qwen2",
    });
    ModelConfig::from_json(&text.to_string()).unwrap()
}

impl Case {
    fn new(family: &'static str) -> Self {
        let config = config(family);
        let layout = Layout::of(&config).unwrap();
        let mut random = Random(11);
        let mut tensors = Vec::new();
        let mut parameters = Vec::new();
        for spec in layout.tensors() {
            let len: usize = spec.shape.iter().product();
            let is_norm = spec.name.contains("norm");
            if spec.name.ends_with("bias") && !(spec.is_needed || family == "qwen2") {
                continue;
            }
            let mut values = random.vector(len, if is_norm { 0.3 } else { 0.25 });
            if is_norm {
                for value in &mut values {
                    *value += 1.0;
                }
                parameters.push(Parameter::new(
                    &spec.name,
                    spec.shape.clone(),
                    values.iter().map(|v| v * 0.9).collect(),
                ));
            }
            if spec.kind == TensorKind::Linear {
                let layer = spec.name.strip_suffix(".weight").unwrap();
                let (outputs, inputs) = (spec.shape[0], spec.shape[1]);
                for (part, shape) in [("lora_A", [RANK, inputs]), ("lora_B", [outputs, RANK])] {
                    let values = random.vector(shape[0] * shape[1], 0.2);
                    parameters.push(Parameter::new(
                        &format!("{layer}.{part}.weight"),
                        shape.to_vec(),
                        values,
                    ));
                }
            }
            tensors.push(plain(&spec.name, spec.shape, &values));
        }
        let rows = random.vector(ROWS.len() * HIDDEN, 0.3);
        parameters.push(Parameter::new(
            "model.embed_tokens.rows",
            vec![ROWS.len(), HIDDEN],
            rows,
        ));
        Self {
            family,
            config,
            tensors,
            beneath: Vec::new(),
            parameters,
            settings: Settings {
                scaling: 1.7,
                row_ids: ROWS.to_vec(),
                dropout: 0.0,
                precision: Precision::Single,
            },
            ids: Vec::new(),
            positions: Vec::new(),
            level: Vec::new(),
            noisy: Vec::new(),
            document: Vec::new(),
            goals: Vec::new(),
            weights: Vec::new(),
        }
    }

    fn push(
        &mut self,
        id: u32,
        place: u32,
        level: i32,
        noisy: i32,
        document: i32,
        goal: Option<u32>,
    ) {
        self.ids.push(id);
        self.positions.push(place);
        self.level.push(level);
        self.noisy.push(noisy);
        self.document.push(document);
        self.goals.push(goal.unwrap_or(0));
        self.weights.push(if goal.is_some() {
            0.3 + 0.1 * place as f32
        } else {
            0.0
        });
    }

    /// Three texts, of which the next tokens of the second halves are learned.
    pub fn causal(family: &'static str) -> Self {
        let mut case = Self::new(family);
        let mut random = Random(5);
        for (document, len) in [7_u32, 12, 5].into_iter().enumerate() {
            for place in 0..len {
                let id = if place == 1 {
                    ROWS[1]
                } else {
                    random.below(VOCAB) as u32
                };
                let goal = (place > len / 2).then(|| {
                    if place % 2 == 0 {
                        ROWS[0]
                    } else {
                        random.below(VOCAB) as u32
                    }
                });
                case.push(id, place, place as i32, 0, document as i32, goal);
            }
        }
        case
    }

    /// Two texts whose prompt sees itself, each with two masked copies of a block.
    pub fn masked(family: &'static str) -> Self {
        let mut case = Self::new(family);
        let mut random = Random(9);
        for document in 0..2 {
            for place in 0..6 {
                case.push(random.below(VOCAB) as u32, place, 0, 0, document, None);
            }
            let block: Vec<u32> = (0..4).map(|_| random.below(VOCAB) as u32).collect();
            for copy in 1..3 {
                for (place, &id) in (6..).zip(&block) {
                    let is_open = (place + copy) % 2 == 0;
                    let shown = if is_open { ROWS[0] } else { id };
                    case.push(
                        shown,
                        place,
                        1,
                        copy as i32,
                        document,
                        is_open.then_some(id),
                    );
                }
            }
        }
        case
    }

    /// The same with side blocks of different widths behind those blocks, beside what else is trained.
    pub fn with_side_blocks(mut self, blocks: &[usize]) -> Self {
        let mut random = Random(31);
        for block in blocks {
            let width = 3 + block;
            for (part, shape) in [("down", [width, HIDDEN]), ("up", [HIDDEN, width])] {
                let name = format!("model.layers.{block}.side_{part}.weight");
                let values = random.vector(width * HIDDEN, 0.3);
                self.parameters
                    .push(Parameter::new(&name, shape.to_vec(), values));
            }
        }
        self
    }

    /// The same of which nothing but side blocks is trained.
    pub fn of_side_blocks_alone(mut self) -> Self {
        self.parameters.retain(|one| one.name.contains(".side_"));
        self.settings.row_ids.clear();
        self
    }

    /// The same on a base of four bits.
    pub fn quantised(mut self) -> Self {
        for tensor in &mut self.tensors {
            if tensor.shape.len() == 2 && tensor.name.contains("proj") {
                let (n, k) = tensor.matrix();
                let how = Quantization {
                    bits: CodeBits::Int4,
                    group_size: 16,
                    grid: Grid::Minimum,
                };
                let weights = tensor.dequantize();
                let stored = quantize(PlainRows::F32(&weights), n, k, how, |_| true).unwrap();
                *tensor = Tensor::new(&tensor.name, vec![n, k], TensorData::Quant(stored)).unwrap();
            }
        }
        self
    }

    /// The same on a card: factors of all layers, norms, and rows of the embedding.
    pub fn on_a_card(mut self) -> Self {
        let mut random = Random(23);
        for tensor in self.tensors.clone() {
            if tensor.name.contains("norm") {
                let values: Vec<f32> = tensor.dequantize().iter().map(|v| v * 1.2).collect();
                self.beneath
                    .push(plain(&tensor.name, tensor.shape, &values));
            } else if let Some(layer) = tensor.name.strip_suffix("proj.weight") {
                let (outputs, inputs) = tensor.matrix();
                let shapes = [
                    ("A", [RANK_BENEATH, inputs]),
                    ("B", [outputs, RANK_BENEATH]),
                ];
                for (part, shape) in shapes {
                    let values = random.vector(shape[0] * shape[1], 0.2);
                    let name = format!("{layer}proj.lora_{part}.weight");
                    self.beneath.push(plain(&name, shape.to_vec(), &values));
                }
            }
        }
        let rows = random.vector(ROWS_BENEATH.len() * HIDDEN, 0.3);
        let shape = vec![ROWS_BENEATH.len(), HIDDEN];
        self.beneath
            .push(plain("model.embed_tokens.rows", shape, &rows));
        self
    }

    /// The same with the card beneath added to the base's own numbers.
    pub fn merged(mut self) -> Self {
        let card = std::mem::take(&mut self.beneath);
        let find = |name: &str| card.iter().find(|one| one.name == name);
        for tensor in &mut self.tensors {
            let mut values = tensor.dequantize();
            let owner = tensor.name.strip_suffix(".weight").unwrap_or("");
            let part = |part: &str| find(&format!("{owner}.{part}")).map(Tensor::dequantize);
            if let Some(own) = find(&tensor.name) {
                values = own.dequantize();
            } else if let Some((a, b)) = part("lora_A.weight").zip(part("lora_B.weight")) {
                let (outputs, inputs) = tensor.matrix();
                for (row, col) in
                    (0..outputs).flat_map(|row| (0..inputs).map(move |col| (row, col)))
                {
                    let products =
                        (0..RANK_BENEATH).map(|k| b[row * RANK_BENEATH + k] * a[k * inputs + col]);
                    values[row * inputs + col] += SCALING_BENEATH * products.sum::<f32>();
                }
            } else if let Some(rows) = part("rows") {
                for (&id, row) in ROWS_BENEATH.iter().zip(rows.chunks_exact(HIDDEN)) {
                    values[id as usize * HIDDEN..][..HIDDEN].copy_from_slice(row);
                }
            }
            *tensor = plain(&tensor.name, tensor.shape.clone(), &values);
        }
        self
    }

    pub fn batch(&self) -> Batch<'_> {
        Batch {
            ids: &self.ids,
            positions: &self.positions,
            level: &self.level,
            noisy: &self.noisy,
            document: &self.document,
        }
    }

    pub fn labels(&self) -> Goal<'_> {
        Goal::Labels {
            labels: &self.goals,
            weights: &self.weights,
        }
    }

    pub fn trainer(&self) -> Trainer {
        self.trainer_with(2)
    }

    pub fn trainer_with(&self, threads: usize) -> Trainer {
        self.try_trainer_with(threads).unwrap()
    }

    pub fn try_trainer(&self) -> cpu_training::Result<Trainer> {
        self.try_trainer_with(1)
    }

    fn try_trainer_with(&self, threads: usize) -> cpu_training::Result<Trainer> {
        Trainer::new(
            &self.config,
            Base {
                tensors: &self.tensors,
                beneath: (!self.beneath.is_empty()).then_some(Beneath {
                    tensors: &self.beneath,
                    scaling: SCALING_BENEATH,
                    row_ids: &ROWS_BENEATH,
                }),
            },
            self.parameters.clone(),
            self.settings.clone(),
            threads,
        )
    }
}
