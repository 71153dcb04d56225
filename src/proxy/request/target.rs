//! Reads the target of a request from its head: client, host and path. This happens once, before routing.
//!
//! Rehearsals use the same code, so nothing in this file depends on sockets.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{COOKIE, HOST, MAX_FORWARDS};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::path::{self, EncodedSlashes};
use crate::exchange::{ClientCertificate, Exchange, Peer, Request, Tick};
use crate::policy::{Api, Limits, Listener, Policy};
use crate::proxy::downstream::worker::WorkerView;
use crate::proxy::headers;
use crate::proxy::http1::framing_error::FramingError;
use crate::refusal::{Reason, Refusal, Stage};

/// What a header field takes in HTTP/1 beside its name and value: `: ` and CRLF.
const LINE_OVERHEAD: usize = 4;
/// What stands between two cookies of one field.
const COOKIE_SEPARATOR: &str = "; ";

/// The checked target of a request.
pub(crate) struct RequestTarget<'a> {
    /// Whether the peer is a trusted proxy.
    pub(crate) trusted_peer: bool,
    /// Host and port, as received; absent when an HTTP/1.0 request named none.
    pub(crate) host: Option<HeaderValue>,
    /// `https` or `http`, as the client used it.
    pub(crate) scheme: &'static str,
    /// What to forward: the normalised path, and the query as received.
    pub(crate) target: Cow<'a, str>,
    /// How many more proxies it may pass, where it says so.
    pub(crate) forwards: Option<u64>,
    /// Whether the proxy itself answers: no upstream is asked.
    pub(crate) ends_here: bool,
    pub(crate) certificate: ClientCertificateSource,
    /// The query without the API key that was in it, if there was one.
    without_key: Option<String>,
}

/// Where the client's certificate comes from.
pub(crate) enum ClientCertificateSource {
    /// The client has shown it on its connection, if any.
    Connection,
    /// The peer passes it on, if it is trusted, and the client has shown one to it.
    Forwarded(Option<Arc<ClientCertificate>>),
}

impl ClientCertificateSource {
    /// The certificate, if there is one.
    pub(crate) fn of<'a>(&'a self, peer: &'a Peer) -> Option<&'a ClientCertificate> {
        match self {
            Self::Connection => peer.certificate.as_deref(),
            Self::Forwarded(certificate) => certificate.as_deref(),
        }
    }
}

impl RequestTarget<'_> {
    /// Takes the client's certificate from what the peer passes on to this listener, if the listener has that.
    pub(crate) fn take_certificate(
        &mut self,
        listener: &Listener,
        headers: &HeaderMap,
        exchange: &Exchange,
        view: &WorkerView,
    ) -> Result<(), Refusal> {
        let Some(forwarded) = &listener.forwarded_certificates else { return Ok(()) };
        let is_shown = self.trusted_peer && forwarded.is_shown(headers);
        let certificate = match is_shown {
            true => {
                let read = || forwarded.read(headers, listener.address, exchange.at, &view.certificates);
                let tick = view.in_force.ledger.tick(exchange.decided());
                view.in_force.auth.attempt(exchange.client, tick, read)?
            }
            false => None,
        };
        self.certificate = ClientCertificateSource::Forwarded(certificate);
        Ok(())
    }

    /// Takes the API key out of the query of a request to this API. The upstream gets it only if it gets credentials.
    pub(crate) fn take_key(&mut self, api: &Api, query: Option<&str>) {
        self.without_key = api.credentials().query_without_key(query);
        if let Some(rest) = self.without_key.as_deref().filter(|_| !api.upstream().forward_credentials) {
            self.target = Cow::Owned(with_query(&self.target, rest));
        }
    }

    /// Returns the request in the form that the stages take.
    pub(crate) fn request<'r>(
        &'r self,
        exchange: &'r Exchange,
        peer: &'r Peer,
        uri: &'r Uri,
        headers: &'r HeaderMap,
        tick: Tick,
    ) -> Request<'r> {
        Request {
            exchange,
            certificate: self.certificate.of(peer),
            headers,
            scheme: self.scheme,
            authority: self.authority(),
            received_path: uri.path(),
            received_query: uri.query(),
            query: judged_query(self.without_key.as_deref(), uri.query()),
            tick,
        }
    }

    /// Returns host and port as received; empty if there were none.
    pub(crate) fn authority(&self) -> &str {
        self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default()
    }
}

