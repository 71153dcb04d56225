//! A finished request that is sampled, and the spans that it becomes: attributes follow OpenTelemetry's semantic conventions
//! for HTTP, 1.x.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;

use crate::exchange::{SpanId, TraceContext, TraceId};
use crate::otlp::{AnyValue, KeyValue, Span, SpanKind, Status, StatusCode};

/// Longest text from outside that is kept, in bytes.
const LONGEST: usize = 512;
/// What is said of a method that is not among the known ones.
const OTHER: &str = "_OTHER";
/// Flags of a span: sampled; whether its parent is remote is known; it is.
const SAMPLED: u32 = 0x01;
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// What is sent of a request. Its texts are bounded, because many wait in memory.
#[derive(Clone, Debug)]
pub(crate) struct FinishedRequest {
    /// Where it is in its trace.
    pub(crate) context: TraceContext,
    /// Its start.
    pub(crate) at: Timestamp,
    /// From its start to the last byte of its response.
    pub(crate) duration: Duration,
    /// A known method, or [`OTHER`].
    pub(crate) method: &'static str,
    /// `1.0`, `1.1` or `2`.
    pub(crate) version: &'static str,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// The host that it is for; empty if unknown.
    pub(crate) host: Box<str>,
    /// The path, without its query.
    pub(crate) path: Box<str>,
    /// Address of the client.
    pub(crate) client: IpAddr,
    /// The TCP peer.
    pub(crate) peer: SocketAddr,
    /// `User-Agent`.
    pub(crate) user_agent: Option<Box<str>>,
    /// `METHOD /path` of its route, as the policy writes it.
    pub(crate) route: Option<Arc<str>>,
    /// Status of the response, if one was sent.
    pub(crate) status: Option<u16>,
    /// Why there is no whole response of the upstream: a refusal's code, or what the client did.
    pub(crate) error: Option<&'static str>,
    /// Whether that was a failure on this side.
    pub(crate) failed: bool,
    /// The call to the upstream.
    pub(crate) upstream: Option<UpstreamCall>,
}

/// The call to the upstream.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamCall {
    /// URL of the server.
    pub(crate) server: Arc<str>,
    /// The path that it got, below that URL; if absent, the one of the request.
    pub(crate) path: Option<Box<str>>,
    /// Its host.
    pub(crate) host: Box<str>,
    /// Its port; 0 if it has none.
    pub(crate) port: u16,
    /// Whether it is called over HTTP/2.
    pub(crate) is_http2: bool,
    /// From the start of the request until the call began.
    pub(crate) after: Duration,
    /// Status of its response, if one came.
    pub(crate) status: Option<u16>,
    /// What a refusal says of it, if the call failed in another way.
    pub(crate) error: Option<&'static str>,
}

/// A method by the name that spans have for it: one of RFC 9110 and RFC 5789, or `_OTHER`.
pub(crate) fn known_method(method: Option<&Method>) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    let name = method.map_or("", Method::as_str);
    KNOWN.into_iter().find(|known| *known == name).unwrap_or(OTHER)
}

/// Text from outside, bounded, and with U+FFFD for what is no UTF-8.
pub(crate) fn bounded(text: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(text));
    // A character that was cut in two is three bytes longer now.
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().into()
}

impl FinishedRequest {
    /// How many spans it becomes.
    pub(super) fn span_count(&self) -> u64 {
        1 + u64::from(self.upstream.is_some())
    }

    /// Its spans.
    pub(super) fn spans(&self) -> impl Iterator<Item = Span> {
        [Some(self.server_span()), self.upstream.as_ref().map(|call| self.client_span(call))].into_iter().flatten()
    }

    fn server_span(&self) -> Span {
        // As the route says it: a HEAD request may follow the route of GET.
        let route = self.route.as_deref().map(|name| name.split_once(' ').map_or(name, |(_, path)| path));
        let name = if self.method == OTHER { "HTTP" } else { self.method };
        let name = route.map_or_else(|| name.to_owned(), |route| format!("{name} {route}"));
        let mut attributes = vec![text("http.request.method", self.method), text("url.scheme", self.scheme)];
        attributes.extend(Some(&*self.path).filter(|path| !path.is_empty()).map(|path| text("url.path", path)));
        attributes.extend(route.map(|route| text("http.route", route)));
        attributes.extend(self.status.map(|status| int("http.response.status_code", status)));
        let server_error = self.status.filter(|status| *status >= 500);
        let error = self.error.map(str::to_owned).or_else(|| server_error.map(|status| status.to_string()));
        attributes.extend(error.map(|error| text("error.type", error)));
        attributes.extend(Some(&*self.host).filter(|host| !host.is_empty()).map(|host| text("server.address", host)));
        attributes.push(text("client.address", self.client.to_string()));
        attributes.push(text("network.peer.address", self.peer.ip().to_canonical().to_string()));
        attributes.push(int("network.peer.port", self.peer.port()));
        attributes.push(text("network.protocol.version", self.version));
        attributes.extend(self.user_agent.as_deref().map(|agent| text("user_agent.original", agent)));
        let parent = self.context.parent.map(|parent| parent.span);
        Span {
            kind: SpanKind::Server as i32,
            parent_span_id: parent.map(id).unwrap_or_default(),
            flags: SAMPLED | KNOWN | if parent.is_some() { REMOTE } else { 0 },
            attributes,
            status: status(self.failed || server_error.is_some()),
            ..self.span(name, self.context.span, Duration::ZERO)
        }
    }

