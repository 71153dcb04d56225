//! The names of a store's keys in Redis.

use crate::state::registry::entry::Kind;

/// The names of this store's keys in Redis, all in one slot of a cluster.
#[derive(Debug, Clone)]
pub(super) struct KeyNames(pub(super) Box<str>);

impl KeyNames {
    pub(super) fn of(&self, what: &str) -> String {
        format!("{{{}}}:{what}", self.0)
    }

    pub(super) fn hash(&self, kind: Kind) -> String {
        self.of(kind.as_str())
    }

    pub(super) fn ids(&self, kind: Kind) -> String {
        format!("{}:ids", self.hash(kind))
    }

    pub(super) fn stream(&self) -> String {
        self.of("changes")
    }

    /// Set once, when the store is first used: if it is missing or different, this is not the same store.
    pub(super) fn identity(&self) -> String {
        self.of("identity")
    }

    pub(super) fn uses(&self) -> String {
        self.of("use")
    }
}
