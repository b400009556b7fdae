//! The beginnings of earlier texts, for those that begin alike.

use std::collections::HashMap;
use std::sync::Arc;

use kernels::PAGE_KEYS;

use crate::kv_cache::Page;

/// A tree of pages: a page stands behind the page of the tokens before its own. What was used longest ago is
/// dropped first, and nothing before what stands behind it.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    nodes: HashMap<Key, Node>,
    limit_bytes: usize,
    size_bytes: usize,
    clock: u64,
    reused_tokens: u64,
    dropped_pages: u64,
}

/// What is kept, and how it served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixStats {
    /// Bytes kept.
    pub size_bytes: usize,
    /// Bytes that may be kept.
    pub limit_bytes: usize,
    /// Pages kept, of 64 tokens each.
    pub pages: usize,
    /// Tokens that were not computed again.
    pub reused_tokens: u64,
    /// Pages dropped for others.
    pub dropped_pages: u64,
}

/// Where in the tree a text stands: at a beginning, or behind the page of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Beginning { half: bool, adapter: Option<u64> },
    Behind(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    place: Place,
    tokens: [u32; PAGE_KEYS],
}

#[derive(Debug)]
struct Node {
    number: u64,
    page: Arc<Page>,
    bytes: usize,
    used: u64,
}

impl PrefixCache {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            limit_bytes,
            size_bytes: 0,
            clock: 0,
            reused_tokens: 0,
            dropped_pages: 0,
        }
    }

    /// Keeps no more than `bytes`.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.limit_bytes = bytes;
        while self.size_bytes > bytes && self.drop_oldest() {}
    }

    pub(crate) fn stats(&self) -> PrefixStats {
        PrefixStats {
            size_bytes: self.size_bytes,
            limit_bytes: self.limit_bytes,
            pages: self.nodes.len(),
            reused_tokens: self.reused_tokens,
            dropped_pages: self.dropped_pages,
        }
    }

    /// The pages of `tokens`, whole pages of them, as far as they are kept; `place` moves behind the last.
    pub(crate) fn find(&mut self, place: &mut Place, tokens: &[u32]) -> Vec<Arc<Page>> {
        let mut pages = Vec::new();
        self.clock += 1;
        for tokens in tokens.as_chunks().0 {
            let key = Key {
                place: *place,
                tokens: *tokens,
            };
            let Some(node) = self.nodes.get_mut(&key) else {
                break;
            };
            node.used = self.clock;
            *place = Place::Behind(node.number);
            pages.push(Arc::clone(&node.page));
            self.reused_tokens += PAGE_KEYS as u64;
        }
        pages
    }

    /// Keeps a page behind `place`, which moves behind it. False if there is no room or what it would stand
    /// behind was dropped.
    pub(crate) fn keep(
        &mut self,
        place: &mut Place,
        tokens: &[u32],
        (page, bytes): (&Arc<Page>, usize),
    ) -> bool {
        let Ok(tokens) = tokens.try_into() else {
            return false;
        };
        let key = Key {
            place: *place,
            tokens,
        };
        self.clock += 1;
        if let Some(node) = self.nodes.get_mut(&key) {
            node.used = self.clock;
            *place = Place::Behind(node.number);
            return true;
        }
        if bytes > self.limit_bytes {
            return false;
        }
        while self.size_bytes + bytes > self.limit_bytes && self.drop_oldest() {}
        if let Place::Behind(number) = *place
            && !self.nodes.values().any(|node| node.number == number)
        {
            return false;
        }
        self.size_bytes += bytes;
        let node = Node {
            number: self.clock,
            page: Arc::clone(page),
            bytes,
            used: self.clock,
        };
        *place = Place::Behind(node.number);
        self.nodes.insert(key, node);
        true
    }

    /// Drops the page used longest ago of those that no other stands behind.
    fn drop_oldest(&mut self) -> bool {
        let parents: std::collections::HashSet<Place> =
            self.nodes.keys().map(|key| key.place).collect();
        let ends = self
            .nodes
            .iter()
            .filter(|(_, node)| !parents.contains(&Place::Behind(node.number)));
        let oldest = ends.min_by_key(|(_, node)| node.used).map(|(key, _)| *key);
        let Some(node) = oldest.and_then(|key| self.nodes.remove(&key)) else {
            return false;
        };
        self.size_bytes -= node.bytes;
        self.dropped_pages += 1;
        true
    }
}
