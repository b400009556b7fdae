//! The language of a text: which stemmer its words get.

use crate::words::clip;
use whichlang::{Lang, detect_language};

/// A language that has stems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Language {
    Arabic,
    Dutch,
    English,
    French,
    German,
    Italian,
    Portuguese,
    Russian,
    Spanish,
    Swedish,
    Turkish,
}

/// All of them, in the order of their numbers.
pub(crate) const ALL: [Language; 11] = [
    Language::Arabic,
    Language::Dutch,
    Language::English,
    Language::French,
    Language::German,
    Language::Italian,
    Language::Portuguese,
    Language::Russian,
    Language::Spanish,
    Language::Swedish,
    Language::Turkish,
];

/// How much of a text is looked at: a sentence or two. All of it would take longer than the rest of reading it.
const LOOKED_AT_BYTES: usize = 128;

/// The language of a text, as its beginning tells; none for one without stems. A function of the text alone.
pub(crate) fn of(text: &str) -> Option<Language> {
    Some(match detect_language(clip(text, LOOKED_AT_BYTES)) {
        Lang::Ara => Language::Arabic,
        Lang::Nld => Language::Dutch,
        Lang::Eng => Language::English,
        Lang::Fra => Language::French,
        Lang::Deu => Language::German,
        Lang::Ita => Language::Italian,
        Lang::Por => Language::Portuguese,
        Lang::Rus => Language::Russian,
        Lang::Spa => Language::Spanish,
        Lang::Swe => Language::Swedish,
        Lang::Tur => Language::Turkish,
        _ => return None,
    })
}
