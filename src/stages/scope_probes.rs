//! Notices callers that try routes for which they lack the scopes.
//!
//! One such refusal is a mistake; refusals on many routes in a short time look like somebody who has got hold of a credential and
//! tries what it opens.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use jiff::Timestamp;

/// Refusals on this many routes are reported…
const ROUTES: usize = 5;
/// …if they came within this time.
const WITHIN: Duration = Duration::from_secs(600);
/// A consumer is reported no more often than this.
const QUIET: Duration = Duration::from_secs(3600);
/// Most consumers that are watched at a time.
const CONSUMERS: usize = 10_000;

/// The refusals of all consumers.
#[derive(Debug, Default)]
pub(crate) struct ScopeProbes {
    hasher: RandomState,
    consumers: Mutex<HashMap<Box<str>, Probes>>,
}

/// Those of one consumer.
#[derive(Debug)]
struct Probes {
    since: Timestamp,
    /// Hashes of the routes.
    routes: Vec<u64>,
    reported: Option<Timestamp>,
}

impl Probes {
    fn is_over(&self, now: Timestamp) -> bool {
        let passed = |since: Timestamp, time| now.duration_since(since).unsigned_abs() >= time;
        passed(self.since, WITHIN) && self.reported.is_none_or(|reported| passed(reported, QUIET))
    }
}

impl ScopeProbes {
    /// Notes a refusal. Returns the number of routes if it is time to report the consumer. While too many are watched, others
    /// are not.
    pub(crate) fn note(&self, consumer: &str, route: &str, now: Timestamp) -> Option<usize> {
        let route = self.hasher.hash_one(route);
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        if !consumers.contains_key(consumer) {
            if consumers.len() >= CONSUMERS {
                consumers.retain(|_, probes| !probes.is_over(now));
            }
            if consumers.len() >= CONSUMERS {
                return None;
            }
            consumers.insert(consumer.into(), Probes { since: now, routes: Vec::new(), reported: None });
        }
        let probes = consumers.get_mut(consumer)?;
        if now.duration_since(probes.since).unsigned_abs() >= WITHIN {
            (probes.since, probes.routes) = (now, Vec::new());
        }
        if !probes.routes.contains(&route) && probes.routes.len() < ROUTES {
            probes.routes.push(route);
        }
        let quiet = probes.reported.is_some_and(|reported| now.duration_since(reported).unsigned_abs() < QUIET);
        if probes.routes.len() < ROUTES || quiet {
            return None;
        }
        probes.reported = Some(now);
        Some(ROUTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    #[test]
    fn many_routes_in_a_short_time_are_reported_once_an_hour() {
        let probes = ScopeProbes::default();
        let note =
            |consumer: &str, route: u32, second| probes.note(consumer, &format!("GET /{route}"), at(second)).is_some();
        for (consumer, route, second, reported) in [
            ("a", 1, 0, false),
            ("a", 1, 1, false),
            ("a", 2, 2, false),
            ("a", 3, 3, false),
            ("b", 4, 3, false),
            ("a", 4, 4, false),
            ("a", 5, 5, true),
            ("a", 6, 6, false),
            // Slower than that.
            ("b", 1, 300, false),
            ("b", 2, 302, false),
            ("b", 3, 604, false),
            ("b", 5, 605, false),
            ("b", 1, 606, false),
            // The next hour.
            ("a", 1, 3601, false),
            ("a", 2, 3602, false),
            ("a", 3, 3603, false),
            ("a", 4, 3604, false),
            ("a", 5, 3606, true),
        ] {
            assert_eq!(note(consumer, route, second), reported, "{consumer} {route} {second}");
        }
    }

    #[test]
    fn the_number_of_consumers_is_bounded() {
        let probes = ScopeProbes::default();
        for number in 0..CONSUMERS + 10 {
            assert_eq!(probes.note(&number.to_string(), "GET /", at(0)), None);
        }
        assert_eq!(probes.consumers.lock().unwrap().len(), CONSUMERS);
        assert_eq!(probes.note("late", "GET /", at(600)), None);
        assert_eq!(probes.consumers.lock().unwrap().len(), 1, "those whose time is over make room");
    }
}
