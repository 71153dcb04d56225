//! Builds complex types from their elements (XSD 1.0 Part 1, §3.4.2), up to what they have from their base.

use super::context::Builder;
use super::model::{ComplexId, Derivations, ParticleId, RawContent, RawDerivation, TypeId};
use super::work::At;
use crate::xsd::datatypes::simple_type::SimpleId;

impl Builder {
    pub(crate) fn build_complex(&mut self, id: ComplexId, at: At) {
        let both = Derivations::EXTENSION.with(Derivations::RESTRICTION);
        let block = self.derivations(at, "block", "blockDefault", both);
        let final_ = self.derivations(at, "final", "finalDefault", both);
        let is_abstract = self.flag(at, "abstract");
        let content = self.child(at, &["simpleContent", "complexContent"]);
        let derivation = content.and_then(|content| self.child(content, &["restriction", "extension"]));
        let mut base = TypeId::ANY;
        let mut extends = false;
        if let Some(derivation) = derivation {
            let name = self.attribute(derivation, "base").unwrap_or_default();
            base = self.find_type(derivation, &name).unwrap_or(TypeId::ANY);
            extends = self.kind(derivation) == "extension";
        }
        let simple = content.is_some_and(|content| self.kind(content) == "simpleContent");
        let source = derivation.unwrap_or(at);
        let raw = if simple {
            let inner = self.child(source, &["simpleType"]).filter(|_| !extends);
            let inner = inner.map(|inner| self.anonymous_simple(inner));
            let facets = if extends { Vec::new() } else { self.raw_facets(source) };
            let reserved = self.new_simple(None, source);
            if let Some(raw) = self.raw_simple(reserved) {
                raw.derivation = RawDerivation::OfContent;
            }
            RawContent::Simple { inner, facets, reserved }
        } else {
            let mixed = match content.and_then(|content| self.attribute(content, "mixed")) {
                Some(mixed) => matches!(mixed.as_str(), "true" | "1"),
                None => self.flag(at, "mixed"),
            };
            RawContent::Elements { particle: self.explicit_content(source), mixed }
        };
        let own = self.attribute_set(source);
        if let Some(ty) = self.components.complex.get_mut(id.index()) {
            ty.base = base;
            ty.extends = extends;
            ty.is_abstract = is_abstract;
            ty.block = block;
            ty.final_ = final_;
            ty.raw = raw;
            ty.own = own;
        }
        if simple && base == TypeId::Simple(SimpleId::ANY) && !extends {
            self.problem(source, "src-ct.2", "a type with simple content cannot restrict a simple type");
        }
    }

    /// The content model; `None` if there is none, or if it is empty.
    fn explicit_content(&mut self, at: At) -> Option<ParticleId> {
        let model = self.child(at, &["group", "all", "choice", "sequence"])?;
        let particle = self.group_particle(model)?;
        let kind = self.kind(model).to_owned();
        let childless = self.children(model).is_empty();
        let optional = self.components.particles.get(particle.index()).is_some_and(|particle| particle.min == 0);
        match kind.as_str() {
            "all" | "sequence" if childless => None,
            "choice" if childless && optional => None,
            _ => Some(particle),
        }
    }
}
