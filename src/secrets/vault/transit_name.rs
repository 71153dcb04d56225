//! Names and versions of keys of the transit engine.

use std::fmt;

/// The name of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TransitName {
    /// Where the engine is mounted.
    pub(crate) mount: Box<str>,
    /// The key there.
    pub(crate) key: Box<str>,
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyVersion {
    /// From 1.
    pub(super) number: u64,
    /// The public key in Base64.
    pub(super) public: Box<str>,
}

impl fmt::Display for TransitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.key)
    }
}
