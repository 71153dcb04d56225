//! A connection on its way from a listener to a worker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::connection_limit::Permit;
use crate::policy::ListenerTls;

/// An accepted connection, to be handed to a worker.
pub(crate) struct Accepted {
    /// The socket, non-blocking.
    pub(crate) stream: std::net::TcpStream,
    /// The address of the TCP peer.
    pub(crate) peer: SocketAddr,
    /// The listener that accepted it, by its address in the policy.
    pub(crate) listener: SocketAddr,
    /// The TLS settings in force when it was accepted; `None` for plain HTTP.
    pub(crate) tls: Option<ListenerTls>,
    /// Whether it begins with a PROXY protocol header.
    pub(crate) proxy_protocol: bool,
    /// Counts the connection against the limits until it ends.
    pub(crate) permit: Permit,
}

/// One open connection of a worker, counted until this is dropped.
pub(crate) struct Open(Arc<AtomicUsize>);

impl Open {
    /// Counts a connection.
    pub(super) fn count(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
