//! `WordPiece` over flat tables: the longest token that fits, again and again.

use crate::vocab::Vocab;

#[derive(Debug, Clone)]
pub(crate) struct WordPiece {
    pub(crate) vocab: Vocab,
    /// Tokens that continue a word, without their prefix.
    continuing: Vocab,
    unknown: u32,
    max_characters: usize,
}

impl WordPiece {
    /// `None` if the vocabulary lacks the unknown token.
    pub(crate) fn new(
        vocab: Vocab,
        prefix: &str,
        unknown: &str,
        max_characters: usize,
    ) -> Option<Self> {
        let unknown = vocab.id(unknown)?;
        let mut continuing = Vocab::default();
        for (token, id) in vocab.iter() {
            if let Some(rest) = token.strip_prefix(prefix) {
                continuing.insert(rest, id);
            }
        }
        Some(Self {
            vocab,
            continuing,
            unknown,
            max_characters,
        })
    }

    /// Calls `take` with each token of a word, as (id, start, end) in bytes.
    pub(crate) fn cut(&self, word: &str, mut take: impl FnMut(u32, usize, usize)) -> bool {
        if word.len() > self.max_characters && word.chars().count() > self.max_characters {
            return false;
        }
        let mut start = 0;
        while start < word.len() {
            let vocab = if start == 0 {
                &self.vocab
            } else {
                &self.continuing
            };
            let mut end = word.len().min(start + vocab.longest());
            let id = loop {
                while !word.is_char_boundary(end) {
                    end -= 1;
                }
                if end <= start {
                    return false;
                }
                match vocab.id(&word[start..end]) {
                    Some(id) => break id,
                    None => end -= 1,
                }
            };
            take(id, start, end);
            start = end;
        }
        true
    }

    /// Appends the ids of a word; a word that cannot be cut whole is one unknown token.
    pub(crate) fn push_ids(&self, word: &str, ids: &mut Vec<u32>) {
        let before = ids.len();
        if !self.cut(word, |id, _, _| ids.push(id)) {
            ids.truncate(before);
            ids.push(self.unknown);
        }
    }

    pub(crate) fn unknown(&self) -> u32 {
        self.unknown
    }
}
