//! Where in a text the rules of a mask may still hide something.

use std::ops::Range;

use super::replacement::Replacement;
use super::rules::{Hidden, Step};
use crate::budget::{Exhausted, Reservation};

/// How far a rule has come: its position, and that of its next step.
type State = (usize, usize);

/// How far the rules have come in the objects and arrays that are open, the innermost last, and behind these in the value that begins.
/// In one list, because there is a set of them for each member.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<State>);

impl Places {
    /// The end: where the set of the next value begins.
    pub(super) fn end(&self) -> usize {
        self.0.len()
    }

    /// Takes what they occupy from the budget.
    pub(super) fn reserve(&self, reserved: &mut Reservation) -> Result<(), Exhausted> {
        reserved.grow_to(self.0.capacity() * size_of::<State>())
    }

    /// Forgets what comes after.
    pub(super) fn truncate(&mut self, end: usize) {
        self.0.truncate(end);
    }

    /// Adds the rules at the beginning of a text.
    pub(super) fn begin_text(&mut self, hidden: &Hidden) {
        self.0.extend((0..hidden.0.len()).map(|rule| (rule, 0)));
    }

    /// Of the rules in an object, adds those that go on in the member with this name.
    pub(super) fn begin_member(&mut self, hidden: &Hidden, object: Range<usize>, name: &[u8]) {
        for at in object {
            let Some((rule, step)) = self.0.get(at).copied() else { return };
            let goes_on = match hidden.steps_of(rule).get(step) {
                Some(Step::Any) => true,
                Some(Step::Name(wanted, _)) => wanted.as_bytes() == name,
                None => false,
            };
            self.0.extend(goes_on.then_some((rule, step + 1)));
        }
    }

    /// Of the rules in an array, adds those that go on in the element at this position: a list is passed through, and a rule may also
    /// ask for its elements.
    pub(super) fn begin_element(&mut self, hidden: &Hidden, array: Range<usize>, index: usize) {
        let begin = self.end();
        for at in array {
            let Some((rule, step)) = self.0.get(at).copied() else { return };
            let asks = match hidden.steps_of(rule).get(step) {
                // `*` may be the member of a map in the list as well.
                Some(Step::Any) => true,
                Some(Step::Name(_, wanted)) => *wanted == Some(index),
                None => continue,
            };
            self.0.push((rule, step));
            self.0.extend(asks.then_some((rule, step + 1)));
        }
        self.each_once(begin);
    }

    /// The value that begins here is an object, in which `*` may also be nothing: it stands in place of a list of such objects.
    pub(super) fn skip_in_object(&mut self, hidden: &Hidden, begin: usize) {
        let end = self.end();
        for at in begin..end {
            let Some((rule, step)) = self.0.get(at).copied() else { return };
            let steps = hidden.steps_of(rule);
            let skipped = steps.iter().skip(step).take_while(|step| **step == Step::Any).count();
            let last = (step + skipped).min(steps.len().saturating_sub(1)).max(step);
            self.0.extend((step + 1..=last).map(|step| (rule, step)));
        }
        if self.end() > end {
            self.each_once(begin);
        }
    }

    /// What stands in place of the value that begins here.
    pub(super) fn replacement(&self, hidden: &Hidden, begin: usize) -> Option<Replacement> {
        let set = self.0.get(begin..).unwrap_or_default();
        let ended = |(rule, step): &State| hidden.0.get(*rule).filter(|rule| rule.steps.len() == *step);
        // Where several rules end, the one that shows least.
        set.iter().filter_map(ended).map(|rule| rule.replacement).min()
    }

    /// Places that are reached in several ways count once: there are never more than all rules have steps.
    fn each_once(&mut self, begin: usize) {
        self.0.get_mut(begin..).unwrap_or_default().sort_unstable();
        let (mut end, mut last) = (begin, None);
        for at in begin..self.end() {
            let state = self.0.get(at).copied();
            if state != last
                && let (Some(state), Some(place)) = (state, self.0.get_mut(end))
            {
                *place = state;
                end += 1;
            }
            last = state;
        }
        self.truncate(end);
    }
}

impl Hidden {
    fn steps_of(&self, rule: usize) -> &[Step] {
        self.0.get(rule).map(|rule| &*rule.steps).unwrap_or_default()
    }
}
