//! The header fields of a request to an upstream: the client's, except those that are not forwarded, then those that
//! the proxy adds. They are written directly to the output buffer of HTTP/1.1, without a map in between, or to the map that HTTP/2
//! encodes.

use std::borrow::Cow;
use std::collections::HashSet;

use http::Version;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, TE, TRAILER, UPGRADE, VIA,
};

use super::field_writer::FieldWriter;
use super::hop_by_hop::{accepts_trailers, connection_options, named};
use super::via;
use crate::exchange::{TRACEPARENT, TRACEPARENT_LENGTH};
use crate::policy::header_changes::HeaderChanges;
use crate::policy::header_rules::HeaderRules;
use crate::policy::request_fields::{is_ambiguous, is_ours, is_said_by_proxies, may_be_listed};
use crate::refusal::X_REQUEST_ID;
use crate::stages::auth::Caller;
use crate::stages::auth::locations::CredentialLocations;
use crate::stages::auth::pairs::without_cookies;
use crate::stages::schema::response::{Requirement, is_decoded};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_CONSUMER_ID: HeaderName = HeaderName::from_static("x-consumer-id");
const X_CONSUMER_SCOPES: HeaderName = HeaderName::from_static("x-consumer-scopes");
const X_CONSUMER_USER: HeaderName = HeaderName::from_static("x-consumer-user");
const X_CONSUMER_PLAN: HeaderName = HeaderName::from_static("x-consumer-plan");
const X_CREDENTIAL_ID: HeaderName = HeaderName::from_static("x-credential-id");
/// Asks for the difference to an earlier response (RFC 3229 §10.5.3).
const A_IM: HeaderName = HeaderName::from_static("a-im");

/// What vendors add to a trace (W3C Trace Context §3.3).
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The fields of W3C Trace Context, in place of the caller's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamTrace {
    /// The new `traceparent`.
    pub(crate) traceparent: [u8; TRACEPARENT_LENGTH],
    /// Whether `tracestate` is forwarded as it came.
    pub(crate) keeps_tracestate: bool,
}

/// The fields that the proxy adds to a request, and what determines which of the client's are forwarded.
#[derive(Clone, Copy)]
pub(crate) struct UpstreamHeaders<'a> {
    /// Whether the peer is a trusted proxy: its fields about earlier hops are kept.
    pub(crate) trusted_peer: bool,
    /// The canonical address of the TCP peer.
    pub(crate) peer: &'a str,
    /// `http` or `https`, as the proxy received the request.
    pub(crate) scheme: &'static str,
    /// Host and port, as received; absent when an HTTP/1.0 request named none.
    pub(crate) host: Option<&'a HeaderValue>,
    /// The version of the received request, for Via.
    pub(crate) version: Version,
    pub(crate) request_id: &'a str,
    /// Where credentials are, which are not forwarded; absent when they are.
    pub(crate) credentials: Option<&'a CredentialLocations>,
    pub(crate) caller: Option<&'a Caller>,
    /// What the policy drops of callers' fields.
    pub(crate) rules: &'a HeaderRules,
    /// Fields that the API keeps although they would be dropped.
    pub(crate) keep: &'a [HeaderName],
    /// What the API sets and removes.
    pub(crate) changes: &'a HeaderChanges,
    /// What the response must be: the client must not ask for one that cannot be checked.
    pub(crate) contract: Option<&'a Requirement>,
    /// Whether its method only reads (RFC 9110 §9.2.1).
    pub(crate) is_safe: bool,
    /// Absent: the proxy takes no part in traces, and forwards what callers say of theirs.
    pub(crate) trace: Option<UpstreamTrace>,
    /// Whether trailers may follow the body. A body of known length is sent without any, so none may be announced (RFC 9110
    /// §6.6.2).
    pub(crate) announces_trailers: bool,
    /// Whether it asks for a WebSocket (RFC 6455 §4.1).
    pub(crate) switches: bool,
}

/// Whether a field makes a request conditional (RFC 9110 §13.1), but for `If-Range`.
fn is_precondition(name: &HeaderName) -> bool {
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE].contains(name)
}

