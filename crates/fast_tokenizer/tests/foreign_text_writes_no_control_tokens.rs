//! Text that others wrote never becomes a control token, whatever the model; a template's own words do.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]
#![allow(
    clippy::needless_pass_by_value,
    reason = "literals of JSON are passed on"
)]

use fast_tokenizer::{EncodeOptions, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

const CONTROLS: [&str; 4] = ["<s>", "</s>", "<|end|>", "§"];
const MARK: u32 = 4;

/// A tokenizer whose vocabulary lists its control tokens too, as most files do.
fn file(model: Value, normalizer: Value, pre_tokenizer: Value) -> Tokenizer {
    let added: Vec<_> = CONTROLS
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": *token == "<|end|>",
                   "normalized": *token == "</s>", "special": true})
        })
        .chain([json!({"id": MARK, "content": "<mark>", "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": false})])
        .collect();
    let document = json!({"version": "1.0", "added_tokens": added, "normalizer": normalizer,
                          "pre_tokenizer": pre_tokenizer, "model": model});
    Tokenizer::from_bytes(document.to_string().as_bytes()).unwrap()
}

fn characters() -> impl Iterator<Item = String> {
    "<>/|sendmark §abST\u{2581}?"
        .chars()
        .map(|character| character.to_string())
}

fn vocab() -> serde_json::Map<String, Value> {
    let mut vocab = serde_json::Map::new();
    let tokens = CONTROLS.iter().map(|&token| token.to_owned());
    for token in tokens.chain(["<mark>".to_owned()]).chain(characters()) {
        let id = vocab.len();
        vocab.entry(token).or_insert(json!(id));
    }
    vocab
}

fn unigram(normalizer: Value, pre_tokenizer: Value) -> Tokenizer {
    let mut pieces: Vec<_> = vocab()
        .into_iter()
        .map(|(token, id)| (id.as_u64().unwrap(), token))
        .collect();
    pieces.sort_unstable();
    let scored: Vec<_> = pieces
        .iter()
        .map(|(_, token)| json!([token, -1.0]))
        .collect();
    let unknown = pieces.iter().position(|(_, token)| token == "?").unwrap();
    file(
        json!({"type": "Unigram", "vocab": scored, "unk_id": unknown}),
        normalizer,
        pre_tokenizer,
    )
}

fn all() -> Vec<(&'static str, Tokenizer)> {
    let spaces = json!({"type": "WhitespaceSplit"});
    let marks = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": true});
    let words = json!({"type": "WordLevel", "vocab": vocab(), "unk_token": "?"});
    let pieces = json!({"type": "WordPiece", "vocab": vocab(), "unk_token": "?",
                        "continuing_subword_prefix": "", "max_input_chars_per_word": 100});
    let bytes = json!({"type": "BPE", "vocab": vocab(), "merges": [], "ignore_merges": true});
    vec![
        ("unigram", unigram(json!({"type": "NFKC"}), marks)),
        ("unigram, unsplit", unigram(Value::Null, Value::Null)),
        ("words", file(words, Value::Null, spaces.clone())),
        ("pieces", file(pieces, json!({"type": "Lowercase"}), spaces)),
        ("merges ignored", file(bytes, Value::Null, Value::Null)),
    ]
}

fn as_text(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let options = EncodeOptions {
        add_special_tokens: false,
        split_special_tokens: true,
        ..EncodeOptions::default()
    };
    let plain = tokenizer.encode_batch(&[text], &options).unwrap().ids;
    let offsets = EncodeOptions {
        offsets: true,
        ..options
    };
    assert_eq!(
        tokenizer.encode_batch(&[text], &offsets).unwrap().ids,
        plain
    );
    plain
}

fn parsed(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let options = EncodeOptions {
        add_special_tokens: false,
        ..EncodeOptions::default()
    };
    tokenizer.encode_batch(&[text], &options).unwrap().ids
}

fn is_control(id: u32) -> bool {
    id < MARK
}

const TEXT: &str =
    "(<s>|</s>|<S>|<\\|end\\|>|§|＜s＞|<|>|s|/|end|\\|| |<mark>|a|b|ß|\u{2581}){0,12}";
