//! A request as its sender writes it, and the time at which it is sent.
//!
//! The head is serialised and parsed like that of a client connection, so that malformed requests are refused as they are by
//! `run`.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Uri, Version};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::exchange::{ClientCertificate, Peer};
use crate::grpc;
use crate::policy::{Limits, Policy};
use crate::proxy::http1::fields::HeadLimits;
use crate::proxy::http1::reader::{Reader, RequestHead};
use crate::proxy::request::target;
use crate::refusal::Refusal;
use crate::stages::auth::locations::{CredentialLocations, KeyLocation, TokenLocation};

/// The time of a request, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Wall-clock time.
    pub(crate) at: Timestamp,
    /// Monotonic time since the rehearsal began.
    pub(crate) since: Duration,
}

/// A request.
pub(crate) struct RehearsalRequest {
    /// Its method.
    pub(crate) method: String,
    /// Path and query, as sent.
    pub(crate) target: String,
    /// All header fields, including `Host`.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body, as sent.
    pub(crate) body: Bytes,
    /// The client's address.
    pub(crate) from: IpAddr,
    /// The client certificate of the connection.
    pub(crate) certificate: Option<Box<ClientCertificate>>,
}

/// A parsed head.
pub(super) struct ParsedHead {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
}

impl From<RequestHead> for ParsedHead {
    fn from(RequestHead { method, uri, version, headers, .. }: RequestHead) -> Self {
        Self { method, uri, version, headers }
    }
}

impl RehearsalRequest {
    /// Returns whether it has a header field with this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Whether it is a call of gRPC, if it comes over HTTP/2.
    pub(crate) fn is_grpc(&self) -> bool {
        let mut types = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        self.method == "POST" && types.next().is_some_and(|(_, value)| grpc::is_content_type(value.as_bytes()))
    }

    /// Adds a token where the policy looks for tokens first. In a cookie, it comes from a page of the API's own, unless the request says
    /// otherwise.
    pub(crate) fn send_token(&mut self, locations: &CredentialLocations, token: &str) {
        match locations.tokens.first() {
            Some(TokenLocation::Header(name)) if !locations.has_bearer() => {
                self.headers.push((name.to_string(), token.to_owned()));
            }
            Some(TokenLocation::Cookie(name)) if !locations.has_bearer() => {
                let cookie = format!("{name}={token}");
                match self.headers.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("cookie")) {
                    Some((_, others)) => others.extend(["; ", &cookie]),
                    None => self.headers.push(("cookie".to_owned(), cookie)),
                }
                if !self.has("origin") && !self.has("sec-fetch-site") {
                    self.headers.push(("sec-fetch-site".to_owned(), "same-origin".to_owned()));
                }
            }
            _ => self.headers.push(("authorization".to_owned(), format!("Bearer {token}"))),
        }
    }

    /// Adds an API key where the policy looks for keys.
    pub(crate) fn send_key(&mut self, locations: &CredentialLocations, key: &str) {
        match &locations.key {
            Some(KeyLocation::Header(name)) => self.headers.push((name.to_string(), key.to_owned())),
            Some(KeyLocation::Authorization(scheme)) => {
                self.headers.push(("authorization".to_owned(), format!("{scheme} {key}")));
            }
            Some(KeyLocation::Query(name)) => {
                let separator = if self.target.contains('?') { '&' } else { '?' };
                let key = utf8_percent_encode(key, NON_ALPHANUMERIC);
                self.target.push_str(&format!("{separator}{name}={key}"));
            }
            None => {}
        }
    }

    /// Whether it may have a token, which is verified with keys of an issuer.
    pub(crate) fn may_have_token(&self, locations: &CredentialLocations) -> bool {
        let is_carried = |name: &str| {
            name.eq_ignore_ascii_case("cookie")
                || HeaderName::from_bytes(name.as_bytes()).is_ok_and(|name| locations.has_header(&name))
        };
        self.headers.iter().any(|(name, _)| is_carried(name))
    }

    /// Parses its head like that of a client connection.
    pub(super) fn read(&self, limits: Limits) -> Result<ParsedHead, Refusal> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() && !self.has("content-length") && !self.has("transfer-encoding") {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let limits = HeadLimits { size: limits.header_size, headers: limits.headers };
        // A line break within a field would begin another request.
        let unreadable = || target::malformed("the request line or a header is malformed");
        let mut input = Bytes::from(head);
        let read = Reader::new(limits).head(&mut input).map_err(target::malformed_framing)?;
        read.filter(|_| input.is_empty()).map(ParsedHead::from).ok_or_else(unreadable)
    }

    /// Returns whether it is sent over TLS: it has a client certificate, or all listeners of the policy use TLS.
    pub(super) fn is_secure(&self, policy: &Policy) -> bool {
        self.certificate.is_some() || policy.listeners().iter().all(|listener| listener.tls.is_some())
    }

    /// Returns the peer of its connection.
    pub(super) fn peer(&mut self, policy: &Policy) -> Peer {
        let tls_version = self.is_secure(policy).then_some("1.3");
        Peer { certificate: self.certificate.take(), ..Peer::new((self.from, 0).into(), tls_version) }
    }
}
