//! Which header fields cross the proxy and which do not; the name lists at the head of this file are the whole of it.
//!
//! The caller asks, in this order: [`client_address`] while the forwarded fields are still as they came, [`check`] before
//! anything else is believed, then, for the upstream, [`strip_request`], [`set_forwarded`], and what the chain found out
//! about the caller. So what `Connection` names is gone before anything of ours is set. Nothing here reads or judges a
//! credential or a body.

mod forwarded;
mod host;

pub(crate) use forwarded::{ForwardedFacts, client_address, set_forwarded};
pub(crate) use host::check;
use http::header::{CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, TE};

/// For one hop only (RFC 9110 §7.6.1), beside what `Connection` names. `te` has a rule of its own: `te: trailers` stays.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// What only we say to an upstream, whoever the peer is.
const OURS: &[&str] = &["x-credential-id", "x-request-id"];
const OURS_PREFIX: &str = "x-consumer-";

/// What only a trusted peer may say about the hops before it.
const FORWARDED: &[&str] = &["forwarded", "x-real-ip"];
const FORWARDED_PREFIXES: &[&str] = &["x-forwarded-", "x-original-", "client-cert"];

/// What tells callers which software runs behind us, and what we say ourselves to them.
const RESPONSE_ONLY_OURS: &[&str] = &[
    "server",
    "via",
    "x-aspnet-version",
    "x-aspnetmvc-version",
    "x-generator",
    "x-powered-by",
    "x-request-id",
    "x-runtime",
];
const RATE_LIMIT_PREFIX: &str = "ratelimit";

/// End-to-end fields that change what a message means. `Connection` must not name them (RFC 9110 §7.6.1): removing one
/// after it was looked at would let the upstream read another message than the one that was admitted.
const END_TO_END: &[&str] = &[
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "host",
    "set-cookie",
    "trailer",
    "www-authenticate",
];

/// What never passes as a trailer (RFC 9110 §6.5.1), beside everything in the lists above and names with an
/// underscore: framing, routing, authentication, request modifiers, content.
const NOT_TRAILERS: &[&str] = &[
    "age",
    "authentication-info",
    "expect",
    "expires",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "te",
    "vary",
    "warning",
    "x-api-key",
];
const NOT_TRAILERS_PREFIXES: &[&str] = &["if-", "content-", "accept"];

/// Removes what does not go upstream: hop-by-hop fields and what `Connection` names, `Expect` (hyper has answered it),
/// our own names, and, unless the peer is one of `trusted_proxies`, everything about earlier hops.
///
/// `Content-Length` and `Trailer` stay for hyper's client, and `te: trailers` stays for those who asked for trailers.
pub(crate) fn strip_request(headers: &mut HeaderMap, trusted_peer: bool) {
    remove_connection_options(headers);
    remove(headers, |name| {
        is_one_of(name, HOP_BY_HOP) || name == "expect" || is_ours(name) || (!trusted_peer && is_forwarded(name))
    });
    if let Some(te) = headers.get(TE) {
        let alone = te == "trailers";
        let several = headers.get_all(TE).iter().nth(1).is_some();
        if !alone || several {
            let trailers = headers.get_all(TE).iter().any(asks_for_trailers);
            if trailers {
                headers.insert(TE, HeaderValue::from_static("trailers"));
            } else {
                headers.remove(TE);
            }
        }
    }
}

/// HTTP/2 may send one cookie header a cookie; towards HTTP/1.1 they are one again (RFC 9113 §8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let (Some(first), Some(second)) = (cookies.next(), cookies.next()) else { return };
    let mut joined = first.to_vec();
    for cookie in std::iter::once(second).chain(cookies) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie);
    }
    // Values joined by visible characters are a value.
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// Removes what does not go back to the caller: hop-by-hop fields and what `Connection` names, what tells which
/// software runs behind, and what only we say (`RateLimit*`, `X-Request-Id`).
pub(crate) fn strip_response(headers: &mut HeaderMap) {
    remove_connection_options(headers);
    remove(headers, |name| {
        is_one_of(name, HOP_BY_HOP)
            || name == "te"
            || is_one_of(name, RESPONSE_ONLY_OURS)
            || name.starts_with(RATE_LIMIT_PREFIX)
    });
}

