//! One text through normaliser, pre-tokeniser and model.

use tokenizers::{
    Encoding, Model, OffsetReferential, OffsetType, PostProcessor, PreTokenizedString,
    PreTokenizer, Result, Token,
};

use crate::model::Pipeline;

/// The special tokens around a single text, when they are the same for every text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Affixes {
    pub(crate) prefix: Vec<u32>,
    pub(crate) suffix: Vec<u32>,
}

impl Affixes {
    /// Asks the post-processor what it puts around a text by showing it a marked one.
    ///
    /// `None` if it does anything but prepend and append; texts then go through it one by one.
    pub(crate) fn probe(tokenizer: &Pipeline) -> Option<Self> {
        const MARKS: [u32; 2] = [u32::MAX - 1, u32::MAX];
        let marked = || {
            let token = |id, at| Token::new(id, "a".to_owned(), (at, at + 1));
            Encoding::from_tokens(vec![token(MARKS[0], 0), token(MARKS[1], 1)], 0)
        };
        let plain = tokenizer.post_process(marked(), None, false).ok()?;
        let full = tokenizer.post_process(marked(), None, true).ok()?;
        let empty = tokenizer
            .post_process(Encoding::default(), None, true)
            .ok()?;
        let ids = full.get_ids();
        let start = ids.windows(2).position(|pair| pair == MARKS)?;
        let affixes = Self {
            prefix: ids[..start].to_vec(),
            suffix: ids[start + 2..].to_vec(),
        };
        let around_nothing = [affixes.prefix.as_slice(), affixes.suffix.as_slice()].concat();
        let regular = plain.get_ids() == MARKS
            && empty.get_ids() == around_nothing
            && !around_nothing.iter().any(|id| MARKS.contains(id));
        regular.then_some(affixes)
    }

    pub(crate) fn len(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }
}

/// Splits a text into the pieces the model sees.
pub(crate) fn split(tokenizer: &Pipeline, text: &str) -> Result<PreTokenizedString> {
    let mut pieces = tokenizer
        .get_added_vocabulary()
        .extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut pieces)?;
    }
    Ok(pieces)
}

/// Appends the ids of a text, special tokens left out.
pub(crate) fn push_ids(tokenizer: &Pipeline, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    let pieces = split(tokenizer, text)?;
    let model = tokenizer.get_model();
    for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
        match tokens {
            Some(tokens) => ids.extend(tokens.iter().map(|token| token.id)),
            None => model.push_ids(piece, ids)?,
        }
    }
    Ok(())
}

/// Encodes a text with the offsets of its tokens in characters, special tokens left out.
pub(crate) fn encode_with_offsets(tokenizer: &Pipeline, text: &str) -> Result<Encoding> {
    let mut pieces = split(tokenizer, text)?;
    pieces.tokenize(|piece| tokenizer.get_model().tokenize(piece.get()))?;
    pieces.into_encoding(None, 0, OffsetType::Char)
}

/// Number of special tokens around a single text.
pub(crate) fn special_count(tokenizer: &Pipeline) -> usize {
    tokenizer
        .get_post_processor()
        .map_or(0, |processor| processor.added_tokens(false))
}
