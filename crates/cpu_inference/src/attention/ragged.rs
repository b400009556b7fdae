//! Attention inside each sequence of a padding-free batch.

use std::cell::RefCell;

use kernels::ThreadPool;

use super::Heads;
use super::tile::{BLOCK, Tile, padded};
use crate::rows::Disjoint;

/// Queries that one task handles at most.
const CHUNK: usize = 64;

/// Rows of a batch: sequence `s` is rows `offsets[s] .. offsets[s + 1]` of every buffer.
pub(crate) struct Ragged<'a> {
    /// `[total, heads * dim]`.
    pub(crate) queries: &'a [f32],
    /// `[total, kv_heads * dim]`.
    pub(crate) keys: &'a [f32],
    /// `[total, kv_heads * dim]`.
    pub(crate) values: &'a [f32],
    /// `[sequences + 1]`.
    pub(crate) offsets: &'a [usize],
    pub(crate) heads: Heads,
    /// Whether a position sees only itself and earlier ones.
    pub(crate) causal: bool,
}

/// A run of queries of one sequence.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// Row of the sequence's first token.
    start: usize,
    /// Its tokens.
    length: usize,
    /// First query, counted inside the sequence.
    first: usize,
}

#[derive(Default)]
struct Scratch {
    tile: Tile,
    keys: Vec<f32>,
    values: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Writes the attended values to `out`, `[total, heads * dim]`.
pub(crate) fn attend_ragged(pool: &ThreadPool, batch: &Ragged<'_>, out: &mut [f32]) {
    let mut chunks = Vec::new();
    for pair in batch.offsets.windows(2) {
        let (start, length) = (pair[0], pair[1] - pair[0]);
        chunks.extend((0..length).step_by(CHUNK).map(|first| Chunk {
            start,
            length,
            first,
        }));
    }
    let kv_heads = batch.heads.kv_heads;
    let shared = Disjoint::new(out);
    pool.run(chunks.len() * kv_heads, |task| {
        SCRATCH.with_borrow_mut(|scratch| {
            attend_chunk(
                batch,
                chunks[task / kv_heads],
                task % kv_heads,
                scratch,
                &shared,
            );
        });
    });
}

fn attend_chunk(
    batch: &Ragged<'_>,
    chunk: Chunk,
    kv_head: usize,
    scratch: &mut Scratch,
    out: &Disjoint<'_, f32>,
) {
    let heads = batch.heads;
    let (dim, group, isa) = (heads.dim, heads.group(), kernels::isa());
    let Chunk {
        start,
        length,
        first,
    } = chunk;
    let last = (first + CHUNK).min(length);
    let column = |member: usize| (kv_head * group + member) * dim;
    let Scratch { tile, keys, values } = scratch;
    tile.begin(dim);
    for position in first..last {
        let limit = if batch.causal { position + 1 } else { length };
        for member in 0..group {
            let at = (start + position) * heads.query_width() + column(member);
            tile.push(&batch.queries[at..at + dim], heads.scale(), limit);
        }
    }
    let furthest = if batch.causal { last } else { length };
    for block in (0..furthest).step_by(BLOCK) {
        pack(
            batch,
            start + block,
            (length - block).min(BLOCK),
            kv_head,
            keys,
            values,
        );
        tile.absorb(isa, block, keys, values);
    }
    for position in first..last {
        for member in 0..group {
            let at = (start + position) * heads.query_width() + column(member);
            // SAFETY: a task is alone with its sequence's positions and its heads' columns.
            let part = unsafe { out.part(at..at + dim) };
            tile.write((position - first) * group + member, part);
        }
    }
}

/// Brings `count` rows of one head into the tile's order: keys `[dim, BLOCK]`, values `[BLOCK, padded]`.
fn pack(
    batch: &Ragged<'_>,
    first_row: usize,
    count: usize,
    kv_head: usize,
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
) {
    let dim = batch.heads.dim;
    let width = padded(dim);
    keys.resize(dim * BLOCK, 0.0);
    values.resize(BLOCK * width, 0.0);
    if count < BLOCK {
        keys.fill(0.0);
    }
    for p in 0..count {
        let at = (first_row + p) * batch.heads.kv_width() + kv_head * dim;
        for (d, &value) in batch.keys[at..at + dim].iter().enumerate() {
            keys[d * BLOCK + p] = value;
        }
        values[p * width..p * width + dim].copy_from_slice(&batch.values[at..at + dim]);
        values[p * width + dim..(p + 1) * width].fill(0.0);
    }
}
