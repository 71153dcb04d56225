//! Walks a content model: which particle matches the next element, and whether the content may end.
//!
//! A state is the way from the content's own particle down to the one that matched last, with how often each has been
//! repeated. The next element is looked for from the inside to the outside: another repetition, what comes next in the group
//! around it, and so on. Unique particle attribution makes the first match the only one, except that an element may be counted
//! in more than one way, by repetitions within repetitions: then several states are kept.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::index::{GroupIndex, head_key, name_key};
use crate::budget::{Exhausted, Steps};
use crate::xsd::components::model::{Components, ElementId, GroupKind, Namespaces, ParticleId, Term};
use crate::xsd::names::{FastHasher, QName};

/// Heads that are compared in a step, and wildcards that are asked.
const HEADS: u64 = 4;
const WILDCARDS: u64 = 2;
/// Steps of the way to a particle that are compared in a step.
const FRAMES: u64 = 4;
/// Kinds of states that are compared in a step.
const KINDS: u64 = 4;
/// Steps to compare two states of one kind, for each part of the way that is compared in a step.
const COMPARED: u64 = 2;
/// Children that are looked through one by one for the next element of a sequence.
const AHEAD: usize = 32;

/// A step of the way to the last particle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    particle: ParticleId,
    /// The child that the way leads through; or the word of [`State::seen`] where an `all` has its own.
    child: u32,
    /// How often the particle has been repeated, this time included.
    count: u32,
}

/// Where the content of an open element is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    frames: Vec<Frame>,
    /// The children of an `all` that were there, as bits. Only the outermost group can be one.
    seen: Vec<u64>,
}

/// Which particle matches an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// This declaration, or one that can stand for it.
    Element(ElementId),
    /// The wildcard of this particle.
    Wildcard(ParticleId),
}

/// An element, as content models see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Incoming<'a> {
    pub(crate) name: QName,
    /// The heads that it can stand for.
    pub(crate) heads: &'a [ElementId],
}

/// The groups of a schema, prepared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Models<'a> {
    pub(crate) components: &'a Components,
    pub(crate) groups: &'a [GroupIndex],
}

/// Which children of a group are looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u32,
    /// Inclusive.
    pub(super) to: u32,
}

