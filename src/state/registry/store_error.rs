//! Why a store did not do what it was asked to do.

use std::fmt;

/// Why a store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreError {
    /// The policy has none.
    None,
    /// What was to be created is there; nothing was changed.
    Exists,
    /// Another process has it.
    InUse(String),
    /// It cannot be reached now; nothing was changed, or it is not known whether something was.
    Unreachable(String),
    /// It is broken, or does not hold what it should.
    Unusable(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("the policy has no `store`, so nothing can be kept; write `store: state/`"),
            Self::Exists => f.write_str("there is one with this id"),
            Self::InUse(which) => write!(f, "the store {which} is in use by another process"),
            Self::Unreachable(why) => write!(f, "the store cannot be reached: {why}"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}
