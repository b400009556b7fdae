//! From texts to numbered terms.

use crate::folding::{exact, fold};
use crate::language::{self, Language};
use crate::stems::stem;
use crate::words::{Piece, Splitter};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// No term.
const NONE: u32 = u32::MAX;
/// Bytes of a word that fit into a number, beside its length and the language of its text.
const SHORT_BYTES: usize = 14;
/// A word that stands more often in a text counts as often as this.
pub(crate) const MAX_COUNT: u32 = u16::MAX as u32;

/// Numbers the terms of texts as they come. What is known of a word is remembered, so that it is folded and stemmed once.
#[derive(Debug)]
pub(crate) struct Analyzer {
    splitter: Splitter,
    /// The term of a word in a text of a language, and that of its exact form. Most words fit into a number, which is
    /// compared where it lies.
    short: HashMap<u128, (u32, u32), RandomState>,
    long: HashMap<(u8, String), (u32, u32), RandomState>,
    numbers: HashMap<Vec<u8>, u32, RandomState>,
    /// How often each term stands in the text that is being read, and which do.
    counts: Vec<u32>,
    held: Vec<u32>,
}

impl Default for Analyzer {
    fn default() -> Self {
        Self {
            splitter: Splitter::new(),
            short: HashMap::default(),
            long: HashMap::default(),
            numbers: HashMap::default(),
            counts: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Analyzer {
    /// Tells the terms of a text, each once, and how often it stands there; returns how many words the text has.
    pub(crate) fn read(&mut self, text: &str, mut tell: impl FnMut(u32, u32)) -> u32 {
        let language = language::of(text);
        let mut length = 0u32;
        let Self {
            splitter,
            short,
            long,
            numbers,
            counts,
            held,
        } = self;
        let mut count = |term: u32, counts: &mut Vec<u32>| {
            let count = &mut counts[term as usize];
            if *count == 0 {
                held.push(term);
            }
            *count += 1;
        };
        splitter.split(text, |piece| {
            let (text, language, has_exact) = match piece {
                Piece::Word(text) => (text, language, true),
                Piece::Part(text) => (text, language, false),
                Piece::Whole(text) | Piece::Ideographs(text) | Piece::Pair(text) => {
                    (text, None, false)
                }
            };
            length += u32::from(!matches!(piece, Piece::Part(_) | Piece::Whole(_)));
            let new = || terms_of(text, language, numbers, counts);
            let (term, form) = match key(text, language) {
                Ok(key) => *short.entry(key).or_insert_with(new),
                Err(slot) => *long.entry((slot, text.to_owned())).or_insert_with(new),
            };
            count(term, counts);
            if has_exact && form != NONE {
                count(form, counts);
            }
        });
        for term in held.drain(..) {
            tell(
                term,
                std::mem::take(&mut counts[term as usize]).min(MAX_COUNT),
            );
        }
        length
    }

    /// Terms so far.
    pub(crate) fn len(&self) -> usize {
        self.counts.len()
    }

    /// The number of a term.
    pub(crate) fn number(&self, term: &[u8]) -> Option<u32> {
        self.numbers.get(term).copied()
    }

    /// All terms, ascending, and the number of each.
    pub(crate) fn sorted(&self) -> Vec<(&[u8], u32)> {
        let terms = self.numbers.iter();
        let mut terms: Vec<(&[u8], u32)> = terms
            .map(|(term, &number)| (term.as_slice(), number))
            .collect();
        terms.sort_unstable();
        terms
    }
}

/// A number for a word in a text of a language; for a long word, one for the language.
fn key(word: &str, language: Option<Language>) -> Result<u128, u8> {
    let slot = language.map_or(0, |language| 1 + language as u8);
    let mut bytes = [0; 16];
    let room = bytes
        .get_mut(..word.len())
        .filter(|room| room.len() <= SHORT_BYTES);
    room.ok_or(slot)?.copy_from_slice(word.as_bytes());
    bytes[14] = word.len() as u8;
    bytes[15] = slot;
    Ok(u128::from_le_bytes(bytes))
}

fn terms_of(
    word: &str,
    language: Option<Language>,
    numbers: &mut HashMap<Vec<u8>, u32, RandomState>,
    counts: &mut Vec<u32>,
) -> (u32, u32) {
    let mut number = |term: &[u8]| {
        *numbers.entry_ref(term).or_insert_with(|| {
            counts.push(0);
            counts.len() as u32 - 1
        })
    };
    let folded = fold(word);
    let mut term = Vec::new();
    stem(&folded, language, &mut term);
    let form = exact(word);
    let form_number = if form == folded {
        NONE
    } else {
        number(form.as_bytes())
    };
    (number(&term), form_number)
}
