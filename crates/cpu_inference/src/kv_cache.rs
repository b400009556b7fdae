//! Keys and values of the tokens a session has seen.

use half::f16;
use kernels::ThreadPool;

use crate::attention::Heads;
use crate::rows::for_each_run;
use crate::workspace::fit;

/// Number type of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePrecision {
    /// Single precision: exact.
    F32,
    /// Half precision: half the memory.
    F16,
}

/// A cache that grows with its text.
#[derive(Debug)]
pub(crate) struct KvCache {
    layers: Vec<[Numbers; 2]>,
    /// Keys and values of one layer as single precision.
    widened: [Vec<f32>; 2],
    heads: Heads,
    len: usize,
}

/// Rows of keys or of values, `[positions, kv_heads * dim]`.
#[derive(Debug)]
enum Numbers {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

impl KvCache {
    pub(crate) fn new(layers: usize, heads: Heads, precision: CachePrecision) -> Self {
        let numbers = || match precision {
            CachePrecision::F32 => Numbers::F32(Vec::new()),
            CachePrecision::F16 => Numbers::F16(Vec::new()),
        };
        Self {
            layers: (0..layers).map(|_| [numbers(), numbers()]).collect(),
            widened: Default::default(),
            heads,
            len: 0,
        }
    }

    /// Positions that are complete in every layer.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes held.
    pub(crate) fn size_bytes(&self) -> usize {
        self.layers.iter().flatten().map(Numbers::size_bytes).sum()
    }

    /// Makes `count` appended positions part of the cache.
    pub(crate) fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Forgets the positions from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Writes the rows of `keys` and `values`, `[n, kv_heads * dim]`, behind the complete positions.
    pub(crate) fn append(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let known = self.len * self.heads.kv_width();
        let [cached_keys, cached_values] = &mut self.layers[layer];
        cached_keys.replace_from(known, keys);
        cached_values.replace_from(known, values);
    }

    /// Keys and values of a layer, each `[positions, kv_heads * dim]`, those appended last included.
    pub(crate) fn rows(&mut self, pool: &ThreadPool, layer: usize) -> (&[f32], &[f32]) {
        let [keys, values] = &self.layers[layer];
        let [wide_keys, wide_values] = &mut self.widened;
        let width = self.heads.kv_width();
        (
            keys.widened(pool, width, wide_keys),
            values.widened(pool, width, wide_values),
        )
    }
}

impl Numbers {
    fn size_bytes(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.capacity() * size_of::<f32>(),
            Self::F16(numbers) => numbers.capacity() * size_of::<u16>(),
        }
    }

    /// Puts `new` at `start`, where everything behind is dropped.
    fn replace_from(&mut self, start: usize, new: &[f32]) {
        match self {
            Self::F32(numbers) => {
                numbers.truncate(start);
                numbers.extend_from_slice(new);
            }
            Self::F16(numbers) => {
                numbers.truncate(start);
                numbers.extend(new.iter().map(|&value| f16::from_f32(value).to_bits()));
            }
        }
    }

    /// The rows, `width` wide, in single precision: where they lie or in `scratch`.
    fn widened<'a>(
        &'a self,
        pool: &ThreadPool,
        width: usize,
        scratch: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        match self {
            Self::F32(numbers) => numbers,
            Self::F16(numbers) => {
                let wide = fit(scratch, numbers.len());
                for_each_run(pool, [&mut *wide], width, |first, [run]| {
                    let start = first * width;
                    kernels::f16_to_f32(&numbers[start..start + run.len()], run);
                });
                wide
            }
        }
    }
}
