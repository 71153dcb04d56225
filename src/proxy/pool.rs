//! Connections to upstream servers: one pool a worker and server, last in first out.
//!
//! A connection is driven by the request that uses it, not by a task of its own: no hop between tasks, and a request that
//! is dropped takes its connection with it, which is how a client that goes away cancels its call.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::Stream;
use crate::policy::Server;
use crate::stages::schema::body::Body;

/// Most idle connections to one server, of one worker.
const MAX_IDLE: usize = 256;
/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(60);
/// A response's headers together, in bytes; hyper's buffer holds them.
const MAX_HEAD: usize = 64 * 1024;

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
            pool.idle.borrow_mut().retain_mut(|link| link.since.elapsed() < IDLE && link.is_usable());
        }
    }
}

/// Idle connections to one server.
pub(crate) struct Pool {
    server: Arc<Server>,
    idle: RefCell<Vec<Link>>,
}

impl Pool {
    /// An idle connection that still stands.
    pub(crate) fn take(&self) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut link) = idle.pop() {
            if link.is_usable() {
                return Some(link);
            }
        }
        None
    }

    /// Between two bytes of a response's body.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.server.idle_timeout
    }

    /// Keeps a connection for the next request.
    fn put(&self, mut link: Link) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            link.since = Instant::now();
            idle.push(link);
        }
    }

    /// Opens a connection, with TLS where the server has it.
    pub(crate) async fn connect(&self) -> Result<Link, ConnectError> {
        // Boxed: it is large and rare, and would be a part of every request's future.
        let opening = Box::pin(tokio::time::timeout(self.server.connect_timeout, self.open()));
        opening.await.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn open(&self) -> Result<Link, ConnectError> {
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
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_HEAD)
            // One buffer and one write are cheaper than a gathered write for all but large bodies.
            .writev(false)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Connect(io::Error::other(error)))?;
        Ok(Link { sender, driver: Box::pin(driver), ended: false, reused: false, since: Instant::now() })
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

/// One connection to a server, used by one request at a time.
pub(crate) struct Link {
    sender: SendRequest<Body>,
    /// hyper's side of the connection; it moves only when polled.
    driver: Pin<Box<Connection<TokioIo<Stream>, Body>>>,
    ended: bool,
    reused: bool,
    since: Instant,
}

/// A request that was not answered.
pub(crate) enum SendError {
    /// Not a byte of it was sent, and the connection had been used before: another one may take it.
    Unsent(Box<Request<Body>>),
    /// It was sent, at least in part, and the connection broke.
    Broken(hyper::Error),
}

impl Link {
    /// Lets the connection move; true while it stands.
    fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.ended {
            self.ended = self.driver.as_mut().poll(cx).is_ready();
        }
        !self.ended
    }

    /// Whether it can take a request now.
    fn is_usable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop())) && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its response.
    ///
    /// What the sender's half waits for is only ever brought about by the driver's half, which is polled here: so it is
    /// polled without a waker of its own, and wakes nobody twice.
    pub(crate) fn send(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> + use<'_> {
        let reused = std::mem::replace(&mut self.reused, true);
        // Handed to hyper now, so that the future does not hold it.
        let answer = self.sender.try_send_request(request);
        let (driver, ended) = (&mut self.driver, &mut self.ended);
        async move {
            let mut answer = pin!(answer);
            let answered = poll_fn(|cx| {
                if !*ended {
                    *ended = driver.as_mut().poll(cx).is_ready();
                }
                answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            });
            answered.await.map_err(|mut error| match error.take_message() {
                Some(request) if reused => SendError::Unsent(Box::new(request)),
                _ => SendError::Broken(error.into_error()),
            })
        }
    }

    /// The next piece of a response's body, by the same way.
    pub(crate) fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let quiet = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(quiet) {
            return Poll::Ready(frame);
        }
        self.drive(cx);
        Pin::new(body).poll_frame(quiet)
    }

    /// Gives the connection back when its response has been read to the end; else it closes.
    pub(crate) fn give_back(mut self, pool: &Pool) {
        if self.is_usable() {
            pool.put(self);
        }
    }
}
