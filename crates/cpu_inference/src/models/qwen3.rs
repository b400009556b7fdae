//! Qwen3: Llama with norms of each head's query and key.
//!
//! Source: arXiv:2505.09388.

use super::llama::{LLAMA, qwen_gguf};
use crate::family::{ConfigKeys, Family};

pub(crate) const QWEN3: Family = Family {
    name: "qwen3",
    model_types: &["qwen3"],
    head_norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
    config: ConfigKeys {
        // Transformers' default; the other families divide the width by the heads.
        head_dim: Some(128),
        ..LLAMA.config
    },
    gguf: qwen_gguf("qwen3"),
    ..LLAMA
};
