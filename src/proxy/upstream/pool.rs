//! Pools of connections to upstream servers: one per worker and address. Those of HTTP/1.1 are idle, last in, first out; those of
//! HTTP/2 are shared.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_rustls::TlsConnector;

use super::connection::UpstreamConnection;
use super::exchange::UpstreamExchange;
use super::http2::{Http2Connection, Http2Stream, SharedConnections};
use super::limit::{Permit, UpstreamLimit};
use super::slots::{Open, Slots, Turn};
use crate::error_text;
use crate::policy::upstream::{Connections, HTTP_2, Protocol};
use crate::policy::{Api, Server};
use crate::proxy::stream::Stream;
use crate::runtime::InForce;
use crate::state::endpoint::{Endpoint, Endpoints, Resolved};
use crate::telemetry::ServerMetrics;

/// The pools of all addresses of a policy's servers.
pub(crate) struct Pools {
    all: Vec<Rc<Pool>>,
    /// The same by the position of the API in the policy.
    by_api: Vec<Box<[Rc<Pool>]>>,
}

impl Pools {
    /// Creates one pool for each address of a server. Those that did not change keep their pool.
    pub(crate) fn new(
        in_force: &InForce,
        endpoints: &Endpoints,
        limit: &UpstreamLimit,
        previous: Option<&Self>,
    ) -> Self {
        let pools = previous.into_iter().flat_map(|previous| &previous.all);
        // An address belongs to one server, so its state tells which pool is its own.
        let kept: HashMap<_, _> = pools.map(|pool| (Arc::as_ptr(&pool.endpoint), pool)).collect();
        let pool = |(server, metrics): (&Arc<Server>, &Arc<ServerMetrics>), endpoint: &Arc<Endpoint>| {
            let former = kept.get(&Arc::as_ptr(endpoint));
            match former {
                // Its position in the policy is what metrics go by.
                Some(pool) if pool.server.connections == server.connections && pool.server.index == server.index => {
                    Rc::clone(pool)
                }
                _ => Rc::new(Pool::new(server, metrics, endpoint, limit, former.map(|pool| &***pool))),
            }
        };
        let of = |(one, resolved): ((&Arc<Server>, &Arc<ServerMetrics>), &Resolved)| -> Vec<Rc<Pool>> {
            resolved.endpoints.iter().map(|endpoint| pool(one, endpoint)).collect()
        };
        let by_server: Vec<_> = in_force.servers().zip(&endpoints.0).map(of).collect();
        let of_api = |api: &Arc<Api>| {
            let pools = api.upstream().servers.iter().filter_map(|server| by_server.get(server.index));
            pools.flatten().cloned().collect()
        };
        let by_api = in_force.policy.apis().iter().map(of_api).collect();
        let all: Vec<Rc<Pool>> = by_server.into_iter().flatten().collect();
        for pool in previous.into_iter().flat_map(|previous| &previous.all) {
            if !all.iter().any(|other| Rc::ptr_eq(&other.connections, &pool.connections)) {
                pool.retire();
            }
        }
        Self { all, by_api }
    }

    /// The pools of an API of the same policy.
    pub(crate) fn of(&self, api: &Api) -> &[Rc<Pool>] {
        self.by_api.get(api.index()).map_or(&[], |pools| pools)
    }

    /// Opens a connection to the server of `pool` for a request; in HTTP/2, one that another request has opened meanwhile may have
    /// room for it.
    pub(crate) async fn connect(&self, pool: &Pool) -> Result<UpstreamExchange, ConnectError> {
        // Boxed, because it is large and rare, and would enlarge the future of every request.
        Box::pin(self.open(pool, None)).await
    }

    /// Waits for one of the connections of `pool` after as many requests as came before, for as long as opening one may take, and `most`.
    /// `only_new`: one that was used before will not do.
    pub(crate) async fn wait(
        &self,
        pool: &Pool,
        only_new: bool,
        most: Duration,
    ) -> Result<UpstreamExchange, ConnectError> {
        pool.metrics.waits();
        Box::pin(async {
            let end = tokio::time::Instant::now() + pool.server.connections.connect_timeout.min(most);
            let mut turn = pool.connections.slots.queue();
            // What became free meanwhile was for nobody: a connection that did not take this request, for one.
            pool.connections.shared.sweep(pool.server.connections);
            pool.call_next();
            loop {
                tokio::time::timeout_at(end, turn.comes()).await.map_err(|_| ConnectError::TooManyHere)?;
                if only_new {
                    pool.close_idle();
                } else if let Some(exchange) = pool.find(Instant::now()) {
                    pool.taken(&mut turn);
                    return Ok(exchange);
                }
                match self.open(pool, Some(&mut turn)).await {
                    // What it was called for was no good.
                    Err(ConnectError::TooManyHere) => turn.again(),
                    // The connections that are open here will be free at some time.
                    Err(ConnectError::TooMany) if pool.connections.slots.open() > 0 => turn.again(),
                    opened => return opened,
                }
            }
        })
        .await
    }

