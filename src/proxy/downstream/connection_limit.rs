//! Limits on open client connections: in total, and of one client network.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::activity::{Activity, Ending};
use crate::exchange::ClientNetwork;
use crate::telemetry::Metrics;

/// How long to wait for the place of a connection that was asked to end, before another one is asked to.
const EVICTION: Duration = Duration::from_millis(50);

/// Counts open connections against their limits.
pub(crate) struct ConnectionLimit {
    /// The most that the process can have, whatever the policy says.
    most: usize,
    started: Instant,
    open: AtomicUsize,
    connections: Mutex<Connections>,
    freed: Notify,
    metrics: Metrics,
}

/// The open connections.
#[derive(Default)]
struct Connections {
    networks: HashMap<ClientNetwork, usize>,
    activities: HashMap<u64, Arc<Activity>>,
    /// The number of the next connection.
    next: u64,
}

/// One open connection, counted until this is dropped.
pub(crate) struct Permit {
    connection_limit: Arc<ConnectionLimit>,
    network: ClientNetwork,
    number: u64,
    pub(crate) activity: Arc<Activity>,
}

impl ConnectionLimit {
    /// Creates it with no open connections. `most` bounds them, whatever the policy says.
    pub(crate) fn new(most: usize, metrics: Metrics) -> Arc<Self> {
        let (open, connections, freed) = (AtomicUsize::new(0), Mutex::default(), Notify::new());
        Arc::new(Self { most, started: Instant::now(), open, connections, freed, metrics })
    }

    /// Waits until fewer than `limit` connections are open. Meanwhile it closes those that have been idle the longest.
    pub(super) async fn make_room(&self, limit: impl Fn() -> usize) {
        loop {
            let freed = self.freed.notified();
            if self.open.load(Ordering::Acquire) < limit().min(self.most) {
                return;
            }
            self.evict();
            let _ = tokio::time::timeout(EVICTION, freed).await;
        }
    }

    /// Closes the connection that has been idle the longest, if one is idle.
    pub(super) fn evict(&self) {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = connections.activities.values().filter_map(|activity| Some((activity.idle_since()?, activity)));
        if let Some((_, longest)) = idle.min_by_key(|(since, _)| *since) {
            longest.end(Ending::Evict);
        }
    }

    /// Lets the connections of a listener finish their requests, then closes them.
    pub(crate) fn finish(&self, listener: SocketAddr) {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for activity in connections.activities.values().filter(|activity| activity.listener == listener) {
            activity.end(Ending::Finish);
        }
    }

    /// Counts a connection that is closed unserved.
    pub(super) fn refuse(&self) {
        self.metrics.connections_refused.inc();
    }

    /// Counts a new connection. Returns `None` when its client network already has `per_client` of them.
    pub(super) fn acquire(
        self: &Arc<Self>,
        address: IpAddr,
        listener: SocketAddr,
        per_client: usize,
    ) -> Option<Permit> {
        let network = ClientNetwork::from(address);
        let activity = Arc::new(Activity::new(listener, self.started));
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let open = connections.networks.entry(network).or_default();
        if *open >= per_client {
            self.refuse();
            return None;
        }
        *open += 1;
        let number = connections.next;
        connections.next += 1;
        connections.activities.insert(number, Arc::clone(&activity));
        self.open.fetch_add(1, Ordering::AcqRel);
        self.metrics.connections.inc();
        Some(Permit { connection_limit: Arc::clone(self), network, number, activity })
    }
}

impl Permit {
    /// Counts the connection for the client that a proxy opened it for. Returns false when that client's network already has
    /// `per_client` connections.
    pub(super) fn count_for(&mut self, client: IpAddr, per_client: usize) -> bool {
        let network = ClientNetwork::from(client);
        let mut connections = self.connection_limit.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let open = connections.networks.entry(network).or_default();
        if *open >= per_client {
            if *open == 0 {
                connections.networks.remove(&network);
            }
            return false;
        }
        *open += 1;
        connections.leave(self.network);
        self.network = network;
        true
    }
}

