//! What a family of networks is, as data. Each has a file in `models/`; everything else asks it.

use serde::Serialize;

use crate::error::{InferenceError, Result};
use crate::models::FAMILIES;

/// A family: the tensors of its networks, how they are computed with, and what its checkpoints say.
///
/// Names are prefixes: a layer has `{name}.weight` and perhaps `{name}.bias`. Those of a block stand behind
/// `{layer}.{index}.`. They are the names of Hugging Face's checkpoints.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts, each of which stands for itself"
)]
pub struct Family {
    /// What `metadata.json` calls it.
    pub name: &'static str,
    /// The `model_type`s of `config.json` that are computed so.
    pub model_types: &'static [&'static str],
    /// Tokens see those before them, and states are scored against the vocabulary; else all see all.
    pub is_decoder: bool,
    /// Table of the tokens, `[vocab_size, hidden_size]`.
    pub words: &'static str,
    /// Table of learned positions.
    pub positions: Option<&'static str>,
    /// Table of token types.
    pub types: Option<&'static str>,
    /// Norm of what the tables give.
    pub embedding_norm: Option<&'static str>,
    /// What norms compute.
    pub norm: NormKind,
    /// Where the norms of a block stand.
    pub norm_place: NormPlace,
    /// What stands before the number of a block.
    pub layer: &'static str,
    /// Norm of the attention.
    pub attention_norm: &'static str,
    /// The first block has none: it takes what the norm of the embedding gave.
    pub first_block_lacks_norm: bool,
    /// Query, key and value; or one layer that gives all three side by side.
    pub qkv: &'static [Part],
    /// Norms of each head's query and key.
    pub head_norms: Option<[&'static str; 2]>,
    /// Queries and keys are rotated by their positions.
    pub is_rotary: bool,
    /// Output of the attention.
    pub output: Part,
    /// Norm of the feed-forward layer.
    pub feed_forward_norm: &'static str,
    /// The activation of one half of `wide` multiplies the other; else it is applied to all of it.
    pub is_gated: bool,
    /// The layers that widen: one; or gate and up, apart or as one layer that gives both side by side.
    pub wide: &'static [Part],
    /// The layer back.
    pub down: Part,
    /// Norm behind the last block.
    pub final_norm: Option<&'static str>,
    /// A decoder's scores of the vocabulary, where they are not the table of the tokens.
    pub head: Option<&'static str>,
    /// The head of a model that scores whole texts.
    pub classifier: Option<Classifier>,
    /// How `config.json` says what differs between models of the family.
    pub config: ConfigKeys,
    /// How checkpoints name the tensors.
    pub checkpoint: Checkpoint,
    /// How llama.cpp names them, if it knows the family.
    pub gguf: Option<Gguf>,
}

/// A linear layer.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// Its bias.
    pub bias: Bias,
}

/// Whether a layer or norm has a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// Always.
    Needed,
    /// As `attention_bias` says; where that is false, it is added if it is there.
    AsSaid,
    /// It is added if it is there.
    Optional,
}

/// What a norm computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Division by the root of the mean square.
    Rms,
    /// Mean 0 and deviation 1.
    Layer {
        /// Of its shift.
        bias: Bias,
    },
}

/// Where the norms of a block stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// Before attention and feed-forward layer, whose results are added to the stream.
    Before,
    /// Behind that sum.
    After,
}

/// `output(norm(activation(dense(state))))` of a pooled state.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Classifier {
    /// `[hidden_size, hidden_size]`.
    pub dense: Part,
    /// As of `hidden_act`, or `tanh`.
    pub activation: &'static str,
    /// Behind the activation.
    pub norm: Option<&'static str>,
    /// `[num_labels, hidden_size]`.
    pub output: Part,
}

/// Names and defaults of `config.json` that families do not share.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts, each of which stands for itself"
)]
pub struct ConfigKeys {
    /// What is added to the variance.
    pub norm_eps: &'static str,
    /// The activation, its default, and which there may be.
    pub activation: (&'static str, &'static str, &'static [&'static str]),
    /// Whether head and table are one where `tie_word_embeddings` is not said.
    pub is_tied: bool,
    /// `attention_bias` where it is not said.
    pub attention_bias: bool,
    /// `head_dim` where it is not said; else `hidden_size / num_attention_heads`.
    pub head_dim: Option<usize>,
    /// Class of the tokenizer where `tokenizer_config.json` does not say it, if it does more than `tokenizer.json`.
    pub tokenizer: Option<&'static str>,
    /// The first token has the position behind `pad_token_id`, not 0.
    pub is_padded: bool,
    /// Some layers see a window alone, as `layer_types` and `local_attention` say.
    pub has_windows: bool,
}

/// Names in checkpoints.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Checkpoint {
    /// What stands before the names in a checkpoint of a network with a head.
    pub wrapper: &'static str,
    /// The names here have it too.
    pub is_wrapped: bool,
    /// Parts of names, and what stands here in their place.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Beginnings of names of heads for training, unless a head here takes part in what is computed.
    pub unused: &'static [&'static str],
}

/// Names in files of llama.cpp.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Gguf {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Names there and here.
    pub names: &'static [(&'static str, &'static str)],
    /// Those of a block, behind `blk.{index}.` there.
    pub layer_names: &'static [(&'static str, &'static str)],
    /// Rows of query and key of each head are interleaved, so that rotary pairs lie side by side.
    pub is_interleaved: bool,
}

impl Family {
    /// The family of that name.
    ///
    /// # Errors
    /// [`InferenceError::UnsupportedArchitecture`] for any other name.
    pub fn named(name: &str) -> Result<&'static Self> {
        let found = FAMILIES.into_iter().find(|family| family.name == name);
        found.ok_or_else(|| InferenceError::UnsupportedArchitecture {
            got: name.to_owned(),
            supported: names_of(|_| true),
        })
    }

    /// All of them.
    #[must_use]
    pub const fn all() -> &'static [&'static Self] {
        &FAMILIES
    }
}

/// Names of the families that are so.
pub(crate) fn names_of(is_so: impl Fn(&Family) -> bool) -> String {
    let found = FAMILIES.into_iter().filter(|family| is_so(family));
    found
        .map(|family| family.name)
        .collect::<Vec<_>>()
        .join(", ")
}