/// Removes from trailers, in either direction, what may only stand in a head (RFC 9110 §6.5.1): whoever merges trailers
/// into the head would otherwise believe it.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        is_one_of(name, HOP_BY_HOP)
            || is_one_of(name, END_TO_END)
            || is_one_of(name, RESPONSE_ONLY_OURS)
            || is_one_of(name, NOT_TRAILERS)
            || NOT_TRAILERS_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || name.starts_with(RATE_LIMIT_PREFIX)
            || is_ours(name)
            || is_forwarded(name)
            || name.contains('_')
    });
}

/// Removes every field whose name (lower case) is `unwanted`. Allocates only when there is one.
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes what `Connection` names, but never what the message's meaning rests on.
fn remove_connection_options(headers: &mut HeaderMap) {
    if !headers.contains_key(CONNECTION) {
        return;
    }
    let names: Vec<HeaderName> = connection_options(headers)
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        // `te` has a rule of its own, and goes by it.
        .filter(|name| name != TE && !is_protected(name.as_str()))
        .collect();
    for name in names {
        headers.remove(name);
    }
}

/// The options in all `Connection` fields, in any case.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// Whether `Connection` may not name this field. Forwarded fields are among them: those of an untrusted peer go anyway,
/// and those of a trusted one are not for its caller to remove.
fn is_protected(name: &str) -> bool {
    is_one_of(name, END_TO_END) || is_forwarded(name)
}

