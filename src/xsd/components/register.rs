//! Gives every global component its number, so that references are resolved whatever comes first.

use std::collections::HashSet;

use super::context::{Builder, next};
use super::model::{
    AttributeDecl, AttributeGroup, AttributeGroupId, AttributeId, AttributeSet, ComplexId, ComplexType, ConstraintId,
    ConstraintKind, Content, Derivations, ElementDecl, ElementId, GroupId, GroupKind, IdentityConstraint, ModelGroup,
    RawContent, RawDerivation, RawSimple, TypeId,
};
use super::work::{At, Task};
use super::work::{Old, Redefinition};
use crate::xsd::content::index::GroupIndex;
use crate::xsd::datatypes::simple_type::{SimpleId, SimpleType};
use crate::xsd::document::tree::NodeId;
use crate::xsd::names::{QName, Sym};
use crate::xsd::problem::Place;
use crate::xsd::schema::TypeRule;

impl Builder {
    pub(crate) fn new_simple(&mut self, name: Option<QName>, at: At) -> SimpleId {
        let id = SimpleId(self.builtin.saturating_add(next(&self.components.raw_simple)));
        let derivation = RawDerivation::Restriction { base: SimpleId::ANY, facets: Vec::new() };
        let place = self.place(at);
        self.keep_entries::<RawSimple>(1);
        self.keep_entries::<SimpleType>(1);
        self.components.raw_simple.push(RawSimple { name, place, derivation, final_: Derivations::default() });
        id
    }

    pub(crate) fn new_complex(&mut self, name: Option<QName>, at: At) -> ComplexId {
        let id = ComplexId(next(&self.components.complex));
        let place = self.place(at);
        self.keep_entries::<ComplexType>(1);
        self.keep_entries::<TypeRule>(1);
        self.components.complex.push(ComplexType {
            name,
            place,
            base: TypeId::ANY,
            extends: false,
            is_abstract: false,
            block: Derivations::default(),
            final_: Derivations::default(),
            raw: RawContent::Elements { particle: None, mixed: false },
            own: AttributeSet::default(),
            content: Content::Empty,
            uses: Vec::new(),
            wildcard: None,
        });
        id
    }

    pub(crate) fn new_element(&mut self, name: QName, at: At) -> ElementId {
        let id = ElementId(next(&self.components.elements));
        let place = self.place(at);
        self.keep_entries::<ElementDecl>(1);
        self.components.elements.push(ElementDecl {
            name,
            place,
            ty: TypeId::ANY,
            nillable: false,
            is_abstract: false,
            value: None,
            block: Derivations::default(),
            final_: Derivations::default(),
            head: None,
            constraints: Vec::new(),
            type_of_head: false,
        });
        id
    }

    pub(crate) fn new_attribute(&mut self, name: QName, at: At) -> AttributeId {
        let id = AttributeId(next(&self.components.attributes));
        let place = self.place(at);
        self.keep_entries::<AttributeDecl>(1);
        self.components.attributes.push(AttributeDecl { name, place, ty: SimpleId::ANY, value: None });
        id
    }

    pub(crate) fn new_group(&mut self) -> GroupId {
        let id = GroupId(next(&self.components.groups));
        self.keep_entries::<ModelGroup>(1);
        self.keep_entries::<GroupIndex>(1);
        self.components.groups.push(ModelGroup { kind: GroupKind::Sequence, particles: Vec::new() });
        id
    }

    fn new_attribute_group(&mut self, at: At) -> AttributeGroupId {
        let id = AttributeGroupId(next(&self.components.attribute_groups));
        let place = self.place(at);
        self.keep_entries::<AttributeGroup>(1);
        self.components.attribute_groups.push(AttributeGroup { place, ..AttributeGroup::default() });
        id
    }

    /// Registers an identity constraint. Their names are global, though they are within elements.
    pub(crate) fn new_constraint(&mut self, at: At) -> ConstraintId {
        let name = self.own_name(at);
        let id = ConstraintId(next(&self.components.constraints));
        let kind = ConstraintKind::Unique;
        self.keep_entries::<IdentityConstraint>(1);
        let constraint = IdentityConstraint { name, kind, selector: Vec::new(), fields: Vec::new() };
        self.components.constraints.push(constraint);
        if self.components.globals.constraints.insert(name, id).is_some() {
            self.duplicate(at, "identity constraint", name);
        }
        self.tasks.push_back((Task::Constraint(id), at));
        id
    }

