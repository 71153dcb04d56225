//! The errors of a store.

use std::fmt;

/// Why an operation of a store failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The policy has no store.
    None,
    /// The entry to be created exists already; nothing was changed.
    Exists,
    /// The entry to be replaced has been changed or removed meanwhile; nothing was changed.
    Changed,
    /// Another process has opened it.
    InUse(String),
    /// The change was stored, but is not in force on this node yet.
    NotInForce,
    /// It cannot be reached now; whether something was changed may not be known.
    Unreachable(String),
    /// It is broken, or its contents are invalid.
    Unusable(String),
}

impl StoreError {
    /// Whether the change was stored all the same; absent: that is not known.
    pub(crate) fn is_stored(&self) -> Option<bool> {
        match self {
            Self::NotInForce => Some(true),
            Self::Unreachable(_) | Self::Unusable(_) => None,
            Self::None | Self::Exists | Self::Changed | Self::InUse(_) => Some(false),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the policy has no `store`, so nothing can be saved; add `store: state/`"),
            Self::Exists => f.write_str("an entry with this id exists already"),
            Self::Changed => f.write_str("the entry has been changed meanwhile"),
            Self::InUse(which) => write!(f, "the store {which} is in use by another process"),
            Self::NotInForce => f.write_str("the change was stored, but is not in force on this node yet"),
            Self::Unreachable(why) => write!(f, "the store cannot be reached: {why}"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}
