//! What one thread computes: some queries of one key head against blocks of keys.

use std::ops::Range;

use super::page::PAGE_KEYS;
use super::state::{QUERIES, State};
use super::{
    Attention, AttentionSpan, KeySegment, KeySource, KeyValues, KvLayout, KvPage, Rows, SPLIT,
};
use crate::scratch::Scratch;
use crate::shared::SharedOut;
use crate::simd::{LANES, Simd, dispatched};
use crate::tile::{SixteenRows, TileRows, fma_tile, lanes, pack_columns};

/// The operands.
pub(super) struct Problem<'a> {
    pub(super) what: Attention<'a>,
    pub(super) q: Rows<'a>,
    pub(super) source: &'a dyn KeySource,
    /// Query heads of a key head.
    pub(super) group: usize,
    /// A task writes its queries' rows in its heads' columns.
    pub(super) out: SharedOut<'a, f32>,
}

/// Queries of one key head: number `t` is query `t / group`, head `t % group` of those that share it.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) span: AttentionSpan,
    pub(super) kv_head: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The working memory of a task beside its states: `queries` is `[QUERIES, width]`, `keys` `[d, PAGE_KEYS]`,
/// `values` `[PAGE_KEYS, width]`, `scores` `[QUERIES, PAGE_KEYS]`.
struct Work<'a> {
    width: usize,
    queries: &'a mut [f32],
    keys: &'a mut [[f32; LANES]],
    values: &'a mut [f32],
    scores: &'a mut [f32],
}

impl<'a> Work<'a> {
    const fn vectors(head_dim: usize) -> usize {
        let width = head_dim.div_ceil(LANES);
        QUERIES * width + 2 * PAGE_KEYS * width + QUERIES * PAGE_KEYS / LANES
    }

    fn of(memory: &'a mut [[f32; LANES]], head_dim: usize) -> Self {
        let width = head_dim.next_multiple_of(LANES);
        let (queries, rest) = memory.split_at_mut(QUERIES * width / LANES);
        let (keys, rest) = rest.split_at_mut(PAGE_KEYS * width / LANES);
        let (values, rest) = rest.split_at_mut(PAGE_KEYS * width / LANES);
        Self {
            width,
            queries: queries.as_flattened_mut(),
            keys,
            values: values.as_flattened_mut(),
            scores: rest[..QUERIES * PAGE_KEYS / LANES].as_flattened_mut(),
        }
    }
}

