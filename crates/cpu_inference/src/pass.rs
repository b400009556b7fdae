//! What one forward call computes, as data.

use std::ops::Range;
use std::sync::Arc;

use crate::adapter::{Adapter, same};
use crate::config::ModelConfig;
use crate::error::{InferenceError, Result};
use crate::kv_cache::KvCache;

/// Rows to compute, the keys that each sees, and the rows whose states are wanted.
///
/// Encoding, reading a prompt, decoding one text or several, and denoising a block are passes that differ
/// in their segments alone.
#[derive(Debug, Clone, Default)]
pub struct Pass {
    ids: Vec<u32>,
    positions: Vec<u32>,
    types: Vec<u8>,
    spans: Vec<Span>,
    segments: Vec<Segment>,
    wanted: Vec<usize>,
    is_adapted: bool,
}

/// Rows that follow each other and see the same segments.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) rows: Range<usize>,
    pub(crate) segments: Range<usize>,
    adapter: Option<Arc<Adapter>>,
}

/// Keys that the rows of a span see. Caches are counted as they are given to the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// Those of the span's own rows.
    Own {
        /// Each row sees itself and the rows before it; else all of them.
        causal: bool,
    },
    /// The first positions of a cache, and of what this pass appends to it.
    Frozen {
        /// Which cache.
        cache: usize,
        /// Positions.
        len: usize,
    },
    /// All of a cache, and behind it the span's own rows, which are written to it.
    Appended {
        /// Which cache.
        cache: usize,
        /// As of [`Segment::Own`].
        causal: bool,
        /// The rows stay in the cache; else they are dropped after the pass.
        keep: bool,
    },
}

