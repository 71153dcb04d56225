//! Credentials that were verified before: who they are, never what was decided.
//!
//! One cache a worker, so no lock. It is keyed by the whole credential: the hash is keyed and equality is full, so nobody can
//! stand in another's place. It is bounded in bytes with real eviction, and emptied when the policy, any key set, or a
//! consumer changes: what was verified under keys that are gone is verified again.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use ahash::RandomState;
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use super::caller::{Caller, CredentialKind};
use super::claims::Times;
use crate::state::epoch::Epoch;

/// Tokens of about a kilobyte; what a worker spends on all of them, in bytes.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// What an entry costs beside the token's own bytes, in bytes: about what a caller with a few scopes takes.
const OVERHEAD: u64 = 1024;

/// Where a credential comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The Authorization header.
    Authorization,
    /// The header of API keys.
    KeyHeader,
    /// The TLS handshake.
    Handshake,
}

impl Place {
    fn of(kind: CredentialKind) -> Self {
        match kind {
            CredentialKind::Jwt | CredentialKind::Introspected => Self::Authorization,
            CredentialKind::ApiKey => Self::KeyHeader,
            CredentialKind::Certificate => Self::Handshake,
        }
    }
}

/// Who sends a credential, when it is good, and until when (seconds since 1970) it need not be asked about again.
type Known = (Arc<Caller>, Times, i64);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<[u8]>, Known> for ByBytes {
    fn weight(&self, token: &Box<[u8]>, (caller, ..): &Known) -> u64 {
        let scopes: usize = caller.granted().iter().map(|scope| scope.len() + 16).sum();
        OVERHEAD + (token.len() + 2 * scopes) as u64
    }
}

/// The verified tokens of one worker, under one policy.
pub(crate) struct TokenCache {
    epoch: Epoch,
    /// Epoch that the entries were verified in.
    seen: Cell<u64>,
    entries: RefCell<Cache<Box<[u8]>, Known, ByBytes, RandomState>>,
}

impl TokenCache {
    /// An empty one. A new policy gets a new cache.
    pub(crate) fn new(epoch: Epoch) -> Self {
        let seen = Cell::new(epoch.current());
        let estimate = (CAPACITY / 2048) as usize;
        let entries = Cache::with(estimate, CAPACITY, ByBytes, RandomState::new(), DefaultLifecycle::default());
        Self { epoch, seen, entries: RefCell::new(entries) }
    }

    /// The epoch now. Taken before verifying, and given back with the result.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.current()
    }

    /// Who sends this credential, if it was verified before; its times are to be checked again.
    ///
    /// It is known only in the place it came in: a thumbprint is no API key, and an API key is no token.
    pub(crate) fn get(&self, credential: &[u8], place: Place, now: Timestamp) -> Option<(Arc<Caller>, Times)> {
        let current = self.epoch.current();
        if self.seen.replace(current) != current {
            self.entries.borrow_mut().clear();
            return None;
        }
        let entries = self.entries.borrow();
        let (caller, times, fresh_until) = entries.get(credential)?;
        let known = Place::of(caller.credential().0);
        (known == place && now.as_second() < *fresh_until).then(|| (Arc::clone(caller), *times))
    }

    /// Remembers a credential that was verified in `epoch`; one that was verified with what changed meanwhile is not.
    pub(crate) fn insert(&self, credential: &[u8], caller: &Arc<Caller>, times: Times, fresh_until: i64, epoch: u64) {
        if epoch == self.epoch.current() && epoch == self.seen.get() {
            self.entries.borrow_mut().insert(credential.into(), (Arc::clone(caller), times, fresh_until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times() -> Times {
        Times { expires: i64::MAX, not_before: None, skew: 0 }
    }

    fn known(cache: &TokenCache, credential: &[u8], place: Place) -> bool {
        cache.get(credential, place, Timestamp::UNIX_EPOCH).is_some()
    }

    #[test]
    fn entries_end_with_the_keys_they_were_verified_with() {
        let epoch = Epoch::default();
        let cache = TokenCache::new(epoch.clone());
        let caller = Arc::new(Caller::sample("acme", &[]));

        let before = cache.epoch();
        cache.insert(b"token", &caller, times(), i64::MAX, before);
        assert!(known(&cache, b"token", Place::KeyHeader));
        assert!(!known(&cache, b"token ", Place::KeyHeader));
        for place in [Place::Authorization, Place::Handshake] {
            assert!(!known(&cache, b"token", place), "an API key is known as one alone: {place:?}");
        }

        epoch.advance();
        assert!(!known(&cache, b"token", Place::KeyHeader), "the key set changed");
        cache.insert(b"token", &caller, times(), i64::MAX, before);
        assert!(!known(&cache, b"token", Place::KeyHeader), "verified with the keys before the change");
    }

    #[test]
    fn an_entry_is_believed_no_longer_than_it_may_be() {
        let cache = TokenCache::new(Epoch::default());
        cache.insert(b"token", &Arc::new(Caller::sample("acme", &[])), times(), 10, cache.epoch());
        let known = |second| cache.get(b"token", Place::KeyHeader, Timestamp::from_second(second).unwrap()).is_some();
        assert!(known(9) && !known(10));
    }

    #[test]
    fn memory_is_bounded() {
        let cache = TokenCache::new(Epoch::default());
        let caller = Arc::new(Caller::sample("acme", &[]));
        for number in 0..100_000 {
            cache.insert(format!("{number:0>700}").as_bytes(), &caller, times(), i64::MAX, cache.epoch());
        }
        assert!(cache.entries.borrow().weight() <= CAPACITY);
        assert!(cache.entries.borrow().len() > 1000);
    }
}
