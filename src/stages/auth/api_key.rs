//! API keys: finds the consumer of a key by the key's SHA-256.
//!
//! A key has 256 random bits, so it cannot be guessed and a slow hash would add nothing; the key itself is never stored.
//! A consumer may have several valid keys, so that keys can be rotated. Keys of the policy take precedence over those of
//! the registry.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq;

use super::api_key_format;
use super::attributes::ClaimedAttributes;
use super::caller::{Caller, Consumer, CredentialKind, Verified};
use super::claims::{Confirmation, Times, refuse};
use super::directory::Directory;
use super::key_rotation::KeyRotation;
use crate::exchange::networks::Networks;
use crate::refusal::{Reason, Refusal};
use crate::state::ledger::Ledger;
pub(crate) use crate::state::registry::entry::Digest;
use crate::state::registry::revocation_key::RevocationKey;
use crate::state::registry::{Registry, entry};

/// An API key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Its id, for audit records.
    pub(crate) id: Box<str>,
    /// The consumer that owns it.
    pub(crate) consumer: Arc<Consumer>,
    /// Restricts what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// Where it is good from, within what its consumer may.
    pub(crate) networks: Option<Networks>,
    /// When it was created.
    pub(crate) created: Option<Timestamp>,
    /// It is refused before this instant.
    pub(crate) not_before: Option<Timestamp>,
    /// It is refused from this instant on.
    pub(crate) expires: Option<Timestamp>,
}

impl Key {
    /// Whether it is good now: `active`, `not_yet`, `expired`, `too_old` or `revoked`.
    pub(crate) fn state(&self, max_age: Option<SignedDuration>, registry: &Registry, now: Timestamp) -> &'static str {
        let issued = self.created.or(self.not_before).map(Timestamp::as_second);
        let names = [RevocationKey::key(&self.id), RevocationKey::consumer(self.consumer.name())];
        match (self.not_before, self.expires, self.end(max_age)) {
            _ if registry.is_revoked(&names, issued, now) => "revoked",
            (Some(start), ..) if now < start => "not_yet",
            (_, Some(expires), _) if expires <= now => "expired",
            (.., Some(end)) if end <= now => "too_old",
            _ => "active",
        }
    }

    /// When it expires, or exceeds the maximum age.
    pub(crate) fn end(&self, max_age: Option<SignedDuration>) -> Option<Timestamp> {
        end(self.created.or(self.not_before), self.expires, max_age)
    }

    fn verified(&self, registry: &Registry) -> Verified {
        let granted = match (self.consumer.ceiling(), &self.scopes) {
            // A key has only the scopes of its consumer's roles; without roles it has none.
            (None, _) => Vec::new(),
            (Some(_), Some(scopes)) => scopes.clone(),
            (Some(ceiling), None) => ceiling.to_vec(),
        };
        Verified {
            kind: CredentialKind::ApiKey,
            id: Some(self.id.clone()),
            issuer: None,
            user: None,
            networks: self.networks.clone().map(Arc::new),
            attributes: ClaimedAttributes::default(),
            forwarded: Box::default(),
            granted,
            revocation_keys: vec![RevocationKey::key(&self.id)],
            issued: self.created.or(self.not_before).map(Timestamp::as_second),
            confirmation: Confirmation::default(),
            usage: Some(registry.usage(&self.id)),
        }
    }
}

/// Returns when a key expires or exceeds the maximum age, whichever is first.
pub(crate) fn end(
    stored: Option<Timestamp>,
    expires: Option<Timestamp>,
    max_age: Option<SignedDuration>,
) -> Option<Timestamp> {
    let old = stored.zip(max_age).map(|(stored, most)| stored.checked_add(most).unwrap_or(Timestamp::MAX));
    expires.into_iter().chain(old).min()
}

/// All keys of the policy, by digest, those that it has made on schedule, and the maximum age of any key.
#[derive(Debug, Default)]
pub(crate) struct ApiKeys {
    listed: HashMap<Digest, Key>,
    rotations: Vec<KeyRotation>,
    max_age: Option<SignedDuration>,
}

impl ApiKeys {
    /// Makes an empty set. Keys older than `max_age` are refused.
    pub(crate) fn new(max_age: Option<SignedDuration>) -> Self {
        Self { max_age, ..Self::default() }
    }

    /// The maximum age of any key.
    pub(crate) fn max_age(&self) -> Option<SignedDuration> {
        self.max_age
    }

    /// Adds a key; returns false if there is already one with this digest.
    #[must_use]
    pub(crate) fn add(&mut self, digest: Digest, key: Key) -> bool {
        let new = !self.listed.contains_key(&digest);
        if new {
            self.listed.insert(digest, key);
        }
        new
    }

    /// Adds keys that are made on schedule; the id and the place of each are its own.
    pub(crate) fn rotate(&mut self, rotation: KeyRotation) {
        self.rotations.push(rotation);
    }

    /// The keys that are made on schedule, in the order of the policy.
    pub(crate) fn rotations(&self) -> &[KeyRotation] {
        &self.rotations
    }

    /// A key of the registry, which this consumer owns.
    pub(crate) fn of_registry(&self, stored: &entry::Key, consumer: Arc<Consumer>) -> Key {
        Key {
            id: stored.id.clone(),
            consumer,
            scopes: self.scopes(stored).map(<[_]>::to_vec),
            networks: self.networks(stored).cloned(),
            created: Some(stored.created),
            not_before: stored.not_before,
            expires: stored.expires,
        }
    }

    /// The scopes that a key of the registry is restricted to. Those of keys that are made on schedule are the policy's.
    fn scopes<'a>(&'a self, stored: &'a entry::Key) -> Option<&'a [Box<str>]> {
        let rotation = self.rotations.iter().find(|rotation| rotation.owns(stored));
        rotation.map_or(stored.scopes.as_deref(), |rotation| rotation.scopes.as_deref())
    }

