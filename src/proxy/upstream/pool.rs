//! Connections to upstream servers: one pool a worker and server, last in first out.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::link::Link;
use crate::policy::Server;
use crate::proxy::stream::Stream;

/// Most idle connections to one server, of one worker.
const MAX_IDLE: usize = 256;
/// An idle connection is closed so long after its last request began.
const IDLE: Duration = Duration::from_secs(60);

/// The pools of all servers of a policy.
pub(crate) struct Pools(Vec<Rc<Pool>>);

impl Pools {
    /// One pool a server; those of the policy before are kept for servers that did not change.
    pub(crate) fn new(servers: &[Arc<Server>], before: Option<&Self>) -> Self {
        let kept = |server: &Server| before?.0.iter().find(|pool| pool.server.identity == server.identity);
        let pool = |server: &Arc<Server>| match kept(server) {
            Some(pool) if pool.server.same_timeouts(server) => Rc::clone(pool),
            Some(pool) => Rc::new(Pool { server: Arc::clone(server), idle: RefCell::new(pool.idle.take()) }),
            None => Rc::new(Pool { server: Arc::clone(server), idle: RefCell::default() }),
        };
        Self(servers.iter().map(pool).collect())
    }

    /// The pool of a server of the same policy.
    pub(crate) fn of(&self, server: &Server) -> Option<&Rc<Pool>> {
        self.0.get(server.index)
    }

    /// Closes what has been idle too long, and what the other end has closed.
    pub(crate) fn sweep(&self) {
        for pool in &self.0 {
            pool.idle.borrow_mut().retain_mut(|link| link.asked.elapsed() < IDLE && link.stands());
        }
    }
}

/// Idle connections to one server.
pub(crate) struct Pool {
    server: Arc<Server>,
    #[allow(clippy::vec_box, reason = "a link is half a kilobyte, and goes in and out with every request")]
    idle: RefCell<Vec<Box<Link>>>,
}

impl Pool {
    /// An idle connection that still stands.
    pub(crate) fn take(&self) -> Option<Box<Link>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut link) = idle.pop() {
            if link.stands() {
                return Some(link);
            }
        }
        None
    }

    /// Between two bytes of a response's body.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.server.idle_timeout
    }

    /// Takes a connection back: for the next request, when it is fit for one; else it closes.
    pub(crate) fn put(&self, link: Box<Link>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && link.is_done() {
            idle.push(link);
        }
    }

    /// Opens a connection, with TLS where the server has it.
    pub(crate) async fn connect(&self) -> Result<Box<Link>, ConnectError> {
        // Boxed: it is large and rare, and would be a part of every request's future.
        let opening = Box::pin(tokio::time::timeout(self.server.connect_timeout, self.open()));
        opening.await.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn open(&self) -> Result<Box<Link>, ConnectError> {
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
        Ok(Box::new(Link::new(stream)))
    }
}

/// Why no connection could be had.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// Not within the connect timeout.
    Timeout,
    /// The address could not be found, or did not take the connection.
    Connect(io::Error),
    /// The other end's TLS or certificate is not acceptable.
    Tls(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no connection within the connect timeout"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Tls(error) => write!(f, "no TLS: {error}"),
        }
    }
}
