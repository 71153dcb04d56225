//! Whether a registry is in sync with its store.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether the registry is in sync with its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Health {
    /// The store has never been read: nobody is admitted.
    Loading = 0,
    /// The registry is in sync with the store.
    Ready = 1,
    /// The store was read, but cannot be reached now: other nodes may have changed it.
    Stale = 2,
    /// The registry is right, since only this process changes the store, but no change can be written now.
    Unwritable = 3,
}

impl Health {
    /// Returns the value that was last stored.
    pub(super) fn load(value: &AtomicU8) -> Self {
        Self::of(value.load(Ordering::Acquire))
    }

    fn of(value: u8) -> Self {
        match value {
            1 => Self::Ready,
            2 => Self::Stale,
            3 => Self::Unwritable,
            _ => Self::Loading,
        }
    }

    /// Stores the value, and returns the one before.
    pub(super) fn replace(self, value: &AtomicU8) -> Self {
        Self::of(value.swap(self as u8, Ordering::AcqRel))
    }

    /// Stores the value.
    pub(super) fn store(self, value: &AtomicU8) {
        value.store(self as u8, Ordering::Release);
    }
}
