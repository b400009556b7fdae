//! What html5ever builds its tree with.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use html5ever::tendril::StrTendril;
use html5ever::tree_builder::{ElementFlags, NodeOrText, QuirksMode, TreeSink};
use html5ever::{Attribute, ExpandedName, LocalName, QualName, local_name, ns};

use crate::arena::{Arena, Content, NONE, NodeId};

/// Attributes that say what of an element is shown; the others are not kept.
const ATTRIBUTES: [LocalName; 10] = [
    local_name!("alt"),
    local_name!("class"),
    local_name!("hidden"),
    local_name!("label"),
    local_name!("open"),
    local_name!("placeholder"),
    local_name!("role"),
    local_name!("style"),
    local_name!("type"),
    local_name!("value"),
];

/// Whether an attribute is kept in the tree.
pub(crate) fn is_kept(attribute: &Attribute) -> bool {
    attribute.name.ns == ns!() && ATTRIBUTES.contains(&attribute.name.local)
}

/// A node as the tree builder holds it: with its name, which it asks for all the time.
#[derive(Clone)]
pub(crate) struct Handle {
    id: NodeId,
    name: Rc<QualName>,
    is_integration_point: bool,
}

pub(crate) struct Sink {
    pub arena: RefCell<Arena>,
    /// The 1-based line that is being read.
    pub line: Cell<u32>,
    /// Elements around what comes next, nearly: what the tree builder moves is not followed.
    pub depth: Cell<u32>,
    nameless: Rc<QualName>,
}

impl Sink {
    pub fn new() -> Self {
        let mut arena = Arena::default();
        arena.add(Content::Plain, 1);
        Self {
            arena: RefCell::new(arena),
            line: Cell::new(1),
            depth: Cell::new(0),
            nameless: Rc::new(QualName::new(None, ns!(), local_name!(""))),
        }
    }

    fn plain(&self) -> Handle {
        let id = self.arena.borrow_mut().add(Content::Plain, self.line.get());
        self.handle(id)
    }

    fn handle(&self, id: NodeId) -> Handle {
        Handle {
            id,
            name: Rc::clone(&self.nameless),
            is_integration_point: false,
        }
    }

    fn placed(&self, arena: &Arena, id: NodeId) {
        let node = arena.get(id);
        if matches!(node.content, Content::Element { .. }) {
            self.depth.set(node.depth);
        }
    }
}

impl TreeSink for Sink {
    type Handle = Handle;
    type Output = Arena;
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) -> Arena {
        self.arena.into_inner()
    }

    fn parse_error(&self, _message: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        self.handle(0)
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> ExpandedName<'a> {
        target.name.expanded()
    }

    fn create_element(
        &self,
        name: QualName,
        attributes: Vec<Attribute>,
        flags: ElementFlags,
    ) -> Handle {
        let mut arena = self.arena.borrow_mut();
        let attributes = attributes
            .into_iter()
            .filter(is_kept)
            .map(|attribute| (attribute.name.local, arena.keep(&attribute.value)))
            .collect();
        let content = Content::Element {
            name: name.clone(),
            attributes,
        };
        let id = arena.add(content, self.line.get());
        if flags.template {
            let contents = arena.add(Content::Plain, self.line.get());
            arena.append(id, contents);
        }
        Handle {
            id,
            name: Rc::new(name),
            is_integration_point: flags.mathml_annotation_xml_integration_point,
        }
    }

    fn create_comment(&self, _text: StrTendril) -> Handle {
        self.plain()
    }

    fn create_pi(&self, _target: StrTendril, _data: StrTendril) -> Handle {
        self.plain()
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        let mut arena = self.arena.borrow_mut();
        match child {
            NodeOrText::AppendNode(node) => {
                arena.append(parent.id, node.id);
                self.placed(&arena, node.id);
            }
            NodeOrText::AppendText(text) => {
                let last = arena.get(parent.id).last_child;
                if let Some(id) = arena.write(last, &text, self.line.get()) {
                    arena.append(parent.id, id);
                }
            }
        }
    }

    fn append_based_on_parent_node(
        &self,
        element: &Handle,
        previous: &Handle,
        child: NodeOrText<Handle>,
    ) {
        let has_parent = self.arena.borrow().get(element.id).parent != NONE;
        if has_parent {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn pop(&self, node: &Handle) {
        let depth = self.arena.borrow().get(node.id).depth;
        self.depth.set(depth.saturating_sub(1));
    }

    fn get_template_contents(&self, target: &Handle) -> Handle {
        let contents = self.arena.borrow().get(target.id).first_child;
        self.handle(contents)
    }

    fn same_node(&self, one: &Handle, other: &Handle) -> bool {
        one.id == other.id
    }

    fn set_quirks_mode(&self, _mode: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        let mut arena = self.arena.borrow_mut();
        match child {
            NodeOrText::AppendNode(node) => {
                arena.detach(node.id);
                arena.insert_before(sibling.id, node.id);
                self.placed(&arena, node.id);
            }
            NodeOrText::AppendText(text) => {
                let before = arena.get(sibling.id).previous;
                if let Some(id) = arena.write(before, &text, self.line.get()) {
                    arena.insert_before(sibling.id, id);
                }
            }
        }
    }

    fn add_attrs_if_missing(&self, target: &Handle, added: Vec<Attribute>) {
        let mut arena = self.arena.borrow_mut();
        let Content::Element { attributes, .. } = &mut arena.get_mut(target.id).content else {
            return;
        };
        let mut all = std::mem::take(attributes).into_vec();
        for attribute in added.into_iter().filter(is_kept) {
            if all.iter().all(|(name, _)| *name != attribute.name.local) {
                let value = arena.keep(&attribute.value);
                all.push((attribute.name.local, value));
            }
        }
        if let Content::Element { attributes, .. } = &mut arena.get_mut(target.id).content {
            *attributes = all.into_boxed_slice();
        }
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.arena.borrow_mut().detach(target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        let mut arena = self.arena.borrow_mut();
        let mut child = arena.get(node.id).first_child;
        while child != NONE {
            let next = arena.get(child).next;
            arena.detach(child);
            arena.append(new_parent.id, child);
            child = next;
        }
    }

    fn is_mathml_annotation_xml_integration_point(&self, handle: &Handle) -> bool {
        handle.is_integration_point
    }
}
