//! Terms: what of a word is looked up.

use crate::language::{ALL, Language};
use rust_stemmers::{Algorithm, Stemmer};

/// Longest word that is kept whole, in bytes.
pub(crate) const MAX_TERM_BYTES: usize = 128;
/// Shorter words have no endings.
const MIN_STEMMED_CHARS: usize = 3;

/// Appends the term of a folded word in a text of a language.
///
/// A byte that no word holds says whose stem it is, so that stems of one language are not taken for another's. Every word
/// of letters has it, whether or not its stem is shorter. Where there is no language, or the word is a number or a name with
/// digits, the term is the word.
pub(crate) fn stem(folded: &str, language: Option<Language>, out: &mut Vec<u8>) {
    match language {
        Some(language) if has_stem(folded) => {
            out.push(1 + language as u8);
            out.extend_from_slice(stemmer(language).stem(folded).as_bytes());
        }
        _ => out.extend_from_slice(folded.as_bytes()),
    }
}

/// Every term that a folded word may have, whatever the language of the text.
pub(crate) fn all_stems(folded: &str) -> Vec<Box<[u8]>> {
    let mut terms = vec![folded.as_bytes().into()];
    if has_stem(folded) {
        terms.extend(ALL.map(|language| {
            let mut term = Vec::new();
            stem(folded, Some(language), &mut term);
            term.into_boxed_slice()
        }));
    }
    terms
}

fn has_stem(folded: &str) -> bool {
    folded.chars().count() >= MIN_STEMMED_CHARS
        && folded.chars().all(|c| c.is_alphabetic() || c == '\'')
}

fn stemmer(language: Language) -> Stemmer {
    Stemmer::create(match language {
        Language::Arabic => Algorithm::Arabic,
        Language::Dutch => Algorithm::Dutch,
        Language::English => Algorithm::English,
        Language::French => Algorithm::French,
        Language::German => Algorithm::German,
        Language::Italian => Algorithm::Italian,
        Language::Portuguese => Algorithm::Portuguese,
        Language::Russian => Algorithm::Russian,
        Language::Spanish => Algorithm::Spanish,
        Language::Swedish => Algorithm::Swedish,
        Language::Turkish => Algorithm::Turkish,
    })
}

#[cfg(test)]
mod tests {
    use super::{all_stems, stem};
    use crate::language::Language;
    use proptest::prelude::*;

    fn english(word: &str) -> Vec<u8> {
        let mut term = Vec::new();
        stem(word, Some(Language::English), &mut term);
        term
    }

    #[test]
    fn forms_of_a_word_share_its_stem() {
        assert_eq!(english("running"), english("runs"));
        assert_ne!(english("runs"), english("rune"));
        assert_eq!(english("x86"), b"x86");
    }

    proptest! {
        // The library is generated code that slices bytes.
        #[test]
        fn any_word_has_a_stem_in_every_language(word in "\\PC{0,12}|[a-zа-яأ-يıüéß']{0,12}") {
            prop_assert!(!all_stems(&word).is_empty());
        }
    }
}
