//! BERT, `MiniLM`, BGE, E5: learned positions, attention and feed-forward layers with norms after each.
//!
//! Source: arXiv:1810.04805; tensor names of Hugging Face `BertModel`.

use crate::family::{Bias, Checkpoint, Classifier, ConfigKeys, Family, NormKind, NormPlace, Part};

pub(crate) const BERT: Family = Family {
    name: "bert",
    model_types: &["bert"],
    is_decoder: false,
    words: "embeddings.word_embeddings",
    positions: Some("embeddings.position_embeddings"),
    types: Some("embeddings.token_type_embeddings"),
    embedding_norm: Some("embeddings.LayerNorm"),
    norm: NormKind::Layer { bias: Bias::Needed },
    norm_place: NormPlace::After,
    layer: "encoder.layer",
    attention_norm: "attention.output.LayerNorm",
    first_block_lacks_norm: false,
    qkv: &[
        with_bias("attention.self.query"),
        with_bias("attention.self.key"),
        with_bias("attention.self.value"),
    ],
    head_norms: None,
    is_rotary: false,
    output: with_bias("attention.output.dense"),
    feed_forward_norm: "output.LayerNorm",
    is_gated: false,
    wide: &[with_bias("intermediate.dense")],
    down: with_bias("output.dense"),
    final_norm: None,
    head: None,
    classifier: Some(Classifier {
        dense: with_bias("pooler.dense"),
        activation: "tanh",
        norm: None,
        output: with_bias("classifier"),
    }),
    config: ConfigKeys {
        norm_eps: "layer_norm_eps",
        activation: ("hidden_act", "gelu", &["gelu", "gelu_new", "relu", "silu"]),
        is_tied: true,
        attention_bias: true,
        head_dim: None,
        tokenizer: Some("BertTokenizer"),
        is_padded: false,
        has_windows: false,
    },
    checkpoint: Checkpoint {
        wrapper: "bert.",
        is_wrapped: false,
        renamed: &[
            ("LayerNorm.gamma", "LayerNorm.weight"),
            ("LayerNorm.beta", "LayerNorm.bias"),
        ],
        unused: &["pooler.", "cls.", "classifier."],
    },
    gguf: None,
};

pub(super) const fn with_bias(name: &'static str) -> Part {
    Part {
        name,
        bias: Bias::Needed,
    }
}
