//! Tokens that were verified before: who they are, never what was decided.
//!
//! One cache a worker, so no lock. It is keyed by the whole token: the hash is keyed and equality is full, so nobody can
//! stand in another's place. It is bounded in bytes with real eviction, and emptied when the policy or any key set
//! changes: what was verified under keys that are gone is verified again.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use ahash::RandomState;
use quick_cache::Weighter;
use quick_cache::unsync::{Cache, DefaultLifecycle};

use super::caller::Caller;
use super::jwt::Times;
use super::key_set::KeyEpoch;

/// Tokens of about a kilobyte; what a worker spends on all of them, in bytes.
const CAPACITY: u64 = 16 * 1024 * 1024;
/// What an entry costs beside the token's own bytes, in bytes: about what a caller with a few scopes takes.
const OVERHEAD: u64 = 1024;

/// Who sends a token, and when it is good.
type Known = (Arc<Caller>, Times);

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<[u8]>, Known> for ByBytes {
    fn weight(&self, token: &Box<[u8]>, (caller, _): &Known) -> u64 {
        let scopes: usize = caller.granted().iter().map(|scope| scope.len() + 16).sum();
        OVERHEAD + (token.len() + 2 * scopes) as u64
    }
}

/// The verified tokens of one worker, under one policy.
pub(crate) struct TokenCache {
    epoch: KeyEpoch,
    /// Epoch that the entries were verified in.
    seen: Cell<u64>,
    entries: RefCell<Cache<Box<[u8]>, Known, ByBytes, RandomState>>,
}

impl TokenCache {
    /// An empty one. A new policy gets a new cache.
    pub(crate) fn new(epoch: KeyEpoch) -> Self {
        let seen = Cell::new(epoch.current());
        let estimate = (CAPACITY / 2048) as usize;
        let entries = Cache::with(estimate, CAPACITY, ByBytes, RandomState::new(), DefaultLifecycle::default());
        Self { epoch, seen, entries: RefCell::new(entries) }
    }

    /// The epoch now. Taken before verifying, and given back with the result.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.current()
    }

    /// Who sends this token, if it was verified before; its times are to be checked again.
    pub(crate) fn get(&self, token: &[u8]) -> Option<Known> {
        let current = self.epoch.current();
        if self.seen.replace(current) != current {
            self.entries.borrow_mut().clear();
            return None;
        }
        self.entries.borrow().get(token).cloned()
    }

    /// Remembers a token that was verified in `epoch`; one that was verified with keys that changed meanwhile is not.
    pub(crate) fn insert(&self, token: &[u8], caller: &Arc<Caller>, times: Times, epoch: u64) {
        if epoch == self.epoch.current() && epoch == self.seen.get() {
            self.entries.borrow_mut().insert(token.into(), (Arc::clone(caller), times));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times() -> Times {
        Times { expires: i64::MAX, not_before: None, skew: 0 }
    }

    #[test]
    fn entries_end_with_the_keys_they_were_verified_with() {
        let epoch = KeyEpoch::default();
        let cache = TokenCache::new(epoch.clone());
        let caller = Arc::new(Caller::sample("acme", &[]));

        let before = cache.epoch();
        cache.insert(b"token", &caller, times(), before);
        assert!(cache.get(b"token").is_some());
        assert!(cache.get(b"token ").is_none());

        epoch.advance();
        assert!(cache.get(b"token").is_none(), "the key set changed");
        cache.insert(b"token", &caller, times(), before);
        assert!(cache.get(b"token").is_none(), "verified with the keys before the change");
    }

    #[test]
    fn memory_is_bounded() {
        let cache = TokenCache::new(KeyEpoch::default());
        let caller = Arc::new(Caller::sample("acme", &[]));
        for number in 0..100_000 {
            cache.insert(format!("{number:0>700}").as_bytes(), &caller, times(), cache.epoch());
        }
        assert!(cache.entries.borrow().weight() <= CAPACITY);
        assert!(cache.entries.borrow().len() > 1000);
    }
}
