//! From a text to its words.
//!
//! Words are those of ICU. Texts of ASCII, where its rules come down to runs of letters and digits, are taken apart
//! here, which is several times faster.

use crate::folding::is_ideographic;
use crate::stems::MAX_TERM_BYTES;
use icu_segmenter::options::WordBreakInvariantOptions;
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed};
use std::ops::Range;

/// Something of a text that is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// A word; the length of a text is how many it has.
    Word(&'t str),
    /// A part of the word before it.
    Part(&'t str),
    /// An identifier, path or address: words and what joins them.
    Whole(&'t str),
    /// A word of ideographs, which is no pair of them.
    Ideographs(&'t str),
    /// Two ideographs beside each other.
    Pair(&'t str),
}

/// Characters that join words to a name.
fn joins(byte: u8) -> bool {
    matches!(
        byte,
        b'_' | b'-'
            | b'.'
            | b':'
            | b'/'
            | b'@'
            | b'#'
            | b'+'
            | b'&'
            | b'='
            | b'\\'
            | b'~'
            | b'$'
            | b'%'
            | b'\''
    )
}

/// A text without white space that is longer is cut.
const MAX_CHUNK_BYTES: usize = 16 << 10;
/// Endings behind an apostrophe, as in "don't" and "they'll", are no longer; "l'homme" is two words.
const MAX_ENDING_CHARS: usize = 2;

/// Takes texts apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Splitter {
    icu: WordSegmenterBorrowed<'static>,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        Self {
            icu: WordSegmenter::new_auto(WordBreakInvariantOptions::default()),
        }
    }

    /// Tells the pieces of a text in its order.
    pub(crate) fn split<'t>(&self, text: &'t str, mut piece: impl FnMut(Piece<'t>)) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at].is_ascii_whitespace() {
                at += 1;
                continue;
            }
            let start = at;
            let word = &bytes[at..];
            let len = word.iter().position(|byte| !byte.is_ascii_alphanumeric());
            at += len.unwrap_or(word.len());
            if at > start && is_apart(&bytes[at..]) {
                // Most chunks are a word and at most a mark.
                tell_word(&text[start..at], &mut piece);
                at += 1;
                continue;
            }
            let mut seen = 0;
            while at < bytes.len() && !bytes[at].is_ascii_whitespace() {
                seen |= bytes[at];
                at += 1;
            }
            let chunk = &text[start..at];
            if seen < 0x80 {
                split_ascii(chunk, &mut piece);
            } else {
                self.split_any(chunk, &mut piece);
            }
        }
    }

    fn split_any<'t>(&self, mut chunk: &'t str, piece: &mut impl FnMut(Piece<'t>)) {
        while !chunk.is_empty() {
            let (now, later) = chunk.split_at(clip(chunk, MAX_CHUNK_BYTES).len());
            self.split_chunk(now, piece);
            chunk = later;
        }
    }

    fn split_chunk<'t>(&self, chunk: &'t str, piece: &mut impl FnMut(Piece<'t>)) {
        let mut name = Name::new(chunk);
        let mut pairs = Pairs::default();
        let mut start = 0;
        let ends = self.icu.segment_str(chunk).iter_with_word_type();
        for (end, kind) in ends.skip(1) {
            let segment = &chunk[start..end];
            if kind.is_word_like() {
                if segment.chars().all(is_ideographic) {
                    name.end(piece);
                    pairs.push(chunk, start..end, piece);
                } else {
                    for word in runs(segment) {
                        name.push(start + word.start..start + word.end, piece);
                    }
                }
            }
            start = end;
        }
        name.end(piece);
    }
}

/// Whether a word ends with its chunk, or before a single mark that makes no name of it.
fn is_apart(rest: &[u8]) -> bool {
    match rest {
        [] => true,
        [mark, next @ ..] => {
            let ends = next.first().is_none_or(u8::is_ascii_whitespace);
            mark.is_ascii_whitespace() || ends && mark.is_ascii() && !matches!(mark, b'+' | b'#')
        }
    }
}

fn tell_word<'t>(word: &'t str, piece: &mut impl FnMut(Piece<'t>)) {
    let word = clip(word, MAX_TERM_BYTES);
    piece(Piece::Word(word));
    parts(word, piece);
}

