//! Peers that take nothing, or send nothing, for too long: each is ended, and gives back what it holds.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::*;

/// Sends a response that never ends, until the proxy goes away.
fn endless() -> Upstream {
    let upstream = upstream().does(|call| {
        call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        loop {
            call.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000)))?;
        }
    });
    upstream.start()
}

/// S2: RFC 9113 §6.9.2 lets a client set every window to 0, and so have its response never sent.
#[test]
fn an_http2_client_that_never_opens_its_window_is_ended() {
    let upstream = endless();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { stall: 100ms }").start();
    proxy.owes(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        let handshake = builder.initial_stream_window_size(0).handshake::<_, Empty<Bytes>>(TokioIo::new(tcp));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("http://a.example/x").body(Empty::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.into_body().collect().await.is_err(), "the stream is reset");
        // The connection is not: it does nothing wrong.
        let request = Request::get("http://a.example/none").body(Empty::new()).unwrap();
        proxy.owes(1);
        assert_eq!(sender.send_request(request).await.unwrap().status(), 404);
    });
    drop(runtime);
    upstream.lost(1);
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.reason"), "client_stalled");
}

/// S2: a client whose TCP window is closed, in the clear and where TLS keeps a part of what is written.
#[test]
fn a_client_that_never_reads_is_ended() {
    let (upstream, authority) = (endless(), authority());
    let certified = authority.certifies(&["localhost"]);
    let policy = proxy().before(&upstream).open("GET /x").listen(r#"{ address: "127.0.0.1:0" }"#);
    let policy = policy.listen(r#"{ address: "127.0.0.2:0", tls: { certificate: c.pem, key: k.pem } }"#);
    let policy = policy.file("c.pem", certified.certificate).file("k.pem", certified.key);
    let proxy = policy.with("timeouts: { stall: 100ms }").start();
    let tls =
        client::Client::new(proxy.addresses()[1], Arc::clone(&proxy.requests)).tls(authority.client(&["http/1.1"]));
    for (number, mut client) in [client(&proxy), tls].into_iter().enumerate() {
        client.raw("GET /x HTTP/1.1\r\nhost: localhost\r\n\r\n", 1);
        upstream.lost(number + 1);
        let records = proxy.recorded(number + 1);
        assert_eq!(said(&records[number], "event.reason"), "client_stalled");
    }
    proxy.done();
}

/// S6: a connection that never sends a byte has no more time than a head.
#[test]
fn a_connection_that_sends_nothing_is_closed_after_the_time_for_a_head() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { request_headers: 100ms, idle: 1h }").start();
    let mut silent = client(&proxy);
    silent.connection();
    silent.closes();
    proxy.done();
}

/// S19: neither has one that sends only a part of the preface of HTTP/2.
#[test]
fn a_preface_that_does_not_come_whole_is_408() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { request_headers: 100ms, idle: 1h }").start();
    let mut client = client(&proxy);
    client.raw("PRI * HTTP/2.0\r\n\r\nSM", 1).answer().refused(408, "request_timeout");
    proxy.done();
}
