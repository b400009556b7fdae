//! What can go wrong between a text and its ids.

use std::path::PathBuf;

/// A tokenizer file or a text that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not a tokenizer.json.
    #[error("not a tokenizer.json: {detail}")]
    Parse {
        /// Where and what, from the JSON reader or the `tokenizers` crate.
        detail: String,
    },
    /// A text cannot be turned into ids.
    #[error("text {index} cannot be encoded: {detail}")]
    Encode {
        /// Position in the batch.
        index: usize,
        /// What the pipeline said.
        detail: String,
    },
    /// Ids cannot be turned into text.
    #[error("ids cannot be decoded: {detail}")]
    Decode {
        /// What the decoder said.
        detail: String,
    },
    /// The special tokens alone are longer than the length asked for.
    #[error(
        "max_length is {max_length}, expected at least {special} for the special tokens; raise it or encode without special tokens"
    )]
    MaxLength {
        /// The length asked for.
        max_length: usize,
        /// Tokens the template adds.
        special: usize,
    },
}
