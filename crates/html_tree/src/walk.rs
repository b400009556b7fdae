//! The tree as a flat sequence, in the order of the document.

use crate::arena::{Content, NONE, NodeId};
use crate::parse::Page;

/// Length of a piece of a long text, about.
const PIECE_BYTES: usize = 1 << 16;

/// What a walk meets.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// An element begins.
    Open {
        /// Its name, in lower case.
        name: &'a str,
        /// Name and value of the attributes that say what is shown.
        attributes: Vec<(&'a str, &'a str)>,
        /// 1-based line on which its tag ends.
        line: u32,
    },
    /// A piece of text on one line. Where [`crate::Limit::Nodes`] was met it may be of many; long ones come in
    /// pieces that end between words.
    Text {
        /// The text; line feeds may end it.
        text: &'a str,
        /// 1-based line of its beginning.
        line: u32,
    },
    /// The element opened last and not yet closed ends.
    Close,
}

/// A place in a page's tree.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    node: NodeId,
    is_closing: bool,
    /// Bytes of a long text that were passed, and the line breaks in them.
    passed: usize,
    lines: u32,
}

impl Page {
    /// The event at a cursor, which moves on; nothing at the end.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Event<'_>> {
        while cursor.node != NONE {
            let node = self.arena.get(cursor.node);
            let mut text = "";
            let line = node.line + cursor.lines;
            if let Content::Text(part) = node.content {
                text = &self.arena.text(part)[cursor.passed..];
                let length = piece_length(text);
                if length < text.len() {
                    let text = &text[..length];
                    cursor.passed += length;
                    cursor.lines += text.bytes().filter(|byte| *byte == b'\n').count() as u32;
                    return Some(Event::Text { text, line });
                }
                (cursor.passed, cursor.lines) = (0, 0);
            }
            let is_closing = cursor.is_closing;
            if is_closing || node.first_child == NONE && !is_element(&node.content) {
                cursor.is_closing = node.next == NONE;
                cursor.node = if node.next == NONE {
                    node.parent
                } else {
                    node.next
                };
            } else if node.first_child == NONE {
                cursor.is_closing = true;
            } else {
                cursor.node = node.first_child;
            }
            match &node.content {
                Content::Plain => {}
                Content::Element { .. } if is_closing => return Some(Event::Close),
                Content::Element { name, attributes } => {
                    let attributes = attributes
                        .iter()
                        .map(|(name, value)| (&**name, self.arena.text(*value)));
                    return Some(Event::Open {
                        name: &name.local,
                        attributes: attributes.collect(),
                        line: node.line,
                    });
                }
                Content::Text(_) => return Some(Event::Text { text, line }),
            }
        }
        None
    }
}

/// Length of the next piece of a text.
fn piece_length(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let head = &text.as_bytes()[..PIECE_BYTES];
    let is_gap = |byte: &u8| byte.is_ascii_whitespace();
    let end = head.iter().rposition(is_gap);
    end.or_else(|| text.bytes().position(|byte| is_gap(&byte)))
        .map_or(text.len(), |at| at + 1)
}

fn is_element(content: &Content) -> bool {
    matches!(content, Content::Element { .. })
}
