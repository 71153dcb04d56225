//! What a store has changed since this node last read it, as far as its stream of changes shows.

use std::collections::HashSet;

use super::entry::Kind;

/// The entries that a store has changed since this node last read it.
#[derive(Debug)]
pub(super) struct Since {
    /// Whether the stream has every change; otherwise its beginning was trimmed.
    complete: bool,
    changed: HashSet<(Kind, String)>,
}

impl Since {
    pub(super) fn new(complete: bool) -> Self {
        Self { complete, changed: HashSet::new() }
    }

    /// Records that an entry was stored or removed.
    pub(super) fn note(&mut self, kind: Kind, id: String) {
        self.changed.insert((kind, id));
    }

    /// Returns whether the store has changed this entry, so that its version counts and not the one known here.
    ///
    /// A change that was trimmed from the stream counts as made, except to what restricts: that was not seen undone.
    pub(super) fn has_changed(&self, kind: Kind, id: &str) -> bool {
        let restricts = matches!(kind, Kind::Revocation | Kind::Suspension);
        (!self.complete && !restricts) || self.changed.contains(&(kind, id.to_owned()))
    }
}
