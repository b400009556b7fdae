//! Keys and values of sixty-four positions of one layer, as attention reads them.

use crate::simd::LANES;

/// Positions of a page: the keys that attention takes at a time.
pub const PAGE_KEYS: usize = 64;

/// How a page of one layer lies in memory: first the keys, `[kv_heads, head_dim, PAGE_KEYS]`, then the values,
/// `[kv_heads, PAGE_KEYS, head_dim]` with each row filled up to a multiple of sixteen.
///
/// Keys are columns because that is how scores are computed: a stored key is never transposed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayout {
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_dim: usize,
}

impl KvLayout {
    /// Numbers of a page.
    #[must_use]
    pub const fn len(self) -> usize {
        self.kv_heads * (self.head_dim + self.value_stride()) * PAGE_KEYS
    }

    /// Whether a page holds nothing.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Distance of two values of a head.
    pub(super) const fn value_stride(self) -> usize {
        self.head_dim.next_multiple_of(LANES)
    }

    /// Where the keys of a head begin.
    pub(super) const fn keys_at(self, head: usize) -> usize {
        head * self.head_dim * PAGE_KEYS
    }

    /// Where the values of a head begin.
    pub(super) const fn values_at(self, head: usize) -> usize {
        (self.kv_heads * self.head_dim + head * self.value_stride()) * PAGE_KEYS
    }

    /// Puts the rows of one position, `key` and `value` of `[kv_heads * head_dim]`, in place `slot` of `page`.
    ///
    /// # Panics
    /// If `page` or a row is too short, or there is no such place.
    pub fn put<T>(
        self,
        page: &mut [T],
        slot: usize,
        key: &[f32],
        value: &[f32],
        convert: impl Fn(f32) -> T,
    ) {
        assert!(slot < PAGE_KEYS, "place {slot} of a page of {PAGE_KEYS}");
        for head in 0..self.kv_heads {
            let row = head * self.head_dim..(head + 1) * self.head_dim;
            let column = page[self.keys_at(head) + slot..]
                .iter_mut()
                .step_by(PAGE_KEYS);
            for (place, &number) in column.zip(&key[row.clone()]) {
                *place = convert(number);
            }
            let start = self.values_at(head) + slot * self.value_stride();
            for (place, &number) in page[start..].iter_mut().zip(&value[row]) {
                *place = convert(number);
            }
        }
    }
}

/// A page of one layer.
#[derive(Debug, Clone, Copy)]
pub enum KvPage<'a> {
    /// Single precision.
    F32(&'a [f32]),
    /// Bits of half precision.
    F16(&'a [u16]),
}
