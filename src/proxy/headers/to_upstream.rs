//! The fields of a request as they go upstream: what the client said, but for what may not cross, and behind it what only we
//! say. Written straight into what is sent, so that nothing is put into a map to be taken out of it again.

use http::Version;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, TE};

use super::{asks_for_trailers, connection_options, crosses_onward, named, write_line};
use crate::refusal::X_REQUEST_ID;
use crate::stages::auth::Caller;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Where proofs of possession come (RFC 9449 §4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// What we add to the client's request for the upstream.
#[derive(Clone, Copy)]
pub(crate) struct UpstreamHeaders<'a> {
    /// Whether the peer is one of the trusted proxies: what it says of the hops before it is kept.
    pub(crate) trusted_peer: bool,
    /// Address of the TCP peer, canonical.
    pub(crate) peer: &'a str,
    /// `http` or `https`: how the request came to us.
    pub(crate) scheme: &'static str,
    /// The host it was for, with its port, as it came; absent when HTTP/1.0 named none.
    pub(crate) host: Option<&'a HeaderValue>,
    /// How it came to us, for Via.
    pub(crate) version: Version,
    /// Id of the request.
    pub(crate) request_id: &'a str,
    /// Where API keys come; absent when credentials go upstream.
    pub(crate) key_header: Option<&'a HeaderName>,
    /// Who is calling.
    pub(crate) caller: Option<&'a Caller>,
}

