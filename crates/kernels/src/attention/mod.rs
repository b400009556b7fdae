//! Attention over segments of keys and values, without ever holding all scores.
//!
//! A task takes one key head and a block of the queries that share it. Keys come in blocks of fixed
//! size; a running maximum and sum per query rescale what earlier blocks gave (online softmax,
//! arXiv:2112.05682, arXiv:2205.14135). Blocks are counted from the first key of a segment, and what
//! [`SPLIT`] keys give is merged in their order, so a result depends neither on how many queries are asked
//! at once nor on how many threads share the keys.

mod page;
mod state;
mod task;

pub use page::{KvLayout, KvPage, PAGE_KEYS};

use std::ops::Range;

use crate::plan::few_rows_work;
use crate::shared::SharedOut;
use crate::{ThreadPool, isa};
use state::{QUERIES, State};
use task::{Part, Problem};

/// Keys whose softmax is computed in one go; longer segments are several, which threads may share.
const SPLIT: usize = 4 * PAGE_KEYS;
/// Keys are split over threads while there are fewer tasks than this for each.
const TASKS_PER_THREAD: usize = 4;

/// Rows of `f32` at a fixed distance: a matrix, or some columns of a wider one.
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

    #[inline(always)]
    fn row(self, index: usize, first: usize, width: usize) -> &'a [f32] {
        &self.data[index * self.stride + first..][..width]
    }

    fn holds(self, rows: usize, width: usize) -> bool {
        rows == 0 || (rows - 1).saturating_mul(self.stride).saturating_add(width) <= self.data.len()
    }
}

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`. Query heads that follow each other share one.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
    /// Factor of the scores, mostly `1 / sqrt(head_dim)`.
    pub scale: f32,
}

/// Queries that see the same segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionSpan {
    /// First row of the queries and of the output.
    pub query_start: usize,
    /// Queries.
    pub queries: usize,
    /// The first of its segments.
    pub first_segment: usize,
    /// Segments it sees.
    pub segments: usize,
}

/// Keys that follow each other in one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySegment {
    /// Which source, as [`KeySource`] counts them.
    pub source: usize,
    /// First key; of a source in pages a multiple of [`PAGE_KEYS`].
    pub start: usize,
    /// Keys.
    pub keys: usize,
    /// `Some(offset)`: query `i` of the span sees keys `0..=offset + i`; `None`: all of them.
    pub causal: Option<usize>,
    /// Of those, the ones that it sees; `None`: all of them.
    pub window: Option<KeyWindow>,
}

/// Keys around a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyWindow {
    /// The key that lies where query 0 of the span does.
    pub offset: usize,
    /// Query `i` sees keys at most that far from key `offset + i`.
    pub reach: usize,
}

impl KeySegment {
    /// Keys that query `query` of its span sees.
    #[inline(always)]
    fn visible(self, query: usize) -> Range<usize> {
        let causal = |offset: usize| (offset + query + 1).min(self.keys);
        let end = self.causal.map_or(self.keys, causal);
        match self.window {
            None => 0..end,
            Some(KeyWindow { offset, reach }) => {
                let at = offset + query;
                let end = end.min(at.saturating_add(reach).saturating_add(1));
                at.saturating_sub(reach).min(end)..end
            }
        }
    }
}

/// Keys and values where they lie.
#[derive(Debug, Clone, Copy)]
pub enum KeyValues<'a> {
    /// All of a source, each `[rows, kv_heads * head_dim]`.
    Rows {
        /// Keys.
        keys: Rows<'a>,
        /// Values.
        values: Rows<'a>,
    },
    /// One page of a source.
    Page(KvPage<'a>),
}

/// The keys and values of one layer, by source.
pub trait KeySource: Sync {
    /// The source, or its page of that index where it lies in pages.
    fn get(&self, source: usize, page: usize) -> KeyValues<'_>;
}

/// What attention computes, apart from its operands.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// The heads.
    pub shape: AttentionShape,
    /// Which rows ask; they ascend.
    pub spans: &'a [AttentionSpan],
    /// Which keys answer.
    pub segments: &'a [KeySegment],
}

/// What threads that share keys found, kept from call to call.
#[derive(Debug, Default)]
pub struct Partials(Vec<f32>);

/// `out = softmax(scale · q · kᵀ) · v` for every span and head, over all segments of the span, on all
/// threads. A query that sees no key yields zeros.
///
/// `q` and `out` are `[rows, heads * head_dim]`.
///
/// # Panics
/// If a span or segment reaches beyond its rows, spans do not ascend, or `kv_heads` does not divide `heads`.
pub fn attention(
    pool: &ThreadPool,
    what: Attention<'_>,
    q: Rows<'_>,
    source: &dyn KeySource,
    partials: &mut Partials,
    out: &mut [f32],
) {
    check(what, q, source, out);
    let Attention {
        shape,
        spans,
        segments,
    } = what;
    let group = shape.heads / shape.kv_heads;
    let largest = |count: fn(&AttentionSpan, &[KeySegment]) -> usize| {
        spans
            .iter()
            .map(|span| count(span, segments))
            .max()
            .unwrap_or(0)
    };
    let blocks = (largest(|span, _| span.queries) * group).div_ceil(QUERIES);
    let pieces = largest(|span, segments| span.pieces(segments));
    let problem = Problem {
        what,
        q,
        source,
        group,
        out: SharedOut::new(out),
    };
    let tasks = spans.len() * shape.kv_heads;
    let pool = &pool.paying(spans.iter().map(|span| work(shape, span, segments)).sum());
    if blocks == 1 && pieces > 1 && tasks < pool.threads() * TASKS_PER_THREAD && pool.threads() > 1
    {
        return split(pool, &problem, pieces, partials);
    }
    let isa = isa();
    pool.run(tasks * blocks, |task| {
        let (span, kv_head, block) = (
            spans[task / (shape.kv_heads * blocks)],
            task / blocks % shape.kv_heads,
            task % blocks,
        );
        let first = block * QUERIES;
        let count = (span.queries * group).saturating_sub(first).min(QUERIES);
        if count > 0 {
            let part = Part {
                span,
                kv_head,
                first,
                count,
            };
            task::attend(isa, &problem, part);
        }
    });
}

/// What attention of a span takes, in bytes as [`ThreadPool::paying`] counts them.
fn work(shape: AttentionShape, span: &AttentionSpan, segments: &[KeySegment]) -> usize {
    let keys: usize = span
        .segments_of(segments)
        .iter()
        .map(|segment| segment.keys)
        .sum();
    let bytes = keys * shape.kv_heads * shape.head_dim * 2 * size_of::<f32>();
    few_rows_work(span.queries * shape.heads / shape.kv_heads, bytes)
}

/// Each piece of the keys by itself, then the pieces of each head merged in their order.
fn split(pool: &ThreadPool, problem: &Problem<'_>, pieces: usize, partials: &mut Partials) {
    let Attention { shape, spans, .. } = problem.what;
    let width = State::numbers(shape.head_dim);
    let heads = spans.len() * shape.kv_heads;
    let partials = crate::scratch::fit(&mut partials.0, heads * pieces * width);
    let part = |head: usize| {
        let span = spans[head / shape.kv_heads];
        Part {
            span,
            kv_head: head % shape.kv_heads,
            first: 0,
            count: span.queries * problem.group,
        }
    };
    let isa = isa();
    let shared = SharedOut::new(&mut *partials);
    pool.run(heads * pieces, |task| {
        // SAFETY: every task has a place of its own.
        let state = unsafe { shared.part(task * width, width) };
        task::attend_piece(isa, problem, part(task / pieces), task % pieces, state);
    });
    let shared = SharedOut::new(partials);
    let pool = pool.paying(heads * pieces * width * size_of::<f32>());
    pool.run(heads, |head| {
        // SAFETY: every head has places of its own.
        let states = unsafe { shared.part(head * pieces * width, pieces * width) };
        task::merge(isa, problem, part(head), states);
    });
}

fn check(what: Attention<'_>, q: Rows<'_>, source: &dyn KeySource, out: &[f32]) {
    let AttentionShape {
        heads,
        kv_heads,
        head_dim,
        ..
    } = what.shape;
    assert!(
        kv_heads > 0 && heads.is_multiple_of(kv_heads),
        "{kv_heads} key heads for {heads} heads"
    );
    let mut next = 0;
    for span in what.spans {
        let queries = span.query_start + span.queries;
        assert!(span.query_start >= next, "spans of queries ascend");
        assert!(q.holds(queries, heads * head_dim), "queries lie within q");
        assert!(
            queries * heads * head_dim <= out.len(),
            "queries lie within out"
        );
        let segments = span.segments_of(what.segments).iter();
        for segment in segments.filter(|segment| segment.keys > 0) {
            // Pages are checked where they are read.
            if let KeyValues::Rows { keys, values } = source.get(segment.source, 0) {
                let (last, width) = (segment.start + segment.keys, kv_heads * head_dim);
                assert!(keys.holds(last, width), "keys lie within their rows");
                assert!(values.holds(last, width), "values lie within their rows");
            } else {
                assert!(
                    segment.start.is_multiple_of(PAGE_KEYS),
                    "a segment begins with a page"
                );
            }
        }
        next = queries;
    }
}

impl AttentionSpan {
    fn segments_of(self, segments: &[KeySegment]) -> &[KeySegment] {
        &segments[self.first_segment..][..self.segments]
    }

    /// Pieces of at most [`SPLIT`] keys.
    fn pieces(self, segments: &[KeySegment]) -> usize {
        let pieces = |segment: &KeySegment| segment.keys.div_ceil(SPLIT);
        self.segments_of(segments).iter().map(pieces).sum()
    }

    /// The piece of that index: its segment, and where in it the piece begins.
    fn piece(self, segments: &[KeySegment], mut index: usize) -> Option<(KeySegment, usize)> {
        for segment in self.segments_of(segments) {
            let pieces = segment.keys.div_ceil(SPLIT);
            if index < pieces {
                return Some((*segment, index * SPLIT));
            }
            index -= pieces;
        }
        None
    }
}