    fn client_span(&self, call: &UpstreamCall) -> Span {
        let name = if self.method == OTHER { "HTTP" } else { self.method };
        let mut attributes = vec![
            text("http.request.method", self.method),
            text("server.address", &*call.host),
            text("url.full", format!("{}{}", call.server, call.path.as_ref().unwrap_or(&self.path))),
            text("network.protocol.version", if call.is_http2 { "2" } else { "1.1" }),
        ];
        // A Unix socket has none.
        attributes.extend((call.port != 0).then(|| int("server.port", call.port)));
        attributes.extend(call.status.map(|status| int("http.response.status_code", status)));
        let bad_status = call.status.filter(|status| *status >= 400).map(|status| status.to_string());
        let error = bad_status.or_else(|| call.error.map(str::to_owned));
        let failed = error.is_some();
        attributes.extend(error.map(|error| text("error.type", error)));
        Span {
            kind: SpanKind::Client as i32,
            parent_span_id: id(self.context.span),
            flags: SAMPLED | KNOWN,
            attributes,
            status: status(failed),
            ..self.span(name.to_owned(), self.context.upstream_span(), call.after)
        }
    }

    /// A span that began so long after the request, and ended with it.
    fn span(&self, name: String, span: SpanId, after: Duration) -> Span {
        let start = u64::try_from(self.at.as_nanosecond()).unwrap_or_default();
        let TraceId(trace) = self.context.trace;
        Span {
            trace_id: trace.to_be_bytes().to_vec(),
            span_id: id(span),
            name,
            start_time_unix_nano: start.saturating_add(nanoseconds(after.min(self.duration))),
            end_time_unix_nano: start.saturating_add(nanoseconds(self.duration)),
            ..Span::default()
        }
    }
}

fn id(SpanId(span): SpanId) -> Vec<u8> {
    span.to_be_bytes().to_vec()
}

/// What succeeded is not said to be so: the conventions leave that to applications.
fn status(failed: bool) -> Option<Status> {
    failed.then(|| Status { message: String::new(), code: StatusCode::Error as i32 })
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue::new(key, AnyValue::text(value))
}

