//! The tokenizer of one model.

use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use tokenizers::{AddedVocabulary, Model, TruncationDirection};

use crate::batch::{self, EncodeOptions, Encodings, Side};
use crate::controls::{self, Controls};
use crate::guard::guarded;
use crate::marked::AddedTokens;
use crate::model::Pipeline;
use crate::pipeline::{self, Affixes};
use crate::shortcut::Shortcut;
use crate::{TokenizerError, load};

/// Text to token ids and back for one vocabulary; shared freely between threads.
pub struct Tokenizer {
    pub(crate) inner: Pipeline,
    affixes: Option<Affixes>,
    shortcut: Option<Shortcut>,
    /// The added tokens without the control tokens, which are text then.
    pub(crate) plain: AddedVocabulary,
    pub(crate) controls: Controls,
    /// Made for the first prompt: encoding needs none.
    added: OnceLock<AddedTokens>,
    special_count: usize,
    vocab_size: usize,
}

impl Tokenizer {
    /// Opens a tokenizer.json.
    ///
    /// # Errors
    /// The file cannot be read, or is not a tokenizer.json.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_bytes(&bytes)
    }

    /// Reads the bytes of a tokenizer.json. Truncation and padding stored in it are dropped.
    ///
    /// # Errors
    /// The bytes are not a tokenizer.json.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        guarded(|| load::parse(bytes).map(Self::around))
            .unwrap_or_else(|detail| Err(TokenizerError::Parse { detail }))
    }

    fn around(inner: Pipeline) -> Self {
        let model = inner.get_model();
        let added = inner.get_added_vocabulary().get_vocab();
        let vocab_size = model.get_vocab_size()
            + added
                .keys()
                .filter(|token| model.token_to_id(token).is_none())
                .count();
        let affixes = Affixes::probe(&inner);
        let shortcut = Shortcut::probe(&inner);
        let controls = Controls::probe(&inner);
        let mut plain = inner.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        let special_count = affixes
            .as_ref()
            .map_or_else(|| pipeline::special_count(&inner), Affixes::len);
        Self {
            inner,
            affixes,
            shortcut,
            plain,
            controls,
            added: OnceLock::new(),
            special_count,
            vocab_size,
        }
    }

    /// Number of ids, those of added tokens included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Number of special tokens put around a text.
    #[must_use]
    pub fn special_count(&self) -> usize {
        self.special_count
    }

    /// The id of a token as the vocabulary spells it.
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id as the vocabulary spells it.
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether decoding may skip this id.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        added
            .simple_id_to_token(id)
            .is_some_and(|token| added.is_special_token(&token))
    }

    /// Whether this id stands for one byte of a character the vocabulary lacks, as in `<0xE4>`.
    pub(crate) fn is_byte(&self, id: u32) -> bool {
        self.id_to_token(id)
            .is_some_and(|token| controls::is_byte(&token))
    }

    /// The tokens that decoding may skip, by id.
    #[must_use]
    pub fn special_tokens(&self) -> Vec<(u32, String)> {
        let mut tokens: Vec<_> = self
            .inner
            .get_added_vocabulary()
            .get_added_tokens_decoder()
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(&id, token)| (id, token.content.clone()))
            .collect();
        tokens.sort_unstable();
        tokens
    }

    /// Encodes texts into one ragged array, on as many threads as the amount of text deserves.
    ///
    /// # Errors
    /// `options.max_length` leaves no room for the special tokens, or the model has no id for a
    /// piece of a text.
    pub fn encode_batch<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        options: &EncodeOptions,
    ) -> Result<Encodings, TokenizerError> {
        self.check(options)?;
        batch::encode(self, texts, options)
    }

    /// The ids of a text that is a template around foreign text, nothing put around it.
    ///
    /// A control token is one only within a range of `trusted`, in bytes of the text and in order; everywhere
    /// else its spelling is text. Where no foreign text spells one, the ids are those of `encode_batch`.
    ///
    /// # Errors
    /// The model has no id for a piece of the text.
    pub fn encode_marked(
        &self,
        text: &str,
        trusted: &[Range<usize>],
    ) -> Result<Vec<u32>, TokenizerError> {
        guarded(|| {
            let added = self.added.get_or_init(|| AddedTokens::new(&self.inner));
            let pieces = pipeline::split_marked(&self.inner, added, text, trusted)?;
            let mut ids = Vec::new();
            pipeline::push_ids(&self.inner, Some(&self.controls), &pieces, &mut ids)?;
            Ok(ids)
        })
        .and_then(|result: tokenizers::Result<_>| result.map_err(|error| error.to_string()))
        .map_err(|detail| TokenizerError::Encode { index: 0, detail })
    }

    /// The number of tokens of each text, which holds no control tokens.
    ///
    /// # Errors
    /// The model has no id for a piece of a text.
    pub fn count<T: AsRef<str> + Sync>(&self, texts: &[T]) -> Result<Vec<usize>, TokenizerError> {
        let options = EncodeOptions {
            add_special_tokens: false,
            split_special_tokens: true,
            ..EncodeOptions::default()
        };
        let encodings = self.encode_batch(texts, &options)?;
        Ok(encodings
            .bounds
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .collect())
    }

    /// The text of ids; ids outside the vocabulary are left out, as the `tokenizers` crate does.
    ///
    /// # Errors
    /// The decoder refuses the tokens.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, TokenizerError> {
        guarded(|| {
            self.inner
                .decode(ids, skip_special_tokens)
                .map_err(|error| error.to_string())
        })
        .and_then(|result| result)
        .map_err(|detail| TokenizerError::Decode { detail })
    }

    fn check(&self, options: &EncodeOptions) -> Result<(), TokenizerError> {
        match options.max_length {
            Some(max_length) if options.add_special_tokens && max_length < self.special_count => {
                Err(TokenizerError::MaxLength {
                    max_length,
                    special: self.special_count,
                })
            }
            _ => Ok(()),
        }
    }

    /// Appends one text's ids, and its offsets if asked for.
    pub(crate) fn encode_into(
        &self,
        text: &str,
        options: &EncodeOptions,
        ids: &mut Vec<u32>,
        spans: &mut Vec<(usize, usize)>,
    ) -> Result<(), String> {
        guarded(|| match &self.affixes {
            Some(affixes) if !options.offsets => self.encode_ids(text, options, affixes, ids),
            _ => self.encode_full(text, options, ids, spans),
        })
        .and_then(|result| result.map_err(|error| error.to_string()))
    }

    fn encode_ids(
        &self,
        text: &str,
        options: &EncodeOptions,
        affixes: &Affixes,
        ids: &mut Vec<u32>,
    ) -> tokenizers::Result<()> {
        if options.add_special_tokens {
            ids.extend(&affixes.prefix);
        }
        let start = ids.len();
        let (added, controls) = self.added_and_controls(options);
        let long_way = |text: &str, ids: &mut Vec<u32>| {
            let pieces = pipeline::split(&self.inner, added, text)?;
            pipeline::push_ids(&self.inner, controls, &pieces, ids)
        };
        match &self.shortcut {
            Some(shortcut) => {
                shortcut.push_ids(self.inner.get_model(), text, ids, &long_way)?;
                // Lower case, or marks left out, may make a word of text the spelling of a control token.
                if controls.is_some_and(|controls| controls.are_among(&ids[start..])) {
                    ids.truncate(start);
                    long_way(text, ids)?;
                }
            }
            None => long_way(text, ids)?,
        }
        if let Some(room) = self.room(options) {
            let length = ids.len() - start;
            match options.truncate {
                Side::Right => ids.truncate(start + room.min(length)),
                Side::Left => drop(ids.drain(start..start + length.saturating_sub(room))),
            }
        }
        if options.add_special_tokens {
            ids.extend(&affixes.suffix);
        }
        Ok(())
    }

    fn encode_full(
        &self,
        text: &str,
        options: &EncodeOptions,
        ids: &mut Vec<u32>,
        spans: &mut Vec<(usize, usize)>,
    ) -> tokenizers::Result<()> {
        let (added, controls) = self.added_and_controls(options);
        let pieces = pipeline::split(&self.inner, added, text)?;
        let mut encoding = pipeline::encoding_of(&self.inner, controls, pieces)?;
        if let Some(room) = self.room(options) {
            let direction = match options.truncate {
                Side::Right => TruncationDirection::Right,
                Side::Left => TruncationDirection::Left,
            };
            encoding.truncate(room, 0, direction);
            encoding.take_overflowing();
        }
        let encoding = self
            .inner
            .post_process(encoding, None, options.add_special_tokens)?;
        ids.extend(encoding.get_ids());
        if options.offsets {
            spans.extend(encoding.get_offsets());
        }
        Ok(())
    }

    /// The added tokens that are looked for, and what keeps control tokens from being written.
    fn added_and_controls(&self, options: &EncodeOptions) -> (&AddedVocabulary, Option<&Controls>) {
        if options.split_special_tokens {
            (&self.plain, Some(&self.controls))
        } else {
            (self.inner.get_added_vocabulary(), None)
        }
    }

    /// Tokens left for the text itself.
    fn room(&self, options: &EncodeOptions) -> Option<usize> {
        let special = if options.add_special_tokens {
            self.special_count
        } else {
            0
        };
        options
            .max_length
            .map(|length| length.saturating_sub(special))
    }
}
