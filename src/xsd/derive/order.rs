//! The order in which types are derived: bases first. Circles are problems.

use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{ComplexId, RawContent, RawDerivation, TypeId};
use crate::xsd::datatypes::simple_type::SimpleId;
use crate::xsd::names::FastMap;
use crate::xsd::problem::Place;

/// Most types in a chain of derivations.
const MAX_DERIVATIONS: u32 = 500;

impl Builder {
    /// The types that have to be derived before this one.
    fn needs(&self, id: TypeId) -> Vec<TypeId> {
        match id {
            TypeId::Simple(id) => {
                let index = id.index().checked_sub(self.builtin as usize);
                match index.and_then(|index| self.components.raw_simple.get(index)).map(|raw| &raw.derivation) {
                    None | Some(RawDerivation::OfContent) => Vec::new(),
                    Some(RawDerivation::Restriction { base, .. }) => vec![TypeId::Simple(*base)],
                    Some(RawDerivation::List(item)) => vec![TypeId::Simple(*item)],
                    Some(RawDerivation::Union(members)) => members.iter().copied().map(TypeId::Simple).collect(),
                }
            }
            TypeId::Complex(ComplexId::ANY) => Vec::new(),
            TypeId::Complex(id) => {
                let Some(ty) = self.components.complex.get(id.index()) else { return Vec::new() };
                let inner = match &ty.raw {
                    RawContent::Simple { inner, .. } => *inner,
                    RawContent::Elements { .. } => None,
                };
                std::iter::once(ty.base).chain(inner.map(TypeId::Simple)).collect()
            }
        }
    }

    pub(crate) fn place_of(&self, id: TypeId) -> Place {
        match id {
            TypeId::Simple(id) => {
                let index = id.index().checked_sub(self.builtin as usize);
                index
                    .and_then(|index| self.components.raw_simple.get(index))
                    .map_or_else(Place::default, |raw| raw.place)
            }
            TypeId::Complex(id) => self.components.complex.get(id.index()).map_or_else(Place::default, |ty| ty.place),
        }
    }

    /// Breaks a circle at a type, and reports it.
    fn break_circle(&mut self, id: TypeId) {
        let place = self.place_of(id);
        match id {
            TypeId::Simple(id) => {
                self.problems.add(place, "st-props-correct.2", "the type is derived from itself");
                if let Some(raw) = self.raw_simple(id) {
                    raw.derivation = RawDerivation::Restriction { base: SimpleId::ANY, facets: Vec::new() };
                }
            }
            TypeId::Complex(id) => {
                self.problems.add(place, "ct-props-correct.3", "the type is derived from itself");
                if let Some(ty) = self.components.complex.get_mut(id.index()) {
                    ty.base = TypeId::ANY;
                }
            }
        }
    }

    /// Returns all types, bases before what is derived from them.
    pub(crate) fn order(&mut self) -> Vec<TypeId> {
        let simple = u32::try_from(self.components.raw_simple.len()).unwrap_or(u32::MAX).saturating_add(self.builtin);
        let complex = u32::try_from(self.components.complex.len()).unwrap_or(u32::MAX);
        let all = (self.builtin..simple).map(|id| TypeId::Simple(SimpleId(id)));
        let all: Vec<TypeId> = all.chain((0..complex).map(|id| TypeId::Complex(ComplexId(id)))).collect();
        let mut order = Vec::with_capacity(all.len());
        // Whether a type is done, or being looked into.
        let mut done: FastMap<TypeId, bool> = FastMap::default();
        for first in all {
            if done.contains_key(&first) {
                continue;
            }
            done.insert(first, false);
            let mut open = vec![(first, self.needs(first))];
            while let Some((id, needs)) = open.last_mut() {
                let id = *id;
                match needs.pop() {
                    None => {
                        done.insert(id, true);
                        order.push(id);
                        open.pop();
                    }
                    Some(need) => match done.get(&need) {
                        Some(true) => {}
                        Some(false) => self.break_circle(id),
                        None => {
                            done.insert(need, false);
                            let needs = self.needs(need);
                            open.push((need, needs));
                        }
                    },
                }
            }
        }
        order.truncate(self.check_depth(&order));
        order
    }

    /// How many types come before one that is derived through too many others: what looks through them would be slow.
    fn check_depth(&mut self, order: &[TypeId]) -> usize {
        let mut depths: FastMap<TypeId, u32> = FastMap::default();
        for (position, id) in order.iter().enumerate() {
            let inner = self.needs(*id).iter().filter_map(|need| depths.get(need).copied()).max();
            let depth = inner.unwrap_or(0).saturating_add(1);
            if depth > MAX_DERIVATIONS {
                let message = format!("more than {MAX_DERIVATIONS} types are derived from each other");
                self.problems.add(self.place_of(*id), "ct-props-correct", message);
                return position;
            }
            depths.insert(*id, depth);
        }
        order.len()
    }
}
