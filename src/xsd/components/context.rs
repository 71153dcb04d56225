//! What all parts of the work on components share: documents, names, problems, and how references are resolved.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use super::model::{
    AttributeGroupId, AttributeId, Components, ConstraintId, ElementId, GroupId, Particle, ParticleId, TypeId,
};
use super::work::{At, Document, Old, Redefinition, Task};
use crate::budget::Steps;
use crate::xsd::chars::split_qname;
use crate::xsd::datatypes::simple_type::{SimpleId, SimpleType};
use crate::xsd::datatypes::text::{collapse, words};
use crate::xsd::datatypes::work::ValuesWork;
use crate::xsd::document::entities::Work;
use crate::xsd::document::tree::NodeId;
use crate::xsd::names::{FastMap, Names, QName, Sym, TextMap};
use crate::xsd::pattern::Pattern;
use crate::xsd::problem::{Place, Problems};
use crate::xsd::room::Room;
use crate::xsd::wsdl::Description;

/// Steps to find a namespace by its prefix.
const LOOKUP: u64 = 16;

/// The work on components.
pub(crate) struct Builder {
    pub(crate) names: Names,
    pub(crate) documents: Vec<Rc<Document>>,
    pub(crate) files: Vec<Arc<str>>,
    pub(crate) components: Components,
    /// The built-in types, and those that are derived from them when their turn comes.
    pub(crate) simple: Vec<SimpleType>,
    /// How many of them are built in.
    pub(crate) builtin: u32,
    pub(crate) tasks: VecDeque<(Task, At)>,
    pub(crate) problems: Problems,
    pub(crate) redefinitions: Vec<Redefinition>,
    /// The positions of those in a document that have a name.
    pub(crate) redefined: FastMap<(u32, QName), Vec<usize>>,
    /// `keyref`s and what they refer to, which may come later.
    pub(crate) keyrefs: Vec<(ConstraintId, QName, At)>,
    /// The files that have been read, with the target namespaces that they have where they are referred to.
    pub(crate) seen_documents: TextMap<(Arc<str>, Sym), u32>,
    /// Documents, and those that they include or redefine, in the order of the references.
    pub(crate) included: Vec<(u32, u32)>,
    /// The target namespaces that files declare; `None` for one that is not well-formed.
    pub(crate) declared_in_files: TextMap<Arc<str>, Option<Sym>>,
    /// Documents by what is in them and target namespace.
    pub(crate) seen_contents: TextMap<(Arc<[u8]>, Sym), u32>,
    /// The target namespaces that documents declare, by what is in them.
    pub(crate) declared_targets: TextMap<Arc<[u8]>, Sym>,
    /// What the DTDs of all documents may still add.
    pub(crate) entities: Work,
    /// How many elements each group is, at least and at most.
    pub(crate) ranges: FastMap<GroupId, Range>,
    /// Which elements can stand for a head, directly or through others.
    pub(crate) members: FastMap<ElementId, Vec<ElementId>>,
    /// What the WSDL says, if the schema is that of one.
    pub(crate) description: Option<Description>,
    /// Compiled patterns.
    pub(crate) patterns: TextMap<Box<str>, Pattern>,
    /// What is in the attributes of root elements, by document and name.
    pub(crate) defaults: FastMap<(u32, &'static str), Option<Rc<str>>>,
    /// What the checks may still take.
    pub(crate) steps: Steps,
    /// What may still be kept.
    pub(crate) room: Room,
    /// What tables for patterns may still take.
    pub(crate) tables: Steps,
    /// What the values in the schema may still take.
    pub(crate) values: ValuesWork,
}

/// How many elements there are, at least and at most; `None` for no limit.
pub(crate) type Range = (u64, Option<u64>);

impl Builder {
    pub(crate) fn document(&self, at: At) -> Option<Rc<Document>> {
        self.documents.get(at.document as usize).map(Rc::clone)
    }

    pub(crate) fn place(&self, at: At) -> Place {
        let node = self.documents.get(at.document as usize).and_then(|document| document.tree.node(at.node));
        let (line, column) = node.map_or((0, 0), |node| node.place);
        Place { document: at.document, line, column }
    }

    pub(crate) fn problem(&mut self, at: At, constraint: &'static str, message: impl Into<String>) {
        let place = self.place(at);
        self.problems.add(place, constraint, message);
    }

