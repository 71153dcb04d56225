//! The addresses of upstream servers, as all workers share them: how busy each is, and whether it may be used.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::exchange::Tick;

/// How long an address that took no connection is only used if there is no other, in nanoseconds.
const UNREACHABLE: u64 = 1_000_000_000;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Address {
    /// Address and port.
    Ip(SocketAddr),
    /// A Unix socket of this machine.
    Unix(Arc<Path>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path.into())
    }
}

/// One address of a server of an API. It outlives policies and resolutions that have it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The name of the server.
    server: Arc<str>,
    pub(crate) address: Address,
    in_flight: AtomicUsize,
    /// Failures in a row.
    failures: AtomicU32,
    /// Until this tick, it is ejected.
    ejected_until: AtomicU64,
    /// Until this tick, others are better: it took no connection.
    unreachable_until: AtomicU64,
    unhealthy: AtomicBool,
    /// The answers to health checks in a row, and whether they were good (the lowest bit).
    answers: AtomicU32,
    drained: AtomicBool,
}

impl Endpoint {
    fn new(server: &Arc<str>, address: Address, is_drained: bool) -> Self {
        Self {
            server: Arc::clone(server),
            address,
            in_flight: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            unreachable_until: AtomicU64::new(0),
            unhealthy: AtomicBool::new(false),
            answers: AtomicU32::new(0),
            drained: AtomicBool::new(is_drained),
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

    /// Notes an answer to a health check. Returns how many like it there were in a row.
    pub(crate) fn answered(&self, is_good: bool) -> u32 {
        let before = self.answers.load(Relaxed);
        let length = if before & 1 == u32::from(is_good) { (before >> 1).saturating_add(1) } else { 1 };
        let length = length.min(u32::MAX >> 1);
        self.answers.store(length << 1 | u32::from(is_good), Relaxed);
        length
    }

    /// Forgets the answers to health checks: there are none any more.
    pub(crate) fn unchecked(&self) {
        self.answers.store(0, Relaxed);
        self.unhealthy.store(false, Relaxed);
    }

    /// Whether it says that it is healthy, or was never asked.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.unhealthy.load(Relaxed)
    }

    /// Whether an operator took it out of use.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained.load(Relaxed)
    }

    /// What keeps it from being chosen, if anything does.
    pub(crate) fn state(&self, now: Tick) -> EndpointState {
        if self.is_drained() {
            EndpointState::Drained
        } else if !self.is_healthy() {
            EndpointState::Unhealthy
        } else if self.is_ejected(now) {
            EndpointState::Ejected
        } else {
            EndpointState::Available
        }
    }

    /// Whether it may be chosen.
    pub(crate) fn is_available(&self, now: Tick) -> bool {
        self.state(now) == EndpointState::Available
    }
}

/// Whether an address may be chosen, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndpointState {
    Available,
    Unhealthy,
    Ejected,
    Drained,
}

impl EndpointState {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Available, Self::Unhealthy, Self::Ejected, Self::Drained];

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Drained => "drained",
        }
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

/// The addresses in use, and which of them an operator took out of use.
#[derive(Debug, Default)]
pub(crate) struct KnownEndpoints(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<EndpointKey, Weak<Endpoint>>,
    /// By the name of a server, and its address; absent: all of its addresses, those that it may get included.
    drains: BTreeSet<(Arc<str>, Option<Address>)>,
}

/// The identity of a server, and one of its addresses.
type EndpointKey = (Arc<str>, Address);

impl KnownEndpoints {
    /// The state of an address of the server with this identity and name: the one in use, or a new one.
    pub(crate) fn endpoint(&self, identity: &Arc<str>, name: &Arc<str>, address: &Address) -> Arc<Endpoint> {
        let mut known = self.lock();
        let key = (Arc::clone(identity), address.clone());
        if let Some(endpoint) = known.endpoints.get(&key).and_then(Weak::upgrade) {
            return endpoint;
        }
        known.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        let endpoint = Arc::new(Endpoint::new(name, address.clone(), known.is_drained(name, address)));
        known.endpoints.insert(key, Arc::downgrade(&endpoint));
        endpoint
    }

