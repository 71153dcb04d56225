//! Listeners: bind sockets, accept connections, and dispatch each to the worker with the fewest.
//!
//! One acceptor serves all workers, so that a reload can add or remove a listener without losing a connection, and so
//! that a few long-lived connections spread evenly.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::accepted::Accepted;
use super::connection_limit::ConnectionLimit;
use super::worker::Shared;
use super::worker_thread::Handle;

/// How many connections the kernel queues until they are accepted.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept, which is almost always caused by a temporary shortage of resources.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The shortest time between two lines in the log about failed accepts.
const FAILURES_LOGGED: Duration = Duration::from_secs(10);

/// A bound socket.
pub(crate) struct Bound {
    /// The address in the policy, where the port may be 0.
    pub(crate) configured: SocketAddr,
    /// The actual local address.
    pub(crate) local: SocketAddr,
    socket: TcpListener,
}

/// Binds an address and listens on it. Fails with the error of the system, for example when the address is in use.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from(socket);
    Ok(Bound { configured: address, local: socket.local_addr()?, socket })
}

impl Bound {
    /// Returns the same socket under another configured address.
    pub(crate) fn configured_as(self, configured: SocketAddr) -> Self {
        Self { configured, ..self }
    }

    /// Returns the socket.
    pub(crate) fn into_socket(self) -> TcpListener {
        self.socket
    }

    /// Registers the socket with the current runtime, so that it can be served.
    pub(crate) fn register(self) -> io::Result<Registered> {
        let Self { configured, local, socket } = self;
        Ok(Registered { configured, local, socket: tokio::net::TcpListener::from_std(socket)? })
    }
}

/// A bound socket that is registered with a runtime: serving it cannot fail.
pub(crate) struct Registered {
    /// The address in the policy.
    pub(crate) configured: SocketAddr,
    /// The actual local address.
    pub(crate) local: SocketAddr,
    pub(crate) socket: tokio::net::TcpListener,
}

/// A listener that accepts connections.
pub(crate) struct Listening {
    /// The address in the policy.
    pub(crate) configured: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Starts accepting. Must be called within a runtime.
    pub(crate) fn start(
        registered: Registered,
        shared: Arc<Shared>,
        connection_limit: Arc<ConnectionLimit>,
        workers: Arc<Vec<Handle>>,
    ) -> Self {
        let Registered { configured, socket, .. } = registered;
        let (stop, stopped) = oneshot::channel();
        let acceptor = Acceptor { configured, socket, shared, connection_limit, workers };
        let task = tokio::spawn(acceptor.run(stopped));
        Self { configured, stop, task }
    }

    /// Stops accepting, once the connections already queued have been accepted.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

struct Acceptor {
    configured: SocketAddr,
    socket: tokio::net::TcpListener,
    shared: Arc<Shared>,
    connection_limit: Arc<ConnectionLimit>,
    workers: Arc<Vec<Handle>>,
}

impl Acceptor {
    async fn run(self, mut stopped: oneshot::Receiver<()>) {
        let mut failures = Failures::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = &mut stopped => break,
            };
            // Deregistered from this runtime, because each worker has its own.
            match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
                Ok((stream, peer)) => {
                    let limit = || self.shared.in_force.current().policy.limits().connections;
                    let stopping = tokio::select! {
                        () = self.connection_limit.make_room(limit) => false,
                        _ = &mut stopped => true,
                    };
                    self.dispatch(stream, peer);
                    if stopping {
                        break;
                    }
                }
                Err(error) => {
                    if let Some(others) = failures.note(Instant::now()) {
                        tracing::warn!(address = %self.configured, %error, others, "a connection could not be accepted");
                    }
                    // Most often there are no descriptors left: then an idle connection has one.
                    self.connection_limit.evict();
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // The kernel has completed the handshakes of the connections in its queue: closing the socket now would reset
        // them. It is asked itself, since the runtime may not have heard of them yet.
        while let Ok((stream, peer)) = SockRef::from(&self.socket).accept() {
            if let Some(peer) = peer.as_socket().filter(|_| stream.set_nonblocking(true).is_ok()) {
                self.dispatch(stream.into(), peer);
            }
        }
    }

    fn dispatch(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        let in_force = self.shared.in_force.current();
        let policy = &in_force.policy;
        let listener = policy.listeners().iter().find(|listener| listener.address == self.configured);
        let proxy_protocol = listener.is_some_and(|listener| listener.proxy_protocol);
        if proxy_protocol && !policy.trusts_proxy(peer.ip()) {
            self.connection_limit.refuse();
            return;
        }
        // The clients of a proxy are counted once they are known.
        let per_client = if proxy_protocol { usize::MAX } else { policy.limits().per_client };
        let Some(permit) = self.connection_limit.acquire(peer.ip(), self.configured, per_client) else { return };
        if stream.set_nodelay(true).is_err() {
            return;
        }
        // A policy that no longer has this listener says nothing about TLS: its last connections are closed unserved.
        let Some(listener) = listener else { return };
        let (tls, listener) = (listener.tls.clone(), self.configured);
        if let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open()) {
            worker.send(Accepted { stream, peer, listener, tls, proxy_protocol, permit });
        }
    }
}

/// Failed accepts, which may come by the thousand.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// When one was last logged.
    logged: Option<Instant>,
    /// How many were not logged since.
    others: u64,
}

impl Failures {
    /// Counts a failure. Returns how many there were since the last one that was logged, if this one is to be logged.
    pub(crate) fn note(&mut self, now: Instant) -> Option<u64> {
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < FAILURES_LOGGED) {
            self.others += 1;
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S6: a shortage of descriptors does not fill the log, too.
    #[test]
    fn failures_are_logged_once_in_a_while_and_counted() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for (second, logged) in [(0, Some(0)), (1, None), (9, None), (10, Some(2)), (30, Some(0))] {
            assert_eq!(failures.note(start + Duration::from_secs(second)), logged, "{second}");
        }
    }
}
