//! WebSockets over HTTP/2 (RFC 8441).

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::http2::over_http2;
use crate::support::client::operator;
use crate::support::proxy::{ADMIN_TOKEN, of_requests};
use crate::support::websocket::{CLOSE, TEXT, frame, sockets};
use crate::support::*;

const SOCKET: &str = "scopes: [feed:read], upgrade: { websocket: {} }";

fn before(upstream: &Upstream, issuer: &issuer::Issuer, asks: &str) -> Policy {
    let policy = proxy().before(upstream).trusts(issuer).with("store: state/").open("GET /open");
    policy.route("GET /feed", asks).route("GET /page", SOCKET)
}

fn token(issuer: &issuer::Issuer) -> String {
    issuer.token().claim("jti", "t-1").scope("feed:read").text()
}

type Sender = SendRequest<Empty<Bytes>>;

/// Asks for a WebSocket at this path, once the proxy has said that it takes them.
async fn asks(sender: &mut Sender, path: &str, protocol: &'static str, fields: &[(&str, &str)]) -> Response<Incoming> {
    let get = Request::get("http://a.example/open").body(Empty::new()).unwrap();
    assert_eq!(sender.send_request(get).await.unwrap().status(), 200);
    let request = Request::builder().method(Method::CONNECT).uri(format!("http://a.example{path}"));
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.extension(Protocol::from_static(protocol)).body(Empty::new()).unwrap();
    sender.send_request(request).await.unwrap()
}

async fn opens(sender: &mut Sender, path: &str, token: &str) -> TokioIo<Upgraded> {
    let bearer = format!("Bearer {token}");
    let fields = [("authorization", &*bearer), ("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")];
    let answer = asks(sender, path, "websocket", &fields).await;
    assert_eq!(answer.status(), 200);
    for name in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
        assert!(!answer.headers().contains_key(name), "{name}");
    }
    assert!(answer.headers().contains_key("x-request-id"));
    TokioIo::new(hyper::upgrade::on(answer).await.unwrap())
}

/// The next frame: its opcode and its payload.
async fn hears(stream: &mut TokioIo<Upgraded>) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; head[1].into()];
    stream.read_exact(&mut payload).await.unwrap();
    (head[0] & 0x0F, payload)
}

#[test]
fn messages_go_both_ways_on_streams_beside_others() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = before(&upstream, &issuer, SOCKET).start();
    proxy.owes(4);
    over_http2(&proxy, async |mut sender: Sender| {
        let mut first = opens(&mut sender, "/feed", &token(&issuer)).await;
        let mut second = opens(&mut sender, "/feed", &token(&issuer)).await;
        for (stream, text) in [(&mut first, "one"), (&mut second, "two")] {
            assert_eq!(hears(stream).await, (TEXT, b"welcome".to_vec()));
            stream.write_all(&frame(TEXT, text.as_bytes(), true)).await.unwrap();
            assert_eq!(hears(stream).await, (TEXT, text.into()));
        }
        let metrics = operator(&proxy).get("/metrics").send().text();
        assert!(metrics.contains("bartizan_websockets 2\n"), "{metrics}");
        first.write_all(&frame(TEXT, b"close", true)).await.unwrap();
        assert_eq!(hears(&mut first).await, (CLOSE, 1000_u16.to_be_bytes().to_vec()));
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "the stream has ended");
        // The client ends the other one.
        second.shutdown().await.unwrap();
        assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
    });
    let seen = upstream.seen();
    let asked = seen.iter().find(|seen| seen.target() == "/feed").unwrap();
    assert_eq!(
        (asked.head.word(0), asked.header("upgrade"), asked.header("connection")),
        ("GET", Some("websocket"), Some("upgrade"))
    );
    assert_eq!((asked.header("sec-websocket-protocol"), asked.header("authorization")), (Some("chat"), None));
    let records = proxy.done();
    let mut reasons: Vec<_> = of_requests(&records)
        .filter(|record| said(record, "url.path") == "/feed")
        .map(|record| {
            assert_eq!(
                (said(record, "http.response.status_code"), said(record, "http.version")),
                (&json!(200), &json!("2"))
            );
            said(record, "event.reason").as_str().unwrap()
        })
        .collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["closed_by_client", "closed_by_upstream"]);
}

