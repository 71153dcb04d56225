//! Particles as the rules of restriction see them: without pointless groups, heads of substitution groups as choices
//! (XSD 1.0 Part 1, §3.9.6, Particle Valid (Restriction), 2.1 and 2.2).

use std::rc::Rc;

use crate::budget::{Exhausted, Steps};
use crate::xsd::components::context::Range;
use crate::xsd::components::model::{Components, ElementId, GroupId, GroupKind, Particle, ParticleId, Term, Wildcard};
use crate::xsd::constraints::groups::{times, total};
use crate::xsd::names::FastMap;
use crate::xsd::problem::Place;
use crate::xsd::room::Room;

/// A particle without what is pointless.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Tells items apart.
    pub(super) id: u64,
    pub(super) min: u32,
    pub(super) max: Option<u32>,
    pub(super) kind: ItemKind,
    pub(super) place: Place,
}

#[derive(Debug, Clone)]
pub(super) enum ItemKind {
    Element(ElementId),
    Wildcard(Wildcard),
    Group(GroupKind, Rc<[Item]>),
}

impl Item {
    /// How many elements it is (`cos-seq-range`, `cos-choice-range`).
    pub(super) fn range(&self, ranges: &FastMap<u64, Range>) -> Range {
        let one = match &self.kind {
            ItemKind::Group(kind, items) => ranges
                .get(&self.id)
                .copied()
                .unwrap_or_else(|| total(*kind, items.iter().map(|item| item.range(ranges)))),
            _ => (1, Some(1)),
        };
        times(one, self.min, self.max)
    }
}

/// Makes items of particles, each group once.
pub(super) struct Items<'a> {
    pub(super) components: &'a Components,
    pub(super) members: &'a FastMap<ElementId, Vec<ElementId>>,
    pub(super) steps: &'a mut Steps,
    known: FastMap<GroupId, (Rc<[Item]>, Range)>,
    /// What may still be kept.
    pub(super) room: &'a mut Room,
    /// Ranges of the groups that are items, without their own occurrence.
    pub(super) ranges: FastMap<u64, Range>,
}

/// What an item costs, in steps: it takes memory.
const ITEM: u64 = 400;

/// Added to the number of an element that stands for a head.
const MEMBER: u64 = 1 << 40;

impl<'a> Items<'a> {
    pub(super) fn new(
        components: &'a Components,
        members: &'a FastMap<ElementId, Vec<ElementId>>,
        (steps, room): (&'a mut Steps, &'a mut Room),
    ) -> Self {
        Self { components, members, steps, known: FastMap::default(), room, ranges: FastMap::default() }
    }

    /// The item of the content of a type.
    pub(super) fn of(&mut self, id: ParticleId) -> Result<Option<Item>, Exhausted> {
        let Some(particle) = self.components.particles.get(id.index()) else { return Ok(None) };
        if let Term::Group(group) = particle.term {
            self.normalize(group)?;
        }
        self.item(id, particle).map(Some).map(|item| item.map(|item| alone(&item).unwrap_or(item)))
    }

    /// The item of a particle, if the groups in it are known.
    fn item(&mut self, id: ParticleId, particle: &Particle) -> Result<Item, Exhausted> {
        let number = u64::from(id.0);
        let Particle { min, max, place, .. } = *particle;
        let (kind, range) = match &particle.term {
            Term::Wildcard(wildcard) => (ItemKind::Wildcard(wildcard.clone()), None),
            Term::Element(element) => match self.members.get(element) {
                None => (ItemKind::Element(*element), None),
                Some(members) => {
                    self.steps.take(ITEM.saturating_mul(members.len() as u64))?;
                    let one = |element: &ElementId| Item {
                        id: MEMBER | u64::from(element.0),
                        min: 1,
                        max: Some(1),
                        kind: ItemKind::Element(*element),
                        place,
                    };
                    let items = std::iter::once(element).chain(members).map(one).collect();
                    (ItemKind::Group(GroupKind::Choice, items), Some((1, Some(1))))
                }
            },
            Term::Group(group) => {
                let kind = self.components.groups.get(group.index()).map_or(GroupKind::Sequence, |group| group.kind);
                let known = self.known.get(group).map(|(items, range)| (Rc::clone(items), *range));
                let (items, range) = known.unwrap_or_else(|| (Rc::from([]), (0, Some(0))));
                (ItemKind::Group(kind, items), Some(range))
            }
        };
        if let Some(range) = range {
            self.room.take(2 * size_of::<(u64, Range)>())?;
            self.ranges.insert(number, range);
        }
        Ok(Item { id: number, min, max, kind, place })
    }

    fn normalize(&mut self, id: GroupId) -> Result<(), Exhausted> {
        let mut open = vec![id];
        while let Some(id) = open.last().copied() {
            if self.known.contains_key(&id) {
                open.pop();
                continue;
            }
            let Some(group) = self.components.groups.get(id.index()) else { return Ok(()) };
            let before = open.len();
            for particle in group.particles.iter().filter_map(|id| self.components.particles.get(id.index())) {
                if let Term::Group(inner) = particle.term
                    && !self.known.contains_key(&inner)
                {
                    open.push(inner);
                }
            }
            if open.len() > before {
                continue;
            }
            let mut items: Vec<Item> = Vec::new();
            for id in &group.particles {
                let Some(particle) = self.components.particles.get(id.index()) else { continue };
                let item = self.item(*id, particle)?;
                self.steps.take(ITEM)?;
                match &item.kind {
                    ItemKind::Group(GroupKind::Sequence | GroupKind::All, inner) if inner.is_empty() => {}
                    ItemKind::Group(GroupKind::Choice, inner) if inner.is_empty() && item.min == 0 => {}
                    ItemKind::Group(kind, inner) if once(&item) && *kind == group.kind && *kind != GroupKind::All => {
                        self.steps.take(ITEM.saturating_mul(inner.len() as u64))?;
                        items.extend(inner.iter().cloned());
                    }
                    _ => items.push(alone(&item).unwrap_or(item)),
                }
            }
            self.room.take(items.len().saturating_mul(size_of::<Item>()))?;
            let range = total(group.kind, items.iter().map(|item| item.range(&self.ranges)));
            self.known.insert(id, (items.into(), range));
            open.pop();
        }
        Ok(())
    }
}

fn once(item: &Item) -> bool {
    item.min == 1 && item.max == Some(1)
}

/// The only item in a group that occurs once.
fn alone(item: &Item) -> Option<Item> {
    match &item.kind {
        ItemKind::Group(_, items) if once(item) => match &**items {
            [one] => Some(one.clone()),
            _ => None,
        },
        _ => None,
    }
}
