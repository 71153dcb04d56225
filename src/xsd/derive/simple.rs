//! Derives simple types (XSD 1.0 Part 1, §3.14.6).

use crate::budget::Exhausted;
use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{Derivations, RawDerivation, RawFacet, RawSimple};
use crate::xsd::datatypes::facets::Facets;
use crate::xsd::datatypes::simple_type::{Form, Role, SimpleId, SimpleType, Variety};
use crate::xsd::datatypes::text::WhiteSpace;

/// Most lists and unions within each other.
const MAX_NESTING: u32 = 24;

impl Builder {
    /// Makes room for all simple types, so that each can be derived when its turn comes.
    pub(crate) fn make_room(&mut self) {
        let Some(any) = self.simple.first().cloned() else { return };
        let any = SimpleType { name: None, ..any };
        let count = (self.builtin as usize).saturating_add(self.components.raw_simple.len());
        self.simple.resize(count, any);
    }

    pub(crate) fn derive_simple(&mut self, id: SimpleId) {
        let index = id.index().checked_sub(self.builtin as usize);
        let Some(raw) = index.and_then(|index| self.components.raw_simple.get(index)).cloned() else { return };
        let derived = match &raw.derivation {
            RawDerivation::Restriction { base, facets } => {
                self.check_final(*base, Derivations::RESTRICTION, &raw, "st-props-correct.3");
                if *base == SimpleId::ANY && self.problems.is_empty() {
                    let message = "`xs:anySimpleType` cannot be restricted";
                    self.problems.add(raw.place, "cos-st-restricts.1.1", message);
                }
                self.restrict(*base, facets, &raw)
            }
            RawDerivation::List(item) => self.list(*item, &raw),
            RawDerivation::Union(members) => self.union(members, &raw),
            RawDerivation::OfContent => return,
        };
        self.set_simple(id, derived, &raw);
    }

    fn set_simple(&mut self, id: SimpleId, derived: SimpleType, raw: &RawSimple) {
        if derived.nesting > MAX_NESTING {
            let message = format!("more than {MAX_NESTING} lists and unions are within each other");
            self.problems.add(raw.place, "st-props-correct", message);
        }
        let constrained = derived.facets.any();
        if let Some(ty) = self.simple.get_mut(id.index()) {
            *ty = SimpleType { name: raw.name, constrained, ..derived };
        }
    }

    /// Derives the type of the content of a complex type.
    pub(crate) fn derive_content(&mut self, id: SimpleId, base: SimpleId, facets: &[RawFacet]) {
        let index = id.index().checked_sub(self.builtin as usize);
        let Some(raw) = index.and_then(|index| self.components.raw_simple.get(index)).cloned() else { return };
        let derived = self.restrict(base, facets, &raw);
        self.set_simple(id, derived, &raw);
    }

    pub(crate) fn simple_final(&self, id: SimpleId) -> Derivations {
        let index = id.index().checked_sub(self.builtin as usize);
        index
            .and_then(|index| self.components.raw_simple.get(index))
            .map_or_else(Derivations::default, |raw| raw.final_)
    }

    fn check_final(&mut self, id: SimpleId, how: Derivations, raw: &RawSimple, constraint: &'static str) {
        if self.simple_final(id).intersects(how) {
            self.problems.add(raw.place, constraint, "the type that this one is derived from is final");
        }
    }

    fn restrict(&mut self, base: SimpleId, facets: &[RawFacet], raw: &RawSimple) -> SimpleType {
        let Some(ty) = self.simple.get(base.index()).cloned() else { return self.any(base) };
        let mut derived = SimpleType { base, ..ty };
        self.add_facets(&mut derived, facets, raw.place);
        derived
    }

    fn any(&self, base: SimpleId) -> SimpleType {
        SimpleType {
            name: None,
            base,
            variety: Variety::Any,
            form: Form::Primitive,
            role: Role::None,
            has_roles: false,
            white_space: WhiteSpace::Preserve,
            facets: Facets::default(),
            constrained: false,
            nesting: 0,
        }
    }

    fn list(&mut self, item: SimpleId, raw: &RawSimple) -> SimpleType {
        self.check_final(item, Derivations::LIST, raw, "cos-st-restricts.2.3.1");
        let (mut has_roles, mut nesting) = (false, 1);
        if let Some(ty) = self.simple.get(item.index()) {
            has_roles = ty.has_roles;
            nesting = ty.nesting.saturating_add(1);
        }
        match self.has_list(item) {
            Ok(false) => {}
            Ok(true) => self.problems.add(raw.place, "cos-list-of-atomic", "the items of a list cannot be lists"),
            Err(Exhausted) => {
                let message = "the unions that are items of lists have too many members, all together";
                self.problems.add(raw.place, "cos-list-of-atomic", message);
            }
        }
        if item == SimpleId::ANY && self.problems.is_empty() {
            self.problems.add(raw.place, "cos-st-restricts.2.1", "the items of a list cannot be `xs:anySimpleType`");
        }
        let white_space = WhiteSpace::Collapse;
        SimpleType { variety: Variety::List(item), has_roles, nesting, white_space, ..self.any(SimpleId::ANY) }
    }

    /// Whether a value of a type may be a list.
    fn has_list(&mut self, id: SimpleId) -> Result<bool, Exhausted> {
        let mut left = vec![id];
        while let Some(ty) = left.pop().and_then(|id| self.simple.get(id.index())) {
            match &ty.variety {
                Variety::Union(members) => {
                    self.steps.take(members.len() as u64)?;
                    left.extend(members.iter().copied());
                }
                Variety::List(_) => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }

    fn union(&mut self, members: &[SimpleId], raw: &RawSimple) -> SimpleType {
        let (mut has_roles, mut nesting) = (false, 0);
        for member in members {
            self.check_final(*member, Derivations::UNION, raw, "cos-st-restricts.3.3.1");
            if let Some(ty) = self.simple.get(member.index()) {
                has_roles |= ty.has_roles;
                nesting = nesting.max(ty.nesting);
            }
        }
        let nesting = nesting.saturating_add(1);
        SimpleType { variety: Variety::Union(members.into()), has_roles, nesting, ..self.any(SimpleId::ANY) }
    }
}