impl UpstreamHeaders<'_> {
    /// Writes the fields for a server with this authority, except those that frame the body.
    pub(crate) fn write<W: FieldWriter>(&self, out: &mut W, authority: &HeaderValue, headers: &HeaderMap) {
        out.host(authority);
        // Callers may name thousands. One that names none, as most, costs nothing.
        let named: HashSet<HeaderName> = named(connection_options(headers)).collect();
        let mut trailers = false;
        let mut cookies = Cookies::new(self.version, self.credentials);
        let whole = self.contract.is_some_and(|contract| !contract.takes_ranges());
        let unconditional = self.is_safe && self.hides();
        let mut codings = self.contract.is_some_and(Requirement::is_checked).then(Codings::default);
        for (name, value) in headers {
            if name == TE {
                trailers |= accepts_trailers(value.as_bytes());
            } else if name == TRAILER && !self.announces_trailers {
                // It announces what is not sent.
            } else if whole && (name == RANGE || name == IF_RANGE || *name == A_IM) {
                // A server may ignore them (RFC 9110 §14.2), and a part of a response cannot be checked.
            } else if unconditional && is_precondition(name) {
                // 304 and 412 would tell whether the caller has guessed the ETag of what it does not see, or when that changed.
                // To write, a caller may have been given an ETag by others, and a guess changes something.
            } else if !self.is_credential(name)
                && !self.is_replaced(name)
                && self.is_forwarded(name)
                && (named.is_empty() || !named.contains(name))
                && !self.changes.drops(name.as_str())
            {
                match &mut codings {
                    Some(codings) if name == ACCEPT_ENCODING => codings.write(out, value),
                    _ if name == COOKIE && cookies.are_joined => cookies.add(value),
                    _ => out.field(name, value),
                }
            }
        }
        if let Some(codings) = codings {
            codings.end(out);
        }
        if !cookies.value.is_empty() {
            out.line(COOKIE, &cookies.value);
        }
        if self.switches {
            out.option(CONNECTION, b"upgrade");
            out.option(UPGRADE, b"websocket");
        } else if trailers {
            // RFC 9110 §10.1.4: TE concerns only the next hop, so Connection names it.
            out.line(TE, b"trailers");
            out.option(CONNECTION, b"te");
        }
        if let Some(trace) = &self.trace {
            out.line(TRACEPARENT, &trace.traceparent);
        }
        for (name, value) in self.changes.set() {
            out.field(name, value);
        }
        self.write_forwarding(out, headers);
        self.write_identity(out);
    }

    /// Whether something of the response is hidden from the caller.
    fn hides(&self) -> bool {
        let mask = self.contract.and_then(Requirement::mask);
        mask.is_some_and(|mask| mask.hides(|scope| self.caller.is_some_and(|caller| caller.has(scope))))
    }

    /// Whether a field of the client is forwarded unchanged.
    fn is_forwarded(&self, name: &HeaderName) -> bool {
        if name == HOST || name == CONTENT_LENGTH {
            return false;
        }
        let text = name.as_str();
        if self.rules.claims(text) {
            return false;
        }
        if !is_ambiguous(text) && !may_be_listed(text) {
            return !self.rules.drops(text) || self.keep.contains(name);
        }
        let plain;
        let read = if is_ambiguous(text) {
            // Only names that the policy has get here. A server may read this one as another name.
            plain = text.replace(['_', '.'], "-");
            &plain
        } else {
            text
        };
        if is_ours(read) {
            return false;
        }
        let dropped = is_said_by_proxies(read, self.trusted_peer) || self.rules.drops(read) || self.rules.drops(text);
        !dropped || self.keep.contains(name)
    }

    fn is_credential(&self, name: &HeaderName) -> bool {
        self.credentials.is_some_and(|credentials| credentials.has_header(name))
    }

    fn is_replaced(&self, name: &HeaderName) -> bool {
        self.trace.is_some_and(|trace| name == TRACEPARENT || (!trace.keeps_tracestate && name == TRACESTATE))
    }

    /// Appends to X-Forwarded-For and Via. X-Forwarded-Proto and -Host describe the first hop, so a trusted peer's are
    /// kept.
    fn write_forwarding<W: FieldWriter>(&self, out: &mut W, headers: &HeaderMap) {
        let kept = |name: &HeaderName| self.trusted_peer && headers.contains_key(name);
        out.joined(X_FORWARDED_FOR, |value| {
            if self.trusted_peer {
                // On one line, because many upstreams read only one.
                for line in headers.get_all(X_FORWARDED_FOR) {
                    value.extend_from_slice(line.as_bytes());
                    value.extend_from_slice(b", ");
                }
            }
            value.extend_from_slice(self.peer.as_bytes());
        });
        if !kept(&X_FORWARDED_PROTO) {
            out.line(X_FORWARDED_PROTO, self.scheme.as_bytes());
        }
        if let Some(host) = self.host
            && !kept(&X_FORWARDED_HOST)
        {
            out.field(&X_FORWARDED_HOST, host);
        }
        out.joined(VIA, |value| via::write(value, self.version));
        out.line(X_REQUEST_ID, self.request_id.as_bytes());
    }

    fn write_identity<W: FieldWriter>(&self, out: &mut W) {
        if let Some(identity) = self.caller.map(Caller::identity_headers) {
            let optional = [
                (X_CONSUMER_USER, &identity.user),
                (X_CONSUMER_PLAN, &identity.plan),
                (X_CREDENTIAL_ID, &identity.credential),
            ];
            out.field(&X_CONSUMER_ID, &identity.consumer);
            out.field(&X_CONSUMER_SCOPES, &identity.scopes);
            for (name, value) in optional {
                if let Some(value) = value {
                    out.field(&name, value);
                }
            }
            for (name, value) in &*identity.claims {
                out.field(name, value);
            }
        }
    }
}