    /// The networks that a key of the registry is good from. Those of keys that are made on schedule are the policy's.
    fn networks<'a>(&'a self, stored: &'a entry::Key) -> Option<&'a Networks> {
        let rotation = self.rotations.iter().find(|rotation| rotation.owns(stored));
        rotation.map_or(stored.from.as_ref(), |rotation| rotation.networks.as_ref())
    }

    /// Replaces the digests of keys for which `other` returns one, so that a rehearsal can use keys of its own.
    pub(crate) fn redigested(self, other: impl Fn(&str) -> Option<Digest>) -> Self {
        let listed = self.listed.into_iter().map(|(digest, key)| (other(&key.id).unwrap_or(digest), key)).collect();
        Self { listed, ..self }
    }

    /// The keys of the policy, in no order.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Key> {
        self.listed.values()
    }

    /// Finds the caller of a key. Whether the key is valid now is checked by [`check`], on every request.
    pub(super) fn caller(
        &self,
        key: &[u8],
        directory: &Directory,
        registry: &Registry,
        ledger: &Ledger,
    ) -> Result<(Caller, Times), Refusal> {
        if api_key_format::is_mistyped(key) {
            return Err(refuse(Reason::InvalidKey, "the API key is mistyped or truncated; check it"));
        }
        let sent = digest(&SHA256, key);
        let unknown = || refuse(Reason::InvalidKey, "the API key is unknown; check it, or ask for a new one");
        let sent = Digest::try_from(sent.as_ref()).map_err(|_| unknown())?;
        // The maps look at parts of the digest only, so compare it again, in constant time.
        let same = |known: &Digest| bool::from(known.as_slice().ct_eq(&sent));
        let key = match self.listed.get_key_value(&sent).filter(|(known, _)| same(known)) {
            Some((_, listed)) => listed.clone(),
            None => {
                let stored = registry.key(&sent).filter(|stored| same(&stored.sha256)).ok_or_else(unknown)?;
                // A key without its consumer: only possible if another program has changed the store.
                let consumer = directory.named(&stored.consumer, registry)?.ok_or_else(unknown)?;
                self.of_registry(&stored, consumer)
            }
        };
        let times = Times {
            expires: key.end(self.max_age).map_or(i64::MAX, Timestamp::as_second),
            not_before: key.not_before.map(Timestamp::as_second),
            skew: 0,
        };
        let account = key.consumer.account(ledger);
        Ok((Caller::new(Arc::clone(&key.consumer), account, key.verified(registry)), times))
    }
}

/// Decides whether a key is valid now.
pub(super) fn check(times: Times, now: Timestamp) -> Result<(), Refusal> {
    let now = now.as_second();
    if times.not_before.is_some_and(|start| now < start) {
        return Err(refuse(Reason::ExpiredKey, "the API key is not valid yet; use the previous one"));
    }
    if now >= times.expires {
        return Err(refuse(Reason::ExpiredKey, "the API key has expired; use its replacement"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::state::epoch::Epoch;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn digest_of(key: &str) -> Digest {
        digest(&SHA256, key.as_bytes()).as_ref().try_into().unwrap()
    }

    #[test]
    fn keys_are_known_by_digest_and_only_in_their_time() {
        let ceiling = Some(vec!["a".into(), "b".into()]);
        let acme = Arc::new(Consumer::new("acme", Vec::new(), ceiling, None));
        let roleless = Arc::new(Consumer::new("plain", Vec::new(), None, None));
        let ledger = Ledger::new(Instant::now());
        let registry = Registry::new(None, Epoch::default(), ledger.clock());
        let directory = Directory::new(vec![], vec![], HashMap::new(), Default::default());
        let plain = |id: &str, consumer: &Arc<Consumer>| Key {
            id: id.into(),
            consumer: Arc::clone(consumer),
            scopes: None,
            networks: None,
            created: None,
            not_before: None,
            expires: None,
        };
        let mut keys = ApiKeys::new(Some(SignedDuration::from_secs(1000)));
        for (text, key) in [
            ("old", Key { expires: Some(at(200)), ..plain("old", &acme) }),
            (
                "new",
                Key { scopes: Some(vec!["b".into(), "c".into()]), not_before: Some(at(100)), ..plain("new", &acme) },
            ),
            ("none", Key { scopes: Some(vec!["a".into()]), ..plain("none", &roleless) }),
            ("aged", Key { created: Some(at(50)), expires: Some(at(5000)), ..plain("aged", &acme) }),
        ] {
            assert!(keys.add(digest_of(text), key));
        }
        assert!(!keys.add(digest_of("old"), plain("again", &acme)));

        for (key, now, expected) in [
            ("old", 50, Ok("a b")),
            ("old", 199, Ok("a b")),
            ("old", 200, Err(Reason::ExpiredKey)),
            ("new", 99, Err(Reason::ExpiredKey)),
            ("new", 100, Ok("b")),
            ("new", 1100, Err(Reason::ExpiredKey)),
            ("none", 100, Ok("")),
            ("aged", 1049, Ok("a b")),
            ("aged", 1050, Err(Reason::ExpiredKey)),
            ("Old", 50, Err(Reason::InvalidKey)),
            ("", 50, Err(Reason::InvalidKey)),
            ("bz_a_b_c", 50, Err(Reason::InvalidKey)),
        ] {
            let got = keys.caller(key.as_bytes(), &directory, &registry, &ledger);
            let got = got.and_then(|(caller, times)| check(times, at(now)).map(|()| caller.granted().join(" ")));
            assert_eq!(got.map_err(|refusal| refusal.reason()), expected.map(str::to_owned), "{key} at {now}");
        }
    }
}
