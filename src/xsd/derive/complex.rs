//! The content of complex types (XSD 1.0 Part 1, §3.4.2 and §3.4.6).

use crate::xsd::components::context::{Builder, next};
use crate::xsd::components::model::{
    ComplexId, ComplexType, Content, Derivations, GroupId, GroupKind, ModelGroup, Particle, ParticleId, RawContent,
    Term, TypeId, ValueConstraint,
};
use crate::xsd::components::work::At;
use crate::xsd::datatypes::check::Checker;
use crate::xsd::datatypes::simple_type::SimpleId;
use crate::xsd::datatypes::value::Value;
use crate::xsd::document::tree::NodeId;

use super::facets::InSchema;

impl Builder {
    pub(crate) fn derive_complex(&mut self, id: ComplexId) {
        if id == ComplexId::ANY {
            return;
        }
        let Some(ty) = self.components.complex.get(id.index()).cloned() else { return };
        self.check_base_final(&ty);
        let content = match &ty.raw {
            RawContent::Simple { inner, facets, reserved } => {
                let facets = facets.clone();
                self.simple_content(&ty, *inner, &facets, *reserved)
            }
            RawContent::Elements { particle, mixed } => self.element_content(&ty, *particle, *mixed),
        };
        if let Some(ty) = self.components.complex.get_mut(id.index()) {
            ty.content = content;
        }
        self.derive_attributes(id);
    }

    fn check_base_final(&mut self, ty: &ComplexType) {
        let final_ = match ty.base {
            TypeId::Simple(base) => self.simple_final(base),
            TypeId::Complex(base) => {
                self.components.complex.get(base.index()).map_or_else(Derivations::default, |base| base.final_)
            }
        };
        if ty.extends && final_.intersects(Derivations::EXTENSION) {
            self.problems.add(ty.place, "cos-ct-extends.1.1", "the base is final, and cannot be extended");
        }
        if !ty.extends && final_.intersects(Derivations::RESTRICTION) {
            self.problems.add(ty.place, "derivation-ok-restriction.1", "the base is final, and cannot be restricted");
        }
    }

    fn simple_content(
        &mut self,
        ty: &ComplexType,
        inner: Option<SimpleId>,
        facets: &[crate::xsd::components::model::RawFacet],
        reserved: SimpleId,
    ) -> Content {
        let fail = |builder: &mut Self, message: &str| {
            builder.problems.add(ty.place, "src-ct.2", message);
            Content::Simple(SimpleId::ANY)
        };
        let base = match ty.base {
            TypeId::Simple(base) if ty.extends => return Content::Simple(base),
            TypeId::Simple(_) => return fail(self, "simple content can restrict only a complex type"),
            TypeId::Complex(base) => base,
        };
        let content = self.components.complex.get(base.index()).map_or(Content::Empty, |base| base.content.clone());
        match content {
            Content::Simple(base) if ty.extends => Content::Simple(base),
            Content::Simple(base) => {
                if inner.is_some_and(|inner| !self.is_simple_derived(inner, base, ty.place)) {
                    let message = "the type of the content is not derived from that of the base";
                    self.problems.add(ty.place, "derivation-ok-restriction.5.1.1", message);
                }
                self.derive_content(reserved, inner.unwrap_or(base), facets);
                Content::Simple(reserved)
            }
            Content::Elements { particle, mixed: true } if !ty.extends => match inner {
                Some(inner) if self.is_emptiable(particle) => {
                    self.derive_content(reserved, inner, facets);
                    Content::Simple(reserved)
                }
                Some(_) => fail(self, "the base has elements that cannot be left out"),
                None => fail(self, "a mixed base can have simple content only with a `simpleType` within"),
            },
            _ => fail(self, "the base has no simple content"),
        }
    }

    fn element_content(&mut self, ty: &ComplexType, particle: Option<ParticleId>, mixed: bool) -> Content {
        let own = match particle {
            Some(particle) => Content::Elements { particle, mixed },
            None if mixed => Content::Elements { particle: self.empty_particle(), mixed },
            None => Content::Empty,
        };
        let base = match ty.base {
            TypeId::Complex(base) => base,
            TypeId::Simple(_) => {
                self.problems.add(ty.place, "src-ct.1", "complex content can be derived only from a complex type");
                return own;
            }
        };
        if !ty.extends {
            return own;
        }
        let content = self.components.complex.get(base.index()).map_or(Content::Empty, |base| base.content.clone());
        match (content, own) {
            (base, Content::Empty) => base,
            (Content::Empty, own) => own,
            (Content::Simple(_), own) => {
                let message = "the base has simple content, which cannot be extended by elements";
                self.problems.add(ty.place, "cos-ct-extends.1.4.1", message);
                own
            }
            (Content::Elements { particle: first, mixed: theirs }, Content::Elements { particle: second, mixed }) => {
                if theirs != mixed {
                    let message = "the base and its extension must both be mixed, or neither";
                    self.problems.add(ty.place, "cos-ct-extends.1.4.2.2.2.1", message);
                }
                Content::Elements { particle: self.in_sequence(&[first, second], ty), mixed }
            }
            (Content::Elements { .. }, own @ Content::Simple(_)) => own,
        }
    }

    /// A particle that is these one after the other.
    fn in_sequence(&mut self, particles: &[ParticleId], ty: &ComplexType) -> ParticleId {
        let id = GroupId(next(&self.components.groups));
        let group = ModelGroup { kind: GroupKind::Sequence, particles: particles.to_vec() };
        self.components.groups.push(group);
        self.add_particle(Particle { min: 1, max: Some(1), term: Term::Group(id), place: ty.place })
    }

    fn empty_particle(&mut self) -> ParticleId {
        let at = At { document: u32::MAX, node: NodeId::ROOT };
        let group = self.new_group();
        let place = self.place(at);
        self.add_particle(Particle { min: 1, max: Some(1), term: Term::Group(group), place })
    }

    /// Whether two values of a type are the same.
    pub(crate) fn same_value(&self, ty: SimpleId, one: &ValueConstraint, two: &ValueConstraint) -> bool {
        match (self.value_of(ty, one), self.value_of(ty, two)) {
            (Some(one), Some(two)) => one == two,
            _ => one.text == two.text,
        }
    }

    /// The value that a default or fixed text is; `None` if it is not of the type.
    pub(crate) fn value_of(&self, ty: SimpleId, value: &ValueConstraint) -> Option<Value> {
        let notations = &self.components.globals.notations;
        let around = InSchema { prefixes: &value.prefixes, names: &self.names, notations };
        let check = |work: &_| Checker::new(&self.simple, &around, work).check(ty, &value.text, true, &mut Vec::new());
        self.values.judge(check)?.ok().flatten()
    }
}
