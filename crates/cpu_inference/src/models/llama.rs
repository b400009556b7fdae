//! Llama, `SmolLM2`: rotary positions, RMS norms before attention and gated feed-forward layers.
//!
//! Source: arXiv:2302.13971; tensor names of Hugging Face `LlamaForCausalLM`.

use crate::family::{Bias, Checkpoint, ConfigKeys, Family, Gguf, NormKind, NormPlace, Part};

pub(crate) const LLAMA: Family = Family {
    name: "llama",
    model_types: &["llama"],
    is_decoder: true,
    words: "model.embed_tokens",
    positions: None,
    types: None,
    embedding_norm: None,
    norm: NormKind::Rms,
    norm_place: NormPlace::Before,
    layer: "model.layers",
    attention_norm: "input_layernorm",
    first_block_lacks_norm: false,
    qkv: &[
        as_said("self_attn.q_proj"),
        as_said("self_attn.k_proj"),
        as_said("self_attn.v_proj"),
    ],
    head_norms: None,
    is_rotary: true,
    output: plain("self_attn.o_proj"),
    feed_forward_norm: "post_attention_layernorm",
    is_gated: true,
    wide: &[plain("mlp.gate_proj"), plain("mlp.up_proj")],
    down: plain("mlp.down_proj"),
    final_norm: Some("model.norm"),
    head: Some("lm_head"),
    classifier: None,
    config: ConfigKeys {
        norm_eps: "rms_norm_eps",
        activation: ("hidden_act", "silu", &["silu"]),
        is_tied: false,
        attention_bias: false,
        head_dim: None,
        tokenizer: None,
        is_padded: false,
        has_windows: false,
    },
    checkpoint: Checkpoint {
        wrapper: "model.",
        is_wrapped: true,
        renamed: &[],
        unused: &[],
    },
    gguf: Some(Gguf {
        architecture: "llama",
        names: &[
            ("token_embd", "model.embed_tokens"),
            ("output_norm", "model.norm"),
            ("output", "lm_head"),
        ],
        layer_names: &[
            ("attn_norm", "input_layernorm"),
            ("ffn_norm", "post_attention_layernorm"),
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("attn_output", "self_attn.o_proj"),
            ("attn_q_norm", "self_attn.q_norm"),
            ("attn_k_norm", "self_attn.k_norm"),
            ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"),
            ("ffn_down", "mlp.down_proj"),
        ],
        is_interleaved: true,
    }),
};

/// The names that Qwen shares, and the order of the rows that it does not.
pub(super) const fn qwen_gguf(architecture: &'static str) -> Option<Gguf> {
    match LLAMA.gguf {
        Some(names) => Some(Gguf {
            architecture,
            is_interleaved: false,
            ..names
        }),
        None => None,
    }
}

const fn plain(name: &'static str) -> Part {
    Part {
        name,
        bias: Bias::Optional,
    }
}

const fn as_said(name: &'static str) -> Part {
    Part {
        name,
        bias: Bias::AsSaid,
    }
}
