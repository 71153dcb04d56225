//! What can be first in each child of a group, so that a name leads to the child at once.
//!
//! Each group is indexed once, whatever refers to it. Its size is that of what can be first in its children.

use std::rc::Rc;

use crate::budget::{Exhausted, Steps};
use crate::xsd::components::model::{Components, ElementId, GroupId, GroupKind, Particle, ParticleId, Term};
use crate::xsd::names::{FastMap, QName};
use crate::xsd::room::Room;

/// Up to how many entries are looked through one by one.
const FEW: usize = 8;
/// Most groups within each other: so many places are kept for each open element.
const MAX_DEPTH: u32 = 256;

/// A name, or the head of a substitution group, as a number.
pub(crate) fn name_key(name: QName) -> u64 {
    name.key()
}

/// The key of a head: no name has it, as no schema has so many strings.
pub(crate) fn head_key(id: ElementId) -> u64 {
    1 << 63 | u64::from(id.0)
}

/// A child of a group, as far as it can be told without looking into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Child {
    /// The key of its name, if it is an element.
    key: u64,
    /// The declaration, if it is an element.
    element: ElementId,
    pub(crate) min: u32,
    pub(crate) max: Option<u32>,
}

impl Child {
    /// No name and no head has it.
    const NO_KEY: u64 = 1 << 63 | u32::MAX as u64;

    /// The declaration, if it is an element.
    pub(crate) fn element(self) -> Option<ElementId> {
        (self.key != Self::NO_KEY).then_some(self.element)
    }

    /// The declaration, if it is an element of this name.
    pub(crate) fn element_named(self, key: u64) -> Option<ElementId> {
        (self.key == key).then_some(self.element)
    }

    /// Whether it is an element that need not be there.
    pub(crate) fn is_optional_element(self) -> bool {
        self.min == 0 && self.key != Self::NO_KEY
    }
}

/// A group, prepared.
#[derive(Debug, Clone)]
pub(crate) struct GroupIndex {
    pub(crate) kind: GroupKind,
    pub(crate) children: Box<[ParticleId]>,
    /// The same.
    pub(crate) known: Box<[Child]>,
    /// What can be first in a child, and the child; sorted.
    keys: Box<[(u64, u32)]>,
    /// Wildcards that can be first in a child: their particle, and the child.
    pub(crate) wildcards: Box<[(ParticleId, u32)]>,
    /// For each child, the first one from there on that is required; the number of children if there is none. One more at
    /// the end.
    barriers: Box<[u32]>,
    pub(crate) nullable: bool,
    /// The children that are required, as bits, if it is an `all`.
    pub(crate) required: Box<[u64]>,
    /// How many groups are within each other in it, this one included.
    depth: u32,
    /// Whether particles within are repeated in more than one way, so that it matters which one is.
    loops: Loops,
}

#[derive(Debug, Clone, Copy, Default)]
struct Loops {
    /// A particle is repeated, with a minimum or a maximum that counts, and may stop or go on.
    counted: bool,
    /// A particle is repeated without limits.
    free: bool,
    /// A repetition within a repetition, where counting is ambiguous.
    ambiguous: bool,
}

impl GroupIndex {
    /// The first child from this one on that has a key.
    pub(crate) fn find(&self, key: u64, from: u32) -> Option<u32> {
        let start = if self.keys.len() <= FEW {
            self.keys.iter().position(|(known, child)| *known == key && *child >= from)?
        } else {
            self.keys.partition_point(|(known, child)| (*known, *child) < (key, from))
        };
        self.keys.get(start).filter(|(known, _)| *known == key).map(|(_, child)| *child)
    }

    /// Steps to look for a key, beyond what little it takes among few.
    pub(crate) fn lookup(&self) -> u64 {
        if self.keys.len() <= FEW { 0 } else { u64::from(self.keys.len().ilog2()) / 4 }
    }

    /// All keys, for messages.
    pub(crate) fn keys(&self) -> &[(u64, u32)] {
        &self.keys
    }

    /// The first required child from this one on.
    pub(crate) fn barrier(&self, from: u32) -> u32 {
        self.barriers.get(from as usize).copied().unwrap_or(self.length())
    }

