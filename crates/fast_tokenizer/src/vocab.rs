//! Tokens and their ids.

/// No entry in a table.
const NONE: u32 = u32::MAX;

/// A vocabulary in three flat arrays: filled from a file in one pass, without an allocation a token.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocab {
    text: String,
    entries: Vec<Entry>,
    /// Open addressing: (part of the hash, entry), a power of two of them, at most half full.
    slots: Vec<(u32, u32)>,
    /// Entry of each id.
    by_id: Vec<u32>,
    longest: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    end: u32,
    id: u32,
}

impl Vocab {
    /// Adds a token; one that is there already takes the new id.
    pub(crate) fn insert(&mut self, token: &str, id: u32) {
        if self.slots.len() < 2 * (self.entries.len() + 1) {
            self.grow();
        }
        let hash = hash(token.as_bytes());
        let mut slot = self.first_slot(hash);
        while self.slots[slot].1 != NONE {
            let (tag, entry) = self.slots[slot];
            if tag == hash as u32 && self.token_at(entry) == token {
                self.entries[entry as usize].id = id;
                return;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = (hash as u32, self.entries.len() as u32);
        let start = self.text.len() as u32;
        self.text.push_str(token);
        self.entries.push(Entry {
            start,
            end: self.text.len() as u32,
            id,
        });
        self.longest = self.longest.max(token.len());
    }

    /// Makes ids findable, once all tokens are in. False if ids are too sparse for an array.
    pub(crate) fn index_ids(&mut self) -> bool {
        let largest = self.entries.iter().map(|entry| entry.id).max().unwrap_or(0) as usize;
        if largest > 8 * self.entries.len() + (1 << 16) {
            return false;
        }
        self.by_id = vec![NONE; largest + 1];
        for (index, entry) in self.entries.iter().enumerate() {
            self.by_id[entry.id as usize] = index as u32;
        }
        true
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        if token.len() > self.longest || self.slots.is_empty() {
            return None;
        }
        let hash = hash(token.as_bytes());
        let mut slot = self.first_slot(hash);
        loop {
            let (tag, entry) = self.slots[slot];
            if entry == NONE {
                return None;
            }
            if tag == hash as u32 && self.token_at(entry) == token {
                return Some(self.entries[entry as usize].id);
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    pub(crate) fn token(&self, id: u32) -> Option<&str> {
        let &entry = self.by_id.get(id as usize)?;
        (entry != NONE).then(|| self.token_at(entry))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (self.token_at(index as u32), entry.id))
    }

    fn token_at(&self, entry: u32) -> &str {
        let entry = &self.entries[entry as usize];
        &self.text[entry.start as usize..entry.end as usize]
    }

    fn first_slot(&self, hash: u64) -> usize {
        (hash >> 32) as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        let size = (2 * self.slots.len()).max(1 << 10);
        self.slots = vec![(0, NONE); size];
        for index in 0..self.entries.len() as u32 {
            let hash = hash(self.token_at(index).as_bytes());
            let mut slot = self.first_slot(hash);
            while self.slots[slot].1 != NONE {
                slot = (slot + 1) & (size - 1);
            }
            self.slots[slot] = (hash as u32, index);
        }
    }
}

/// Multiplies and folds eight bytes at a time. Keys come from a model's file, not from its users.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64 ^ bytes.len() as u64;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word));
    }
    let rest = chunks.remainder();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    fold(state ^ u64::from_le_bytes(word))
}

fn fold(value: u64) -> u64 {
    let product = u128::from(value) * u128::from(0xD6E8_FEB8_6659_FD93_u64);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Ranks of pairs of tokens, and what they merge into.
#[derive(Debug, Clone)]
pub(crate) struct PairTable {
    /// (pair, rank, merged id); a pair of `NONE` is empty.
    slots: Vec<(u64, u32, u32)>,
}

const EMPTY_PAIR: u64 = u64::MAX;

impl PairTable {
    pub(crate) fn new(pairs: &[(u32, u32, u32)]) -> Self {
        let size = (2 * pairs.len() + 1).next_power_of_two();
        let mut table = Self {
            slots: vec![(EMPTY_PAIR, 0, 0); size],
        };
        for (rank, &(left, right, merged)) in pairs.iter().enumerate() {
            let slot = table.slot(key(left, right));
            table.slots[slot] = (key(left, right), rank as u32, merged);
        }
        table
    }

    /// Rank and merged id of a pair.
    pub(crate) fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let (pair, rank, merged) = self.slots[self.slot(key(left, right))];
        (pair != EMPTY_PAIR).then_some((rank, merged))
    }

    /// Where a pair is, or would be.
    fn slot(&self, pair: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (fold(pair ^ 0x9E37_79B9_7F4A_7C15) >> 20) as usize & mask;
        while self.slots[slot].0 != pair && self.slots[slot].0 != EMPTY_PAIR {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_vocabulary_is_a_map(tokens in prop::collection::vec((".{0,12}", 0u32..5000), 0..400), probe in ".{0,12}") {
            let mut vocab = Vocab::default();
            let mut map = HashMap::new();
            for (token, id) in &tokens {
                vocab.insert(token, *id);
                map.insert(token.clone(), *id);
            }
            prop_assert!(vocab.index_ids());
            prop_assert_eq!(vocab.len(), map.len());
            for (token, id) in &map {
                prop_assert_eq!(vocab.id(token), Some(*id));
                let back = vocab.token(*id).unwrap();
                prop_assert_eq!(map.get(back), Some(id));
            }
            prop_assert_eq!(vocab.id(&probe), map.get(&probe).copied());
            prop_assert_eq!(vocab.token(5001), None);
        }

        #[test]
        fn a_pair_table_is_a_map_where_the_last_wins(pairs in prop::collection::vec((0u32..40, 0u32..40, 0u32..99), 0..300)) {
            let table = PairTable::new(&pairs);
            let map: HashMap<_, _> = pairs.iter().enumerate().map(|(rank, &(a, b, c))| ((a, b), (rank as u32, c))).collect();
            for left in 0..40 {
                for right in 0..40 {
                    prop_assert_eq!(table.get(left, right), map.get(&(left, right)).copied());
                }
            }
        }
    }

    #[test]
    fn ids_too_sparse_for_an_array_are_refused() {
        let mut vocab = Vocab::default();
        vocab.insert("a", u32::MAX - 1);
        assert!(!vocab.index_ids());
    }
}
