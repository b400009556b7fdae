//! Many texts at once.

use std::num::NonZero;
use std::sync::OnceLock;

use threads::{ThreadPool, cores};

use crate::{Tokenizer, TokenizerError};

/// An end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// Where the text begins.
    Left,
    /// Where the text ends.
    #[default]
    Right,
}

/// How texts become ids.
#[derive(Debug, Clone)]
pub struct EncodeOptions {
    /// Put the model's special tokens around each text.
    pub add_special_tokens: bool,
    /// Take what spells a control token for text, as text that others wrote should be.
    pub split_special_tokens: bool,
    /// Cut each text so that it has at most this many tokens, special ones counted.
    pub max_length: Option<usize>,
    /// The end that is cut off.
    pub truncate: Side,
    /// Also return where each token stands in its text.
    pub offsets: bool,
    /// Threads to use at most; 0 means one for each core.
    pub num_threads: usize,
}

impl Default for EncodeOptions {
    fn default() -> Self {
        Self {
            add_special_tokens: true,
            split_special_tokens: false,
            max_length: None,
            truncate: Side::Right,
            offsets: false,
            num_threads: 0,
        }
    }
}

/// Ids of many texts, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encodings {
    /// All ids.
    pub ids: Vec<u32>,
    /// Text `i` has ids `bounds[i]..bounds[i + 1]`; `bounds[0]` is 0.
    pub bounds: Vec<usize>,
    /// Start and end of each token in characters of its text; empty unless asked for.
    pub spans: Vec<(usize, usize)>,
}

impl Encodings {
    fn with_texts(count: usize) -> Self {
        let mut bounds = Vec::with_capacity(count + 1);
        bounds.push(0);
        Self {
            ids: Vec::new(),
            bounds,
            spans: Vec::new(),
        }
    }

    /// Adds the texts of `other` after its own.
    pub fn append(&mut self, other: &Self) {
        let start = self.ids.len();
        self.ids.extend(&other.ids);
        self.spans.extend(&other.spans);
        self.bounds
            .extend(other.bounds[1..].iter().map(|bound| start + bound));
    }
}

/// Waking a thread costs far less than encoding this many bytes.
const BYTES_A_THREAD: usize = 8 << 10;

/// Blocks a thread takes at a time: small enough to even out texts of different lengths.
const BLOCKS_A_THREAD: usize = 8;

pub(crate) fn encode<T: AsRef<str> + Sync>(
    tokenizer: &Tokenizer,
    texts: &[T],
    options: &EncodeOptions,
) -> Result<Encodings, TokenizerError> {
    let threads = thread_count(texts, options.num_threads);
    if threads == 1 {
        return encode_block(tokenizer, texts, 0, options);
    }
    let blocks = blocks(texts, threads * BLOCKS_A_THREAD);
    let parts: Vec<OnceLock<_>> = blocks.iter().map(|_| OnceLock::new()).collect();
    ThreadPool::new(threads).run(blocks.len(), |block| {
        let (start, end) = blocks[block];
        let part = encode_block(tokenizer, &texts[start..end], start, options);
        let _ = parts[block].set(part);
    });
    let mut all = Encodings::with_texts(texts.len());
    for part in parts.into_iter().filter_map(OnceLock::into_inner) {
        all.append(&part?);
    }
    Ok(all)
}

fn encode_block<T: AsRef<str>>(
    tokenizer: &Tokenizer,
    texts: &[T],
    first: usize,
    options: &EncodeOptions,
) -> Result<Encodings, TokenizerError> {
    let mut block = Encodings::with_texts(texts.len());
    for (index, text) in texts.iter().enumerate() {
        tokenizer
            .encode_into(text.as_ref(), options, &mut block.ids, &mut block.spans)
            .map_err(|detail| TokenizerError::Encode {
                index: first + index,
                detail,
            })?;
        block.bounds.push(block.ids.len());
    }
    Ok(block)
}

fn thread_count<T: AsRef<str>>(texts: &[T], limit: usize) -> usize {
    let bytes: usize = texts.iter().map(|text| text.as_ref().len()).sum();
    let useful = (bytes / BYTES_A_THREAD).min(texts.len()).max(1);
    if useful == 1 {
        return 1;
    }
    useful.min(NonZero::new(limit).map_or_else(cores, NonZero::get))
}

/// Cuts the batch into about `count` runs of texts with equal bytes.
fn blocks<T: AsRef<str>>(texts: &[T], count: usize) -> Vec<(usize, usize)> {
    let total: usize = texts.iter().map(|text| text.as_ref().len()).sum();
    let share = (total / count).max(1);
    let mut blocks = Vec::with_capacity(count + 1);
    let (mut start, mut bytes) = (0, 0);
    for (index, text) in texts.iter().enumerate() {
        bytes += text.as_ref().len();
        if bytes >= share {
            blocks.push((start, index + 1));
            (start, bytes) = (index + 1, 0);
        }
    }
    if start < texts.len() {
        blocks.push((start, texts.len()));
    }
    blocks
}
