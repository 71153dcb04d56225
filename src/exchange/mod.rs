//! The facts of one request, known before anything is decided: id, peer, client, times, method, path.
//!
//! [`Exchange`] keeps what the record needs until the request ends. [`Request`] borrows it, together with the head, for
//! the stages: it is created once, and every stage takes it. Nothing here decides, and no other module of this crate is
//! imported.

mod answer;
mod certificate_name;
mod clock;
pub(crate) mod networks;
pub(crate) mod origin;
mod trace_context;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::time::Instant;

use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use uuid::Uuid;

pub(crate) use self::answer::Answer;
pub(crate) use self::certificate_name::CertificateName;
use self::networks::Networks;
#[cfg(test)]
pub(crate) use self::trace_context::Parent;
pub(crate) use self::trace_context::{SpanId, TRACEPARENT_LENGTH, TraceContext, TraceId, is_tracestate};

/// W3C Trace Context §3.2: the caller's span.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The other end of a client connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// Address of the TCP peer: a client, or a proxy in front of us.
    pub(crate) address: SocketAddr,
    /// The address as canonical text, without the port; every request on the connection needs it.
    pub(crate) text: Box<str>,
    /// It is a proxy that does not say for which client it opened the connection: what the client says of others is not believed.
    pub(crate) hides_client: bool,
    /// TLS version, such as `1.3`, if the connection is encrypted.
    pub(crate) tls_version: Option<&'static str>,
    /// The client certificate, verified when the connection was opened.
    pub(crate) certificate: Option<Box<ClientCertificate>>,
}

/// The parts of a client certificate that requests need.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    /// SHA-256 of the DER.
    pub(crate) thumbprint: [u8; 32],
    /// DNS names, URIs and email addresses of its subjectAltName.
    pub(crate) names: Box<[CertificateName]>,
    /// Start of its validity, in seconds since 1970.
    pub(crate) not_before: i64,
    /// Last second of its validity, since 1970.
    pub(crate) not_after: i64,
    /// The certificate and its intermediates, which are verified again when the authorities change.
    pub(crate) chain: Box<[CertificateDer<'static>]>,
    /// The listener that received it, by its address in the policy.
    pub(crate) listener: SocketAddr,
    /// The authorities and revocation lists that verified it.
    pub(crate) trusted_by: [u8; 32],
}

impl Peer {
    /// The other end of a new connection.
    pub(crate) fn new(address: SocketAddr, tls_version: Option<&'static str>) -> Self {
        let text = address.ip().to_canonical().to_string().into();
        Self { address, text, hides_client: false, tls_version, certificate: None }
    }

    /// `https` or `http`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls_version.is_some() { "https" } else { "http" }
    }
}

/// The network that counts as one client wherever clients are counted by address: an IPv4 address, or the /64 of an IPv6
/// address, because a subscriber has a whole /64 (RFC 6177 §2). An IPv4-mapped address is the IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClientNetwork(IpAddr);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        })
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Id of one request: in the response and the record, and sent upstream.
#[derive(Clone, Copy)]
pub(crate) struct RequestId([u8; 36]);

impl RequestId {
    /// Creates an id: UUID version 7 (RFC 9562 §5.7), so ids sort by time, to the millisecond.
    pub(crate) fn new(at: Timestamp) -> Self {
        Self::of(uuid_at(at))
    }

    fn of(id: Uuid) -> Self {
        let mut text = [0; 36];
        id.as_hyphenated().encode_lower(&mut text);
        Self(text)
    }

    /// Hyphenated, lower case.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// As a header value.
    pub(crate) fn to_header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// A new UUID version 7.
fn uuid_at(at: Timestamp) -> Uuid {
    let (seconds, nanoseconds) = (at.as_second(), at.subsec_nanosecond());
    let (seconds, nanoseconds) = (seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
    Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanoseconds))
}

/// The path of a request, never with a query.
#[derive(Debug, Clone)]
pub(crate) enum RequestPath {
    /// As received: a part of the head.
    AsItCame(PathAndQuery),
    /// Changed by normalisation, or empty.
    Normal(Box<str>),
}

impl From<&Uri> for RequestPath {
    fn from(uri: &Uri) -> Self {
        match uri.path_and_query() {
            Some(target) if !uri.path().is_empty() => Self::AsItCame(target.clone()),
            _ => Self::Normal(Box::default()),
        }
    }
}

