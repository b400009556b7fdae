//! A set of row numbers.

/// One bit per row, lowest bit first in words of 64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    /// A set over `len` rows that holds none of them.
    #[must_use]
    pub fn empty(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    /// A set over `len` rows that holds all of them.
    #[must_use]
    pub fn full(len: usize) -> Self {
        let mut set = Self {
            words: vec![u64::MAX; len.div_ceil(64)],
            len,
        };
        set.clear_padding();
        set
    }

    /// Reads the words that [`Self::words`] gave; `None` when their number does not fit `len`.
    #[must_use]
    pub fn from_words(words: Vec<u64>, len: usize) -> Option<Self> {
        (words.len() == len.div_ceil(64)).then(|| {
            let mut set = Self { words, len };
            set.clear_padding();
            set
        })
    }

    /// Rows the set ranges over.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set ranges over no row at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bits, lowest row first.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Number of rows in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether `row` is in the set.
    #[must_use]
    pub fn contains(&self, row: usize) -> bool {
        self.words
            .get(row / 64)
            .is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Adds `row`; returns whether it is new. Rows beyond the range are ignored.
    pub fn insert(&mut self, row: usize) -> bool {
        if row >= self.len || self.contains(row) {
            return false;
        }
        self.words[row / 64] |= 1 << (row % 64);
        true
    }

    /// Keeps the rows that are also in `other`.
    pub fn intersect(&mut self, other: &Self) {
        for (word, mask) in self.words.iter_mut().zip(&other.words) {
            *word &= mask;
        }
    }

    /// Drops the rows that are in `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (word, mask) in self.words.iter_mut().zip(&other.words) {
            *word &= !mask;
        }
    }

    /// The rows of the set within `range`, ascending.
    pub fn rows(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> + '_ {
        let end = range.end.min(self.len);
        let first = range.start / 64;
        (first..end.div_ceil(64).max(first)).flat_map(move |index| {
            let mut word = self.words[index];
            std::iter::from_fn(move || {
                (word != 0).then(|| {
                    let bit = word.trailing_zeros() as usize;
                    word &= word - 1;
                    index * 64 + bit
                })
            })
            .filter(move |row| (range.start..end).contains(row))
        })
    }

    fn clear_padding(&mut self) {
        let used = self.len % 64;
        if used != 0
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << used) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Bitmap;

    #[test]
    fn rows_are_those_inserted_within_the_range() {
        let mut set = Bitmap::empty(200);
        for row in [0, 63, 64, 130, 199] {
            assert!(set.insert(row));
        }
        assert!(!set.insert(63), "already there");
        assert!(!set.insert(200), "beyond the range");
        assert_eq!(set.rows(0..200).collect::<Vec<_>>(), [0, 63, 64, 130, 199]);
        assert_eq!(set.rows(64..199).collect::<Vec<_>>(), [64, 130]);
        assert_eq!(set.rows(300..400).count(), 0);
    }

    #[test]
    fn padding_bits_never_count() {
        assert_eq!(Bitmap::full(70).count(), 70);
        let read = Bitmap::from_words(vec![u64::MAX; 2], 65).unwrap();
        assert_eq!(read.count(), 65);
        assert!(Bitmap::from_words(vec![0; 3], 65).is_none());
    }

    #[test]
    fn set_operations() {
        let mut all = Bitmap::full(10);
        let mut odd = Bitmap::empty(10);
        (1..10).step_by(2).for_each(|row| {
            odd.insert(row);
        });
        all.subtract(&odd);
        assert_eq!(all.rows(0..10).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        all.intersect(&odd);
        assert_eq!(all.count(), 0);
    }
}
