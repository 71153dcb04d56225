//! The addresses of upstream servers, as all workers share them: how busy each is, and whether it may be used.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::exchange::Tick;

/// How long an address that took no connection is only used if there is no other, in nanoseconds.
const UNREACHABLE: u64 = 1_000_000_000;

/// One address of a server. It outlives policies and resolutions that have it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    in_flight: AtomicUsize,
    /// Failures in a row.
    failures: AtomicU32,
    /// Until this tick, it is ejected.
    ejected_until: AtomicU64,
    /// Until this tick, others are better: it took no connection.
    unreachable_until: AtomicU64,
    unhealthy: AtomicBool,
    drained: AtomicBool,
}

impl Endpoint {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            unreachable_until: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
            drained: AtomicBool::new(false),
        }
    }

    /// Counts a request that is being sent to it, until what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> EndpointPermit {
        self.in_flight.fetch_add(1, Relaxed);
        EndpointPermit(Arc::clone(self))
    }

    /// Requests that it has not answered whole.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Notes a response, which ends a row of failures.
    pub(crate) fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// Notes a failure. Returns whether it is one of so many in a row, which begins a new row.
    pub(crate) fn failed(&self, limit: u32) -> bool {
        let is_last = self.failures.fetch_add(1, Relaxed).saturating_add(1) >= limit;
        if is_last {
            self.failures.store(0, Relaxed);
        }
        is_last
    }

    /// Leaves it alone until then.
    pub(crate) fn eject(&self, until: Tick) {
        self.ejected_until.store(until.0, Relaxed);
    }

    /// Notes that it took no connection: for a second, others are better.
    pub(crate) fn unreachable(&self, now: Tick) {
        self.unreachable_until.store(now.0.saturating_add(UNREACHABLE), Relaxed);
    }

    /// Whether it may be chosen, and took connections when it was last asked.
    pub(crate) fn is_preferred(&self, now: Tick) -> bool {
        self.is_available(now) && self.unreachable_until.load(Relaxed) <= now.0
    }

    /// Whether it is left alone.
    pub(crate) fn is_ejected(&self, now: Tick) -> bool {
        self.ejected_until.load(Relaxed) > now.0
    }

    /// Notes whether it says that it is healthy. Returns whether that is new.
    pub(crate) fn set_healthy(&self, is_healthy: bool) -> bool {
        self.unhealthy.swap(!is_healthy, Relaxed) == is_healthy
    }

    /// Whether it says that it is healthy, or was never asked.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Relaxed)
    }

    /// Takes it out of use, or into use again. Returns whether that is new.
    pub(crate) fn set_drained(&self, is_drained: bool) -> bool {
        self.drained.swap(is_drained, Relaxed) != is_drained
    }

    /// Whether an operator took it out of use.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// Whether it may be chosen.
    pub(crate) fn is_available(&self, now: Tick) -> bool {
        !self.is_drained() && self.is_healthy() && !self.is_ejected(now)
    }
}

/// One request in flight, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct EndpointPermit(Arc<Endpoint>);

impl Drop for EndpointPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The addresses in use, by the identity of their server.
#[derive(Debug, Default)]
pub(crate) struct KnownEndpoints(Mutex<HashMap<EndpointKey, Weak<Endpoint>>>);

/// The identity of a server, and one of its addresses.
type EndpointKey = (Arc<str>, SocketAddr);

impl KnownEndpoints {
    /// The state of an address: the one in use, or a new one.
    pub(crate) fn endpoint(&self, server: &Arc<str>, address: SocketAddr) -> Arc<Endpoint> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = known.get(&(Arc::clone(server), address)).and_then(Weak::upgrade) {
            return endpoint;
        }
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Arc::new(Endpoint::new(address));
        known.insert((Arc::clone(server), address), Arc::downgrade(&endpoint));
        endpoint
    }
}

/// The addresses of one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    pub(crate) endpoints: Arc<[Arc<Endpoint>]>,
    /// Why its name could not be resolved when that was last tried.
    pub(crate) error: Option<Arc<str>>,
}

/// The addresses of all servers of a policy, by their position there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Endpoints(pub(crate) Vec<Resolved>);