    /// Takes the server of this name, or one of its addresses, out of use, or into use again, for all APIs that have it. That
    /// holds for addresses that its name gets later, too.
    pub(crate) fn drain(&self, name: &Arc<str>, address: Option<Address>, is_drained: bool) {
        let mut known = self.lock();
        let endpoints: Vec<_> = known.endpoints.values().filter_map(Weak::upgrade).collect();
        let endpoints: Vec<_> = endpoints.into_iter().filter(|endpoint| endpoint.server == *name).collect();
        match (address, is_drained) {
            (address, true) => drop(known.drains.insert((Arc::clone(name), address))),
            (None, false) => known.drains.retain(|(server, _)| server != name),
            (Some(address), false) => {
                if known.drains.remove(&(Arc::clone(name), None)) {
                    // Its other addresses stay out of use.
                    let others = endpoints.iter().filter(|endpoint| endpoint.address != address);
                    known.drains.extend(others.map(|other| (Arc::clone(name), Some(other.address.clone()))));
                }
                known.drains.remove(&(Arc::clone(name), Some(address)));
            }
        }
        for endpoint in endpoints {
            endpoint.drained.store(known.is_drained(name, &endpoint.address), Relaxed);
        }
    }

    /// Forgets what was said of servers that there are no longer.
    pub(crate) fn retain(&self, is_server: impl Fn(&str) -> bool) {
        self.lock().drains.retain(|(server, _)| is_server(server));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is_drained(&self, name: &Arc<str>, address: &Address) -> bool {
        [None, Some(address.clone())].into_iter().any(|address| self.drains.contains(&(Arc::clone(name), address)))
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
    /// Held while it is decided whether an address is ejected, so that no more are than may be.
    ejecting: Mutex<()>,
}

/// One retry in the unit of the budget.
const RETRY: u64 = 1_000_000;
/// What the budget has at most, and at first: so many failures at once may be tried again whatever the share.
const BUDGET: u64 = 20 * RETRY;

impl Default for ApiLoad {
    fn default() -> Self {
        Self { in_flight: AtomicUsize::new(0), retries: AtomicU64::new(BUDGET), ejecting: Mutex::default() }
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

    /// Decides about an ejection. One after the other does.
    pub(crate) fn ejecting(&self) -> MutexGuard<'_, ()> {
        self.ejecting.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn address() -> Address {
        Address::Ip("127.0.0.1:9".parse().unwrap())
    }

    #[test]
    fn an_address_keeps_its_state_while_it_is_in_use() {
        let (known, name) = (KnownEndpoints::default(), Arc::from("http://a"));
        let endpoint = |identity: &str| known.endpoint(&identity.into(), &name, &address());
        let first = endpoint("one http://a");
        assert!(Arc::ptr_eq(&first, &endpoint("one http://a")));
        assert!(!Arc::ptr_eq(&first, &endpoint("two http://a")), "each API has its own");
        first.set_healthy(false);
        drop(first);
        assert!(endpoint("one http://a").is_healthy());
    }

    #[test]
    fn what_is_out_of_use_stays_so_whatever_becomes_of_its_name() {
        let (known, name, other) = (KnownEndpoints::default(), Arc::from("http://a"), Arc::from("http://b"));
        let at = |port: u16| Address::Ip(SocketAddr::from(([127, 0, 0, 1], port)));
        let drained =
            |name: &Arc<str>, port| known.endpoint(&format!("api {name}").into(), name, &at(port)).is_drained();
        let kept = known.endpoint(&"api http://a".into(), &name, &at(1));
        known.drain(&name, Some(at(1)), true);
        known.drain(&name, Some(at(2)), true);
        // The second one was not known then.
        assert!(kept.is_drained() && drained(&name, 2) && !drained(&name, 3) && !drained(&other, 1));
        known.drain(&name, None, true);
        assert!(kept.is_drained() && drained(&name, 3));
        let third = known.endpoint(&"api http://a".into(), &name, &at(3));
        known.drain(&name, Some(at(1)), false);
        assert!(!kept.is_drained() && third.is_drained() && drained(&name, 2));
        known.drain(&name, None, false);
        assert!(!third.is_drained() && !drained(&name, 2));
        known.drain(&name, None, true);
        known.retain(|server| server == "http://b");
        drop((kept, third));
        assert!(!drained(&name, 1));
    }

    #[test]
    fn answers_to_health_checks_count_in_a_row() {
        let endpoint = Endpoint::new(&"http://a".into(), address(), false);
        let counts = [false, false, true, true, true, false].map(|good| endpoint.answered(good));
        assert_eq!(counts, [1, 2, 1, 2, 3, 1]);
        endpoint.set_healthy(false);
        endpoint.unchecked();
        assert!(endpoint.is_healthy() && endpoint.answered(false) == 1);
    }

    #[test]
    fn failures_count_in_a_row() {
        let endpoint = Endpoint::new(&"http://a".into(), address(), false);
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
