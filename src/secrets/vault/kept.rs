//! The last good values of a vault. A good value is never replaced by a miss.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use super::error::VaultError;
use super::reference::{SecretPath, VaultReference};

/// Longest value, in bytes: as long as a file of a reference.
const LONGEST: usize = 1 << 20;

/// Counts the changes of values.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(u64);

/// What the vault answered for one secret.
pub(super) struct Fetched {
    /// The fields that are text, and `None` for others.
    pub(super) fields: BTreeMap<String, Option<SecretString>>,
    /// The version, in an engine with versions.
    pub(super) version: Option<u64>,
}

/// The last good values, of all secrets that a policy refers to.
#[derive(Default)]
pub(crate) struct KeptSecrets(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    generation: Generation,
    secrets: BTreeMap<SecretPath, Kept>,
}

struct Kept {
    fields: BTreeMap<Box<str>, SecretString>,
    state: SecretState,
}

/// What is known about a secret; never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretState {
    /// The version, in an engine with versions.
    pub(crate) version: Option<u64>,
    /// When its values last changed, as far as is known.
    pub(crate) changed: Timestamp,
    /// When the vault last gave it.
    pub(crate) confirmed: Timestamp,
    /// Why it did not since.
    error: Option<String>,
    /// Why its values are not in force yet.
    rejected: Option<String>,
    /// The change that these values came with.
    generation: Generation,
    /// How often it did not.
    pub(crate) failures: u64,
}

impl SecretState {
    /// What is wrong: the vault does not give it, or its values cannot be put in force.
    pub(crate) fn error(&self) -> Option<&str> {
        self.error.as_deref().or(self.rejected.as_deref())
    }

    /// Whether it is older than this.
    pub(crate) fn is_stale(&self, stale_for: Duration, now: Timestamp) -> bool {
        now.duration_since(self.confirmed) > SignedDuration::try_from(stale_for).unwrap_or(SignedDuration::MAX)
    }
}

impl fmt::Debug for KeptSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptSecrets")
    }
}

impl KeptSecrets {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the changes so far.
    pub(crate) fn generation(&self) -> Generation {
        self.inner().generation
    }

    /// Notes that something else of the vault has changed.
    pub(super) fn advance(&self) {
        self.inner().generation.0 += 1;
    }

    /// Notes that the changes after this one could not be put in force, and why; or that they are in force.
    pub(crate) fn reject(&self, after: Generation, why: Option<&str>) {
        for Kept { state, .. } in self.inner().secrets.values_mut() {
            state.rejected =
                why.filter(|_| state.generation > after).map(|why| format!("its new value is not in force: {why}"));
        }
    }

    /// The last good value of a field.
    pub(crate) fn value(&self, reference: &VaultReference) -> Option<SecretString> {
        self.inner().secrets.get(&reference.secret)?.fields.get(&reference.field).cloned()
    }

    /// What is known about a secret.
    pub(crate) fn state(&self, secret: &SecretPath) -> Option<SecretState> {
        self.inner().secrets.get(secret).map(|kept| kept.state.clone())
    }

    /// Forgets all secrets but these.
    pub(crate) fn retain(&self, wanted: &BTreeSet<&SecretPath>) {
        self.inner().secrets.retain(|secret, _| wanted.contains(secret));
    }

    /// Takes what the vault answered, if all fields that are wanted are good: values that belong together are replaced
    /// together. Otherwise the values before stay, and the errors are returned by field.
    pub(super) fn learn(
        &self,
        secret: &SecretPath,
        wanted: &BTreeSet<Box<str>>,
        fetched: &Fetched,
        now: Timestamp,
    ) -> Vec<(Box<str>, VaultError)> {
        let (mut good, mut errors) = (BTreeMap::new(), Vec::new());
        let names: Vec<String> = fetched.fields.keys().cloned().collect();
        for field in wanted {
            match fetched.fields.get(&**field) {
                None => errors.push((field.clone(), VaultError::NoField(names.clone()))),
                Some(None) => errors.push((field.clone(), VaultError::NoText)),
                Some(Some(value)) if value.expose_secret().len() > LONGEST => {
                    errors.push((field.clone(), VaultError::NoText));
                }
                Some(Some(value)) if value.expose_secret().is_empty() => {
                    errors.push((field.clone(), VaultError::Empty));
                }
                Some(Some(value)) => drop(good.insert(field.clone(), value.clone())),
            }
        }
        if let Some((_, error)) = errors.first()
            && self.state(secret).is_some()
        {
            self.fail(secret, error);
            return errors;
        }
        self.take(secret, good, fetched.version, now);
        errors
    }

