//! What is revoked, in memory: revocation keys and when they expire. Consulted on every request, after every cache.
//!
//! An entry takes 24 bytes, so a million of them take some 50 MiB. What is not listed is not revoked; what is listed
//! stays revoked until an operator lifts the revocation or it expires.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use ahash::RandomState;
use jiff::Timestamp;

use super::revocation_key::{KINDS, RevocationKey};

/// Shards of the map, each with its own lock.
const SHARDS: usize = 16;

/// Seconds since 1970, to 2106. `u32::MAX` means "always".
type Seconds = u32;

/// What a revocation covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coverage {
    /// Covers what was issued before this second; `u32::MAX`: everything.
    issued_before: Seconds,
    /// The second at which it ends; `u32::MAX`: never.
    expires: Seconds,
}

impl Coverage {
    /// Returns the coverage; `None` means everything, or for ever.
    pub(super) fn new(issued_before: Option<Timestamp>, expires: Option<Timestamp>) -> Self {
        let seconds = |at: Option<Timestamp>, round_up: bool| match at {
            None => Seconds::MAX,
            Some(at) => {
                let whole = at.as_second() + i64::from(round_up && at.subsec_nanosecond() > 0);
                Seconds::try_from(whole.clamp(0, i64::from(Seconds::MAX - 1))).unwrap_or(Seconds::MAX - 1)
            }
        };
        Self { issued_before: seconds(issued_before, true), expires: seconds(expires, true) }
    }

    /// Returns the coverage that covers what either does.
    pub(super) fn widest(self, other: Self) -> Self {
        Self { issued_before: self.issued_before.max(other.issued_before), expires: self.expires.max(other.expires) }
    }

    fn covers(self, issued: Option<i64>, now: i64) -> bool {
        let alive = self.expires == Seconds::MAX || now < i64::from(self.expires);
        // A credential without an issue time may have been issued before.
        let old =
            self.issued_before == Seconds::MAX || issued.is_none_or(|issued| issued < i64::from(self.issued_before));
        alive && old
    }
}

/// The keys of all revocations.
#[derive(Default)]
pub(super) struct Revoked {
    shards: [RwLock<HashMap<RevocationKey, Coverage, RandomState>>; SHARDS],
    /// How many there are of each kind: kinds without any are not looked up.
    counts: [AtomicUsize; KINDS],
}

impl Revoked {
    /// Returns whether one of these keys is revoked, for a credential issued at `issued` (seconds since 1970).
    pub(super) fn covers(&self, revocation_keys: &[RevocationKey], issued: Option<i64>, now: Timestamp) -> bool {
        revocation_keys.iter().any(|key| {
            let any = self.counts.get(key.kind()).is_some_and(|count| count.load(Ordering::Acquire) > 0);
            any && self.coverage(*key).is_some_and(|coverage| coverage.covers(issued, now.as_second()))
        })
    }

    fn coverage(&self, key: RevocationKey) -> Option<Coverage> {
        self.shard(key)?.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied()
    }

    /// Revokes this key, replacing what was stored for it.
    pub(super) fn put(&self, key: RevocationKey, coverage: Coverage) {
        let Some(shard) = self.shard(key) else { return };
        match shard.write().unwrap_or_else(PoisonError::into_inner).entry(key) {
            Entry::Occupied(mut known) => drop(known.insert(coverage)),
            Entry::Vacant(free) => {
                free.insert(coverage);
                if let Some(count) = self.counts.get(key.kind()) {
                    count.fetch_add(1, Ordering::Release);
                }
            }
        }
    }

    /// Removes a revocation.
    pub(super) fn remove(&self, key: RevocationKey) {
        let Some(shard) = self.shard(key) else { return };
        if shard.write().unwrap_or_else(PoisonError::into_inner).remove(&key).is_some() {
            self.discount(key);
        }
    }

    /// Removes expired revocations.
    pub(super) fn sweep(&self, now: Timestamp) {
        let now = now.as_second();
        self.retain(|_, coverage| coverage.expires == Seconds::MAX || now < i64::from(coverage.expires));
    }

