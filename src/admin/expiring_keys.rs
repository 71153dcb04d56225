//! API keys that expire soon: for the metrics, and for a daily warning in the log.
//!
//! Never called while proxying a request, because it iterates over all keys. Revoked keys are left out, and those that were
//! rotated on schedule, unless their consumer still uses them.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use crate::stages::auth::api_key::{self, ApiKeys};
use crate::state::registry::Registry;
use crate::state::registry::entry::Key;
use crate::state::registry::revocation_key::RevocationKey;

/// The metrics list keys that expire within this time.
pub(crate) const SOON: SignedDuration = SignedDuration::from_hours(30 * 24);
/// The log warns of keys that expire within this time.
const WARNED: SignedDuration = SignedDuration::from_hours(14 * 24);
/// How often the warning for a key is repeated.
const AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// Maximum number of warnings at a time; the remaining keys are only counted.
const MOST: usize = 100;

/// An API key that expires soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExpiringKey {
    /// Its id.
    pub(crate) key: Box<str>,
    /// The consumer that owns the key.
    pub(crate) consumer: Box<str>,
    /// When it expires, or exceeds the maximum age.
    pub(crate) end: Timestamp,
    /// The key that it was rotated to.
    pub(crate) replaced_by: Option<Box<str>>,
}

/// Returns the valid keys of the policy and the store that expire within this time, sorted by expiry.
pub(crate) fn expiring(
    keys: &ApiKeys,
    registry: &Registry,
    within: SignedDuration,
    now: Timestamp,
) -> Vec<ExpiringKey> {
    let horizon = now.checked_add(within).unwrap_or(Timestamp::MAX);
    let is_near = |end: &Timestamp| now < *end && *end <= horizon;
    let listed = keys.listed().filter_map(|key| {
        let ending = ExpiringKey::new(&key.id, key.consumer.name(), key.end(keys.max_age()).filter(is_near)?, None);
        Some((ending, key.created.or(key.not_before)))
    });
    let made = registry.keys();
    let made = made.iter().filter(|key| !is_given_up(key, registry)).filter_map(|key| {
        let end = api_key::end(Some(key.created), key.expires, keys.max_age()).filter(is_near)?;
        Some((ExpiringKey::new(&key.id, &key.consumer, end, key.replaced_by.clone()), Some(key.created)))
    });
    let alive = listed.chain(made).filter(|(ending, issued)| {
        let revocation_keys =
            [RevocationKey::key(&ending.key), RevocationKey::consumer(&ending.consumer), RevocationKey::all()];
        !registry.is_revoked(&revocation_keys, issued.map(Timestamp::as_second), now)
    });
    let mut endings: Vec<ExpiringKey> = alive.map(|(ending, _)| ending).collect();
    endings.sort_by(|one, other| (one.end, &one.key).cmp(&(other.end, &other.key)));
    endings
}

/// Whether a key was rotated on schedule, and its consumer uses the next one as far as is known: it was not used in the second
/// half of the overlap.
fn is_given_up(key: &Key, registry: &Registry) -> bool {
    let next = key.rotation.as_ref().and(key.replaced_by.as_ref()).and_then(|next| registry.key_by_id(next));
    let delivered = next.and_then(|next| next.rotation.as_ref()?.delivered);
    let Some((delivered, end)) = delivered.zip(key.expires) else { return false };
    let half = delivered.saturating_add(end.duration_since(delivered) / 2).unwrap_or(end);
    registry.usage(&key.id).last().is_none_or(|last| last.at < half)
}

impl ExpiringKey {
    fn new(key: &str, consumer: &str, end: Timestamp, replaced_by: Option<Box<str>>) -> Self {
        Self { key: key.into(), consumer: consumer.into(), end, replaced_by }
    }
}

/// Remembers which keys the log has warned of, so that each is reported once a day.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    warned: HashMap<Box<str>, Timestamp>,
}

impl Reminder {
    /// Logs a warning for each key that is due.
    pub(crate) fn warn(&mut self, keys: &ApiKeys, registry: &Registry, now: Timestamp) {
        let due = self.due(keys, registry, now);
        for ExpiringKey { key, consumer, end, replaced_by } in due.iter().take(MOST) {
            match replaced_by {
                None => tracing::warn!(%key, %consumer, %end, "an API key expires soon; rotate it"),
                Some(next) => tracing::warn!(%key, %consumer, %end, %next, "a rotated API key expires soon"),
            }
        }
        if due.len() > MOST {
            tracing::warn!(keys = due.len() - MOST, "more API keys expire soon");
        }
    }

