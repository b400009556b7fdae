//! Attention over keys and values that lie in memory as rows, without ever holding all scores.
//!
//! A task takes one key head and a block of the queries that share it. Keys come in blocks of fixed
//! size; a running maximum and sum per query rescale what earlier blocks gave (arXiv:2112.05682,
//! arXiv:2205.14135). The blocks start at the first key, so a result does not depend on how many queries
//! are asked at once.

use crate::activation::exp;
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{LANES, Simd, dispatched};
use crate::tile::{SixteenRows, TileRows, fma_tile, lanes, pack_columns};
use crate::vector::{fold, map_in_place, sum_of};
use crate::{ThreadPool, isa};

/// Queries of a task: a multiple of every tile's height.
const QUERIES: usize = 48;
/// Keys of a block.
const KEYS: usize = 64;

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

/// `out = softmax(scale · q · kᵀ) · v` for every span and head, on all threads. A query that sees no key
/// yields zeros.
///
/// `q` and `out` are `[rows, heads * head_dim]`, `k` and `v` `[rows, kv_heads * head_dim]`. Query heads that
/// follow each other share a key head.
///
/// # Panics
/// If a span reaches beyond its rows, spans do not ascend, or `kv_heads` does not divide `heads`.
pub fn attention(
    pool: &ThreadPool,
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    shape: AttentionShape,
    spans: &[AttentionSpan],
    out: &mut [f32],
) {
    check(q, k, v, shape, spans, out);
    let group = shape.heads / shape.kv_heads;
    let blocks = spans
        .iter()
        .map(|span| (span.queries * group).div_ceil(QUERIES))
        .max()
        .unwrap_or(0);
    let problem = Problem {
        q,
        k,
        v,
        shape,
        group,
        out: SharedOut::new(out),
    };
    let isa = isa();
    pool.run(spans.len() * shape.kv_heads * blocks, |task| {
        let (span, rest) = (
            spans[task / (shape.kv_heads * blocks)],
            task % (shape.kv_heads * blocks),
        );
        let first = rest % blocks * QUERIES;
        let count = (span.queries * group).saturating_sub(first).min(QUERIES);
        if count > 0 {
            attend(
                isa,
                &problem,
                Part {
                    span,
                    kv_head: rest / blocks,
                    first,
                    count,
                },
            );
        }
    });
}

fn check(
    q: Rows<'_>,
    k: Rows<'_>,
    v: Rows<'_>,
    shape: AttentionShape,
    spans: &[AttentionSpan],
    out: &[f32],
) {
    let AttentionShape {
        heads,
        kv_heads,
        head_dim,
        ..
    } = shape;
    assert!(
        kv_heads > 0 && heads.is_multiple_of(kv_heads),
        "{kv_heads} key heads for {heads} heads"
    );
    let mut next = 0;
    for span in spans {
        let (queries, keys) = (span.query_start + span.queries, span.key_start + span.keys);
        assert!(span.query_start >= next, "spans of queries ascend");
        assert!(q.holds(queries, heads * head_dim), "queries lie within q");
        assert!(
            queries * heads * head_dim <= out.len(),
            "queries lie within out"
        );
        assert!(k.holds(keys, kv_heads * head_dim), "keys lie within k");
        assert!(v.holds(keys, kv_heads * head_dim), "values lie within v");
        next = queries;
    }
}

struct Problem<'a> {
    q: Rows<'a>,
    k: Rows<'a>,
    v: Rows<'a>,
    shape: AttentionShape,
    /// Query heads of a key head.
    group: usize,
    /// A task writes its queries' rows in its heads' columns.
    out: SharedOut<'a, f32>,
}

/// Queries of one key head: number `t` is query `t / group`, head `t % group` of those that share it.
#[derive(Clone, Copy)]
struct Part {
    span: AttentionSpan,
    kv_head: usize,
    first: usize,
    count: usize,
}

/// The working memory of a task. A row of `queries` and `sums` holds `width` values, one of `scores` `KEYS`.
struct Work<'a> {
    width: usize,
    queries: &'a mut [f32],
    keys: &'a mut [[f32; LANES]],
    values: &'a mut [f32],
    scores: &'a mut [f32],
    sums: &'a mut [f32],
    highest: [f32; QUERIES],
    totals: [f32; QUERIES],
}