    /// Keeps the revocations for which `keep` returns true.
    pub(super) fn retain(&self, keep: impl Fn(RevocationKey, Coverage) -> bool) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).retain(|key, coverage| {
                let stays = keep(*key, *coverage);
                if !stays {
                    self.discount(*key);
                }
                stays
            });
        }
    }

    /// Passes every revocation to `each`.
    pub(super) fn for_each(&self, mut each: impl FnMut(RevocationKey, Coverage)) {
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            shard.iter().for_each(|(key, coverage)| each(*key, *coverage));
        }
    }

    /// Returns whether this key is listed, expired or not.
    pub(super) fn contains(&self, key: RevocationKey) -> bool {
        self.coverage(key).is_some()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn discount(&self, key: RevocationKey) {
        if let Some(count) = self.counts.get(key.kind()) {
            count.fetch_sub(1, Ordering::Release);
        }
    }

    fn shard(&self, key: RevocationKey) -> Option<&RwLock<HashMap<RevocationKey, Coverage, RandomState>>> {
        self.shards.get(key.shard_hash() % SHARDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_revocation_reaches_what_it_names_and_nothing_else() {
        let (alice, bob) = (RevocationKey::subject("corp", "alice"), RevocationKey::subject("corp", "bob"));
        for (issued_before, expires, issued, revoked) in [
            (None, None, Some(NOW), true),
            (None, None, None, true),
            (None, Some(NOW + 1), Some(NOW), true),
            (None, Some(NOW), Some(NOW), false),
            (Some(NOW), None, Some(NOW - 1), true),
            (Some(NOW), None, Some(NOW), false),
            (Some(NOW), None, None, true),
            (Some(NOW), Some(NOW), Some(NOW - 1), false),
        ] {
            let all = Revoked::default();
            all.put(alice, Coverage::new(issued_before.map(at), expires.map(at)));
            let case = (issued_before, expires, issued);
            assert_eq!(all.covers(&[alice], issued, at(NOW)), revoked, "{case:?}");
            assert_eq!(all.covers(&[bob, alice], issued, at(NOW)), revoked, "{case:?}");
            assert!(!all.covers(&[bob], issued, at(NOW)), "{case:?}");
            all.remove(alice);
            assert!(!all.covers(&[alice], issued, at(NOW)), "taken back: {case:?}");
        }
    }

    #[test]
    fn a_fraction_of_a_second_is_on_the_side_of_the_revocation() {
        let all = Revoked::default();
        let half = at(NOW) + jiff::SignedDuration::from_millis(500);
        all.put(RevocationKey::all(), Coverage::new(Some(half), Some(half)));
        assert!(all.covers(&[RevocationKey::all()], Some(NOW), at(NOW)));
    }

    #[test]
    fn sweeping_forgets_what_has_ended_and_counts_what_is_left() {
        let all = Revoked::default();
        for number in 0..100_i64 {
            let expires = (number % 2 == 0).then(|| at(NOW + number));
            all.put(RevocationKey::jti(&number.to_string()), Coverage::new(None, expires));
            all.put(RevocationKey::jti(&number.to_string()), Coverage::new(None, expires));
        }
        assert_eq!(all.len(), 100);
        all.sweep(at(NOW + 50));
        assert_eq!(all.len(), 74);
        assert!(all.covers(&[RevocationKey::jti("51")], None, at(NOW + 50)));
        assert!(!all.covers(&[RevocationKey::jti("50")], None, at(NOW + 50)));
    }

    #[test]
    fn keys_of_different_things_differ() {
        let revocation_keys = [
            RevocationKey::jti("a"),
            RevocationKey::key("a"),
            RevocationKey::consumer("a"),
            RevocationKey::issuer("a"),
            RevocationKey::token(b"a"),
            RevocationKey::subject("a", ""),
            RevocationKey::subject("", "a"),
            RevocationKey::all(),
        ];
        for (position, key) in revocation_keys.iter().enumerate() {
            assert!(!revocation_keys[..position].contains(key), "{position}");
        }
    }
}
