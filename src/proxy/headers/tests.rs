//! Tests which response fields and trailers are forwarded.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};

use super::{ResponseFields, is_forwarded_downstream, remove_named, strip_trailers};

pub(super) fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Returns the fields as `name: value` lines in alphabetical order.
pub(super) fn lines(headers: &HeaderMap) -> Vec<String> {
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines
}

#[test]
fn which_response_fields_are_forwarded() {
    for (fields, expected) in [
        (
            &[("content-type", "t"), ("content-length", "3"), ("trailer", "x")][..],
            &["content-length: 3", "content-type: t", "trailer: x"][..],
        ),
        (&[("connection", "x-hop, content-type"), ("x-hop", "1"), ("content-type", "t")], &["content-type: t"]),
        (&[("transfer-encoding", "chunked"), ("keep-alive", "5"), ("upgrade", "h2"), ("te", "x")], &[]),
        (&[("server", "s"), ("x-powered-by", "p"), ("x-aspnet-version", "4"), ("x-aspnetmvc-version", "5")], &[]),
        (&[("x-generator", "g"), ("via", "1.1 v"), ("x-runtime", "0.1"), ("x-request-id", "1")], &[]),
        (&[("ratelimit", "r"), ("ratelimit-policy", "p"), ("ratelimit-limit", "1"), ("x-rate", "1")], &["x-rate: 1"]),
        (
            &[("set-cookie", "a"), ("set-cookie", "b"), ("server-timing", "t")],
            &["server-timing: t", "set-cookie: a", "set-cookie: b"],
        ),
    ] {
        let all = map(fields);
        let mut kept = ResponseFields::default();
        kept.extend(
            ResponseFields::from(&all).iter().filter(|(name, _)| is_forwarded_downstream(name.as_str())).cloned(),
        );
        remove_named(&mut kept, all.get_all(CONNECTION).iter().map(HeaderValue::as_bytes));
        assert_eq!(lines(&kept.to_map()), expected, "{fields:?}");
    }
}

#[test]
fn which_trailers_are_forwarded() {
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
        "x-http-method-override",
        "x-rewrite-url",
        "true-client-ip",
        "x-ssl-client-verify",
        "remote-user",
        "proxy",
        "a.b",
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
        "a-im",
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
