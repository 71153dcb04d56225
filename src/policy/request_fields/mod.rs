//! Fields of requests that are not a client's to send: lists of names, which are complete. The proxy drops or refuses them, and a policy
//! cannot compare what callers say in them.

pub(crate) mod names;

use self::names::{AnyOf, Names};

/// Hop-by-hop fields (RFC 9110 §7.6.1), in addition to those that `Connection` names. `te` has its own rule: `te:
/// trailers` is forwarded.
pub(crate) static HOP_BY_HOP: Names = Names::new(
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
static PROXY_ONLY: Names = Names::new(&["x-request-id"], &["x-consumer-", "x-credential-"]);

/// Fields about earlier hops, accepted only from a trusted peer: the client's address, host, scheme and path as a proxy
/// or a content delivery network reports them.
pub(crate) static FORWARDED: Names = Names::new(
    &[
        "ali-cdn-real-ip",
        "cdn-src-ip",
        "client-ip",
        "do-connecting-ip",
        "fly-client-ip",
        "front-end-https",
        "incap-client-ip",
        "path-info",
        "proxy-client-ip",
        "remote-addr",
        "remote-host",
        "script-name",
        "true-client-ip",
        "wl-proxy-client-ip",
        "x-appengine-user-ip",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-coming-from",
        "x-host",
        "x-original-forwarded-for",
        "x-originating-ip",
        "x-proxyuser-ip",
        "x-real-ip",
        "x-real-port",
        "x-remote-addr",
        "x-remote-ip",
        "x-scheme",
        "x-script-name",
        "x-sucuri-clientip",
        "x-url-scheme",
    ],
    &[
        "cf-connecting-ip",
        "cf-pseudo-ipv4",
        "cloudfront-viewer-",
        "fastly-client-",
        "fastly-ssl",
        "forwarded",
        "x-envoy-",
        "x-forwarded",
        "x-vercel-",
    ],
);

/// Fields in which a proxy says who the caller is, or that a server obeys because only its own proxy sends them. Bartizan
/// decides who the caller is, so they are never the client's, nor those of a trusted peer, which may have passed them on.
static VOUCHING: Names = Names::new(
    &[
        "proxy",
        "remote-email",
        "remote-group",
        "remote-groups",
        "remote-name",
        "x-accel-mapping",
        "x-anonymous-consumer",
        "x-apigateway-api-userinfo",
        "x-endpoint-api-userinfo",
        "x-middleware-subrequest",
        "x-sendfile-type",
    ],
    &[
        "cf-access-",
        "client-cert",
        "remote-user",
        "ssl-client-",
        "tailscale-user-",
        "x-amzn-mtls-",
        "x-amzn-oidc-",
        "x-arr-",
        "x-auth-request-",
        "x-authenticated-",
        "x-authentik-",
        "x-client-cert",
        "x-goog-authenticated-user-",
        "x-goog-iap-",
        "x-ms-client-principal",
        "x-ms-token-",
        "x-pomerium-",
        "x-remote-extra-",
        "x-remote-group",
        "x-remote-user",
        "x-ssl-",
        "x-tls-client-",
        "x-vouch-",
        "x-webauth-",
    ],
);

/// Fields that tell an upstream to take another method for the one that was authorized. Refused, not dropped: the client
/// means a different request.
static METHOD_OVERRIDES: Names = Names::new(&["x-method-override"], &["x-http-method"]);

/// Fields that tell an upstream to take another path or host. A trusted peer reports with them what it has rewritten; its
/// own are dropped.
static TARGET_OVERRIDES: Names = Names::new(
    &[
        "x-host-override",
        "x-http-host-override",
        "x-override-uri",
        "x-override-url",
        "x-path-override",
        "x-request-uri",
        "x-rewrite-uri",
        "x-rewrite-url",
        "x-url-override",
    ],
    &["x-original-"],
);

/// Everything that a request field may be in for which it is not forwarded.
static REQUEST: AnyOf =
    AnyOf::new(&[&HOP_BY_HOP, &REPLACED, &PROXY_ONLY, &FORWARDED, &VOUCHING, &METHOD_OVERRIDES, &TARGET_OVERRIDES]);
static OVERRIDES: AnyOf = AnyOf::new(&[&METHOD_OVERRIDES, &TARGET_OVERRIDES]);

/// Whether a request field may be in one of the lists: most are in none, and need no other question.
pub(crate) fn may_be_listed(name: &str) -> bool {
    REQUEST.may_have(name)
}

/// Whether a request field is never the client's to send, whatever an API keeps: hop-by-hop fields, those that the proxy
/// replaces, and those that only it may send.
pub(crate) fn is_ours(name: &str) -> bool {
    HOP_BY_HOP.has(name) || REPLACED.has(name) || PROXY_ONLY.has(name)
}

/// Whether a request field is dropped unless the API keeps it, because only a proxy may say it.
pub(crate) fn is_said_by_proxies(name: &str, trusted_peer: bool) -> bool {
    VOUCHING.has(name) || is_override(name, true) || (!trusted_peer && FORWARDED.has(name))
}

/// Whether a request with this field is refused, because an upstream may obey it and act on a request that nobody
/// authorized. `targets`: also those with another path or host.
pub(crate) fn is_override(name: &str, targets: bool) -> bool {
    OVERRIDES.may_have(name)
        && (METHOD_OVERRIDES.has(name) || (targets && TARGET_OVERRIDES.has(name) && !FORWARDED.has(name)))
}

/// Whether servers read this name and another one as the same: CGI, PHP and others make one character of `-`, `_` and `.`.
pub(crate) fn is_ambiguous(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'_' | b'.'))
}
