//! Where in a text the rules of a mask may still hide something.

use std::ops::Range;

use super::replacement::Replacement;
use super::rules::{Hidden, Step};
use crate::budget::{Exhausted, Reservation};

/// How far a rule has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// Its position.
    rule: usize,
    /// That of its next step.
    step: usize,
    /// Of the lists that the value is in, up to the next object, one was passed through: no step has asked for its elements.
    is_passed: bool,
}

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
        self.0.extend((0..hidden.0.len()).map(|rule| State { rule, step: 0, is_passed: false }));
    }

    /// Of the rules in an object, adds those that go on in the member with this name.
    pub(super) fn begin_member(&mut self, hidden: &Hidden, object: Range<usize>, name: &[u8]) {
        for at in object {
            let Some(State { rule, step, .. }) = self.0.get(at).copied() else { return };
            let goes_on = match hidden.steps_of(rule).get(step) {
                Some(Step::Any) => true,
                Some(Step::Name(wanted, _)) => wanted.as_bytes() == name,
                None => false,
            };
            self.0.extend(goes_on.then_some(State { rule, step: step + 1, is_passed: false }));
        }
    }

    /// Of the rules in an array, adds those that go on in the element at this position: a list is passed through, and a rule may also
    /// ask for its elements.
    pub(super) fn begin_element(&mut self, hidden: &Hidden, array: Range<usize>, index: usize) {
        let begin = self.end();
        for at in array {
            let Some(State { rule, step, is_passed }) = self.0.get(at).copied() else { return };
            let asks = match hidden.steps_of(rule).get(step) {
                // `*` may be the member of a map in the list as well.
                Some(Step::Any) => true,
                Some(Step::Name(_, wanted)) => *wanted == Some(index),
                None => continue,
            };
            self.0.push(State { rule, step, is_passed: true });
            self.0.extend(asks.then_some(State { rule, step: step + 1, is_passed }));
        }
        self.each_once(begin);
    }

    /// The value that begins here is an object, in which steps that ask for elements may also be nothing: it stands in place of a list
    /// of such objects.
    pub(super) fn skip_in_object(&mut self, hidden: &Hidden, begin: usize) {
        let end = self.end();
        for at in begin..end {
            let Some(state) = self.0.get(at).copied() else { return };
            let rest = state.rest(hidden);
            let (skipped, left) = (state.skipped(rest), rest.len());
            let last = skipped.min(left.saturating_sub(1));
            self.0.extend((1..=last).map(|more| State { step: state.step + more, ..state }));
        }
        if self.end() > end {
            self.each_once(begin);
        }
    }

    /// What stands in place of the value that begins here, with this byte.
    pub(super) fn replacement(&self, hidden: &Hidden, begin: usize, byte: u8) -> Option<Replacement> {
        let set = self.0.get(begin..).unwrap_or_default();
        let reached = |state: &&State| {
            let rest = state.rest(hidden);
            rest.is_empty()
                || match byte {
                    // `null` in place of a list has nothing to hide.
                    b'[' | b'n' => false,
                    // Of an object in place of a list, `*` asks for the members.
                    b'{' => state.skipped(rest) == rest.len() && !rest.contains(&Step::Any),
                    _ => state.skipped(rest) == rest.len(),
                }
        };
        // Where several rules end, the one that shows least.
        set.iter().filter(reached).filter_map(|state| hidden.0.get(state.rule)).map(|rule| rule.replacement).min()
    }

    /// Places that are reached in several ways count once, as asked for if they are: there are never more than all rules have steps.
    fn each_once(&mut self, begin: usize) {
        self.0.get_mut(begin..).unwrap_or_default().sort_unstable();
        let (mut end, mut last) = (begin, None);
        for at in begin..self.end() {
            let Some(state) = self.0.get(at).copied() else { break };
            if last != Some((state.rule, state.step))
                && let Some(place) = self.0.get_mut(end)
            {
                *place = state;
                end += 1;
            }
            last = Some((state.rule, state.step));
        }
        self.truncate(end);
    }
}

impl State {
    /// The steps that are left.
    fn rest(self, hidden: &Hidden) -> &[Step] {
        hidden.steps_of(self.rule).get(self.step..).unwrap_or_default()
    }

    /// How many of the steps that are left may be nothing, where a single value stands in place of a list of one.
    fn skipped(self, rest: &[Step]) -> usize {
        let asks = |step: &&Step| match step {
            Step::Any => true,
            // In a list that is passed through, there are others beside the value.
            Step::Name(_, index) => *index == Some(0) && !self.is_passed,
        };
        rest.iter().take_while(asks).count()
    }
}

impl Hidden {
    fn steps_of(&self, rule: usize) -> &[Step] {
        self.0.get(rule).map(|rule| &*rule.steps).unwrap_or_default()
    }
}