/// Puts cookies together in one field, without those that carry a credential.
struct Cookies<'a> {
    /// Whether they cannot be forwarded field by field.
    are_joined: bool,
    /// Those that are not forwarded.
    credentials: Vec<&'a str>,
    value: Vec<u8>,
}

impl<'a> Cookies<'a> {
    fn new(version: Version, credentials: Option<&'a CredentialLocations>) -> Self {
        let credentials: Vec<&str> = credentials.into_iter().flat_map(CredentialLocations::cookies).collect();
        // HTTP/2 may send each cookie in its own field; HTTP/1.1 needs a single one (RFC 9113 §8.2.3).
        Self { are_joined: version == Version::HTTP_2 || !credentials.is_empty(), credentials, value: Vec::new() }
    }

    fn add(&mut self, field: &HeaderValue) {
        let others = match self.credentials.is_empty() {
            true => Cow::Borrowed(field.as_bytes()),
            false => without_cookies(field.as_bytes(), &self.credentials),
        };
        if !others.is_empty() {
            self.value.extend_from_slice(if self.value.is_empty() { b"" } else { b"; " });
            self.value.extend_from_slice(&others);
        }
    }
}

/// Writes the content codings that the client accepts, without those that responses cannot be decoded from.
#[derive(Default)]
struct Codings {
    accepted: bool,
    written: bool,
}

impl Codings {
    fn write<W: FieldWriter>(&mut self, out: &mut W, value: &HeaderValue) {
        self.accepted = true;
        self.written |= out.joined(ACCEPT_ENCODING, |out| Self::write_decoded(out, value));
    }

