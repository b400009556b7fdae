//! Texts inverted in memory: for each term, where it stands.

use crate::folding::{exact, fold};
use crate::language::{self, Language};
use crate::postings::Postings;
use crate::stems::stem;
use crate::words::{Piece, Splitter};
use foldhash::fast::RandomState;
use std::collections::HashMap;

const UNKNOWN: u32 = u32::MAX;
const NONE: u32 = u32::MAX - 1;
/// Languages, and none.
const LANGUAGES: usize = language::ALL.len() + 1;

/// What is known of a piece of text that was met, so that it is folded and stemmed once.
#[derive(Debug)]
struct Known {
    /// Its term in a text of each language, and in one of none.
    terms: [u32; LANGUAGES],
    /// That of its exact form.
    exact: u32,
}

/// The postings of texts, which are numbered as they come.
#[derive(Debug)]
pub(crate) struct Inverted {
    splitter: Splitter,
    known: HashMap<Box<str>, Known, RandomState>,
    numbers: HashMap<Box<[u8]>, u32, RandomState>,
    pub(crate) postings: Vec<Postings>,
    /// How many words each text has.
    pub(crate) lengths: Vec<u32>,
}

impl Default for Inverted {
    fn default() -> Self {
        Self {
            splitter: Splitter::new(),
            known: HashMap::default(),
            numbers: HashMap::default(),
            postings: Vec::new(),
            lengths: Vec::new(),
        }
    }
}

impl Inverted {
    /// Adds a text and returns its number.
    pub(crate) fn add(&mut self, text: &str) -> u32 {
        let document = self.lengths.len() as u32;
        let language = language::of(text);
        let Self {
            splitter,
            known,
            numbers,
            postings,
            ..
        } = self;
        let mut terms = Terms { numbers, postings };
        let mut length = 0u32;
        splitter.split(text, |piece| {
            let (text, language, has_exact) = match piece {
                Piece::Word(text) => (text, language, true),
                Piece::Part(text) => (text, language, false),
                Piece::Whole(text) | Piece::Ideographs(text) | Piece::Pair(text) => {
                    (text, None, false)
                }
            };
            length += u32::from(!matches!(piece, Piece::Part(_) | Piece::Whole(_)));
            if !known.contains_key(text) {
                let unknown = Known {
                    terms: [UNKNOWN; LANGUAGES],
                    exact: UNKNOWN,
                };
                known.insert(text.into(), unknown);
            }
            let Some(known) = known.get_mut(text) else {
                return;
            };
            let slot = language.map_or(LANGUAGES - 1, |language| language as usize);
            if known.terms[slot] == UNKNOWN {
                known.terms[slot] = terms.number_of_stem(text, language);
            }
            terms.postings[known.terms[slot] as usize].add(document);
            if has_exact {
                if known.exact == UNKNOWN {
                    known.exact = terms.number_of_exact(text);
                }
                if known.exact != NONE {
                    terms.postings[known.exact as usize].add(document);
                }
            }
        });
        self.lengths.push(length);
        document
    }

    /// The postings of a term.
    pub(crate) fn find(&self, term: &[u8]) -> Option<&Postings> {
        Some(&self.postings[*self.numbers.get(term)? as usize])
    }

    /// All terms, ascending, and the number of each.
    pub(crate) fn sorted(&self) -> Vec<(&[u8], u32)> {
        let terms = self.numbers.iter();
        let mut terms: Vec<(&[u8], u32)> = terms
            .map(|(term, &number)| (term.as_ref(), number))
            .collect();
        terms.sort_unstable();
        terms
    }
}

/// The terms of an [`Inverted`], and their postings.
struct Terms<'a> {
    numbers: &'a mut HashMap<Box<[u8]>, u32, RandomState>,
    postings: &'a mut Vec<Postings>,
}

impl Terms<'_> {
    fn number_of_stem(&mut self, word: &str, language: Option<Language>) -> u32 {
        let mut term = Vec::new();
        stem(&fold(word), language, &mut term);
        self.number(term)
    }

    fn number_of_exact(&mut self, word: &str) -> u32 {
        let form = exact(word);
        if form == fold(word) {
            NONE
        } else {
            self.number(form.as_bytes().to_vec())
        }
    }

    fn number(&mut self, term: Vec<u8>) -> u32 {
        let next = self.postings.len() as u32;
        let number = *self.numbers.entry(term.into_boxed_slice()).or_insert(next);
        if number == next {
            self.postings.push(Postings::default());
        }
        number
    }
}
