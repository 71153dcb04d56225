//! Clients that are too slow, and those that do nothing.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::*;

#[test]
fn a_head_that_does_not_come_is_408() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { request_headers: 100ms }").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost", 1).answer().refused(408, "request_timeout");
    // And after a request that was good.
    client.get("/x").send().is(200);
    client.raw("GET", 1).answer().refused(408, "request_timeout");
    proxy.done();
}

#[test]
fn a_body_that_does_not_come_is_408() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("POST /x").file("any.json", "{}");
    let policy = policy.route("POST /checked", "public: true, request: { json: any.json }");
    let proxy = policy.with("timeouts: { request_body: 100ms }").start();
    for path in ["/x", "/checked"] {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{");
        client(&proxy).raw(head, 1).answer().refused(408, "request_timeout");
    }
    proxy.done();
}

#[test]
fn the_upstream_is_asked_before_an_upload_has_ended() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let mut client = client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nh", 1);
    eventually("the upstream is asked", || (!upstream.seen().is_empty()).then_some(()));
    client.more("i");
    client.answer().is(200);
    proxy.done();
}

#[test]
fn a_connection_that_does_nothing_is_closed_without_a_record() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { idle: 100ms }").start();
    let mut silent = client(&proxy);
    silent.connection();
    silent.closes();
    let mut kept = client(&proxy);
    kept.get("/x").send().is(200);
    kept.closes();
    proxy.done();
}

#[test]
fn an_upstream_that_takes_nothing_of_an_upload_is_504() {
    let (done, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = upstream()
        .does(move |_| {
            // Until the test has ended.
            let _ = wait.lock().unwrap().recv();
            Ok(())
        })
        .start();
    let proxy = proxy().before(&upstream).upstream("response_timeout: 300ms");
    let proxy = proxy.route("POST /x", "public: true, request: { max_size: 200MiB }").start();
    let mut client = client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n", 1);
    // It fails when the proxy closes, having read a part of it.
    let _ = client.connection().send("x".repeat(100_000_000));
    let records = proxy.recorded(1);
    assert_eq!(said(&records[0], "event.reason"), "upstream_timeout");
    drop(done);
    proxy.done();
}

#[test]
fn many_requests_at_once_do_not_outlast_the_deadlines() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("timeouts: { idle: 300ms }").start();
    let mut client = client(&proxy);
    let many = 250;
    client.raw("GET /no HTTP/1.1\r\nhost:a\r\n\r\n".repeat(many), many);
    for _ in 0..many {
        client.answer().refused(404, "no_route");
    }
    client.closes();
    proxy.done();
}