fn int(key: &str, value: u16) -> KeyValue {
    KeyValue::new(key, AnyValue::int(value.into()))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::exchange::Parent;
    use crate::otlp::Value;

    /// A request that was answered by the upstream.
    pub(in crate::traces) fn sample() -> FinishedRequest {
        FinishedRequest {
            context: TraceContext {
                trace: TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
                span: SpanId(0x00f0_67aa_0ba9_02b7),
                parent: None,
            },
            at: Timestamp::from_second(1_700_000_000).unwrap(),
            duration: Duration::from_millis(20),
            method: "GET",
            version: "1.1",
            scheme: "https",
            host: "api.example.com".into(),
            path: "/v1/orders/7".into(),
            client: [203, 0, 113, 9].into(),
            peer: ([10, 0, 0, 1], 50_123).into(),
            user_agent: Some("curl/8.5".into()),
            route: Some("GET /v1/orders/{id}".into()),
            status: Some(200),
            error: None,
            failed: false,
            upstream: Some(UpstreamCall {
                server: "http://10.1.0.7:9000".into(),
                path: None,
                host: "10.1.0.7".into(),
                port: 9000,
                is_http2: false,
                after: Duration::from_millis(5),
                status: Some(200),
                error: None,
            }),
        }
    }

    fn attributes(span: &Span) -> BTreeMap<&str, String> {
        let text = |attribute: &KeyValue| match attribute.value.clone().unwrap().value.unwrap() {
            Value::Text(text) => text,
            Value::Int(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        let all: BTreeMap<_, _> =
            span.attributes.iter().map(|attribute| (attribute.key.as_str(), text(attribute))).collect();
        assert_eq!(all.len(), span.attributes.len(), "an attribute is there twice: {span:?}");
        all
    }

    fn failed(span: &Span) -> bool {
        span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
    }

    #[test]
    fn a_request_is_a_server_span_and_its_call_a_child_of_it() {
        let request = sample();
        let spans: Vec<Span> = request.spans().collect();
        assert_eq!(spans.len() as u64, request.span_count());
        let [server, client] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((server.name.as_str(), server.kind()), ("GET /v1/orders/{id}", SpanKind::Server));
        assert_eq!((client.name.as_str(), client.kind()), ("GET", SpanKind::Client));
        assert_eq!(server.trace_id, client.trace_id);
        assert_eq!((server.trace_id.len(), server.span_id.len(), client.span_id.len()), (16, 8, 8));
        assert_eq!((&client.parent_span_id, server.parent_span_id.is_empty()), (&server.span_id, true));
        assert_eq!((server.flags, client.flags), (0x101, 0x101));
        assert!(!failed(server) && !failed(client));
        let start = 1_700_000_000_000_000_000;
        assert_eq!((server.start_time_unix_nano, server.end_time_unix_nano), (start, start + 20_000_000));
        assert_eq!((client.start_time_unix_nano, client.end_time_unix_nano), (start + 5_000_000, start + 20_000_000));
        let said =
            |pairs: &[(&'static str, &str)]| pairs.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let expected: BTreeMap<_, _> = said(&[
            ("client.address", "203.0.113.9"),
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("http.route", "/v1/orders/{id}"),
            ("network.peer.address", "10.0.0.1"),
            ("network.peer.port", "50123"),
            ("network.protocol.version", "1.1"),
            ("server.address", "api.example.com"),
            ("url.path", "/v1/orders/7"),
            ("url.scheme", "https"),
            ("user_agent.original", "curl/8.5"),
        ]);
        assert_eq!(attributes(server), expected);
        let expected: BTreeMap<_, _> = said(&[
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("network.protocol.version", "1.1"),
            ("server.address", "10.1.0.7"),
            ("server.port", "9000"),
            ("url.full", "http://10.1.0.7:9000/v1/orders/7"),
        ]);
        assert_eq!(attributes(client), expected);
    }

    #[test]
    fn a_remote_parent_is_said_to_be_one() {
        let parent = Some(Parent { span: SpanId(9), sampled: true });
        let context = TraceContext { parent, ..sample().context };
        let server = FinishedRequest { context, ..sample() }.server_span();
        assert_eq!((server.parent_span_id, server.flags), (9_u64.to_be_bytes().to_vec(), 0x301));
    }

    /// Only failures of this side are errors of the server span; every bad status is one for its caller.
    #[test]
    fn which_spans_failed_and_why() {
        let call = |status, error| UpstreamCall { status, error, ..sample().upstream.unwrap() };
        let request = |status, error, failed, upstream| FinishedRequest { status, error, failed, upstream, ..sample() };
        for (request, server, client) in [
            (request(Some(404), None, false, Some(call(Some(404), None))), (None, false), (Some("404"), true)),
            (request(Some(503), None, false, Some(call(Some(503), None))), (Some("503"), true), (Some("503"), true)),
            (
                request(Some(401), Some("missing_credentials"), false, None),
                (Some("missing_credentials"), false),
                (None, false),
            ),
            (
                request(Some(502), Some("upstream_unreachable"), true, Some(call(None, Some("upstream_unreachable")))),
                (Some("upstream_unreachable"), true),
                (Some("upstream_unreachable"), true),
            ),
            // It broke in the middle.
            (
                request(
                    Some(200),
                    Some("upstream_unreachable"),
                    true,
                    Some(call(Some(200), Some("upstream_unreachable"))),
                ),
                (Some("upstream_unreachable"), true),
                (Some("upstream_unreachable"), true),
            ),
            (
                request(Some(200), Some("client_disconnected"), false, Some(call(Some(200), None))),
                (Some("client_disconnected"), false),
                (None, false),
            ),
        ] {
            let spans: Vec<Span> = request.spans().collect();
            let said = |span: &Span| (attributes(span).remove("error.type"), failed(span));
            assert_eq!(said(&spans[0]), (server.0.map(str::to_owned), server.1), "{request:?}");
            let found = spans.get(1).map_or((None, false), said);
            assert_eq!(found, (client.0.map(str::to_owned), client.1), "{request:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let method = known_method(Some(&Method::from_bytes(b"BREW").unwrap()));
        let (host, path) = (Box::default(), Box::default());
        let bare = FinishedRequest {
            method,
            host,
            path,
            route: None,
            status: None,
            user_agent: None,
            upstream: None,
            ..sample()
        };
        let spans: Vec<Span> = bare.spans().collect();
        assert_eq!((spans.len(), spans[0].name.as_str()), (1, "HTTP"));
        let keys: Vec<_> = attributes(&spans[0]).into_keys().collect();
        assert_eq!(
            keys,
            [
                "client.address",
                "http.request.method",
                "network.peer.address",
                "network.peer.port",
                "network.protocol.version",
                "url.scheme"
            ]
        );
        assert_eq!((known_method(None), known_method(Some(&Method::PATCH))), (OTHER, "PATCH"));
        let head = FinishedRequest { method: "HEAD", ..sample() };
        assert_eq!(head.server_span().name, "HEAD /v1/orders/{id}");
    }

    #[test]
    fn texts_from_outside_are_bounded() {
        for (text, length) in [
            (vec![b'a'; 10_000], LONGEST),
            (vec![0xff; 10_000], 510),
            ("\u{1f600}".repeat(1000).into_bytes(), LONGEST),
            ("a\u{1f600}".repeat(1000).into_bytes(), 511),
            (b"short".to_vec(), 5),
            (Vec::new(), 0),
        ] {
            assert_eq!(bounded(&text).len(), length, "{:?}", bounded(&text));
        }
    }
}