    fn duplicate(&mut self, at: At, what: &str, name: QName) {
        let shown = self.show(name);
        self.problem(at, "sch-props-correct.2", format!("the {what} `{shown}` is defined twice"));
    }

    /// Registers what is global in all documents, then what is redefined.
    pub(crate) fn register(&mut self) {
        let numbers = (0..next(&self.documents)).zip(&self.documents);
        let own: Vec<u32> =
            numbers.filter(|(_, document)| document.copy_of.is_none()).map(|(number, _)| number).collect();
        for document in own {
            let root = At { document, node: NodeId::ROOT };
            for (at, kind) in self.children(root) {
                self.register_global(at, &kind);
            }
        }
        for document in self.inner_first() {
            let root = At { document, node: NodeId::ROOT };
            for (at, kind) in self.children(root) {
                if &*kind == "redefine" {
                    self.register_redefinitions(at);
                }
            }
        }
    }

    /// All documents, each after those that it includes or redefines: their redefinitions come before its own.
    fn inner_first(&self) -> Vec<u32> {
        let original = |number: u32| {
            let copy_of = self.documents.get(number as usize).and_then(|document| document.copy_of);
            copy_of.unwrap_or(number)
        };
        let mut included: Vec<_> = self.included.iter().map(|(from, to)| (original(*from), original(*to))).collect();
        // The first reference of a document is the last one that is taken.
        included.reverse();
        included.sort_by_key(|(from, _)| *from);
        let of = |number: u32| {
            let start = included.partition_point(|(from, _)| *from < number);
            let rest = included.get(start..).unwrap_or_default();
            rest.iter().take_while(move |(from, _)| *from == number).map(|(_, to)| *to)
        };
        let (mut begun, mut order) = (HashSet::new(), Vec::with_capacity(self.documents.len()));
        for first in 0..next(&self.documents) {
            let mut left = vec![(first, false)];
            while let Some((number, is_done)) = left.pop() {
                if is_done {
                    order.push(number);
                } else if original(number) == number && begun.insert(number) {
                    left.push((number, true));
                    left.extend(of(number).filter(|to| !begun.contains(to)).map(|to| (to, false)));
                }
            }
        }
        order
    }

    fn register_global(&mut self, at: At, kind: &str) {
        let name = self.own_name(at);
        // The schema for schemas defines what is built in.
        let globals = &self.components.globals;
        let built_in = (name.ns == Sym::XSD && globals.types.get(&name).is_some_and(|id| self.is_built_in(*id)))
            || (name.ns == Sym::XSI && globals.attributes.contains_key(&name));
        if built_in && matches!(kind, "simpleType" | "complexType" | "attribute") {
            return;
        }
        let known = match kind {
            "simpleType" => {
                let id = self.new_simple(Some(name), at);
                self.tasks.push_back((Task::Simple(id), at));
                self.components.globals.types.insert(name, TypeId::Simple(id)).is_some()
            }
            "complexType" => {
                let id = self.new_complex(Some(name), at);
                self.tasks.push_back((Task::Complex(id), at));
                self.components.globals.types.insert(name, TypeId::Complex(id)).is_some()
            }
            "element" => {
                let id = self.new_element(name, at);
                self.tasks.push_back((Task::Element(id), at));
                self.components.globals.elements.insert(name, id).is_some()
            }
            "attribute" => {
                let id = self.new_attribute(name, at);
                self.tasks.push_back((Task::Attribute(id), at));
                self.components.globals.attributes.insert(name, id).is_some()
            }
            "group" => {
                let id = self.new_group();
                self.tasks.push_back((Task::Group(id), at));
                self.components.globals.groups.insert(name, id).is_some()
            }
            "attributeGroup" => {
                let id = self.new_attribute_group(at);
                self.tasks.push_back((Task::AttributeGroup(id), at));
                self.components.globals.attribute_groups.insert(name, id).is_some()
            }
            "notation" => {
                let place = self.place(at);
                self.check_notation(at);
                self.components.globals.notations.insert(name, place).is_some()
            }
            _ => return,
        };
        if known {
            self.duplicate(at, kind, name);
        }
    }

    fn is_built_in(&self, id: TypeId) -> bool {
        match id {
            TypeId::Simple(id) => id.0 < self.builtin,
            TypeId::Complex(id) => id == ComplexId::ANY,
        }
    }