impl From<&str> for RequestPath {
    fn from(path: &str) -> Self {
        Self::Normal(path.into())
    }
}

impl Deref for RequestPath {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::AsItCame(target) => target.path(),
            Self::Normal(path) => path,
        }
    }
}

/// A time on the ledger's monotonic clock, in nanoseconds. Never 0, which means "never used" in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

/// What is known of a request as soon as its head has been read.
#[derive(Clone)]
pub(crate) struct Exchange {
    /// Id of the request.
    pub(crate) id: RequestId,
    /// Start, by the wall clock.
    pub(crate) at: Timestamp,
    /// Start, for durations.
    pub(crate) begun: Instant,
    /// When it could be decided, by both clocks: its start, or the end of its wait for the record.
    decided: (Timestamp, Instant),
    /// HTTP version; absent when the head could not be parsed.
    pub(crate) version: Option<Version>,
    /// Method; absent when the head could not be parsed.
    pub(crate) method: Option<Method>,
    /// Path: as received, then normalised; never with a query.
    pub(crate) path: RequestPath,
    /// Host of the request in lower case, without port; empty if there is none.
    pub(crate) host: String,
    /// Address of the client: the peer, or the address that a trusted proxy reports.
    pub(crate) client: IpAddr,
    /// That address is a proxy's, which does not say for which client it sends the request.
    pub(crate) hides_client: bool,
    /// `User-Agent`, as received.
    pub(crate) user_agent: Option<HeaderValue>,
    /// Its trace: the caller's, if `traceparent` is valid.
    pub(crate) trace: TraceContext,
}

impl Exchange {
    /// Opens the exchange of a parsed head. Path, host and client are set when they are known.
    pub(crate) fn open(
        peer: &Peer,
        method: &Method,
        version: Version,
        path: impl Into<RequestPath>,
        headers: &HeaderMap,
    ) -> Self {
        let (mut user_agent, mut is_traced) = (None, false);
        // One pass over a few fields costs less than two lookups.
        for (name, value) in headers {
            if name == USER_AGENT {
                user_agent.get_or_insert_with(|| value.clone());
            } else {
                is_traced |= name == TRACEPARENT;
            }
        }
        let (version, method) = (Some(version), Some(method.clone()));
        let mut exchange = Self { version, method, path: path.into(), user_agent, ..Self::unparsed(peer) };
        if is_traced {
            exchange.trace = exchange.trace.continue_from(headers.get_all(TRACEPARENT).iter());
        }
        exchange
    }

    /// Opens the exchange of a head that could not be parsed or was incomplete.
    pub(crate) fn unparsed(peer: &Peer) -> Self {
        let (at, begun) = clock::now();
        let id = uuid_at(at);
        Self {
            id: RequestId::of(id),
            at,
            begun,
            decided: (at, begun),
            version: None,
            method: None,
            path: RequestPath::Normal(Box::default()),
            host: String::new(),
            client: peer.address.ip().to_canonical(),
            hides_client: peer.hides_client,
            user_agent: None,
            trace: TraceContext::begin(id),
        }
    }

    /// Records that it waited until now: what it is judged by is not older than that.
    pub(crate) fn waited(&mut self) {
        self.decided = clock::now();
    }

    /// When it could be decided, for limits.
    pub(crate) fn decided(&self) -> Instant {
        self.decided.1
    }

    /// Begins a trace here, whatever the caller says.
    pub(crate) fn begin_trace(&mut self) {
        self.trace = TraceContext::begin(uuid_at(self.at));
    }

    /// Sets another time, for a rehearsed request.
    pub(crate) fn dated(self, at: Timestamp, begun: Instant) -> Self {
        Self { id: RequestId::new(at), at, begun, decided: (at, begun), ..self }
    }

    /// The version as written in records.
    pub(crate) fn version_text(&self) -> &'static str {
        match self.version {
            Some(Version::HTTP_10) => "1.0",
            Some(Version::HTTP_2) => "2",
            _ => "1.1",
        }
    }
}

