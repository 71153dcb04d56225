//! What follows from the files as they are now: each round compares them with what is in force.
//!
//! A change is put in force once two looks in a row have seen it, so that a file which is being written is rarely read. When
//! it cannot be put in force, nothing is said at first: the rest of it, such as the key of a new certificate, may follow.

use std::collections::BTreeMap;

use crate::secrets::inputs::{Digest, Input};

/// After how many rounds in which a change cannot be put in force that is reported.
const PATIENCE: u32 = 3;
/// Longest pause between two attempts with the same files, in rounds.
const LONGEST_PAUSE: u32 = 64;
/// How many looks in a row may differ before a change is tried anyway.
const RESTLESS: u32 = 5;

/// The files as they are now, by name; on failure, what is wrong.
pub(super) type Looked = BTreeMap<Box<str>, Result<Digest, Box<str>>>;

/// What follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Nothing,
    /// Look again soon: files are changing.
    LookAgain,
    /// Load everything again, because these files have changed.
    Reload(Vec<Box<str>>),
}

/// What earlier rounds have seen.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The files that were not as in force.
    seen: Looked,
    /// How many looks in a row differed.
    restless: u32,
    failing: Option<Failing>,
}

/// A change that could not be put in force.
#[derive(Debug)]
struct Failing {
    seen: Looked,
    /// Rounds since the first attempt.
    rounds: u32,
    /// The round of the next attempt with the same files.
    next: u32,
    /// What was reported.
    reported: Option<Box<str>>,
}

impl Rounds {
    /// Judges a look. `inputs` are those of the policy in force; the policy file is left out unless it is watched.
    pub(super) fn judge(&mut self, inputs: &[Input], with_policy: bool, looked: &Looked) -> Verdict {
        let differs = |input: &&Input| {
            (with_policy || !input.kind.is_policy())
                && looked.get(&input.name).is_some_and(|found| *found != Ok(input.digest))
        };
        let names = inputs.iter().filter(differs).map(|input| &input.name);
        let seen: Looked = names.filter_map(|name| Some((name.clone(), looked.get(name)?.clone()))).collect();
        if seen.is_empty() {
            *self = Self::default();
            return Verdict::Nothing;
        }
        if seen != self.seen {
            self.seen = seen;
            self.restless = self.restless.saturating_add(1);
            if self.restless < RESTLESS {
                return Verdict::LookAgain;
            }
        }
        self.restless = 0;
        if self.seen.values().any(Result::is_err) {
            return Verdict::Nothing;
        }
        if let Some(failing) = &mut self.failing {
            failing.rounds = failing.rounds.saturating_add(1);
            if failing.seen == self.seen && failing.rounds < failing.next {
                return Verdict::Nothing;
            }
        }
        Verdict::Reload(self.seen.keys().cloned().collect())
    }

    /// Notes that the change could not be put in force, and why. Returns whether it is time to report it.
    pub(super) fn failed(&mut self, why: &str) -> bool {
        let fresh = || Failing { seen: Looked::new(), rounds: 0, next: 0, reported: None };
        let failing = self.failing.get_or_insert_with(fresh);
        if failing.seen != self.seen && failing.reported.is_some() {
            *failing = fresh();
        }
        failing.seen.clone_from(&self.seen);
        failing.next = failing.rounds.saturating_add(failing.rounds.clamp(1, LONGEST_PAUSE));
        let due = failing.rounds >= PATIENCE && failing.reported.is_none();
        if due {
            failing.reported = Some(why.into());
        }
        due
    }

    /// Whether something is expected to change soon.
    pub(super) fn is_waiting(&self) -> bool {
        self.failing.as_ref().is_some_and(|failing| failing.reported.is_none())
    }

