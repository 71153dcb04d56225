//! Responses that take long, such as streams of events: they last no longer than their callers may have them.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::support::client::operator;
use crate::support::proxy::{ADMIN_TOKEN, Reloaded, of_requests};
use crate::support::wire::{Body, Framing};
use crate::support::*;

/// A server whose streams have one event so far.
fn events() -> Upstream {
    upstream()
        .does(|call| {
            call.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
            )
        })
        .start()
}

/// An API with a stream of events, whose operators can revoke.
fn before(upstream: &Upstream, issuer: &issuer::Issuer) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with("store: state/")
        .with("consumers: { acme: { plan: free, identities: [{ issuer: corp, id: acme-app }] } }")
        .route("GET /events", "scopes: [feed:read]")
        .open("GET /public")
}

fn token(issuer: &issuer::Issuer) -> issuer::Token {
    issuer.token().claim("client_id", "acme-app").scope("feed:read")
}

/// A client with a stream of which it has the first event.
fn reading(proxy: &proxy::Proxy, target: &str, token: &str) -> (client::Client, Body) {
    let mut client = client(proxy);
    client.raw(format!("GET {target} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"), 1);
    let head = client.head();
    assert_eq!(head.word(1), "200");
    let mut body = Body::of(&head, Framing::UntilClose);
    assert_eq!(body.piece(client.connection()).unwrap().unwrap(), b"data: 1\n\n");
    (client, body)
}

fn operates(proxy: &proxy::Proxy, method: &str, path: &str, body: &Value) {
    let mut operator = operator(proxy);
    let answer = operator.request(method, path).bearer(ADMIN_TOKEN).body(body.to_string()).send();
    assert!(answer.status < 300, "{}", answer.text());
}

/// Why the streams of these records ended, in alphabetical order: workers write theirs apart.
fn reasons(records: &[Value]) -> Vec<&str> {
    let of_streams = of_requests(records).filter(|record| said(record, "url.path") == "/events");
    let mut reasons: Vec<_> = of_streams
        .map(|record| {
            assert_eq!(said(record, "http.response.status_code"), 200);
            said(record, "event.reason").as_str().unwrap_or_default()
        })
        .collect();
    reasons.sort_unstable();
    reasons
}

#[test]
fn it_ends_when_operators_take_the_permission_away() {
    let (upstream, issuer) = (events(), issuer());
    let proxy = before(&upstream, &issuer).start();
    let mut revoked = reading(&proxy, "/events", &token(&issuer).claim("jti", "t-1").text());
    let mut suspended = reading(&proxy, "/events", &token(&issuer).claim("jti", "t-2").text());
    let mut public = reading(&proxy, "/public", "whatever");
    operates(&proxy, "POST", "/v1/revocations", &json!({"jti": "t-1"}));
    assert!(revoked.1.piece(revoked.0.connection()).is_err(), "it breaks off");
    operates(&proxy, "PUT", "/v1/consumers/acme/suspension", &json!({"reason": "unpaid"}));
    assert!(suspended.1.piece(suspended.0.connection()).is_err());
    upstream.lost(2);
    // What everybody may have goes on until the upstream ends it.
    upstream.closes_connections();
    assert!(public.1.piece(public.0.connection()).is_err());
    assert_eq!(reasons(&proxy.done()), ["consumer_suspended", "revoked"]);
}

#[test]
fn it_ends_with_the_token_and_with_the_policy_that_allows_it() {
    let (upstream, issuer) = (events(), issuer());
    let mut proxy = before(&upstream, &issuer).start();
    // It is accepted for as long as clocks may differ, and ends within that time.
    let mut expired = reading(&proxy, "/events", &token(&issuer).claim("exp", issuer::now() - 28).text());
    assert!(expired.1.piece(expired.0.connection()).is_err());
    let mut other = reading(&proxy, "/events", &token(&issuer).text());
    let stricter = before(&upstream, &issuer).yaml().replace("feed:read", "feed:write");
    assert_eq!(proxy.reload_to(|policy| policy.text(&stricter)), Reloaded::Loaded);
    assert!(other.1.piece(other.0.connection()).is_err());
    assert_eq!(reasons(&proxy.done()), ["expired_token", "insufficient_scope"]);
}

#[test]
fn streams_of_http2_end_in_the_same_way_and_the_connection_goes_on() {
    let (upstream, issuer) = (events(), issuer());
    let proxy = before(&upstream, &issuer).start();
    proxy.owes(2);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let asks = |token: String| {
            let request = Request::get("http://a/events").header("authorization", format!("Bearer {token}"));
            request.body(Empty::<Bytes>::new()).unwrap()
        };
        let mut revoked = sender.send_request(asks(token(&issuer).claim("jti", "t-1").text())).await.unwrap();
        assert_eq!(revoked.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
        operates(&proxy, "POST", "/v1/revocations", &json!({"jti": "t-1"}));
        assert!(revoked.frame().await.unwrap().is_err());
        let mut other = sender.send_request(asks(token(&issuer).text())).await.unwrap();
        assert_eq!(other.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    });
    drop(runtime);
    assert!(reasons(&proxy.done()).contains(&"revoked"));
}
