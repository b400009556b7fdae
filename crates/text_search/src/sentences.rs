//! Sentences, by the rules of Unicode (UAX 29), tailored to texts as they are written.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;
use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;
use std::ops::Range;

/// The sentences of a text, as ranges of its bytes, without the white space around them.
///
/// Three rules are added, which hold in every language. Behind any mark, not a full stop alone, lower case goes on with
/// the sentence: “Is it?” he asked. A mark of ASCII ends one before white space only: addresses and code hold others.
/// And a bracket or quote that opens belongs to what follows.
#[must_use]
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    let mut start = 0;
    let mut found = Vec::new();
    for end in segmenter.segment_str(text).skip(1) {
        let said = if end < text.len() {
            text[start..end].trim_end_matches(opens)
        } else {
            &text[start..end]
        };
        let end = start + said.len();
        if end < text.len() && goes_on(said, &text[end..]) {
            continue;
        }
        let shown = said.trim();
        if !shown.is_empty() {
            let from = start + (said.len() - said.trim_start().len());
            found.push(from..from + shown.len());
        }
        start = end;
    }
    found
}

fn opens(c: char) -> bool {
    use GeneralCategory::{InitialPunctuation, OpenPunctuation};
    let kind = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(kind, InitialPunctuation | OpenPunctuation)
}

/// Whether what ICU parts here is one sentence.
fn goes_on(before: &str, after: &str) -> bool {
    let Some(last) = before.chars().next_back() else {
        return false;
    };
    // A line or paragraph that ends is no matter of marks.
    if matches!(last, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}') {
        return false;
    }
    last.is_ascii() && !last.is_whitespace() || after.chars().next().is_some_and(char::is_lowercase)
}

#[cfg(test)]
mod tests {
    use super::sentences;
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<&str> {
        sentences(text)
            .into_iter()
            .map(|range| &text[range])
            .collect()
    }

    #[test]
    fn sentences_of_several_scripts() {
        let cases: [&[&str]; 7] = [
            &["It rains.", "It costs 3.50 today!", "Does it?"],
            &[
                "“Is it?” he asked.",
                "“Go!”",
                "She went (at 5 p.m. or so).",
                "Then",
            ],
            &["See https://e.org/?Q=1!A and a.B() now.", "Next"],
            &["Пришёл в 5 ч. утра.", "«Куда?» — спросил он."],
            &["यह एक वाक्य है।", "यह दूसरा है।"],
            &["هل تمطر؟", "نعم، اليوم."],
            &["ฝนตก วันนี้"],
        ];
        for sentences in cases {
            assert_eq!(texts(&sentences.join(" ")), sentences);
        }
        assert_eq!(
            texts("今日は雨です。「本当？」明日は晴れます！"),
            ["今日は雨です。", "「本当？」", "明日は晴れます！"]
        );
        assert_eq!(texts("One\u{2029}two"), ["One", "two"]);
        assert_eq!(texts(" \n "), [""; 0]);
    }

    proptest! {
        #[test]
        fn nothing_but_white_space_is_between_sentences(text in "\\PC{0,40}[.!?。 \n]{0,3}\\PC{0,40}") {
            let mut end = 0;
            for range in sentences(&text) {
                prop_assert!(text[end..range.start].trim().is_empty());
                prop_assert!(!text[range.clone()].trim().is_empty());
                end = range.end;
            }
            prop_assert!(text[end..].trim().is_empty());
        }
    }
}
