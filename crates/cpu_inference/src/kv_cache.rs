//! Keys and values of the tokens a session has seen.

use half::f16;

use crate::attention::{BLOCK, Heads, padded};

/// Number type of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePrecision {
    /// Single precision: exact.
    F32,
    /// Half precision: half the memory and traffic.
    F16,
}

/// A cache that grows by blocks of [`BLOCK`] positions.
///
/// A block holds, for each key head, keys `[dim, BLOCK]` and then values `[BLOCK, padded(dim)]`: the
/// order in which attention reads them.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<Vec<Block>>,
    heads: Heads,
    precision: CachePrecision,
    len: usize,
}

#[derive(Debug)]
enum Block {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

impl KvCache {
    pub(crate) fn new(layers: usize, heads: Heads, precision: CachePrecision) -> Self {
        Self {
            layers: (0..layers).map(|_| Vec::new()).collect(),
            heads,
            precision,
            len: 0,
        }
    }

    /// Positions that are complete in every layer.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn heads(&self) -> Heads {
        self.heads
    }

    /// Bytes held.
    pub(crate) fn size_bytes(&self) -> usize {
        let bytes = |block: &Block| match block {
            Block::F32(numbers) => numbers.len() * 4,
            Block::F16(numbers) => numbers.len() * 2,
        };
        self.layers.iter().flatten().map(bytes).sum()
    }

    /// Makes `count` appended positions part of the cache.
    pub(crate) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Forgets the positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    fn head_numbers(&self) -> usize {
        self.heads.dim * BLOCK + BLOCK * padded(self.heads.dim)
    }

    /// Writes the rows of `keys` and `values`, `[n, kv_heads * dim]`, behind the complete positions.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let (heads, head_numbers, first) = (self.heads, self.head_numbers(), self.len);
        let rows = keys
            .chunks_exact(heads.kv_width())
            .zip(values.chunks_exact(heads.kv_width()));
        for (row, (keys, values)) in rows.enumerate() {
            let position = first + row;
            let blocks = &mut self.layers[layer];
            if position / BLOCK == blocks.len() {
                let numbers = head_numbers * heads.kv_heads;
                blocks.push(match self.precision {
                    CachePrecision::F32 => Block::F32(vec![0.0; numbers]),
                    CachePrecision::F16 => Block::F16(vec![0; numbers]),
                });
            }
            let target = &mut blocks[position / BLOCK];
            for head in 0..heads.kv_heads {
                let column = head * heads.dim;
                let (keys, values) = (
                    &keys[column..column + heads.dim],
                    &values[column..column + heads.dim],
                );
                let place = Place {
                    start: head * head_numbers,
                    slot: position % BLOCK,
                };
                match target {
                    Block::F32(numbers) => place.store(numbers, keys, values, |value| value),
                    Block::F16(numbers) => {
                        place.store(numbers, keys, values, |value| {
                            f16::from_f32(value).to_bits()
                        });
                    }
                }
            }
        }
    }

    /// Keys `[dim, BLOCK]` and values `[BLOCK, padded(dim)]` of one block and head; half precision is
    /// widened into `scratch`.
    pub(crate) fn block<'a>(
        &'a self,
        layer: usize,
        block: usize,
        kv_head: usize,
        scratch: &'a mut Vec<f32>,
    ) -> (&'a [f32], &'a [f32]) {
        let count = self.head_numbers();
        let span = kv_head * count..(kv_head + 1) * count;
        let numbers = match &self.layers[layer][block] {
            Block::F32(numbers) => &numbers[span],
            Block::F16(numbers) => {
                scratch.resize(count, 0.0);
                kernels::f16_to_f32(&numbers[span], scratch);
                scratch
            }
        };
        numbers.split_at(self.heads.dim * BLOCK)
    }
}

/// Where one position of one head lies in a block.
struct Place {
    start: usize,
    slot: usize,
}

impl Place {
    fn store<T>(
        &self,
        numbers: &mut [T],
        keys: &[f32],
        values: &[f32],
        convert: impl Fn(f32) -> T,
    ) {
        let dim = keys.len();
        for (d, &key) in keys.iter().enumerate() {
            numbers[self.start + d * BLOCK + self.slot] = convert(key);
        }
        let row = self.start + dim * BLOCK + self.slot * padded(dim);
        for (number, &value) in numbers[row..row + dim].iter_mut().zip(values) {
            *number = convert(value);
        }
    }
}
