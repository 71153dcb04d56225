//! `cos-element-consistent` (XSD 1.0 Part 1, §3.8.6): elements of one name in one content have one type.

use std::rc::Rc;

use crate::budget::Exhausted;
use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{Content, ElementId, GroupId, Term, TypeId};
use crate::xsd::names::{FastMap, QName};
use crate::xsd::problem::Place;

type Types = FastMap<QName, TypeId>;

/// Steps for a name that is kept of a group: they bound the memory of all, too.
const NAME: u64 = 16;

impl Builder {
    pub(crate) fn check_consistent(&mut self) -> Result<(), (Place, Exhausted)> {
        let mut known: FastMap<GroupId, Rc<Types>> = FastMap::default();
        for index in 0..self.components.complex.len() {
            let Some(ty) = self.components.complex.get(index) else { break };
            let place = ty.place;
            let Content::Elements { particle, .. } = ty.content else { continue };
            if let Some(Term::Group(group)) =
                self.components.particles.get(particle.index()).map(|found| found.term.clone())
            {
                self.collect(group, &mut known).map_err(|exhausted| (place, exhausted))?;
            }
        }
        Ok(())
    }

    fn collect(&mut self, id: GroupId, known: &mut FastMap<GroupId, Rc<Types>>) -> Result<(), Exhausted> {
        let mut open = vec![id];
        while let Some(id) = open.last().copied() {
            if known.contains_key(&id) {
                open.pop();
                continue;
            }
            let Some(group) = self.components.groups.get(id.index()).cloned() else { return Ok(()) };
            let before = open.len();
            let mut types = Types::default();
            for id in &group.particles {
                let Some(particle) = self.components.particles.get(id.index()).cloned() else { continue };
                match particle.term {
                    Term::Group(inner) => match known.get(&inner).map(Rc::clone) {
                        Some(inner) => {
                            self.steps.take(NAME.saturating_mul(inner.len() as u64))?;
                            for (name, ty) in inner.iter() {
                                self.merge(&mut types, *name, *ty, particle.place);
                            }
                        }
                        None => open.push(inner),
                    },
                    Term::Element(element) => self.add_element(&mut types, element, particle.place)?,
                    Term::Wildcard(_) => {}
                }
            }
            if open.len() == before {
                self.room.take(types.capacity().saturating_mul(size_of::<(QName, TypeId)>() + 1))?;
                known.insert(id, Rc::new(types));
                open.pop();
            }
        }
        Ok(())
    }

    fn add_element(&mut self, types: &mut Types, id: ElementId, place: Place) -> Result<(), Exhausted> {
        let members = self.members.get(&id).cloned().unwrap_or_default();
        self.steps.take(NAME.saturating_mul(members.len() as u64))?;
        for id in std::iter::once(id).chain(members) {
            if let Some((name, ty)) = self.components.elements.get(id.index()).map(|element| (element.name, element.ty))
            {
                self.merge(types, name, ty, place);
            }
        }
        Ok(())
    }

    fn merge(&mut self, types: &mut Types, name: QName, ty: TypeId, place: Place) {
        if types.insert(name, ty).is_some_and(|known| known != ty) {
            let message = format!("the element `{}` has another type elsewhere in the same content", self.show(name));
            self.problems.add(place, "cos-element-consistent", message);
        }
    }
}