    /// How many children there are.
    pub(crate) fn length(&self) -> u32 {
        u32::try_from(self.children.len()).unwrap_or(u32::MAX)
    }

    /// Whether it matters which of several repetitions counts an element, if the group is itself repeated this often.
    pub(crate) fn is_ambiguous(&self, min: u32, max: Option<u32>) -> bool {
        self.loops.repeated(min, max, self.nullable).ambiguous
    }
}

/// Prepares all groups.
pub(crate) fn index(
    components: &Components,
    members: &FastMap<ElementId, Vec<ElementId>>,
    (steps, room): (&mut Steps, &mut Room),
) -> Result<Vec<GroupIndex>, Exhausted> {
    let mut indexer = Indexer { components, members, steps, room, done: FastMap::default() };
    for group in 0..components.groups.len() {
        indexer.group(GroupId(u32::try_from(group).unwrap_or(u32::MAX)))?;
    }
    let mut done = indexer.done;
    let all = (0..components.groups.len()).filter_map(|group| {
        let found = done.remove(&GroupId(u32::try_from(group).unwrap_or(u32::MAX)))?;
        Some(Rc::try_unwrap(found).unwrap_or_else(|shared| (*shared).clone()))
    });
    Ok(all.collect())
}

/// Bytes that a child takes: itself, its key, and whether it is required.
const CHILD: usize = size_of::<Child>() + 2 * size_of::<(u64, u32)>() + 2 * size_of::<ParticleId>();

struct Indexer<'a> {
    components: &'a Components,
    members: &'a FastMap<ElementId, Vec<ElementId>>,
    steps: &'a mut Steps,
    room: &'a mut Room,
    done: FastMap<GroupId, Rc<GroupIndex>>,
}

