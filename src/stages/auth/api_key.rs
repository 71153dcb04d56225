//! API keys: decides which consumer a key belongs to, by its SHA-256.
//!
//! A key is 256 random bits, so there is nothing to guess and a slow hash would only cost us; the key itself is never
//! stored. Keys in force at the same time are how keys rotate. The policy has the first word, then what operators have made.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq;

use super::api_key_format;
use super::caller::{Caller, Consumer, CredentialKind, Verified};
use super::claims::{Confirmation, Times, refuse};
use super::directory::Directory;
use crate::refusal::{Reason, Refusal};
use crate::state::ledger::Ledger;
pub(crate) use crate::state::registry::entry::Digest;
use crate::state::registry::revocation_key::RevocationKey;
use crate::state::registry::{Registry, entry};

/// One key, as the policy has it.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Its name in the record.
    pub(crate) id: Box<str>,
    /// Whose it is.
    pub(crate) consumer: Arc<Consumer>,
    /// Narrows what the consumer's roles allow.
    pub(crate) scopes: Option<Vec<Box<str>>>,
    /// When it was made.
    pub(crate) created: Option<Timestamp>,
    /// Before then it is refused.
    pub(crate) not_before: Option<Timestamp>,
    /// From then on it is refused.
    pub(crate) expires: Option<Timestamp>,
}

impl Key {
    /// A key that an operator has made.
    fn made(key: &entry::Key, consumer: Arc<Consumer>) -> Self {
        Self {
            id: key.id.clone(),
            consumer,
            scopes: key.scopes.clone(),
            created: Some(key.created),
            not_before: key.not_before,
            expires: key.expires,
        }
    }

    /// When it ends: by itself, or by its age.
    pub(crate) fn end(&self, max_age: Option<SignedDuration>) -> Option<Timestamp> {
        end(self.created.or(self.not_before), self.expires, max_age)
    }

    fn verified(&self, registry: &Registry) -> Verified {
        let granted = match (self.consumer.ceiling(), &self.scopes) {
            // A key has only what roles give it; without roles that is nothing.
            (None, _) => Vec::new(),
            (Some(_), Some(scopes)) => scopes.clone(),
            (Some(ceiling), None) => ceiling.to_vec(),
        };
        Verified {
            kind: CredentialKind::ApiKey,
            id: Some(self.id.clone()),
            granted,
            revocation_keys: vec![RevocationKey::key(&self.id)],
            issued: self.created.or(self.not_before).map(Timestamp::as_second),
            confirmation: Confirmation::default(),
            usage: Some(registry.usage(&self.id)),
        }
    }
}

/// When a key ends that was made and expires then: by itself, or by its age.
pub(crate) fn end(
    made: Option<Timestamp>,
    expires: Option<Timestamp>,
    max_age: Option<SignedDuration>,
) -> Option<Timestamp> {
    let old = made.zip(max_age).map(|(made, most)| made.checked_add(most).unwrap_or(Timestamp::MAX));
    expires.into_iter().chain(old).min()
}

/// All keys of the policy, by digest, and how long any key may live.
#[derive(Debug, Default)]
pub(crate) struct ApiKeys {
    listed: HashMap<Digest, Key>,
    max_age: Option<SignedDuration>,
}

impl ApiKeys {
    /// None yet; keys older than `max_age` are refused.
    pub(crate) fn new(max_age: Option<SignedDuration>) -> Self {
        Self { listed: HashMap::new(), max_age }
    }

    /// How long any key may live.
    pub(crate) fn max_age(&self) -> Option<SignedDuration> {
        self.max_age
    }

    /// Adds a key; false when its digest is there already.
    #[must_use]
    pub(crate) fn add(&mut self, digest: Digest, key: Key) -> bool {
        let new = !self.listed.contains_key(&digest);
        if new {
            self.listed.insert(digest, key);
        }
        new
    }

    /// The same keys under other digests, by id, where there are some: for keys whose texts are known to a rehearsal.
    pub(crate) fn redigested(self, other: impl Fn(&str) -> Option<Digest>) -> Self {
        let listed = self.listed.into_iter().map(|(digest, key)| (other(&key.id).unwrap_or(digest), key)).collect();
        Self { listed, ..self }
    }

    /// The keys of the policy, in no order.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Key> {
        self.listed.values()
    }

    /// Decides whose key this is. When it is in force is for [`check`] to say, on every request.
    pub(super) fn caller(
        &self,
        key: &[u8],
        directory: &Directory,
        registry: &Registry,
        ledger: &Ledger,
    ) -> Result<(Caller, Times), Refusal> {
        if api_key_format::is_mistyped(key) {
            return Err(refuse(Reason::InvalidKey, "the API key is not whole: it was mistyped or cut"));
        }
        let sent = digest(&SHA256, key);
        let unknown = || refuse(Reason::InvalidKey, "the API key is not known; check it, or ask for a new one");
        let sent = Digest::try_from(sent.as_ref()).map_err(|_| unknown())?;
        // The maps find by parts of the digest; the last word is a comparison in constant time.
        let same = |known: &Digest| bool::from(known.as_slice().ct_eq(&sent));
        let key = match self.listed.get_key_value(&sent).filter(|(known, _)| same(known)) {
            Some((_, listed)) => listed.clone(),
            None => {
                let made = registry.key(&sent).filter(|made| same(&made.sha256)).ok_or_else(unknown)?;
                // A key outlives its consumer only where somebody else has changed the store.
                let consumer = directory.named(&made.consumer, registry)?.ok_or_else(unknown)?;
                Key::made(&made, consumer)
            }
        };
        let times = Times {
            expires: key.end(self.max_age).map_or(i64::MAX, Timestamp::as_second),
            not_before: key.not_before.map(Timestamp::as_second),
            skew: 0,
        };
        let account = ledger.listed(key.consumer.name());
        Ok((Caller::new(Arc::clone(&key.consumer), account, key.verified(registry)), times))
    }
}

/// Decides whether a key is in force now.
pub(super) fn check(times: Times, now: Timestamp) -> Result<(), Refusal> {
    let now = now.as_second();
    if times.not_before.is_some_and(|start| now < start) {
        return Err(refuse(Reason::ExpiredKey, "the API key is not in force yet; use the one before it"));
    }
    if now >= times.expires {
        return Err(refuse(Reason::ExpiredKey, "the API key has expired; use the one that replaces it"));
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
        let registry = Registry::new(None, Epoch::default());
        let ledger = Ledger::new(Instant::now());
        let directory = Directory::new(vec![], vec![], HashMap::new(), Default::default());
        let plain = |id: &str, consumer: &Arc<Consumer>| Key {
            id: id.into(),
            consumer: Arc::clone(consumer),
            scopes: None,
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
