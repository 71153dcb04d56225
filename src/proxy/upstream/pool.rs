//! Pools of connections to upstream servers: one per worker and server, last in, first out.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::UpstreamConnection;
use super::limit::{Permit, UpstreamLimit};
use crate::policy::Server;
use crate::proxy::stream::Stream;
use crate::telemetry::ServerMetrics;

/// Maximum number of idle connections per worker and server.
const MAX_IDLE: usize = 256;
/// How long after the beginning of its last request an idle connection is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The pools of all servers of a policy.
pub(crate) struct Pools(Vec<Rc<Pool>>);

impl Pools {
    /// Creates one pool per server. Servers that did not change keep their pool from the previous policy.
    pub(crate) fn new<'a>(
        servers: impl Iterator<Item = (&'a Arc<Server>, &'a Arc<ServerMetrics>)>,
        limit: &UpstreamLimit,
        previous: Option<&Self>,
    ) -> Self {
        let kept = |server: &Server| previous?.0.iter().find(|pool| pool.server.identity == server.identity);
        let pool = |(server, metrics): (&Arc<Server>, _)| match kept(server) {
            Some(pool) if pool.server.same_timeouts(server) => Rc::clone(pool),
            Some(pool) => Rc::new(Pool::new(server, metrics, limit, pool.idle.take())),
            None => Rc::new(Pool::new(server, metrics, limit, Vec::new())),
        };
        Self(servers.map(pool).collect())
    }

    /// Returns the pool of a server of the same policy.
    pub(crate) fn of(&self, server: &Server) -> Option<&Rc<Pool>> {
        self.0.get(server.index)
    }

    /// Opens a connection to the server of `pool`. When there are too many, first closes one that is idle.
    pub(crate) async fn connect(&self, pool: &Pool) -> Result<Box<UpstreamConnection>, ConnectError> {
        let permit = pool.limit.acquire(&pool.metrics).or_else(|| {
            self.0.iter().find_map(|pool| pool.idle.borrow_mut().pop())?;
            pool.limit.acquire(&pool.metrics)
        });
        match permit {
            Some(permit) => pool.connect(permit).await,
            None => Err(ConnectError::TooMany),
        }
    }

    /// Closes connections that have been idle too long, that the peer has closed, or that others may need.
    pub(crate) fn sweep(&self) {
        for pool in &self.0 {
            let mut idle = pool.idle.borrow_mut();
            idle.retain_mut(|connection| connection.begun.elapsed() < IDLE_TIMEOUT && connection.is_reusable());
            while !idle.is_empty() && !pool.limit.keeps_idle() {
                idle.pop();
            }
        }
    }
}

/// Idle connections to one server.
pub(crate) struct Pool {
    server: Arc<Server>,
    metrics: Arc<ServerMetrics>,
    #[allow(clippy::vec_box, reason = "a connection is half a kilobyte, and is moved in and out with every request")]
    idle: RefCell<Vec<Box<UpstreamConnection>>>,
    limit: UpstreamLimit,
}

impl Pool {
    #[allow(clippy::vec_box, reason = "see `idle`")]
    fn new(
        server: &Arc<Server>,
        metrics: &Arc<ServerMetrics>,
        limit: &UpstreamLimit,
        idle: Vec<Box<UpstreamConnection>>,
    ) -> Self {
        Self {
            server: Arc::clone(server),
            metrics: Arc::clone(metrics),
            idle: RefCell::new(idle),
            limit: limit.clone(),
        }
    }

    /// Takes an idle connection that is still open, if there is one.
    pub(crate) fn take(&self) -> Option<Box<UpstreamConnection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            if connection.is_reusable() {
                return Some(connection);
            }
        }
        None
    }

    /// Returns the maximum time between two reads of a response's body.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.server.idle_timeout
    }

    /// Puts a connection back. It is closed unless another request may follow on it.
    pub(crate) fn put(&self, connection: Box<UpstreamConnection>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && self.limit.keeps_idle() && connection.is_done() {
            idle.push(connection);
        }
    }

    /// Opens a connection, with TLS if the server is configured with it.
    async fn connect(&self, permit: Permit) -> Result<Box<UpstreamConnection>, ConnectError> {
        // Boxed, because it is large and rare, and would enlarge the future of every request.
        let opening = Box::pin(tokio::time::timeout(self.server.connect_timeout, self.open(permit)));
        opening.await.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn open(&self, permit: Permit) -> Result<Box<UpstreamConnection>, ConnectError> {
        let tcp = TcpStream::connect((&*self.server.host, self.server.port)).await.map_err(ConnectError::Connect)?;
        tcp.set_nodelay(true).map_err(ConnectError::Connect)?;
        let stream = match &self.server.tls {
            None => Stream::Plain(tcp),
            Some((name, config)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let tls = connector.connect(name.clone(), tcp).await.map_err(ConnectError::Tls)?;
                Stream::tls(tls.into())
            }
        };
        Ok(Box::new(UpstreamConnection::new(stream, permit)))
    }
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// It took longer than the connect timeout.
    Timeout,
    /// The process has as many upstream connections as it can.
    TooMany,
    /// The name did not resolve, or the address refused the connection.
    Connect(io::Error),
    /// The TLS handshake failed, or the server's certificate is not acceptable.
    Tls(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => {
                f.write_str("the process has as many upstream connections as its limit on open files allows")
            }
            Self::Timeout => f.write_str("no connection within the connect timeout"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Tls(error) => write!(f, "no TLS: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn server(port: u16) -> Arc<Server> {
        let (name, timeout) = ("http://127.0.0.1", Duration::from_secs(10));
        Arc::new(Server {
            index: 0,
            name: name.into(),
            identity: name.into(),
            host: "127.0.0.1".into(),
            port,
            authority: HeaderValue::from_static("127.0.0.1"),
            tls: None,
            connect_timeout: timeout,
            idle_timeout: timeout,
        })
    }

    /// S6: what is idle makes room before others need it; otherwise it would be kept for a minute.
    #[tokio::test]
    async fn a_sweep_closes_idle_connections_until_a_quarter_is_free() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (server, metrics) = (server(listener.local_addr().unwrap().port()), ServerMetrics::new(&"http://a".into()));
        let limit = UpstreamLimit::new(8);
        let pools = Pools::new([(&server, &metrics)].into_iter(), &limit, None);
        let pool = pools.of(&server).unwrap();
        let mut accepted = Vec::new();
        for _ in 0..8 {
            let connection = pools.connect(pool).await.unwrap();
            pool.idle.borrow_mut().push(connection);
            accepted.push(listener.accept().unwrap());
        }
        pools.sweep();
        assert_eq!(pool.idle.borrow().len(), 6);
        pools.sweep();
        assert_eq!(pool.idle.borrow().len(), 6);
    }
}
