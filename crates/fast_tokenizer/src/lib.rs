//! Text to token ids and back, in parallel batches.
//!
//! The algorithms (BPE, `WordPiece`, Unigram, normalisers, decoders) are those of the `tokenizers`
//! crate, so ids equal those a model was trained with. This crate adds what a local engine needs
//! around them: a file that opens in milliseconds, ragged batches without padding, threads that
//! survive a fork, and text that streams out token by token.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod batch;
mod bert;
mod bpe;
mod controls;
mod error;
mod guard;
mod load;
mod marked;
mod model;
mod model_file;
mod pair;
mod pipeline;
mod shortcut;
mod stream;
mod tokenizer;
mod vocab;
mod word_piece;

pub use batch::{EncodeOptions, Encodings, Side};
pub use error::TokenizerError;
pub use pair::PairEncodings;
pub use stream::DecodeStream;
pub use tokenizer::Tokenizer;
