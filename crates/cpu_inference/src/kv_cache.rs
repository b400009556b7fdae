//! Keys and values of the tokens of a text.

use std::sync::Arc;

use half::f16;
use kernels::{KvLayout, KvPage, PAGE_KEYS, SharedOut, ThreadPool};

/// Number type of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePrecision {
    /// Single precision: exact.
    F32,
    /// Half precision: half the memory.
    F16,
}

/// A cache that grows with its text, in pages of [`PAGE_KEYS`] positions.
///
/// A clone shares the pages; whoever writes to a shared page first takes a copy of it.
#[derive(Debug, Clone)]
pub struct KvCache {
    pages: Vec<Arc<Page>>,
    shape: CacheShape,
    len: usize,
}

/// What the pages of caches of one model have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheShape {
    pub(crate) layers: usize,
    pub(crate) layout: KvLayout,
    pub(crate) precision: CachePrecision,
}

/// [`PAGE_KEYS`] positions of all layers, one layer behind the other.
#[derive(Debug, Clone)]
pub(crate) enum Page {
    F32(Aligned<f32>),
    F16(Aligned<u16>),
}

/// Numbers that begin with a cache line, so that no vector read from them crosses two.
#[derive(Debug)]
pub(crate) struct Aligned<T> {
    memory: Vec<T>,
    start: usize,
    len: usize,
}

impl KvCache {
    pub(crate) const fn new(shape: CacheShape) -> Self {
        Self {
            pages: Vec::new(),
            shape,
            len: 0,
        }
    }

    /// Positions that are complete in every layer.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of its pages, those it shares included.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.pages.len() * self.shape.page_bytes()
    }

    /// Forgets the positions from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.pages.truncate(self.len.div_ceil(PAGE_KEYS));
    }

    /// Its pages, in order.
    pub(crate) fn pages(&self) -> &[Arc<Page>] {
        &self.pages
    }

    /// Takes the first `len` positions of pages in common with another cache into an empty one.
    pub(crate) fn adopt(&mut self, pages: Vec<Arc<Page>>, len: usize) {
        debug_assert_eq!(pages.len(), len.div_ceil(PAGE_KEYS));
        self.pages = pages;
        self.len = len;
    }

    pub(crate) const fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Makes room for `count` positions behind the complete ones.
    pub(crate) fn reserve(&mut self, count: usize) {
        let pages = (self.len + count).div_ceil(PAGE_KEYS);
        while self.pages.len() < pages {
            self.pages.push(Arc::new(Page::new(self.shape)));
        }
        // What is about to be written must be nobody else's.
        for page in &mut self.pages[self.len / PAGE_KEYS..pages] {
            Arc::make_mut(page);
        }
    }

    /// Makes `count` positions that were written part of the cache.
    pub(crate) const fn advance(&mut self, count: usize) {
        self.len += count;
    }

    /// Writes the rows of `keys` and `values`, `[n, kv_heads * head_dim]`, of one layer behind the complete
    /// positions, where there is room for them.
    pub(crate) fn write(&mut self, pool: &ThreadPool, layer: usize, keys: &[f32], values: &[f32]) {
        let CacheShape { layout, .. } = self.shape;
        let width = layout.kv_heads * layout.head_dim;
        let (start, end) = (self.len, self.len + keys.len() / width);
        let first = start / PAGE_KEYS;
        let pages = SharedOut::new(&mut self.pages[first..end.div_ceil(PAGE_KEYS)]);
        pool.run(end.div_ceil(PAGE_KEYS) - first, |index| {
            // SAFETY: each task takes another page.
            let page = unsafe { pages.part(index, 1) };
            let Some(page) = Arc::get_mut(&mut page[0]) else {
                unreachable!("`reserve` made the page this cache's own");
            };
            let begin = (first + index) * PAGE_KEYS;
            for position in start.max(begin)..end.min(begin + PAGE_KEYS) {
                let row = (position - start) * width..(position - start + 1) * width;
                let (key, value) = (&keys[row.clone()], &values[row]);
                page.put(layout, layer, position - begin, key, value);
            }
        });
    }

    /// The page of that index, of one layer.
    pub(crate) fn page(&self, layer: usize, index: usize) -> KvPage<'_> {
        let len = self.shape.layout.len();
        let span = layer * len..(layer + 1) * len;
        match &*self.pages[index] {
            Page::F32(numbers) => KvPage::F32(&numbers.as_slice()[span]),
            Page::F16(numbers) => KvPage::F16(&numbers.as_slice()[span]),
        }
    }
}

impl CacheShape {
    pub(crate) const fn page_bytes(self) -> usize {
        let number = match self.precision {
            CachePrecision::F32 => size_of::<f32>(),
            CachePrecision::F16 => size_of::<u16>(),
        };
        self.layers * self.layout.len() * number
    }
}

impl Page {
    fn new(shape: CacheShape) -> Self {
        let numbers = shape.layers * shape.layout.len();
        match shape.precision {
            CachePrecision::F32 => Self::F32(Aligned::zeros(numbers)),
            CachePrecision::F16 => Self::F16(Aligned::zeros(numbers)),
        }
    }

    fn put(&mut self, layout: KvLayout, layer: usize, slot: usize, key: &[f32], value: &[f32]) {
        let span = layer * layout.len()..(layer + 1) * layout.len();
        match self {
            Self::F32(numbers) => {
                layout.put(&mut numbers.as_mut_slice()[span], slot, key, value, |x| x);
            }
            Self::F16(numbers) => {
                let halve = |x| f16::from_f32(x).to_bits();
                layout.put(&mut numbers.as_mut_slice()[span], slot, key, value, halve);
            }
        }
    }
}

impl<T: Copy + Default> Aligned<T> {
    fn zeros(len: usize) -> Self {
        const LINE: usize = 64;
        let memory = vec![T::default(); len + LINE / size_of::<T>()];
        // Without a cache line to be found, reading is only slower.
        let start = memory.as_ptr().align_offset(LINE).min(memory.len() - len);
        Self { memory, start, len }
    }

    fn as_slice(&self) -> &[T] {
        &self.memory[self.start..self.start + self.len]
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl<T: Copy + Default> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}
