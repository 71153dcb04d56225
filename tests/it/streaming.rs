//! Bodies and trailers on their way, in both directions.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::wire::{Body, Framing};
use crate::support::*;

#[test]
fn large_bodies_go_through_both_ways() {
    let body = "0123456789abcdef".repeat(20 * 64 * 1024);
    let echo = upstream().does(|call| {
        let body = call.body()?;
        call.answer(200, &[], body)
    });
    let upstream = echo.start();
    let proxy = proxy().before(&upstream).route("POST /x", "public: true, request: { max_size: 32MiB }").start();
    let answer = client(&proxy).post("/x", &body).send().is(200);
    assert!(answer.body == body.as_bytes());
    let records = proxy.done();
    assert_eq!(said(&records[0], "http.request.body.bytes"), body.len());
    assert_eq!(said(&records[0], "http.response.body.bytes"), body.len());
}

#[test]
fn nothing_is_held_back() {
    let (arrived, has_arrived) = channel();
    let arrived = Mutex::new(arrived);
    let upstream = upstream()
        .does(move |call| {
            // The first piece comes before the client has sent the second, and the answer begins before the request ends.
            arrived.lock().unwrap().send(call.piece()?.unwrap()).unwrap();
            call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")?;
            let rest = call.piece()?.unwrap();
            call.send(format!("{:x}\r\n{}\r\n0\r\n\r\n", rest.len(), String::from_utf8_lossy(&rest)))
        })
        .start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let mut client = client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n", 1);
    assert_eq!(has_arrived.recv().unwrap(), b"first");
    let head = client.head();
    let mut body = Body::of(&head, Framing::UntilClose);
    assert_eq!(body.piece(client.connection()).unwrap().unwrap(), b"one");
    client.more("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(body.rest(client.connection()).unwrap(), b"second");
    proxy.done();
}

#[test]
fn trailers_go_through_both_ways() {
    let upstream = upstream()
        .does(|call| {
            call.body()?;
            call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-upstream\r\n\r\n2\r\nhi\r\n0\r\nx-upstream: done\r\n\r\n")
        })
        .start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let mut client = client(&proxy);
    client.raw(
        "POST /x HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\ntrailer: x-sum, x-consumer-id\r\n\
         transfer-encoding: chunked\r\n\r\n2\r\nho\r\n0\r\nx-sum: 7\r\nx-consumer-id: forged\r\n\r\n",
        1,
    );
    let answer = client.answer().is(200);
    assert_eq!(answer.trailers, [("x-upstream".to_owned(), "done".to_owned())]);
    let seen = upstream.only();
    assert_eq!((seen.body.as_slice(), seen.trailers), (b"ho".as_slice(), vec![("x-sum".to_owned(), "7".to_owned())]));
    proxy.done();
}

#[test]
fn a_client_that_waits_for_100_gets_it_only_when_its_body_is_wanted() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").route("POST /y", "scopes: [s]").start();
    let mut client = client(&proxy);
    let asks = |path| format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
    client.raw(asks("/x"), 1);
    assert_eq!(client.head().word(1), "100");
    client.more("hi");
    assert_eq!(client.answer().is(200).json()["body"], "hi");
    client.raw(asks("/y"), 1).answer().refused(401, "missing_credentials");
    assert_eq!(upstream.seen().len(), 1);
    proxy.done();
}

#[test]
fn a_client_that_goes_away_takes_its_call_with_it() {
    let (asked, is_asked) = channel();
    let asked = Mutex::new(asked);
    let upstream = upstream()
        .does(move |call| {
            asked.lock().unwrap().send(()).unwrap();
            call.connection.head().map(drop)
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    is_asked.recv().unwrap();
    client.leaves();
    upstream.lost(1);
    let records = proxy.recorded(1);
    assert_eq!(said(&records[0], "event.reason"), "client_disconnected");
    proxy.done();
}

#[test]
fn connections_are_kept_on_both_sides() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    for _ in 0..20 {
        client.get("/x").send().is(200);
    }
    client.request("HEAD", "/x").send().is(200);
    assert_eq!(upstream.connections(), 1);
    upstream.closes_connections();
    client.get("/x").send().is(200);
    proxy.done();
}

#[test]
fn a_body_over_the_limit_is_413_before_anybody_is_asked() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).route("POST /x", "public: true, request: { max_size: 10B }").start();
    client(&proxy)
        .raw("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n", 1)
        .answer()
        .refused(413, "body_too_large");
    upstream.saw_nothing();
    let chunked = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    client(&proxy).raw(chunked, 1).answer().refused(413, "body_too_large");
    proxy.done();
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_answer_ends_it_upstream_too() {
    let upstream = upstream()
        .does(|call| {
            call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            // Until the proxy goes away.
            loop {
                call.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000)))?;
            }
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    assert_eq!(client.head().word(1), "200");
    client.leaves();
    upstream.lost(1);
    let records = proxy.recorded(1);
    assert_eq!(said(&records[0], "event.reason"), "client_disconnected");
    assert_eq!(said(&records[0], "http.response.status_code"), 200);
    proxy.done();
}

#[test]
fn an_answer_before_the_body_has_come_is_passed_on() {
    let upstream = upstream()
        .does(|call| {
            call.close();
            call.send("HTTP/1.1 403 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        })
        .start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let mut client = client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf", 1);
    let head = client.head();
    assert_eq!(head.word(1), "403", "{head:?}");
    client.leaves();
    proxy.recorded(1);
    proxy.done();
}