    /// Opens a connection for a request, whose turn it is if others have waited.
    async fn open(&self, pool: &Pool, turn: Option<&mut Turn>) -> Result<UpstreamExchange, ConnectError> {
        if !pool.serves(turn.as_deref()) {
            return Err(ConnectError::TooManyHere);
        }
        let limit = pool.server.connections.connect_timeout;
        let _opens = match pool.server.protocol {
            Protocol::Http1 => None,
            // That others open connections for so long is no fault of the server's.
            Protocol::Http2 => Some(
                tokio::time::timeout(limit, pool.connections.shared.turn())
                    .await
                    .map_err(|_| ConnectError::TooManyHere)?,
            ),
        };
        let opening = async {
            match pool.server.protocol {
                Protocol::Http1 => {
                    let (permit, open) = self.permit(pool, turn)?;
                    let stream = pool.open().await?;
                    Ok(UpstreamExchange::Http1(Box::new(UpstreamConnection::new(stream, permit, open))))
                }
                Protocol::Http2 => self.open_http2(pool, turn).await.map(UpstreamExchange::Http2),
            }
        };
        tokio::time::timeout(limit, opening).await.unwrap_or(Err(ConnectError::Timeout))
    }

    /// Opens a connection in its turn, unless one that was opened meanwhile has room.
    async fn open_http2(&self, pool: &Pool, turn: Option<&mut Turn>) -> Result<Box<Http2Stream>, ConnectError> {
        if pool.serves(turn.as_deref())
            && let Some(stream) = pool.connections.shared.stream(pool.server.connections)
        {
            turn.into_iter().for_each(|turn| pool.taken(turn));
            return Ok(stream);
        }
        let permits = self.permit(pool, turn)?;
        let stream = pool.open().await?;
        let connection = Http2Connection::open(stream, permits).await.map_err(ConnectError::Http2)?;
        pool.connections.shared.add(connection);
        // None: it is gone already.
        let gone = || ConnectError::Http2(io::ErrorKind::ConnectionReset.into());
        let stream = pool.connections.shared.stream(pool.server.connections).ok_or_else(gone)?;
        // It has room for others.
        pool.call_next();
        Ok(stream)
    }

    /// Counts a new connection. When there are too many, first closes one that is idle.
    fn permit(&self, pool: &Pool, turn: Option<&mut Turn>) -> Result<(Permit, Open), ConnectError> {
        if !pool.serves(turn.as_deref()) || pool.connections.slots.open() >= pool.connections.most.get() {
            return Err(ConnectError::TooManyHere);
        }
        let permit = pool.limit.acquire(&pool.metrics).or_else(|| {
            self.all.iter().find(|pool| pool.close_idle())?;
            pool.limit.acquire(&pool.metrics)
        });
        let permits = (permit.ok_or(ConnectError::TooMany)?, Open::count(&pool.connections.slots));
        turn.into_iter().for_each(|turn| pool.taken(turn));
        Ok(permits)
    }

    /// Closes connections that have been idle too long, that the peer has closed, or that others may need.
    pub(crate) fn sweep(&self) {
        for pool in &self.all {
            let mut idle = pool.connections.idle.borrow_mut();
            let now = Instant::now();
            idle.retain_mut(|connection| pool.keeps(connection, now) && connection.is_reusable());
            while !idle.is_empty() && !pool.limit.keeps_idle() {
                idle.pop();
            }
            pool.connections.shared.sweep(pool.server.connections);
            while !pool.limit.keeps_idle() && pool.connections.shared.close_idle() {}
        }
    }
}

/// Connections to one address of a server.
pub(crate) struct Pool {
    pub(crate) server: Arc<Server>,
    pub(crate) endpoint: Arc<Endpoint>,
    metrics: Arc<ServerMetrics>,
    limit: UpstreamLimit,
    connections: Rc<Connected>,
}

