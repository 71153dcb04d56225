//! The metrics of upstream servers. Their label is the server's URL in the policy, without credentials or a path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Registry;

use super::ends::{End, Ends};
use super::series::{Series, counter, gauge};

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabels {
    server: String,
}

/// The addresses of a server that are in the same state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AddressLabels {
    api: String,
    server: String,
    state: &'static str,
}

/// How many addresses of an API's server are in each state.
#[derive(Debug)]
pub(crate) struct AddressNumbers {
    pub(crate) api: String,
    pub(crate) server: String,
    pub(crate) states: Vec<(&'static str, usize)>,
}

/// How requests to a server ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerEndLabels {
    server: String,
    code: &'static str,
}

/// The metrics of one server, whichever APIs use it. They outlive policies: the next policy with it continues counting.
#[derive(Debug)]
pub(crate) struct ServerMetrics {
    name: Arc<str>,
    ends: Ends,
    connections: AtomicI64,
    retries: AtomicU64,
    ejections: AtomicU64,
    last_resorts: AtomicU64,
    waits: AtomicU64,
}

/// One connection to a server, counted as open until this is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<ServerMetrics>);

impl ServerMetrics {
    /// Returns metrics that are all zero.
    pub(crate) fn new(name: &Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            name: Arc::clone(name),
            ends: Ends::new(),
            connections: AtomicI64::new(0),
            retries: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            last_resorts: AtomicU64::new(0),
            waits: AtomicU64::new(0),
        })
    }

    /// The server's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a request that was sent to it, or would have been.
    pub(crate) fn count(&self, end: End) {
        self.ends.count(end);
    }

    /// Counts a request that is sent once more because it failed there.
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an address of it that gets no requests for a while.
    pub(crate) fn ejected(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was sent to it because no server of the API is healthy.
    pub(crate) fn last_resort(&self) {
        self.last_resorts.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that waits until another one has ended, because there may be no more connections.
    pub(crate) fn waits(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that is being opened.
    pub(crate) fn opens(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn register_servers<'a>(servers: impl Iterator<Item = &'a ServerMetrics>, registry: &mut Registry) {
    // Several APIs may use the same server: it has one series.
    let servers: BTreeMap<&str, &ServerMetrics> = servers.map(|server| (&*server.name, server)).collect();
    let (mut ends, mut connections) = (Vec::new(), Vec::new());
    let (mut retries, mut ejections, mut last_resorts, mut waits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, server) in servers {
        let counts = server.ends.counts();
        ends.extend(counts.map(|(code, count)| (ServerEndLabels { server: name.to_owned(), code }, counter(count))));
        let open = gauge(server.connections.load(Ordering::Relaxed));
        let labels = || ServerLabels { server: name.to_owned() };
        connections.push((labels(), open));
        retries.push((labels(), counter(server.retries.load(Ordering::Relaxed))));
        ejections.push((labels(), counter(server.ejections.load(Ordering::Relaxed))));
        last_resorts.push((labels(), counter(server.last_resorts.load(Ordering::Relaxed))));
        waits.push((labels(), counter(server.waits.load(Ordering::Relaxed))));
    }
    registry.register(
        "upstream_requests",
        "Requests by the upstream server chosen for them, and how they ended",
        Series(ends),
    );
    registry.register(
        "upstream_connections",
        "Open connections to upstream servers, idle ones included",
        Series(connections),
    );
    registry.register(
        "upstream_retries",
        "Requests that were sent once more because they failed at this upstream server",
        Series(retries),
    );
    registry.register(
        "upstream_ejections",
        "How often an address of the upstream server was left alone because it had failed",
        Series(ejections),
    );
    registry.register(
        "upstream_last_resorts",
        "Requests that were sent to the upstream server although it was unhealthy or ejected, because no other was left",
        Series(last_resorts),
    );
    registry.register(
        "upstream_waits",
        "Requests that waited for a connection to the upstream server, because `connections.most` were in use",
        Series(waits),
    );
}

pub(super) fn register_addresses(numbers: Vec<AddressNumbers>, registry: &mut Registry) {
    let rows = numbers.into_iter().flat_map(|AddressNumbers { api, server, states }| {
        let labels = move |state| AddressLabels { api: api.clone(), server: server.clone(), state };
        states.into_iter().map(move |(state, count)| (labels(state), gauge(i64::try_from(count).unwrap_or(i64::MAX))))
    });
    registry.register(
        "upstream_addresses",
        "Addresses of upstream servers, by the API that uses them and their state",
        Series(rows.collect()),
    );
}
