//! What is decided about one limit.

use std::time::Duration;

/// How long to wait for what never fits.
const FOR_EVER: Duration = Duration::from_secs(366 * 86_400);

/// A request that fits a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fits {
    /// The tick at which nothing will have been used any more, once the request has been taken.
    pub(crate) full_at: u64,
    /// How much more is allowed right now.
    pub(crate) remaining: u32,
    /// Time until the limit is fully replenished.
    pub(crate) full_after: Duration,
}

/// A request that does not fit a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    /// Time until it fits. `None`: it costs more than is ever allowed at once, so it never does.
    pub(crate) wait: Option<Duration>,
    /// How much is allowed right now.
    pub(crate) remaining: u32,
}

impl Exceeded {
    /// Time until the request may be repeated.
    pub(crate) fn wait(&self) -> Duration {
        self.wait.unwrap_or(FOR_EVER)
    }
}