    /// What is wrong with which file, as far as it was to be reported.
    pub(super) fn errors(&self) -> BTreeMap<Box<str>, Box<str>> {
        let mut errors = BTreeMap::new();
        if self.restless == 0 {
            let unreadable = self.seen.iter().filter_map(|(name, found)| Some((name, found.as_ref().err()?)));
            errors.extend(unreadable.map(|(name, why)| (name.clone(), why.clone())));
        }
        if let Some(Failing { seen, reported: Some(why), .. }) = &self.failing {
            let failed = seen.keys().filter(|name| self.seen.contains_key(*name));
            errors.extend(failed.map(|name| (name.clone(), why.clone())));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::inputs::InputKind;

    fn input(name: &str, kind: InputKind, content: &str) -> Input {
        let digest = Digest::of(content.as_bytes());
        Input { kind, name: name.into(), path: None, digest, modified: None, uses: Vec::new() }
    }

    fn looked(files: &[(&str, Option<&str>)]) -> Looked {
        let one = |content: Option<&str>| content.map(|text| Digest::of(text.as_bytes())).ok_or_else(|| "gone".into());
        files.iter().map(|(name, content)| ((*name).into(), one(*content))).collect()
    }

    fn inputs() -> [Input; 3] {
        [
            input("c.pem", InputKind::Certificates, "c1"),
            input("k.pem", InputKind::Secret, "k1"),
            input("policy.yaml", InputKind::Policy, "p1"),
        ]
    }

    /// The verdict of each look, with an attempt that fails where it is to be made; `!` where that is reported.
    fn verdicts(looks: &[[Option<&str>; 3]], with_policy: bool) -> Vec<&'static str> {
        let (inputs, mut rounds) = (inputs(), Rounds::default());
        let one = |[certificate, key, policy]: &[Option<&str>; 3]| {
            let looked = looked(&[("c.pem", *certificate), ("k.pem", *key), ("policy.yaml", *policy)]);
            match rounds.judge(&inputs, with_policy, &looked) {
                Verdict::Nothing => "-",
                Verdict::LookAgain => "again",
                Verdict::Reload(_) if rounds.failed("why") => "try!",
                Verdict::Reload(_) => "try",
            }
        };
        looks.iter().map(one).collect()
    }

    #[test]
    fn a_change_is_tried_when_it_was_seen_twice() {
        let before = [Some("c1"), Some("k1"), Some("p1")];
        let (changed, other) = ([Some("c2"), Some("k1"), Some("p1")], [Some("c3"), Some("k1"), Some("p1")]);
        assert_eq!(verdicts(&[before, changed, changed], false), ["-", "again", "try"]);
        assert_eq!(verdicts(&[changed, other, before, other, other], false), ["again", "again", "-", "again", "try"]);
        // One that never rests is tried all the same.
        assert_eq!(verdicts(&[changed, other, changed, other, changed], false).last(), Some(&"try"));
    }

    #[test]
    fn the_policy_file_counts_only_if_it_is_watched() {
        let changed = [Some("c1"), Some("k1"), Some("p2")];
        assert_eq!(verdicts(&[changed, changed], false), ["-", "-"]);
        assert_eq!(verdicts(&[changed, changed], true), ["again", "try"]);
        let gone = [Some("c1"), Some("k1"), None];
        assert_eq!(verdicts(&[gone, gone], false), ["-", "-"]);
    }

    #[test]
    fn what_cannot_be_put_in_force_is_reported_once_after_a_while() {
        let half = [Some("c2"), Some("k1"), Some("p1")];
        let looks = [half; 20];
        let found = verdicts(&looks, false);
        assert_eq!(found[..6], ["again", "try", "try", "try", "-", "try!"], "{found:?}");
        assert_eq!(found.iter().filter(|verdict| **verdict == "try!").count(), 1, "{found:?}");
        // Changes while it waits neither hasten the report nor put it off for ever.
        let other = [Some("c3"), Some("k1"), Some("p1")];
        let found = verdicts(&[half, half, other, other, half, half, other, other], false);
        assert_eq!(found, ["again", "try", "again", "try", "again", "try", "again", "try!"]);
    }

    #[test]
    fn a_file_that_is_gone_is_an_error_and_nothing_is_tried() {
        let (inputs, mut rounds) = (inputs(), Rounds::default());
        let gone = looked(&[("c.pem", Some("c2")), ("k.pem", None), ("policy.yaml", Some("p1"))]);
        assert_eq!(rounds.judge(&inputs, false, &gone), Verdict::LookAgain);
        assert_eq!(rounds.errors().len(), 0);
        assert_eq!(rounds.judge(&inputs, false, &gone), Verdict::Nothing);
        assert_eq!(rounds.errors(), BTreeMap::from([("k.pem".into(), "gone".into())]));
        let back = looked(&[("c.pem", Some("c1")), ("k.pem", Some("k1")), ("policy.yaml", Some("p1"))]);
        assert_eq!((rounds.judge(&inputs, false, &back), rounds.errors().len()), (Verdict::Nothing, 0));
    }
}
