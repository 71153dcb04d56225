//! Names of limits, short and the same everywhere.

use aws_lc_rs::digest::{Context, SHA256};

/// Identifies a limit of a caller: a rate or quota of its plan or of a class of endpoints, or the rate of a route.
///
/// A digest of its name, so that it is the same in every policy and on every node, and compiling needs no state.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitId(pub(crate) [u8; 16]);

impl LimitId {
    /// The rate of a plan. Without its name: who changes to another plan has used as much of that one.
    pub(crate) fn plan() -> Self {
        Self(digest(&["plan"]))
    }

    /// The rate of a route.
    pub(crate) fn route(api: &str, route: &str) -> Self {
        Self(digest(&["route", api, route]))
    }

    /// The rate of a class of endpoints.
    pub(crate) fn class(name: &str) -> Self {
        Self(digest(&["class", name]))
    }

    /// A quota of a plan or of a class of endpoints. Without the plan's name and the zone, which refill nobody.
    pub(crate) fn quota(class: Option<&str>, every: &str) -> Self {
        Self(class.map_or_else(|| digest(&["quota", every]), |class| digest(&["quota", every, class])))
    }
}

/// 16 bytes of a digest of these parts.
pub(super) fn digest(parts: &[&str]) -> [u8; 16] {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        // Each part with its length, so that no two lists of parts are the same bytes.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finish().as_ref().first_chunk().copied().unwrap_or_default()
}
