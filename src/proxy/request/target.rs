//! What a request is for, by its head alone: who asks, which host, which path. Read once, before its route is found.
//!
//! Requests that are rehearsed come the same way, so nothing here knows of sockets.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use ipnet::IpNet;

use super::path;
use crate::exchange::{Exchange, Peer};
use crate::proxy::headers;
use crate::proxy::http1::reader::Flaw;
use crate::refusal::{Reason, Refusal, Stage};

/// What a head says, as far as it is believed.
pub(crate) struct RequestTarget<'a> {
    /// Whether the peer is one of the trusted proxies.
    pub(crate) trusted_peer: bool,
    /// The host it is for, with its port, as it came; absent when HTTP/1.0 named none.
    pub(crate) host: Option<HeaderValue>,
    /// `https` or `http`, as the client has it.
    pub(crate) scheme: &'static str,
    /// What to forward: the path in its normal form, and the query as it came.
    pub(crate) target: Cow<'a, str>,
}

impl RequestTarget<'_> {
    /// Host and port, as they came; empty when there were none.
    pub(crate) fn authority(&self) -> &str {
        self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default()
    }
}

/// Reads a head into its exchange, which keeps what was found when the rest is refused.
pub(crate) fn read<'a>(
    exchange: &mut Exchange,
    uri: &'a Uri,
    headers: &HeaderMap,
    peer: &Peer,
    trusted: &[IpNet],
) -> Result<RequestTarget<'a>, Refusal> {
    // The client's address is known first: it is in the record whatever is refused.
    let sender = headers::client_address(headers, peer.address.ip(), trusted);
    exchange.client = sender.address;
    let version = exchange.version.unwrap_or_default();
    let host = headers::check(headers, version, uri).map_err(|flaw| malformed(flaw.detail()))?;
    exchange.host = host.name().into_owned();
    let host = host.to_header();
    if matches!(exchange.method, Some(Method::CONNECT | Method::TRACE)) {
        return Err(malformed("CONNECT and TRACE are not taken here"));
    }
    let scheme = scheme(headers, peer, sender.trusted_peer);
    Ok(RequestTarget { trusted_peer: sender.trusted_peer, host, scheme, target: normalised(uri, exchange)? })
}

/// How the client reached us, or the trusted proxy in front of us.
fn scheme(headers: &HeaderMap, peer: &Peer, trusted_peer: bool) -> &'static str {
    let told = if trusted_peer { headers.get("x-forwarded-proto").map(HeaderValue::as_bytes) } else { None };
    match told {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => peer.scheme(),
    }
}

/// Normalises the path once: what is matched is what is forwarded. Returns the target to forward.
fn normalised<'a>(uri: &'a Uri, exchange: &mut Exchange) -> Result<Cow<'a, str>, Refusal> {
    match path::normalise(uri.path()).map_err(|flaw| malformed(flaw.detail()))? {
        Cow::Borrowed(path) => Ok(Cow::Borrowed(uri.path_and_query().map_or(path, PathAndQuery::as_str))),
        Cow::Owned(path) => {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let target = format!("{path}{query}");
            exchange.path = (&*path).into();
            Ok(Cow::Owned(target))
        }
    }
}

/// Refuses a head whose frame is flawed.
pub(crate) fn flawed(flaw: Flaw) -> Refusal {
    let reason = if flaw.too_large() { Reason::HeadersTooLarge } else { Reason::MalformedRequest };
    Refusal::new(Stage::Request, reason, flaw.detail())
}

/// Refuses a request that cannot be read.
pub(crate) fn malformed(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Request, Reason::MalformedRequest, detail)
}
