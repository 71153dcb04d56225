//! Builds simple types from their elements (XSD 1.0 Part 1, §3.14.2).

use super::context::Builder;
use super::model::{Derivations, RawDerivation, RawFacet, RawSimple};
use super::work::{At, Task};
use crate::xsd::datatypes::facets::Facet;
use crate::xsd::datatypes::simple_type::SimpleId;
use crate::xsd::datatypes::text::{collapse, words};
use crate::xsd::names::Sym;

impl Builder {
    /// The type of a `simpleType` within another element.
    pub(crate) fn anonymous_simple(&mut self, at: At) -> SimpleId {
        let id = self.new_simple(None, at);
        self.tasks.push_back((Task::Simple(id), at));
        id
    }

    pub(crate) fn build_simple(&mut self, id: SimpleId, at: At) {
        let allowed =
            Derivations::LIST.with(Derivations::UNION).with(Derivations::RESTRICTION).with(Derivations::EXTENSION);
        let final_ = self.derivations(at, "final", "finalDefault", allowed);
        let Some(inner) = self.child(at, &["restriction", "list", "union"]) else { return };
        let derivation = match self.kind(inner) {
            "restriction" => {
                let base = self.one_type(inner, "base", "src-restriction-base-or-simpleType");
                let facets = self.raw_facets(inner);
                RawDerivation::Restriction { base, facets }
            }
            "list" => RawDerivation::List(self.one_type(inner, "itemType", "src-list-itemType-or-simpleType")),
            _ => RawDerivation::Union(self.member_types(inner)),
        };
        if let Some(raw) = self.raw_simple(id) {
            raw.derivation = derivation;
            raw.final_ = final_;
        }
    }

    pub(crate) fn raw_simple(&mut self, id: SimpleId) -> Option<&mut RawSimple> {
        let index = id.index().checked_sub(self.builtin as usize)?;
        self.components.raw_simple.get_mut(index)
    }

    /// The type that either an attribute names or a `simpleType` within is.
    fn one_type(&mut self, at: At, attribute: &str, constraint: &'static str) -> SimpleId {
        let named = self.attribute(at, attribute);
        let inner = self.child(at, &["simpleType"]);
        match (named, inner) {
            (Some(name), None) => self.find_simple(at, &name).unwrap_or(SimpleId::ANY),
            (None, Some(inner)) => self.anonymous_simple(inner),
            (Some(_), Some(_)) => {
                self.problem(at, constraint, format!("there are both `{attribute}` and a `simpleType`"));
                SimpleId::ANY
            }
            (None, None) => {
                self.problem(at, constraint, format!("there is neither `{attribute}` nor a `simpleType`"));
                SimpleId::ANY
            }
        }
    }

    fn member_types(&mut self, at: At) -> Vec<SimpleId> {
        let mut members = Vec::new();
        let named = self.attribute(at, "memberTypes").unwrap_or_default();
        for name in words(&named) {
            if self.room.is_short() {
                break;
            }
            members.extend(self.find_simple(at, name));
        }
        for (child, kind) in self.children(at) {
            if &*kind == "simpleType" {
                members.push(self.anonymous_simple(child));
            }
        }
        if members.is_empty() && named.is_empty() {
            let message = "a union has neither `memberTypes` nor a `simpleType`";
            self.problem(at, "src-union-memberTypes-or-simpleTypes", message);
        }
        members
    }

    /// The facets in a `restriction`.
    pub(crate) fn raw_facets(&mut self, at: At) -> Vec<RawFacet> {
        let (mut facets, mut seen): (Vec<RawFacet>, u16) = (Vec::new(), 0);
        for (child, kind) in self.children(at) {
            let Some(facet) = Facet::of_name(&kind) else { continue };
            let repeated = seen & facet.bit() != 0;
            seen |= facet.bit();
            if repeated && !matches!(facet, Facet::Pattern | Facet::Enumeration) {
                self.problem(child, "src-single-facet-value", format!("`{kind}` is there twice"));
                continue;
            }
            let value: Box<str> = self.raw(child, "value").unwrap_or_default().into();
            let prefixes = if facet == Facet::Enumeration { self.prefixes(child, &value) } else { Vec::new() };
            let fixed = self.flag(child, "fixed");
            self.keep_entries::<RawFacet>(1);
            self.keep_entries::<(Box<str>, Sym)>(prefixes.len());
            self.room.keep(value.len());
            facets.push(RawFacet { facet, value, fixed, place: self.place(child), prefixes });
        }
        facets
    }

    /// The set in an attribute such as `final`, or else in the schema's default for it.
    pub(crate) fn derivations(
        &mut self,
        at: At,
        name: &str,
        default: &'static str,
        allowed: Derivations,
    ) -> Derivations {
        let text = self.raw(at, name).map(|text| collapse(text).into());
        let Some(text) = text.or_else(|| self.of_schema(at, default)) else { return Derivations::default() };
        if &*text == "#all" {
            return allowed;
        }
        let set = words(&text).fold(Derivations::default(), |set, word| {
            set.with(match word {
                "extension" => Derivations::EXTENSION,
                "restriction" => Derivations::RESTRICTION,
                "substitution" => Derivations::SUBSTITUTION,
                "list" => Derivations::LIST,
                "union" => Derivations::UNION,
                _ => Derivations::default(),
            })
        });
        set.and(allowed)
    }
}
