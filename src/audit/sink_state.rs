//! What the thread of a sink shares with the handles on it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::thread::DIED;

/// The state of a sink.
#[derive(Default)]
pub(super) struct State {
    /// Records handed to this sink, written or not.
    pub(super) handed: AtomicU64,
    /// Records written.
    pub(super) records_written: AtomicU64,
    /// Bytes written.
    pub(super) bytes_written: AtomicU64,
    /// The sink is to be reopened before the next write.
    pub(super) reopen: AtomicBool,
    /// A policy with this sink is or was in force.
    pub(super) in_force: AtomicBool,
    /// The sink takes no more lines; those that it has are still written.
    pub(super) closing: AtomicBool,
    /// `@timestamp` of the oldest line that was taken and not delivered, in milliseconds since 1970; zero if there is none.
    oldest: AtomicI64,
    /// Attempts that failed.
    pub(super) failures: AtomicU64,
    /// Records that the sink refused for good.
    pub(super) rejected: AtomicU64,
    /// Those of them that its file of rejected records had no room for.
    pub(super) rejected_not_kept: AtomicU64,
    /// Its thread has ended.
    pub(super) ended: AtomicBool,
    /// A fault has ended its thread.
    pub(super) died: AtomicBool,
    /// Wakes a sender that waits.
    pub(super) changed: Notify,
    /// When failing writes, and waiting for room in the queue, are given up. Absent while the sink is in use.
    deadline: Mutex<Option<Instant>>,
    /// Why the sink cannot be written.
    error: Mutex<Option<String>>,
}

impl State {
    /// Records handed to this sink and not written yet.
    pub(super) fn waiting(&self) -> u64 {
        // Load `written` first: it never exceeds `handed`, so the difference is never negative.
        let written = self.records_written.load(Relaxed);
        self.handed.load(Relaxed).saturating_sub(written)
    }

    /// Sets the instant at which failing writes are given up, unless an earlier one is set.
    pub(super) fn give_up_at(&self, instant: Instant) {
        let mut deadline = self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        *deadline = Some(deadline.map_or(instant, |earlier| earlier.min(instant)));
    }

    /// The instant at which failing writes are given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is somebody who waits for what the sink has. Nobody does for one that is closed before it was in force.
    pub(super) fn is_wanted(&self) -> bool {
        !self.closing.load(Relaxed) || (self.in_force.load(Relaxed) && !self.is_given_up())
    }

    /// Whether that instant has come.
    pub(super) fn is_given_up(&self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= Instant::now())
    }

    /// Returns why the sink cannot be written, while that lasts.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets or clears the error; returns whether the sink started or stopped failing.
    pub(super) fn set_error(&self, error: Option<String>) -> bool {
        let mut current = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = current.is_some() != error.is_some();
        *current = error;
        changed
    }

    /// A fault ends its thread.
    pub(super) fn dies(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.set_error(Some(DIED.to_owned()));
        self.died.store(true, Relaxed);
        self.ended.store(true, Release);
    }

    /// Lines were taken, and are not delivered.
    pub(super) fn takes(&self, lines: &[u8]) {
        self.oldest.store(timestamp(lines).map_or(0, Timestamp::as_millisecond), Relaxed);
    }

    /// What was taken is delivered.
    pub(super) fn has_delivered(&self) {
        self.oldest.store(0, Relaxed);
    }

    /// How old the oldest line is that was taken and not delivered.
    pub(super) fn lag(&self, now: Timestamp) -> Duration {
        let oldest = self.oldest.load(Relaxed);
        let age = if oldest == 0 { 0 } else { now.as_millisecond().saturating_sub(oldest) };
        Duration::from_millis(u64::try_from(age).unwrap_or_default())
    }

    /// Waits until the sink is given up. Needs a runtime with time.
    pub(super) async fn given_up(&self) {
        loop {
            let changed = self.changed.notified();
            let over = async {
                match self.deadline() {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                () = changed => {}
            }
        }
    }
}

/// `@timestamp` of the first line.
pub(super) fn timestamp(lines: &[u8]) -> Option<Timestamp> {
    const BEFORE: &[u8] = b"{\"@timestamp\":\"";
    let text = lines.strip_prefix(BEFORE)?.get(..24)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_earliest_time_to_give_up_holds() {
        let state = State::default();
        let now = Instant::now();
        for (set, expected) in [(20, 20), (30, 20), (10, 10)] {
            state.give_up_at(now + Duration::from_secs(set));
            assert_eq!(state.deadline(), Some(now + Duration::from_secs(expected)));
        }
    }

    #[test]
    fn the_lag_is_the_age_of_the_oldest_line() {
        let (state, now) = (State::default(), "2026-11-23T22:04:09.123Z".parse().unwrap());
        assert_eq!(state.lag(now), Duration::ZERO);
        state.takes(b"{\"@timestamp\":\"2026-11-23T22:04:05.123Z\",\"ecs\"");
        assert_eq!(state.lag(now), Duration::from_secs(4));
        state.has_delivered();
        assert_eq!(state.lag(now), Duration::ZERO);
        state.takes(b"{}");
        assert_eq!(state.lag(now), Duration::ZERO);
    }
}