/// The query that is judged: the one without the key, if a key was in it.
pub(super) fn judged_query<'q>(without_key: Option<&'q str>, received: Option<&'q str>) -> Option<&'q str> {
    match without_key {
        None => received,
        Some(rest) => Some(rest).filter(|rest| !rest.is_empty()),
    }
}

/// A target with this query in place of its own.
pub(crate) fn with_query(target: &str, query: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// Reads the target of a request. `exchange` keeps what was read, also if the request is refused.
pub(crate) fn read<'a>(
    exchange: &mut Exchange,
    uri: &'a Uri,
    headers: &HeaderMap,
    peer: &Peer,
    policy: &Policy,
) -> Result<RequestTarget<'a>, Refusal> {
    // The client's address comes first, so that the record has it even if the request is refused.
    let trusted = if peer.hides_client { &[] } else { policy.trusted_proxies() };
    let sender = headers::client_address(headers, peer.address.ip(), trusted);
    exchange.client = sender.address;
    exchange.hides_client |= sender.is_hidden;
    let version = exchange.version.unwrap_or_default();
    let host = headers::check(headers, version, uri, sender.trusted_peer, policy.headers());
    let host = host.map_err(|error| malformed(error.detail()))?;
    exchange.host = host.name().into_owned();
    let host = host.to_header();
    if exchange.method == Some(Method::CONNECT) {
        return Err(malformed("CONNECT is not supported; use another method"));
    }
    if headers::is_loop(headers) {
        let detail = "the request has already passed this proxy: an upstream of the policy leads back to it";
        return Err(Refusal::new(Stage::Forward, Reason::UpstreamUnreachable, detail));
    }
    let trusted_peer = sender.trusted_peer;
    let scheme = scheme(headers, peer, trusted_peer);
    let left = max_forwards(exchange.method.as_ref(), headers)?;
    let forwards = left.and_then(|left| left.checked_sub(1));
    // RFC 9110 §9.3.7: `*` is about the server, and this is the server that the client knows.
    if exchange.method == Some(Method::OPTIONS) && uri.path() == "*" && uri.query().is_none() {
        let target = Cow::Borrowed("*");
        return Ok(RequestTarget {
            trusted_peer,
            host,
            scheme,
            target,
            forwards,
            ends_here: true,
            certificate: ClientCertificateSource::Connection,
            without_key: None,
        });
    }
    let target = normalised(uri, exchange, EncodedSlashes::of(policy.keeps_encoded_slashes()))?;
    let certificate = ClientCertificateSource::Connection;
    let ends_here = left == Some(0);
    Ok(RequestTarget { trusted_peer, host, scheme, target, forwards, ends_here, certificate, without_key: None })
}

/// Returns how often a request may be forwarded, where it limits that. `Max-Forwards` has a meaning with OPTIONS and TRACE
/// alone (RFC 9110 §7.6.2), and TRACE is never forwarded.
fn max_forwards(method: Option<&Method>, headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    if method != Some(&Method::OPTIONS) {
        return Ok(None);
    }
    let mut values = headers.get_all(MAX_FORWARDS).iter();
    let (first, second) = (values.next(), values.next());
    let Some(value) = first else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| second.is_none() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = text.and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| malformed("send Max-Forwards once, as a decimal number"))
}

/// Returns the scheme the client used, as received or as a trusted proxy reports it.
fn scheme(headers: &HeaderMap, peer: &Peer, trusted_peer: bool) -> &'static str {
    let forwarded = if trusted_peer { headers.get("x-forwarded-proto").map(HeaderValue::as_bytes) } else { None };
    match forwarded {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => peer.scheme(),
    }
}

