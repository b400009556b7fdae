//! A text of which only some parts may hold control tokens.
//!
//! A prompt is a template around foreign text. It is one text to normaliser, pre-tokeniser and model, so that ids
//! are those of the `tokenizers` crate across the seams too; but a control token is one only where the template
//! alone has written it.

use std::ops::Range;

use aho_corasick::{AhoCorasick, Input, MatchKind};
use tokenizers::normalizer::Range as Referential;
use tokenizers::{AddedToken, NormalizedString, Normalizer, PreTokenizedString, Result, Token};

use crate::model::Pipeline;

/// The added tokens of a vocabulary, looked for as the `tokenizers` crate does: first in the text as it is, then
/// in the normalised text.
pub(crate) struct AddedTokens {
    as_written: Finder,
    normalized: Finder,
}

struct Finder {
    search: Option<AhoCorasick>,
    tokens: Vec<(u32, AddedToken)>,
}

impl AddedTokens {
    pub(crate) fn new(pipeline: &Pipeline) -> Self {
        let added = pipeline.get_added_vocabulary();
        let finder = |normalized: bool| {
            let tokens: Vec<_> = added
                .get_added_tokens_decoder()
                .iter()
                .filter(|(_, token)| token.normalized == normalized)
                .map(|(&id, token)| (id, token.clone()))
                .collect();
            // In its decoded form a token is spelled as the normaliser writes it.
            let spellings = tokens
                .iter()
                .map(|(id, _)| added.simple_id_to_token(*id).unwrap_or_default());
            Finder {
                search: AhoCorasick::builder()
                    .match_kind(MatchKind::LeftmostLongest)
                    .build(spellings)
                    .ok()
                    .filter(|_| !tokens.is_empty()),
                tokens,
            }
        };
        Self {
            as_written: finder(false),
            normalized: finder(true),
        }
    }

    /// Takes the added tokens out of a text and normalises what is left.
    ///
    /// `trusted` are the ranges of the text, in bytes and in order, where control tokens count.
    pub(crate) fn extract(
        &self,
        normalizer: Option<&impl Normalizer>,
        text: &str,
        trusted: &[Range<usize>],
    ) -> Result<PreTokenizedString> {
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, piece| Ok(self.as_written.split(&piece, trusted)))?;
        pieces.split(|_, mut piece| {
            if let Some(normalizer) = normalizer {
                normalizer.normalize(&mut piece)?;
            }
            Ok(self.normalized.split(&piece, trusted))
        })?;
        Ok(pieces)
    }
}

type Piece = (NormalizedString, Option<Vec<Token>>);

impl Finder {
    fn split(&self, piece: &NormalizedString, trusted: &[Range<usize>]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut push = |id: Option<u32>, range: Range<usize>| {
            if let Some(slice) = piece.slice(Referential::Normalized(range)) {
                let value = slice.get().to_owned();
                let end = value.len();
                let token = id.map(|id| vec![Token::new(id, value, (0, end))]);
                pieces.push((slice, token));
            }
        };
        let length = piece.get().len();
        let mut done = 0;
        for (id, range) in self.find(piece, trusted) {
            if done < range.start {
                push(None, done..range.start);
            }
            done = range.end;
            push(Some(id), range);
        }
        if done < length || length == 0 {
            push(None, done..length);
        }
        pieces
    }

    fn find(&self, piece: &NormalizedString, trusted: &[Range<usize>]) -> Vec<(u32, Range<usize>)> {
        let text = piece.get();
        let mut found: Vec<(u32, Range<usize>)> = Vec::new();
        let Some(search) = &self.search else {
            return found;
        };
        let (mut from, mut taken) = (0, 0);
        while let Some(hit) = search.find(Input::new(text).span(from..text.len())) {
            let (id, token) = &self.tokens[hit.pattern()];
            if token.special && !is_within(piece, hit.range(), trusted) {
                // A control token of the template may begin within what the text spells.
                from = hit.start() + text[hit.start()..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            from = hit.end();
            if token.single_word && !stands_alone(text, &hit.range()) {
                continue;
            }
            let mut range = hit.range();
            if token.lstrip {
                range.start = text[..range.start].trim_end().len().max(taken);
            }
            if token.rstrip {
                range.end = text.len() - text[range.end..].trim_start().len();
            }
            taken = range.end;
            found.push((*id, range));
        }
        found
    }
}

/// Whether a range of a piece comes from one trusted range of the text.
fn is_within(piece: &NormalizedString, range: Range<usize>, trusted: &[Range<usize>]) -> bool {
    let shift = piece.offsets_original().0;
    let Some(original) = piece.convert_offsets(Referential::Normalized(range)) else {
        return false;
    };
    let (start, end) = (original.start + shift, original.end + shift);
    let after = trusted.partition_point(|part| part.start <= start);
    start < end && after > 0 && end <= trusted[after - 1].end
}

fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    !text[..range.start].ends_with(is_word) && !text[range.end..].starts_with(is_word)
}
