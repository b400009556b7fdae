//! Nodes in one vector, linked by their places in it.

use html5ever::{LocalName, QualName};

/// A node's place in the arena.
pub(crate) type NodeId = u32;

/// No node: the end of a chain of siblings, the parent of a root.
pub(crate) const NONE: NodeId = NodeId::MAX;

/// A part of `Arena::text`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    start: u32,
    end: u32,
}

/// Name and value: a string of its own for each would take six times as much.
pub(crate) type Attribute = (LocalName, Part);

#[derive(Debug)]
pub(crate) enum Content {
    /// A node without a name or text of its own: the document, a template's contents, a comment.
    Plain,
    Element {
        name: QualName,
        attributes: Box<[Attribute]>,
    },
    /// A part of `Arena::text`.
    Text(Part),
}

#[derive(Debug)]
pub(crate) struct Node {
    pub parent: NodeId,
    pub first_child: NodeId,
    pub last_child: NodeId,
    pub previous: NodeId,
    pub next: NodeId,
    /// 1-based source line.
    pub line: u32,
    /// Elements above when it was placed; what is moved later keeps it.
    pub depth: u32,
    pub content: Content,
}

#[derive(Debug, Default)]
pub(crate) struct Arena {
    pub nodes: Vec<Node>,
    /// All text and all values of attributes, in the order they were met.
    text: String,
    /// Nodes up to which each line of text has a node of its own.
    pub max_lines: usize,
}

impl Arena {
    pub fn add(&mut self, content: Content, line: u32) -> NodeId {
        self.nodes.push(Node {
            parent: NONE,
            first_child: NONE,
            last_child: NONE,
            previous: NONE,
            next: NONE,
            line,
            depth: 0,
            content,
        });
        (self.nodes.len() - 1) as NodeId
    }

    pub fn get(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub fn get_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Keep a text; it is shorter than 4 GiB with all others.
    pub fn keep(&mut self, text: &str) -> Part {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Part {
            start,
            end: self.text.len() as u32,
        }
    }

    /// Bytes of all texts that were kept.
    pub fn text_len(&self) -> usize {
        self.text.len()
    }

    /// A text that was kept.
    pub fn text(&self, part: Part) -> &str {
        &self.text[part.start as usize..part.end as usize]
    }

    /// Make a node that has no parent the last child of another.
    pub fn append(&mut self, parent: NodeId, child: NodeId) {
        let last = self.get(parent).last_child;
        self.link(parent, last, child, NONE);
    }

    /// Put a node that has no parent before another.
    pub fn insert_before(&mut self, sibling: NodeId, child: NodeId) {
        let Node {
            parent, previous, ..
        } = *self.get(sibling);
        if parent == NONE {
            // Out of the tree itself; what is read is never lost.
            self.append(0, child);
        } else {
            self.link(parent, previous, child, sibling);
        }
    }

    /// Take a node out of its parent.
    pub fn detach(&mut self, id: NodeId) {
        let Node {
            parent,
            previous,
            next,
            ..
        } = *self.get(id);
        if parent == NONE {
            return;
        }
        match previous {
            NONE => self.get_mut(parent).first_child = next,
            before => self.get_mut(before).next = next,
        }
        match next {
            NONE => self.get_mut(parent).last_child = previous,
            after => self.get_mut(after).previous = previous,
        }
        let node = self.get_mut(id);
        (node.parent, node.previous, node.next) = (NONE, NONE, NONE);
    }

    /// Write text behind a node: on to it when it is text of the same line or a gap between words, else as
    /// a node of its own.
    ///
    /// Returns the node to place, if it is a new one.
    pub fn write(&mut self, after: NodeId, text: &str, line: u32) -> Option<NodeId> {
        let part = self.keep(text);
        if after != NONE {
            let is_gap = text.bytes().all(|byte| byte.is_ascii_whitespace());
            let joins = is_gap || self.nodes.len() >= self.max_lines;
            let node = self.get_mut(after);
            if let Content::Text(before) = &mut node.content
                && before.end == part.start
                && (joins || node.line == line)
            {
                before.end = part.end;
                return None;
            }
        }
        Some(self.add(Content::Text(part), line))
    }

    fn link(&mut self, parent: NodeId, previous: NodeId, child: NodeId, next: NodeId) {
        let depth = self.get(parent).depth + 1;
        let node = self.get_mut(child);
        (node.parent, node.previous, node.next) = (parent, previous, next);
        node.depth = depth;
        match previous {
            NONE => self.get_mut(parent).first_child = child,
            before => self.get_mut(before).next = child,
        }
        match next {
            NONE => self.get_mut(parent).last_child = child,
            after => self.get_mut(after).previous = child,
        }
    }
}
