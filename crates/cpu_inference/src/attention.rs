//! The heads of an attention layer, and where a pass finds its keys and values.

use std::mem;

use kernels::{
    Attention, AttentionShape, AttentionSpan, KeySegment, KeySource, KeyValues, KeyWindow,
    KvLayout, Partials, Rows, ThreadPool,
};

use crate::config::ModelConfig;
use crate::kv_cache::KvCache;
use crate::pass::{Pass, Segment};

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

    /// How a page of keys and values lies in memory.
    pub(crate) const fn layout(self) -> KvLayout {
        KvLayout {
            kv_heads: self.kv_heads,
            head_dim: self.dim,
        }
    }
}

/// Which rows of a pass relate to which keys, as the kernel takes it.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    spans: Vec<AttentionSpan>,
    segments: Vec<KeySegment>,
    /// The same segments as blocks see them that see a window alone.
    windows: Vec<KeySegment>,
    partials: Partials,
}

/// The source that holds the rows of the pass itself; cache `c` is source `c + 1`.
const OWN: usize = 0;

impl Sight {
    /// What the rows of `pass` see, before anything is written to `caches`; and what of it lies within
    /// `reach` of them, if there are blocks that see no more.
    pub(crate) fn set(&mut self, pass: &Pass, caches: &[KvCache], reach: Option<usize>) {
        self.spans.clear();
        self.segments.clear();
        self.windows.clear();
        for span in pass.spans() {
            let rows = span.rows.len();
            let first_segment = self.segments.len();
            for segment in pass.segments(span) {
                self.segments.push(match *segment {
                    Segment::Own { causal } => KeySegment {
                        source: OWN,
                        start: span.rows.start,
                        keys: rows,
                        causal: causal.then_some(0),
                        window: None,
                    },
                    Segment::Frozen { cache, len } => KeySegment {
                        source: cache + 1,
                        start: 0,
                        keys: len,
                        causal: None,
                        window: None,
                    },
                    Segment::Appended { cache, causal, .. } => KeySegment {
                        source: cache + 1,
                        start: 0,
                        keys: caches[cache].len() + rows,
                        causal: causal.then_some(caches[cache].len()),
                        window: None,
                    },
                });
            }
            self.spans.push(AttentionSpan {
                query_start: span.rows.start,
                queries: rows,
                first_segment,
                segments: self.segments.len() - first_segment,
            });
            let Some(reach) = reach else { continue };
            let segments = self.segments[first_segment..].iter();
            self.windows.extend(segments.map(|segment| KeySegment {
                window: Some(KeyWindow {
                    // Caches begin with the first position of the text.
                    offset: if segment.source == OWN {
                        0
                    } else {
                        pass.positions()[span.rows.start] as usize
                    },
                    reach,
                }),
                ..*segment
            }));
        }
    }

    /// Leaves the queries of the wanted rows of `pass`, which from now on follow each other without the rest.
    pub(crate) fn narrow(&mut self, pass: &Pass) {
        let (spans, segments) = (mem::take(&mut self.spans), mem::take(&mut self.segments));
        let windows = mem::take(&mut self.windows);
        let mut query_start = 0;
        for (index, rows) in pass.wanted_runs() {
            let span = spans[index];
            let skipped = rows.start - span.query_start;
            let own = span.first_segment..span.first_segment + span.segments;
            self.spans.push(AttentionSpan {
                query_start,
                queries: rows.len(),
                first_segment: self.segments.len(),
                ..span
            });
            query_start += rows.len();
            let behind = |segment: &KeySegment| KeySegment {
                causal: segment.causal.map(|offset| offset + skipped),
                window: segment.window.map(|window| KeyWindow {
                    offset: window.offset + skipped,
                    ..window
                }),
                ..*segment
            };
            self.segments
                .extend(segments[own.clone()].iter().map(behind));
            if !windows.is_empty() {
                self.windows.extend(windows[own].iter().map(behind));
            }
        }
    }

    /// Writes the attended values to `out`, which like `queries` is `[rows, heads * dim]`.
    pub(crate) fn attend(
        &mut self,
        pool: &ThreadPool,
        heads: Heads,
        is_windowed: bool,
        queries: &[f32],
        keys: &LayerKeys<'_>,
        out: &mut [f32],
    ) {
        let shape = AttentionShape {
            heads: heads.heads,
            kv_heads: heads.kv_heads,
            head_dim: heads.dim,
            scale: 1.0 / (heads.dim as f32).sqrt(),
        };
        let what = Attention {
            shape,
            spans: &self.spans,
            segments: if is_windowed {
                &self.windows
            } else {
                &self.segments
            },
        };
        let queries = Rows::new(queries, heads.query_width());
        kernels::attention(pool, what, queries, keys, &mut self.partials, out);
    }
}

/// Keys and values of one layer: those of the pass, `[rows, kv_heads * dim]`, and those of its caches.
pub(crate) struct LayerKeys<'a> {
    pub(crate) heads: Heads,
    pub(crate) layer: usize,
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
    pub(crate) caches: &'a [KvCache],
}

impl KeySource for LayerKeys<'_> {
    fn get(&self, source: usize, page: usize) -> KeyValues<'_> {
        if source == OWN {
            let width = self.heads.kv_width();
            KeyValues::Rows {
                keys: Rows::new(self.keys, width),
                values: Rows::new(self.values, width),
            }
        } else {
            KeyValues::Page(self.caches[source - 1].page(self.layer, page))
        }
    }
}
