//! What could have come instead of an element, for messages.

use super::walk::{Models, Span, State};
use crate::budget::{Exhausted, Steps};
use crate::xsd::components::model::{ElementId, GroupKind, ParticleId, Term};
use crate::xsd::names::{Names, QName, Sym};

/// Most names in a message.
const MOST: usize = 8;

/// What can come next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Elements by name, in the order of the schema.
    pub(crate) names: Vec<QName>,
    /// Whether a wildcard is among it.
    pub(crate) any: bool,
    /// Whether there is more than is listed.
    pub(crate) more: bool,
}

impl Expected {
    fn add(&mut self, name: QName) {
        if self.names.contains(&name) {
            return;
        }
        if self.names.len() < MOST {
            self.names.push(name);
        } else {
            self.more = true;
        }
    }

    /// Writes it as people read it; empty if nothing can come.
    pub(crate) fn show(&self, names: &Names) -> String {
        let mut all: Vec<String> = self.names.iter().map(|name| format!("`{}`", names.text(name.local))).collect();
        if self.any {
            all.push("any element".to_owned());
        }
        if self.more {
            all.push("…".to_owned());
        }
        all.join(", ")
    }
}

impl Models<'_> {
    /// What can come next in the content of this particle.
    pub(crate) fn expected(self, state: &State, content: ParticleId, steps: &mut Steps) -> Result<Expected, Exhausted> {
        let mut expected = Expected::default();
        let frames = state.frames();
        if frames.is_empty() {
            self.first(content, &mut expected, steps)?;
            return Ok(expected);
        }
        for (level, frame) in frames.iter().enumerate().rev() {
            if expected.more {
                break;
            }
            let (min, max) = self.bounds(frame.particle());
            if max.is_none_or(|max| frame.count() < max) {
                self.first(frame.particle(), &mut expected, steps)?;
            }
            if frame.count() < min && !self.body_nullable(frame.particle()) {
                break;
            }
            let Some(around) = level.checked_sub(1).and_then(|level| frames.get(level)) else { break };
            let Some(group) = self.group(around.particle()) else { break };
            match group.kind {
                GroupKind::Sequence => {
                    let from = around.child().saturating_add(1);
                    let to = group.barrier(from);
                    self.of_children(around.particle(), Span { from, to }, |_| true, &mut expected, steps)?;
                    if to < group.length() {
                        break;
                    }
                }
                GroupKind::Choice => {}
                GroupKind::All => {
                    let span = Span { from: 0, to: group.length() };
                    self.of_children(around.particle(), span, |child| !state.was_seen(child), &mut expected, steps)?;
                }
            }
        }
        Ok(expected)
    }

    /// What a particle can begin with.
    fn first(self, id: ParticleId, expected: &mut Expected, steps: &mut Steps) -> Result<(), Exhausted> {
        if let Some(group) = self.group(id) {
            return self.of_children(id, Self::start(group), |_| true, expected, steps);
        }
        match self.components.particles.get(id.index()).map(|particle| &particle.term) {
            Some(Term::Element(element)) => self.add_element(*element, expected),
            Some(Term::Wildcard(_)) => expected.any = true,
            _ => {}
        }
        Ok(())
    }

    fn add_element(self, id: ElementId, expected: &mut Expected) {
        if let Some(element) = self.components.elements.get(id.index()) {
            expected.add(element.name);
        }
    }

    fn of_children(
        self,
        id: ParticleId,
        span: Span,
        allowed: impl Fn(u32) -> bool,
        expected: &mut Expected,
        steps: &mut Steps,
    ) -> Result<(), Exhausted> {
        let Some(group) = self.group(id) else { return Ok(()) };
        steps.take((group.keys().len() as u64).saturating_add(group.wildcards.len() as u64))?;
        let mut keys: Vec<(u32, u64)> = group
            .keys()
            .iter()
            .filter(|(_, child)| (span.from..=span.to).contains(child) && allowed(*child))
            .map(|(key, child)| (*child, *key))
            .collect();
        keys.sort_unstable();
        for (_, key) in keys {
            if key >> 63 == 0 {
                expected.add(QName::of_key(key));
            }
        }
        expected.any |=
            group.wildcards.iter().any(|(_, child)| (span.from..=span.to).contains(child) && allowed(*child));
        Ok(())
    }
}

/// Whether the right name is expected in another namespace.
pub(crate) fn elsewhere(expected: &Expected, name: QName) -> Option<Sym> {
    expected.names.iter().find(|other| other.local == name.local && other.ns != name.ns).map(|other| other.ns)
}
