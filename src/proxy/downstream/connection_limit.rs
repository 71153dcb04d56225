//! Limits on open client connections, in total and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::telemetry::Metrics;

/// Counts open connections against their limits.
pub(crate) struct ConnectionLimit {
    open: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    freed: Notify,
    metrics: Metrics,
}

/// One open connection, counted until this is dropped.
pub(crate) struct Permit {
    connection_limit: Arc<ConnectionLimit>,
    address: IpAddr,
}

impl ConnectionLimit {
    /// Creates it with no open connections.
    pub(crate) fn new(metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), addresses: Mutex::default(), freed: Notify::new(), metrics })
    }

    /// Waits until fewer than `limit` connections are open.
    pub(super) async fn wait_below(&self, limit: impl Fn() -> usize) {
        loop {
            let freed = self.freed.notified();
            if self.open.load(Ordering::Acquire) < limit() {
                return;
            }
            freed.await;
        }
    }

    /// Counts a new connection. Returns `None` when the address already has `per_client` of them.
    pub(super) fn acquire(self: &Arc<Self>, address: IpAddr, per_client: usize) -> Option<Permit> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let open = addresses.entry(address).or_default();
        if *open >= per_client {
            self.metrics.connections_refused.inc();
            return None;
        }
        *open += 1;
        self.open.fetch_add(1, Ordering::AcqRel);
        self.metrics.connections.inc();
        Some(Permit { connection_limit: Arc::clone(self), address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut addresses = self.connection_limit.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = addresses.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&self.address);
            }
        }
        drop(addresses);
        self.connection_limit.open.fetch_sub(1, Ordering::AcqRel);
        self.connection_limit.metrics.connections.dec();
        self.connection_limit.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_per_address_and_returned_on_drop() {
        let connection_limit = ConnectionLimit::new(Metrics::new());
        let (one, other) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let first = connection_limit.acquire(one, 2);
        let second = connection_limit.acquire(one, 2);
        assert!(first.is_some() && second.is_some() && connection_limit.acquire(one, 2).is_none());
        assert!(connection_limit.acquire(other, 2).is_some(), "another address has its own limit");
        drop(first);
        assert!(connection_limit.acquire(one, 2).is_some());
        drop(second);
        assert_eq!(connection_limit.open.load(Ordering::Relaxed), 0);
        assert!(connection_limit.addresses.lock().unwrap().is_empty(), "addresses without connections are forgotten");
    }
}
