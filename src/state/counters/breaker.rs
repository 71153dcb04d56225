//! Stops asking a store that does not answer, until it answers again.

use std::sync::atomic::{AtomicU32, Ordering};

/// Questions in a row without an answer, after which nothing waits for the store any more.
pub(super) const FAILURES: u32 = 5;

/// How many questions in a row have had no answer.
#[derive(Debug, Default)]
pub(super) struct Breaker(AtomicU32);

impl Breaker {
    /// Whether questions are not asked.
    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= FAILURES
    }

    /// The store has answered.
    pub(super) fn answered(&self) {
        if self.0.swap(0, Ordering::Relaxed) >= FAILURES {
            tracing::info!("the store answers again; limits are counted in it");
        }
    }

    /// The store has not answered. Returns whether it is given up with this.
    pub(super) fn failed(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) + 1 == FAILURES
    }
}