    fn check_notation(&mut self, at: At) {
        if self.raw(at, "public").is_none() && self.raw(at, "system").is_none() {
            self.problem(at, "src-notation", "a notation has neither `public` nor `system`");
        }
    }

    /// The component of this kind and name that a redefinition is of.
    fn to_redefine(&self, kind: &str, name: QName) -> Option<Old> {
        let globals = &self.components.globals;
        match (kind, globals.types.get(&name)) {
            ("simpleType", Some(id @ TypeId::Simple(_))) | ("complexType", Some(id @ TypeId::Complex(_))) => {
                Some(Old::Type(*id))
            }
            ("group", _) => globals.groups.get(&name).copied().map(Old::Group),
            ("attributeGroup", _) => globals.attribute_groups.get(&name).copied().map(Old::AttributeGroup),
            _ => None,
        }
    }

    fn register_redefinitions(&mut self, redefine: At) {
        let children = self.children(redefine);
        let document = self.document(redefine);
        let end_of = |node: NodeId| document.as_ref().and_then(|document| document.tree.after(node));
        for (at, kind) in children {
            let name = self.own_name(at);
            if !matches!(&*kind, "simpleType" | "complexType" | "group" | "attributeGroup") {
                continue;
            }
            let Some(old) = self.to_redefine(&kind, name) else {
                let shown = self.show(name);
                self.problem(at, "src-redefine", format!("the redefined document has no {kind} `{shown}`"));
                continue;
            };
            let known = self.redefined.get(&(at.document, name)).map_or(&[][..], Vec::as_slice);
            if known.iter().filter_map(|other| self.redefinitions.get(*other)).any(|other| other.new == old) {
                // Another one of the same name is not registered, so that these are few.
                self.duplicate(at, &kind, name);
                continue;
            }
            let new = match old {
                Old::Type(TypeId::Simple(_)) => {
                    let id = self.new_simple(Some(name), at);
                    self.tasks.push_back((Task::Simple(id), at));
                    self.components.globals.types.insert(name, TypeId::Simple(id));
                    Old::Type(TypeId::Simple(id))
                }
                Old::Type(TypeId::Complex(_)) => {
                    let id = self.new_complex(Some(name), at);
                    self.tasks.push_back((Task::Complex(id), at));
                    self.components.globals.types.insert(name, TypeId::Complex(id));
                    Old::Type(TypeId::Complex(id))
                }
                Old::Group(_) => {
                    let id = self.new_group();
                    self.tasks.push_back((Task::Group(id), at));
                    self.components.globals.groups.insert(name, id);
                    Old::Group(id)
                }
                Old::AttributeGroup(_) => {
                    let id = self.new_attribute_group(at);
                    self.tasks.push_back((Task::AttributeGroup(id), at));
                    self.components.globals.attribute_groups.insert(name, id);
                    Old::AttributeGroup(id)
                }
            };
            self.redefined.entry((at.document, name)).or_default().push(self.redefinitions.len());
            self.redefinitions.push(Redefinition { name, at, end: end_of(at.node), old, new });
        }
    }

    /// The built-in complex type `xs:anyType`.
    pub(crate) fn add_any_type(&mut self) {
        let any = QName::new(Sym::XSD, self.names.intern("anyType"));
        let at = At { document: u32::MAX, node: NodeId::ROOT };
        let id = self.new_complex(Some(any), at);
        self.components.globals.types.insert(any, TypeId::Complex(id));
        let wildcard = super::model::Wildcard {
            namespaces: super::model::Namespaces::Any,
            process: super::model::Process::Lax,
            place: Place::default(),
        };
        let term = super::model::Term::Wildcard(wildcard.clone());
        let place = Place::default();
        let any = self.add_particle(super::model::Particle { min: 0, max: None, term, place });
        let group = self.new_group();
        if let Some(group) = self.components.groups.get_mut(group.index()) {
            group.particles.push(any);
        }
        let term = super::model::Term::Group(group);
        let particle = self.add_particle(super::model::Particle { min: 1, max: Some(1), term, place });
        if let Some(ty) = self.components.complex.get_mut(id.index()) {
            ty.raw = RawContent::Elements { particle: Some(particle), mixed: true };
            ty.content = Content::Elements { particle, mixed: true };
            ty.wildcard = Some(wildcard);
        }
    }
}