/// Normalises the path once, so that the path that is matched is the path that is forwarded. Returns the target to
/// forward.
fn normalised<'a>(uri: &'a Uri, exchange: &mut Exchange, slashes: EncodedSlashes) -> Result<Cow<'a, str>, Refusal> {
    match path::normalise(uri.path(), slashes).map_err(|error| malformed(error.detail()))? {
        Cow::Borrowed(path) => {
            let target = uri.path_and_query().map_or(path, PathAndQuery::as_str);
            // RFC 9112 §3.2.1: an absolute-form target may have an empty path before its query; it means `/`.
            Ok(if target.starts_with('?') { Cow::Owned(format!("{path}{target}")) } else { Cow::Borrowed(target) })
        }
        Cow::Owned(path) => {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let target = format!("{path}{query}");
            exchange.path = (&*path).into();
            Ok(Cow::Owned(target))
        }
    }
}

/// Checks the head of an HTTP/2 request against the limits, by the measure of HTTP/1: each field as the line that it would
/// be there, and all cookies as one field, as they are forwarded (RFC 9113 §8.2.3).
pub(crate) fn check_size(head: &Parts, limits: Limits) -> Result<(), Refusal> {
    let Parts { method, uri, headers, .. } = head;
    let lines = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE_OVERHEAD);
    let authority = uri.authority().map(|host| host.as_str().len() + HOST.as_str().len() + LINE_OVERHEAD);
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let further_cookies = headers.get_all(COOKIE).iter().count().saturating_sub(1);
    let joined = further_cookies * (COOKIE.as_str().len() + LINE_OVERHEAD - COOKIE_SEPARATOR.len());
    let line = method.as_str().len() + target;
    let size = lines.sum::<usize>() + authority.unwrap_or(0) + line - joined;
    // `:authority` is the Host of HTTP/2.
    let count = headers.len() + usize::from(authority.is_some()) - further_cookies;
    let (reason, detail) = match () {
        () if line > limits.header_size => (Reason::TargetTooLong, "shorten the request target"),
        () if count > limits.headers => (Reason::HeadersTooLarge, "send fewer header fields"),
        () if size > limits.header_size => (Reason::HeadersTooLarge, "send smaller header fields"),
        () => return Ok(()),
    };
    Err(Refusal::new(Stage::Request, reason, detail))
}

/// Returns the refusal for a head with this error in its framing.
pub(crate) fn malformed_framing(error: FramingError) -> Refusal {
    Refusal::new(Stage::Request, error.reason(), error.detail())
}

/// Returns the refusal for a malformed request.
pub(crate) fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Request, Reason::MalformedRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cookies that came apart count as the one field that HTTP/1 has for them, in number and size.
    #[test]
    fn all_cookies_count_as_one_field() {
        // `GET` and `/` are 4 bytes, `host: a` is a line of 9, `cookie: c=1; c=1; …` one of 5 for each cookie, and 8 more.
        let size = |cookies: usize| 4 + 9 + if cookies == 0 { 0 } else { 5 * cookies + 8 };
        for (cookies, headers, header_size, fits) in [
            (0, 1, size(0), true),
            (1, 2, size(1), true),
            (100, 2, size(100), true),
            (1, 1, size(1), false),
            (100, 1, size(100), false),
            (1, 2, size(1) - 1, false),
            (100, 2, size(100) - 1, false),
        ] {
            let request =
                (0..cookies).fold(http::Request::get("http://a/"), |request, _| request.header(COOKIE, "c=1"));
            let (head, ()) = request.body(()).unwrap().into_parts();
            let limits = Limits { headers, header_size, connections: 0, per_client: 0, memory: 0 };
            assert_eq!(check_size(&head, limits).is_ok(), fits, "{cookies} {headers} {header_size}");
        }
    }
}
