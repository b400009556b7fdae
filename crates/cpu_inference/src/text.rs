//! What a model remembers of one text.

use std::sync::Arc;

use kernels::PAGE_KEYS;

use crate::adapter::Adapter;
use crate::kv_cache::{CachePrecision, KvCache};
use crate::prefix_cache::{Place, PrefixCache};

/// A text that grows: what was read of it, what is still to be read, and what comes next.
#[derive(Debug)]
pub(crate) struct Text {
    /// Tells it from every other text of the process.
    pub(crate) number: u64,
    pub(crate) cache: KvCache,
    pub(crate) tokens: Vec<u32>,
    /// Given, and not read yet, from `next` on.
    pub(crate) unread: Vec<u32>,
    pub(crate) next: usize,
    /// Logits, `[vocab]`, of the token after the last; empty if there are none.
    pub(crate) logits: Vec<f32>,
    /// The cards it is read with.
    pub(crate) adapter: Option<Arc<Adapter>>,
    /// Where its full pages stand among those kept of all texts; `None` once one was not kept.
    place: Option<Place>,
    /// Full pages that `place` stands for.
    kept: usize,
}

impl Text {
    pub(crate) fn new(number: u64, cache: KvCache) -> Self {
        let mut text = Self {
            number,
            cache,
            tokens: Vec::new(),
            unread: Vec::new(),
            next: 0,
            logits: Vec::new(),
            adapter: None,
            place: None,
            kept: 0,
        };
        text.begin();
        text
    }

    /// Stands where texts begin that are read as this one is.
    pub(crate) fn begin(&mut self) {
        let half = self.cache.shape().precision == CachePrecision::F16;
        let adapter = self.adapter.as_deref().map(Adapter::number);
        (self.place, self.kept) = (Some(Place::Beginning { half, adapter }), 0);
    }

    /// Gives it tokens to read.
    pub(crate) fn give(&mut self, ids: &[i32]) {
        self.unread.clear();
        self.unread.extend(ids.iter().map(|&id| id as u32));
        self.next = 0;
    }

    /// Tokens to read.
    pub(crate) fn unread(&self) -> &[u32] {
        &self.unread[self.next..]
    }

    /// Counts `count` tokens as read; what came next is no longer known.
    pub(crate) fn advance(&mut self, count: usize) {
        if count > 0 {
            self.logits.clear();
        }
        self.tokens
            .extend_from_slice(&self.unread[self.next..self.next + count]);
        self.next += count;
    }

    /// Forgets the tokens from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        self.cache.truncate(len);
        self.logits.clear();
        if self.tokens.is_empty() {
            self.begin();
        } else if len / PAGE_KEYS < self.kept {
            self.place = None;
        }
    }

    /// Its rows see each other, not only those before: no other text shares such pages.
    pub(crate) fn keep_apart(&mut self) {
        self.place = None;
    }

    /// Takes over what is kept of a text that begins as this one does, if it has read nothing. The last token is
    /// always left to read: somebody wants its logits.
    pub(crate) fn adopt(&mut self, prefixes: &mut PrefixCache) {
        if !self.tokens.is_empty() {
            return;
        }
        let readable = self.unread().len().saturating_sub(1);
        let Some(place) = &mut self.place else { return };
        let found = prefixes.find(place, &self.unread[..readable]);
        self.kept = found.tokens / PAGE_KEYS;
        self.cache.adopt(found.pages, found.tokens);
        self.advance(found.tokens);
    }

    /// Lets later texts take over its full pages, and behind a long prompt the one that is not full.
    pub(crate) fn share(&mut self, prefixes: &mut PrefixCache) {
        if self.place.is_none() {
            return;
        }
        let ends_prompt = self.unread.len() > PAGE_KEYS && self.unread().is_empty();
        let bytes = self.cache.shape().page_bytes();
        let unkept = self.kept * PAGE_KEYS..self.cache.len();
        let pages = self.cache.pages().iter().skip(self.kept);
        for (page, tokens) in pages.zip(self.tokens[unkept].chunks(PAGE_KEYS)) {
            let is_full = tokens.len() == PAGE_KEYS;
            let Some(place) = &mut self.place else { return };
            if !is_full && !ends_prompt {
                return;
            }
            if prefixes.keep(place, tokens, (page, bytes)) {
                self.kept += usize::from(is_full);
            } else {
                self.place = None;
            }
        }
    }
}
