//! Sentences, by the rules of Unicode (UAX 29).

use icu_segmenter::SentenceSegmenter;
use icu_segmenter::options::SentenceBreakInvariantOptions;
use std::ops::Range;

/// The sentences of a text, as ranges of its bytes, without the white space around them.
#[must_use]
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    let segmenter = SentenceSegmenter::new(SentenceBreakInvariantOptions::default());
    let ends = segmenter.segment_str(text).skip(1);
    let mut start = 0;
    let mut found = Vec::new();
    for end in ends {
        let sentence = &text[start..end];
        let shown = sentence.trim();
        if !shown.is_empty() {
            let from = start + (sentence.len() - sentence.trim_start().len());
            found.push(from..from + shown.len());
        }
        start = end;
    }
    found
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
        assert_eq!(
            texts("It rains.  It costs 3.50 today!\nDoes it?"),
            ["It rains.", "It costs 3.50 today!", "Does it?"]
        );
        assert_eq!(
            texts("今日は雨です。明日は晴れます。"),
            ["今日は雨です。", "明日は晴れます。"]
        );
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
