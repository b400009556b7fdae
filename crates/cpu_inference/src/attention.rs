//! The heads of an attention layer and which tokens they relate.

use kernels::{AttentionShape, AttentionSpan, Rows, ThreadPool};

use crate::config::ModelConfig;

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
    /// The heads that a configuration describes.
    pub(crate) fn of(config: &ModelConfig) -> Self {
        Self {
            heads: config.num_heads,
            kv_heads: config.kv_heads(),
            dim: config.head_width(),
        }
    }

    /// Width of a row of queries.
    pub(crate) const fn query_width(self) -> usize {
        self.heads * self.dim
    }

    /// Width of a row of keys or values.
    pub(crate) const fn kv_width(self) -> usize {
        self.kv_heads * self.dim
    }

    /// Writes the attended values to `out`, which like `queries` is `[queries, heads * dim]`; `keys` and
    /// `values` are `[keys, kv_heads * dim]`.
    pub(crate) fn attend(
        self,
        pool: &ThreadPool,
        (queries, keys, values): (&[f32], &[f32], &[f32]),
        spans: &[AttentionSpan],
        out: &mut [f32],
    ) {
        let shape = AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.dim,
            scale: 1.0 / (self.dim as f32).sqrt(),
        };
        let kv_rows = |data| Rows::new(data, self.kv_width());
        let query_rows = Rows::new(queries, self.query_width());
        kernels::attention(
            pool,
            query_rows,
            kv_rows(keys),
            kv_rows(values),
            shape,
            spans,
            out,
        );
    }
}

/// Each sequence of a batch by itself: sequence `s` is rows `offsets[s] .. offsets[s + 1]`.
pub(crate) fn sequences(offsets: &[usize], causal: bool, spans: &mut Vec<AttentionSpan>) {
    spans.clear();
    spans.extend(offsets.windows(2).map(|pair| AttentionSpan {
        query_start: pair[0],
        queries: pair[1] - pair[0],
        key_start: pair[0],
        keys: pair[1] - pair[0],
        causal: causal.then_some(0),
    }));
}

/// `queries` new tokens behind `past` known ones.
pub(crate) const fn continuation(past: usize, queries: usize) -> AttentionSpan {
    AttentionSpan {
        query_start: 0,
        queries,
        key_start: 0,
        keys: past + queries,
        causal: Some(past),
    }
}
