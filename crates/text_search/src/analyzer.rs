//! From texts to numbered terms.

use crate::folding::{exact, fold};
use crate::language::{self, ALL};
use crate::stems::stem;
use crate::words::{Piece, Splitter};
use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// No term.
const NONE: u32 = u32::MAX;
/// Bytes of a word that fit into a number, beside its length and the language of its text.
const SHORT_BYTES: usize = 14;
/// Of a part of a word, beside its length: its exact form is no term.
const PART: u8 = 0x80;
/// Words that are looked up together.
const AT_ONCE: usize = 1024;
/// A word that stands more often in a text counts as often as this.
pub(crate) const MAX_COUNT: u32 = u16::MAX as u32;

/// The term of a word, and that of its exact form.
type Terms = (u32, u32);

/// Numbers the terms of texts as they come. What is known of a word is remembered, so that it is folded and stemmed once.
#[derive(Debug)]
pub(crate) struct Analyzer {
    splitter: Splitter,
    /// The terms of a word in a text of a language. Most words fit into a number, which is compared where it lies.
    short: HashMap<u128, Terms, RandomState>,
    long: HashMap<Vec<u8>, Terms, RandomState>,
    numbers: HashMap<Vec<u8>, u32, RandomState>,
    /// Words of the text that is being read that fit into numbers, and the terms of those that were looked up.
    words: Vec<u128>,
    found: Vec<Terms>,
    /// A word that does not fit, what it is, and the language of its text.
    long_word: Vec<u8>,
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
            words: Vec::new(),
            long_word: Vec::new(),
            found: Vec::new(),
            counts: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl Analyzer {
    /// Tells the terms of a text, each once, and how often it stands there; returns how many words the text has.
    pub(crate) fn read(&mut self, text: &str, mut tell: impl FnMut(u32, u32)) -> u32 {
        let language = language::of(text).map_or(0, |language| 1 + language as u8);
        let mut length = 0u32;
        let splitter = self.splitter;
        splitter.split(text, |piece| {
            let (text, mark, language) = match piece {
                Piece::Word(text) => (text, 0, language),
                Piece::Part(text) => (text, PART, language),
                Piece::Whole(text) | Piece::Ideographs(text) | Piece::Pair(text) => (text, PART, 0),
            };
            length += u32::from(!matches!(piece, Piece::Part(_) | Piece::Whole(_)));
            self.meet(text, mark, language);
        });
        self.count_words();
        for term in self.held.drain(..) {
            let count = std::mem::take(&mut self.counts[term as usize]);
            tell(term, count.min(MAX_COUNT));
        }
        length
    }

    fn meet(&mut self, text: &str, mark: u8, language: u8) {
        if let Some(word) = short_word(text.as_bytes(), mark, language) {
            self.words.push(word);
            if self.words.len() == AT_ONCE {
                self.count_words();
            }
            return;
        }
        self.long_word.clear();
        self.long_word.extend_from_slice(text.as_bytes());
        self.long_word.extend([mark, language]);
        let new = || terms_of(text, mark, language, &mut self.numbers, &mut self.counts);
        let terms = self.long.entry_ref(self.long_word.as_slice());
        self.found.push(*terms.or_insert_with(new));
    }

    /// Looks up the words that were met, one after another with nothing between: so a core waits for several of them at once.
    fn count_words(&mut self) {
        for &word in &self.words {
            let new = || {
                let bytes = word.to_le_bytes();
                let text = &bytes[..usize::from(bytes[14] & !PART)];
                let text = str::from_utf8(text).unwrap_or_default();
                let (numbers, counts) = (&mut self.numbers, &mut self.counts);
                terms_of(text, bytes[14] & PART, bytes[15], numbers, counts)
            };
            self.found.push(*self.short.entry(word).or_insert_with(new));
        }
        self.words.clear();
        for term in self.found.drain(..).flat_map(<[u32; 2]>::from) {
            if term != NONE {
                let count = &mut self.counts[term as usize];
                if *count == 0 {
                    self.held.push(term);
                }
                *count += 1;
            }
        }
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

/// A number for a word in a text of a language, if it is short. No language is 0.
fn short_word(bytes: &[u8], mark: u8, language: u8) -> Option<u128> {
    if bytes.len() > SHORT_BYTES {
        return None;
    }
    let about = u64::from_le_bytes([0, 0, 0, 0, 0, 0, bytes.len() as u8 | mark, language]);
    let (low, high) = if let (Some(&first), Some(&last)) = (bytes.first_chunk(), bytes.last_chunk())
    {
        // Both overlap by what is missing of sixteen.
        let high = u64::from_le_bytes(last).checked_shr(8 * (16 - bytes.len() as u32));
        (u64::from_le_bytes(first), high.unwrap_or(0))
    } else {
        let bytes = bytes.iter().rev();
        let low = bytes.fold(0, |low, byte| low << 8 | u64::from(*byte));
        (low, 0)
    };
    Some(u128::from(low) | u128::from(high | about) << 64)
}

fn terms_of(
    word: &str,
    mark: u8,
    language: u8,
    numbers: &mut HashMap<Vec<u8>, u32, RandomState>,
    counts: &mut Vec<u32>,
) -> Terms {
    let mut number = |term: &[u8]| {
        *numbers.entry_ref(term).or_insert_with(|| {
            counts.push(0);
            counts.len() as u32 - 1
        })
    };
    let language = language
        .checked_sub(1)
        .map(|number| ALL[usize::from(number)]);
    let folded = fold(word);
    let mut term = Vec::new();
    stem(&folded, language, &mut term);
    let form = exact(word);
    let form = if mark == PART || form == folded {
        NONE
    } else {
        number(form.as_bytes())
    };
    (number(&term), form)
}
