//! API keys: decides which consumer a key belongs to, by its SHA-256.
//!
//! A key is 256 random bits, so there is nothing to guess and a slow hash would only cost us; the key itself is never
//! stored. Keys in force at the same time are how keys rotate.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::caller::{Caller, Consumer, CredentialKind};
use crate::refusal::{Reason, Refusal, Stage};

/// A SHA-256 digest.
pub(crate) type Digest = [u8; 32];

/// One key, as the policy has it.
#[derive(Debug)]
pub(crate) struct Key {
    caller: Arc<Caller>,
    not_before: Option<Timestamp>,
    expires: Option<Timestamp>,
}

impl Key {
    /// Compiles a key: it may do what the consumer's roles allow, narrowed to `scopes` when given.
    pub(crate) fn new(
        id: &str,
        consumer: &Arc<Consumer>,
        scopes: Option<Vec<String>>,
        not_before: Option<Timestamp>,
        expires: Option<Timestamp>,
    ) -> Self {
        let granted = match (consumer.ceiling(), scopes) {
            // A key has only what roles give it; without roles that is nothing.
            (None, _) => Vec::new(),
            (Some(_), Some(scopes)) => scopes.into_iter().map(Box::from).collect(),
            (Some(ceiling), None) => ceiling.to_vec(),
        };
        let caller = Caller::new(Arc::clone(consumer), CredentialKind::ApiKey, Some(id.into()), granted);
        Self { caller: Arc::new(caller), not_before, expires }
    }
}

/// All keys, by digest.
#[derive(Debug, Default)]
pub(crate) struct ApiKeys(HashMap<Digest, Key>);

impl ApiKeys {
    /// Adds a key; false when its digest is there already.
    #[must_use]
    pub(crate) fn add(&mut self, digest: Digest, key: Key) -> bool {
        let new = !self.0.contains_key(&digest);
        if new {
            self.0.insert(digest, key);
        }
        new
    }

    /// Decides whose key this is, and whether it is in force.
    pub(crate) fn caller(&self, key: &[u8], now: Timestamp) -> Result<Arc<Caller>, Refusal> {
        let sent = digest(&SHA256, key);
        let found = <Digest>::try_from(sent.as_ref())
            .ok()
            .and_then(|digest| self.0.get_key_value(&digest))
            // The map finds by parts of the digest; the last word is a comparison in constant time.
            .filter(|(known, _)| bool::from(known.as_slice().ct_eq(sent.as_ref())));
        let Some((_, key)) = found else {
            return Err(refuse(Reason::InvalidKey, "the API key is not known; check it, or ask for a new one"));
        };
        if key.not_before.is_some_and(|start| now < start) {
            return Err(refuse(Reason::ExpiredKey, "the API key is not in force yet; use the one before it"));
        }
        if key.expires.is_some_and(|end| now >= end) {
            return Err(refuse(Reason::ExpiredKey, "the API key has expired; use the one that replaces it"));
        }
        Ok(Arc::clone(&key.caller))
    }
}

fn refuse(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(Stage::Auth, reason, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn digest_of(key: &str) -> Digest {
        digest(&SHA256, key.as_bytes()).as_ref().try_into().unwrap()
    }

    #[test]
    fn keys_are_known_by_digest_and_only_in_their_time() {
        let ceiling = Some(vec!["a".into(), "b".into()]);
        let consumer = Arc::new(Consumer::new("acme", Vec::new(), ceiling, None, Arc::default()));
        let roleless = Arc::new(Consumer::new("plain", Vec::new(), None, None, Arc::default()));
        let mut keys = ApiKeys::default();
        let narrowed = Some(vec!["b".into(), "c".into()]);
        for (text, key) in [
            ("old", Key::new("old", &consumer, None, None, Some(at(200)))),
            ("new", Key::new("new", &consumer, narrowed, Some(at(100)), None)),
            ("none", Key::new("none", &roleless, Some(vec!["a".into()]), None, None)),
        ] {
            assert!(keys.add(digest_of(text), key));
        }
        assert!(!keys.add(digest_of("old"), Key::new("again", &consumer, None, None, None)));

        for (key, now, expected) in [
            ("old", 50, Ok("a b")),
            ("old", 199, Ok("a b")),
            ("old", 200, Err(Reason::ExpiredKey)),
            ("new", 99, Err(Reason::ExpiredKey)),
            ("new", 100, Ok("b")),
            ("none", 100, Ok("")),
            ("Old", 50, Err(Reason::InvalidKey)),
            ("", 50, Err(Reason::InvalidKey)),
        ] {
            let got = keys.caller(key.as_bytes(), at(now));
            let got = got.map(|caller| caller.granted().join(" ")).map_err(|refusal| refusal.reason());
            assert_eq!(got, expected.map(str::to_owned), "{key} at {now}");
        }
    }
}
