//! What this process knows of the rotations besides the store. It outlives policies.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

use crate::state::registry::entry::Digest;

/// First and longest pause after a failure, in seconds.
const PAUSES: (i64, i64) = (1, 60);
/// How often it is looked whether the vault still has the current key.
const CHECK: SignedDuration = SignedDuration::from_secs(60);

/// The progress of all rotations, by their ids.
#[derive(Default)]
pub(crate) struct Progress(Mutex<BTreeMap<Box<str>, State>>);

/// The progress of one rotation.
#[derive(Default)]
struct State {
    held: Option<HeldKey>,
    status: RotationStatus,
    /// Failures in a row.
    streak: u32,
    /// Not to be tried again before, and how long that is.
    retry: Option<(Timestamp, i64)>,
    /// When it was last looked into the vault.
    checked: Option<Timestamp>,
    /// When this process first saw each key that is not delivered, by number.
    seen: BTreeMap<u64, Timestamp>,
}

/// A key that was made here and that the vault does not have yet. It is nowhere else.
#[derive(Clone)]
pub(super) struct HeldKey {
    pub(super) sha256: Digest,
    pub(super) secret: SecretString,
}

/// What operators see of a rotation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RotationStatus {
    /// What is wrong now.
    pub(crate) error: Option<Box<str>>,
    /// How often something failed.
    pub(crate) failures: u64,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

impl Progress {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Box<str>, State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, rotation: &str, work: impl FnOnce(&mut State) -> T) -> T {
        work(self.all().entry(rotation.into()).or_default())
    }

    /// What operators see of a rotation.
    pub(crate) fn status(&self, rotation: &str) -> RotationStatus {
        self.all().get(rotation).map(|state| state.status.clone()).unwrap_or_default()
    }

    /// Forgets all rotations but these.
    pub(crate) fn retain(&self, is_wanted: impl Fn(&str) -> bool) {
        self.all().retain(|id, _| is_wanted(id));
    }

    pub(super) fn held(&self, rotation: &str) -> Option<HeldKey> {
        self.all().get(rotation)?.held.clone()
    }

    pub(super) fn hold(&self, rotation: &str, held: Option<HeldKey>) {
        self.with(rotation, |state| state.held = held);
    }

    /// Notes these keys, which are not delivered, and forgets all others. Returns when each was first seen.
    pub(super) fn pending(
        &self,
        rotation: &str,
        numbers: impl Iterator<Item = u64>,
        now: Timestamp,
    ) -> BTreeMap<u64, Timestamp> {
        self.with(rotation, |state| {
            let known = std::mem::take(&mut state.seen);
            state.seen = numbers.map(|number| (number, known.get(&number).copied().unwrap_or(now))).collect();
            state.seen.clone()
        })
    }

    /// Whether it is time to try again after a failure. A clock that was set back ends the wait.
    pub(super) fn may_try(&self, rotation: &str, now: Timestamp) -> bool {
        let retry = self.all().get(rotation).and_then(|state| state.retry);
        retry.is_none_or(|(at, pause)| now >= at || at.duration_since(now).as_secs() > pause)
    }

    /// Whether it is time to look into the vault; it then is looked at.
    pub(super) fn takes_a_look(&self, rotation: &str, now: Timestamp) -> bool {
        self.with(rotation, |state| {
            let due = state.checked.is_none_or(|checked| now.duration_since(checked).abs() >= CHECK);
            if due {
                state.checked = Some(now);
            }
            due
        })
    }

    /// Notes that something failed, or that something is wrong; then it is not tried again for a while. Returns how often it did
    /// in a row.
    pub(super) fn fail(&self, rotation: &str, why: &str, now: Timestamp) -> u32 {
        self.with(rotation, |state| {
            let pause = state.retry.map_or(PAUSES.0, |(_, pause)| (pause * 2).min(PAUSES.1));
            state.retry = Some((now.saturating_add(SignedDuration::from_secs(pause)).unwrap_or(now), pause));
            state.status.failures += 1;
            state.status.error = Some(why.into());
            state.streak = state.streak.saturating_add(1);
            state.streak
        })
    }

    /// Notes that all is well. Returns whether something was wrong before.
    pub(super) fn succeed(&self, rotation: &str) -> bool {
        self.with(rotation, |state| {
            (state.retry, state.streak) = (None, 0);
            state.status.error.take().is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_with_success_or_when_the_clock_is_set_back() {
        let (progress, at) = (Progress::default(), |second| Timestamp::from_second(second).unwrap());
        let mut now = 1000;
        for (streak, pause) in (1..).zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            assert_eq!(progress.fail("a", "why", at(now)), streak);
            assert!(!progress.may_try("a", at(now + pause - 1)), "{pause}");
            assert!(progress.may_try("a", at(now + pause)) && progress.may_try("a", at(now - 100)), "{pause}");
            assert!(progress.may_try("b", at(now)), "of another one");
            now += pause;
        }
        assert_eq!(progress.status("a"), RotationStatus { error: Some("why".into()), failures: 8 });
        assert!(progress.succeed("a") && !progress.succeed("a"));
        assert!(progress.may_try("a", at(now)));
        assert_eq!(progress.fail("a", "why", at(now)), 1, "it begins anew");
        assert_eq!([now, now + 59, now + 60].map(|now| progress.takes_a_look("a", at(now))), [true, false, true]);
        progress.retain(|id| id == "b");
        assert_eq!(progress.status("a"), RotationStatus::default());
    }
}
