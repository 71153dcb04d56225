//! `cos-nonambig`, the unique particle attribution (XSD 1.0 Part 1, §3.8.6 and appendix H): what can come next is always
//! matched by one particle.
//!
//! Each group is looked at once, whatever refers to it: what can be first in it, and what can follow its last element while
//! still within it. Both are sets of names, so the work is bounded by the size of the schema, not by what it expands to.

use std::rc::Rc;

use super::sets::{Conflict, Set, Way};
use crate::budget::Exhausted;
use crate::xsd::components::context::Builder;
use crate::xsd::components::model::{Content, GroupId, GroupKind, Particle, ParticleId, Term};
use crate::xsd::names::FastMap;
use crate::xsd::problem::Place;

/// What is known of a group or a particle.
#[derive(Clone, Default)]
struct Facts {
    nullable: bool,
    first: Rc<Set>,
    /// What can follow its last element, and is still within it.
    again: Rc<Set>,
}

impl Builder {
    /// Checks the contents of all complex types.
    pub(crate) fn check_unique_particles(&mut self) -> Result<(), (Place, Exhausted)> {
        let mut known: FastMap<GroupId, Facts> = FastMap::default();
        let contents: Vec<(ParticleId, Place)> = self
            .components
            .complex
            .iter()
            .filter_map(|ty| match ty.content {
                Content::Elements { particle, .. } => Some((particle, ty.place)),
                _ => None,
            })
            .collect();
        for (id, place) in contents {
            let Some(particle) = self.components.particles.get(id.index()).cloned() else { continue };
            if let Term::Group(group) = particle.term {
                self.find_facts(group, &mut known).map_err(|exhausted| (place, exhausted))?;
            }
            self.particle_facts(id, &particle, &known).map_err(|exhausted| (place, exhausted))?;
        }
        Ok(())
    }

    fn find_facts(&mut self, id: GroupId, known: &mut FastMap<GroupId, Facts>) -> Result<(), Exhausted> {
        let mut open = vec![id];
        while let Some(id) = open.last().copied() {
            if known.contains_key(&id) {
                open.pop();
                continue;
            }
            let Some(group) = self.components.groups.get(id.index()).cloned() else { return Ok(()) };
            let before = open.len();
            for particle in group.particles.iter().filter_map(|id| self.components.particles.get(id.index())) {
                if let Term::Group(inner) = particle.term
                    && !known.contains_key(&inner)
                {
                    open.push(inner);
                }
            }
            if open.len() > before {
                continue;
            }
            let facts = self.group_facts(group.kind, &group.particles, known)?;
            self.room.take(facts.first.bytes().saturating_add(facts.again.bytes()))?;
            known.insert(id, facts);
            open.pop();
        }
        Ok(())
    }

    fn group_facts(
        &mut self,
        kind: GroupKind,
        particles: &[ParticleId],
        known: &FastMap<GroupId, Facts>,
    ) -> Result<Facts, Exhausted> {
        let (mut first, mut again, mut competing) = (Set::default(), Set::default(), Set::default());
        let mut nullable = kind != GroupKind::Choice || particles.is_empty();
        let mut begun = true;
        for (index, id) in particles.iter().enumerate() {
            let Some(particle) = self.components.particles.get(id.index()).cloned() else { continue };
            let facts = self.particle_facts(*id, &particle, known)?;
            self.steps.take(facts.first.size().saturating_add(facts.again.size()))?;
            self.report(&competing, &facts.first, &particle)?;
            let steps = &mut self.steps;
            match kind {
                GroupKind::Sequence => {
                    if begun {
                        first.join(&facts.first, steps)?;
                    }
                    begun &= facts.nullable;
                    nullable &= facts.nullable;
                    if !facts.nullable {
                        competing = Set::default();
                        again = Set::default();
                    } else {
                        competing.join(&facts.first, steps)?;
                        if index > 0 {
                            again.join(&facts.first, steps)?;
                        }
                    }
                    competing.join(&facts.again, steps)?;
                    again.join(&facts.again, steps)?;
                }
                GroupKind::Choice | GroupKind::All => {
                    first.join(&facts.first, steps)?;
                    competing.join(&facts.first, steps)?;
                    again.join(&facts.again, steps)?;
                    nullable =
                        if kind == GroupKind::All { nullable && facts.nullable } else { nullable || facts.nullable };
                }
            }
        }
        Ok(Facts { nullable, first: Rc::new(first), again: Rc::new(again) })
    }

    fn particle_facts(
        &mut self,
        id: ParticleId,
        particle: &Particle,
        known: &FastMap<GroupId, Facts>,
    ) -> Result<Facts, Exhausted> {
        let number = u64::from(id.0).saturating_add(1);
        let mut facts = match &particle.term {
            Term::Element(element) => {
                let mut set = Set::default();
                let members = self.members.get(element).map_or(&[][..], |members| members);
                self.steps.take(members.len() as u64)?;
                for element in std::iter::once(element).chain(members) {
                    if let Some(element) = self.components.elements.get(element.index()) {
                        set.add_name(element.name, Way::One(number));
                    }
                }
                Facts { first: Rc::new(set), ..Facts::default() }
            }
            Term::Wildcard(wildcard) => {
                let mut set = Set::default();
                set.add_wildcard(&wildcard.namespaces, Way::One(number));
                Facts { first: Rc::new(set), ..Facts::default() }
            }
            Term::Group(group) => {
                let inner = known.get(group).cloned().unwrap_or_default();
                self.steps.take(inner.first.size().saturating_add(inner.again.size()))?;
                let (first, again) = (inner.first.through(number), inner.again.through(number));
                Facts { nullable: inner.nullable, first: Rc::new(first), again: Rc::new(again) }
            }
        };
        if particle.max.is_none_or(|max| max > 1) {
            self.report(&facts.again, &facts.first, particle)?;
            let exact = particle.max == Some(particle.min) && !facts.nullable;
            if !exact {
                let mut again = (*facts.again).clone();
                again.join(&facts.first, &mut self.steps)?;
                facts.again = Rc::new(again);
            }
        }
        facts.nullable |= particle.min == 0;
        Ok(facts)
    }

    fn report(&mut self, one: &Set, two: &Set, particle: &Particle) -> Result<(), Exhausted> {
        self.steps.take(one.compared(two))?;
        let what = match one.conflict(two) {
            None => return Ok(()),
            Some(Conflict::Name(name)) => format!("the element `{}`", self.show(name)),
            Some(Conflict::Wildcards) => "an element".to_owned(),
        };
        let message = format!("{what} can be matched by two particles here, and nothing tells which one is meant");
        self.problems.add(particle.place, "cos-nonambig", message);
        Ok(())
    }
}