    /// A name as people read it; nothing if it is for a problem that is not kept, as names may be long.
    pub(crate) fn show(&self, name: QName) -> String {
        if self.problems.is_full() { String::new() } else { self.names.show(name) }
    }

    /// The name of an element of XML Schema; empty for another one.
    pub(crate) fn kind(&self, at: At) -> &str {
        let node = self.documents.get(at.document as usize).and_then(|document| document.tree.node(at.node));
        node.filter(|node| node.name.ns == Sym::XSD).map_or("", |node| self.names.text(node.name.local))
    }

    /// The children that are no annotations, with their names.
    pub(crate) fn children(&self, at: At) -> Vec<(At, Arc<str>)> {
        let Some(document) = self.documents.get(at.document as usize) else { return Vec::new() };
        let annotation = self.names.find("annotation");
        let named = |node| {
            let name = document.tree.node(node).filter(|node| node.name.ns == Sym::XSD)?.name.local;
            (name != annotation).then(|| (At { node, ..at }, self.names.shared(name)))
        };
        document.tree.children(at.node).filter_map(named).collect()
    }

    /// The first child with one of these names.
    pub(crate) fn child(&self, at: At, names: &[&str]) -> Option<At> {
        self.children(at).into_iter().find(|(_, kind)| names.contains(&&**kind)).map(|(child, _)| child)
    }

    /// The value of an attribute as written.
    pub(crate) fn raw(&self, at: At, name: &str) -> Option<&str> {
        let document = self.documents.get(at.document as usize)?;
        document.tree.attribute(at.node, self.names.find(name))
    }

    /// The value of an attribute without white space around it.
    pub(crate) fn attribute(&self, at: At, name: &str) -> Option<String> {
        self.raw(at, name).map(|value| collapse(value).into_owned())
    }

    pub(crate) fn flag(&self, at: At, name: &str) -> bool {
        matches!(self.attribute(at, name).as_deref(), Some("true" | "1"))
    }

    /// A default in an attribute of the root element: its words, each once. It is read once for all elements, as it may be long.
    pub(crate) fn of_schema(&mut self, at: At, name: &'static str) -> Option<Rc<str>> {
        let key = (at.document, name);
        if !self.defaults.contains_key(&key) {
            let read = self.raw(At { node: NodeId::ROOT, ..at }, name).map(|text| {
                let mut distinct: Vec<&str> = words(text).collect();
                distinct.sort_unstable();
                distinct.dedup();
                distinct.join(" ").into()
            });
            self.defaults.insert(key, read);
        }
        self.defaults.get(&key).cloned().flatten()
    }

    pub(crate) fn target(&self, at: At) -> Sym {
        self.documents.get(at.document as usize).map_or(Sym::NONE, |document| document.target)
    }

    /// The name that a component has from its `name`, in the target namespace.
    pub(crate) fn own_name(&mut self, at: At) -> QName {
        let local = self.attribute(at, "name").unwrap_or_default();
        QName::new(self.target(at), self.intern(&local))
    }

    /// Interns a string, if there is room for it.
    pub(crate) fn intern(&mut self, text: &str) -> Sym {
        self.names.intern_within(text, &mut self.room).unwrap_or(Sym::UNKNOWN)
    }

    /// Takes room for so many entries of a table, which has room for as many again.
    pub(crate) fn keep_entries<T>(&mut self, count: usize) {
        self.room.keep(count.saturating_mul(2 * size_of::<T>()));
    }

    /// Resolves a qualified name in the value of an attribute.
    pub(crate) fn qname(&mut self, at: At, text: &str) -> Option<QName> {
        let document = self.document(at)?;
        let (prefix, local) = split_qname(text)?;
        let Some(mut ns) = document.tree.namespace(at.node, prefix) else {
            self.problem(at, "src-resolve", format!("the prefix of `{text}` is bound to no namespace"));
            return None;
        };
        if ns == Sym::NONE && document.chameleon {
            ns = document.target;
        }
        let name = QName::new(ns, self.intern(local));
        if ns != document.target && ns != Sym::XSD && document.imports.binary_search(&ns).is_err() {
            if self.problems.is_full() {
                return None;
            }
            let shown = self.names.text(ns);
            let message = match ns {
                Sym::NONE => format!("`{text}` is in no namespace, which the document does not import"),
                _ => format!("`{text}` is in the namespace `{shown}`, which the document does not import"),
            };
            self.problem(at, "src-resolve", message);
            return None;
        }
        Some(name)
    }

