//! Learning on the CPU: forward and backward passes of decoders and encoders in single precision, for low-rank factors and
//! side blocks on a frozen base that stays as it is stored, and for norms and rows of the embedding.
//!
//! A [`Trainer`] adds up gradients batch by batch and takes a step when it is told to. Nothing it computes
//! depends on the number of threads.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::float_cmp)
)]

mod activation;
mod attention;
mod batch;
mod block;
mod body;
mod buffers;
mod dropout;
mod embedding;
mod encoder;
mod error;
mod feed_forward;
mod frozen;
mod head;
mod layer_norm;
mod linear;
mod magnitude;
mod network;
mod norm;
mod parameters;
mod products;
mod side_block;
mod trainer;

pub use batch::Batch;
pub use error::{Result, TrainingError};
pub use frozen::{Base, Beneath};
pub use parameters::{AdamW, Parameter};
pub use products::Precision;
pub use trainer::{Goal, Settings, Trainer};
