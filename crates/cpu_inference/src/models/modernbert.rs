//! `ModernBERT`: rotary positions, norms before gated layers, two blocks of three that see a window alone.
//!
//! Source: arXiv:2412.13663; tensor names of Hugging Face `ModernBertModel`.

use crate::family::{Bias, Checkpoint, Classifier, ConfigKeys, Family, NormKind, NormPlace, Part};

pub(crate) const MODERNBERT: Family = Family {
    name: "modernbert",
    model_types: &["modernbert"],
    is_decoder: false,
    words: "embeddings.tok_embeddings",
    positions: None,
    types: None,
    embedding_norm: Some("embeddings.norm"),
    norm: NormKind::Layer {
        bias: Bias::Optional,
    },
    norm_place: NormPlace::Before,
    layer: "layers",
    attention_norm: "attn_norm",
    first_block_lacks_norm: true,
    qkv: &[part("attn.Wqkv", Bias::AsSaid)],
    head_norms: None,
    is_rotary: true,
    output: part("attn.Wo", Bias::AsSaid),
    feed_forward_norm: "mlp_norm",
    is_gated: true,
    wide: &[part("mlp.Wi", Bias::Optional)],
    down: part("mlp.Wo", Bias::Optional),
    final_norm: Some("final_norm"),
    head: None,
    classifier: Some(Classifier {
        dense: part("head.dense", Bias::Optional),
        activation: "gelu",
        norm: Some("head.norm"),
        output: part("classifier", Bias::Needed),
    }),
    config: ConfigKeys {
        norm_eps: "norm_eps",
        activation: (
            "hidden_activation",
            "gelu",
            &["gelu", "gelu_new", "relu", "silu"],
        ),
        is_tied: true,
        attention_bias: false,
        head_dim: None,
        tokenizer: None,
        is_padded: false,
        has_windows: true,
    },
    checkpoint: Checkpoint {
        wrapper: "model.",
        is_wrapped: false,
        renamed: &[],
        unused: &["head.", "decoder.", "classifier."],
    },
    gguf: None,
};

const fn part(name: &'static str, bias: Bias) -> Part {
    Part { name, bias }
}
