//! Notices secrets of clients that are used after they were replaced and have ended.
//!
//! A client that was not told of the next secret does so by mistake, again and again; but it may also be the owner, and the one that has
//! replaced the secret a thief.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// A client is reported no more often than this.
const QUIET: Duration = Duration::from_secs(3600);
/// Most clients that are remembered at a time.
const CLIENTS: usize = 10_000;

/// When each client was reported.
#[derive(Debug, Default)]
pub(crate) struct ReplacedSecrets {
    reported: Mutex<HashMap<Box<str>, Timestamp>>,
}

impl ReplacedSecrets {
    /// Notes that a secret of a client was used that had ended. Returns whether it is time to report it; while too many are remembered,
    /// others are not.
    pub(crate) fn note(&self, client: &str, now: Timestamp) -> bool {
        let is_quiet = |reported: &Timestamp| now.duration_since(*reported).unsigned_abs() < QUIET;
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.get(client).is_some_and(is_quiet) {
            return false;
        }
        if reported.len() >= CLIENTS {
            reported.retain(|_, reported| is_quiet(reported));
        }
        if reported.len() >= CLIENTS {
            return false;
        }
        reported.insert(client.into(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    #[test]
    fn a_client_is_reported_once_an_hour() {
        let secrets = ReplacedSecrets::default();
        for (client, second, reported) in
            [("a", 0, true), ("a", 1, false), ("b", 2, true), ("a", 3599, false), ("a", 3600, true), ("b", 3601, false)]
        {
            assert_eq!(secrets.note(client, at(second)), reported, "{client} {second}");
        }
    }

    #[test]
    fn the_number_of_clients_is_bounded() {
        let secrets = ReplacedSecrets::default();
        for number in 0..CLIENTS + 10 {
            assert_eq!(secrets.note(&number.to_string(), at(0)), number < CLIENTS);
        }
        assert!(secrets.note("late", at(3600)));
        assert_eq!(secrets.reported.lock().unwrap().len(), 1, "those whose time is over make room");
    }
}
