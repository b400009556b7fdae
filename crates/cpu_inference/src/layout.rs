//! The tensors of one network, with their shapes: what its family and its configuration make together.

use serde::Serialize;

use crate::config::ModelConfig;
use crate::error::Result;
use crate::family::{Bias, Family, NormKind, Part};

/// Every part of a network by what it is for. Loading, converting and the torch twin go by it.
#[derive(Debug, Clone, Serialize)]
pub struct Layout {
    /// The family.
    pub family: &'static Family,
    /// Of the tokens.
    pub words: Table,
    /// Of the positions.
    pub positions: Option<Table>,
    /// Of the token types.
    pub types: Option<Table>,
    /// Of what the tables give.
    pub embedding_norm: Option<Norm>,
    /// The blocks in order.
    pub blocks: Vec<BlockLayout>,
    /// Behind the last block.
    pub final_norm: Option<Norm>,
    /// `None` where the table of the tokens is the head.
    pub head: Option<Table>,
    /// Of a model that scores whole texts.
    pub classifier: Option<ClassifierLayout>,
}

/// The parts of a block; see [`Family`].
#[derive(Debug, Clone, Serialize)]
pub struct BlockLayout {
    /// What the names of its tensors begin with.
    pub name: String,
    /// Before attention, or behind it.
    pub attention_norm: Option<Norm>,
    /// Of query, key and value, or of all three in one.
    pub qkv: Vec<Layer>,
    /// Of each head's query and key.
    pub head_norms: Option<[Norm; 2]>,
    /// Behind attention.
    pub output: Layer,
    /// Before the feed-forward layer, or behind it.
    pub feed_forward_norm: Norm,
    /// Gate and up, or both in one, or one alone.
    pub wide: Vec<Layer>,
    /// Behind those.
    pub down: Layer,
    /// Tokens see those that are at most so far away; `None`: all that they may.
    pub reach: Option<usize>,
}

/// The parts of a head for whole texts.
#[derive(Debug, Clone, Serialize)]
pub struct ClassifierLayout {
    pub dense: Layer,
    pub activation: &'static str,
    pub norm: Option<Norm>,
    pub output: Layer,
}

/// `[rows, cols]`, whose name is that of the tensor without `.weight`.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    pub name: String,
    pub rows: usize,
    pub cols: usize,
}

/// A linear layer.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// Of its tensors, without `.weight` and `.bias`.
    pub name: String,
    /// Rows of its weights.
    pub outputs: usize,
    /// Columns of its weights.
    pub inputs: usize,
    /// Else it may be there or not.
    pub needs_bias: bool,
}

/// A norm's scale, and its shift.
#[derive(Debug, Clone, Serialize)]
pub struct Norm {
    /// Of its tensors, without `.weight` and `.bias`.
    pub name: String,
    /// Numbers of a row.
    pub width: usize,
    /// `None`: it has none.
    pub needs_bias: Option<bool>,
}

/// What a tensor is, which decides how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TensorKind {
    /// The table of the tokens.
    Words,
    /// A small table, of positions or token types, or a head for whole texts.
    Table,
    /// The head of a decoder.
    Head,
    /// Weights of a linear layer of a block.
    Linear,
    /// A bias, or a norm's scale or shift.
    Vector,
}

impl TensorKind {
    /// As the border spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Words => "words",
            Self::Table => "table",
            Self::Head => "head",
            Self::Linear => "linear",
            Self::Vector => "vector",
        }
    }
}

/// A tensor of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its axes.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: TensorKind,
    /// A network cannot do without.
    pub is_needed: bool,
}

impl Layout {
    /// The parts of a network of that configuration.
    ///
    /// # Errors
    /// [`crate::InferenceError::UnsupportedArchitecture`].
    pub fn of(config: &ModelConfig) -> Result<Self> {
        let family = config.family()?;
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let parts = Parts { family, config };
        let table = |name: &str, rows| Table {
            name: name.to_owned(),
            rows,
            cols: hidden,
        };
        let is_tied = config.tied_embeddings.unwrap_or(family.config.is_tied);
        let classifier = family.classifier.filter(|_| config.num_labels > 0);
        Ok(Self {
            family,
            words: table(family.words, vocab),
            positions: family.positions.map(|name| {
                table(
                    name,
                    config.max_position_embeddings + config.position_offset,
                )
            }),
            types: family.types.map(|name| table(name, config.token_types())),
            embedding_norm: family
                .embedding_norm
                .map(|name| parts.norm(name.to_owned())),
            blocks: (0..config.num_layers)
                .map(|index| parts.block(index))
                .collect(),
            final_norm: family.final_norm.map(|name| parts.norm(name.to_owned())),
            head: family
                .head
                .filter(|_| !is_tied)
                .map(|name| table(name, vocab)),
            classifier: classifier.map(|head| ClassifierLayout {
                dense: parts.layer("", head.dense, hidden, hidden),
                activation: head.activation,
                norm: head.norm.map(|name| parts.norm(name.to_owned())),
                output: parts.layer("", head.output, config.num_labels, hidden),
            }),
        })
    }

