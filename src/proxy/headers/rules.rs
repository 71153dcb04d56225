//! Which fields of responses and which trailers are forwarded. The lists of names here are complete; those of requests are the policy's.

use http::header::{HeaderMap, HeaderName};

use crate::policy::request_fields::names::{AnyOf, Names};
use crate::policy::request_fields::{FORWARDED, HOP_BY_HOP, is_ambiguous, is_ours, is_said_by_proxies};

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
        "dpop",
        "host",
        "set-cookie",
        "trailer",
        "www-authenticate",
    ],
    &[],
);

/// Fields that are not allowed as trailers (RFC 9110 §6.5.1), in addition to the lists above and to names with an
/// underscore or a dot: framing, routing, authentication, request modifiers, content.
static NOT_TRAILERS: Names = Names::new(
    &[
        "a-im",
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

static RESPONSE: AnyOf = AnyOf::new(&[&HOP_BY_HOP, &RESPONSE_PROXY_ONLY]);

/// Whether a response field is forwarded to the client. Hop-by-hop fields are not, nor those that reveal the upstream's
/// software or that only the proxy may send (`RateLimit*`, `X-Request-Id`).
pub(crate) fn is_forwarded_downstream(name: &str) -> bool {
    name != "te" && !(RESPONSE.may_have(name) && (HOP_BY_HOP.has(name) || RESPONSE_PROXY_ONLY.has(name)))
}

/// Removes the fields that are allowed only in a head from trailers, in either direction (RFC 9110 §6.5.1): a recipient
/// that merges trailers into the head would otherwise trust them.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| {
        is_ours(name)
            || is_said_by_proxies(name, false)
            || is_ambiguous(name)
            || END_TO_END.has(name)
            || RESPONSE_PROXY_ONLY.has(name)
            || NOT_TRAILERS.has(name)
    });
}

/// Removes the fields from the trailers of a gRPC response that are not forwarded in its head either, or frame a message. Its clients know trailers
/// from heads, and give both to the program as metadata, whose names may have underscores and dots.
pub(crate) fn strip_grpc_trailers(trailers: &mut HeaderMap) {
    remove(trailers, |name| is_ours(name) || !is_forwarded_downstream(name));
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