    /// Returns the keys to warn of now, and marks them as warned of.
    fn due(&mut self, keys: &ApiKeys, registry: &Registry, now: Timestamp) -> Vec<ExpiringKey> {
        let before = std::mem::take(&mut self.warned);
        let mut due = Vec::new();
        for ending in expiring(keys, registry, WARNED, now) {
            // `abs`: setting the clock back must not silence the warning for more than a day.
            let warned = before.get(&ending.key).filter(|warned| now.duration_since(**warned).abs() < AGAIN);
            self.warned.insert(ending.key.clone(), *warned.unwrap_or(&now));
            if warned.is_none() {
                due.push(ending);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stages::auth::Consumer;
    use crate::state::epoch::Epoch;
    use crate::state::ledger::Clock;
    use crate::state::registry::entry::{self, Change, Entry, Kind, Rotation};
    use crate::state::registry::revocation_key::RevocationTarget;

    const NOW: i64 = 1_800_000_000;
    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn registry() -> Registry {
        Registry::new(None, Epoch::default(), Clock::starting(std::time::Instant::now()))
    }

    /// A key made at run time that expires this many hours from now.
    fn made(id: &str, hours: i64) -> Change {
        Change::Put(Entry::Key(entry::Key {
            id: id.into(),
            consumer: "acme".into(),
            sha256: [u8::try_from(id.len()).unwrap(); 32],
            scopes: None,
            from: None,
            not_before: None,
            expires: Some(at(NOW + hours * HOUR)),
            replaced_by: None,
            note: None,
            created: at(NOW - 1000 * HOUR),
            created_by: "admin".into(),
            rotation: None,
            ends_for_good: false,
        }))
    }

    fn ids(endings: &[ExpiringKey]) -> Vec<&str> {
        endings.iter().map(|ending| &*ending.key).collect()
    }

    #[test]
    fn keys_of_policy_and_store_that_are_good_and_end_soon() {
        let acme = Arc::new(Consumer::new("acme", Vec::new(), None, None));
        let mut keys = ApiKeys::new(Some(SignedDuration::from_hours(1100)));
        for (number, (id, created, expires)) in [
            ("ends", NOW, Some(NOW + 40 * HOUR)),
            ("gets-old", NOW - 1050 * HOUR, None),
            ("ended", NOW, Some(NOW)),
            ("last-moment", NOW, Some(NOW + 100 * HOUR)),
            ("far", NOW, Some(NOW + 101 * HOUR)),
            ("unbounded", NOW, None),
        ]
        .into_iter()
        .enumerate()
        {
            let consumer = Arc::clone(&acme);
            let (created, expires) = (Some(at(created)), expires.map(at));
            let key = api_key::Key {
                id: id.into(),
                consumer,
                scopes: None,
                networks: None,
                created,
                not_before: None,
                expires,
            };
            assert!(keys.add([u8::try_from(number).unwrap(); 32], key));
        }
        let registry = registry();
        for (id, hours) in [("a", 60), ("bb", 30), ("ccc", 20), ("dddd", -1), ("eeeee", 900)] {
            registry.learn(made(id, hours));
        }
        registry.learn(Change::Put(Entry::Revocation(entry::Revocation {
            target: RevocationTarget::Key("ccc".into()),
            issued_before: None,
            expires: None,
            reason: None,
            created: at(NOW),
            created_by: "admin".into(),
        })));
        let found = expiring(&keys, &registry, SignedDuration::from_hours(100), at(NOW));
        // `a` is 1000 hours old, so its age ends it only after its own end; `eeeee` ends by its age.
        assert_eq!(ids(&found), ["bb", "ends", "gets-old", "a", "eeeee", "last-moment"]);
        assert_eq!((&*found[0].consumer, found[0].end), ("acme", at(NOW + 30 * HOUR)));
        assert_eq!(ids(&expiring(&keys, &registry, SignedDuration::ZERO, at(NOW))), [""; 0]);
    }

    #[test]
    fn a_key_that_was_rotated_on_schedule_ends_soon_for_whoever_still_uses_it() {
        let (keys, registry) = (ApiKeys::default(), registry());
        let rotated = |id: &str, replaced_by: Option<&str>, delivered: i64, expires: Option<i64>| {
            let Change::Put(Entry::Key(key)) = made(id, 0) else { unreachable!() };
            let delivered = Some(at(NOW + delivered * HOUR));
            let rotation = Rotation { of: "a".into(), number: 1, delivered, asked: None, ended: false };
            let (expires, replaced_by) = (expires.map(|hours| at(NOW + hours * HOUR)), replaced_by.map(Into::into));
            Change::Put(Entry::Key(Key { expires, replaced_by, rotation: Some(rotation), ..key }))
        };
        registry.learn(rotated("a-1", Some("a-22"), -1000, Some(100)));
        registry.learn(rotated("a-22", None, -100, None));
        let found = || expiring(&keys, &registry, SOON, at(NOW)).len();
        for (hours, expected) in [(-200, 0), (-1, 0), (0, 1), (1, 1)] {
            registry.usage("a-1").note(at(NOW + hours * HOUR), [192, 0, 2, 1].into());
            assert_eq!(found(), expected, "used after {hours} h");
        }
    }

    #[test]
    fn a_key_is_warned_of_once_a_day_and_again_when_it_comes_back() {
        let (mut reminder, keys, registry) = (Reminder::default(), ApiKeys::default(), registry());
        for (after, there, due) in [
            (0, vec!["a", "b"], vec!["a", "b"]),
            (1, vec!["a", "b"], vec![]),
            (2 * HOUR, vec!["a", "b", "c"], vec!["c"]),
            (24 * HOUR - 1, vec!["a", "c"], vec![]),
            (24 * HOUR, vec!["a", "c"], vec!["a"]),
            (25 * HOUR, vec!["a", "b", "c"], vec!["b"]),
            (26 * HOUR, vec!["c"], vec!["c"]),
            // The clock is set back by two days.
            (-24 * HOUR, vec!["c"], vec!["c"]),
        ] {
            for key in ["a", "b", "c"] {
                let removed = Change::Remove(Kind::Key, key.to_owned());
                registry.learn(if there.contains(&key) { made(key, 200) } else { removed });
            }
            assert_eq!(ids(&reminder.due(&keys, &registry, at(NOW + after))), due, "after {after} s");
        }
        registry.learn(made("c", 14 * 24 + 1));
        assert_eq!(ids(&Reminder::default().due(&keys, &registry, at(NOW))), [""; 0], "too early to warn");
        assert_eq!(ids(&Reminder::default().due(&keys, &registry, at(NOW + HOUR))), ["c"]);
    }
}