    fn take(
        &self,
        secret: &SecretPath,
        fields: BTreeMap<Box<str>, SecretString>,
        version: Option<u64>,
        now: Timestamp,
    ) {
        let mut inner = self.inner();
        let before = inner.secrets.get(secret);
        let known = |field: &str| before.and_then(|before| before.fields.get(field));
        let same = |known: &SecretString, value: &SecretString| known.expose_secret() == value.expose_secret();
        let changed = fields.iter().any(|(field, value)| known(field).is_some_and(|known| !same(known, value)));
        let generation = Generation(inner.generation.0 + u64::from(changed));
        let state = SecretState {
            version,
            changed: before.filter(|_| !changed).map_or(now, |before| before.state.changed),
            confirmed: now,
            error: None,
            rejected: before.and_then(|before| before.state.rejected.clone()),
            generation: before.filter(|_| !changed).map_or(generation, |before| before.state.generation),
            failures: before.map_or(0, |before| before.state.failures),
        };
        if before.is_some_and(|before| before.state.error.is_some()) {
            tracing::info!(secret = %secret, "the vault gives this secret again");
        }
        // A policy that is being loaded may want other fields than the one in force.
        let mut all = before.map(|before| before.fields.clone()).unwrap_or_default();
        all.extend(fields);
        inner.generation = generation;
        inner.secrets.insert(secret.clone(), Kept { fields: all, state });
    }

    /// Notes that the vault did not give a secret. Logged when it is new.
    pub(super) fn fail(&self, secret: &SecretPath, error: &VaultError) {
        if let Some(Kept { state, .. }) = self.inner().secrets.get_mut(secret) {
            let why = error.why();
            if state.error.is_none() {
                tracing::warn!(secret = %secret, why, since = %state.confirmed, "a secret could not be read again; its last value stays in use");
            }
            state.error = Some(why);
            state.failures += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fetched(fields: &[(&str, Option<&str>)], version: u64) -> Fetched {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.map(SecretString::from)));
        Fetched { fields: fields.collect(), version: Some(version) }
    }

    #[test]
    fn a_good_value_is_never_replaced_by_a_miss() {
        let kept = KeptSecrets::default();
        let reference = VaultReference::parse("kv/a#one").unwrap();
        let (secret, wanted) = (&reference.secret, BTreeSet::from(["one".into(), "two".into()]));
        let value = || kept.value(&reference).map(|value| value.expose_secret().to_owned());
        // Before there is one, what is good is taken, and the rest reported.
        let errors = kept.learn(secret, &wanted, &fetched(&[("one", Some("1")), ("other", None)], 1), at(1));
        assert_eq!(errors, [("two".into(), VaultError::NoField(vec!["one".into(), "other".into()]))]);
        assert!(kept.learn(secret, &wanted, &fetched(&[("one", Some("1")), ("two", Some("2"))], 1), at(2)).is_empty());
        let first = kept.generation();
        for (miss, error) in [
            (fetched(&[("one", Some("new"))], 2), VaultError::NoField(vec!["one".into()])),
            (fetched(&[("one", Some("new")), ("two", Some(""))], 2), VaultError::Empty),
            (fetched(&[("one", Some("new")), ("two", None)], 2), VaultError::NoText),
        ] {
            assert_eq!(kept.learn(secret, &wanted, &miss, at(3)), [("two".into(), error)]);
        }
        kept.fail(secret, &VaultError::Sealed);
        let state = kept.state(secret).unwrap();
        assert_eq!((value().as_deref(), kept.generation()), (Some("1"), first));
        assert_eq!((state.version, state.confirmed, state.failures), (Some(1), at(2), 4));
        assert_eq!(state.error(), Some("the vault is sealed"));
        // One that is confirmed without a change is no change.
        kept.learn(secret, &wanted, &fetched(&[("one", Some("1")), ("two", Some("2"))], 2), at(9));
        assert_eq!((kept.generation(), kept.state(secret).unwrap().changed), (first, at(1)));
        kept.learn(secret, &wanted, &fetched(&[("one", Some("1")), ("two", Some("3"))], 3), at(10));
        assert_ne!(kept.generation(), first);
        assert_eq!(kept.state(secret).unwrap().changed, at(10));
        // A value that does not fit is an error until another is in force.
        kept.reject(first, Some("no"));
        kept.learn(secret, &wanted, &fetched(&[("one", Some("1")), ("two", Some("3"))], 3), at(11));
        assert_eq!(kept.state(secret).unwrap().error(), Some("its new value is not in force: no"));
        kept.reject(kept.generation(), Some("no"));
        assert_eq!(kept.state(secret).unwrap().error(), None);
        kept.retain(&BTreeSet::new());
        assert_eq!(value(), None);
    }

    #[test]
    fn a_secret_is_stale_after_its_time_and_not_at_it() {
        let state = SecretState {
            version: None,
            changed: at(0),
            confirmed: at(100),
            error: None,
            rejected: None,
            generation: Generation::default(),
            failures: 0,
        };
        for (now, stale) in [(99, false), (160, false), (161, true)] {
            assert_eq!(state.is_stale(Duration::from_secs(60), at(now)), stale, "{now}");
        }
    }
}
