//! Scaled dot-product attention, tile by tile with an online softmax.
//!
//! Source: `FlashAttention`, arXiv:2205.14135: scores of a tile of queries against a block of keys are
//! never written to memory as a whole matrix.

mod cached;
mod ragged;
mod tile;

pub(crate) use cached::attend_cached;
pub(crate) use ragged::{Ragged, attend_ragged};
pub(crate) use tile::{BLOCK, padded};

/// Heads of an attention layer. Query head `h` reads key and value head `h / (heads / kv_heads)`.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "the names of configurations")]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) dim: usize,
}

impl Heads {
    /// Query heads per key head.
    pub(crate) const fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of a row of queries.
    pub(crate) const fn query_width(self) -> usize {
        self.heads * self.dim
    }

    /// Width of a row of keys or values.
    pub(crate) const fn kv_width(self) -> usize {
        self.kv_heads * self.dim
    }

    /// Factor on scores.
    pub(crate) fn scale(self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }
}
