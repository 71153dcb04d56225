//! The servers of an API: where they are, how one is chosen, and what is done about those that fail.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::share::Share;
use crate::state::endpoint::Address;

/// The servers of an API, and how they are called.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Each may have several addresses.
    pub(crate) servers: Vec<Arc<Server>>,
    /// Until the headers of the response have arrived.
    pub(crate) response_timeout: Duration,
    /// Whether the caller's credential is forwarded.
    pub(crate) forward_credentials: bool,
    /// How an address is chosen.
    pub(crate) balance: Balance,
    /// When an address that fails is left alone for a while; absent: never.
    pub(crate) eject: Option<Ejection>,
    /// Whether requests are refused when no address is healthy. Otherwise, one is tried all the same.
    pub(crate) refuses_if_none_left: bool,
    /// When a request is sent once more; absent: only where the connection had been used before, and broke.
    pub(crate) retries: Option<Retries>,
    /// Requests in flight, on this node; absent: no limit.
    pub(crate) requests: Option<usize>,
    /// Value of `Host` in requests to it.
    pub(crate) host: ForwardedHost,
}

/// Value of `Host` in requests to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ForwardedHost {
    /// Host and port of the server.
    Server,
    /// Host and port that the client sent.
    Preserved,
    /// This text.
    Literal(HeaderValue),
}

impl Upstream {
    /// Without any server.
    pub(crate) fn none() -> Self {
        Self {
            servers: Vec::new(),
            response_timeout: Duration::ZERO,
            forward_credentials: false,
            balance: Balance::RoundRobin,
            eject: None,
            refuses_if_none_left: false,
            retries: None,
            requests: None,
            host: ForwardedHost::Server,
        }
    }
}

/// How an address is chosen, of those that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Balance {
    /// One after the other.
    RoundRobin,
    /// Of two at random, the one with fewer requests in flight, over all workers.
    LeastRequests,
}

/// When an address is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ejection {
    /// After so many failures in a row: no connection, no response, or 502, 503 or 504.
    pub(crate) after: u32,
    /// For so long.
    pub(crate) lasts: Duration,
    /// At most this share of the API's addresses.
    pub(crate) most: Share,
}

/// When a request is sent once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retries {
    /// At most so many times.
    pub(crate) most: u32,
    /// At most for this share of all requests.
    pub(crate) budget: Share,
    /// Pause before the first; it doubles.
    pub(crate) backoff: Duration,
    /// Whether after a connection that could not be opened, or broke before the response began.
    pub(crate) on_connect: bool,
    /// After responses with these statuses.
    pub(crate) on: Vec<StatusCode>,
}

/// HTTP/2, as TLS names it (RFC 9113 §3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// What is spoken with a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: agreed on by TLS, or begun at once without it (RFC 9113 §3).
    Http2,
}

/// Why a request may be sent once more (RFC 9110 §9.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryCause {
    /// Nothing of it was sent.
    NotConnected,
    /// It may have been handled, but no byte of a response came.
    Unanswered,
    /// The response has this status.
    Status(StatusCode),
}

impl Retries {
    /// Whether a request is sent once more for this cause. `is_idempotent`: handling it twice is the same as once.
    pub(crate) fn covers(&self, cause: RetryCause, is_idempotent: bool) -> bool {
        match cause {
            RetryCause::NotConnected => self.on_connect,
            RetryCause::Unanswered => self.on_connect && is_idempotent,
            RetryCause::Status(status) => is_idempotent && self.on.contains(&status),
        }
    }
}

/// One server, as the policy names it.
#[derive(Debug)]
pub(crate) struct Server {
    /// Position in [`Policy::servers`](super::Policy::servers).
    pub(crate) index: usize,
    /// Its URL, as written.
    pub(crate) name: Arc<str>,
    /// API, name and trusted authorities. If all are equal, connections and the state of addresses outlive a reload.
    pub(crate) identity: Arc<str>,
    /// Host to connect to: a name or an address.
    pub(crate) host: Box<str>,
    /// Port; 0 with a socket.
    pub(crate) port: u16,
    /// The Unix socket to connect to, in place of host and port.
    pub(crate) socket: Option<Arc<Path>>,
    /// Host and port, as written.
    pub(crate) authority: HeaderValue,
    /// What is put before the path of every request: empty, or a path without a slash at its end.
    pub(crate) base: Box<str>,
    /// What is spoken with it.
    pub(crate) protocol: Protocol,
    /// TLS; present for `https`.
    pub(crate) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    /// How it is connected to.
    pub(crate) connections: Connections,
    /// How often its name is resolved.
    pub(crate) resolve: Duration,
    /// How it is asked whether it is healthy; absent: it is not.
    pub(crate) health: Option<HealthCheck>,
}

/// How a server is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Until a connection is established.
    pub(crate) connect_timeout: Duration,
    /// Longest pause between two bytes of a body.
    pub(crate) idle_timeout: Duration,
    /// Most connections to an address, for each worker.
    pub(crate) most: usize,
    /// A connection of this age takes no further request; absent: whatever its age.
    pub(crate) age: Option<Duration>,
    /// A connection without a request is closed after this time.
    pub(crate) idle: Duration,
}

/// How a server is asked whether it is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    /// The path of the GET, with the base path of the server before it; a status from 200 to 299 is good.
    pub(crate) path: Box<str>,
    pub(crate) every: Duration,
    pub(crate) timeout: Duration,
    /// So many good answers in a row make it healthy.
    pub(crate) healthy_after: u32,
    /// So many others make it unhealthy.
    pub(crate) unhealthy_after: u32,
}

impl Upstream {
    /// Whether its servers speak HTTP/2.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.servers.first().is_some_and(|server| server.protocol == Protocol::Http2)
    }
}

impl HealthCheck {
    /// The same, of a server with this base path.
    pub(crate) fn below(&self, base: &str) -> Self {
        Self { path: format!("{base}{}", self.path).into(), ..self.clone() }
    }
}

impl Server {
    /// Its address, if it is not a name.
    pub(crate) fn literal(&self) -> Option<Address> {
        if let Some(socket) = &self.socket {
            return Some(Address::Unix(Arc::clone(socket)));
        }
        let host = self.host.trim_matches(['[', ']']);
        host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, self.port).into())
    }
}
