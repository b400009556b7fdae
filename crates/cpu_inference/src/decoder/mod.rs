//! Causal decoders: Llama, Qwen2 and Qwen3 share one block.

mod block;
mod network;

pub(crate) use network::Decoder;
