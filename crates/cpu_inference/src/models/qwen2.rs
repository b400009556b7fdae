//! Qwen2: Llama with biases on query, key and value.
//!
//! Source: arXiv:2407.10671.

use super::llama::{LLAMA, qwen_gguf};
use crate::family::{ConfigKeys, Family};

pub(crate) const QWEN2: Family = Family {
    name: "qwen2",
    model_types: &["qwen2"],
    config: ConfigKeys {
        attention_bias: true,
        ..LLAMA.config
    },
    gguf: qwen_gguf("qwen2"),
    ..LLAMA
};
