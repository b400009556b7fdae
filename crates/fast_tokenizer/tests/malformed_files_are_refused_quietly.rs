//! A malformed tokenizer.json ends in an error or in a tokenizer that works: no panic is reported on stderr, no
//! memory is taken for absurd numbers, no stack runs out.

#![allow(clippy::unwrap_used)]

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use fast_tokenizer::{DecodeStream, EncodeOptions, Tokenizer};
use serde_json::{Value, json};

static REPORTED: AtomicUsize = AtomicUsize::new(0);

/// Counts the panics that would be reported. Must come before the first tokenizer.
fn count_reports() {
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            REPORTED.fetch_add(1, Ordering::Relaxed);
            report(info);
        }));
    });
}

/// Opens and uses a file; the error of the first step that is refused.
fn fate(bytes: &[u8]) -> Result<(), String> {
    let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| error.to_string())?;
    let mut fate = Ok(());
    for text in ["", "ab a<s>b 12", "été 漢字 \u{1f44d}\u{200d}", "a\0b\n"] {
        for offsets in [false, true] {
            let options = EncodeOptions {
                offsets,
                ..EncodeOptions::default()
            };
            let ids = match tokenizer.encode_batch(&[text], &options) {
                Ok(encodings) => encodings.ids,
                Err(error) => {
                    fate = Err(error.to_string());
                    vec![0, 1, 2, u32::MAX]
                }
            };
            for skip in [false, true] {
                fate = fate.and(
                    tokenizer
                        .decode(&ids, skip)
                        .map(drop)
                        .map_err(|error| error.to_string()),
                );
                let mut stream = DecodeStream::new(skip);
                for &id in &ids {
                    let _ = stream.step(&tokenizer, id);
                }
                let _ = stream.finish(&tokenizer);
            }
        }
    }
    fate
}

fn models() -> Vec<Value> {
    let vocab = json!({"a": 0, "b": 1, "ab": 2, "##b": 3, "[UNK]": 4, "<0x61>": 5});
    vec![
        json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [["a", "b"]]}),
        json!({"type": "BPE", "dropout": 0.1, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "end_of_word_suffix": "b", "fuse_unk": true, "byte_fallback": true,
            "vocab": {"a": 0, "##b": 1, "ab": 2, "[UNK]": 3, "<0x61>": 4}, "merges": ["a ##b"]}),
        json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab}),
        json!({"type": "WordLevel", "unk_token": "[UNK]", "vocab": vocab}),
        json!({"type": "Unigram", "unk_id": 0, "byte_fallback": true,
            "vocab": [["<unk>", 0.0], ["a", -1.0], ["b", -2.0], ["ab", -1.5], ["<0x61>", -3.0]]}),
    ]
}

fn normalizers() -> Vec<Value> {
    let mut all: Vec<Value> = [
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Lowercase",
        "StripAccents",
        "Nmt",
        "ByteLevel",
    ]
    .map(|name| json!({"type": name}))
    .into();
    all.extend([
        json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "Prepend", "prepend": "\u{2581}"}),
        json!({"type": "Replace", "pattern": {"Regex": "a+|(b)"}, "content": "x"}),
        json!({"type": "Replace", "pattern": {"String": " "}, "content": ""}),
        json!({"type": "Precompiled", "precompiled_charsmap": "ALQCAACEAAAAAACAAQAAgMz8AgC4BQAAhyIAgMzkAgC4PQAAeyIAgMzsAgA="}),
        json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}),
    ]);
    all
}

fn pre_tokenizers() -> Vec<Value> {
    let mut all: Vec<Value> = [
        "BertPreTokenizer",
        "Whitespace",
        "WhitespaceSplit",
        "UnicodeScripts",
    ]
    .map(|name| json!({"type": name}))
    .into();
    all.extend([
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true}),
        json!({"type": "CharDelimiterSplit", "delimiter": "a"}),
        json!({"type": "Digits", "individual_digits": true}),
        json!({"type": "Punctuation", "behavior": "Isolated"}),
        json!({"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "MergedWithNext", "invert": false}),
        json!({"type": "FixedLength", "length": 2}),
        json!({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Digits",
            "individual_digits": false}]}),
    ]);
    all
}

fn post_processors() -> Vec<Value> {
    vec![
        json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}}}),
        json!({"type": "BertProcessing", "sep": ["b", 1], "cls": ["a", 0]}),
        json!({"type": "RobertaProcessing", "sep": ["b", 1], "cls": ["a", 0], "trim_offsets": true,
            "add_prefix_space": true}),
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        json!({"type": "Sequence", "processors": [{"type": "ByteLevel", "add_prefix_space": true,
            "trim_offsets": true, "use_regex": true}]}),
    ]
}

