//! Which type is derived from which, and how (XSD 1.0 Part 1, §3.4.6 and §3.14.6).

use crate::budget::{Exhausted, Steps};
use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{ComplexId, ComplexType, Content, Derivations, TypeId};
use crate::xsd::datatypes::simple_type::{SimpleId, SimpleType, Variety};
use crate::xsd::problem::Place;

/// The types of a schema.
#[derive(Clone, Copy)]
pub(crate) struct Types<'a> {
    pub(crate) simple: &'a [SimpleType],
    pub(crate) complex: &'a [ComplexType],
}

/// Steps to find out whether a type is derived from another one, beside those for the types between them.
const DERIVED: u64 = 16;
/// Types that are looked at in a step.
const BASES: u64 = 3;

impl Builder {
    pub(crate) fn types(&self) -> Types<'_> {
        Types { simple: &self.simple, complex: &self.components.complex }
    }

    /// Whether a simple type is another one, or derived from it. If the checks have taken too much to tell, that is a problem.
    pub(crate) fn is_simple_derived(&mut self, id: SimpleId, from: SimpleId, place: Place) -> bool {
        let types = Types { simple: &self.simple, complex: &self.components.complex };
        let derived = self.steps.take(DERIVED).and_then(|()| types.simple_derived(id, from, &mut self.steps));
        derived.unwrap_or_else(|Exhausted| {
            let message = "the simple types are derived through too many others, all together";
            self.problems.add(place, "st-props-correct", message);
            true
        })
    }
}

impl<'a> Types<'a> {
    /// The type that a type is derived from, and how; `None` for `xs:anyType`.
    fn base(self, id: TypeId) -> Option<(TypeId, Derivations)> {
        match id {
            TypeId::Complex(ComplexId::ANY) => None,
            TypeId::Complex(id) => {
                let ty = self.complex.get(id.index())?;
                let how = if ty.extends { Derivations::EXTENSION } else { Derivations::RESTRICTION };
                Some((ty.base, how))
            }
            TypeId::Simple(SimpleId::ANY) => Some((TypeId::ANY, Derivations::RESTRICTION)),
            TypeId::Simple(id) => {
                // Lists and unions are restrictions of `xs:anySimpleType`, as far as blocking goes.
                let ty = self.simple.get(id.index())?;
                Some((TypeId::Simple(ty.base), Derivations::RESTRICTION))
            }
        }
    }

    /// How a type is derived from another one, in all its steps; `None` if it is not.
    pub(crate) fn derivation(
        self,
        id: TypeId,
        from: TypeId,
        steps: &mut Steps,
    ) -> Result<Option<Derivations>, Exhausted> {
        let mut how = Derivations::default();
        let (mut at, mut length) = (id, 0_u64);
        // No chain is longer than there are types.
        let most = self.simple.len().saturating_add(self.complex.len()) as u64;
        while at != from && length <= most {
            let Some((base, step)) = self.base(at) else { break };
            how = how.with(step);
            (at, length) = (base, length.saturating_add(1));
        }
        steps.take(length / BASES)?;
        Ok((at == from).then_some(how))
    }

    /// `cos-st-derived-ok`: whether a simple type is the other one, or a restriction of it, or a member of its union.
    pub(crate) fn simple_derived(self, id: SimpleId, from: SimpleId, steps: &mut Steps) -> Result<bool, Exhausted> {
        if from == SimpleId::ANY || self.derivation(TypeId::Simple(id), TypeId::Simple(from), steps)?.is_some() {
            return Ok(true);
        }
        let mut bases = Vec::new();
        let mut left = vec![from];
        while let Some(ty) = left.pop().and_then(|from| self.simple.get(from.index())) {
            let Variety::Union(members) = &ty.variety else { continue };
            if bases.is_empty() {
                bases = self.bases(id, steps)?;
            }
            for member in members.iter() {
                steps.take(1)?;
                if bases.binary_search(member).is_ok() {
                    return Ok(true);
                }
                left.push(*member);
            }
        }
        Ok(false)
    }

    /// A simple type and those that it is derived from, sorted.
    fn bases(self, id: SimpleId, steps: &mut Steps) -> Result<Vec<SimpleId>, Exhausted> {
        let mut bases = vec![id];
        let mut at = TypeId::Simple(id);
        while let Some((TypeId::Simple(base), _)) = self.base(at) {
            steps.take(1)?;
            bases.push(base);
            at = TypeId::Simple(base);
        }
        bases.sort_unstable();
        Ok(bases)
    }

    /// `cos-ct-derived-ok` and `cos-st-derived-ok`: whether a type is derived from another one by none of these ways.
    pub(crate) fn derived(
        self,
        id: TypeId,
        from: TypeId,
        not_by: Derivations,
        steps: &mut Steps,
    ) -> Result<bool, Exhausted> {
        steps.take(DERIVED)?;
        match self.derivation(id, from, steps)? {
            Some(how) => Ok(!how.intersects(not_by)),
            None => self.derived_by_member(id, from, not_by, steps),
        }
    }

    /// Whether a type, or the simple type that a complex one extends, is of a member of the other one's union, which is a
    /// restriction of it (`cos-ct-derived-ok` 2.3.2, `cos-st-derived-ok` 2.2.4).
    fn derived_by_member(
        self,
        id: TypeId,
        from: TypeId,
        not_by: Derivations,
        steps: &mut Steps,
    ) -> Result<bool, Exhausted> {
        let TypeId::Simple(from) = from else { return Ok(false) };
        let (mut at, mut how, mut length) = (id, Derivations::RESTRICTION, 0_u64);
        while let (TypeId::Complex(_), Some((base, step))) = (at, self.base(at)) {
            (at, how, length) = (base, how.with(step), length.saturating_add(1));
            if length > self.complex.len() as u64 {
                break;
            }
        }
        steps.take(length / BASES)?;
        let TypeId::Simple(id) = at else { return Ok(false) };
        Ok(!how.intersects(not_by) && self.simple_derived(id, from, steps)?)
    }

    /// The simple type of a type's values.
    pub(crate) fn value_type(self, id: TypeId) -> Option<SimpleId> {
        match id {
            TypeId::Simple(id) => Some(id),
            TypeId::Complex(id) => match self.complex.get(id.index())?.content {
                Content::Simple(id) => Some(id),
                _ => None,
            },
        }
    }
}
