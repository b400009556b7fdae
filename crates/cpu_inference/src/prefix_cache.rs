//! The beginnings of earlier texts, for those that begin alike.

use std::collections::HashMap;
use std::sync::Arc;

use kernels::PAGE_KEYS;

use crate::kv_cache::Page;

/// Fewer tokens are computed again sooner than a page is copied for them.
const LEAST_COPIED: usize = 8;
/// Stands where a page that is not full has no token.
const NO_TOKEN: u32 = u32::MAX;

/// A tree of pages: a page stands behind the page of the tokens before its own. What was used longest ago is
/// dropped first, and nothing before what stands behind it. A page that is not full is an end.
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
    /// Pages kept, of 64 tokens at most.
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
    /// Behind the last of a page that is not full, [`NO_TOKEN`].
    tokens: [u32; PAGE_KEYS],
}

impl Key {
    /// Of at most a page of tokens.
    fn new(place: Place, tokens: &[u32]) -> Self {
        let mut padded = [NO_TOKEN; PAGE_KEYS];
        padded[..tokens.len()].copy_from_slice(tokens);
        Self {
            place,
            tokens: padded,
        }
    }

    /// Tokens that its page and `tokens` begin with.
    fn in_common(&self, tokens: &[u32]) -> usize {
        let pairs = self.tokens.iter().zip(tokens);
        pairs.take_while(|(a, b)| a == b).count()
    }
}

/// Pages that a text takes over, and the tokens they serve for; of the last page perhaps only the first.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) pages: Vec<Arc<Page>>,
    pub(crate) tokens: usize,
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

    /// What is kept of the beginning of `tokens`; `place` moves behind the last page that serves whole.
    pub(crate) fn find(&mut self, place: &mut Place, tokens: &[u32]) -> Found {
        let mut found = Found::default();
        self.clock += 1;
        for page in tokens.chunks(PAGE_KEYS) {
            let Some(node) = self.nodes.get_mut(&Key::new(*place, page)) else {
                break;
            };
            if page.len() < PAGE_KEYS {
                break;
            }
            node.used = self.clock;
            *place = Place::Behind(node.number);
            found.pages.push(Arc::clone(&node.page));
            found.tokens += PAGE_KEYS;
        }
        let rest = &tokens[found.tokens..];
        let behind = self.nodes.iter_mut().filter(|(key, _)| key.place == *place);
        let nearest = behind
            .map(|(key, node)| (key.in_common(rest), node))
            .max_by_key(|(common, _)| *common);
        if let Some((common, node)) = nearest
            && common >= LEAST_COPIED
        {
            node.used = self.clock;
            found.pages.push(Arc::clone(&node.page));
            found.tokens += common;
        }
        self.reused_tokens += found.tokens as u64;
        found
    }

    /// Keeps a page of `tokens` behind `place`, which moves behind it if it is full; too few are not worth
    /// it. False if there is no room or what it would stand behind was dropped.
    pub(crate) fn keep(
        &mut self,
        place: &mut Place,
        tokens: &[u32],
        (page, bytes): (&Arc<Page>, usize),
    ) -> bool {
        let key = Key::new(*place, tokens);
        let is_full = tokens.len() == PAGE_KEYS;
        if tokens.len() < LEAST_COPIED {
            return true;
        }
        self.clock += 1;
        if let Some(node) = self.nodes.get_mut(&key) {
            node.used = self.clock;
            if is_full {
                *place = Place::Behind(node.number);
            }
            return true;
        }
        if bytes > self.limit_bytes {
            return false;
        }
        self.drop_beginnings(&key);
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
        if is_full {
            *place = Place::Behind(node.number);
        }
        self.nodes.insert(key, node);
        true
    }

    /// Drops the pages that are not full and hold nothing that the page of `key` does not.
    fn drop_beginnings(&mut self, key: &Key) {
        let is_beginning = |other: &Key| {
            let held = other.tokens.partition_point(|&token| token != NO_TOKEN);
            other.place == key.place && held < PAGE_KEYS && other.in_common(&key.tokens) >= held
        };
        let dropped = self.nodes.extract_if(|other, _| is_beginning(other));
        self.size_bytes -= dropped.map(|(_, node)| node.bytes).sum::<usize>();
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
