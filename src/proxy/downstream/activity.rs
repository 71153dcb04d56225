//! What a connection shares with the thread that accepts connections: since when it is idle, and whether it is to end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

/// The value of `idle_since` while a request is served.
const BUSY: u64 = u64::MAX;

/// How a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ending {
    /// Not at all: it goes on.
    No,
    /// After the requests in flight.
    Finish,
    /// At once if no request is in flight, otherwise after them: its place is needed.
    Evict,
}

/// The activity of one connection.
#[derive(Debug)]
pub(crate) struct Activity {
    /// The listener that accepted it, by its address in the policy.
    pub(in crate::proxy) listener: SocketAddr,
    /// The zero of `idle_since`.
    started: Instant,
    /// When it was accepted or its last request ended, in microseconds; [`BUSY`] while a request is served.
    idle_since: AtomicU64,
    ending: AtomicU8,
    changed: Notify,
}

impl Activity {
    /// Creates the activity of a connection accepted now. `started` is the same for all connections.
    pub(super) fn new(listener: SocketAddr, started: Instant) -> Self {
        let this = Self {
            listener,
            started,
            idle_since: AtomicU64::new(0),
            ending: AtomicU8::new(Ending::No as u8),
            changed: Notify::new(),
        };
        this.idle(Instant::now());
        this
    }

    /// Records that a request is served.
    pub(crate) fn busy(&self) {
        self.idle_since.store(BUSY, Ordering::Relaxed);
    }

    /// Records that no request is served any more.
    pub(crate) fn idle(&self, now: Instant) {
        let since = u64::try_from(now.saturating_duration_since(self.started).as_micros()).unwrap_or(BUSY - 1);
        self.idle_since.store(since, Ordering::Relaxed);
    }

    /// Returns since when it is idle; `None` while a request is served, and when it is about to end anyway.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let since = self.idle_since.load(Ordering::Relaxed);
        (since != BUSY && self.ending() == Ending::No).then_some(since)
    }

    /// Asks the connection to end. This cannot be undone.
    pub(super) fn end(&self, ending: Ending) {
        self.ending.fetch_max(ending as u8, Ordering::AcqRel);
        self.changed.notify_one();
    }

    /// Returns how the connection is to end.
    pub(crate) fn ending(&self) -> Ending {
        match self.ending.load(Ordering::Acquire) {
            0 => Ending::No,
            1 => Ending::Finish,
            _ => Ending::Evict,
        }
    }

    /// Waits until the connection is asked to end in another way than `known`. Only its own task may wait.
    pub(super) async fn ending_after(&self, known: Ending) -> Ending {
        loop {
            match self.ending() {
                ending if ending > known => return ending,
                _ => self.changed.notified().await,
            }
        }
    }
}
