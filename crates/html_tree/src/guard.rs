//! Bounds between the tokenizer and the tree builder, whose work for a tag grows with the depth.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{EndTag, StartTag, Tag, Token, TokenSink, TokenSinkResult};
use html5ever::tree_builder::TreeBuilder;
use html5ever::{LocalName, local_name};

use crate::sink::{Handle, Sink, is_kept};

/// Deepest nesting that is built, as in Chromium; tags below it are passed by, their text is kept.
pub const MAX_DEPTH: u32 = 512;

/// Nodes beyond one for each byte of the page. Only elements that the grammar opens again by itself
/// (formatting across paragraphs) can make more.
const SPARE_NODES: usize = 4096;

/// Most nodes of a page, about 200 bytes each with what is made of them. Real pages of 20 MB have fewer.
const MAX_NODES: usize = 1_000_000;

/// Attributes a tag may bring to the tree builder, which compares those of formatting elements.
const COMPARED_ATTRIBUTES: usize = 32;

/// A bound that was met. Text is kept in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Elements nested deeper than [`MAX_DEPTH`]; the structure below it is lost.
    Depth,
    /// More elements or text than bytes, or a million elements; the structure of what follows is lost.
    Nodes,
    /// More than [`crate::MAX_ATTRIBUTES`] attributes in a tag; the rest of them is lost.
    Attributes,
}

pub(crate) struct Guard {
    pub builder: TreeBuilder<Handle, Sink>,
    /// Whether a token came since this was last cleared.
    pub has_token: Cell<bool>,
    /// The first line at which each bound was met.
    pub limits: RefCell<Vec<(Limit, u32)>>,
    max_nodes: usize,
    /// Most text that is kept. Only attributes of elements that are opened again make more of it than the page has.
    max_text: usize,
    /// Elements passed by whose end tag is still to come.
    passed_by: RefCell<HashMap<LocalName, u32>>,
}

impl Guard {
    pub fn new(builder: TreeBuilder<Handle, Sink>, size_bytes: usize) -> Self {
        let max_nodes = (size_bytes + SPARE_NODES).min(MAX_NODES);
        builder.sink.arena.borrow_mut().max_lines = max_nodes;
        Self {
            builder,
            has_token: Cell::new(false),
            limits: RefCell::default(),
            max_nodes,
            max_text: 2 * size_bytes + SPARE_NODES,
            passed_by: RefCell::default(),
        }
    }

    pub fn meet(&self, limit: Limit, line: u32) {
        let mut limits = self.limits.borrow_mut();
        if limits.iter().all(|(met, _)| *met != limit) {
            limits.push((limit, line));
        }
    }

    /// Text goes on line by line, so that the tree knows each line's number.
    fn characters(&self, mut text: StrTendril, last: u32) {
        let breaks = text.bytes().filter(|byte| *byte == b'\n').count();
        let mut line = last.saturating_sub(breaks as u32);
        while !text.is_empty() {
            let end = text.find('\n').map_or(text.len(), |at| at + 1) as u32;
            let piece = text.subtendril(0, end);
            text.pop_front(end);
            self.builder.sink.line.set(line);
            let _ = self
                .builder
                .process_token(Token::CharacterTokens(piece), u64::from(line));
            line += 1;
        }
    }

    fn is_full(&self) -> bool {
        let arena = self.builder.sink.arena.borrow();
        arena.nodes.len() >= self.max_nodes || arena.text_len() > self.max_text
    }

    fn is_passed_by(&self, tag: &Tag, line: u32) -> bool {
        let is_full = self.is_full();
        match tag.kind {
            EndTag => {
                if let Some(open) = self.passed_by.borrow_mut().get_mut(&tag.name)
                    && *open > 0
                {
                    *open -= 1;
                    return true;
                }
                if !(is_full && makes_an_element(&tag.name)) {
                    return false;
                }
            }
            StartTag => {
                let has_end = !holds_no_elements(&tag.name);
                let is_deep = has_end && self.builder.sink.depth.get() >= MAX_DEPTH;
                if !(is_full || is_deep) {
                    return false;
                }
                if has_end {
                    let mut passed_by = self.passed_by.borrow_mut();
                    *passed_by.entry(tag.name.clone()).or_default() += 1;
                }
            }
        }
        self.meet(if is_full { Limit::Nodes } else { Limit::Depth }, line);
        true
    }
}

impl TokenSink for Guard {
    type Handle = Handle;

    fn process_token(&self, token: Token, line: u64) -> TokenSinkResult<Handle> {
        let number = u32::try_from(line).unwrap_or(u32::MAX);
        match token {
            Token::ParseError(_) => TokenSinkResult::Continue,
            Token::CharacterTokens(text) => {
                self.has_token.set(true);
                self.characters(text, number);
                TokenSinkResult::Continue
            }
            Token::TagToken(mut tag) => {
                self.has_token.set(true);
                if self.is_passed_by(&tag, number) {
                    if !is_formatting(&tag.name) {
                        self.characters(StrTendril::from_slice(" "), number);
                    }
                    return TokenSinkResult::Continue;
                }
                if tag.attrs.len() > COMPARED_ATTRIBUTES {
                    tag.attrs.retain(is_kept);
                }
                self.builder.sink.line.set(number);
                self.builder.process_token(Token::TagToken(tag), line)
            }
            // Nothing of it is shown, and in the tree it would be a node.
            Token::CommentToken(_) => {
                self.has_token.set(true);
                TokenSinkResult::Continue
            }
            other => {
                self.has_token.set(true);
                self.builder.process_token(other, line)
            }
        }
    }

    fn end(&self) {
        self.builder.end();
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.builder
            .adjusted_current_node_present_but_not_in_html_namespace()
    }
}

/// Whether an element ends before another can begin in it: void elements and those of raw text, whose
/// contents would turn to markup if their tags were passed by.
fn holds_no_elements(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("area")
            | local_name!("br")
            | local_name!("hr")
            | local_name!("iframe")
            | local_name!("img")
            | local_name!("input")
            | local_name!("noembed")
            | local_name!("noframes")
            | local_name!("script")
            | local_name!("style")
            | local_name!("textarea")
            | local_name!("title")
            | local_name!("wbr")
            | local_name!("xmp")
    )
}

/// Whether an end tag makes an element where none is open: a full tree would grow with every one.
fn makes_an_element(name: &LocalName) -> bool {
    matches!(*name, local_name!("br") | local_name!("p"))
}

/// Whether an element stands within words: where it is passed by, no gap is left.
fn is_formatting(name: &LocalName) -> bool {
    matches!(
        *name,
        local_name!("a")
            | local_name!("b")
            | local_name!("big")
            | local_name!("code")
            | local_name!("em")
            | local_name!("font")
            | local_name!("i")
            | local_name!("nobr")
            | local_name!("s")
            | local_name!("small")
            | local_name!("span")
            | local_name!("strike")
            | local_name!("strong")
            | local_name!("sub")
            | local_name!("sup")
            | local_name!("tt")
            | local_name!("u")
    )
}
