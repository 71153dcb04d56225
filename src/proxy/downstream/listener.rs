//! Listeners: sockets that are bound, accepted from, and handed on to the least busy worker.
//!
//! One acceptor for all workers, so that a listener can come or go at a reload without a connection being lost, and so
//! that few long-lived connections spread evenly.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::connection::Accepted;
use super::connection_limit::ConnectionLimit;
use super::worker::Shared;
use super::worker_thread::Handle;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4096;
/// Wait after a failed accept: what fails is almost always a shortage that passes.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// A bound socket.
pub(crate) struct Bound {
    /// The address the policy has; the port may be 0 there.
    pub(crate) configured: SocketAddr,
    /// The address it got.
    pub(crate) local: SocketAddr,
    socket: TcpListener,
}

/// Binds an address. Errors: those of the system, such as an address in use.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = TcpListener::from(socket);
    Ok(Bound { configured: address, local: socket.local_addr()?, socket })
}

impl Bound {
    /// The same socket, for the address that a policy has.
    pub(crate) fn configured_as(self, configured: SocketAddr) -> Self {
        Self { configured, ..self }
    }

    /// The socket itself.
    pub(crate) fn into_socket(self) -> TcpListener {
        self.socket
    }
}

/// A listener that is being accepted from.
pub(crate) struct Listening {
    /// The address the policy has.
    pub(crate) configured: SocketAddr,
    /// The address it got.
    pub(crate) local: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Starts accepting. Must be called within a runtime. Errors: when the socket cannot be watched.
    pub(crate) fn start(
        bound: Bound,
        shared: Arc<Shared>,
        connection_limit: Arc<ConnectionLimit>,
        workers: Arc<Vec<Handle>>,
    ) -> io::Result<Self> {
        let (configured, local) = (bound.configured, bound.local);
        let socket = tokio::net::TcpListener::from_std(bound.socket)?;
        let (stop, stopped) = oneshot::channel();
        let acceptor = Acceptor { configured, socket, shared, connection_limit, workers };
        let task = tokio::spawn(acceptor.run(stopped));
        Ok(Self { configured, local, stop, task })
    }

    /// Stops accepting, after what waits to be accepted has been.
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
        loop {
            let accepted = tokio::select! {
                accepted = self.accept() => accepted,
                _ = &mut stopped => break,
            };
            match accepted {
                Ok((stream, peer)) => self.hand_on(stream, peer),
                Err(error) => {
                    tracing::warn!(address = %self.configured, %error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        // The kernel has shaken hands on what is in its queue: closing the socket now would cut those off.
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok((stream, peer))) = self.socket.poll_accept(&mut cx) {
            if let Ok(stream) = stream.into_std() {
                self.hand_on(stream, peer);
            }
        }
    }

    async fn accept(&self) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        self.connection_limit.below(|| self.shared.in_force.current().policy.limits().connections).await;
        let (stream, peer) = self.socket.accept().await?;
        // A worker has a runtime of its own.
        Ok((stream.into_std()?, peer))
    }

    fn hand_on(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        let in_force = self.shared.in_force.current();
        let Some(permit) = self.connection_limit.enter(peer.ip().to_canonical(), in_force.policy.limits().per_client)
        else {
            return;
        };
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let listener = in_force.policy.listeners().iter().find(|listener| listener.address == self.configured);
        let tls = listener.and_then(|listener| listener.tls.clone());
        let listener = self.configured;
        if let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open()) {
            worker.give(Accepted { stream, peer, listener, tls, permit });
        }
    }
}
