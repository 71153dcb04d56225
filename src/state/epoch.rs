//! Counts changes of what callers are known by: key sets, consumers, keys.
//!
//! Whoever remembers a caller compares the count it remembered at with the count now, and asks again when they differ.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The count. Clones are handles to the same one, shared by all workers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Epoch(Arc<AtomicU64>);

impl Epoch {
    /// Something changed.
    pub(crate) fn advance(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// The count now.
    pub(crate) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