/// The requests of one API in flight on this node, and what its budget for retries has left.
#[derive(Debug)]
pub(crate) struct ApiLoad {
    in_flight: AtomicUsize,
    /// In millionths of a retry.
    retries: AtomicU64,
}

/// One retry in the unit of the budget.
const RETRY: u64 = 1_000_000;
/// What the budget has at most, and at first: so many failures at once may be tried again whatever the share.
const BUDGET: u64 = 20 * RETRY;

impl Default for ApiLoad {
    fn default() -> Self {
        Self { in_flight: AtomicUsize::new(0), retries: AtomicU64::new(BUDGET) }
    }
}

impl ApiLoad {
    /// Counts a request, until what is returned is dropped. `None`: there are so many already.
    pub(crate) fn begin(self: &Arc<Self>, most: Option<usize>) -> Option<ApiPermit> {
        let before = self.in_flight.fetch_add(1, Relaxed);
        // Dropping it counts it off again.
        let permit = ApiPermit(Arc::clone(self));
        most.is_none_or(|most| before < most).then_some(permit)
    }

    /// Adds the share of a request to the budget, in millionths.
    pub(crate) fn earn(&self, share: u32) {
        let _ = self.retries.fetch_update(Relaxed, Relaxed, |left| {
            (left < BUDGET).then(|| left.saturating_add(share.into()).min(BUDGET))
        });
    }

    /// Takes a retry from the budget. Returns false if there is none left.
    pub(crate) fn spend(&self) -> bool {
        self.retries.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(RETRY)).is_ok()
    }
}

/// One request of an API, counted until this is dropped.
#[derive(Debug)]
pub(crate) struct ApiPermit(Arc<ApiLoad>);

impl Drop for ApiPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> SocketAddr {
        "127.0.0.1:9".parse().unwrap()
    }

    #[test]
    fn an_address_keeps_its_state_while_anybody_uses_it() {
        let (known, name) = (KnownEndpoints::default(), Arc::from("http://a"));
        let first = known.endpoint(&name, address());
        assert!(Arc::ptr_eq(&first, &known.endpoint(&name, address())));
        assert!(!Arc::ptr_eq(&first, &known.endpoint(&Arc::from("http://b"), address())));
        first.set_drained(true);
        drop(first);
        assert!(!known.endpoint(&name, address()).is_drained());
    }

    #[test]
    fn failures_count_in_a_row() {
        let endpoint = Endpoint::new(address());
        assert_eq!([(); 3].map(|()| endpoint.failed(3)), [false, false, true]);
        assert_eq!([(); 2].map(|()| endpoint.failed(3)), [false, false]);
        endpoint.succeeded();
        assert!(!endpoint.failed(3));
        endpoint.eject(Tick(7));
        assert_eq!([6, 7].map(|now| endpoint.is_available(Tick(now))), [false, true]);
        endpoint.unreachable(Tick(7));
        assert_eq!([7, 1_000_000_006, 1_000_000_007].map(|now| endpoint.is_preferred(Tick(now))), [false, false, true]);
        assert!(endpoint.is_available(Tick(8)), "it may be used if there is no other");
        assert!(endpoint.set_healthy(false) && !endpoint.set_healthy(false) && !endpoint.is_available(Tick(9)));
        assert!(endpoint.set_healthy(true) && endpoint.is_available(Tick(9)));
    }

    #[test]
    fn requests_are_bounded_and_retries_are_a_share_of_them() {
        let load = Arc::new(ApiLoad::default());
        let permits: Vec<_> = (0..3).filter_map(|_| load.begin(Some(2))).collect();
        assert_eq!(permits.len(), 2);
        drop(permits);
        assert!(load.begin(Some(1)).is_some());
        assert_eq!((0..30).filter(|_| load.spend()).count(), 20);
        (0..9).for_each(|_| load.earn(200_000));
        assert_eq!([load.spend(), load.spend()], [true, false]);
        (0..1000).for_each(|_| load.earn(200_000));
        assert_eq!((0..30).filter(|_| load.spend()).count(), 20);
    }
}
