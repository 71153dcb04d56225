//! The sockets for requests: bound before a policy is put in force, then served, and closed when the policy in force no
//! longer has them.

use std::net::SocketAddr;
use std::sync::Arc;

use super::error::StartError;
use crate::error_text;
use crate::policy::Policy;
use crate::proxy::descriptors::Budget;
use crate::proxy::downstream::connection_limit::ConnectionLimit;
use crate::proxy::downstream::listener::{self, Bound, Listening, Registered};
use crate::proxy::downstream::worker::Shared;
use crate::proxy::downstream::worker_thread::Handle;

/// The open listeners, and the workers that serve their connections.
pub(super) struct Listeners {
    open: Vec<Listening>,
    shared: Arc<Shared>,
    limit: Arc<ConnectionLimit>,
    workers: Arc<Vec<Handle>>,
}

impl Listeners {
    pub(super) fn new(shared: Arc<Shared>, budget: Budget, workers: Vec<Handle>) -> Self {
        let limit = ConnectionLimit::new(budget.clients, shared.metrics.clone());
        Self { open: Vec::new(), shared, limit, workers: Arc::new(workers) }
    }

    /// Binds the listeners of a policy that are not in `open`. Uses the sockets in `given` before it opens new ones.
    pub(super) fn prepare(
        open: Option<&Self>,
        policy: &Policy,
        given: &mut Vec<Bound>,
    ) -> Result<Vec<Registered>, StartError> {
        let is_open = |address: &SocketAddr| {
            open.is_some_and(|open| open.open.iter().any(|listening| listening.configured == *address))
        };
        let addresses = policy.listeners().iter().map(|listener| listener.address);
        addresses.filter(|address| !is_open(address)).map(|address| bind(address, given)).collect()
    }

    /// Serves the bound sockets, and closes the listeners that the policy no longer has. Returns the URLs of the new ones.
    pub(super) async fn commit(&mut self, registered: Vec<Registered>, policy: &Policy) -> Vec<String> {
        let tls = |configured| {
            policy.listeners().iter().any(|listener| listener.address == configured && listener.tls.is_some())
        };
        let url = |socket: &Registered| {
            format!("{}://{}", if tls(socket.configured) { "https" } else { "http" }, socket.local)
        };
        let urls = registered.iter().map(url).collect();
        for socket in registered {
            let (shared, limit, workers) =
                (Arc::clone(&self.shared), Arc::clone(&self.limit), Arc::clone(&self.workers));
            self.open.push(Listening::start(socket, shared, limit, workers));
        }
        self.close(|address| policy.listeners().iter().all(|listener| listener.address != address)).await;
        urls
    }

    /// Stops accepting connections at the configured addresses that are no longer wanted, and lets those that were
    /// accepted there finish their requests.
    pub(super) async fn close(&mut self, unwanted: impl Fn(SocketAddr) -> bool) {
        let (stop, keep) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|listening: &Listening| unwanted(listening.configured));
        self.open = keep;
        let stop: Vec<Listening> = stop;
        for listening in stop {
            let configured = listening.configured;
            listening.stop().await;
            // Nothing in the policy in force says how to serve them.
            self.limit.finish(configured);
        }
    }
}

/// Binds the address, or reuses the socket already bound to it. Must be called within a runtime.
pub(super) fn bind(address: SocketAddr, given: &mut Vec<Bound>) -> Result<Registered, StartError> {
    let bound = match given.iter().position(|bound| bound.local == address) {
        Some(position) => Ok(given.swap_remove(position).configured_as(address)),
        None => listener::bind(address),
    };
    let registered = bound.and_then(Bound::register);
    registered.map_err(|error| {
        let why = error_text::system(&error);
        StartError::System(format!("cannot listen on {address}: {why}"))
    })
}