impl UpstreamHeaders<'_> {
    /// Writes a request's fields, each a line with its end, for a server of this authority; not those that frame its body.
    pub(crate) fn write(&self, out: &mut Vec<u8>, authority: &HeaderValue, headers: &HeaderMap) {
        write_line(out, "host", authority.as_bytes());
        let named: Vec<HeaderName> = named(connection_options(headers)).collect();
        let mut trailers = false;
        let mut cookies: Vec<u8> = Vec::new();
        for (name, value) in headers {
            if name == TE {
                trailers |= asks_for_trailers(value.as_bytes());
            } else if name == COOKIE && self.version == Version::HTTP_2 {
                // HTTP/2 may send one header a cookie; towards HTTP/1.1 they are one again (RFC 9113 §8.2.3).
                cookies.extend_from_slice(if cookies.is_empty() { b"" } else { b"; " });
                cookies.extend_from_slice(value.as_bytes());
            } else if crosses_onward(name.as_str(), self.trusted_peer)
                && !self.is_credential(name)
                && !named.contains(name)
            {
                write_line(out, name.as_str(), value.as_bytes());
            }
        }
        if !cookies.is_empty() {
            write_line(out, COOKIE.as_str(), &cookies);
        }
        if trailers {
            // RFC 9110 §10.1.4: TE is for the next hop alone, and says so.
            write_line(out, TE.as_str(), b"trailers");
            write_line(out, CONNECTION.as_str(), b"te");
        }
        self.tell(out, headers);
    }

    fn is_credential(&self, name: &HeaderName) -> bool {
        // A proof of possession is a part of its token.
        self.key_header.is_some_and(|key_header| name == AUTHORIZATION || name == key_header || *name == DPOP)
    }

    /// X-Forwarded-For is continued, -Proto and -Host, which tell of the first hop, are kept when a trusted peer set them.
    fn tell(&self, out: &mut Vec<u8>, headers: &HeaderMap) {
        let kept = |name: &HeaderName| self.trusted_peer && headers.contains_key(name);
        out.extend_from_slice(b"x-forwarded-for: ");
        if self.trusted_peer {
            // On one line, because many upstreams read only one.
            for line in headers.get_all(X_FORWARDED_FOR) {
                out.extend_from_slice(line.as_bytes());
                out.extend_from_slice(b", ");
            }
        }
        out.extend_from_slice(self.peer.as_bytes());
        out.extend_from_slice(b"\r\n");
        if !kept(&X_FORWARDED_PROTO) {
            write_line(out, X_FORWARDED_PROTO.as_str(), self.scheme.as_bytes());
        }
        if let Some(host) = self.host
            && !kept(&X_FORWARDED_HOST)
        {
            write_line(out, X_FORWARDED_HOST.as_str(), host.as_bytes());
        }
        // Another line of the same list (RFC 9110 §5.3, §7.6.3).
        out.extend_from_slice(match self.version {
            Version::HTTP_10 => b"via: 1.0 bartizan\r\n",
            Version::HTTP_2 => b"via: 2 bartizan\r\n",
            _ => b"via: 1.1 bartizan\r\n",
        });
        write_line(out, X_REQUEST_ID.as_str(), self.request_id.as_bytes());
        if let Some(identity) = self.caller.map(Caller::identity_headers) {
            let optional = [("x-consumer-plan", &identity.plan), ("x-credential-id", &identity.credential)];
            write_line(out, "x-consumer-id", identity.consumer.as_bytes());
            write_line(out, "x-consumer-scopes", identity.scopes.as_bytes());
            for (name, value) in optional {
                if let Some(value) = value {
                    write_line(out, name, value.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::map;
    use super::*;

    const ALWAYS: [&str; 6] = [
        "host: upstream:81",
        "via: 1.1 bartizan",
        "x-forwarded-for: 10.0.0.1",
        "x-forwarded-host: a.example:81",
        "x-forwarded-proto: http",
        "x-request-id: id",
    ];

    fn onward() -> UpstreamHeaders<'static> {
        static HOST: HeaderValue = HeaderValue::from_static("a.example:81");
        static KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
        UpstreamHeaders {
            trusted_peer: false,
            peer: "10.0.0.1",
            scheme: "http",
            host: Some(&HOST),
            version: Version::HTTP_11,
            request_id: "id",
            key_header: Some(&KEY_HEADER),
            caller: None,
        }
    }

    /// The lines that go upstream, in alphabetical order; those of `ALWAYS` left out.
    fn written(fields: &[(&str, &str)], onward: &UpstreamHeaders<'_>) -> Vec<String> {
        let mut out = Vec::new();
        onward.write(&mut out, &HeaderValue::from_static("upstream:81"), &map(fields));
        let text = String::from_utf8(out).unwrap();
        let mut lines: Vec<String> = text.split_terminator("\r\n").map(str::to_owned).collect();
        lines.retain(|line| !ALWAYS.contains(&line.as_str()));
        lines.sort();
        lines
    }

    #[test]
    fn what_goes_upstream() {
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
            // Never by way of Connection: routing, framing, what was validated.
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
                &["client-cert: x", "x-forwarded-for: 1.1.1.1, 10.0.0.1", "x-real-ip: 1.1.1.1"],
            ),
            (
                false,
                &[("x-consumerism", "1"), ("x-forward", "2"), ("traceparent", "t"), ("via", "1.1 x")],
                &["traceparent: t", "via: 1.1 x", "x-consumerism: 1", "x-forward: 2"],
            ),
        ] {
            assert_eq!(written(fields, &UpstreamHeaders { trusted_peer: trusted, ..onward() }), expected, "{fields:?}");
        }
    }

    #[test]
    fn what_the_upstream_is_told() {
        let mut out = Vec::new();
        onward().write(&mut out, &HeaderValue::from_static("upstream:81"), &map(&[]));
        assert_eq!(String::from_utf8(out).unwrap().lines().filter(|line| ALWAYS.contains(line)).count(), ALWAYS.len());

        let old =
            UpstreamHeaders { peer: "2001:db8::1", scheme: "https", host: None, version: Version::HTTP_10, ..onward() };
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
            written(&fields, &UpstreamHeaders { trusted_peer: true, version: Version::HTTP_2, ..onward() }),
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
    fn credentials_go_upstream_only_when_the_policy_says_so() {
        let fields = [("authorization", "Bearer t"), ("x-api-key", "k"), ("cookie", "c=1"), ("x-other-key", "o")];
        assert_eq!(written(&fields, &onward()), ["cookie: c=1", "x-other-key: o"]);
        assert_eq!(
            written(&fields, &UpstreamHeaders { key_header: None, ..onward() }),
            ["authorization: Bearer t", "cookie: c=1", "x-api-key: k", "x-other-key: o"]
        );
    }

    #[test]
    fn the_cookies_of_http_2_are_one_header_again() {
        let fields = [("cookie", "a=1"), ("cookie", "b=2")];
        assert_eq!(
            written(&fields, &UpstreamHeaders { version: Version::HTTP_2, ..onward() })[..1],
            ["cookie: a=1; b=2"]
        );
        assert_eq!(written(&fields, &onward()), ["cookie: a=1", "cookie: b=2"]);
    }
}
