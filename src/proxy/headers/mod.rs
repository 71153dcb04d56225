//! Which header fields cross the proxy and which do not; the name lists at the head of this file are the whole of it.
//!
//! [`client_address`] says who asks, [`check`] comes before anything else is believed. For the upstream, a request's fields
//! are written by [`UpstreamHeaders`] as they are, but for what the lists leave out, and what only we say is written behind them. Of an
//! answer, what [`crosses_back`] is kept. Nothing here reads or judges a credential or a body.

mod forwarded;
mod host;
mod names;
mod to_upstream;

pub(crate) use forwarded::client_address;
pub(crate) use host::check;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE};
use names::Names;
pub(crate) use to_upstream::UpstreamHeaders;

/// For one hop only (RFC 9110 §7.6.1), beside what `Connection` names. `te` has a rule of its own: `te: trailers` stays.
static HOP_BY_HOP: Names = Names::new(
    &[
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ],
    &[],
);

/// Fields that we set ourselves: the host, how the body is framed (RFC 9112 §6), what we accept for this hop
/// (RFC 9110 §10.1.4), the client's address; and `expect`, which has been answered.
static SET_ANEW: Names = Names::new(&["content-length", "expect", "host", "te", "x-forwarded-for"], &[]);

/// Fields that only we send to an upstream, whichever peer sent the request.
static OURS: Names = Names::new(&["x-credential-id", "x-request-id"], &["x-consumer-"]);

/// What only a trusted peer may say about the hops before it.
static FORWARDED: Names = Names::new(&["forwarded", "x-real-ip"], &["x-forwarded-", "x-original-", "client-cert"]);

/// What tells callers which software runs behind us, and what we say ourselves to them.
static RESPONSE_ONLY_OURS: Names = Names::new(
    &[
        "server",
        "via",
        "x-aspnet-version",
        "x-aspnetmvc-version",
        "x-generator",
        "x-powered-by",
        "x-request-id",
        "x-runtime",
    ],
    &["ratelimit"],
);

/// End-to-end fields that change what a message means. `Connection` must not name them (RFC 9110 §7.6.1): removing one
/// after it was looked at would let the upstream read another message than the one that was admitted.
static END_TO_END: Names = Names::new(
    &[
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
    ],
    &[],
);

/// What never passes as a trailer (RFC 9110 §6.5.1), beside everything in the lists above and names with an
/// underscore: framing, routing, authentication, request modifiers, content.
static NOT_TRAILERS: Names = Names::new(
    &[
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
    ],
    &["if-", "content-", "accept"],
);

/// Whether a field of a request goes upstream as it came. What has a rule of its own does not: what we say in its place,
/// what frames the body, and `te`.
fn crosses_onward(name: &str, trusted_peer: bool) -> bool {
    !(HOP_BY_HOP.has(name) || SET_ANEW.has(name) || OURS.has(name) || (!trusted_peer && FORWARDED.has(name)))
}

/// Whether a field of an answer goes back to the caller: not what is for one hop, what tells which software runs behind, or
/// what only we say (`RateLimit*`, `X-Request-Id`).
pub(crate) fn crosses_back(name: &str) -> bool {
    !(HOP_BY_HOP.has(name) || name == "te" || RESPONSE_ONLY_OURS.has(name))
}

/// Removes from trailers, in either direction, what may only stand in a head (RFC 9110 §6.5.1): a recipient that merges trailers
/// into the head would otherwise believe it.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        HOP_BY_HOP.has(name)
            || END_TO_END.has(name)
            || RESPONSE_ONLY_OURS.has(name)
            || NOT_TRAILERS.has(name)
            || OURS.has(name)
            || FORWARDED.has(name)
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

/// Removes what these values of `Connection` name, but never what the message's meaning rests on.
pub(crate) fn remove_named<'a>(headers: &mut HeaderMap, connection: impl Iterator<Item = &'a [u8]>) {
    for name in named(options(connection)) {
        headers.remove(name);
    }
}

/// The fields that these options of `Connection` name, and that may go with it.
fn named<'a>(options: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = HeaderName> {
    options
        .filter(|option| !option.eq_ignore_ascii_case(b"keep-alive") && !option.eq_ignore_ascii_case(b"close"))
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        // `te` has a rule of its own, and goes by it.
        .filter(|name| name != TE && !is_protected(name.as_str()))
}

/// The options in all `Connection` fields, in any case.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    options(headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes))
}

fn options<'a>(connection: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    connection
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|option| !option.is_empty())
}

/// Writes a field with its line's end.
pub(crate) fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether `Connection` may not name this field. Forwarded fields are among them: those of an untrusted peer go anyway,
/// and those of a trusted one are not for its caller to remove.
fn is_protected(name: &str) -> bool {
    END_TO_END.has(name) || FORWARDED.has(name)
}

/// Whether this value of `TE` does (RFC 9110 §10.1.4).
pub(crate) fn asks_for_trailers(te: &[u8]) -> bool {
    te.split(|&byte| byte == b',').any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
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
            let all = headers.clone();
            remove(&mut headers, |name| !crosses_back(name));
            remove_named(&mut headers, all.get_all(CONNECTION).iter().map(HeaderValue::as_bytes));
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
