//! BERT's normaliser and pre-tokeniser on text of any script, without a map back to it.
//!
//! The steps and the tables of Unicode are those of the `tokenizers` crate, so that the words are too; a test
//! compares them for every character.

use std::sync::atomic::{AtomicU8, Ordering};

use tokenizers::normalizers::BertNormalizer;
use unicode_categories::UnicodeCategories as _;
use unicode_normalization_alignments::UnicodeNormalization as _;

/// Cuts texts into the words that the model sees; keeps what it allocated from one to the next.
pub(crate) struct Words {
    settings: BertNormalizer,
    cleaned: String,
    word: String,
}

impl Words {
    pub(crate) fn new(settings: BertNormalizer) -> Self {
        Self {
            settings,
            cleaned: String::new(),
            word: String::new(),
        }
    }

    /// Calls `take` with each word of a text, in order.
    pub(crate) fn cut(&mut self, text: &str, take: impl FnMut(&str)) {
        let mut cleaned = std::mem::take(&mut self.cleaned);
        cleaned.clear();
        for character in text.chars() {
            let class = class(character);
            if self.settings.clean_text && class & NOISE != 0 {
                continue;
            }
            if self.settings.handle_chinese_chars && class & IDEOGRAPH != 0 {
                cleaned.extend([' ', character, ' ']);
            } else {
                cleaned.push(character);
            }
        }
        if self
            .settings
            .strip_accents
            .unwrap_or(self.settings.lowercase)
        {
            let letters = cleaned.nfd().map(|(character, _)| character);
            self.split(letters.filter(|&letter| class(letter) & ACCENT == 0), take);
        } else {
            self.split(cleaned.chars(), take);
        }
        self.cleaned = cleaned;
    }

    fn split(&mut self, text: impl Iterator<Item = char>, mut take: impl FnMut(&str)) {
        let word = &mut self.word;
        word.clear();
        let mut push = |character: char| {
            let class = class(character);
            if class & (SPACE | PUNCTUATION) == 0 {
                word.push(character);
                return;
            }
            if !word.is_empty() {
                take(word);
                word.clear();
            }
            if class & PUNCTUATION != 0 {
                take(character.encode_utf8(&mut [0; 4]));
            }
        };
        for character in text {
            if self.settings.lowercase {
                character.to_lowercase().for_each(&mut push);
            } else {
                push(character);
            }
        }
        push(' ');
    }
}

const KNOWN: u8 = 1;
/// What cleaning leaves out.
const NOISE: u8 = 2;
const IDEOGRAPH: u8 = 4;
const ACCENT: u8 = 8;
const SPACE: u8 = 16;
const PUNCTUATION: u8 = 32;

/// Looked up once for each character that is met: a dozen searches in tables.
static CLASSES: [AtomicU8; 0x11_0000] = [const { AtomicU8::new(0) }; 0x11_0000];

fn class(character: char) -> u8 {
    let known = &CLASSES[character as usize];
    match known.load(Ordering::Relaxed) {
        0 => {
            let class = looked_up(character);
            known.store(class, Ordering::Relaxed);
            class
        }
        class => class,
    }
}

fn looked_up(character: char) -> u8 {
    let is_noise = match character {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{fffd}' => true,
        _ => character.is_other(),
    };
    // As in the crate: one block of ideographs begins a bit late.
    let is_ideograph = matches!(
        character as u32,
        0x3400..=0x4DBF
            | 0x4E00..=0x9FFF
            | 0xF900..=0xFAFF
            | 0x2_0000..=0x2_A6DF
            | 0x2_A700..=0x2_B73F
            | 0x2_B740..=0x2_B81F
            | 0x2_B920..=0x2_CEAF
            | 0x2_F800..=0x2_FA1F
    );
    let is_punctuation = character.is_ascii_punctuation() || character.is_punctuation();
    [
        (true, KNOWN),
        (is_noise, NOISE),
        (is_ideograph, IDEOGRAPH),
        (character.is_mark_nonspacing(), ACCENT),
        (character.is_whitespace(), SPACE),
        (is_punctuation, PUNCTUATION),
    ]
    .into_iter()
    .filter_map(|(is_of, class)| is_of.then_some(class))
    .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
    use tokenizers::{
        NormalizedString, Normalizer as _, OffsetReferential, OffsetType, PreTokenizedString,
        PreTokenizer as _,
    };

    use super::*;

    /// All settings of the normaliser.
    fn settings() -> Vec<BertNormalizer> {
        let both = [false, true];
        let mut all = Vec::new();
        for clean in both {
            for apart in both {
                for accents in [None, Some(false), Some(true)] {
                    all.extend(both.map(|lower| BertNormalizer::new(clean, apart, accents, lower)));
                }
            }
        }
        all
    }

    fn expected(settings: BertNormalizer, text: &str) -> Vec<String> {
        let mut normalized = NormalizedString::from(text);
        settings.normalize(&mut normalized).unwrap();
        let mut pieces = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut pieces).unwrap();
        pieces
            .get_splits(OffsetReferential::Normalized, OffsetType::None)
            .into_iter()
            .map(|(piece, _, _)| piece.to_owned())
            .collect()
    }

    fn words(settings: BertNormalizer, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        Words::new(settings).cut(text, |word| found.push(word.to_owned()));
        found
    }

    #[test]
    fn every_character_is_cut_as_the_crate_cuts_it() {
        for settings in [
            BertNormalizer::default(),
            BertNormalizer::new(false, false, Some(true), false),
        ] {
            // Many characters a call, each between letters and marks that it may join.
            let all: Vec<char> = ('\0'..=char::MAX).collect();
            for some in all.chunks(1 << 12) {
                let text: String = some
                    .iter()
                    .flat_map(|&character| ['a', character, '\u{301}', character, '!'])
                    .collect();
                assert_eq!(
                    words(settings, &text),
                    expected(settings, &text),
                    "{settings:?}, {:?}",
                    some[0]
                );
            }
        }
    }

    proptest! {
        #[test]
        fn text_is_cut_as_the_crate_cuts_it(
            text in "(\\PC|\\p{M}|\\p{C}|[\u{302e}\u{302f}\u{1d165}\u{1d16d}\u{16ff0}\u{323}\u{301}\u{345}]|[aÉİßΣ \t\u{85}\u{2000}\u{3000}。好가]){0,24}",
        ) {
            for settings in settings() {
                prop_assert_eq!(words(settings, &text), expected(settings, &text), "{:?}", settings);
            }
        }
    }
}
