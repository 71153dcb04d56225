//! Which header fields and trailers are forwarded. The lists of names here are complete.

use http::header::{HeaderMap, HeaderName};

use super::names::Names;

/// Hop-by-hop fields (RFC 9110 §7.6.1), in addition to those that `Connection` names. `te` has its own rule: `te:
/// trailers` is forwarded.
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

/// Fields that the proxy sets itself: the host, the framing of the body (RFC 9112 §6), what it accepts on this hop (RFC
/// 9110 §10.1.4), the client's address; and `expect`, which it has already answered.
static REPLACED: Names = Names::new(&["content-length", "expect", "host", "te", "x-forwarded-for"], &[]);

/// Fields that only the proxy may send to an upstream, even if the peer is trusted.
static PROXY_ONLY: Names = Names::new(&["x-credential-id", "x-request-id"], &["x-consumer-"]);

/// Fields about earlier hops, accepted only from a trusted peer.
static FORWARDED: Names = Names::new(&["forwarded", "x-real-ip"], &["x-forwarded-", "x-original-", "client-cert"]);

/// Response fields that are not forwarded: they reveal the upstream's software, or only the proxy may send them.
static RESPONSE_PROXY_ONLY: Names = Names::new(
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

/// End-to-end fields that change the meaning of a message. `Connection` must not name them (RFC 9110 §7.6.1): removing
/// one after it was checked would make the upstream read a different message from the one that was admitted.
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

/// Fields that are not allowed as trailers (RFC 9110 §6.5.1), in addition to the lists above and to names with an
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

/// Whether a request field is forwarded unchanged. Fields with their own rule are not: those that the proxy replaces,
/// those that frame the body, and `te`.
pub(super) fn is_forwarded_upstream(name: &str, trusted_peer: bool) -> bool {
    !(HOP_BY_HOP.has(name) || REPLACED.has(name) || PROXY_ONLY.has(name) || (!trusted_peer && FORWARDED.has(name)))
}

/// Whether a response field is forwarded to the client. Hop-by-hop fields are not, nor those that reveal the upstream's
/// software or that only the proxy may send (`RateLimit*`, `X-Request-Id`).
pub(crate) fn is_forwarded_downstream(name: &str) -> bool {
    !(HOP_BY_HOP.has(name) || name == "te" || RESPONSE_PROXY_ONLY.has(name))
}

/// Removes the fields that are allowed only in a head from trailers, in either direction (RFC 9110 §6.5.1): a recipient
/// that merges trailers into the head would otherwise trust them.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        HOP_BY_HOP.has(name)
            || END_TO_END.has(name)
            || RESPONSE_PROXY_ONLY.has(name)
            || NOT_TRAILERS.has(name)
            || PROXY_ONLY.has(name)
            || FORWARDED.has(name)
            || name.contains('_')
    });
}

/// Removes every field whose lower-case name is `unwanted`. Allocates only if there is one.
pub(super) fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether `Connection` must not name this field. Forwarded fields are included: those of an untrusted peer are removed
/// anyway, and those of a trusted peer must not be removable by its client.
pub(super) fn is_protected(name: &str) -> bool {
    END_TO_END.has(name) || FORWARDED.has(name)
}
