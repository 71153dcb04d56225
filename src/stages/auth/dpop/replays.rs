//! Remembers the proofs that were used and are still valid (RFC 9449 §11.1), so that each can be claimed only once.
//!
//! A proof that is still valid is never evicted. The number of proofs of one key is limited, so that one caller cannot take
//! all the capacity: over that limit the caller has to wait, and others are not affected.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::RandomState;
use aws_lc_rs::digest::{SHA256, digest};

use super::error::ProofError;
use super::hash::truncated;

/// Most proofs that are remembered at once: about 30 MiB, if each has a different key.
const MAX_REPLAYS: usize = 262_144;
/// Most proofs of one key: 500 requests a second, at the default age of 60 s.
const MAX_PER_KEY: u32 = 32_768;
/// Shards, each with its own lock.
const SHARDS: usize = 16;

/// Returns what identifies a proof. A thumbprint contains no NUL, so different pairs give different texts.
pub(super) fn replay_key(jkt: &str, jti: &str) -> [u8; 16] {
    truncated(digest(&SHA256, [jkt, jti].join("\0").as_bytes()).as_ref())
}

/// The used proofs. They outlive policies, so that a reload does not make a proof valid again.
pub(crate) struct Replays {
    /// Sharded by key, so that the proofs of one key are in one shard.
    shards: [Mutex<Shard>; SHARDS],
    /// Proofs in all shards.
    held: AtomicUsize,
    /// The second in which all shards were last swept.
    swept: AtomicI64,
    /// Most proofs in all, and of one key.
    capacity: (usize, u32),
    /// Hashes keys. Seeded, so that no one can choose keys that collide with another's.
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    seen: HashMap<[u8; 16], SeenProof, RandomState>,
    /// The usage of each key.
    keys: HashMap<u64, KeyUsage, RandomState>,
}

/// A proof.
struct SeenProof {
    /// The last second in which it is valid, since 1970.
    until: i64,
    /// Hash of its key.
    key: u64,
}

/// How many proofs of a key are remembered.
struct KeyUsage {
    number: u32,
    /// The last second of the proof that expires first.
    first: i64,
}

impl Default for KeyUsage {
    fn default() -> Self {
        Self { number: 0, first: i64::MAX }
    }
}

impl fmt::Debug for Replays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replays")
    }
}

impl Shard {
    /// Removes expired proofs; returns how many.
    fn sweep(&mut self, now: i64) -> usize {
        let before = self.seen.len();
        self.seen.retain(|_, seen| seen.until >= now);
        self.keys.clear();
        for seen in self.seen.values() {
            self.keys.entry(seen.key).or_default().add(seen.until);
        }
        before - self.seen.len()
    }
}

impl KeyUsage {
    fn add(&mut self, until: i64) {
        self.number += 1;
        self.first = self.first.min(until);
    }
}

impl Replays {
    /// Makes an empty memory with the default limits.
    pub(crate) fn new() -> Self {
        Self::with_capacity(MAX_REPLAYS, MAX_PER_KEY)
    }

