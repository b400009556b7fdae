//! Attention of one head over keys and values that lie in memory as rows.

use crate::{ThreadPool, axpy, dot_f32, shared::SharedOut, softmax};

/// Rows of `f32` at a fixed distance: a head's columns of a wider matrix.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Row `r` starts at `data[r * stride]`.
    #[must_use]
    pub const fn new(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride }
    }

    fn row(self, index: usize, first: usize, width: usize) -> &'a [f32] {
        &self.data[index * self.stride + first..][..width]
    }
}

/// What attention computes, apart from its operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Factor of the scores, mostly `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// One sequence of a batch: which rows ask, which rows answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionSpan {
    /// First row of the queries and of the output.
    pub query_start: usize,
    /// Queries.
    pub queries: usize,
    /// First row of the keys and values.
    pub key_start: usize,
    /// Keys.
    pub keys: usize,
    /// `Some(offset)`: query `i` sees keys `0..=offset + i`; `None`: all of them.
    pub causal: Option<usize>,
}

/// `out = softmax(scale · q · kᵀ) · v` for every span and head, over all threads.
///
/// `q` and `out` are `[rows, heads * head_dim]`, `k` and `v` `[rows, kv_heads * head_dim]`.
///
/// # Panics
/// If a span reaches beyond its rows, or `kv_heads` does not divide `heads`.
pub fn attention(
    pool: &ThreadPool,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    shape: AttentionShape,
    spans: &[AttentionSpan],
    out: &mut [f32],
) {
    assert!(
        shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads),
        "kv_heads divides heads"
    );
    let d = shape.head_dim;
    let width = shape.heads * d;
    let rows = out.len() / width.max(1);
    for (i, span) in spans.iter().enumerate() {
        assert!(
            span.query_start + span.queries <= rows,
            "span {i} lies within out"
        );
        assert!(
            spans[..i]
                .last()
                .is_none_or(|last| last.query_start + last.queries <= span.query_start),
            "spans ascend"
        );
    }
    let shared = SharedOut::new(out);
    pool.run(spans.len() * shape.heads, |task| {
        let (span, head) = (spans[task / shape.heads], task % shape.heads);
        let kv_head = head / (shape.heads / shape.kv_heads);
        let mut scores = vec![0.0; span.keys];
        let mut sum = vec![0.0; d];
        for i in 0..span.queries {
            let query = q.row(span.query_start + i, head * d, d);
            let seen = span
                .causal
                .map_or(span.keys, |offset| (offset + i + 1).min(span.keys));
            for (j, score) in scores[..seen].iter_mut().enumerate() {
                *score = shape.scale * dot_f32(query, k.row(span.key_start + j, kv_head * d, d));
            }
            softmax(&mut scores[..seen]);
            sum.fill(0.0);
            for (j, &score) in scores[..seen].iter().enumerate() {
                axpy(score, v.row(span.key_start + j, kv_head * d, d), &mut sum);
            }
            for (c, &value) in sum.iter().enumerate() {
                // SAFETY: a task owns its head's columns of its span's rows, and spans do not overlap.
                unsafe { shared.write((span.query_start + i) * width + head * d + c, value) };
            }
        }
    });
}
