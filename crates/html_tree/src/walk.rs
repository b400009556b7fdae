//! The tree as a flat sequence, in the order of the document.

use crate::arena::{Content, NONE, NodeId};
use crate::parse::Page;

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
    /// A piece of text, the words of which stand on one line, unless [`crate::Limit::Nodes`] was met.
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
}

impl Page {
    /// The event at a cursor, which moves on; nothing at the end.
    pub fn next(&self, cursor: &mut Cursor) -> Option<Event<'_>> {
        while cursor.node != NONE {
            let node = self.arena.get(cursor.node);
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
                        .map(|(name, value)| (&**name, value.as_str()));
                    return Some(Event::Open {
                        name: &name.local,
                        attributes: attributes.collect(),
                        line: node.line,
                    });
                }
                Content::Text { start, end } => {
                    return Some(Event::Text {
                        text: &self.arena.text[*start..*end],
                        line: node.line,
                    });
                }
            }
        }
        None
    }
}

fn is_element(content: &Content) -> bool {
    matches!(content, Content::Element { .. })
}
