//! A tokenizer.json is a foreign file: whatever it holds, it is refused or it works. Nothing panics.

#![allow(clippy::unwrap_used)]

use fast_tokenizer::{DecodeStream, EncodeOptions, Tokenizer, TokenizerError};
use proptest::prelude::*;

const BYTE_LEVEL: &str = r#"{"version":"1.0","added_tokens":[{"id":7,"content":"<s>","single_word":false,
"lstrip":false,"rstrip":false,"normalized":false,"special":true}],"normalizer":null,
"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
"special_tokens":{"<s>":{"id":"<s>","ids":[7],"tokens":["<s>"]}}},
"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,
"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
"vocab":{"a":0,"b":1,"c":2,"ab":3,"abc":4,"Ġ":5,"Ġa":6},"merges":[["a","b"],["ab","c"],["Ġ","a"]]}}"#;

const WORD_PIECE: &str = r###"{"version":"1.0","added_tokens":[],"normalizer":{"type":"BertNormalizer",
"clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":null,
"decoder":{"type":"WordPiece","prefix":"##","cleanup":true},
"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
"vocab":{"[UNK]":0,"ab":1,"##c":2,"a":3,"##b":4,".":5}}}"###;

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    tokenizer
        .encode_batch(&[text], &EncodeOptions::default())
        .unwrap()
        .ids
}

fn use_it(tokenizer: &Tokenizer) {
    for text in ["abc a<s>b", "ab.c é漢 👍", ""] {
        for offsets in [false, true] {
            let options = EncodeOptions {
                offsets,
                max_length: Some(4),
                ..EncodeOptions::default()
            };
            if let Ok(encodings) = tokenizer.encode_batch(&[text], &options) {
                let _ = tokenizer.decode(&encodings.ids, true);
                let mut stream = DecodeStream::new(false);
                for &id in &encodings.ids {
                    let _ = stream.step(tokenizer, id);
                }
                let _ = stream.finish(tokenizer);
            }
        }
    }
}

#[test]
fn the_samples_work() {
    let bytes = Tokenizer::from_bytes(BYTE_LEVEL.as_bytes()).unwrap();
    assert_eq!(ids(&bytes, "abc ab"), [7, 4, 5, 3]);
    assert_eq!(bytes.vocab_size(), 8);
    assert_eq!(bytes.special_count(), 1);
    assert_eq!(bytes.decode(&[7, 4, 5, 3], true).unwrap(), "abc ab");
    let words = Tokenizer::from_bytes(WORD_PIECE.as_bytes()).unwrap();
    assert_eq!(ids(&words, "ABC. abd"), [1, 2, 5, 0]);
    assert_eq!(words.decode(&[1, 2, 5], false).unwrap(), "abc.");
}

#[test]
fn a_length_below_the_special_tokens_is_refused() {
    let tokenizer = Tokenizer::from_bytes(BYTE_LEVEL.as_bytes()).unwrap();
    let options = EncodeOptions {
        max_length: Some(0),
        ..EncodeOptions::default()
    };
    let error = tokenizer.encode_batch(&["abc"], &options).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::MaxLength {
            max_length: 0,
            special: 1
        }
    ));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for sample in [BYTE_LEVEL, WORD_PIECE] {
        for length in 0..sample.len() {
            assert!(Tokenizer::from_bytes(&sample.as_bytes()[..length]).is_err());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_bytes_are_refused_or_work(
        word_piece in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(b'"'), Just(b'0'), Just(b'9'), Just(b'a')]), 1..4),
    ) {
        let mut bytes = (if word_piece { WORD_PIECE } else { BYTE_LEVEL }).as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(tokenizer) = Tokenizer::from_bytes(&bytes) {
            use_it(&tokenizer);
        }
    }

    #[test]
    fn pieces_removed_are_refused_or_work(
        word_piece in any::<bool>(),
        start in any::<prop::sample::Index>(),
        length in 1usize..60,
    ) {
        let mut bytes = (if word_piece { WORD_PIECE } else { BYTE_LEVEL }).as_bytes().to_vec();
        let start = start.index(bytes.len());
        let end = (start + length).min(bytes.len());
        bytes.drain(start..end);
        if let Ok(tokenizer) = Tokenizer::from_bytes(&bytes) {
            use_it(&tokenizer);
        }
    }
}