/// What it has read does not count as something that nobody reads, of which a connection bears little.
#[test]
fn it_goes_on_however_many_messages_there_were() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = before(&upstream, &issuer, SOCKET).start();
    proxy.owes(2);
    over_http2(&proxy, async |mut sender: Sender| {
        let mut stream = opens(&mut sender, "/feed", &token(&issuer)).await;
        assert_eq!(hears(&mut stream).await, (TEXT, b"welcome".to_vec()));
        for number in 0..90 {
            for _ in 0..100 {
                stream.write_all(&frame(TEXT, b"a", true)).await.unwrap();
            }
            for _ in 0..100 {
                assert_eq!(hears(&mut stream).await, (TEXT, b"a".to_vec()), "{number}");
            }
        }
    });
    proxy.done();
}

#[test]
fn it_ends_with_the_permission_and_with_the_process() {
    let (upstream, issuer) = (sockets().start(), issuer());
    for (does, code, reason) in [("revokes", 1008_u16, "revoked"), ("stops", 1001, "stopping")] {
        let proxy = before(&upstream, &issuer, SOCKET).start();
        proxy.owes(2);
        over_http2(&proxy, async |mut sender: Sender| {
            let mut stream = opens(&mut sender, "/feed", &token(&issuer)).await;
            assert_eq!(hears(&mut stream).await, (TEXT, b"welcome".to_vec()));
            if does == "revokes" {
                let revocation = json!({"jti": "t-1"}).to_string();
                let answer = operator(&proxy).post("/v1/revocations", revocation).bearer(ADMIN_TOKEN).send();
                assert!(answer.status < 300, "{}", answer.text());
            } else {
                proxy.signal("TERM");
            }
            let (opcode, payload) = hears(&mut stream).await;
            assert_eq!((opcode, payload), (CLOSE, [&code.to_be_bytes()[..], reason.as_bytes()].concat()));
        });
        proxy.done();
    }
}

#[test]
fn nothing_is_opened_unless_all_sides_agree() {
    let (upstream, issuer) = (upstream().answers(200, "a page").start(), issuer());
    let proxy = before(&upstream, &issuer, "public: true").start();
    let bearer = format!("Bearer {}", token(&issuer));
    let (bearer, version) = (("authorization", &*bearer), ("sec-websocket-version", "13"));
    let cases = [
        // The route takes none, and an ordinary answer would look like one that opens it.
        ("/feed", "websocket", &[version][..], 400),
        ("/none", "websocket", &[version], 404),
        ("/page", "websocket", &[version], 401),
        ("/page", "websocket", &[bearer], 400),
        ("/page", "websocket", &[bearer, ("sec-websocket-version", "8")], 400),
        ("/page", "connect-udp", &[bearer, version], 400),
        // The upstream has not switched.
        ("/page", "websocket", &[bearer, version], 502),
    ];
    proxy.owes(2 * cases.len());
    for (path, protocol, fields, status) in cases {
        over_http2(&proxy, async |mut sender: Sender| {
            let answer = asks(&mut sender, path, protocol, fields).await;
            assert_eq!(answer.status(), status, "{path} {protocol} {fields:?}");
        });
    }
    proxy.done();
}

/// Browsers send cookies with the WebSockets of any page.
#[test]
fn a_page_of_another_site_opens_nothing_with_the_cookie_of_its_visitor() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let policy = before(&upstream, &issuer, SOCKET).yaml();
    let policy = policy.replace("auth:\n", "auth:\n  tokens: { from: [{ cookie: session }] }\n");
    let proxy = proxy().text(&policy).start();
    let cookie = format!("session={}", token(&issuer));
    let (version, cookie) = (("sec-websocket-version", "13"), ("cookie", &*cookie));
    let origins = [(None, 403), (Some("https://evil.example"), 403), (Some("http://a.example"), 200)];
    proxy.owes(2 * origins.len());
    for (origin, status) in origins {
        over_http2(&proxy, async |mut sender: Sender| {
            let fields: Vec<_> = [version, cookie].into_iter().chain(origin.map(|origin| ("origin", origin))).collect();
            let answer = asks(&mut sender, "/feed", "websocket", &fields).await;
            assert_eq!(answer.status(), status, "{origin:?}");
        });
    }
    proxy.done();
}
