//! When a failure that repeats is logged: at once, then at growing intervals.

use std::time::{Duration, Instant};

/// The interval after the first message; doubled up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(10);
/// The longest interval.
const LONGEST: Duration = Duration::from_secs(600);

/// Decides which of the repeated failures are logged.
#[derive(Debug, Default)]
pub(super) struct RetryLog {
    /// When the next message is due, and the interval after it; `None` while there is no failure.
    next: Option<(Instant, Duration)>,
}

impl RetryLog {
    /// Records a failure, and returns whether to log it.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let interval = match self.next {
            None => FIRST,
            Some((due, interval)) if now >= due => (interval * 2).min(LONGEST),
            Some(_) => return false,
        };
        self.next = now.checked_add(interval).map(|due| (due, interval));
        true
    }

    /// Ends the series: the next failure is logged at once.
    pub(super) fn reset(&mut self) {
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U15: a store that is away is logged at once, then ever more rarely, and at once again after it was back.
    #[test]
    fn a_failure_that_repeats_each_second_is_logged_at_once_and_then_at_growing_intervals() {
        let (begin, mut log) = (Instant::now(), RetryLog::default());
        let at = |second: u64| begin + Duration::from_secs(second);
        let logged: Vec<u64> = (0..3600).filter(|second| log.is_due(at(*second))).collect();
        assert_eq!(logged, [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030]);
        log.reset();
        assert!(log.is_due(at(3600)) && !log.is_due(at(3601)));
    }
}
