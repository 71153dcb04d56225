//! How requests ended: counted without a lock, and without an allocation.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum number of different ends.
pub(crate) const ENDS: usize = 64;

/// How one request ended, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// Position among all ends; below [`ENDS`].
    pub(crate) index: usize,
    /// The `code` label: a refusal's code, or `2xx`.
    pub(crate) code: &'static str,
}

/// Number of requests by how they ended.
#[derive(Debug)]
pub(super) struct Ends(
    /// By [`End::index`]; set on first use, because most ends never occur on most routes.
    [OnceLock<EndCount>; ENDS],
);

/// Number of requests that ended in one way.
#[derive(Debug)]
struct EndCount {
    code: &'static str,
    requests: AtomicU64,
}

impl Ends {
    pub(super) const fn new() -> Self {
        Self([const { OnceLock::new() }; ENDS])
    }

    pub(super) fn count(&self, end: End) {
        if let Some(count) = self.0.get(end.index) {
            let count = count.get_or_init(|| EndCount { code: end.code, requests: AtomicU64::new(0) });
            count.requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether a request has been counted.
    pub(super) fn is_used(&self) -> bool {
        self.0.iter().any(|end| end.get().is_some())
    }

    /// The codes that occurred, and how often.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().filter_map(OnceLock::get).map(|end| (end.code, end.requests.load(Ordering::Relaxed)))
    }
}
