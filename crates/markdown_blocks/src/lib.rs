//! The blocks of a Markdown document, each with its place in the source.
//!
//! The grammar is pulldown-cmark's: `CommonMark` with the tables of GitHub. This crate keeps of it what a reader
//! of documents needs, as spans of whole lines; reads a long document in pieces, since the parser's tree takes two
//! hundred bytes a byte; and bounds the nesting, since the parser looks through all that is open at every line.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod gather;
mod nesting;

use pulldown_cmark::{Options, Parser};

use crate::gather::Gather;
pub use crate::nesting::MAX_NESTING;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A paragraph, an item of a list with all that is in it, a quote.
    Prose,
    /// A fence or indented code.
    Code,
    /// A row of a table.
    Row,
    /// A block of HTML.
    Html,
    /// A line that `CommonMark` takes for the target of a link, and people for a footnote.
    Footnote,
    /// A heading of level 1 to 6.
    Heading(u8),
}

/// A block: whole lines, without the blank ones at its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// The byte at which it begins.
    pub start: usize,
    /// The byte behind its last one that is no white space.
    pub end: usize,
    /// The lines above it.
    pub line: usize,
    /// The lines above its last one.
    pub last_line: usize,
}

/// What was read of a document.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    /// The blocks in order, apart from each other. Between them stand rules, targets of links and the lines under
    /// the heads of tables.
    pub blocks: Vec<Block>,
    /// What each heading says without its markup, its words a blank apart, one a line.
    pub titles: String,
    /// The byte up to which the text was read; a line begins there.
    pub end: usize,
}

/// Read a document, or the next piece of one.
///
/// Of a piece that goes on, the last block is left for the next one, which begins at [`Blocks::end`]: what follows
/// may belong to it. That is nothing at all where the piece is not longer than one block; then take more of the
/// document, or call it whole.
///
/// Lines of `text` end with line feeds only. Time is linear. Where a piece has more blocks than `apart`, small neighbours of one kind come together.
#[must_use]
pub fn read(text: &str, is_whole: bool, apart: usize) -> Blocks {
    let bounded = nesting::bounded(text);
    let parser = Parser::new_ext(&bounded, Options::ENABLE_TABLES);
    let mut gather = Gather::new(text, apart);
    for (event, range) in parser.into_offset_iter() {
        gather.event(event, range);
    }
    gather.finish(is_whole)
}
