//! Looks through what a WSDL contains, and bounds that: operations share messages, their parts and port types.

use std::cell::Cell;
use std::rc::Rc;

use super::Description;
use crate::xsd::chars::split_qname;
use crate::xsd::components::context::Builder;
use crate::xsd::components::model::ElementId;
use crate::xsd::components::work::At;
use crate::xsd::document::tree::NodeId;
use crate::xsd::names::{FastMap, QName, Sym, WSDL};

/// Most elements that are looked through for their operations, messages and parts, each as often as that is done.
pub(super) const MAX_LOOKED: usize = 4_000_000;
/// How many attributes, and how many bytes of the value of one, take as long as an element to look through.
pub(super) const ATTRIBUTES: usize = 16;
const BYTES: usize = 64;

/// The parts of a message, in their order, and those that have a name.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) all: Vec<(At, Sym)>,
    pub(super) named: FastMap<Sym, At>,
}

pub(super) struct Reader<'b> {
    pub(super) builder: &'b mut Builder,
    pub(super) messages: FastMap<QName, At>,
    /// By message.
    pub(super) parts: FastMap<At, Rc<Parts>>,
    pub(super) port_types: FastMap<QName, At>,
    /// The numbers of bindings.
    pub(super) bindings: FastMap<QName, usize>,
    /// Elements of `rpc` messages, by name, message and parts, which several bindings may have.
    pub(super) wrappers: FastMap<(QName, u32, NodeId, Vec<NodeId>), ElementId>,
    pub(super) description: Description,
    /// How many elements have been looked through.
    pub(super) looked: Cell<usize>,
}

impl Reader<'_> {
    /// The children of an element that have this name in the namespace of WSDL.
    pub(super) fn children(&self, at: At, local: &str) -> Vec<At> {
        let names = &self.builder.names;
        self.named(at, QName::new(names.find(WSDL), names.find(local)))
    }

    /// The children of an element that have this name; none once too many were looked through.
    pub(super) fn named(&self, at: At, name: QName) -> Vec<At> {
        let count = self.builder.document(at).map_or(0, |document| document.tree.children(at.node).count());
        if self.look(count) { self.builder.children_named(at, name) } else { Vec::new() }
    }

    /// Looks through so many elements; false once there were too many.
    pub(super) fn look(&self, count: usize) -> bool {
        self.looked.set(self.looked.get().saturating_add(count));
        self.looked.get() <= MAX_LOOKED
    }

    /// Whether to read on: what is incomplete has no problems of its own.
    pub(super) fn goes_on(&self) -> bool {
        self.look(0) && !self.builder.room.is_short()
    }

    /// The value of an attribute, which operations may share.
    pub(super) fn attribute(&self, at: At, name: &str) -> Option<String> {
        let document = self.builder.documents.get(at.document as usize);
        let count = document.map_or(0, |document| document.tree.attributes(at.node).len());
        let length = self.builder.raw(at, name).map_or(0, str::len);
        if self.look(count / ATTRIBUTES + length / BYTES) { self.builder.attribute(at, name) } else { None }
    }

    /// The parts of a message; `None` once too much was looked through.
    pub(super) fn parts(&mut self, message: At) -> Option<Rc<Parts>> {
        if let Some(known) = self.parts.get(&message) {
            return self.look(known.all.len()).then(|| Rc::clone(known));
        }
        let mut parts = Parts::default();
        for part in self.children(message, "part") {
            let name = self.name_of(part);
            let name = if name.is_empty() { Sym::NONE } else { self.builder.intern(&name) };
            parts.all.push((part, name));
            if name != Sym::NONE {
                parts.named.entry(name).or_insert(part);
            }
        }
        self.builder.keep_entries::<(At, Sym, Sym, At)>(parts.all.len());
        let parts = Rc::new(parts);
        self.parts.insert(message, Rc::clone(&parts));
        self.goes_on().then_some(parts)
    }

    pub(super) fn no_part(&mut self, at: At, constraint: &'static str, name: &str) {
        self.builder.problem(at, constraint, format!("the message has no part `{name}`"));
    }

    pub(super) fn twice(&mut self, at: At, what: &str, name: QName) {
        let shown = self.builder.show(name);
        self.builder.problem(at, "WSDL 1.1 §2.1", format!("the {what} `{shown}` is defined twice"));
    }

    /// The child of an element in a namespace of SOAP bindings.
    pub(super) fn soap_child(&self, at: At, soap: Sym, local: &str) -> Option<At> {
        let name = QName::new(soap, self.builder.names.find(local));
        self.named(at, name).first().copied()
    }

    /// What an attribute refers to.
    pub(super) fn find(&mut self, at: At, attribute: &str) -> Option<At> {
        let Some(text) = self.attribute(at, attribute) else {
            if self.goes_on() {
                self.builder.problem(at, "WSDL 1.1 §2", format!("`{attribute}` is missing here"));
            }
            return None;
        };
        let name = self.builder.qname(at, &text)?;
        let (what, table) =
            if attribute == "message" { ("message", &self.messages) } else { ("portType", &self.port_types) };
        let found = table.get(&name).copied();
        if found.is_none() {
            let shown = self.builder.show(name);
            self.builder.problem(at, "WSDL 1.1 §2", format!("there is no {what} `{shown}`"));
        }
        found
    }

    /// The number of the binding that a port names.
    pub(super) fn binding_of(&self, port: At) -> Option<usize> {
        let written = self.attribute(port, "binding")?;
        let (prefix, local) = split_qname(&written)?;
        let namespace = self.builder.document(port)?.tree.namespace(port.node, prefix)?;
        self.bindings.get(&QName::new(namespace, self.builder.names.find(local))).copied()
    }

    pub(super) fn name_of(&self, at: At) -> String {
        self.attribute(at, "name").unwrap_or_default()
    }
}