fn asks_for_trailers(te: &HeaderValue) -> bool {
    te.as_bytes().split(|&byte| byte == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn is_ours(name: &str) -> bool {
    is_one_of(name, OURS) || name.starts_with(OURS_PREFIX)
}

fn is_forwarded(name: &str) -> bool {
    is_one_of(name, FORWARDED) || FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.contains(&name)
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    pub(super) fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// What is left, as `name: value` lines in alphabetical order.
    pub(super) fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_goes_upstream() {
        for (trusted, fields, expected) in [
            (false, &[("host", "a"), ("accept", "*/*")][..], &["accept: */*", "host: a"][..]),
            (false, &[("connection", "keep-alive"), ("keep-alive", "5"), ("proxy-connection", "x")], &[]),
            (
                false,
                &[("connection", "close, X-Hop ,, x-two"), ("x-hop", "1"), ("x-two", "2"), ("x-three", "3")],
                &["x-three: 3"],
            ),
            (false, &[("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2")], &[]),
            (false, &[("connection", "x a, é, @"), ("x", "1")], &["x: 1"]),
            // Never by way of Connection: routing, framing, what was validated.
            (
                false,
                &[
                    ("connection", "Host, Content-Length, content-type, authorization"),
                    ("host", "a"),
                    ("content-length", "3"),
                    ("content-type", "t"),
                    ("authorization", "b"),
                ],
                &["authorization: b", "content-length: 3", "content-type: t", "host: a"],
            ),
            (true, &[("connection", "x-forwarded-for"), ("x-forwarded-for", "1.1.1.1")], &["x-forwarded-for: 1.1.1.1"]),
            (false, &[("upgrade", "h2c"), ("http2-settings", "x"), ("connection", "upgrade, http2-settings")], &[]),
            (
                false,
                &[("transfer-encoding", "chunked"), ("trailer", "x-sum"), ("content-length", "1")],
                &["content-length: 1", "trailer: x-sum"],
            ),
            (false, &[("proxy-authorization", "x"), ("proxy-authenticate", "x"), ("expect", "100-continue")], &[]),
            (false, &[("te", "trailers"), ("connection", "te")], &["te: trailers"]),
            (false, &[("te", "gzip, Trailers")], &["te: trailers"]),
            (false, &[("te", "trailers"), ("te", "deflate")], &["te: trailers"]),
            (false, &[("te", "gzip;q=0.5")], &[]),
            (false, &[("x-consumer-id", "root"), ("X-Consumer-Anything", "1"), ("x-credential-id", "k")], &[]),
            (true, &[("x-consumer-id", "root"), ("x-credential-id", "k"), ("x-request-id", "1")], &[]),
            (
                false,
                &[
                    ("forwarded", "for=1.1.1.1"),
                    ("x-forwarded-for", "1.1.1.1"),
                    ("x-forwarded-anything", "1"),
                    ("x-real-ip", "1.1.1.1"),
                    ("x-original-url", "/admin"),
                    ("client-cert", "x"),
                    ("client-cert-chain", "x"),
                ],
                &[],
            ),
            (
                true,
                &[("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "1.1.1.1"), ("client-cert", "x")],
                &["client-cert: x", "x-forwarded-for: 1.1.1.1", "x-real-ip: 1.1.1.1"],
            ),
            (
                false,
                &[("x-consumerism", "1"), ("x-forward", "2"), ("traceparent", "t"), ("via", "1.1 x")],
                &["traceparent: t", "via: 1.1 x", "x-consumerism: 1", "x-forward: 2"],
            ),
        ] {
            let mut headers = map(fields);
            strip_request(&mut headers, trusted);
            assert_eq!(lines(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_goes_back() {
        for (fields, expected) in [
            (
                &[("content-type", "t"), ("content-length", "3"), ("trailer", "x")][..],
                &["content-length: 3", "content-type: t", "trailer: x"][..],
            ),
            (&[("connection", "x-hop, content-type"), ("x-hop", "1"), ("content-type", "t")], &["content-type: t"]),
            (&[("transfer-encoding", "chunked"), ("keep-alive", "5"), ("upgrade", "h2"), ("te", "x")], &[]),
            (&[("server", "s"), ("x-powered-by", "p"), ("x-aspnet-version", "4"), ("x-aspnetmvc-version", "5")], &[]),
            (&[("x-generator", "g"), ("via", "1.1 v"), ("x-runtime", "0.1"), ("x-request-id", "1")], &[]),
            (
                &[("ratelimit", "r"), ("ratelimit-policy", "p"), ("ratelimit-limit", "1"), ("x-rate", "1")],
                &["x-rate: 1"],
            ),
            (
                &[("set-cookie", "a"), ("set-cookie", "b"), ("server-timing", "t")],
                &["server-timing: t", "set-cookie: a", "set-cookie: b"],
            ),
        ] {
            let mut headers = map(fields);
            strip_response(&mut headers);
            assert_eq!(lines(&headers), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_passes_as_a_trailer() {
        let refused = [
            "transfer-encoding",
            "content-length",
            "content-type",
            "content-encoding",
            "content-range",
            "trailer",
            "te",
            "connection",
            "upgrade",
            "keep-alive",
            "host",
            "forwarded",
            "x-forwarded-for",
            "x-real-ip",
            "via",
            "x-original-url",
            "client-cert",
            "authorization",
            "proxy-authorization",
            "www-authenticate",
            "cookie",
            "set-cookie",
            "x-api-key",
            "cache-control",
            "expect",
            "max-forwards",
            "range",
            "if-match",
            "x-consumer-id",
            "x-credential-id",
            "x-request-id",
            "ratelimit",
            "server",
            "accept-encoding",
            "a_b",
        ];
        let mut trailers = HeaderMap::new();
        for name in refused {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        for name in ["x-checksum", "grpc-status", "server-timing", "etag", "digest"] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(lines(&trailers), ["digest: 1", "etag: 1", "grpc-status: 1", "server-timing: 1", "x-checksum: 1"]);
    }
}