fn decoders() -> Vec<Value> {
    vec![
        json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true}),
        json!({"type": "BPEDecoder", "suffix": "</w>"}),
        json!({"type": "CTC", "pad_token": "a", "word_delimiter_token": "|", "cleanup": true}),
        json!({"type": "Replace", "pattern": {"String": "a"}, "content": "b"}),
        json!({"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
    ]
}

/// One file for every variant of every part, beside the first variants of the others.
fn samples() -> Vec<Value> {
    let plain = json!({"version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 7, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": models()[0]});
    let parts = [
        ("model", models()),
        ("normalizer", normalizers()),
        ("pre_tokenizer", pre_tokenizers()),
        ("post_processor", post_processors()),
        ("decoder", decoders()),
    ];
    let mut all = Vec::new();
    for (name, variants) in parts {
        for variant in variants {
            let mut file = plain.clone();
            file[name] = variant;
            all.push(file);
        }
    }
    all
}

/// The values of the wrong kind or size that take the place of each value.
fn intruders() -> Vec<Value> {
    vec![
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(4_294_967_295_u64),
        json!(18_446_744_073_709_551_615_u64),
        json!(1e308),
        json!(""),
        json!("a"),
        json!("\u{1f44d}("),
        json!([]),
        json!(["a", 1]),
        json!({}),
        json!({"a": {"b": []}}),
    ]
}

/// Calls `visit` with each variant of `file` in which one value, at any depth, is replaced, dropped or renamed.
fn mutations(file: &Value, visit: &mut dyn FnMut(&Value)) {
    let mut pointers = Vec::new();
    collect(file, &mut String::new(), &mut pointers);
    for pointer in &pointers {
        let mut changed = file.clone();
        for intruder in intruders() {
            *changed.pointer_mut(pointer).unwrap() = intruder;
            visit(&changed);
        }
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let mut changed = file.clone();
        match changed.pointer_mut(parent) {
            Some(Value::Object(map)) => {
                let value = map.remove(&key.replace("~1", "/").replace("~0", "~"));
                visit(&changed);
                if let Some(Value::Object(map)) = changed.pointer_mut(parent) {
                    map.insert("\u{1f44d}".to_owned(), value.unwrap_or_default());
                }
            }
            Some(Value::Array(list)) => {
                let value = list.remove(key.parse().unwrap());
                list.extend([value.clone(), value]);
            }
            _ => continue,
        }
        visit(&changed);
    }
}

fn collect(value: &Value, at: &mut String, pointers: &mut Vec<String>) {
    let length = at.len();
    let mut visit = |key: &str, value: &Value| {
        at.push('/');
        at.push_str(&key.replace('~', "~0").replace('/', "~1"));
        pointers.push(at.clone());
        collect(value, at, pointers);
        at.truncate(length);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| visit(key, value)),
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                visit(&index.to_string(), value);
            }
        }
        _ => {}
    }
}

fn nested(depth: usize, open: &str, close: &str) -> Vec<u8> {
    let part = format!("{}null{}", open.repeat(depth), close.repeat(depth));
    format!(
        r#"{{"version":"1.0","normalizer":{part},"model":{}}}"#,
        models()[0]
    )
    .into_bytes()
}

#[test]
fn whatever_is_wrong() {
    count_reports();
    let _ = panic::catch_unwind(|| panic!("a panic of this test, to be reported"));
    assert_eq!(REPORTED.swap(0, Ordering::Relaxed), 1);
    let mut contradictions = 0;
    let mut check = |bytes: &[u8]| {
        let contradiction = |error: String| error.contains("contradicts itself");
        contradictions += usize::from(fate(bytes).is_err_and(contradiction));
    };
    for sample in samples() {
        check(sample.to_string().as_bytes());
        mutations(&sample, &mut |changed| {
            check(changed.to_string().as_bytes());
        });
    }
    for depth in [1, 60, 120, 127, 128, 100_000] {
        check(&nested(
            depth,
            r#"{"type":"Sequence","normalizers":["#,
            "]}",
        ));
        check(&nested(depth, "[", "]"));
        check(&nested(depth, r#"{"a":"#, "}"));
    }
    assert_eq!(REPORTED.load(Ordering::Relaxed), 0);
    assert!(
        contradictions > 100,
        "{contradictions}: the files reach the panics of the `tokenizers` crate"
    );
    // Panics of others are reported as before.
    let _ = panic::catch_unwind(|| panic!("a panic of this test, to be reported"));
    assert_eq!(REPORTED.load(Ordering::Relaxed), 1);
}

#[test]
fn the_unchanged_files_work() {
    count_reports();
    for sample in samples() {
        let text = sample.to_string();
        // The sample's character map is damaged as it is.
        let whole = !text.contains("Precompiled");
        assert_eq!(fate(text.as_bytes()).is_ok(), whole, "{text}");
    }
}
