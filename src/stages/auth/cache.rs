//! Caches the callers of verified credentials: identities, never decisions.
//!
//! Each worker has its own cache, so there is no lock. The cache is keyed by the whole credential, with a keyed hash and full
//! equality, so no credential can be mistaken for another. It is bounded in bytes, evicts, and is emptied when the policy,
//! a key set, or a consumer changes: credentials verified under old keys are verified again.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use ahash::RandomState;
use jiff::Timestamp;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use super::caller::{Caller, CredentialKind};
use super::claims::Times;
use crate::state::epoch::Epoch;

/// Most bytes of one worker's cache. A token has about a kilobyte.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// Bytes of an entry in addition to the token: about what a caller with a few scopes takes.
const OVERHEAD: u64 = 1024;

/// What a credential was sent as: the place decides that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SentAs {
    /// A token.
    Token,
    /// An API key.
    Key,
    /// A client certificate.
    Certificate,
}

impl SentAs {
    /// What a credential of this kind is sent as.
    pub(crate) fn of(kind: CredentialKind) -> Self {
        match kind {
            CredentialKind::Jwt | CredentialKind::Introspected => Self::Token,
            CredentialKind::ApiKey => Self::Key,
            CredentialKind::Certificate => Self::Certificate,
            // Clients of the token service and invitations are not cached.
            CredentialKind::ClientSecret | CredentialKind::ClientAssertion | CredentialKind::Invitation => Self::Token,
        }
    }
}

/// A verified credential.
struct CachedCaller {
    caller: Arc<Caller>,
    times: Times,
    /// Until when it need not be verified again, in seconds since 1970.
    fresh_until: i64,
}

#[derive(Clone)]
struct ByteWeigher;

impl Weighter<Box<[u8]>, CachedCaller> for ByteWeigher {
    fn weight(&self, token: &Box<[u8]>, cached: &CachedCaller) -> u64 {
        let scopes: usize = cached.caller.granted().iter().map(|scope| scope.len() + 16).sum();
        let claims = cached.caller.identity_headers().claims.iter();
        let claims: usize = claims.map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        OVERHEAD + (token.len() + 2 * scopes + claims) as u64
    }
}

/// The verified tokens of one worker, under one policy.
pub(crate) struct TokenCache {
    epoch: Epoch,
    /// Epoch that the entries were verified in.
    seen: Cell<u64>,
    entries: RefCell<Cache<Box<[u8]>, CachedCaller, ByteWeigher, RandomState>>,
}

impl TokenCache {
    /// Makes an empty cache. A new policy gets a new one.
    pub(crate) fn new(epoch: Epoch) -> Self {
        let seen = Cell::new(epoch.current());
        let estimate = (CAPACITY / 2048) as usize;
        let entries = Cache::with(estimate, CAPACITY, ByteWeigher, RandomState::new(), DefaultLifecycle::default());
        Self { epoch, seen, entries: RefCell::new(entries) }
    }

    /// The current epoch. Take it before verifying, and pass it to [`Self::insert`] with the result.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.current()
    }

    /// Returns the caller of this credential, if it is cached; check its times again.
    ///
    /// It is found only as what it was verified as: a thumbprint is not an API key, and an API key is not a token.
    pub(crate) fn get(&self, credential: &[u8], source: SentAs, now: Timestamp) -> Option<(Arc<Caller>, Times)> {
        let current = self.epoch.current();
        if self.seen.replace(current) != current {
            self.entries.borrow_mut().clear();
            return None;
        }
        let entries = self.entries.borrow();
        let CachedCaller { caller, times, fresh_until } = entries.get(credential)?;
        let sent_in = SentAs::of(caller.credential().0);
        (sent_in == source && now.as_second() < *fresh_until).then(|| (Arc::clone(caller), *times))
    }

    /// Caches a credential that was verified in `epoch`, unless the epoch has changed since.
    pub(crate) fn insert(&self, credential: &[u8], caller: &Arc<Caller>, times: Times, fresh_until: i64, epoch: u64) {
        if epoch == self.epoch.current() && epoch == self.seen.get() {
            self.entries
                .borrow_mut()
                .insert(credential.into(), CachedCaller { caller: Arc::clone(caller), times, fresh_until });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times() -> Times {
        Times { expires: i64::MAX, not_before: None, skew: 0 }
    }

    fn known(cache: &TokenCache, credential: &[u8], source: SentAs) -> bool {
        cache.get(credential, source, Timestamp::UNIX_EPOCH).is_some()
    }

    #[test]
    fn entries_end_with_the_keys_they_were_verified_with() {
        let epoch = Epoch::default();
        let cache = TokenCache::new(epoch.clone());
        let caller = Arc::new(Caller::sample("acme", &[]));

        let before = cache.epoch();
        cache.insert(b"token", &caller, times(), i64::MAX, before);
        assert!(known(&cache, b"token", SentAs::Key));
        assert!(!known(&cache, b"token ", SentAs::Key));
        for source in [SentAs::Token, SentAs::Certificate] {
            assert!(!known(&cache, b"token", source), "an API key is known as one alone: {source:?}");
        }

        epoch.advance();
        assert!(!known(&cache, b"token", SentAs::Key), "the key set changed");
        cache.insert(b"token", &caller, times(), i64::MAX, before);
        assert!(!known(&cache, b"token", SentAs::Key), "verified with the keys before the change");
    }

    #[test]
    fn an_entry_is_believed_no_longer_than_it_may_be() {
        let cache = TokenCache::new(Epoch::default());
        cache.insert(b"token", &Arc::new(Caller::sample("acme", &[])), times(), 10, cache.epoch());
        let known = |second| cache.get(b"token", SentAs::Key, Timestamp::from_second(second).unwrap()).is_some();
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