    fn unresolved<T>(&mut self, at: At, what: &str, name: QName) -> Option<T> {
        let shown = self.show(name);
        self.problem(at, "src-resolve", format!("there is no {what} `{shown}`"));
        None
    }

    pub(crate) fn find_type(&mut self, at: At, text: &str) -> Option<TypeId> {
        let name = self.qname(at, text)?;
        let old = self.redefined(at, name, |old| match old {
            Old::Type(id) => Some(*id),
            _ => None,
        });
        match old.or_else(|| self.components.globals.types.get(&name).copied()) {
            Some(id) => Some(id),
            None => self.unresolved(at, "type", name),
        }
    }

    /// Resolves the name of a simple type.
    pub(crate) fn find_simple(&mut self, at: At, text: &str) -> Option<SimpleId> {
        match self.find_type(at, text)? {
            TypeId::Simple(id) => Some(id),
            TypeId::Complex(_) => {
                self.problem(at, "src-resolve", format!("`{text}` is a complex type, and a simple one is needed here"));
                None
            }
        }
    }

    pub(crate) fn find_element(&mut self, at: At, text: &str) -> Option<ElementId> {
        let name = self.qname(at, text)?;
        match self.components.globals.elements.get(&name) {
            Some(id) => Some(*id),
            None => self.unresolved(at, "element", name),
        }
    }

    pub(crate) fn find_attribute(&mut self, at: At, text: &str) -> Option<AttributeId> {
        let name = self.qname(at, text)?;
        match self.components.globals.attributes.get(&name) {
            Some(id) => Some(*id),
            None => self.unresolved(at, "attribute", name),
        }
    }

    pub(crate) fn find_group(&mut self, at: At, text: &str) -> Option<GroupId> {
        let name = self.qname(at, text)?;
        let old = self.redefined(at, name, |old| match old {
            Old::Group(id) => Some(*id),
            _ => None,
        });
        match old.or_else(|| self.components.globals.groups.get(&name).copied()) {
            Some(id) => Some(id),
            None => self.unresolved(at, "group", name),
        }
    }

    pub(crate) fn find_attribute_group(&mut self, at: At, text: &str) -> Option<AttributeGroupId> {
        let name = self.qname(at, text)?;
        let old = self.redefined(at, name, |old| match old {
            Old::AttributeGroup(id) => Some(*id),
            _ => None,
        });
        match old.or_else(|| self.components.globals.attribute_groups.get(&name).copied()) {
            Some(id) => Some(id),
            None => self.unresolved(at, "attribute group", name),
        }
    }

    /// What the prefixes in a text mean, in pairs of prefix and namespace, in the order of the prefixes.
    pub(crate) fn prefixes(&mut self, at: At, text: &str) -> Vec<(Box<str>, Sym)> {
        let Some(document) = self.document(at) else { return Vec::new() };
        let prefixes = words(text).map(|word| word.split_once(':').map_or("", |(prefix, _)| prefix));
        let (mut count, mut distinct) = (0_u64, BTreeSet::new());
        for prefix in prefixes {
            count = count.saturating_add(1);
            distinct.insert(prefix);
        }
        // Each is looked for among all declarations in scope.
        if self.steps.take(count.saturating_add(LOOKUP.saturating_mul(distinct.len() as u64))).is_err() {
            self.problem(at, "src-resolve", "the values in the schema have too many prefixes, all together");
            return Vec::new();
        }
        let found = distinct.into_iter().filter_map(|prefix| {
            let ns = document.tree.namespace(at.node, prefix)?;
            let ns = if ns == Sym::NONE && document.chameleon { document.target } else { ns };
            Some((prefix.into(), ns))
        });
        found.collect()
    }

    pub(crate) fn add_particle(&mut self, particle: Particle) -> ParticleId {
        let id = ParticleId(u32::try_from(self.components.particles.len()).unwrap_or(u32::MAX));
        self.keep_entries::<Particle>(1);
        self.components.particles.push(particle);
        id
    }
}

/// The next number of a table.
pub(crate) fn next<T>(table: &[T]) -> u32 {
    u32::try_from(table.len()).unwrap_or(u32::MAX)
}
