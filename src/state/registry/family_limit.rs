//! How many families of refresh tokens a client may begin. Each is kept in the store for days, and a client can get access
//! tokens without one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// How many a client may begin at once.
const BURST: i64 = 1000;
/// After how many milliseconds it may begin one more.
const EVERY: i64 = 60_000;
/// How many clients are remembered before those that may begin [`BURST`] again are forgotten.
const CLIENTS: usize = 10_000;

/// When each client will be as if it had begun none, in milliseconds: its arrival time in the sense of GCRA.
#[derive(Default)]
pub(super) struct FamilyLimit(Mutex<HashMap<Box<str>, i64>>);

impl FamilyLimit {
    /// Whether the client may begin another one now, which is counted.
    pub(super) fn take(&self, client: &str, now: Timestamp) -> bool {
        let now = now.as_millisecond();
        let mut arrivals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Later than that is none, unless the clock was set back meanwhile.
        let latest = now.saturating_add(BURST.saturating_mul(EVERY));
        let known = arrivals.get(client).copied().unwrap_or(now).clamp(now, latest);
        let arrival = known.saturating_add(EVERY);
        if arrival > latest {
            arrivals.insert(client.into(), known);
            return false;
        }
        if arrivals.len() >= CLIENTS && !arrivals.contains_key(client) {
            arrivals.retain(|_, arrival| *arrival > now);
        }
        arrivals.insert(client.into(), arrival);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_begins_so_many_and_then_one_a_minute() {
        let (limit, at) = (FamilyLimit::default(), |second| Timestamp::from_second(second).unwrap());
        assert_eq!((0..1500).filter(|_| limit.take("a", at(0))).count(), 1000);
        assert_eq!([59, 60, 61, 119, 120].map(|now| limit.take("a", at(now))), [false, true, false, false, true]);
        assert!(limit.take("b", at(0)), "others are not held up");
        assert_eq!((0..1500).filter(|_| limit.take("a", at(1_000_000))).count(), 1000);
        // A clock that was set back lets nobody wait longer than the clock was wrong.
        assert!(!limit.take("a", at(999_990)) && limit.take("a", at(1_000_060)));
        // Nor longer than for one, however far it was set back.
        assert_eq!([0, 59, 60, 61].map(|now| limit.take("a", at(now))), [false, false, true, false]);
    }
}