    /// Every tensor once.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut all = Vec::new();
        let tables = [
            Some(&self.words),
            self.positions.as_ref(),
            self.types.as_ref(),
        ];
        let kinds = [TensorKind::Words, TensorKind::Table, TensorKind::Table];
        for (table, kind) in tables.into_iter().zip(kinds) {
            all.extend(table.map(|table| table.spec(kind)));
        }
        add_norm(&mut all, self.embedding_norm.as_ref());
        for block in &self.blocks {
            add_norm(&mut all, block.attention_norm.as_ref());
            let attention = block.qkv.iter().chain([&block.output]);
            let feed_forward = block.wide.iter().chain([&block.down]);
            for layer in attention.chain(feed_forward) {
                add_layer(&mut all, layer, TensorKind::Linear);
            }
            for norm in block.head_norms.iter().flatten() {
                add_norm(&mut all, Some(norm));
            }
            add_norm(&mut all, Some(&block.feed_forward_norm));
        }
        add_norm(&mut all, self.final_norm.as_ref());
        all.extend(self.head.as_ref().map(|head| head.spec(TensorKind::Head)));
        if let Some(classifier) = &self.classifier {
            add_layer(&mut all, &classifier.dense, TensorKind::Table);
            add_norm(&mut all, classifier.norm.as_ref());
            add_layer(&mut all, &classifier.output, TensorKind::Table);
        }
        all
    }

    /// How far tokens see in the blocks that do not see everything.
    pub(crate) fn reach(&self) -> Option<usize> {
        self.blocks.iter().find_map(|block| block.reach)
    }
}

impl Table {
    fn spec(&self, kind: TensorKind) -> TensorSpec {
        TensorSpec {
            name: format!("{}.weight", self.name),
            shape: vec![self.rows, self.cols],
            kind,
            is_needed: true,
        }
    }
}

fn add_layer(all: &mut Vec<TensorSpec>, layer: &Layer, kind: TensorKind) {
    all.push(TensorSpec {
        name: format!("{}.weight", layer.name),
        shape: vec![layer.outputs, layer.inputs],
        kind,
        is_needed: true,
    });
    all.push(TensorSpec {
        name: format!("{}.bias", layer.name),
        shape: vec![layer.outputs],
        kind: TensorKind::Vector,
        is_needed: layer.needs_bias,
    });
}

fn add_norm(all: &mut Vec<TensorSpec>, norm: Option<&Norm>) {
    let Some(norm) = norm else { return };
    let vector = |part, is_needed| TensorSpec {
        name: format!("{}.{part}", norm.name),
        shape: vec![norm.width],
        kind: TensorKind::Vector,
        is_needed,
    };
    all.push(vector("weight", true));
    all.extend(norm.needs_bias.map(|needs| vector("bias", needs)));
}

/// What makes parts of names.
struct Parts<'a> {
    family: &'static Family,
    config: &'a ModelConfig,
}

impl Parts<'_> {
    fn block(&self, index: usize) -> BlockLayout {
        let Self { family, config } = *self;
        let own = format!("{}.{index}", family.layer);
        let prefix = format!("{own}.");
        let name = |part: &str| format!("{prefix}{part}");
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_heads * config.head_width();
        let keys = config.kv_heads() * config.head_width();
        let has_norm = !(family.first_block_lacks_norm && index == 0);
        let qkv = match family.qkv {
            [_] => vec![queries + 2 * keys],
            _ => vec![queries, keys, keys],
        };
        let widened = match family.wide {
            [_] if family.is_gated => vec![2 * wide],
            _ => vec![wide; 2],
        };
        let layers = |parts: &[Part], outputs: &[usize]| {
            let pairs = parts.iter().zip(outputs);
            pairs
                .map(|(&part, &outputs)| self.layer(&prefix, part, outputs, hidden))
                .collect()
        };
        BlockLayout {
            name: own,
            attention_norm: has_norm.then(|| self.norm(name(family.attention_norm))),
            qkv: layers(family.qkv, &qkv),
            head_norms: family.head_norms.map(|names| {
                names.map(|part| Norm {
                    width: config.head_width(),
                    ..self.norm(name(part))
                })
            }),
            output: self.layer(&prefix, family.output, hidden, queries),
            feed_forward_norm: self.norm(name(family.feed_forward_norm)),
            wide: layers(family.wide, &widened),
            down: self.layer(&prefix, family.down, hidden, wide),
            reach: config.reach(index),
        }
    }

    fn layer(&self, prefix: &str, part: Part, outputs: usize, inputs: usize) -> Layer {
        Layer {
            name: format!("{prefix}{}", part.name),
            outputs,
            inputs,
            needs_bias: self.needs(part.bias),
        }
    }

    fn norm(&self, name: String) -> Norm {
        Norm {
            name,
            width: self.config.hidden_size,
            needs_bias: match self.family.norm {
                NormKind::Rms => None,
                NormKind::Layer { bias } => Some(self.needs(bias)),
            },
        }
    }

    fn needs(&self, bias: Bias) -> bool {
        let said = self.config.attention_bias;
        match bias {
            Bias::Needed => true,
            Bias::AsSaid => said.unwrap_or(self.family.config.attention_bias),
            Bias::Optional => false,
        }
    }
}