impl<'a> Models<'a> {
    pub(super) fn group(self, id: ParticleId) -> Option<&'a GroupIndex> {
        match self.components.particles.get(id.index())?.term {
            Term::Group(group) => self.groups.get(group.index()),
            _ => None,
        }
    }

    fn wildcard(self, id: ParticleId) -> Option<&'a Namespaces> {
        match &self.components.particles.get(id.index())?.term {
            Term::Wildcard(wildcard) => Some(&wildcard.namespaces),
            _ => None,
        }
    }

    pub(super) fn bounds(self, id: ParticleId) -> (u32, Option<u32>) {
        self.components.particles.get(id.index()).map_or((0, Some(0)), |particle| (particle.min, particle.max))
    }

    /// Whether what a particle repeats can be empty.
    pub(super) fn body_nullable(self, id: ParticleId) -> bool {
        self.group(id).is_some_and(|group| group.nullable)
    }

    /// Where a group begins.
    pub(super) fn start(group: &GroupIndex) -> Span {
        let to = if group.kind == GroupKind::Sequence { group.barrier(0) } else { group.length() };
        Span { from: 0, to }
    }

    /// The first child in a span that an element can be first in, and that is not excluded.
    fn find(
        self,
        group: &GroupIndex,
        span: Span,
        incoming: Incoming<'_>,
        excluded: &[u64],
        steps: &mut Steps,
    ) -> Result<Option<u32>, Exhausted> {
        steps.take(group.lookup())?;
        let fits = |child: &u32| (span.from..=span.to).contains(child) && !is_set(excluded, *child);
        // An `all` has each name once, so that there is no other child if that one is excluded.
        let by_key = |key: u64| group.find(key, span.from).filter(fits);
        if incoming.name.is_known()
            && let Some(child) = by_key(name_key(incoming.name))
        {
            return Ok(Some(child));
        }
        let lookups = (incoming.heads.len() as u64).saturating_mul(group.lookup().max(1));
        steps.take(lookups.saturating_add(group.wildcards.len() as u64 / WILDCARDS))?;
        if let Some(child) = incoming.heads.iter().find_map(|head| by_key(head_key(*head))) {
            return Ok(Some(child));
        }
        let allowed = |id: ParticleId| self.wildcard(id).is_some_and(|namespaces| namespaces.allows(incoming.name.ns));
        let found = group.wildcards.iter().find(|(id, child)| fits(child) && allowed(*id));
        Ok(found.map(|(_, child)| *child))
    }

    /// Whether a particle that is no group matches an element.
    fn matches(self, id: ParticleId, incoming: Incoming<'_>, steps: &mut Steps) -> Result<Option<Match>, Exhausted> {
        let Some(particle) = self.components.particles.get(id.index()) else { return Ok(None) };
        Ok(match &particle.term {
            Term::Element(element) => {
                let same =
                    self.components.elements.get(element.index()).is_some_and(|found| found.name == incoming.name);
                if !same {
                    steps.take(incoming.heads.len() as u64 / HEADS)?;
                }
                (same || incoming.heads.contains(element)).then_some(Match::Element(*element))
            }
            Term::Wildcard(wildcard) => wildcard.namespaces.allows(incoming.name.ns).then_some(Match::Wildcard(id)),
            Term::Group(_) => None,
        })
    }

    /// Whether what a particle repeats can begin with an element.
    fn can_begin(self, id: ParticleId, incoming: Incoming<'_>, steps: &mut Steps) -> Result<bool, Exhausted> {
        Ok(match self.group(id) {
            Some(group) => self.find(group, Self::start(group), incoming, &[], steps)?.is_some(),
            None => self.matches(id, incoming, steps)?.is_some(),
        })
    }

    /// Goes down from a particle that an element can be first in.
    fn enter(
        self,
        state: &mut State,
        id: ParticleId,
        count: u32,
        incoming: Incoming<'_>,
        steps: &mut Steps,
    ) -> Result<Option<Match>, Exhausted> {
        let (mut id, mut count) = (id, count);
        loop {
            let Some(group) = self.group(id) else {
                let Some(found) = self.matches(id, incoming, steps)? else { return Ok(None) };
                state.frames.push(Frame { particle: id, child: 0, count });
                return Ok(Some(found));
            };
            steps.take((group.required.len() as u64).saturating_add(1))?;
            let Some(child) = self.find(group, Self::start(group), incoming, &[], steps)? else { return Ok(None) };
            let Some(particle) = group.children.get(child as usize).copied() else { return Ok(None) };
            if group.kind == GroupKind::All {
                state.seen.clear();
                state.seen.resize(group.required.len(), 0);
                set(&mut state.seen, child);
            }
            state.frames.push(Frame { particle: id, child, count });
            if let Some(element) = group.known.get(child as usize).and_then(|child| child.element()) {
                state.frames.push(Frame { particle, child: 0, count: 1 });
                return Ok(Some(Match::Element(element)));
            }
            (id, count) = (particle, 1);
        }
    }

    /// Matches the next element if it is one of the same sequence, with only optional elements before it: the usual case.
    /// `None` does not mean that there is no match.
    fn next_in_sequence(self, state: &mut State, incoming: Incoming<'_>) -> Option<Match> {
        let [.., around, last] = state.frames.as_mut_slice() else { return None };
        let group = self.group(around.particle).filter(|group| group.kind == GroupKind::Sequence)?;
        let key = name_key(incoming.name);
        let before = group.known.get(around.child as usize)?;
        if before.max.is_none_or(|max| last.count < max)
            && let Some(element) = before.element_named(key)
        {
            last.count = counted(last.count, before.min, before.max);
            return Some(Match::Element(element));
        }
        if last.count < before.min {
            return None;
        }
        let from = around.child.saturating_add(1);
        for (child, position) in group.known.get(from as usize..)?.iter().take(AHEAD).zip(from..) {
            if let Some(element) = child.element_named(key) {
                around.child = position;
                *last = Frame { particle: *group.children.get(position as usize)?, child: 0, count: 1 };
                return Some(Match::Element(element));
            }
            if !child.is_optional_element() {
                return None;
            }
        }
        None
    }

    /// Matches the next element in the content of this particle. Of several ways the one after `skip` others is taken.
    pub(crate) fn advance(
        self,
        state: &mut State,
        content: ParticleId,
        incoming: Incoming<'_>,
        skip: usize,
        steps: &mut Steps,
    ) -> Result<Option<Match>, Exhausted> {
        if skip == 0 {
            if state.frames.is_empty() {
                return self.enter(state, content, 1, incoming, steps);
            }
            if let Some(found) = self.next_in_sequence(state, incoming) {
                return Ok(Some(found));
            }
        }
        let mut skip = skip;
        let mut taken = |found: bool| {
            let take = found && skip == 0;
            skip = skip.saturating_sub(usize::from(found));
            take
        };
        // There is only one way to begin.
        let mut level = state.frames.len();
        while let Some(frame) = level.checked_sub(1).and_then(|level| state.frames.get(level)).copied() {
            level = level.saturating_sub(1);
            steps.take(1)?;
            let (min, max) = self.bounds(frame.particle);
            let again = max.is_none_or(|max| frame.count < max);
            if again && taken(self.can_begin(frame.particle, incoming, steps)?) {
                state.frames.truncate(level);
                return self.enter(state, frame.particle, counted(frame.count, min, max), incoming, steps);
            }
            if frame.count < min && !self.body_nullable(frame.particle) {
                return Ok(None);
            }
            let Some(around) = level.checked_sub(1).and_then(|level| state.frames.get(level)).copied() else { break };
            let Some(group) = self.group(around.particle) else { break };
            let (next, ended) = self.following(group, around.child, &state.seen, incoming, steps)?;
            if let Some(child) = next.filter(|_| taken(true)) {
                if group.kind == GroupKind::All {
                    set(&mut state.seen, child);
                }
                state.frames.truncate(level);
                if let Some(around) = state.frames.last_mut() {
                    around.child = child;
                }
                let Some(particle) = group.children.get(child as usize).copied() else { break };
                return self.enter(state, particle, 1, incoming, steps);
            }
            if !ended {
                break;
            }
        }
        Ok(None)
    }

    /// The child that an element comes to after this one, and whether the group may end after this one.
    fn following(
        self,
        group: &GroupIndex,
        child: u32,
        seen: &[u64],
        incoming: Incoming<'_>,
        steps: &mut Steps,
    ) -> Result<(Option<u32>, bool), Exhausted> {
        Ok(match group.kind {
            GroupKind::Sequence => {
                let from = child.saturating_add(1);
                let to = group.barrier(from);
                (self.find(group, Span { from, to }, incoming, &[], steps)?, to == group.length())
            }
            GroupKind::Choice => (None, true),
            GroupKind::All => {
                let span = Span { from: 0, to: group.length() };
                steps.take(group.required.len() as u64)?;
                (self.find(group, span, incoming, seen, steps)?, all_seen(group, seen))
            }
        })
    }

    /// Whether the content may end here.
    pub(crate) fn may_end(self, state: &State, content: ParticleId) -> bool {
        if state.frames.is_empty() {
            return self.bounds(content).0 == 0 || self.body_nullable(content);
        }
        let mut inner: Option<Frame> = None;
        state.frames.iter().rev().all(|frame| {
            let below = inner.replace(*frame);
            if below.is_some() {
                let Some(group) = self.group(frame.particle) else { return false };
                let ended = match group.kind {
                    GroupKind::Sequence => group.barrier(frame.child.saturating_add(1)) == group.length(),
                    GroupKind::Choice => true,
                    GroupKind::All => all_seen(group, &state.seen),
                };
                if !ended {
                    return false;
                }
            }
            frame.count >= self.bounds(frame.particle).0 || self.body_nullable(frame.particle)
        })
    }

    /// Whether it matters which of several repetitions counts an element.
    pub(crate) fn is_ambiguous(self, content: ParticleId) -> bool {
        let Some(group) = self.group(content) else { return false };
        let (min, max) = self.bounds(content);
        group.is_ambiguous(min, max)
    }

    /// Matches the next element in all states at once. All of them match the same particle.
    pub(crate) fn advance_all(
        self,
        states: &mut Vec<State>,
        content: ParticleId,
        incoming: Incoming<'_>,
        steps: &mut Steps,
    ) -> Result<Option<Match>, Exhausted> {
        let mut next: Vec<(u64, State)> = Vec::new();
        let mut found = None;
        for state in states.iter() {
            for skip in 0.. {
                // To copy it.
                steps.take((state.frames.len() as u64).saturating_add(1))?;
                let mut state = state.clone();
                let Some(matched) = self.advance(&mut state, content, incoming, skip, steps)? else { break };
                found = found.or(Some(matched));
                steps.take(next.len() as u64 / KINDS)?;
                let kind = self.kind(&state);
                let (mut dominated, mut compared) = (false, 0_u64);
                // None is dominated by one that is kept, so that either it is dominated, or some of the others are.
                next.retain(|(other_kind, other)| {
                    if dominated || kind != *other_kind {
                        return true;
                    }
                    compared = compared.saturating_add(COMPARED);
                    let order = self.compare(&state, other);
                    dominated = order.is_some_and(Ordering::is_ge);
                    order != Some(Ordering::Less)
                });
                steps.take(compared.saturating_mul(state.cost()))?;
                if !dominated {
                    next.push((kind, state));
                }
            }
        }
        *states = next.into_iter().map(|(_, state)| state).collect();
        Ok(found)
    }

    /// Whether a particle has been repeated often enough.
    fn is_enough(self, frame: &Frame) -> bool {
        frame.count >= self.bounds(frame.particle).0 || self.body_nullable(frame.particle)
    }

    /// A hash that two states have in common if one is less than the other one: of all but the counts that are enough.
    fn kind(self, state: &State) -> u64 {
        let mut hasher = FastHasher::default();
        for frame in &state.frames {
            frame.particle.hash(&mut hasher);
            hasher.write_u32(frame.child);
            hasher.write_u32(if self.is_enough(frame) { u32::MAX } else { frame.count });
        }
        state.seen.iter().for_each(|word| hasher.write_u64(*word));
        hasher.finish()
    }

    /// Compares two states: one is less if all that can follow the other one can follow it, as it has counted less, and
    /// enough. `None` if neither is.
    fn compare(self, one: &State, other: &State) -> Option<Ordering> {
        if one.frames.len() != other.frames.len() || one.seen != other.seen {
            return None;
        }
        let mut order = Ordering::Equal;
        for (one, other) in one.frames.iter().zip(&other.frames) {
            if one.particle != other.particle || one.child != other.child {
                return None;
            }
            let counted = one.count.cmp(&other.count);
            if counted.is_eq() {
                continue;
            }
            let less = if counted.is_lt() { one } else { other };
            if (order.is_ne() && order != counted) || !self.is_enough(less) {
                return None;
            }
            order = counted;
        }
        Some(order)
    }
}

