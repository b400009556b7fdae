//! One text through normaliser, pre-tokeniser and model.

use std::ops::Range;

use tokenizers::{
    AddedVocabulary, Encoding, Model, OffsetReferential, OffsetType, PostProcessor,
    PreTokenizedString, PreTokenizer, Result, Token,
};

use crate::controls::Controls;
use crate::marked::AddedTokens;
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

/// A text without its added tokens, normalised, cut into the pieces the model sees.
pub(crate) fn split(
    tokenizer: &Pipeline,
    added: &AddedVocabulary,
    text: &str,
) -> Result<PreTokenizedString> {
    pre_tokenized(
        tokenizer,
        added.extract_and_normalize(tokenizer.get_normalizer(), text),
    )
}

/// As `split`, where control tokens count only within `trusted`.
pub(crate) fn split_marked(
    tokenizer: &Pipeline,
    added: &AddedTokens,
    text: &str,
    trusted: &[Range<usize>],
) -> Result<PreTokenizedString> {
    pre_tokenized(
        tokenizer,
        added.extract(tokenizer.get_normalizer(), text, trusted)?,
    )
}

fn pre_tokenized(
    tokenizer: &Pipeline,
    mut pieces: PreTokenizedString,
) -> Result<PreTokenizedString> {
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut pieces)?;
    }
    Ok(pieces)
}

/// Appends the ids of pieces; those of the model go through `controls`, if given.
pub(crate) fn push_ids(
    tokenizer: &Pipeline,
    controls: Option<&Controls>,
    pieces: &PreTokenizedString,
    ids: &mut Vec<u32>,
) -> Result<()> {
    let model = tokenizer.get_model();
    for (piece, _, tokens) in pieces.get_splits(OffsetReferential::Normalized, OffsetType::None) {
        match (tokens, controls) {
            (Some(tokens), _) => ids.extend(tokens.iter().map(|token| token.id)),
            (None, Some(controls)) => controls.push_ids(model, piece, ids)?,
            (None, None) => model.push_ids(piece, ids)?,
        }
    }
    Ok(())
}

/// Pieces as an encoding with the offsets of its tokens in characters.
pub(crate) fn encoding_of(
    tokenizer: &Pipeline,
    controls: Option<&Controls>,
    mut pieces: PreTokenizedString,
) -> Result<Encoding> {
    let model = tokenizer.get_model();
    pieces.tokenize(|piece| match controls {
        Some(controls) => controls.tokenize(model, piece.get()),
        None => model.tokenize(piece.get()),
    })?;
    pieces.into_encoding(None, 0, OffsetType::Char)
}

/// Number of special tokens around a single text.
pub(crate) fn special_count(tokenizer: &Pipeline) -> usize {
    tokenizer
        .get_post_processor()
        .map_or(0, |processor| processor.added_tokens(false))
}