    pub(super) fn with_capacity(all: usize, per_key: u32) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            held: AtomicUsize::new(0),
            swept: AtomicI64::new(i64::MIN),
            capacity: (all, per_key),
            hasher: RandomState::new(),
        }
    }

    /// Remembers a proof of the key with this thumbprint for as long as it is valid. Fails if it is remembered already.
    pub(super) fn claim(&self, jkt: &str, replay_key: [u8; 16], until: i64, now: i64) -> Result<(), ProofError> {
        let (all, per_key) = self.capacity;
        // At most once a second, since another sweep would find nothing. `!=` and not `>`: the clock may be set back.
        if self.held.load(Ordering::Relaxed) >= all && self.swept.swap(now, Ordering::Relaxed) != now {
            for shard in &self.shards {
                self.sweep(&mut lock(shard), now);
            }
        }
        let key = self.hasher.hash_one(jkt);
        // Less than SHARDS, hence within.
        let mut shard = lock(&self.shards[key as usize % SHARDS]);
        match shard.seen.get_mut(&replay_key) {
            Some(seen) if seen.until >= now => return Err(ProofError::Replayed),
            // It has expired, so its entry is reused.
            Some(seen) => {
                seen.until = until;
                return Ok(());
            }
            None => {}
        }
        let has = |shard: &Shard| shard.keys.get(&key).map_or((0, i64::MAX), |held| (held.number, held.first));
        let (mut number, mut first) = has(&shard);
        if number >= per_key && first < now {
            self.sweep(&mut shard, now);
            (number, first) = has(&shard);
        }
        if number >= per_key {
            let wait = first.saturating_sub(now).saturating_add(1);
            return Err(ProofError::TooMany { wait: u64::try_from(wait).unwrap_or(1) });
        }
        let more = |held: usize| (held < all).then_some(held + 1);
        if self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return Err(ProofError::Full);
        }
        shard.seen.insert(replay_key, SeenProof { until, key });
        shard.keys.entry(key).or_default().add(until);
        Ok(())
    }

    fn sweep(&self, shard: &mut Shard, now: i64) {
        self.held.fetch_sub(shard.sweep(now), Ordering::Relaxed);
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn a_full_memory_forgets_what_has_ended_and_refuses_otherwise() {
        let replays = Replays::with_capacity(2, 2);
        let claim = |key: &str, jti: &str, until, now| replays.claim(key, replay_key(key, jti), until, now);
        assert_eq!(claim("a", "1", 10, 0), Ok(()));
        assert_eq!(claim("b", "1", 20, 0), Ok(()));
        assert_eq!(claim("c", "1", 30, 0), Err(ProofError::Full));
        assert_eq!(claim("a", "1", 10, 10), Err(ProofError::Replayed), "a full memory knows what it knows");
        assert_eq!(claim("c", "1", 30, 10), Err(ProofError::Full), "the first is good until the end of its second");
        assert_eq!(claim("c", "1", 30, 11), Ok(()), "the first made room");
        assert_eq!(claim("b", "1", 20, 11), Err(ProofError::Replayed));
        assert_eq!(claim("d", "1", 30, 11), Err(ProofError::Full));
        assert_eq!(claim("d", "1", 30, 9), Err(ProofError::Full), "a clock set back frees nothing");
        assert_eq!(claim("d", "1", 40, 31), Ok(()));
        assert_eq!(claim("b", "1", 40, 31), Ok(()), "an id may come again after its time");
        assert_eq!(claim("b", "1", 40, 31), Err(ProofError::Replayed));
        assert_eq!(claim("e", "1", 40, 31), Err(ProofError::Full), "what comes again takes no second place");
    }

    #[test]
    fn one_key_takes_no_more_than_its_part() {
        let replays = Replays::with_capacity(1000, 3);
        let claim = |key: &str, jti: &str, until, now| replays.claim(key, replay_key(key, jti), until, now);
        for (jti, until) in [("1", 10), ("2", 20), ("3", 30)] {
            assert_eq!(claim("busy", jti, until, 0), Ok(()));
        }
        for (now, wait) in [(0, 11), (9, 2), (10, 1)] {
            assert_eq!(claim("busy", "4", 40, now), Err(ProofError::TooMany { wait }), "at {now}");
        }
        assert_eq!(claim("busy", "2", 20, 10), Err(ProofError::Replayed), "what it has is known all the same");
        for number in 0..100 {
            assert_eq!(claim(&format!("other {number}"), "4", 40, 10), Ok(()), "others go on");
        }
        assert_eq!(claim("busy", "4", 40, 11), Ok(()), "the first has ended");
        assert_eq!(claim("busy", "5", 40, 11), Err(ProofError::TooMany { wait: 10 }));
        assert_eq!(claim("busy", "5", 40, 31), Ok(()));
        assert_eq!(claim("busy", "6", 50, 31), Ok(()));
        assert_eq!(claim("busy", "7", 50, 31), Err(ProofError::TooMany { wait: 10 }));
    }

    #[test]
    fn memory_is_bounded() {
        let replays = Replays::new();
        let claim = |number: usize, until, now| {
            let key = (number % 9).to_string();
            replays.claim(&key, replay_key(&key, &number.to_string()), until, now)
        };
        let good = (0..9 * MAX_PER_KEY as usize + 100).filter(|number| {
            let claimed = claim(*number, NOW + 90, NOW);
            assert!(matches!(claimed, Ok(()) | Err(ProofError::Full)), "{claimed:?}");
            claimed.is_ok()
        });
        assert_eq!(good.count(), MAX_REPLAYS, "nine keys could fill it, eight cannot take more than all");
        assert_eq!(claim(usize::MAX, NOW + 190, NOW + 91), Ok(()), "when they have ended there is room");
        assert_eq!(replays.held.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn no_two_proofs_have_the_same_mark() {
        let replay_keys = [
            replay_key("a", "bc"),
            replay_key("ab", "c"),
            replay_key("abc", ""),
            replay_key("", "abc"),
            replay_key("a", "b"),
        ];
        for (at, one) in replay_keys.iter().enumerate() {
            assert!(replay_keys.iter().skip(at + 1).all(|other| one != other), "{at}");
        }
        assert_eq!(replay_key("a", "b"), replay_key("a", "b"));
    }
}