impl State {
    /// The frames, outermost first.
    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Steps to compare it with another one, or to find out whether the content may end here.
    pub(crate) fn cost(&self) -> u64 {
        1 + (self.frames.len() as u64).saturating_add(self.seen.len() as u64) / FRAMES
    }

    /// Whether a child of an `all` was there.
    pub(super) fn was_seen(&self, child: u32) -> bool {
        is_set(&self.seen, child)
    }

    /// Makes it the state of another element, whose content has not begun.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.seen.clear();
    }
}

impl Frame {
    pub(super) fn particle(self) -> ParticleId {
        self.particle
    }

    pub(super) fn child(self) -> u32 {
        self.child
    }

    pub(super) fn count(self) -> u32 {
        self.count
    }
}

/// How often a particle has been repeated once it is again. Without a maximum, only the minimum is counted to.
fn counted(count: u32, min: u32, max: Option<u32>) -> u32 {
    let count = count.saturating_add(1);
    if max.is_none() { count.min(min.max(1)) } else { count }
}

/// Whether all children of an `all` that are required were there.
fn all_seen(group: &GroupIndex, seen: &[u64]) -> bool {
    let has = |(word, required): (usize, &u64)| required & !seen.get(word).copied().unwrap_or(0) == 0;
    group.required.iter().enumerate().all(has)
}

fn is_set(bits: &[u64], index: u32) -> bool {
    bits.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
}

fn set(bits: &mut [u64], index: u32) {
    if let Some(word) = bits.get_mut(index as usize / 64) {
        *word |= 1 << (index % 64);
    }
}
