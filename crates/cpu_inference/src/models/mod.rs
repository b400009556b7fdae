//! The families of networks, one file each.

mod bert;
mod llama;
mod modernbert;
mod qwen2;
mod qwen3;
mod roberta;

use crate::family::Family;

/// Every family, by the names that `metadata.json` gives them.
pub(crate) static FAMILIES: [&Family; 6] = [
    &bert::BERT,
    &roberta::ROBERTA,
    &modernbert::MODERNBERT,
    &llama::LLAMA,
    &qwen2::QWEN2,
    &qwen3::QWEN3,
];
