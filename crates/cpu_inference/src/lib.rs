//! Transformer forward passes on the CPU, over weights as they are stored.
//!
//! [`Model`] holds an encoder or a decoder and serves any number of threads. A [`Pass`] says what one forward
//! call computes: encoding, reading, decoding and denoising each build one. [`Session`] continues one text
//! with a cache of keys and values; [`Sampler`] chooses tokens from logits.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)
)]

mod activation;
mod adapter;
mod attention;
mod batch;
mod batcher;
mod card;
mod config;
mod embedding;
mod error;
mod family;
mod kv_cache;
mod layout;
mod linear;
mod low_rank;
mod matrix;
mod merged;
mod model;
mod models;
mod network;
mod norm;
mod pass;
mod perplexity;
mod pooling;
mod prediction;
mod prefix_cache;
mod random;
mod rotary;
mod rows;
mod sampler;
mod session;
mod side_block;
mod simd;
mod sites;
mod states;
mod tensors;
mod text;
mod view;
mod workspace;

pub use adapter::Adapter;
pub use batch::Sequences;
pub use card::Card;
pub use config::{ModelConfig, Pooling};
pub use error::{InferenceError, Result};
pub use family::{
    Bias, Checkpoint, Classifier, ConfigKeys, Family, Gguf, NormKind, NormPlace, Part,
};
pub use kv_cache::{CachePrecision, KvCache};
pub use layout::{BlockLayout, Layer, Layout, Norm, TensorKind, TensorSpec};
pub use matrix::Matrix;
pub use model::{Model, Watch};
pub use pass::{Pass, Segment};
pub use prediction::{Block, PredictionRequest, Predictions};
pub use prefix_cache::PrefixStats;
pub use random::Random;
pub use rotary::{Angles, Rotary};
pub use sampler::{Choice, Sampler, SamplingSettings};
pub use session::{Guidance, Session, extend_all, predict_all};
pub use states::States;