impl Indexer<'_> {
    fn group(&mut self, id: GroupId) -> Result<(), Exhausted> {
        let mut open = vec![id];
        while let Some(id) = open.last().copied() {
            if self.done.contains_key(&id) {
                open.pop();
                continue;
            }
            let Some(group) = self.components.groups.get(id.index()) else { return Ok(()) };
            let before = open.len();
            for particle in group.particles.iter().filter_map(|id| self.components.particles.get(id.index())) {
                if let Term::Group(inner) = particle.term
                    && !self.done.contains_key(&inner)
                {
                    open.push(inner);
                }
            }
            if open.len() > before {
                continue;
            }
            let index = self.index(group.kind, &group.particles)?;
            self.done.insert(id, Rc::new(index));
            open.pop();
        }
        Ok(())
    }

    fn child(&self, particle: &Particle) -> Child {
        let (element, found) = match &particle.term {
            Term::Element(element) => (*element, self.components.elements.get(element.index())),
            _ => (ElementId(0), None),
        };
        let key = found.map_or(Child::NO_KEY, |found| name_key(found.name));
        Child { key, element, min: particle.min, max: particle.max }
    }

    /// How many groups are within each other in one with these children, itself included.
    fn depth(&self, children: &[ParticleId]) -> Result<u32, Exhausted> {
        let inner = |id: &ParticleId| match self.components.particles.get(id.index())?.term {
            Term::Group(group) => self.done.get(&group).map(|inner| inner.depth),
            _ => None,
        };
        let depth = children.iter().filter_map(inner).max().unwrap_or(0).saturating_add(1);
        if depth > MAX_DEPTH { Err(Exhausted) } else { Ok(depth) }
    }

    /// Adds what can be first in a group that is the child at a position.
    fn add_first(
        &mut self,
        inner: &GroupIndex,
        position: u32,
        keys: &mut Vec<(u64, u32)>,
        wildcards: &mut Vec<(ParticleId, u32)>,
    ) -> Result<(), Exhausted> {
        let starts = |child: u32| inner.kind != GroupKind::Sequence || child <= inner.barrier(0);
        let (names, any) = (inner.keys.len(), inner.wildcards.len());
        self.steps.take((names as u64).saturating_add(any as u64).saturating_mul(8))?;
        // While they are sorted they are there twice.
        self.room.take(names.saturating_mul(2 * size_of::<(u64, u32)>()))?;
        self.room.take(any.saturating_mul(2 * size_of::<(ParticleId, u32)>()))?;
        keys.extend(inner.keys.iter().filter(|(_, child)| starts(*child)).map(|(key, _)| (*key, position)));
        wildcards.extend(inner.wildcards.iter().filter(|(_, child)| starts(*child)).map(|(id, _)| (*id, position)));
        Ok(())
    }

    fn index(&mut self, kind: GroupKind, children: &[ParticleId]) -> Result<GroupIndex, Exhausted> {
        let (mut keys, mut wildcards) = (Vec::new(), Vec::new());
        let mut nullables = Vec::with_capacity(children.len());
        let mut known = Vec::with_capacity(children.len());
        let mut loops = Loops::default();
        let depth = self.depth(children)?;
        for (position, id) in children.iter().enumerate() {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let Some(particle) = self.components.particles.get(id.index()) else { continue };
            let mut nullable = particle.min == 0;
            let mut inner_loops = Loops::default();
            let mut body_nullable = false;
            let child = self.child(particle);
            self.steps.take(1)?;
            self.room.take(CHILD)?;
            match &particle.term {
                Term::Element(element) => {
                    keys.extend(child.element().map(|_| (child.key, position)));
                    if self.members.contains_key(element) {
                        keys.push((head_key(*element), position));
                    }
                }
                Term::Wildcard(_) => wildcards.push((*id, position)),
                Term::Group(group) => {
                    let Some(inner) = self.done.get(group).map(Rc::clone) else { continue };
                    self.add_first(&inner, position, &mut keys, &mut wildcards)?;
                    body_nullable = inner.nullable;
                    nullable |= inner.nullable;
                    inner_loops = inner.loops;
                }
            }
            loops = loops.with(inner_loops.repeated(particle.min, particle.max, body_nullable));
            nullables.push(nullable);
            known.push(child);
        }
        let nullable = match kind {
            // One without children can never be satisfied (cvc-model-group.2).
            GroupKind::Choice => nullables.contains(&true),
            _ => !nullables.contains(&false),
        };
        Ok(GroupIndex {
            kind,
            children: children.into(),
            known: known.into(),
            keys: sorted(keys),
            wildcards: sorted(wildcards),
            barriers: barriers(&nullables),
            nullable,
            required: if kind == GroupKind::All { required(&nullables) } else { Box::default() },
            depth,
            loops,
        })
    }
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Box<[T]> {
    all.sort_unstable();
    all.dedup();
    all.into()
}

fn required(nullables: &[bool]) -> Box<[u64]> {
    let bits = |word: &[bool]| word.iter().zip(0..).map(|(nullable, bit)| u64::from(!nullable) << bit).sum();
    nullables.chunks(64).map(bits).collect()
}

fn barriers(nullables: &[bool]) -> Box<[u32]> {
    let length = u32::try_from(nullables.len()).unwrap_or(u32::MAX);
    let mut barriers = vec![length; nullables.len().saturating_add(1)];
    let mut next = length;
    for (position, (nullable, barrier)) in nullables.iter().zip(barriers.iter_mut()).enumerate().rev() {
        if !nullable {
            next = u32::try_from(position).unwrap_or(u32::MAX);
        }
        *barrier = next;
    }
    barriers.into()
}

impl Loops {
    fn with(self, other: Self) -> Self {
        Self {
            counted: self.counted || other.counted,
            free: self.free || other.free,
            ambiguous: self.ambiguous || other.ambiguous,
        }
    }

    /// What a particle is whose body has these loops.
    fn repeated(self, min: u32, max: Option<u32>, body_nullable: bool) -> Self {
        if max.is_some_and(|max| max <= 1) {
            return self;
        }
        let counted = min > 1 || max.is_some();
        // A fixed number of repetitions has no choice, unless they can be empty.
        let choice = max != Some(min) || body_nullable;
        Self {
            counted: self.counted || (counted && choice),
            free: self.free || !counted,
            ambiguous: self.ambiguous || self.counted || (counted && self.free),
        }
    }
}