const PLAIN: &str = "[<>/|sendmark abST]{0,12}";

#[test]
fn the_files_turn_spellings_into_control_tokens() {
    for (name, tokenizer) in all() {
        assert_eq!(parsed(&tokenizer, "<s>"), [0], "{name}");
    }
}

proptest! {
    #[test]
    fn foreign_text_has_no_control_token(text in TEXT) {
        for (name, tokenizer) in all() {
            let ids = as_text(&tokenizer, &text);
            prop_assert!(!ids.iter().copied().any(is_control), "{name}: {text:?} became {ids:?}");
            let marked = tokenizer.encode_marked(&text, &[]).unwrap();
            prop_assert!(!marked.iter().copied().any(is_control), "{name}: {text:?} became {marked:?}");
        }
    }

    #[test]
    fn a_text_without_spellings_has_the_ids_it_always_had(text in PLAIN) {
        for (name, tokenizer) in all() {
            let known = parsed(&tokenizer, &text);
            if !known.iter().copied().any(is_control) {
                prop_assert_eq!(&as_text(&tokenizer, &text), &known, "{} {:?}", name, &text);
                prop_assert_eq!(&tokenizer.encode_marked(&text, &[]).unwrap(), &known, "{} {:?}", name, &text);
            }
        }
    }

    #[test]
    fn a_template_has_the_ids_it_always_had(text in TEXT) {
        for (name, tokenizer) in all().into_iter().take(2) {
            // What only normalising makes a spelling is none.
            prop_assume!(!text.contains('＜'));
            let whole = 0..text.len();
            prop_assert_eq!(
                &tokenizer.encode_marked(&text, std::slice::from_ref(&whole)).unwrap(),
                &parsed(&tokenizer, &text),
                "{} {:?}", name, &text
            );
        }
    }

    #[test]
    fn control_tokens_are_those_of_the_template(parts in prop::collection::vec((TEXT, any::<bool>()), 0..6)) {
        for (name, tokenizer) in all() {
            let (mut text, mut trusted, mut expected) = (String::new(), Vec::new(), 0);
            for (part, is_template) in &parts {
                let start = text.len();
                if *is_template {
                    text.push_str("<s>");
                    expected += 1;
                    trusted.push(start..text.len());
                } else {
                    text.push_str(part);
                }
            }
            let ids = tokenizer.encode_marked(&text, &trusted).unwrap();
            let written = ids.iter().copied().filter(|&id| is_control(id)).count();
            prop_assert_eq!(written, expected, "{} {:?} {:?}", name, &text, &ids);
        }
    }
}

#[test]
fn a_spelling_across_the_seam_is_text() {
    let (_, tokenizer) = all().swap_remove(1);
    let ids = tokenizer.encode_marked("<s></s>", &[0..2, 3..6]).unwrap();
    assert!(!ids.iter().copied().any(is_control), "{ids:?}");
    let template = 1..4;
    let ids = tokenizer
        .encode_marked("<<s>", std::slice::from_ref(&template))
        .unwrap();
    assert!(ids.contains(&0), "{ids:?}");
}

/// BERT's pipeline, whose control tokens a model's author may spell as words are.
#[test]
fn a_word_that_normalising_makes_a_control_token_stays_text() {
    let vocab =
        json!({"?": 0, "mask": 1, "m": 2, "##a": 3, "##s": 4, "##k": 5, "a": 6, "sk": 7, "!": 8});
    let document = json!({
        "version": "1.0",
        "added_tokens": [{"id": 1, "content": "mask", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "vocab": vocab, "unk_token": "?", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100},
    });
    let tokenizer = Tokenizer::from_bytes(document.to_string().as_bytes()).unwrap();
    for text in ["MASK", "a MaSK!", "m\u{e1}sk", "ma\u{7}sk"] {
        assert!(!as_text(&tokenizer, text).contains(&1), "{text}");
    }
    assert_eq!(parsed(&tokenizer, "mask"), [1]);
}
