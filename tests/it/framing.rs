//! Requests whose frame is ambiguous or broken: none reaches the upstream, each leaves one record.

use crate::support::*;

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").open("GET /x").start();
    let long = format!("GET /x HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let many = format!("GET /x HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(150));
    for (bytes, status) in [
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (
            "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\na", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n", 400),
        ("GET /x HTTP/1.1\nhost: a\n\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a\r\nx: y\r\n folded\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost : a\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        ("GET /x HTTP/1.1\r\nhost: a\r\nx_y: 1\r\n\r\n", 400),
        ("GET /x#y HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET  /x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("GET /x HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        ("GET /x HTTP/1.10\r\nhost: a\r\n\r\n", 400),
        ("GE\u{1}T /x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        ("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        ("POST /x HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ("\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        ("hello\r\n\r\n", 400),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\r\n\r\n", 400),
        (long.as_str(), 431),
        (many.as_str(), 431),
    ] {
        let mut client = client(&proxy);
        let answer = client.raw(bytes, 1).answer();
        answer.refused(status, "malformed_request");
    }
    upstream.saw_nothing();
    let records = proxy.done();
    assert!(records.iter().all(|record| said(record, "event.reason") == "malformed_request"));
}

#[test]
fn a_good_request_before_a_bad_one_is_answered_and_the_bad_one_reaches_nobody() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x?1 HTTP/1.1\r\nhost: a\r\n\r\nGET /x?2 HTTP/1.1\r\nhost: a\nhost: b\r\n\r\n", 2);
    client.answer().is(200);
    client.answer().refused(400, "malformed_request");
    assert_eq!(upstream.only().target(), "/x?1");
    proxy.done();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").open("POST /x").start();
    let mut client = client(&proxy);
    client.raw(
        "GET /x?1 HTTP/1.1\r\nhost: a\r\n\r\nPOST /x?2 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi\
         POST /x?3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nho\r\n0\r\n\r\nGET /x?4 HTTP/1.1\r\nhost: a\r\n\r\n",
        4,
    );
    for target in ["/x?1", "/x?2", "/x?3", "/x?4"] {
        assert_eq!(client.answer().is(200).json()["target"], target);
    }
    proxy.done();
}

#[test]
fn the_target_names_the_host_when_it_names_one() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    client(&proxy).raw("GET http://b.example/x HTTP/1.1\r\nhost: a\r\n\r\n", 1).answer().is(200);
    let records = proxy.done();
    assert_eq!(said(&records[0], "url.domain"), "b.example");
}

/// S16: RFC 9112 §3.2.1 lets an absolute-form target leave out the path before its query.
#[test]
fn a_target_without_a_path_goes_on_with_one() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /").start();
    client(&proxy).raw("GET http://a?x=1 HTTP/1.1\r\nhost: a\r\n\r\n", 1).answer().is(200);
    assert_eq!(upstream.only().target(), "/?x=1");
    proxy.done();
}

/// A1: RFC 9112 §7.1.1 requires to ignore chunk extensions.
#[test]
fn chunk_extensions_are_accepted_and_dropped() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let chunked = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer =
        client(&proxy).raw(format!("{chunked}1;a=b\r\nh\r\n1;c=\"d;e\"\r\ni\r\n0;f\r\n\r\n"), 1).answer().is(200);
    assert_eq!(answer.json()["body"], "hi");
    proxy.done();
}

#[test]
fn a_head_that_ends_early_has_a_record() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost", 1);
    client.leaves();
    proxy.recorded(1);
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn a_body_that_breaks_on_its_way_never_arrives_whole() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let chunked = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n";
    for (number, broken) in ["zz\r\n", "1\r\nabc\r\n", "1;x\ry\r\na\r\n", "0\r\nbad trailer\r\n\r\n"].iter().enumerate()
    {
        let mut client = client(&proxy);
        client.raw(chunked, 1);
        eventually("the upstream is asked", || (upstream.seen().len() > number).then_some(()));
        client.more(broken).answer().refused(400, "malformed_request");
        upstream.lost(number + 1);
    }
    // Every connection to the upstream ended within a request: none was answered.
    let records = proxy.done();
    assert!(records.iter().all(|record| said(record, "http.response.status_code") == 400), "{records:#?}");
}

#[test]
fn a_body_that_is_cut_short_never_arrives_whole() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let mut client = client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf", 1);
    eventually("the upstream is asked", || (!upstream.seen().is_empty()).then_some(()));
    client.leaves();
    upstream.lost(1);
    let records = proxy.recorded(1);
    assert_eq!(said(&records[0], "event.outcome"), "failure");
    proxy.done();
}

#[test]
fn a_greeting_of_tls_on_a_plain_port_is_answered_in_words() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let name = "localhost".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(authority().client(&["h2"]), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    // It has no line end of its own for certain, so the end of what comes is the end of it.
    hello.extend_from_slice(b"\r\n");
    client(&proxy).raw(hello, 1).answer().refused(400, "malformed_request");
    proxy.done();
}
