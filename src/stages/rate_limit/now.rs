//! A moment by the clocks of rates and of quotas.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::exchange::Request;
use crate::state::ledger::Tick;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For rates.
    pub(crate) tick: Tick,
    /// For quotas, which follow the calendar.
    pub(crate) at: Timestamp,
}

impl Now {
    /// When a request began.
    pub(crate) fn of(request: &Request<'_>) -> Self {
        Self { tick: request.tick, at: request.now() }
    }

    /// The same clocks, at a later tick.
    pub(super) fn later(self, tick: Tick) -> Self {
        self.after(tick.0.saturating_sub(self.tick.0))
    }

    /// The same clocks, so many nanoseconds later.
    pub(super) fn after(self, nanoseconds: u64) -> Self {
        let passed = SignedDuration::try_from(Duration::from_nanos(nanoseconds));
        let at = passed.ok().and_then(|passed| self.at.checked_add(passed).ok());
        Self { tick: Tick(self.tick.0.saturating_add(nanoseconds)), at: at.unwrap_or(self.at) }
    }
}
