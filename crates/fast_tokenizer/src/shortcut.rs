//! The two usual pipelines without the pipeline.
//!
//! Normalising and splitting keep a map back to the original text, which costs more than the model itself and
//! which ids alone do not need. Texts are cut at spaces where no step looks across; BERT's words of any script
//! and runs of pure ASCII take the short way, anything else goes through the `tokenizers` crate. The ids are the
//! same.

use tokenizers::normalizers::BertNormalizer;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Result};

use crate::bert::Words;
use crate::bpe::{Bpe, Symbol};
use crate::model::{Model, Pipeline};
use crate::word_piece::WordPiece;

pub(crate) struct Shortcut {
    kind: Kind,
    /// Texts that hold one of these go the long way as a whole.
    added: Vec<String>,
    added_starts: [bool; 256],
}

/// Appends the ids of a text through the whole pipeline.
pub(crate) type LongWay<'a> = &'a dyn Fn(&str, &mut Vec<u32>) -> Result<()>;

enum Kind {
    /// BERT's normaliser and pre-tokeniser in front of `WordPiece`.
    Bert(BertNormalizer),
    /// GPT-2's pattern in front of byte-level BPE; `digits` are split one by one before it.
    ByteLevel { digits: bool },
}

impl Shortcut {
    /// `None` if the pipeline is another.
    pub(crate) fn probe(pipeline: &Pipeline) -> Option<Self> {
        let kind = match (
            pipeline.get_model(),
            pipeline.get_normalizer(),
            pipeline.get_pre_tokenizer()?,
        ) {
            (
                Model::WordPiece(_),
                Some(NormalizerWrapper::BertNormalizer(normalizer)),
                PreTokenizerWrapper::BertPreTokenizer(_),
            ) => Kind::Bert(*normalizer),
            (Model::Bpe(bpe), None, splitter) if !bpe.ignores_merges() => Kind::ByteLevel {
                digits: splits_digits(splitter)?,
            },
            _ => return None,
        };
        let decoder = pipeline.get_added_vocabulary().get_added_tokens_decoder();
        if pipeline.get_normalizer().is_some() && decoder.values().any(|token| token.normalized) {
            return None;
        }
        let added: Vec<String> = decoder
            .values()
            .map(|token| token.content.clone())
            .collect();
        let mut added_starts = [false; 256];
        for token in &added {
            added_starts[usize::from(*token.as_bytes().first()?)] = true;
        }
        Some(Self {
            kind,
            added,
            added_starts,
        })
    }

    /// Appends the ids of a text, special tokens left out; `long_way` appends those of any text.
    pub(crate) fn push_ids(
        &self,
        model: &Model,
        text: &str,
        ids: &mut Vec<u32>,
        long_way: LongWay<'_>,
    ) -> Result<()> {
        match (&self.kind, model) {
            _ if self.holds_added(text) => long_way(text, ids),
            (Kind::Bert(settings), Model::WordPiece(words)) => {
                push_bert(words, *settings, text, ids);
                Ok(())
            }
            (Kind::ByteLevel { digits }, Model::Bpe(bpe)) => {
                push_bytes(bpe, *digits, text, ids, long_way)
            }
            _ => long_way(text, ids),
        }
    }

    fn holds_added(&self, text: &str) -> bool {
        text.bytes()
            .any(|byte| self.added_starts[usize::from(byte)])
            && self.added.iter().any(|token| text.contains(token.as_str()))
    }
}

/// Whether digits are split before the pattern; `None` if the steps are others.
fn splits_digits(splitter: &PreTokenizerWrapper) -> Option<bool> {
    let is_pattern = |step: &PreTokenizerWrapper| matches!(step, PreTokenizerWrapper::ByteLevel(level) if level.use_regex && !level.add_prefix_space);
    match splitter {
        PreTokenizerWrapper::Sequence(steps) => match steps.as_ref() {
            [PreTokenizerWrapper::Digits(digits), pattern]
                if digits.individual_digits && is_pattern(pattern) =>
            {
                Some(true)
            }
            [pattern] if is_pattern(pattern) => Some(false),
            _ => None,
        },
        pattern => is_pattern(pattern).then_some(false),
    }
}

/// Spaces end words for every step of BERT's pipeline.
fn push_bert(model: &WordPiece, settings: BertNormalizer, text: &str, ids: &mut Vec<u32>) {
    let mut words = Words::new(settings);
    let mut lowered = String::new();
    for chunk in text
        .split([' ', '\t', '\n', '\r'])
        .filter(|chunk| !chunk.is_empty())
    {
        if chunk.bytes().any(|byte| !byte.is_ascii_graphic()) {
            words.cut(chunk, |word| model.push_ids(word, ids));
            continue;
        }
        lowered.clear();
        lowered.push_str(chunk);
        if settings.lowercase {
            lowered.make_ascii_lowercase();
        }
        let mut rest = lowered.as_str();
        while let Some(at) = rest.find(|character: char| character.is_ascii_punctuation()) {
            if at > 0 {
                model.push_ids(&rest[..at], ids);
            }
            model.push_ids(&rest[at..=at], ids);
            rest = &rest[at + 1..];
        }
        if !rest.is_empty() {
            model.push_ids(rest, ids);
        }
    }
}

