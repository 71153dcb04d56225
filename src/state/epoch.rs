//! Counts changes to the key sets, consumers and API keys that identify callers, and tells of every change to what they may do.
//!
//! A cache of callers stores the count with each entry, and looks the caller up again when the count has changed. What outlasts
//! a request, such as a WebSocket, waits for changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The count. Clones are handles to the same one, shared by all workers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Epoch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    count: AtomicU64,
    changed: watch::Sender<()>,
}

impl Epoch {
    /// Records a change to what identifies callers.
    pub(crate) fn advance(&self) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.touch();
    }

    /// Tells of a change to what callers may do.
    pub(crate) fn touch(&self) {
        self.0.changed.send_replace(());
    }

    /// The count now.
    pub(crate) fn current(&self) -> u64 {
        self.0.count.load(Ordering::Acquire)
    }

    /// What learns of the next change, of either kind.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }
}