dispatched!(fn attend(problem: &Problem<'_>, part: Part) = attend_on);

#[inline(always)]
fn attend_on<S: Simd>(s: S, problem: &Problem<'_>, part: Part) {
    let d = problem.shape.head_dim;
    let width = d.next_multiple_of(LANES);
    let mut scratch = Scratch::take(4 * (2 * QUERIES * width + 2 * KEYS * width + QUERIES * KEYS));
    let (queries, rest) = scratch.vectors().split_at_mut(QUERIES * width / LANES);
    let (sums, rest) = rest.split_at_mut(QUERIES * width / LANES);
    let (keys, rest) = rest.split_at_mut(KEYS * width / LANES);
    let (values, rest) = rest.split_at_mut(KEYS * width / LANES);
    let mut work = Work {
        width,
        queries: queries.as_flattened_mut(),
        keys,
        values: values.as_flattened_mut(),
        scores: rest[..QUERIES * KEYS / LANES].as_flattened_mut(),
        sums: sums.as_flattened_mut(),
        highest: [f32::NEG_INFINITY; QUERIES],
        totals: [0.0; QUERIES],
    };
    problem.load_queries(s, part, &mut work);
    let seen = problem.visible(part, part.count - 1);
    for start in (0..seen).step_by(KEYS) {
        let keys = (seen - start).min(KEYS);
        problem.score(s, part, start, keys, &mut work);
        for t in 0..part.count {
            let visible = problem.visible(part, t).saturating_sub(start).min(keys);
            work.soften(s, t, visible, keys);
        }
        problem.add_values(s, part, start, keys, &mut work);
    }
    problem.write(s, part, &mut work);
}

/// Calls `$call` with a tile height and a row until `$count` rows are done.
macro_rules! in_tiles {
    ($simd:ident, $count:expr, |$row:ident, $height:ident| $call:expr) => {{
        let mut $row = 0;
        in_tiles!(@heights $simd::WIDE, $count, $row, $height, $call, 12);
        in_tiles!(@heights true, $count, $row, $height, $call, 6, 4, 2, 1);
    }};
    (@heights $when:expr, $count:expr, $row:ident, $height:ident, $call:expr, $($literal:literal),*) => {$(
        while $when && $count - $row >= $literal {
            const $height: usize = $literal;
            $call;
            $row += $literal;
        }
    )*};
}

impl Problem<'_> {
    /// Keys that query `t` of the part sees.
    #[inline(always)]
    fn visible(&self, part: Part, t: usize) -> usize {
        let query = (part.first + t) / self.group;
        part.span.causal.map_or(part.span.keys, |offset| {
            (offset + query + 1).min(part.span.keys)
        })
    }

    /// Row and first column of query `t`, in `q` and in `out`.
    #[inline(always)]
    fn place(&self, part: Part, t: usize) -> (usize, usize) {
        let t = part.first + t;
        let head = part.kv_head * self.group + t % self.group;
        (
            part.span.query_start + t / self.group,
            head * self.shape.head_dim,
        )
    }

    #[inline(always)]
    fn load_queries<S: Simd>(&self, s: S, part: Part, work: &mut Work<'_>) {
        let scale = s.splat(self.shape.scale);
        for t in 0..part.count {
            let (row, column) = self.place(part, t);
            let query = self.q.row(row, column, self.shape.head_dim);
            let scaled = &mut work.queries[t * work.width..][..work.width];
            for (query, scaled) in query.chunks(LANES).zip(scaled.chunks_mut(LANES)) {
                s.store_part(s.mul(s.load_part(query), scale), scaled);
            }
        }
        work.sums[..part.count * work.width].fill(0.0);
    }

    /// Scores of all queries against keys `start..start + keys`.
    #[inline(always)]
    fn score<S: Simd>(&self, s: S, part: Part, start: usize, keys: usize, work: &mut Work<'_>) {
        let d = self.shape.head_dim;
        let column = part.kv_head * d;
        let panels = keys.div_ceil(LANES);
        for panel in 0..panels {
            let first = part.span.key_start + start + panel * LANES;
            let last = part.span.key_start + start + keys - 1;
            let rows = KeyRows {
                rows: self.k,
                first,
                last,
                column,
            };
            pack_columns(
                s,
                &rows,
                d,
                &mut work.keys[panel * d..(panel + 1) * d],
                (1, 0),
            );
        }
        for panel in 0..panels {
            let packed = work.keys[panel * d..(panel + 1) * d].as_flattened();
            in_tiles!(S, part.count, |row, R| {
                let mut y = [[s.splat(0.0)]; R];
                let queries = TileRows::new(&work.queries[row * work.width..], work.width);
                fma_tile::<S, 1, R>(s, queries, packed, LANES, d, &mut y);
                for r in 0..R {
                    s.store_part(
                        y[r][0],
                        &mut work.scores[(row + r) * KEYS + panel * LANES..][..LANES],
                    );
                }
            });
        }
    }

    /// Adds the values of keys `start..start + keys`, weighted by the scores.
    #[inline(always)]
    fn add_values<S: Simd>(
        &self,
        s: S,
        part: Part,
        start: usize,
        keys: usize,
        work: &mut Work<'_>,
    ) {
        let d = self.shape.head_dim;
        let (first, column) = (part.span.key_start + start, part.kv_head * d);
        let whole = d.is_multiple_of(LANES);
        if !whole {
            for j in 0..keys {
                work.values[j * work.width..][..d].copy_from_slice(self.v.row(
                    first + j,
                    column,
                    d,
                ));
            }
        }
        let (values, stride) = if whole {
            (
                &self.v.data[first * self.v.stride + column..],
                self.v.stride,
            )
        } else {
            (&*work.values, work.width)
        };
        for c in (0..work.width).step_by(LANES) {
            in_tiles!(S, part.count, |row, R| {
                let sums = &mut work.sums[row * work.width + c..];
                let mut y = [[s.splat(0.0)]; R];
                for r in 0..R {
                    y[r][0] = s.load_part(&sums[r * work.width..][..LANES]);
                }
                let scores = TileRows::new(&work.scores[row * KEYS..], KEYS);
                fma_tile::<S, 1, R>(s, scores, &values[c..], stride, keys, &mut y);
                for r in 0..R {
                    s.store_part(y[r][0], &mut sums[r * work.width..][..LANES]);
                }
            });
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&self, s: S, part: Part, work: &mut Work<'_>) {
        let d = self.shape.head_dim;
        for t in 0..part.count {
            let (row, column) = self.place(part, t);
            // SAFETY: the queries and heads of this task belong to no other.
            let out = unsafe { self.out.part(row * self.shape.heads * d + column, d) };
            let total = work.totals[t];
            let inverse = s.splat(if total == 0.0 { 0.0 } else { 1.0 / total });
            for (sum, out) in work.sums[t * work.width..]
                .chunks(LANES)
                .zip(out.chunks_mut(LANES))
            {
                s.store_part(s.mul(s.load_part(sum), inverse), out);
            }
        }
    }
}

impl Work<'_> {
    /// Turns the scores of query `t` into weights relative to its highest score so far, zero beyond the
    /// first `visible`, and brings what it has summed to the same base.
    #[inline(always)]
    fn soften<S: Simd>(&mut self, s: S, t: usize, visible: usize, keys: usize) {
        let scores = &mut self.scores[t * KEYS..][..keys.next_multiple_of(LANES)];
        scores[visible..].fill(f32::NEG_INFINITY);
        let before = self.highest[t];
        let top = fold!(s, scores, s.splat(before), |top, x| s.max(x, top));
        let top = s.largest(s.max(s.max(top[0], top[1]), s.max(top[2], top[3])));
        if top == f32::NEG_INFINITY {
            scores.fill(0.0);
            return;
        }
        let base = s.splat(top);
        map_in_place!(s, scores, |x| exp(s, s.sub(x, base)));
        let total = sum_of(s, fold!(s, scores, s.splat(0.0), |sum, x| s.add(sum, x)));
        let rescale = exp(s, s.sub(s.splat(before), base));
        let before = s.sum(s.mul(rescale, s.splat(1.0 / LANES as f32)));
        self.totals[t] = self.totals[t].mul_add(before, total);
        self.highest[t] = top;
        if before < 1.0 {
            map_in_place!(s, &mut self.sums[t * self.width..][..self.width], |x| {
                s.mul(x, rescale)
            });
        }
    }
}

/// Sixteen keys.
struct KeyRows<'a> {
    rows: Rows<'a>,
    first: usize,
    last: usize,
    column: usize,
}

impl KeyRows<'_> {
    /// Keys beyond the last repeat it: their scores are never used.
    #[inline(always)]
    fn at(&self, r: usize, j: usize) -> usize {
        (self.first + r).min(self.last) * self.rows.stride + self.column + j
    }
}

impl SixteenRows for KeyRows<'_> {
    #[inline(always)]
    fn vector<S: Simd>(&self, s: S, r: usize, j: usize) -> S::F {
        s.load(lanes(self.rows.data, self.at(r, j)))
    }
    #[inline(always)]
    fn value(&self, r: usize, j: usize) -> f32 {
        self.rows.data[self.at(r, j)]
    }
}
