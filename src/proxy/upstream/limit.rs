//! Limits the connections to all upstreams together, idle ones included.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::telemetry::{OpenConnection, ServerMetrics};

/// Counts open upstream connections against what the process can have.
#[derive(Clone)]
pub(crate) struct UpstreamLimit(Arc<Counted>);

struct Counted {
    most: usize,
    open: AtomicUsize,
}

/// One open connection, counted until this is dropped.
pub(super) struct Permit {
    limit: UpstreamLimit,
    /// Counts it for its server.
    _open: OpenConnection,
}

impl UpstreamLimit {
    /// Creates it with no open connections.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Counted { most, open: AtomicUsize::new(0) }))
    }

    /// Counts a new connection to a server. Returns `None` when there are too many.
    pub(super) fn acquire(&self, server: &Arc<ServerMetrics>) -> Option<Permit> {
        let more = |open| (open < self.0.most).then_some(open + 1);
        self.0.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Permit { limit: self.clone(), _open: server.opens() })
    }

    /// Whether a connection without a request may be kept: some room is left for servers that have none.
    pub(super) fn keeps_idle(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) <= self.0.most - self.0.most / 4
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2: requests that pin upstream connections cannot take all that the process may open.
    #[test]
    fn upstream_connections_are_bounded_and_a_quarter_is_never_idle() {
        let (limit, server) = (UpstreamLimit::new(4), ServerMetrics::new(&"http://a".into()));
        let mut permits: Vec<_> = (0..3).map(|_| limit.acquire(&server).unwrap()).collect();
        assert!(limit.keeps_idle());
        permits.extend(limit.acquire(&server));
        assert!(!limit.keeps_idle() && limit.acquire(&server).is_none());
        permits.pop();
        assert!(limit.acquire(&server).is_some());
    }
}
