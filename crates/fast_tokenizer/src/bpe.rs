//! Byte pair encoding over flat tables.
//!
//! The merges of Sennrich et al. (arXiv:1508.07909) in the plain form that byte-level models use: no unknown
//! token, no prefix or suffix, no byte fallback, no dropout. Other forms are left to the `tokenizers` crate.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::vocab::{PairTable, Vocab};

/// Symbols up to which looking through all pairs beats a heap.
const SHORT: usize = 48;

const NONE: u32 = u32::MAX;

#[derive(Debug, Clone)]
pub(crate) struct Bpe {
    pub(crate) vocab: Vocab,
    merges: PairTable,
    /// Take a piece that is itself a token as it is.
    ignore_merges: bool,
    /// Ids of the characters of the byte-level alphabet, which ends before U+0200.
    characters: Vec<u32>,
}

/// A token within a piece: its id and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) id: u32,
    pub(crate) len: u32,
}

impl Bpe {
    pub(crate) fn new(vocab: Vocab, merges: &[(u32, u32, u32)], ignore_merges: bool) -> Self {
        let mut buffer = [0; 4];
        let characters = (0..0x200)
            .map(|code| {
                let character = char::from_u32(code).unwrap_or_default();
                vocab.id(character.encode_utf8(&mut buffer)).unwrap_or(NONE)
            })
            .collect();
        Self {
            vocab,
            merges: PairTable::new(merges),
            ignore_merges,
            characters,
        }
    }

    /// Whether pieces that are tokens are taken as they are.
    pub(crate) fn ignores_merges(&self) -> bool {
        self.ignore_merges
    }

    /// The id of one character.
    pub(crate) fn character(&self, character: char) -> Option<u32> {
        match self.characters.get(character as usize) {
            Some(&id) => (id != NONE).then_some(id),
            None => self.vocab.id(character.encode_utf8(&mut [0; 4])),
        }
    }

    /// Cuts a piece into tokens. Characters the vocabulary lacks are left out.
    pub(crate) fn cut(&self, piece: &str, symbols: &mut Vec<Symbol>) {
        symbols.clear();
        if self.ignore_merges
            && let Some(id) = self.vocab.id(piece)
        {
            symbols.push(Symbol {
                id,
                len: piece.len() as u32,
            });
            return;
        }
        symbols.extend(piece.chars().filter_map(|character| {
            self.character(character).map(|id| Symbol {
                id,
                len: character.len_utf8() as u32,
            })
        }));
        self.merge(symbols);
    }

    /// Merges neighbours, lowest rank first and leftmost among equals, until none can be.
    pub(crate) fn merge(&self, symbols: &mut Vec<Symbol>) {
        if symbols.len() <= SHORT {
            self.merge_short(symbols);
        } else {
            self.merge_long(symbols);
        }
    }

    fn merge_short(&self, symbols: &mut Vec<Symbol>) {
        let rank = |left: Symbol, right: Symbol| {
            self.merges.get(left.id, right.id).unwrap_or((NONE, NONE))
        };
        let mut ranks = [(NONE, NONE); SHORT];
        for (slot, pair) in ranks.iter_mut().zip(symbols.windows(2)) {
            *slot = rank(pair[0], pair[1]);
        }
        while symbols.len() > 1 {
            let pairs = symbols.len() - 1;
            let mut best = 0;
            for at in 1..pairs {
                if ranks[at].0 < ranks[best].0 {
                    best = at;
                }
            }
            if ranks[best].0 == NONE {
                return;
            }
            symbols[best] = Symbol {
                id: ranks[best].1,
                len: symbols[best].len + symbols[best + 1].len,
            };
            symbols.remove(best + 1);
            ranks.copy_within(best + 1..pairs, best);
            if best > 0 {
                ranks[best - 1] = rank(symbols[best - 1], symbols[best]);
            }
            if best + 1 < symbols.len() {
                ranks[best] = rank(symbols[best], symbols[best + 1]);
            }
        }
    }

    fn merge_long(&self, symbols: &mut Vec<Symbol>) {
        let count = symbols.len();
        let mut previous: Vec<usize> = (0..count).map(|at| at.wrapping_sub(1)).collect();
        let mut next: Vec<usize> = (1..=count).collect();
        // (rank, position, left id, right id): an entry whose ids have changed since is passed over.
        let mut queue = BinaryHeap::new();
        let push = |queue: &mut BinaryHeap<_>, at: usize, left: Symbol, right: Symbol| {
            if let Some((rank, merged)) = self.merges.get(left.id, right.id) {
                queue.push(Reverse((rank, at, left.id, right.id, merged)));
            }
        };
        for at in 1..count {
            push(&mut queue, at - 1, symbols[at - 1], symbols[at]);
        }
        while let Some(Reverse((_, at, left, right, merged))) = queue.pop() {
            let after = next[at];
            if symbols[at].len == 0
                || after >= count
                || symbols[at].id != left
                || symbols[after].id != right
            {
                continue;
            }
            symbols[at] = Symbol {
                id: merged,
                len: symbols[at].len + symbols[after].len,
            };
            symbols[after].len = 0;
            next[at] = next[after];
            if next[at] < count {
                previous[next[at]] = at;
                push(&mut queue, at, symbols[at], symbols[next[at]]);
            }
            if previous[at] < count {
                push(&mut queue, previous[at], symbols[previous[at]], symbols[at]);
            }
        }
        symbols.retain(|symbol| symbol.len > 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(merges: &[(usize, usize)]) -> Bpe {
        let mut tokens: Vec<String> = ["a", "b", "c", "é"].map(str::to_owned).to_vec();
        let mut pairs = Vec::new();
        for &(left, right) in merges {
            let (left, right) = (left % tokens.len(), right % tokens.len());
            let merged = format!("{}{}", tokens[left], tokens[right]);
            let id = tokens
                .iter()
                .position(|token| *token == merged)
                .unwrap_or_else(|| {
                    tokens.push(merged);
                    tokens.len() - 1
                });
            pairs.push((left as u32, right as u32, id as u32));
        }
        let mut vocab = Vocab::default();
        for (id, token) in tokens.iter().enumerate() {
            vocab.insert(token, id as u32);
        }
        vocab.index_ids();
        Bpe::new(vocab, &pairs, false)
    }

    proptest! {
        #[test]
        fn both_ways_of_merging_agree(
            merges in prop::collection::vec((0usize..40, 0usize..40), 0..40),
            text in "[abcé]{0,48}",
        ) {
            let bpe = model(&merges);
            let symbols: Vec<_> = text
                .chars()
                .map(|c| Symbol { id: bpe.character(c).unwrap(), len: c.len_utf8() as u32 })
                .collect();
            let (mut short, mut long) = (symbols.clone(), symbols);
            bpe.merge_short(&mut short);
            bpe.merge_long(&mut long);
            prop_assert_eq!(&short, &long);
            let joined: String = short.iter().map(|symbol| bpe.vocab.token(symbol.id).unwrap()).collect();
            prop_assert_eq!(joined, text);
        }
    }

    #[test]
    fn a_very_long_piece_takes_no_quadratic_time() {
        let bpe = model(&[(0, 0), (4, 4), (5, 5), (0, 1)]);
        let mut symbols = Vec::new();
        bpe.cut(&"a".repeat(1 << 18), &mut symbols);
        assert_eq!(symbols.len(), 1 << 15);
    }
}