/// A space after something that is no space begins a match of GPT-2's pattern, whatever stands before.
fn push_bytes(
    bpe: &Bpe,
    digits: bool,
    text: &str,
    ids: &mut Vec<u32>,
    long_way: LongWay<'_>,
) -> Result<()> {
    let bytes = text.as_bytes();
    let mut symbols = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let cut = (start + 1..bytes.len())
            .find(|&at| bytes[at] == b' ' && bytes[at - 1].is_ascii_graphic());
        let end = cut.unwrap_or(bytes.len());
        let chunk = &bytes[start..end];
        if chunk.is_ascii() {
            push_ascii(bpe, digits, chunk, &mut symbols, ids);
        } else {
            long_way(&text[start..end], ids)?;
        }
        start = end;
    }
    Ok(())
}

fn push_ascii(
    bpe: &Bpe,
    digits: bool,
    chunk: &[u8],
    symbols: &mut Vec<Symbol>,
    ids: &mut Vec<u32>,
) {
    let mut push = |word: &[u8]| {
        symbols.clear();
        symbols.extend(
            word.iter()
                .filter_map(|&byte| bpe.character(byte_character(byte)))
                .map(|id| Symbol { id, len: 1 }),
        );
        bpe.merge(symbols);
        ids.extend(symbols.iter().map(|symbol| symbol.id));
    };
    let mut start = 0;
    while start < chunk.len() {
        // A digit that is split off ends the text for the pattern.
        let end = if digits && chunk[start].is_ascii_digit() {
            start + 1
        } else {
            let piece = &chunk[start..];
            let length = piece
                .iter()
                .position(|byte| digits && byte.is_ascii_digit())
                .unwrap_or(piece.len());
            start + match_length(&piece[..length])
        };
        push(&chunk[start..end]);
        start = end;
    }
}

/// The printable character that byte-level BPE writes an ASCII byte as.
fn byte_character(byte: u8) -> char {
    match byte {
        b'!'..=b'~' => char::from(byte),
        0..=b' ' => char::from_u32(0x100 + u32::from(byte)).unwrap_or_default(),
        _ => '\u{121}',
    }
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Class {
    Space,
    Letter,
    Digit,
    Other,
}

fn class(byte: u8) -> Class {
    match byte {
        b'\t'..=b'\r' | b' ' => Class::Space,
        b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        _ => Class::Other,
    }
}

/// Length of the first match of GPT-2's pattern,
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, in ASCII that is not empty.
fn match_length(text: &[u8]) -> usize {
    if let [b'\'', rest @ ..] = text {
        let contractions: [&[u8]; 7] = [b"s", b"t", b"re", b"ve", b"m", b"ll", b"d"];
        if let Some(found) = contractions
            .iter()
            .find(|contraction| rest.starts_with(contraction))
        {
            return 1 + found.len();
        }
    }
    let run = |from: usize, kind: Class| {
        text[from..]
            .iter()
            .position(|&byte| class(byte) != kind)
            .map_or(text.len(), |length| from + length)
    };
    let first = usize::from(text[0] == b' ' && text.len() > 1);
    match class(text[first]) {
        Class::Space => {
            let end = run(0, Class::Space);
            // The last space before a word belongs to the word.
            if end < text.len() && end > 1 {
                end - 1
            } else {
                end
            }
        }
        kind => run(first, kind),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    proptest! {
        #[test]
        fn ascii_is_cut_as_the_pattern_cuts_it(text in "[ -~\t\n\r\u{b}\u{c}\u{1c}\u{7f}]{0,40}|[a'srtmlvd !0\n]{0,12}") {
            let level = tokenizers::pre_tokenizers::byte_level::ByteLevel::new(false, true, true);
            let mut expected = PreTokenizedString::from(text.as_str());
            level.pre_tokenize(&mut expected).unwrap();
            let expected: Vec<String> = expected
                .get_splits(OffsetReferential::Normalized, OffsetType::None)
                .into_iter()
                .map(|(piece, _, _)| piece.to_owned())
                .collect();
            let mut rest = text.as_bytes();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(match_length(rest));
                pieces.push(piece.iter().map(|&byte| byte_character(byte)).collect::<String>());
                rest = after;
            }
            prop_assert_eq!(pieces, expected);
        }
    }
}
