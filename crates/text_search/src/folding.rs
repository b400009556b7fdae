//! Folding: words that differ in case, width or accents become the same.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizerBorrowed, DecomposingNormalizerBorrowed};
use icu_properties::CodePointMapData;
use icu_properties::props::Script;
use std::borrow::Cow;

/// The word without case, accents and variants of form.
///
/// Accents go from Latin and Greek letters alone: in other scripts a mark can make another letter, as й is not и.
pub(crate) fn fold(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        return if word.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(word.to_ascii_lowercase())
        } else {
            Cow::Borrowed(word)
        };
    }
    let apart = DecomposingNormalizerBorrowed::new_nfkd().normalize(word);
    let lower = CaseMapper::new().fold_string(&apart);
    // Folding can bring forth marks of its own.
    let apart = DecomposingNormalizerBorrowed::new_nfkd().normalize(&lower);
    let scripts = CodePointMapData::<Script>::new();
    let mut bare = String::with_capacity(apart.len());
    let mut has_accents = false;
    for c in apart.chars() {
        if ('\u{300}'..='\u{36f}').contains(&c) {
            if !has_accents {
                bare.push(c);
            }
            continue;
        }
        has_accents = matches!(scripts.get(c), Script::Latin | Script::Greek);
        bare.push(if c == '\u{2019}' { '\'' } else { c });
    }
    Cow::Owned(
        ComposingNormalizerBorrowed::new_nfc()
            .normalize(&bare)
            .into_owned(),
    )
}

/// The word as it was written, in the one form that Unicode has for it.
pub(crate) fn exact(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        return Cow::Borrowed(word);
    }
    ComposingNormalizerBorrowed::new_nfc().normalize(word)
}

/// Whether a script is written without spaces between words, in characters that each mean something.
pub(crate) fn is_ideographic(c: char) -> bool {
    if c < '\u{1100}' {
        return false;
    }
    matches!(
        CodePointMapData::<Script>::new().get(c),
        Script::Han | Script::Hiragana | Script::Katakana | Script::Hangul | Script::Bopomofo
    ) || c == '\u{30fc}'
}

#[cfg(test)]
mod tests {
    use super::{exact, fold};
    use proptest::prelude::*;

    #[test]
    fn case_accents_and_width_go() {
        for (word, folded) in [
            ("RÉSUMÉ", "resume"),
            ("Straße", "strasse"),
            ("Ｗｉｄｅ", "wide"),
            ("Ἀθήνα", "αθηνα"),
            ("йод", "йод"),
            ("İstanbul", "istanbul"),
            ("don’t", "don't"),
            ("한국어", "한국어"),
            ("ﾃｽﾄ", "テスト"),
        ] {
            assert_eq!(fold(word), folded);
        }
        assert_eq!(exact("re\u{301}sume\u{301}"), "résumé");
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(word in "\\PC{0,8}") {
            let once = fold(&word).into_owned();
            prop_assert_eq!(fold(&once).into_owned(), once);
        }
    }
}