/// One request as the stages see it: created once, when its head has been read, and borrowed by every stage.
pub(crate) struct Request<'a> {
    /// The facts for the record: id, times, client, normalised path.
    pub(crate) exchange: &'a Exchange,
    /// The client certificate: that of its connection, or the one that a trusted proxy passes on.
    pub(crate) certificate: Option<&'a ClientCertificate>,
    /// Headers, as received.
    pub(crate) headers: &'a HeaderMap,
    /// `https` or `http`, as the client used it.
    pub(crate) scheme: &'a str,
    /// Host and port, as the client sent them; empty when HTTP/1.0 sent none.
    pub(crate) authority: &'a str,
    /// Path, as received: [`Request::path`] is normalised.
    pub(crate) received_path: &'a str,
    /// Query, as received, without `?`.
    pub(crate) received_query: Option<&'a str>,
    /// The same without the credential that may be in it: what is judged of it.
    pub(crate) query: Option<&'a str>,
    /// When it could be decided, by the ledger's clock.
    pub(crate) tick: Tick,
}

impl<'a> Request<'a> {
    /// The method; empty when the head could not be parsed.
    pub(crate) fn method(&self) -> &'a str {
        self.exchange.method.as_ref().map_or("", Method::as_str)
    }

    /// The normalised path: the one that routes match and the upstream receives.
    pub(crate) fn path(&self) -> &'a str {
        &self.exchange.path
    }

    /// When it could be decided, by the wall clock. Every decision about the request uses this time.
    pub(crate) fn now(&self) -> Timestamp {
        self.exchange.decided.0
    }

    /// Address of the client.
    pub(crate) fn client(&self) -> IpAddr {
        self.exchange.client
    }

    /// Whether the address of the client is in these networks. Where a proxy does not name the client, it is in none: that the proxy
    /// is in them says nothing of the client.
    pub(crate) fn is_from(&self, networks: &Networks) -> bool {
        !self.exchange.hides_client && networks.contain(self.exchange.client)
    }

    /// Says what to change when [`Self::is_from`] is false; `else_detail` does where the client is known.
    pub(crate) fn network_detail(&self, else_detail: &'static str) -> &'static str {
        match self.exchange.hides_client {
            true => {
                "a proxy on the way does not say which client sent the request, so its network is not known; ask the API's owner"
            }
            false => else_detail,
        }
    }

    /// Says why [`Self::is_from`] is false, for operators.
    pub(crate) fn is_not_in(&self, networks: &Networks) -> String {
        match self.exchange.hides_client {
            true => format!("the proxy {} does not name the client", self.exchange.client),
            false => format!("{} is not in {networks}", self.exchange.client),
        }
    }

    /// The client certificate.
    pub(crate) fn certificate(&self) -> Option<&'a ClientCertificate> {
        self.certificate
    }
}

/// Owns what a [`Request`] borrows, for tests of single stages.
#[cfg(test)]
pub(crate) struct SampleRequest {
    peer: Peer,
    exchange: Exchange,
}

#[cfg(test)]
impl SampleRequest {
    /// A request over plain HTTP/1.1 from the loopback address.
    pub(crate) fn new(method: &Method, path: &str) -> Self {
        let peer = Peer::new(([127, 0, 0, 1], 9).into(), None);
        let exchange = Exchange::open(&peer, method, Version::HTTP_11, path, &HeaderMap::new());
        Self { peer, exchange }
    }

    /// The same request at another time.
    pub(crate) fn dated(self, at: Timestamp) -> Self {
        let begun = self.exchange.begun;
        Self { exchange: self.exchange.dated(at, begun), ..self }
    }

    /// The request, with these headers and this query.
    pub(crate) fn with<'a>(&'a self, query: Option<&'a str>, headers: &'a HeaderMap) -> Request<'a> {
        let (exchange, peer, received_path) = (&self.exchange, &self.peer, &*self.exchange.path);
        let certificate = peer.certificate.as_deref();
        let (scheme, authority, tick, received_query) = ("http", "", Tick(1), query);
        Request { exchange, certificate, headers, scheme, authority, received_path, received_query, query, tick }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S14: one client cannot pass for many by using more of its own addresses.
    #[test]
    fn an_ipv6_64_is_one_client() {
        let network = |text: &str| ClientNetwork::from(text.parse::<IpAddr>().unwrap());
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "192.0.2.2", false),
            ("::ffff:192.0.2.1", "192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }
}