impl Connections {
    /// Counts one connection less of a network.
    fn leave(&mut self, network: ClientNetwork) {
        if let Some(open) = self.networks.get_mut(&network) {
            *open -= 1;
            if *open == 0 {
                self.networks.remove(&network);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut connections = self.connection_limit.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.activities.remove(&self.number);
        connections.leave(self.network);
        drop(connections);
        self.connection_limit.open.fetch_sub(1, Ordering::AcqRel);
        self.connection_limit.metrics.connections.dec();
        self.connection_limit.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTENER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    fn limit() -> Arc<ConnectionLimit> {
        ConnectionLimit::new(usize::MAX, Metrics::new())
    }

    #[test]
    fn permits_are_limited_per_client_and_returned_on_drop() {
        let limit = limit();
        let acquire = |address: &str| limit.acquire(address.parse().unwrap(), LISTENER, 2);
        let (first, second) = (acquire("127.0.0.1"), acquire("127.0.0.1"));
        assert!(first.is_some() && second.is_some() && acquire("127.0.0.1").is_none());
        assert!(acquire("127.0.0.2").is_some(), "another address has its own limit");
        drop(first);
        assert!(acquire("127.0.0.1").is_some());
        drop(second);
        assert_eq!(limit.open.load(Ordering::Relaxed), 0);
        let connections = limit.connections.lock().unwrap();
        assert!(connections.networks.is_empty() && connections.activities.is_empty(), "nothing is kept of them");
    }

    /// S14: a client with an IPv6 /64 has 2^64 addresses, and still one limit.
    #[test]
    fn the_addresses_of_an_ipv6_64_share_one_limit() {
        let limit = limit();
        let acquire = |address: &str| limit.acquire(address.parse().unwrap(), LISTENER, 1);
        let first = acquire("2001:db8::1");
        assert!(first.is_some() && acquire("2001:db8::2").is_none() && acquire("2001:db8:0:1::2").is_some());
    }

    #[test]
    fn the_connections_of_a_proxy_are_those_of_its_clients() {
        let limit = limit();
        let acquire = || limit.acquire([127, 0, 0, 1].into(), LISTENER, usize::MAX).unwrap();
        let (mut first, mut second, mut third) = (acquire(), acquire(), acquire());
        let client = IpAddr::from([192, 0, 2, 1]);
        assert!(first.count_for(client, 2) && second.count_for(client, 2) && !third.count_for(client, 2));
        drop(first);
        assert!(third.count_for(client, 2));
        drop((second, third));
        assert!(limit.connections.lock().unwrap().networks.is_empty());
    }

    /// S6: a connection that serves a request is never the one that makes room.
    #[test]
    fn the_longest_idle_connection_is_evicted_first() {
        let limit = limit();
        let acquire = || limit.acquire([127, 0, 0, 1].into(), LISTENER, 9).unwrap();
        let (busy, recent, longest) = (acquire(), acquire(), acquire());
        let after = |seconds| limit.started + Duration::from_secs(seconds);
        busy.activity.busy();
        recent.activity.idle(after(2));
        longest.activity.idle(after(1));
        let endings = || [&busy, &recent, &longest].map(|permit| permit.activity.ending());
        for expected in [
            [Ending::No, Ending::No, Ending::Evict],
            [Ending::No, Ending::Evict, Ending::Evict],
            [Ending::No, Ending::Evict, Ending::Evict],
        ] {
            limit.evict();
            assert_eq!(endings(), expected);
        }
    }

    /// S6: the policy may allow more connections than the process can open.
    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_connections_than_the_process_can_have() {
        let limit = ConnectionLimit::new(1, Metrics::new());
        limit.make_room(|| 10_000).await;
        let only = limit.acquire([127, 0, 0, 1].into(), LISTENER, 9).unwrap();
        only.activity.busy();
        let mut room = std::pin::pin!(limit.make_room(|| 10_000));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut room).await.is_err());
        drop(only);
        room.await;
    }
}
