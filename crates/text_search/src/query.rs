//! A query: words, whatever characters are in it.

use crate::folding::{exact, fold};
use crate::stems::all_stems;
use crate::words::{Piece, Splitter};
use std::collections::HashMap;

/// A query, taken apart as texts are.
#[derive(Debug, Clone)]
pub struct Query {
    pub(crate) words: Vec<QueryWord>,
    /// The terms of all words, one after another.
    pub(crate) terms: Vec<Box<[u8]>>,
}

/// A word of a query, and how it may stand in a text.
#[derive(Debug, Clone)]
pub(crate) struct QueryWord {
    /// How many terms it has. A text holds one of them at most, that of its language.
    pub(crate) stems: usize,
    /// Whether one more term follows: its exact form.
    pub(crate) has_exact: bool,
    /// How often it is in the query.
    pub(crate) count: u32,
}

impl Query {
    /// Takes a query apart.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut query = Self {
            words: Vec::new(),
            terms: Vec::new(),
        };
        let mut places: HashMap<(String, bool, Option<String>), usize> = HashMap::new();
        Splitter::new().split(text, |piece| {
            let (text, is_stemmed, has_exact) = match piece {
                Piece::Word(text) => (text, true, true),
                Piece::Part(text) => (text, true, false),
                Piece::Whole(text) | Piece::Ideographs(text) | Piece::Pair(text) => {
                    (text, false, false)
                }
            };
            let folded = fold(text).into_owned();
            let form = Some(exact(text).into_owned()).filter(|form| has_exact && *form != folded);
            let key = (folded, is_stemmed, form);
            if let Some(&place) = places.get(&key) {
                query.words[place].count += 1;
                return;
            }
            let (folded, _, form) = &key;
            let before = query.terms.len();
            if is_stemmed {
                query.terms.extend(all_stems(folded));
            } else {
                query.terms.push(folded.as_bytes().into());
            }
            query.words.push(QueryWord {
                stems: query.terms.len() - before,
                has_exact: form.is_some(),
                count: 1,
            });
            query
                .terms
                .extend(form.as_ref().map(|form| form.as_bytes().into()));
            places.insert(key, query.words.len() - 1);
        });
        query
    }

    /// Whether there is no word in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}
