//! Words of every script, and BM25 over them.
//!
//! [`Query`] and [`Recent`] take texts apart the same way: into stems, exact forms, identifiers and pairs of
//! ideographs. An [`Index`] is a file of the words of rows that no longer change, [`Recent`] the same in memory for
//! texts that come and go. [`Statistics`] adds up what all of them hold of a query, so that a score does not depend
//! on where a text lies. `docs/formats/text-index.md` draws the bytes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod accumulator;
mod analyzer;
mod bm25;
mod dictionary;
mod error;
mod folding;
mod index;
mod index_writer;
mod inverted;
mod language;
mod part;
mod postings;
mod query;
mod recent;
mod sentences;
mod stems;
mod varint;
mod words;

pub use accumulator::Accumulator;
pub use bm25::{Bm25, Scorer, Statistics};
pub use error::{Error, Result};
pub use index::{Found, Index, Stamp};
pub use index_writer::write_index;
pub use query::Query;
pub use recent::{FoundRecent, Recent};
pub use sentences::sentences;