impl Pass {
    /// Empties the pass and keeps its memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.positions.clear();
        self.types.clear();
        self.is_adapted = false;
        self.spans.clear();
        self.segments.clear();
        self.wanted.clear();
    }

    /// Adds rows at consecutive positions from `position`, which see `segments`. Returns their numbers.
    pub fn span(
        &mut self,
        ids: impl IntoIterator<Item = u32>,
        position: usize,
        segments: &[Segment],
    ) -> Range<usize> {
        let start = self.ids.len();
        self.ids.extend(ids);
        let rows = start..self.ids.len();
        self.positions.extend((position as u32..).take(rows.len()));
        let first = self.segments.len();
        self.segments.extend_from_slice(segments);
        self.spans.push(Span {
            rows: rows.clone(),
            segments: first..self.segments.len(),
            adapter: None,
        });
        self.types.resize(rows.end, 0);
        rows
    }

    /// Gives rows from `first` on positions of their own.
    pub fn place(&mut self, first: usize, positions: impl IntoIterator<Item = u32>) {
        for (own, position) in self.positions[first..].iter_mut().zip(positions) {
            *own = position;
        }
    }

    /// The rows of the last span use the cards of `adapter`.
    pub fn adapt(&mut self, adapter: &Arc<Adapter>) {
        if let Some(span) = self.spans.last_mut() {
            span.adapter = Some(Arc::clone(adapter));
            self.is_adapted = true;
        }
    }

    /// Gives rows from `first` on the token types of an encoder; 0 unless given.
    pub fn set_types(&mut self, first: usize, types: &[u8]) {
        self.types[first..first + types.len()].copy_from_slice(types);
    }

    /// Asks for the states of `rows`, which lie behind those asked for so far.
    pub fn want(&mut self, rows: impl IntoIterator<Item = usize>) {
        self.wanted.extend(rows);
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub(crate) fn positions(&self) -> &[u32] {
        &self.positions
    }

    pub(crate) fn types(&self) -> &[u8] {
        &self.types
    }

    pub(crate) const fn is_adapted(&self) -> bool {
        self.is_adapted
    }

    /// Rows that use cards, as far as they use the same.
    pub(crate) fn adapted(&self) -> impl Iterator<Item = (Range<usize>, &Arc<Adapter>)> {
        let runs = self
            .spans
            .chunk_by(|a, b| same(a.adapter.as_ref(), b.adapter.as_ref()));
        runs.filter_map(|run| {
            let (first, last) = (run.first()?, run.last()?);
            Some((first.rows.start..last.rows.end, first.adapter.as_ref()?))
        })
    }

    /// The cards that all rows use, where they are merged.
    pub(crate) fn merged(&self) -> Option<&Adapter> {
        let adapter = self.spans.first()?.adapter.as_deref()?;
        adapter.is_merged().then_some(adapter)
    }

    /// Places in `wanted`, rows that ascend, that use cards, as far as they use the same.
    pub(crate) fn adapted_among<'a>(
        &'a self,
        wanted: &'a [usize],
    ) -> impl Iterator<Item = (Range<usize>, &'a Adapter)> {
        let number = |row: &usize| self.adapter(*row).map(Adapter::number);
        let runs = wanted.chunk_by(move |a, b| number(a) == number(b));
        let mut begin = 0;
        runs.filter_map(move |run| {
            let rows = begin..begin + run.len();
            begin = rows.end;
            Some((rows, self.adapter(run[0])?))
        })
    }

    /// The cards that a row uses.
    pub(crate) fn adapter(&self, row: usize) -> Option<&Adapter> {
        if !self.is_adapted {
            return None;
        }
        let at = self.spans.partition_point(|span| span.rows.end <= row);
        self.spans[at].adapter.as_deref()
    }

    pub(crate) fn wanted(&self) -> &[usize] {
        &self.wanted
    }

    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Wanted rows that follow each other in one span, with its number.
    pub(crate) fn wanted_runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
        self.spans.iter().enumerate().flat_map(|(index, span)| {
            let place = |end: usize| self.wanted.partition_point(|&row| row < end);
            let wanted = &self.wanted[place(span.rows.start)..place(span.rows.end)];
            let runs = wanted.chunk_by(|row, next| row + 1 == *next);
            runs.map(move |run| (index, run[0]..run[0] + run.len()))
        })
    }

    /// Makes `narrow` the pass of the wanted rows alone: what they go on as once the keys and values of all rows
    /// are known, a span for each run of them.
    pub(crate) fn narrow(&self, narrow: &mut Self) {
        narrow.clear();
        for (index, rows) in self.wanted_runs() {
            let span = &self.spans[index];
            let position = self.positions[rows.start] as usize;
            let ids = self.ids[rows].iter().copied();
            narrow.span(ids, position, self.segments(span));
            if let Some(adapter) = &span.adapter {
                narrow.adapt(adapter);
            }
        }
        narrow.want(0..narrow.rows());
    }

    /// Rows of each span.
    pub(crate) fn span_lengths(&self) -> impl Iterator<Item = usize> {
        self.spans.iter().map(|span| span.rows.len())
    }

    pub(crate) fn segments(&self, span: &Span) -> &[Segment] {
        &self.segments[span.segments.clone()]
    }

    /// The caches that are written to, each with the rows that go behind its positions and whether they stay.
    pub(crate) fn appends(&self) -> impl Iterator<Item = (usize, Range<usize>, bool)> {
        self.spans.iter().flat_map(|span| {
            let segments = self.segments(span).iter();
            segments.filter_map(|segment| match *segment {
                Segment::Appended { cache, keep, .. } => Some((cache, span.rows.clone(), keep)),
                _ => None,
            })
        })
    }

    /// Checks that ids, positions, caches and wanted rows exist, and that no cache has two writers.
    pub(crate) fn check(&self, config: &ModelConfig, caches: &[KvCache]) -> Result<()> {
        if let Some(row) = self
            .ids
            .iter()
            .position(|&id| id as usize >= config.vocab_size)
        {
            return Err(InferenceError::TokenRange {
                id: i64::from(self.ids[row]),
                position: row,
                vocab_size: config.vocab_size,
            });
        }
        let has_types = config.family()?.types.is_some();
        let types = if has_types { config.token_types() } else { 1 };
        if let Some(&kind) = self.types.iter().find(|&&kind| usize::from(kind) >= types) {
            return Err(invalid(format!("token type {kind}; the model has {types}")));
        }
        let window = config.max_position_embeddings;
        let last = self
            .positions
            .iter()
            .max()
            .map_or(0, |&last| last as usize + 1);
        if last > window {
            return Err(InferenceError::Window {
                what: "the model's window",
                limit: window,
                got: last,
            });
        }
        for (index, span) in self.spans.iter().enumerate() {
            if span.rows.is_empty() {
                return Err(invalid(format!("span {index} has no rows")));
            }
            self.check_segments(index, span, caches)?;
        }
        for (index, (cache, ..)) in self.appends().enumerate() {
            if self.appends().take(index).any(|(other, ..)| other == cache) {
                return Err(InferenceError::TwoWriters { cache });
            }
        }
        let ascend = self.wanted.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascend || self.wanted.last().is_some_and(|&row| row >= self.rows()) {
            return Err(invalid(format!(
                "wanted rows ascend below the {} of the pass, got {:?}",
                self.rows(),
                self.wanted
            )));
        }
        Ok(())
    }

    fn check_segments(&self, index: usize, span: &Span, caches: &[KvCache]) -> Result<()> {
        for segment in self.segments(span) {
            let (cache, len) = match *segment {
                Segment::Own { .. } => continue,
                Segment::Frozen { cache, len } => (cache, len),
                Segment::Appended { cache, .. } => (cache, 0),
            };
            let Some(found) = caches.get(cache) else {
                return Err(invalid(format!(
                    "span {index} sees cache {cache} of {}",
                    caches.len()
                )));
            };
            let appended = self.appends().filter(|&(other, ..)| other == cache);
            let end = found.len() + appended.map(|(_, rows, _)| rows.len()).sum::<usize>();
            if len > end {
                return Err(invalid(format!(
                    "span {index} sees {len} positions of cache {cache}, which has {end}"
                )));
            }
        }
        Ok(())
    }
}

fn invalid(detail: String) -> InferenceError {
    InferenceError::Pass { detail }
}
