//! Where in a text the rules of a mask may still hide something.

use super::replacement::Replacement;
use super::rules::{Hidden, Step};

/// How far a rule has come: its position, and that of its next step.
pub(super) type State = (usize, usize);

impl Hidden {
    /// The rules at the beginning of a text.
    pub(super) fn at_root(&self) -> Vec<State> {
        (0..self.0.len()).map(|rule| (rule, 0)).collect()
    }

    /// What stands in place of a value that these rules have reached.
    pub(super) fn replacement(&self, states: &[State]) -> Option<Replacement> {
        let ended = |(rule, step): &State| self.0.get(*rule).filter(|rule| rule.steps.len() == *step);
        // Where several rules end, the one that shows least.
        states.iter().filter_map(ended).map(|rule| rule.replacement).min()
    }

    fn steps_of(&self, rule: usize) -> &[Step] {
        self.0.get(rule).map(|rule| &*rule.steps).unwrap_or_default()
    }

    /// In an object, `*` may also be nothing: it stands in place of a list of such objects.
    pub(super) fn skipping(&self, states: &[State]) -> Vec<State> {
        let mut all = Vec::with_capacity(states.len());
        for (rule, step) in states.iter().copied() {
            let steps = self.steps_of(rule);
            let skipped = steps.iter().skip(step).take_while(|step| **step == Step::Any).count();
            let last = (step + skipped).min(steps.len().saturating_sub(1)).max(step);
            all.extend((step..=last).map(|step| (rule, step)));
        }
        each_once(all)
    }

    /// The rules that go on in the member with this name.
    pub(super) fn of_member(&self, states: &[State], name: &[u8]) -> Vec<State> {
        let goes_on = |(rule, step): &State| match self.steps_of(*rule).get(*step)? {
            Step::Any => Some((*rule, step + 1)),
            Step::Name(wanted, _) => (wanted.as_bytes() == name).then_some((*rule, step + 1)),
        };
        states.iter().filter_map(goes_on).collect()
    }

    /// The rules that go on in the element at this position: a list is passed through, and a rule may also ask for its elements.
    pub(super) fn of_element(&self, states: &[State], index: usize) -> Vec<State> {
        let mut inner = Vec::with_capacity(states.len());
        for (rule, step) in states.iter().copied() {
            let asks = match self.steps_of(rule).get(step) {
                // `*` may be the member of a map in the list as well.
                Some(Step::Any) => true,
                Some(Step::Name(_, wanted)) => *wanted == Some(index),
                None => continue,
            };
            inner.push((rule, step));
            inner.extend(asks.then_some((rule, step + 1)));
        }
        each_once(inner)
    }
}

/// Places that are reached in several ways count once: there are never more than all rules have steps.
fn each_once(mut states: Vec<State>) -> Vec<State> {
    states.sort_unstable();
    states.dedup();
    states
}