    fn write_decoded(out: &mut Vec<u8>, value: &HeaderValue) {
        let empty = out.len();
        for written in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let mut parts = written.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let coding = parts.next().and_then(|coding| std::str::from_utf8(coding).ok()).unwrap_or_default();
            // `*` accepts any coding, unless its weight is 0.
            let mut none = || parts.any(|part| matches!(part, b"q=0" | b"q=0." | b"q=0.0" | b"q=0.00" | b"q=0.000"));
            if is_decoded(coding) || (coding == "*" && none()) {
                out.extend_from_slice(if out.len() == empty { b"" } else { b", " });
                out.extend_from_slice(written);
            }
        }
    }

    /// Without the field, a server might choose any coding (RFC 9110 §12.5.3).
    fn end<W: FieldWriter>(&self, out: &mut W) {
        if self.accepted && !self.written {
            out.line(ACCEPT_ENCODING, b"identity");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::{Arc, OnceLock};

    use super::super::tests::map;
    use super::*;
    use crate::proxy::http1::fields::write_line;
    use crate::stages::auth::locations::{KeyLocation, TokenLocation};
    use crate::stages::mask::{Mask, Replacement, Rule};
    use crate::stages::schema::content::{Content, Contents};
    use crate::stages::schema::json::JsonSchema;
    use crate::stages::schema::media_type::MediaRange;
    use crate::stages::schema::response::Statuses;

    const ALWAYS: [&str; 6] = [
        "host: upstream:81",
        "via: 1.1 bartizan",
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-host: a.example:81",
        "x-forwarded-proto: http",
        "x-request-id: id",
    ];

    fn added() -> UpstreamHeaders<'static> {
        static NO_CHANGES: OnceLock<HeaderChanges> = OnceLock::new();
        static HOST: HeaderValue = HeaderValue::from_static("a.example:81");
        static LOCATIONS: OnceLock<CredentialLocations> = OnceLock::new();
        static RULES: OnceLock<HeaderRules> = OnceLock::new();
        UpstreamHeaders {
            trusted_peer: false,
            peer: "10.0.0.1",
            scheme: "http",
            host: Some(&HOST),
            version: Version::HTTP_11,
            request_id: "id",
            credentials: Some(LOCATIONS.get_or_init(|| locations(&[TokenLocation::Authorization]))),
            caller: None,
            rules: RULES.get_or_init(|| HeaderRules::new(&["x-internal-*".to_owned()], HashSet::new())),
            keep: &[],
            changes: NO_CHANGES.get_or_init(HeaderChanges::default),
            contract: None,
            is_safe: true,
            trace: None,
            switches: false,
            announces_trailers: true,
        }
    }

    fn locations(tokens: &[TokenLocation]) -> CredentialLocations {
        let key = Some(KeyLocation::Header(HeaderName::from_static("x-api-key")));
        CredentialLocations { tokens: tokens.into(), key, ..CredentialLocations::none() }
    }

    /// The lines; the pseudonym of this process is shortened to `bartizan`.
    fn lines(out: Vec<u8>) -> Vec<String> {
        let text = String::from_utf8(out).unwrap();
        let short = |line: &str| match line.split_once("bartizan-") {
            Some((start, _)) if start.starts_with("via: ") => format!("{start}bartizan"),
            _ => line.to_owned(),
        };
        text.split_terminator("\r\n").map(short).collect()
    }

    /// Returns the lines that are written, in alphabetical order, without those of `ALWAYS`. Over HTTP/2, the fields are the same,
    /// without the host and those about the connection (RFC 9113 §8.2.2, §8.3.1).
    fn written(fields: &[(&str, &str)], added: &UpstreamHeaders<'_>) -> Vec<String> {
        let (mut out, mut http2, authority) = (Vec::new(), HeaderMap::new(), HeaderValue::from_static("upstream:81"));
        added.write(&mut out, &authority, &map(fields));
        added.write(&mut http2, &authority, &map(fields));
        let mut lines = lines(out);
        let mut of_http2 = Vec::new();
        for (name, value) in &http2 {
            write_line(&mut of_http2, name.as_str(), value.as_bytes());
        }
        let (mut of_http2, mut of_http1) = (self::lines(of_http2), lines.clone());
        of_http1.retain(|line| !["host: ", "connection: ", "upgrade: "].iter().any(|start| line.starts_with(start)));
        of_http1.sort();
        of_http2.sort();
        assert_eq!(of_http2, of_http1);
        lines.retain(|line| !ALWAYS.contains(&line.as_str()));
        lines.sort();
        lines
    }

    #[test]
    fn which_request_fields_are_forwarded() {
        for (trusted, fields, expected) in [
            (false, &[("host", "a"), ("accept", "*/*")][..], &["accept: */*"][..]),
            (false, &[("connection", "keep-alive"), ("keep-alive", "5"), ("proxy-connection", "x")], &[]),
            (
                false,
                &[("connection", "close, X-Hop ,, x-two"), ("x-hop", "1"), ("x-two", "2"), ("x-three", "3")],
                &["x-three: 3"],
            ),
            (false, &[("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2")], &[]),
            (false, &[("connection", "x a, é, @"), ("x", "1")], &["x: 1"]),
            // Connection cannot remove these: routing, framing, what was validated.
            (
                false,
                &[
                    ("connection", "Host, Content-Length, content-type, cookie"),
                    ("host", "a"),
                    ("content-length", "3"),
                    ("content-type", "t"),
                    ("cookie", "b"),
                ],
                &["content-type: t", "cookie: b"],
            ),
            (
                true,
                &[("connection", "x-forwarded-for"), ("x-forwarded-for", "1.1.1.1")],
                &["x-forwarded-for: 1.1.1.1, 10.0.0.1"],
            ),
            (false, &[("upgrade", "h2c"), ("http2-settings", "x"), ("connection", "upgrade, http2-settings")], &[]),
            (
                false,
                &[("transfer-encoding", "chunked"), ("trailer", "x-sum"), ("content-length", "1")],
                &["trailer: x-sum"],
            ),
            (false, &[("proxy-authorization", "x"), ("proxy-authenticate", "x"), ("expect", "100-continue")], &[]),
            (false, &[("te", "trailers"), ("connection", "te")], &["connection: te", "te: trailers"]),
            (false, &[("te", "gzip, Trailers")], &["connection: te", "te: trailers"]),
            (false, &[("te", "trailers"), ("te", "deflate")], &["connection: te", "te: trailers"]),
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
                &["x-forwarded-for: 1.1.1.1, 10.0.0.1", "x-real-ip: 1.1.1.1"],
            ),
            (
                false,
                &[("x-consumerism", "1"), ("x-forward", "2"), ("traceparent", "t"), ("via", "1.1 x")],
                &["traceparent: t", "via: 1.1 x", "x-consumerism: 1", "x-forward: 2"],
            ),
        ] {
            assert_eq!(written(fields, &UpstreamHeaders { trusted_peer: trusted, ..added() }), expected, "{fields:?}");
        }
    }

    #[test]
    fn fields_that_the_proxy_adds() {
        let mut out = Vec::new();
        added().write(&mut out, &HeaderValue::from_static("upstream:81"), &map(&[]));
        assert_eq!(lines(out).iter().filter(|line| ALWAYS.contains(&line.as_str())).count(), ALWAYS.len());

        let old =
            UpstreamHeaders { peer: "2001:db8::1", scheme: "https", host: None, version: Version::HTTP_10, ..added() };
        assert_eq!(
            written(&[], &old),
            ["via: 1.0 bartizan", "x-forwarded-for: 2001:db8::1", "x-forwarded-proto: https"]
        );

        let fields = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "10.0.0.2, 10.0.0.3"),
            ("x-forwarded-host", "first.example"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "theirs"),
            ("via", "1.1 edge"),
        ];
        assert_eq!(
            written(&fields, &UpstreamHeaders { trusted_peer: true, version: Version::HTTP_2, ..added() }),
            [
                "via: 1.1 edge",
                "via: 2 bartizan",
                "x-forwarded-for: 1.1.1.1, 10.0.0.2, 10.0.0.3, 10.0.0.1",
                "x-forwarded-host: first.example",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn the_callers_trace_is_replaced_where_the_proxy_takes_part_in_it() {
        let sent =
            [("traceparent", "t"), ("traceparent", "u"), ("tracestate", "a=1"), ("tracestate", "b=2"), ("x", "1")];
        let trace = |keeps_tracestate| UpstreamTrace { traceparent: [b'0'; TRACEPARENT_LENGTH], keeps_tracestate };
        let ours = format!("traceparent: {}", "0".repeat(TRACEPARENT_LENGTH));
        let ours = ours.as_str();
        for (trace, expected) in [
            (None, &["traceparent: t", "traceparent: u", "tracestate: a=1", "tracestate: b=2", "x: 1"][..]),
            (Some(trace(true)), &[ours, "tracestate: a=1", "tracestate: b=2", "x: 1"]),
            (Some(trace(false)), &[ours, "x: 1"]),
        ] {
            assert_eq!(written(&sent, &UpstreamHeaders { trace, ..added() }), expected);
        }
        let named = [("connection", "traceparent, tracestate"), ("traceparent", "t"), ("tracestate", "a=1")];
        assert_eq!(written(&named, &UpstreamHeaders { trace: Some(trace(true)), ..added() }), [ours]);
    }

    /// S4: what only a proxy may say is dropped, unless the API keeps it by name.
    #[test]
    fn what_only_a_proxy_may_say_is_dropped_unless_the_api_keeps_it() {
        let from_strangers = [
            "x-real-ip",
            "true-client-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "fastly-client-ip",
            "x-envoy-external-address",
            "x-forwarded",
            "x-forwarded-user",
            "forwarded-for",
            "x-original-forwarded-for",
            "x-scheme",
            "x-host",
        ];
        let from_anybody = [
            "proxy",
            "x-ssl-client-verify",
            "ssl-client-cert",
            "x-client-cert",
            "client-cert",
            "client-cert-chain",
            "x-arr-clientcert",
            "remote-user",
            "x-remote-user",
            "x-remote-group",
            "x-auth-request-email",
            "x-webauth-user",
            "x-ms-client-principal-id",
            "x-amzn-oidc-data",
            "x-goog-authenticated-user-email",
            "x-goog-iap-jwt-assertion",
            "cf-access-jwt-assertion",
            "x-authenticated-userid",
            "x-http-method-override",
            "x-rewrite-url",
            "x-original-uri",
            "x-internal-role",
        ];
        for (names, trusted_too) in [(&from_strangers[..], false), (&from_anybody[..], true)] {
            for name in names {
                let kept = [HeaderName::from_static(name)];
                for (trusted_peer, keep, forwarded) in [
                    (false, &[][..], false),
                    (true, &[], !trusted_too),
                    (false, &kept[..], true),
                    (true, &kept[..], true),
                ] {
                    let headers = UpstreamHeaders { trusted_peer, keep, ..added() };
                    let there = written(&[(name, "1")], &headers).contains(&format!("{name}: 1"));
                    assert_eq!(there, forwarded, "{name} {trusted_peer} {keep:?}");
                }
            }
        }
        // Nobody keeps what the proxy says itself.
        let kept = ["x-consumer-id", "x_consumer_id", "x.request.id", "content-length", "connection"];
        let kept = kept.map(HeaderName::from_static);
        let fields = kept.each_ref().map(|name| (name.as_str(), "1"));
        assert_eq!(written(&fields, &UpstreamHeaders { keep: &kept, ..added() }), [""; 0]);
        let announced = [("trailer", "x-sum")];
        assert_eq!(written(&announced, &UpstreamHeaders { announces_trailers: false, ..added() }), [""; 0]);
    }

    /// F22
    #[test]
    fn a_response_that_is_checked_is_asked_for_whole_and_in_a_coding_that_can_be_decoded() {
        let contents = |json: bool, range: &str| {
            let schema = Arc::new(JsonSchema::new(&serde_json::json!({})).unwrap());
            let unchecked = vec![(MediaRange::parse(range).unwrap(), Content::Unchecked)];
            Contents::new(if json { Contents::json(&schema) } else { unchecked })
        };
        let checked = Requirement::new(vec![(Statuses::One(200), contents(true, "*/*"))], 100);
        let files = Requirement::new(vec![(Statuses::One(200), contents(false, "*/*"))], 100);
        let parts = Requirement::new(vec![(Statuses::Class(2), contents(false, "*/*"))], 100);
        let sent = [("range", "bytes=0-"), ("if-range", "\"a\""), ("a-im", "vcdiff"), ("accept-encoding", "compress")];
        let all = ["a-im: vcdiff", "accept-encoding: compress", "if-range: \"a\"", "range: bytes=0-"];
        for (contract, expected) in [
            (None, &all[..]),
            (Some(&checked), &["accept-encoding: identity"]),
            (Some(&files), &["accept-encoding: compress"]),
            (Some(&parts), &all),
        ] {
            assert_eq!(written(&sent, &UpstreamHeaders { contract, ..added() }), expected);
        }
        for (accepted, forwarded) in [
            (&["gzip, br;q=0.5, zstd, deflate"][..], "gzip, br;q=0.5, zstd, deflate"),
            (&["compress, GZIP ;q=1,, dcb"], "GZIP ;q=1"),
            (&["gzip", "compress"], "gzip"),
            (&["*"], "identity"),
            (&["gzip, *;q=0.1"], "gzip"),
            (&["gzip, *; q=0.0, identity;q=0"], "gzip, *; q=0.0, identity;q=0"),
            (&[""], "identity"),
        ] {
            let sent: Vec<_> = accepted.iter().map(|value| ("accept-encoding", *value)).collect();
            let lines = written(&sent, &UpstreamHeaders { contract: Some(&checked), ..added() });
            assert_eq!(lines, [format!("accept-encoding: {forwarded}")], "{accepted:?}");
        }
        assert_eq!(written(&[], &UpstreamHeaders { contract: Some(&checked), ..added() }), [""; 0]);
    }

    /// The ETag of the whole is a value that depends on what is hidden.
    #[test]
    fn who_does_not_see_all_does_not_ask_whether_it_changed() {
        let sent = [
            ("if-match", "\"a\""),
            ("if-modified-since", "Sat, 28 Nov 2026 08:00:00 GMT"),
            ("if-none-match", "\"a\""),
            ("if-unmodified-since", "Sat, 28 Nov 2026 08:00:00 GMT"),
        ];
        let masked = |scope: &str| {
            let rule = Rule::new("/iban", vec![scope.into()], Replacement::Remove).unwrap();
            Requirement::new(Vec::new(), 100).masked_by(Mask::new(vec![rule]))
        };
        let caller = Caller::sample("acme", &["customers:iban"]);
        for (contract, caller, is_safe, forwarded) in [
            (None, None, true, 4),
            (Some(masked("customers:iban")), None, true, 0),
            (Some(masked("customers:pii")), Some(&caller), true, 0),
            (Some(masked("customers:iban")), Some(&caller), true, 4),
            (Some(masked("customers:iban")), None, false, 4),
        ] {
            let headers = UpstreamHeaders { contract: contract.as_ref(), caller, is_safe, ..added() };
            let lines = written(&sent, &headers);
            assert_eq!(lines.iter().filter(|line| line.starts_with("if-")).count(), forwarded, "{lines:?}");
        }
    }

    #[test]
    fn credentials_are_forwarded_only_if_the_policy_says_so() {
        let fields = [("authorization", "Bearer t"), ("x-api-key", "k"), ("cookie", "c=1"), ("x-other-key", "o")];
        assert_eq!(written(&fields, &added()), ["cookie: c=1", "x-other-key: o"]);
        assert_eq!(
            written(&fields, &UpstreamHeaders { credentials: None, ..added() }),
            ["authorization: Bearer t", "cookie: c=1", "x-api-key: k", "x-other-key: o"]
        );
    }

    #[test]
    fn a_cookie_with_a_token_is_taken_off_the_others() {
        let locations = locations(&[TokenLocation::Cookie("session".into())]);
        let both = UpstreamHeaders { credentials: Some(&locations), ..added() };
        for (fields, expected) in [
            (&[("cookie", "a=1; session=t; b=2")] as &[_], &["cookie: a=1; b=2"] as &[&str]),
            (&[("cookie", "session=t")], &[]),
            (&[("cookie", "session=t"), ("cookie", "a=1"), ("cookie", "sessio%6E=t")], &["cookie: a=1"]),
            (&[("cookie", "a=1;b=2;")], &["cookie: a=1;b=2;"]),
            // Tokens are not taken from there.
            (&[("authorization", "Bearer t"), ("dpop", "p")], &["authorization: Bearer t", "dpop: p"]),
        ] {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                let mut lines = written(fields, &UpstreamHeaders { version, ..both });
                lines.retain(|line| !line.starts_with("via:"));
                assert_eq!(lines, expected, "{fields:?}");
            }
        }
    }

    #[test]
    fn the_cookies_of_http_2_are_joined_in_one_field() {
        let fields = [("cookie", "a=1"), ("cookie", "b=2")];
        assert_eq!(
            written(&fields, &UpstreamHeaders { version: Version::HTTP_2, ..added() })[..1],
            ["cookie: a=1; b=2"]
        );
        assert_eq!(written(&fields, &added()), ["cookie: a=1", "cookie: b=2"]);
        // What the API removes stays away whatever the version.
        let changes = HeaderChanges::new(Vec::new(), &[COOKIE]);
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let lines = written(&fields, &UpstreamHeaders { version, changes: &changes, ..added() });
            assert!(!lines.iter().any(|line| line.starts_with("cookie")), "{lines:?}");
        }
    }
}
