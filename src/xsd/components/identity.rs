//! Builds identity constraints from their elements (XSD 1.0 Part 1, §3.11.2).

use super::context::Builder;
use super::model::{ConstraintId, ConstraintKind, Path};
use super::work::At;
use super::xpath::{Resolve, parse, size};
use crate::xsd::document::tree::Tree;
use crate::xsd::names::{Names, Sym};
use crate::xsd::room::Room;

/// Prefixes at an element.
struct Scope<'a> {
    tree: &'a Tree,
    at: At,
    names: &'a mut Names,
    room: &'a mut Room,
}

impl Resolve for Scope<'_> {
    fn namespace(&mut self, prefix: &str) -> Option<Sym> {
        self.tree.namespace(self.at.node, prefix)
    }

    fn intern(&mut self, text: &str) -> Sym {
        self.names.intern_within(text, self.room).unwrap_or(Sym::UNKNOWN)
    }
}

impl Builder {
    pub(crate) fn build_constraint(&mut self, id: ConstraintId, at: At) {
        let kind = match self.kind(at) {
            "key" => ConstraintKind::Key,
            "keyref" => ConstraintKind::KeyRef(id),
            _ => ConstraintKind::Unique,
        };
        if self.kind(at) == "keyref" {
            let refer = self.attribute(at, "refer").unwrap_or_default();
            if let Some(name) = self.qname(at, &refer) {
                self.keyrefs.push((id, name, at));
            }
        }
        let (mut selector, mut fields) = (Vec::new(), Vec::new());
        for (child, name) in self.children(at) {
            match &*name {
                "selector" => selector = self.paths(child, false),
                _ => fields.push(self.paths(child, true)),
            }
        }
        if let Some(constraint) = self.components.constraints.get_mut(id.index()) {
            constraint.kind = kind;
            constraint.selector = selector;
            constraint.fields = fields;
        }
    }

    fn paths(&mut self, at: At, field: bool) -> Vec<Path> {
        let Some(document) = self.document(at) else { return Vec::new() };
        let text = self.raw(at, "xpath").unwrap_or_default().to_owned();
        self.room.keep(size(&text));
        let mut scope = Scope { tree: &document.tree, at, names: &mut self.names, room: &mut self.room };
        match parse(&text, field, &mut scope) {
            Ok(paths) => paths,
            Err(message) => {
                let constraint = if field { "c-fields-xpaths" } else { "c-selector-xpath" };
                self.problem(at, constraint, format!("the path is not allowed: {message}"));
                Vec::new()
            }
        }
    }

    /// Resolves what `keyref`s refer to, once all constraints are known.
    pub(crate) fn resolve_keyrefs(&mut self) {
        for (id, name, at) in std::mem::take(&mut self.keyrefs) {
            let Some(key) = self.components.globals.constraints.get(&name).copied() else {
                let shown = self.show(name);
                self.problem(at, "src-resolve", format!("there is no key `{shown}`"));
                continue;
            };
            let fields = |id: ConstraintId| self.components.constraints.get(id.index()).map(|found| found.fields.len());
            let (own, theirs) = (fields(id), fields(key));
            if own != theirs {
                let shown = self.show(name);
                let message = format!("it has {} fields, and `{shown}` has {}", own.unwrap_or(0), theirs.unwrap_or(0));
                self.problem(at, "c-props-correct.2", message);
            }
            let is_ref = |found: &super::model::IdentityConstraint| matches!(found.kind, ConstraintKind::KeyRef(_));
            let refers = self.components.constraints.get(key.index()).is_some_and(is_ref);
            if refers || key == id {
                let shown = self.show(name);
                self.problem(at, "c-props-correct.1", format!("`{shown}` is itself a reference; refer to a key"));
            }
            if let Some(constraint) = self.components.constraints.get_mut(id.index()) {
                constraint.kind = ConstraintKind::KeyRef(key);
            }
        }
    }
}
