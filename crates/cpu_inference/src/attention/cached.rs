//! Attention of new tokens to a session's cache.

use std::cell::RefCell;

use kernels::ThreadPool;

use super::tile::{BLOCK, Tile};
use crate::kv_cache::KvCache;
use crate::rows::Disjoint;

/// Queries that one task handles at most.
const CHUNK: usize = 16;

#[derive(Default)]
struct Scratch {
    tile: Tile,
    widened: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Attends the `queries`, `[n, heads * dim]`, of positions `cache.len()..` to a layer of the cache,
/// whose rows of those positions are appended already; writes `out`, `[n, heads * dim]`.
pub(crate) fn attend_cached(
    pool: &ThreadPool,
    cache: &KvCache,
    layer: usize,
    queries: &[f32],
    out: &mut [f32],
) {
    let heads = cache.heads();
    let (dim, group, width, isa) = (
        heads.dim,
        heads.group(),
        heads.query_width(),
        kernels::isa(),
    );
    let count = queries.len() / width;
    let past = cache.len();
    let shared = Disjoint::new(out);
    pool.run(count.div_ceil(CHUNK) * heads.kv_heads, |task| {
        let kv_head = task % heads.kv_heads;
        let first = task / heads.kv_heads * CHUNK;
        let last = (first + CHUNK).min(count);
        let rows = || {
            (first..last).flat_map(|row| {
                (0..group).map(move |member| (row, (kv_head * group + member) * dim))
            })
        };
        SCRATCH.with_borrow_mut(|Scratch { tile, widened }| {
            tile.begin(dim);
            for (row, column) in rows() {
                let at = row * width + column;
                tile.push(&queries[at..at + dim], heads.scale(), past + row + 1);
            }
            for block in 0..(past + last).div_ceil(BLOCK) {
                let (keys, values) = cache.block(layer, block, kv_head, widened);
                tile.absorb(isa, block * BLOCK, keys, values);
            }
            for (index, (row, column)) in rows().enumerate() {
                let at = row * width + column;
                // SAFETY: a task is alone with its rows and its heads' columns.
                tile.write(index, unsafe { shared.part(at..at + dim) });
            }
        });
    });
}
