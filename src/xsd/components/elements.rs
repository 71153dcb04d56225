//! Builds element declarations from their elements (XSD 1.0 Part 1, §3.3.2).

use std::sync::Arc;

use super::context::Builder;
use super::model::{Derivations, ElementId, Particle, ParticleId, Term, TypeId, ValueConstraint};
use super::syntax::number;
use super::work::{At, Task};
use crate::xsd::datatypes::text::collapse;
use crate::xsd::names::{QName, Sym};

impl Builder {
    /// `minOccurs` and `maxOccurs`.
    pub(crate) fn occurrence(&mut self, at: At) -> (u32, Option<u32>) {
        let count = |text: &str| u32::try_from(number(text)).unwrap_or(u32::MAX);
        let (min, max) = (self.attribute(at, "minOccurs"), self.attribute(at, "maxOccurs"));
        let min = min.as_deref().map_or(1, count);
        let max = match max.as_deref() {
            None => Some(1),
            Some("unbounded") => None,
            Some(max) => Some(count(max)),
        };
        if max.is_some_and(|max| min > max) {
            self.problem(at, "p-props-correct.2.1", "`minOccurs` is greater than `maxOccurs`");
        }
        (min, max)
    }

    /// Makes the particle of an element within a group; `None` if it occurs never.
    pub(crate) fn element_particle(&mut self, at: At) -> Option<ParticleId> {
        let (min, max) = self.occurrence(at);
        let reference = self.attribute(at, "ref");
        self.check_element_syntax(at, reference.is_some());
        let element = match reference {
            Some(name) => self.find_element(at, &name)?,
            None => {
                let form = self.raw(at, "form").map(|form| collapse(form).into());
                let form = form.or_else(|| self.of_schema(at, "elementFormDefault"));
                let mut name = self.own_name(at);
                if form.as_deref() != Some("qualified") {
                    name = QName::new(Sym::NONE, name.local);
                }
                let id = self.new_element(name, at);
                self.tasks.push_back((Task::Element(id), at));
                id
            }
        };
        if max == Some(0) {
            return None;
        }
        let place = self.place(at);
        Some(self.add_particle(Particle { min, max, term: Term::Element(element), place }))
    }

    fn check_element_syntax(&mut self, at: At, reference: bool) {
        if !reference {
            if self.raw(at, "name").is_none() {
                self.problem(at, "src-element.2.1", "an element has neither `name` nor `ref`");
            }
            return;
        }
        if self.raw(at, "name").is_some() {
            self.problem(at, "src-element.2.1", "an element has both `name` and `ref`");
        }
        for attribute in ["nillable", "default", "fixed", "form", "block", "type"] {
            if self.raw(at, attribute).is_some() {
                self.problem(at, "src-element.2.2", format!("an element with `ref` cannot have `{attribute}`"));
            }
        }
        if !self.children(at).is_empty() {
            self.problem(at, "src-element.2.2", "an element with `ref` cannot have a type or constraints of its own");
        }
    }

    pub(crate) fn build_element(&mut self, id: ElementId, at: At) {
        let ty = self.type_of(at, "src-element.3");
        let substitution = self.attribute(at, "substitutionGroup");
        let head = substitution.and_then(|name| self.find_element(at, &name));
        let value = self.value_constraint(at, "src-element.1");
        let both = Derivations::EXTENSION.with(Derivations::RESTRICTION);
        let block = self.derivations(at, "block", "blockDefault", both.with(Derivations::SUBSTITUTION));
        let final_ = self.derivations(at, "final", "finalDefault", both);
        let (nillable, is_abstract) = (self.flag(at, "nillable"), self.flag(at, "abstract"));
        let mut constraints = Vec::new();
        for (child, kind) in self.children(at) {
            if matches!(&*kind, "unique" | "key" | "keyref") {
                constraints.push(self.new_constraint(child));
            }
        }
        if let Some(element) = self.components.elements.get_mut(id.index()) {
            element.type_of_head = ty.is_none() && head.is_some();
            element.ty = ty.unwrap_or(TypeId::ANY);
            element.head = head;
            element.value = value;
            element.block = block;
            element.final_ = final_;
            element.nillable = nillable;
            element.is_abstract = is_abstract;
            element.constraints = constraints;
        }
    }

    /// The type that `type` names or that is within; `None` if there is neither.
    fn type_of(&mut self, at: At, constraint: &'static str) -> Option<TypeId> {
        let inner = self.child(at, &["simpleType", "complexType"]);
        let Some(name) = self.attribute(at, "type") else {
            let inner = inner?;
            return Some(if self.kind(inner) == "simpleType" {
                TypeId::Simple(self.anonymous_simple(inner))
            } else {
                let id = self.new_complex(None, inner);
                self.tasks.push_back((Task::Complex(id), inner));
                TypeId::Complex(id)
            });
        };
        if inner.is_some() {
            self.problem(at, constraint, "there are both `type` and a type within");
        }
        Some(self.find_type(at, &name).unwrap_or(TypeId::ANY))
    }

    /// `default` or `fixed`.
    pub(crate) fn value_constraint(&mut self, at: At, constraint: &'static str) -> Option<Arc<ValueConstraint>> {
        let (default, fixed) = (self.raw(at, "default"), self.raw(at, "fixed"));
        let both = default.is_some() && fixed.is_some();
        let (text, fixed) = match (default, fixed) {
            (_, Some(text)) => (text, true),
            (Some(text), None) => (text, false),
            (None, None) => return None,
        };
        let text: Arc<str> = text.into();
        let prefixes = self.prefixes(at, &text);
        let value = ValueConstraint { fixed, text, prefixes };
        self.room.keep(value.text.len());
        self.keep_entries::<(Box<str>, Sym)>(value.prefixes.len());
        if both {
            self.problem(at, constraint, "there are both `default` and `fixed`");
        }
        Some(Arc::new(value))
    }
}