/// Words between joining characters; ICU leaves those within some of its words.
fn runs(segment: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let begins = segment[at..].find(|c: char| !c.is_ascii_punctuation() && c != '\u{2019}')?;
        let start = at + begins;
        let len = segment[start..].find(|c: char| c.is_ascii_punctuation() || c == '\u{2019}');
        at = len.map_or(segment.len(), |len| start + len);
        Some(start..at)
    })
}

fn split_ascii<'t>(chunk: &'t str, piece: &mut impl FnMut(Piece<'t>)) {
    let bytes = chunk.as_bytes();
    let mut name = Name::new(chunk);
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphanumeric() {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && bytes[at].is_ascii_alphanumeric() {
            at += 1;
        }
        name.push(start..at, piece);
    }
    name.end(piece);
}

/// Words of a chunk that characters join, as far as they are read.
struct Name<'t> {
    chunk: &'t str,
    /// From the first word to the end of the last.
    range: Range<usize>,
    /// The last word, which an ending may follow.
    word: Range<usize>,
    words: usize,
}

impl<'t> Name<'t> {
    fn new(chunk: &'t str) -> Self {
        Self {
            chunk,
            range: 0..0,
            word: 0..0,
            words: 0,
        }
    }

    fn push(&mut self, word: Range<usize>, piece: &mut impl FnMut(Piece<'t>)) {
        if self.words > 0 {
            let between = &self.chunk[self.range.end..word.start];
            let is_joined =
                !between.is_empty() && between.bytes().all(joins) || between == "\u{2019}";
            if !is_joined {
                self.end(piece);
            } else if self.continues(between, &word) {
                self.word.end = word.end;
                self.range.end = word.end;
                return;
            } else {
                tell_word(&self.chunk[self.word.clone()], piece);
            }
        }
        if self.words == 0 {
            self.range.start = word.start;
        }
        self.words += 1;
        self.range.end = word.end;
        self.word = word;
    }

    /// Whether the run is not a word of its own: an ending, or digits behind a decimal point.
    fn continues(&self, between: &str, run: &Range<usize>) -> bool {
        let text = &self.chunk[run.clone()];
        let before = &self.chunk[self.word.clone()];
        match between {
            "'" | "\u{2019}" => {
                text.chars().count() <= MAX_ENDING_CHARS && before.chars().count() > 1
            }
            "." => self.words == 1 && [text, before].iter().all(|text| is_number(text)),
            _ => false,
        }
    }

    fn end(&mut self, piece: &mut impl FnMut(Piece<'t>)) {
        if self.words == 0 {
            return;
        }
        tell_word(&self.chunk[self.word.clone()], piece);
        // C++ and C# are names of one word.
        let rest = &self.chunk.as_bytes()[self.range.end..];
        let signs = rest
            .iter()
            .take_while(|byte| matches!(byte, b'+' | b'#'))
            .count();
        self.range.end += signs;
        if (self.words > 1 || signs > 0) && self.range.len() <= MAX_TERM_BYTES {
            piece(Piece::Whole(&self.chunk[self.range.clone()]));
        }
        self.words = 0;
    }
}

fn is_number(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// The beginning of a text, at most so many bytes of it.
pub(crate) fn clip(text: &str, most_bytes: usize) -> &str {
    let mut end = text.len().min(most_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The parts of a name in camel case.
fn parts<'t>(word: &'t str, piece: &mut impl FnMut(Piece<'t>)) {
    let bytes = word.as_bytes();
    if !bytes.iter().skip(1).any(u8::is_ascii_uppercase) {
        return;
    }
    let mut start = 0;
    for at in 1..bytes.len() {
        let [before, here] = [bytes[at - 1], bytes[at]];
        let next = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        let begins = here.is_ascii_uppercase()
            && (before.is_ascii_lowercase() || before.is_ascii_uppercase() && next);
        if begins {
            piece(Piece::Part(&word[start..at]));
            start = at;
        }
    }
    if start > 0 {
        piece(Piece::Part(&word[start..]));
    }
}

/// Ideographs that stand beside each other, as far as they are read.
#[derive(Debug, Default)]
struct Pairs {
    /// Where the last ideograph begins and ends.
    last: Option<Range<usize>>,
}

impl Pairs {
    fn push<'t>(&mut self, chunk: &'t str, word: Range<usize>, piece: &mut impl FnMut(Piece<'t>)) {
        let text = &chunk[word.clone()];
        if text.chars().count() != 2 {
            piece(Piece::Ideographs(clip(text, MAX_TERM_BYTES)));
        }
        for (at, c) in text.char_indices() {
            let here = word.start + at..word.start + at + c.len_utf8();
            if let Some(last) = self.last.take().filter(|last| last.end == here.start) {
                piece(Piece::Pair(&chunk[last.start..here.end]));
            }
            self.last = Some(here);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, Splitter};
    use proptest::prelude::*;

    fn told(text: &str) -> Vec<String> {
        let mut found = Vec::new();
        Splitter::new().split(text, |piece| {
            let (kind, text) = match piece {
                Piece::Word(text) => ("", text),
                Piece::Part(text) => ("part ", text),
                Piece::Whole(text) => ("whole ", text),
                Piece::Ideographs(text) => ("word ", text),
                Piece::Pair(text) => ("pair ", text),
            };
            found.push(format!("{kind}{text}"));
        });
        found
    }

    #[test]
    fn identifiers_are_told_whole_and_in_parts() {
        let cases: [(&str, &[&str]); 12] = [
            (
                "DEFAULT_BACKOFF_MAX,",
                &["DEFAULT", "BACKOFF", "MAX", "whole DEFAULT_BACKOFF_MAX"],
            ),
            ("(--limit-rate)", &["limit", "rate", "whole limit-rate"]),
            (
                "os.path.join(a)",
                &["os", "path", "join", "whole os.path.join", "a"],
            ),
            (
                "getUserName",
                &["getUserName", "part get", "part User", "part Name"],
            ),
            ("XMLHttp", &["XMLHttp", "part XML", "part Http"]),
            ("C++ or C#.", &["C", "whole C++", "or", "C", "whole C#"]),
            ("don't", &["don't"]),
            ("l'homme", &["l", "homme", "whole l'homme"]),
            ("3.14 and 1.2.3", &["3.14", "and", "1.2.3"]),
            (
                "Übergrößen-Träger",
                &["Übergrößen", "Träger", "whole Übergrößen-Träger"],
            ),
            ("the end.", &["the", "end"]),
            ("?!…", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    #[test]
    fn ideographs_are_told_as_words_and_pairs() {
        assert_eq!(told("東京"), ["pair 東京"]);
        let found = told("東京都庁");
        for pair in ["pair 東京", "pair 京都", "pair 都庁"] {
            assert!(found.contains(&pair.to_owned()), "{found:?}");
        }
        assert_eq!(told("猫"), ["word 猫"]);
        let found = told("データベース。検索");
        assert!(found.contains(&"word データベース".to_owned()), "{found:?}");
        assert!(found.contains(&"pair タベ".to_owned()));
        assert!(
            !found.contains(&"pair ス検".to_owned()),
            "a full stop is between"
        );
        assert!(told("ภาษาไทยง่าย").len() > 1, "Thai has no spaces");
    }

    proptest! {
        #[test]
        fn a_word_of_ascii_is_one_beside_any_script(words in prop::collection::vec("[a-z]{1,8}", 1..6)) {
            let ascii = told(&words.join(" "));
            let other = told(&words.iter().map(|word| format!("“{word}”")).collect::<Vec<_>>().join(" "));
            prop_assert_eq!(ascii, other);
        }

        #[test]
        fn the_two_ways_agree_on_ascii(text in "[a-zA-Z0-9_.:/'+# -]{0,40}") {
            // The sign of the copyright is no word and joins nothing.
            let other: Vec<String> = text.split_ascii_whitespace().map(|chunk| format!("{chunk}©")).collect();
            prop_assert_eq!(told(&text), told(&other.join(" ")));
        }

        #[test]
        fn any_text_is_taken_apart(text in "\\PC{0,60}") {
            for word in told(&text) {
                prop_assert!(!word.is_empty());
            }
        }
    }
}