dispatched!(pub(super) fn attend(problem: &Problem<'_>, part: Part) = attend_on);
dispatched!(pub(super) fn attend_piece(problem: &Problem<'_>, part: Part, piece: usize, state: &mut [f32]) = attend_piece_on);
dispatched!(pub(super) fn merge(problem: &Problem<'_>, part: Part, states: &mut [f32]) = merge_on);

/// All keys of the part.
#[inline(always)]
fn attend_on<S: Simd>(s: S, problem: &Problem<'_>, part: Part) {
    let d = problem.what.shape.head_dim;
    let state = State::numbers(d).div_ceil(LANES);
    let mut scratch = Scratch::take(4 * LANES * (Work::vectors(d) + 2 * state));
    let (work, states) = scratch.vectors().split_at_mut(Work::vectors(d));
    let (state, spare) = states.split_at_mut(state);
    let mut work = Work::of(work, d);
    let mut state = State::of(state.as_flattened_mut(), d);
    let mut later = State::of(spare.as_flattened_mut(), d);
    problem.load_queries(s, part, &mut work);
    state.clear(part.count);
    let mut merging = false;
    for segment in part.span.segments_of(problem.what.segments) {
        let seen = problem.seen(*segment, part);
        for start in (seen.start / SPLIT * SPLIT..seen.end).step_by(SPLIT) {
            if merging {
                later.clear(part.count);
                problem.piece(s, part, (*segment, start), &mut work, &mut later);
                state.merge(s, &later, part.count);
            } else {
                problem.piece(s, part, (*segment, start), &mut work, &mut state);
                merging = true;
            }
        }
    }
    problem.write(s, part, &state);
}

/// One piece of the keys, into `state`.
#[inline(always)]
fn attend_piece_on<S: Simd>(
    s: S,
    problem: &Problem<'_>,
    part: Part,
    piece: usize,
    state: &mut [f32],
) {
    let d = problem.what.shape.head_dim;
    let mut state = State::of(state, d);
    state.clear(part.count);
    let Some(piece) = part.span.piece(problem.what.segments, piece) else {
        return;
    };
    let mut scratch = Scratch::take(4 * LANES * Work::vectors(d));
    let mut work = Work::of(scratch.vectors(), d);
    problem.load_queries(s, part, &mut work);
    problem.piece(s, part, piece, &mut work, &mut state);
}

/// Merges the states of all pieces into the first and writes it out.
#[inline(always)]
fn merge_on<S: Simd>(s: S, problem: &Problem<'_>, part: Part, states: &mut [f32]) {
    let d = problem.what.shape.head_dim;
    let (first, later) = states.split_at_mut(State::numbers(d));
    let mut state = State::of(first, d);
    for later in later.chunks_exact_mut(State::numbers(d)) {
        state.merge(s, &State::of(later, d), part.count);
    }
    problem.write(s, part, &state);
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
    fn layout(&self) -> KvLayout {
        KvLayout {
            kv_heads: self.what.shape.kv_heads,
            head_dim: self.what.shape.head_dim,
        }
    }

    /// Keys of a segment that query `t` of the part sees.
    #[inline(always)]
    fn visible(&self, segment: KeySegment, part: Part, t: usize) -> Range<usize> {
        segment.visible((part.first + t) / self.group)
    }

    /// Keys of a segment from the first that a query of the part sees to the last: both move with the queries.
    #[inline(always)]
    fn seen(&self, segment: KeySegment, part: Part) -> Range<usize> {
        let last = self.visible(segment, part, part.count - 1);
        self.visible(segment, part, 0).start..last.end
    }

    /// Row and first column of query `t`, in `q` and in `out`.
    #[inline(always)]
    fn place(&self, part: Part, t: usize) -> (usize, usize) {
        let t = part.first + t;
        let head = part.kv_head * self.group + t % self.group;
        (
            part.span.query_start + t / self.group,
            head * self.what.shape.head_dim,
        )
    }

    #[inline(always)]
    fn load_queries<S: Simd>(&self, s: S, part: Part, work: &mut Work<'_>) {
        let scale = s.splat(self.what.shape.scale);
        for t in 0..part.count {
            let (row, column) = self.place(part, t);
            let query = self.q.row(row, column, self.what.shape.head_dim);
            let scaled = &mut work.queries[t * work.width..][..work.width];
            for (query, scaled) in query.chunks(LANES).zip(scaled.chunks_mut(LANES)) {
                s.store_part(s.mul(s.load_part(query), scale), scaled);
            }
        }
    }

    /// The keys of one piece: those from its start that the queries see, [`SPLIT`] at most.
    #[inline(always)]
    fn piece<S: Simd>(
        &self,
        s: S,
        part: Part,
        (segment, start): (KeySegment, usize),
        work: &mut Work<'_>,
        state: &mut State<'_>,
    ) {
        let seen = self.seen(segment, part);
        let end = seen.end.min(start + SPLIT);
        let start = start.max(seen.start / PAGE_KEYS * PAGE_KEYS);
        for start in (start..end).step_by(PAGE_KEYS) {
            let keys = (end - start).min(PAGE_KEYS);
            let first = segment.start + start;
            let found = self.source.get(segment.source, first / PAGE_KEYS);
            let block = Block {
                found,
                first,
                keys,
                kv_head: part.kv_head,
                layout: self.layout(),
            };
            block.score(s, part.count, work);
            for t in 0..part.count {
                let seen = self.visible(segment, part, t);
                let within = |key: usize| key.saturating_sub(start).min(keys);
                state.online_softmax(
                    s,
                    work.scores,
                    t,
                    within(seen.start)..within(seen.end),
                    keys,
                );
            }
            block.add_values(s, part.count, work, state);
        }
    }

    #[inline(always)]
    fn write<S: Simd>(&self, s: S, part: Part, state: &State<'_>) {
        let d = self.what.shape.head_dim;
        for t in 0..part.count {
            let (row, column) = self.place(part, t);
            // SAFETY: the queries and heads of this task belong to no other.
            let out = unsafe { self.out.part(row * self.what.shape.heads * d + column, d) };
            let inverse = s.splat(state.inverse(t));
            for (sum, out) in state.sums[t * state.width..]
                .chunks(LANES)
                .zip(out.chunks_mut(LANES))
            {
                s.store_part(s.mul(s.load_part(sum), inverse), out);
            }
        }
    }
}

/// At most [`PAGE_KEYS`] keys and values of one head.
struct Block<'a> {
    found: KeyValues<'a>,
    /// Of rows, the first.
    first: usize,
    keys: usize,
    kv_head: usize,
    layout: KvLayout,
}

impl Block<'_> {
    /// Scores of `count` queries against the keys.
    #[inline(always)]
    fn score<S: Simd>(&self, s: S, count: usize, work: &mut Work<'_>) {
        let d = self.layout.head_dim;
        let at = self.layout.keys_at(self.kv_head);
        let columns: &[f32] = match self.found {
            KeyValues::Page(KvPage::F32(page)) => &page[at..][..d * PAGE_KEYS],
            KeyValues::Page(KvPage::F16(page)) => {
                widen(s, &page[at..][..d * PAGE_KEYS], work.keys);
                work.keys.as_flattened()
            }
            KeyValues::Rows { keys, .. } => {
                for panel in 0..self.keys.div_ceil(LANES) {
                    let rows = KeyRows {
                        rows: keys,
                        first: self.first + panel * LANES,
                        last: self.first + self.keys - 1,
                        column: self.kv_head * d,
                    };
                    pack_columns(s, &rows, d, work.keys, (PAGE_KEYS / LANES, panel));
                }
                work.keys.as_flattened()
            }
        };
        let queries = (&*work.queries, work.width);
        let scores = (&mut *work.scores, PAGE_KEYS);
        multiply(
            s,
            count,
            d,
            queries,
            (columns, PAGE_KEYS),
            scores,
            self.keys,
            false,
        );
    }

    /// Adds the values, weighted by the scores.
    #[inline(always)]
    fn add_values<S: Simd>(&self, s: S, count: usize, work: &mut Work<'_>, state: &mut State<'_>) {
        let d = self.layout.head_dim;
        let (width, at) = (work.width, self.layout.values_at(self.kv_head));
        let (values, stride): (&[f32], usize) = match self.found {
            KeyValues::Page(KvPage::F32(page)) => (&page[at..], width),
            KeyValues::Page(KvPage::F16(page)) => {
                let wide = work.values.as_chunks_mut().0;
                widen(s, &page[at..][..self.keys * width], wide);
                (&*work.values, width)
            }
            KeyValues::Rows { values, .. } if d.is_multiple_of(LANES) => {
                let start = self.first * values.stride + self.kv_head * d;
                (&values.data[start..], values.stride)
            }
            KeyValues::Rows { values, .. } => {
                for j in 0..self.keys {
                    let row = values.row(self.first + j, self.kv_head * d, d);
                    work.values[j * width..][..d].copy_from_slice(row);
                }
                (&*work.values, width)
            }
        };
        let scores = (&*work.scores, PAGE_KEYS);
        let sums = (&mut *state.sums, width);
        multiply(
            s,
            count,
            self.keys,
            scores,
            (values, stride),
            sums,
            width,
            true,
        );
    }
}

/// `y = a · b`, or `y += a · b`: `a` is `[count, depth]`, `b` `[depth, columns]`, each with the distance of its
/// rows. Columns are computed in whole vectors.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a product of three matrices with their strides"
)]
fn multiply<S: Simd>(
    s: S,
    count: usize,
    depth: usize,
    (a, a_stride): (&[f32], usize),
    (b, b_stride): (&[f32], usize),
    (y, y_stride): (&mut [f32], usize),
    columns: usize,
    adds: bool,
) {
    let mut tile = Tile {
        s,
        depth,
        a,
        a_stride,
        b,
        b_stride,
        y,
        y_stride,
        adds,
    };
    let vectors = columns.div_ceil(LANES);
    let mut column = 0;
    // Few rows are too few sums to hide the latency of an addition: then more vectors go together.
    while S::WIDE && count < 4 && vectors - column >= 4 {
        in_tiles!(S, count, |row, R| tile.run::<4, R>(row, column * LANES));
        column += 4;
    }
    while (S::WIDE || count < 4) && vectors - column >= 2 {
        in_tiles!(S, count, |row, R| tile.run::<2, R>(row, column * LANES));
        column += 2;
    }
    for column in column..vectors {
        in_tiles!(S, count, |row, R| tile.run::<1, R>(row, column * LANES));
    }
}

struct Tile<'a, S> {
    s: S,
    depth: usize,
    a: &'a [f32],
    a_stride: usize,
    b: &'a [f32],
    b_stride: usize,
    y: &'a mut [f32],
    y_stride: usize,
    adds: bool,
}

impl<S: Simd> Tile<'_, S> {
    /// `R` rows from `row` and `P` vectors from `column`.
    #[inline(always)]
    fn run<const P: usize, const R: usize>(&mut self, row: usize, column: usize) {
        let s = self.s;
        let mut sums = [[s.splat(0.0); P]; R];
        let start = row * self.y_stride + column;
        if self.adds {
            for r in 0..R {
                for p in 0..P {
                    sums[r][p] = s.load(lanes(self.y, start + r * self.y_stride + p * LANES));
                }
            }
        }
        let a = TileRows::new(&self.a[row * self.a_stride..], self.a_stride);
        fma_tile::<S, P, R>(
            s,
            a,
            &self.b[column..],
            self.b_stride,
            self.depth,
            &mut sums,
        );
        for r in 0..R {
            for p in 0..P {
                let out = &mut self.y[start + r * self.y_stride + p * LANES..][..LANES];
                s.store_part(sums[r][p], out);
            }
        }
    }
}

/// Single precision of halves, `bits.len()` a multiple of sixteen.
#[inline(always)]
fn widen<S: Simd>(s: S, bits: &[u16], out: &mut [[f32; LANES]]) {
    for (bits, out) in bits.as_chunks().0.iter().zip(out) {
        s.store(s.load_f16(bits), out);
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
