//! Builds model groups and their particles (XSD 1.0 Part 1, §3.7.2, §3.8.2 and §3.9.2).

use super::context::Builder;
use super::model::{GroupId, GroupKind, Particle, ParticleId, Term};
use super::work::{At, Task};

impl Builder {
    /// A group definition: it is the model group within it.
    pub(crate) fn build_group(&mut self, id: GroupId, at: At) {
        if let Some(model) = self.child(at, &["all", "choice", "sequence"]) {
            self.build_model(id, model);
        }
    }

    pub(crate) fn build_model(&mut self, id: GroupId, at: At) {
        let kind = match self.kind(at) {
            "all" => GroupKind::All,
            "choice" => GroupKind::Choice,
            _ => GroupKind::Sequence,
        };
        let mut particles = Vec::new();
        for (child, name) in self.children(at) {
            particles.extend(match &*name {
                "element" => self.element_particle(child),
                "any" => self.any_particle(child),
                _ => self.group_particle(child),
            });
        }
        if let Some(group) = self.components.groups.get_mut(id.index()) {
            group.kind = kind;
            group.particles = particles;
        }
    }

    fn any_particle(&mut self, at: At) -> Option<ParticleId> {
        let (min, max) = self.occurrence(at);
        let term = Term::Wildcard(self.wildcard(at));
        let place = self.place(at);
        (max != Some(0)).then(|| self.add_particle(Particle { min, max, term, place }))
    }

    /// The particle of a `group`, `all`, `choice` or `sequence`; `None` if it occurs never.
    pub(crate) fn group_particle(&mut self, at: At) -> Option<ParticleId> {
        let (min, max) = self.occurrence(at);
        let group = if self.kind(at) == "group" {
            let name = self.attribute(at, "ref")?;
            self.find_group(at, &name)?
        } else {
            let id = self.new_group();
            self.tasks.push_back((Task::Model(id), at));
            id
        };
        let place = self.place(at);
        (max != Some(0)).then(|| self.add_particle(Particle { min, max, term: Term::Group(group), place }))
    }
}
