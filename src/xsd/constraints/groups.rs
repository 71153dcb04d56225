//! Model groups: circles, where `all` is allowed, and how many elements they are (XSD 1.0 Part 1, §3.8.6).

use crate::xsd::components::context::{Builder, Range};
use crate::xsd::components::model::{Content, GroupId, GroupKind, ParticleId, Term};
use crate::xsd::names::FastMap;

impl Builder {
    /// The groups in a group.
    fn inner_groups(&self, id: GroupId) -> Vec<(ParticleId, GroupId)> {
        let Some(group) = self.components.groups.get(id.index()) else { return Vec::new() };
        let inner = |id: &ParticleId| match self.components.particles.get(id.index())?.term {
            Term::Group(group) => Some((*id, group)),
            _ => None,
        };
        group.particles.iter().filter_map(inner).collect()
    }

    /// `mg-props-correct.2`: no group contains itself. Circles are broken where they are found.
    pub(crate) fn check_group_circles(&mut self) {
        let count = self.components.groups.len();
        let mut done: Vec<Option<bool>> = vec![None; count];
        let mut circles: FastMap<ParticleId, ()> = FastMap::default();
        for first in 0..count {
            if !matches!(done.get(first), Some(None)) {
                continue;
            }
            let first = GroupId(u32::try_from(first).unwrap_or(u32::MAX));
            let mut open = vec![(first, self.inner_groups(first))];
            while let Some((id, inner)) = open.last_mut() {
                let id = *id;
                if let Some(state) = done.get_mut(id.index()) {
                    *state = Some(false);
                }
                match inner.pop() {
                    None => {
                        if let Some(state) = done.get_mut(id.index()) {
                            *state = Some(true);
                        }
                        open.pop();
                    }
                    Some((particle, group)) => match done.get(group.index()) {
                        Some(Some(false)) => {
                            let place = self.components.particles.get(particle.index()).map(|found| found.place);
                            self.problems.add(
                                place.unwrap_or_default(),
                                "mg-props-correct.2",
                                "the group contains itself",
                            );
                            circles.insert(particle, ());
                        }
                        Some(None) => {
                            let inner = self.inner_groups(group);
                            open.push((group, inner));
                        }
                        _ => {}
                    },
                }
            }
        }
        self.leave_out(&circles);
    }

    /// Takes particles out of their groups.
    fn leave_out(&mut self, particles: &FastMap<ParticleId, ()>) {
        if particles.is_empty() {
            return;
        }
        for group in &mut self.components.groups {
            group.particles.retain(|particle| !particles.contains_key(particle));
        }
    }

    /// `cos-all-limited`: an `all` is the whole content of a type, once.
    pub(crate) fn check_all_groups(&mut self) {
        let is_all = |builder: &Self, id: GroupId| {
            builder.components.groups.get(id.index()).is_some_and(|group| group.kind == GroupKind::All)
        };
        let mut wrong = Vec::new();
        for group in &self.components.groups {
            for particle in group.particles.iter().filter_map(|id| self.components.particles.get(id.index())) {
                if matches!(particle.term, Term::Group(inner) if is_all(self, inner)) {
                    wrong.push((particle.place, "an `all` group cannot be within another group"));
                }
            }
        }
        for ty in &self.components.complex {
            let Content::Elements { particle, .. } = &ty.content else { continue };
            let Some(particle) = self.components.particles.get(particle.index()) else { continue };
            if matches!(particle.term, Term::Group(inner) if is_all(self, inner)) && particle.max != Some(1) {
                wrong.push((particle.place, "an `all` group cannot be repeated"));
            }
        }
        wrong.dedup();
        for (place, message) in wrong {
            self.problems.add(place, "cos-all-limited", message);
        }
    }

    /// How many elements a particle is (`cos-seq-range`, `cos-choice-range`).
    pub(crate) fn range(&mut self, id: ParticleId) -> Range {
        let Some(particle) = self.components.particles.get(id.index()) else { return (0, Some(0)) };
        if let Term::Group(group) = particle.term {
            self.find_ranges(group);
        }
        self.known_range(id)
    }

    pub(crate) fn is_emptiable(&mut self, id: ParticleId) -> bool {
        self.range(id).0 == 0
    }

    /// The range of a particle, if those of the groups in it are known.
    fn known_range(&self, id: ParticleId) -> Range {
        let Some(particle) = self.components.particles.get(id.index()) else { return (0, Some(0)) };
        let (least, most) = match particle.term {
            Term::Group(group) => self.ranges.get(&group).copied().unwrap_or((0, None)),
            _ => (1, Some(1)),
        };
        times((least, most), particle.min, particle.max)
    }

    fn find_ranges(&mut self, id: GroupId) {
        let mut open = vec![id];
        while let Some(id) = open.last().copied() {
            if self.ranges.contains_key(&id) {
                open.pop();
                continue;
            }
            let before = open.len();
            open.extend(
                self.inner_groups(id).iter().map(|(_, group)| *group).filter(|group| !self.ranges.contains_key(group)),
            );
            if open.len() > before {
                continue;
            }
            let Some(group) = self.components.groups.get(id.index()) else { return };
            let ranges = group.particles.iter().map(|particle| self.known_range(*particle));
            let range = total(group.kind, ranges);
            self.ranges.insert(id, range);
            open.pop();
        }
    }
}

/// A range, repeated.
pub(super) fn times((least, most): Range, min: u32, max: Option<u32>) -> Range {
    let most = match (most, max) {
        (Some(0), _) | (_, Some(0)) => Some(0),
        (Some(most), Some(max)) => Some(most.saturating_mul(u64::from(max))),
        _ => None,
    };
    (least.saturating_mul(u64::from(min)), most)
}

/// The range of a group.
pub(super) fn total(kind: GroupKind, ranges: impl Iterator<Item = Range>) -> Range {
    let together = |(least, most): Range, (more_least, more_most): Range| match kind {
        GroupKind::Choice => (least.min(more_least), most.zip(more_most).map(|(one, two)| one.max(two))),
        _ => (least.saturating_add(more_least), most.zip(more_most).map(|(one, two)| one.saturating_add(two))),
    };
    ranges.reduce(together).unwrap_or((0, Some(0)))
}
