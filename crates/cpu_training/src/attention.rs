//! Attention within the documents of a batch, and its gradients.
//!
//! Some queries at a time are multiplied with all keys that any of them sees, in every head that shares these; what a
//! query does not see gets no share.

use std::ops::Range;

use kernels::{Onto, SharedOut, ThreadPool};

use crate::batch::Checked;
use crate::buffers::{Buffer, Spare};
use crate::frozen::Weights;
use crate::linear::Context;
use crate::products::{Precision, Rows, Way};

/// Queries of a task.
const QUERIES: usize = 64;

/// Some queries of a document, and what they see together.
struct Span {
    queries: Range<usize>,
    /// Runs of keys, ascending.
    runs: Vec<Range<usize>>,
    keys: usize,
}

/// The heads of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
}

/// Queries, keys and values, each `[rows, heads · width]`.
#[derive(Clone, Copy)]
pub(crate) struct Projected<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
}

/// Where the gradients of [`Projected`] go; those of keys and values hold zeros.
pub(crate) struct Gradients<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
}

impl Heads {
    pub(crate) const fn query_width(self) -> usize {
        self.queries * self.width
    }

    pub(crate) const fn key_width(self) -> usize {
        self.keys * self.width
    }

    /// Writes what each query sees, `[rows, queries · width]`.
    pub(crate) fn forward(
        self,
        context: &Context<'_>,
        batch: &Checked<'_>,
        x: Projected<'_>,
        out: &mut [f32],
    ) {
        let (shared, spans) = (SharedOut::new(out), spans(batch));
        self.for_each_task(context, batch, &spans, |task| {
            let shares = task.shares(&task.queries(x.q, true), &task.keys(x.k));
            let values = task.keys(x.v);
            let seen = task.multiply(&shares, Way::Back, &values, self.width);
            task.put_back(&seen, 1.0, shared);
        });
    }

    /// Writes the gradients of queries, keys and values for those of what was seen.
    pub(crate) fn backward(
        self,
        context: &Context<'_>,
        batch: &Checked<'_>,
        x: Projected<'_>,
        dout: &[f32],
        Gradients { q, k, v }: Gradients<'_>,
    ) {
        let (width, spans) = (self.width, spans(batch));
        let dq = SharedOut::new(q);
        // Of keys and values, which parts of the queries share, each part has sums of its own.
        let mut sums: Vec<Option<[Buffer; 2]>> = Vec::new();
        sums.resize_with(spans.len() * self.keys, || None);
        let own = SharedOut::new(&mut sums);
        self.for_each_task(context, batch, &spans, |task| {
            let (queries, keys) = (task.queries(x.q, true), task.keys(x.k));
            let shares = task.shares(&queries, &keys);
            let dout = task.queries(dout, false);
            let mut changes = task.multiply(&dout, Way::Forth, &task.keys(x.v), task.span.keys);
            let rows = changes.chunks_exact_mut(task.span.keys);
            for (change, shares) in rows.zip(shares.chunks_exact(task.span.keys)) {
                kernels::softmax_back(shares, change);
            }
            let of_queries = task.multiply(&changes, Way::Back, &keys, width);
            task.put_back(&of_queries, self.scale(), dq);
            let of_keys = task.multiply(&task.turned(&changes), Way::Back, &queries, width);
            let of_values = task.multiply(&task.turned(&shares), Way::Back, &dout, width);
            // SAFETY: each task has its own.
            let own = unsafe { own.part(task.number, 1) };
            own[0] = Some([of_keys, of_values]);
        });
        for (number, sums) in sums.iter().enumerate() {
            let (span, head) = (&spans[number / self.keys], number % self.keys);
            for (gradient, sums) in [&mut *k, &mut *v].into_iter().zip(sums.iter().flatten()) {
                let keys = span.runs.iter().flat_map(Clone::clone);
                for (key, sum) in keys.zip(sums.chunks_exact(width)) {
                    let place = key * self.key_width() + head * width;
                    kernels::add(sum, &mut gradient[place..place + width]);
                }
            }
        }
    }

    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Calls `work` with each head of keys of each span: always the same parts, whatever the threads.
    fn for_each_task(
        self,
        context: &Context<'_>,
        batch: &Checked<'_>,
        spans: &[Span],
        work: impl Fn(&Task<'_>) + Sync,
    ) {
        let (precision, spare) = (context.precision, &context.spare);
        context.pool.run(spans.len() * self.keys, |number| {
            work(&Task {
                number,
                heads: self,
                precision,
                spare,
                batch,
                span: &spans[number / self.keys],
                key_head: number % self.keys,
                alone: ThreadPool::new(1),
            });
        });
    }
}

/// What one thread computes: the queries of a span in the heads that share one of keys.
///
/// Its rows are those of each such head, one head behind the other.
struct Task<'a> {
    number: usize,
    heads: Heads,
    precision: Precision,
    spare: &'a Spare,
    batch: &'a Checked<'a>,
    span: &'a Span,
    key_head: usize,
    alone: ThreadPool,
}

