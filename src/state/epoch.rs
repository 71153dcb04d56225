//! Counts changes to the key sets, consumers and API keys that identify callers.
//!
//! A cache of callers stores the count with each entry, and looks the caller up again when the count has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The count. Clones are handles to the same one, shared by all workers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Epoch(Arc<AtomicU64>);

impl Epoch {
    /// Records a change.
    pub(crate) fn advance(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// The count now.
    pub(crate) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