/// The connections of a worker to one address. They outlive the pool if only settings of it change: requests that began before use
/// the same ones.
#[derive(Default)]
struct Connected {
    #[allow(clippy::vec_box, reason = "a connection is half a kilobyte, and is moved in and out with every request")]
    idle: RefCell<Vec<Box<UpstreamConnection>>>,
    /// Those of HTTP/2.
    shared: SharedConnections,
    slots: Rc<Slots>,
    /// As many as there may be now.
    most: Cell<usize>,
    /// The address is not that of a policy in force any more. Requests that began before still use it; nothing is kept for others.
    retired: Cell<bool>,
}

impl Pool {
    /// `former` is the pool of the same address before, whose connections go on here.
    fn new(
        server: &Arc<Server>,
        metrics: &Arc<ServerMetrics>,
        endpoint: &Arc<Endpoint>,
        limit: &UpstreamLimit,
        former: Option<&Self>,
    ) -> Self {
        let connections = former.map(|pool| Rc::clone(&pool.connections)).unwrap_or_default();
        connections.most.set(server.connections.most);
        let pool = Self {
            server: Arc::clone(server),
            endpoint: Arc::clone(endpoint),
            metrics: Arc::clone(metrics),
            limit: limit.clone(),
            connections,
        };
        // There may be more than before.
        pool.call_next();
        pool
    }

    /// Takes a connection for a request that is still open now, if there is one and nobody waits for it.
    pub(crate) fn take(&self, now: Instant) -> Option<UpstreamExchange> {
        if self.connections.slots.are_awaited() { None } else { self.find(now) }
    }

    /// Whether a connection may be for this request, which may have waited for its turn.
    fn serves(&self, turn: Option<&Turn>) -> bool {
        turn.is_some() || !self.connections.slots.are_awaited()
    }

    /// Ends a turn. If there is something for others, the next one is called: it may have become free while nobody waited.
    fn taken(&self, turn: &mut Turn) {
        turn.take();
        self.call_next();
    }

    /// Calls the next one that waits, if there is something for it.
    fn call_next(&self) {
        let has_room = || {
            let Connected { idle, shared, slots, most, .. } = &*self.connections;
            slots.open() < most.get() || !idle.borrow().is_empty() || shared.have_room()
        };
        if self.connections.slots.are_awaited() && has_room() {
            self.connections.slots.call_next();
        }
    }

    /// Finds a connection for a request that is still open now.
    fn find(&self, now: Instant) -> Option<UpstreamExchange> {
        if self.server.protocol == Protocol::Http2 {
            return self.connections.shared.stream(self.server.connections).map(UpstreamExchange::Http2);
        }
        let mut idle = self.connections.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            if self.keeps(&connection, now) && connection.is_reusable() {
                return Some(UpstreamExchange::Http1(connection));
            }
        }
        None
    }

    /// Closes connections without a request, now and as soon as their requests have ended.
    fn retire(&self) {
        self.connections.retired.set(true);
        while self.close_idle() {}
    }

    /// Closes a connection without a request. Returns whether there was one.
    fn close_idle(&self) -> bool {
        self.connections.idle.borrow_mut().pop().is_some() || self.connections.shared.close_idle()
    }

    /// Counts that the address gets no requests for a while.
    pub(super) fn ejected(&self) {
        self.metrics.ejected();
    }

    /// Counts a request that was sent here although the server is unhealthy or ejected, as all are.
    pub(crate) fn last_resort(&self) {
        self.metrics.last_resort();
    }

    /// Counts that a request which failed here is sent once more.
    pub(crate) fn retried(&self) {
        self.metrics.retried();
    }

    /// Whether a connection may take another request now: it has not been idle for too long, nor is it too old.
    fn keeps(&self, connection: &UpstreamConnection, now: Instant) -> bool {
        let Connections { age, idle, .. } = self.server.connections;
        // The peer counts from the end of the response, which was later: it closes later than we do.
        let idle = connection.keep_alive.map_or(idle, |said| said.min(idle));
        let since = |then| now.saturating_duration_since(then);
        since(connection.begun) < idle && age.is_none_or(|age| since(connection.opened) < age)
    }

    /// Returns the maximum time between two reads of a response's body.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.server.connections.idle_timeout
    }

    /// Puts a connection back whose request has ended. It is closed unless another request may follow on it.
    pub(crate) fn put(&self, exchange: UpstreamExchange) {
        // A request of HTTP/2 only counts itself off.
        let UpstreamExchange::Http1(mut connection) = exchange else {
            drop(exchange);
            if self.connections.retired.get() {
                while self.close_idle() {}
            }
            return;
        };
        connection.release();
        let mut idle = self.connections.idle.borrow_mut();
        let keeps = self.limit.keeps_idle() || self.connections.slots.are_awaited();
        if !self.connections.retired.get()
            && idle.len() < self.connections.most.get()
            && keeps
            && connection.is_done()
            && self.keeps(&connection, Instant::now())
        {
            idle.push(connection);
            drop(idle);
            self.connections.slots.call_next();
        }
    }

    /// Opens a stream to the server, with TLS if it is configured with it.
    async fn open(&self) -> Result<Stream, ConnectError> {
        let stream = Stream::connect(&self.endpoint.address).await.map_err(ConnectError::Connect)?;
        let (tcp, (name, config)) = match (stream, &self.server.tls) {
            (Stream::Plain(tcp), Some(tls)) => (tcp, tls),
            (stream, _) => return Ok(stream),
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let tls = connector.connect(name.clone(), tcp).await.map_err(ConnectError::Tls)?;
        if self.server.protocol == Protocol::Http2 && tls.get_ref().1.alpn_protocol() != Some(HTTP_2) {
            return Err(ConnectError::NotHttp2);
        }
        Ok(Stream::tls(tls.into()))
    }
}

