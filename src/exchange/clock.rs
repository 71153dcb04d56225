//! When a request began, by both clocks, with one reading of a clock.

use std::cell::Cell;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// The wall clock is read again this often, so that setting it takes effect.
const READ_AGAIN: Duration = Duration::from_millis(10);

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Timestamp,
    since: Instant,
}

impl Reading {
    /// The wall clock at `instant`; `None` if the reading is too old.
    fn at(self, instant: Instant) -> Option<Timestamp> {
        let elapsed = instant.checked_duration_since(self.since).filter(|elapsed| *elapsed < READ_AGAIN)?;
        self.at.checked_add(SignedDuration::from_nanos(i64::from(elapsed.subsec_nanos()))).ok()
    }
}

/// Now, by the wall clock and for durations.
pub(super) fn now() -> (Timestamp, Instant) {
    thread_local! {
        static LAST: Cell<Option<Reading>> = const { Cell::new(None) };
    }
    let begun = Instant::now();
    let at = LAST.get().and_then(|last| last.at(begun)).unwrap_or_else(|| {
        let at = Timestamp::now();
        LAST.set(Some(Reading { at, since: begun }));
        at
    });
    (at, begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_derived_for_a_moment_and_then_read_again() {
        let since = Instant::now();
        let reading = Reading { at: Timestamp::UNIX_EPOCH, since };
        for (elapsed, at) in [
            (Duration::ZERO, Some("1970-01-01T00:00:00Z")),
            (Duration::from_micros(9_999), Some("1970-01-01T00:00:00.009999Z")),
            (READ_AGAIN, None),
            (Duration::from_secs(3600), None),
        ] {
            assert_eq!(reading.at(since + elapsed).map(|at| at.to_string()).as_deref(), at, "{elapsed:?}");
        }
        let later = Reading { since: since + Duration::from_micros(1), ..reading };
        assert_eq!(later.at(since), None, "readings of the future are not used");
    }
}
