//! Control tokens: the added tokens that a file marks special.

use std::collections::HashSet;
use std::ops::Range;

use tokenizers::{Model as _, Result, Token};

use crate::model::{Model, Pipeline};

/// Keeps text that only spells a control token from becoming one.
///
/// Added tokens are looked for before the model and can be left out there, but a vocabulary often lists control
/// tokens too, and a model that looks its pieces up in it (Unigram, `WordLevel`) would find them. Such a piece is
/// cut within the spelling, after which no token of the model can span it.
pub(crate) struct Controls {
    ids: HashSet<u32>,
    /// Spellings that the vocabulary knows.
    spellings: Vec<String>,
    /// What the model writes for text it has no token for: special in most files, and the right thing there.
    unknown: Option<u32>,
}

/// Whether a token stands for one byte of a character the vocabulary lacks, as `<0xE4>` does: it is text.
pub(crate) fn is_byte(token: &str) -> bool {
    token.len() == 6 && token.starts_with("<0x")
}

/// A character that is in no vocabulary.
const NO_CHARACTER: &str = "\u{10FFFF}";

impl Controls {
    pub(crate) fn probe(pipeline: &Pipeline) -> Self {
        let model = pipeline.get_model();
        let added = pipeline.get_added_vocabulary().get_added_tokens_decoder();
        let special = || {
            added
                .iter()
                .filter(|(_, token)| token.special && !is_byte(&token.content))
        };
        let unknown = match model.tokenize(NO_CHARACTER).as_deref() {
            Ok([token]) => Some(token.id),
            _ => None,
        };
        Self {
            ids: special().map(|(&id, _)| id).collect(),
            spellings: special()
                .map(|(_, token)| token.content.clone())
                .filter(|spelling| model.token_to_id(spelling).is_some())
                .collect(),
            unknown,
        }
    }

    /// Appends the ids of a piece of text, none of them a control token's.
    pub(crate) fn push_ids(&self, model: &Model, piece: &str, ids: &mut Vec<u32>) -> Result<()> {
        let before = ids.len();
        model.push_ids(piece, ids)?;
        if !ids[before..].iter().any(|id| self.ids.contains(id)) {
            return Ok(());
        }
        ids.truncate(before);
        let mut found = Vec::new();
        for part in self.parts(piece) {
            model.push_ids(&piece[part], &mut found)?;
        }
        // A spelling of one character cannot be cut: to the model it is no text at all.
        ids.extend(found.into_iter().filter(|&id| !self.is_control(id)));
        Ok(())
    }

    /// As `push_ids`, tokens with their places.
    pub(crate) fn tokenize(&self, model: &Model, piece: &str) -> Result<Vec<Token>> {
        let tokens = model.tokenize(piece)?;
        if !tokens.iter().any(|token| self.ids.contains(&token.id)) {
            return Ok(tokens);
        }
        let mut found = Vec::new();
        for part in self.parts(piece) {
            let shift = part.start;
            for mut token in model.tokenize(&piece[part])? {
                token.offsets = (token.offsets.0 + shift, token.offsets.1 + shift);
                found.push(token);
            }
        }
        found.retain(|token| !self.is_control(token.id));
        Ok(found)
    }

    /// Whether there is a control token among ids.
    pub(crate) fn are_among(&self, ids: &[u32]) -> bool {
        ids.iter().any(|&id| self.is_control(id))
    }

    fn is_control(&self, id: u32) -> bool {
        self.ids.contains(&id) && self.unknown != Some(id)
    }

    /// Parts of a piece of which none holds a whole spelling.
    fn parts(&self, piece: &str) -> Vec<Range<usize>> {
        let begins = |at: usize| {
            self.spellings
                .iter()
                .any(|spelling| piece[at..].starts_with(spelling.as_str()))
        };
        let mut parts = Vec::new();
        let mut start = 0;
        for (at, character) in piece.char_indices() {
            let next = at + character.len_utf8();
            if begins(at) && next < piece.len() {
                parts.push(start..next);
                start = next;
            }
        }
        parts.push(start..piece.len());
        parts
    }
}