impl Task<'_> {
    /// The places of its rows in `[rows, queries · width]`.
    fn places(&self) -> impl Iterator<Item = Range<usize>> {
        let Heads {
            queries,
            keys,
            width,
        } = self.heads;
        let group = queries / keys;
        let heads = self.key_head * group..(self.key_head + 1) * group;
        heads.flat_map(move |head| {
            self.span.queries.clone().map(move |query| {
                let place = (query * queries + head) * width;
                place..place + width
            })
        })
    }

    /// Its rows of `[rows, queries · width]`, scaled if `is_scaled`.
    fn queries(&self, x: &[f32], is_scaled: bool) -> Buffer {
        let Heads {
            queries,
            keys,
            width,
        } = self.heads;
        let rows = self.span.queries.len() * queries / keys;
        let mut own = self.spare.take(rows * width);
        for (place, own) in self.places().zip(own.chunks_exact_mut(width)) {
            own.copy_from_slice(&x[place]);
        }
        if is_scaled {
            kernels::scale(self.heads.scale(), &mut own);
        }
        own
    }

    /// Its keys, or values, of `[rows, keys · width]`.
    fn keys(&self, x: &[f32]) -> Buffer {
        let (width, stride) = (self.heads.width, self.heads.key_width());
        let mut own = self.spare.take(self.span.keys * width);
        let keys = self.span.runs.iter().flat_map(Clone::clone);
        for (key, own) in keys.zip(own.chunks_exact_mut(width)) {
            own.copy_from_slice(&x[key * stride + self.key_head * width..][..width]);
        }
        own
    }

    /// Writes its rows, times `scale`, to where they belong.
    fn put_back(&self, rows: &[f32], scale: f32, out: SharedOut<'_, f32>) {
        for (place, row) in self.places().zip(rows.chunks_exact(self.heads.width)) {
            // SAFETY: heads and queries of different tasks differ.
            let out = unsafe { out.part(place.start, place.len()) };
            out.copy_from_slice(row);
            kernels::scale(scale, out);
        }
    }

    /// `x` times rows of keys or queries, `[n, x's columns]` or the other way round, `[x's rows, n]`.
    fn multiply(&self, x: &[f32], way: Way, rows: &[f32], n: usize) -> Buffer {
        let inputs = rows.len() / n;
        let mut out = self.spare.take(x.len() / inputs * n);
        let mut x = Rows::new(&self.alone, self.precision, x, inputs, 0);
        let (rows, onto) = (Weights::Plain(rows), Onto::Nothing);
        x.multiply(&self.alone, way, rows, None, n, onto, &mut out);
        out
    }

    /// The softmax of the products of queries, which are scaled, and those keys that each sees, `[rows, keys]`.
    fn shares(&self, queries: &[f32], keys: &[f32]) -> Buffer {
        let mut shares = self.multiply(queries, Way::Forth, keys, self.span.keys);
        let rows = shares.chunks_exact_mut(self.span.keys);
        for (query, shares) in self.span.queries.clone().cycle().zip(rows) {
            self.span.hide(self.batch.seen(query), shares);
            kernels::softmax(shares);
        }
        shares
    }

    /// `[rows, keys]` to `[keys, rows]`.
    fn turned(&self, x: &[f32]) -> Buffer {
        let mut out = self.spare.take(x.len());
        let keys = self.span.keys;
        kernels::transpose(x, x.len() / keys, keys, &mut out);
        out
    }
}

impl Span {
    /// Puts −∞ where a query that sees those runs sees nothing.
    fn hide(&self, seen: &[Range<usize>], scores: &mut [f32]) {
        let mut seen = seen.iter();
        let mut next = seen.next();
        let mut place = 0;
        for run in &self.runs {
            let mut hidden = run.start;
            while let Some(own) = next.filter(|own| own.start < run.end) {
                scores[place + hidden - run.start..place + own.start - run.start]
                    .fill(f32::NEG_INFINITY);
                hidden = own.end;
                next = seen.next();
            }
            scores[place + hidden - run.start..place + run.len()].fill(f32::NEG_INFINITY);
            place += run.len();
        }
    }
}

/// The queries of each document, cut.
fn spans(batch: &Checked<'_>) -> Vec<Span> {
    let mut spans = Vec::new();
    for document in &batch.documents {
        for start in document.clone().step_by(QUERIES) {
            let queries = start..(start + QUERIES).min(document.end);
            let seen = queries.clone().flat_map(|query| batch.seen(query));
            let mut all: Vec<Range<usize>> = seen.cloned().collect();
            all.sort_unstable_by_key(|run| (run.start, run.end));
            let mut runs: Vec<Range<usize>> = Vec::new();
            for run in all {
                match runs.last_mut() {
                    Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
                    _ => runs.push(run),
                }
            }
            spans.push(Span {
                queries,
                keys: runs.iter().map(Range::len).sum(),
                runs,
            });
        }
    }
    spans
}