/// Why a connection could not be opened.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// It took longer than the connect timeout.
    Timeout,
    /// The process has as many upstream connections as it can.
    TooMany,
    /// The worker has as many connections to this address as the policy allows, and none became free in time.
    TooManyHere,
    /// The address refused the connection, or is not reachable.
    Connect(io::Error),
    /// The TLS handshake failed, or the server's certificate is not acceptable.
    Tls(io::Error),
    /// The server did not choose HTTP/2 in the TLS handshake.
    NotHttp2,
    /// The connection ended before HTTP/2 had begun.
    Http2(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => {
                f.write_str("the process has as many upstream connections as its limit on open files allows")
            }
            Self::TooManyHere => f.write_str(
                "there are as many connections to the server as `connections.most` allows, and none became free in time",
            ),
            Self::Timeout => f.write_str("no connection within the connect timeout"),
            Self::Connect(error) => write!(f, "no connection: {}", error_text::connection(error)),
            Self::Tls(error) => write!(f, "no TLS: {}", error_text::connection(error)),
            Self::NotHttp2 => f.write_str(
                "the server did not choose HTTP/2 (`h2`) in the TLS handshake; turn it on there, or write `protocol: http1`",
            ),
            Self::Http2(error) => write!(
                f,
                "no HTTP/2: {}; if the server speaks only HTTP/1.1, write `protocol: http1`",
                error_text::connection(error)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Trail;
    use crate::policy::compile;
    use crate::runtime::Runtime;

    /// A policy in force with one API, whose server listens on this port.
    fn in_force(port: u16) -> InForce {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.yaml");
        let text = format!(
            "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\napis: {{ a: {{ upstream: \"http://127.0.0.1:{port}\", \
             routes: {{ GET /x: {{ public: true }} }} }} }}\n"
        );
        std::fs::write(&path, text).unwrap();
        let (policy, problems) = compile::compile(&path);
        let policy = policy.unwrap_or_else(|| panic!("{}", problems.text(false)));
        InForce::attach(policy, Arc::new(Trail::silent()), &Runtime::new(Instant::now()), None)
    }

    /// S6: what is idle makes room before others need it; otherwise it would be kept for a minute.
    #[tokio::test]
    async fn a_sweep_closes_idle_connections_until_a_quarter_is_free() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let in_force = in_force(listener.local_addr().unwrap().port());
        let limit = UpstreamLimit::new(8);
        let pools = Pools::new(&in_force, &in_force.endpoints.current(), &limit, None);
        let pool = &pools.of(&in_force.policy.apis()[0])[0];
        let mut accepted = Vec::new();
        for _ in 0..8 {
            let UpstreamExchange::Http1(connection) = pools.connect(pool).await.unwrap() else { panic!() };
            pool.connections.idle.borrow_mut().push(connection);
            accepted.push(listener.accept().unwrap());
        }
        assert_eq!(pool.connections.slots.open(), 8);
        pools.sweep();
        assert_eq!((pool.connections.idle.borrow().len(), pool.connections.slots.open()), (6, 6));
        pools.sweep();
        assert_eq!(pool.connections.idle.borrow().len(), 6);
        // The next view has the same pool, as long as the address is in it.
        let next = Pools::new(&in_force, &in_force.endpoints.current(), &limit, Some(&pools));
        assert!(Rc::ptr_eq(&next.of(&in_force.policy.apis()[0])[0], pool));
        assert!(Pools::new(&in_force, &Endpoints::default(), &limit, Some(&next)).all.is_empty());
    }
}
