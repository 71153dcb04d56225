//! Sets of what can come next, for `cos-nonambig`: names and wildcards, and by which particles.

use crate::budget::{Exhausted, Steps};
use crate::xsd::components::model::Namespaces;
use crate::xsd::names::{FastMap, QName};

/// By which particle something can come: the way to it through the groups, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    One(u64),
    /// More than one, which never come in the same place.
    Many,
}

impl Way {
    fn with(self, other: Self) -> Self {
        if self == other { self } else { Self::Many }
    }

    /// The way from outside of this particle.
    fn through(self, particle: u64) -> Self {
        match self {
            Self::One(way) => Self::One((way.rotate_left(7) ^ particle).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            Self::Many => Self::Many,
        }
    }

    /// Whether two ways are, or may be, different ones.
    fn differs(self, other: Self) -> bool {
        !matches!((self, other), (Self::One(one), Self::One(two)) if one == two)
    }
}

/// What can come next.
#[derive(Debug, Clone, Default)]
pub(super) struct Set {
    names: FastMap<QName, Way>,
    wildcards: Vec<(Namespaces, Way)>,
}

/// What two sets have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Conflict {
    Name(QName),
    Wildcards,
}

impl Set {
    pub(super) fn add_name(&mut self, name: QName, way: Way) {
        self.names.entry(name).and_modify(|known| *known = known.with(way)).or_insert(way);
    }

    pub(super) fn add_wildcard(&mut self, namespaces: &Namespaces, way: Way) {
        match self.wildcards.iter_mut().find(|(known, _)| known.same(namespaces)) {
            Some((_, known)) => *known = known.with(way),
            None => self.wildcards.push((namespaces.clone(), way)),
        }
    }

    /// Adds another set, within so many steps.
    pub(super) fn join(&mut self, other: &Self, steps: &mut Steps) -> Result<(), Exhausted> {
        steps.take((other.names.len() as u64).saturating_add(self.wildcards_compared(other)))?;
        self.add(other);
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        for (name, way) in &other.names {
            self.add_name(*name, *way);
        }
        for (namespaces, way) in &other.wildcards {
            self.add_wildcard(namespaces, *way);
        }
    }

    /// The set as seen from outside of a particle.
    pub(super) fn through(&self, particle: u64) -> Self {
        Self {
            names: self.names.iter().map(|(name, way)| (*name, way.through(particle))).collect(),
            wildcards: self
                .wildcards
                .iter()
                .map(|(namespaces, way)| (namespaces.clone(), way.through(particle)))
                .collect(),
        }
    }

    /// How much work the set is, in steps: it takes memory, too.
    pub(super) fn size(&self) -> u64 {
        (self.names.len() as u64).saturating_add(self.wildcards.len() as u64).saturating_mul(16)
    }

    /// How many bytes it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let names = self.names.capacity().saturating_mul(size_of::<(QName, Way)>() + 1);
        names.saturating_add(self.wildcards.capacity().saturating_mul(size_of::<(Namespaces, Way)>()))
    }

    /// How much work it is to compare two sets: the names of the smaller one, names of one and wildcards of the other, and
    /// wildcards by their lists of namespaces.
    pub(super) fn compared(&self, other: &Self) -> u64 {
        let times = |one: usize, two: usize| (one as u64).saturating_mul(two as u64);
        (self.names.len().min(other.names.len()) as u64)
            .saturating_add(times(self.names.len(), other.wildcards.len()))
            .saturating_add(times(other.names.len(), self.wildcards.len()))
            .saturating_add(self.wildcards_compared(other))
    }

    /// The part of it that is for wildcards.
    fn wildcards_compared(&self, other: &Self) -> u64 {
        if self.wildcards.is_empty() || other.wildcards.is_empty() {
            return 0;
        }
        let namespaces =
            |set: &Self| set.wildcards.iter().fold(0_u64, |sum, (namespaces, _)| sum.saturating_add(namespaces.size()));
        let of = |one: &Self, two: &Self| namespaces(one).saturating_mul(two.wildcards.len() as u64);
        of(self, other).min(of(other, self))
    }

    /// What is in both sets by different ways.
    pub(super) fn conflict(&self, other: &Self) -> Option<Conflict> {
        let (small, large) = if self.names.len() < other.names.len() { (self, other) } else { (other, self) };
        let both = |(name, way): (&QName, &Way)| {
            large.names.get(name).is_some_and(|other| way.differs(*other)).then_some(*name)
        };
        if let Some(name) = small.names.iter().find_map(both) {
            return Some(Conflict::Name(name));
        }
        let matched = |wildcards: &Self, names: &Self| {
            if wildcards.wildcards.is_empty() {
                return None;
            }
            let allowed = |name: &&QName| wildcards.wildcards.iter().any(|(namespaces, _)| namespaces.allows(name.ns));
            names.names.keys().find(allowed).copied()
        };
        if let Some(name) = matched(self, other).or_else(|| matched(other, self)) {
            return Some(Conflict::Name(name));
        }
        if other.wildcards.is_empty() {
            return None;
        }
        let overlap = |(namespaces, way): &(Namespaces, Way)| {
            other.wildcards.iter().any(|(theirs, other)| way.differs(*other) && namespaces.overlaps(theirs))
        };
        self.wildcards.iter().any(overlap).then_some(Conflict::Wildcards)
    }
}
