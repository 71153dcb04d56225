//! Since when the inputs of the policy in force have their content, and what is wrong with those that changed since. It
//! outlives policies.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::inputs::{Digest, Input};

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InputError {
    /// In words, without a value.
    pub(crate) message: Box<str>,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// What outlives policies, by the name of the input.
#[derive(Debug, Default)]
pub(crate) struct InputAges(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    since: HashMap<Box<str>, (Digest, Timestamp)>,
    errors: BTreeMap<Box<str>, InputError>,
}

impl InputAges {
    /// Notes the inputs of a policy that is put in force now, and forgets all others.
    pub(crate) fn put_in_force(&self, inputs: &[Input], now: Timestamp) {
        let mut inner = self.inner();
        let before = std::mem::take(&mut inner.since);
        let since = |input: &Input| match before.get(&input.name) {
            Some((digest, since)) if *digest == input.digest => (*digest, *since),
            _ => (input.digest, now),
        };
        inner.since = inputs.iter().map(|input| (input.name.clone(), since(input))).collect();
        inner.errors.clear();
    }

    /// Since when the input has the content that is in force.
    pub(crate) fn since(&self, name: &str) -> Option<Timestamp> {
        self.inner().since.get(name).map(|(_, since)| *since)
    }

    /// Replaces what is wrong; an error that stays keeps its time. Returns the new ones.
    pub(crate) fn report(&self, errors: BTreeMap<Box<str>, Box<str>>, now: Timestamp) -> Vec<(Box<str>, Box<str>)> {
        let mut inner = self.inner();
        let before = std::mem::take(&mut inner.errors);
        let mut new = Vec::new();
        for (name, message) in errors {
            let known = before.get(&name).filter(|known| known.message == message);
            let since = known.map_or(now, |known| known.since);
            if known.is_none() {
                new.push((name.clone(), message.clone()));
            }
            inner.errors.insert(name, InputError { message, since });
        }
        new
    }

    /// What is wrong with the input.
    pub(crate) fn error(&self, name: &str) -> Option<InputError> {
        self.inner().errors.get(name).cloned()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::inputs::InputKind;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn input(name: &str, content: &str) -> Input {
        let (kind, digest) = (InputKind::Secret, Digest::of(content.as_bytes()));
        Input { kind, name: name.into(), path: None, digest, modified: None, uses: Vec::new() }
    }

    #[test]
    fn the_age_of_a_content_outlives_policies_that_do_not_change_it() {
        let ages = InputAges::default();
        ages.put_in_force(&[input("a", "1"), input("b", "1")], at(1));
        ages.put_in_force(&[input("a", "1"), input("b", "2"), input("c", "1")], at(2));
        assert_eq!(["a", "b", "c", "d"].map(|name| ages.since(name)), [Some(at(1)), Some(at(2)), Some(at(2)), None]);
        ages.put_in_force(&[input("b", "2")], at(3));
        assert_eq!(["a", "b", "c"].map(|name| ages.since(name)), [None, Some(at(2)), None]);
    }

    #[test]
    fn an_error_is_new_once() {
        let ages = InputAges::default();
        let errors = |message: &str| BTreeMap::from([("a".into(), message.into())]);
        assert_eq!(ages.report(errors("gone"), at(1)), [("a".into(), "gone".into())]);
        assert_eq!(ages.report(errors("gone"), at(2)), []);
        assert_eq!(ages.error("a").map(|error| error.since), Some(at(1)));
        assert_eq!(ages.report(errors("denied"), at(3)).len(), 1);
        assert_eq!((ages.report(BTreeMap::new(), at(4)), ages.inner().errors.len()), (Vec::new(), 0));
    }
}
