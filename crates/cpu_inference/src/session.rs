//! One text that grows, with what the model remembers of it.

use std::sync::Arc;

use crate::batch::check_ids;
use crate::error::{InferenceError, Result};
use crate::kv_cache::{CachePrecision, KvCache};
use crate::model::{Model, Watch};
use crate::pass::{Pass, Segment};
use crate::sampler::{Choice, Sampler};

/// Tokens that run through the network together when a text is read in.
const CHUNK: usize = 256;

/// A decoder's state after some tokens. Belongs to one caller.
#[derive(Debug)]
pub struct Session {
    model: Arc<Model>,
    cache: KvCache,
    tokens: Vec<u32>,
    logits: Vec<f32>,
    pass: Pass,
    max_tokens: usize,
}

impl Session {
    /// An empty session with room for `max_tokens`.
    ///
    /// # Errors
    /// [`InferenceError::WrongArchitecture`] for an encoder; [`InferenceError::Window`] if the model has
    /// fewer positions.
    pub fn new(model: Arc<Model>, max_tokens: usize, precision: CachePrecision) -> Result<Self> {
        let cache = model.cache(precision)?;
        let limit = model.config().max_position_embeddings;
        if max_tokens > limit {
            return Err(InferenceError::Window {
                what: "the model's window",
                limit,
                got: max_tokens,
            });
        }
        Ok(Self {
            cache,
            tokens: Vec::new(),
            logits: Vec::new(),
            pass: Pass::default(),
            max_tokens,
            model,
        })
    }

    /// Tokens read so far.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Most tokens it can hold.
    #[must_use]
    pub const fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Bytes of the cache.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache.size_bytes()
    }

    /// Logits, `[vocab]`, of the token after the last; empty before the first.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Reads `ids` behind the tokens it has, in chunks.
    ///
    /// When interrupted it keeps the chunks that are done.
    ///
    /// # Errors
    /// An id outside the vocabulary, or more tokens than there is room for: then nothing is read.
    /// [`InferenceError::Interrupted`].
    pub fn extend(&mut self, ids: &[i32], watch: Watch<'_>) -> Result<()> {
        check_ids(ids, self.model.config().vocab_size)?;
        let got = self.tokens.len() + ids.len();
        if got > self.max_tokens {
            return Err(InferenceError::Window {
                what: "the session",
                limit: self.max_tokens,
                got,
            });
        }
        let chunks = ids.chunks(CHUNK);
        let last = chunks.len().wrapping_sub(1);
        for (index, chunk) in chunks.enumerate() {
            if !watch() {
                return Err(InferenceError::Interrupted);
            }
            self.read(chunk, index == last)?;
        }
        Ok(())
    }

    /// Forgets the tokens from `len` on; logits are gone until the next token is read.
    pub fn truncate(&mut self, len: usize) {
        if len < self.tokens.len() {
            self.tokens.truncate(len);
            self.cache.truncate(len);
            self.logits.clear();
        }
    }

    /// Chooses the next token. It is not read: pass it to [`Session::extend`] to go on.
    ///
    /// # Errors
    /// [`InferenceError::TooFewTokens`] while there are no logits; [`InferenceError::NotFinite`].
    pub fn sample(&self, sampler: &mut Sampler) -> Result<Choice> {
        if self.logits.is_empty() {
            return Err(InferenceError::TooFewTokens {
                operation: "sampling",
                needed: 1,
                got: 0,
            });
        }
        sampler.sample(&self.logits, &self.tokens)
    }

    fn read(&mut self, ids: &[i32], wants_logits: bool) -> Result<()> {
        let Self {
            model,
            cache,
            tokens,
            logits,
            pass,
            ..
        } = self;
        pass.clear();
        let segment = Segment::Appended {
            cache: 0,
            causal: true,
            keep: true,
        };
        let ids = ids.iter().map(|&id| id as u32);
        let rows = pass.span(ids.clone(), cache.len(), &[segment]);
        if wants_logits {
            pass.want([rows.end - 1]);
        }
        logits.clear();
        model.run(pass, &mut [cache], |states| {
            tokens.extend(ids);
            logits.resize(states.rows() * model.config().vocab_size, 0.0);
            states.logits(0, logits)
        })
    }
}
