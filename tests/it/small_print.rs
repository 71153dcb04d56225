//! HTTP's small print: what few clients and upstreams do, and the standard says.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::upstream::Call;
use crate::support::*;

/// F36
#[test]
fn options_about_the_server_are_answered_by_the_proxy_itself() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("OPTIONS /x").start();
    let mut client = client(&proxy);
    let mut ask = |line: &str| client.raw(format!("{line} HTTP/1.1\r\nhost: a.example\r\n\r\n"), 1).answer();
    for target in ["*", "http://a.example", "HTTP://a.example:80"] {
        let answer = ask(&format!("OPTIONS {target}")).is(204);
        assert!(answer.header("x-request-id").is_some() && answer.header("content-length").is_none(), "{target}");
    }
    upstream.saw_nothing();
    ask("OPTIONS http://a.example/x").is(200);
    for (line, status, code) in [
        ("OPTIONS http://a.example/", 404, "no_route"),
        ("OPTIONS http://a.example?x=1", 404, "no_route"),
        ("GET http://a.example", 404, "no_route"),
        ("OPTIONS /*", 404, "no_route"),
        ("GET *", 400, "malformed_request"),
    ] {
        ask(line).refused(status, code);
    }
    let records = proxy.done();
    let first = records.first().unwrap();
    assert_eq!(said(first, "url.path"), "*");
    assert_eq!(
        (said(first, "http.response.status_code"), said(first, "event.outcome")),
        (&204.into(), &"success".into())
    );
    assert_eq!(said(first, "bartizan.route"), &Value::Null);
}

/// F36: RFC 9110 §7.6.2
#[test]
fn max_forwards_is_counted_down_where_it_has_a_meaning() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("OPTIONS /x").open("GET /x").start();
    let mut client = client(&proxy);
    for (method, sent, status, forwarded) in [
        ("OPTIONS", "3", 200, Some("2")),
        ("OPTIONS", "1", 200, Some("0")),
        ("OPTIONS", "0", 204, None),
        ("OPTIONS", "00", 204, None),
        ("OPTIONS", "x", 400, None),
        ("OPTIONS", "-1", 400, None),
        ("OPTIONS", "1, 2", 400, None),
        ("OPTIONS", "99999999999999999999", 400, None),
        ("GET", "0", 200, Some("0")),
        ("GET", "x", 200, Some("x")),
    ] {
        let before = upstream.seen().len();
        client.request(method, "/x").header("max-forwards", sent).send().is(status);
        let seen = upstream.seen();
        assert_eq!(seen.get(before).and_then(|seen| seen.header("max-forwards")), forwarded, "{method} {sent}");
    }
    let twice = "OPTIONS /x HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\nmax-forwards: 0\r\n\r\n";
    client.raw(twice, 1).answer().refused(400, "malformed_request");
    proxy.done();
}

/// F36
#[test]
fn trace_is_a_method_that_no_path_allows() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").open("DELETE /x").start();
    let mut client = client(&proxy);
    let answer = client.request("TRACE", "/x").header("max-forwards", "0").send().refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("DELETE, GET, HEAD"));
    client.request("TRACE", "/y").send().refused(404, "no_route");
    upstream.saw_nothing();
    proxy.done();
}

/// F36: RFC 9110 §2.5
#[test]
fn later_minor_versions_are_served_and_other_major_ones_are_not() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.2\r\nhost: a\r\n\r\n", 1).answer().is(200);
    client.raw("GET /x HTTP/1.9\r\nhost: a\r\n\r\n", 1).answer().is(200);
    assert!(upstream.seen().iter().all(|seen| seen.head.start == "GET /x HTTP/1.1"));
    client.raw("GET /x HTTP/3.0\r\nhost: a\r\n\r\n", 1).answer().refused(505, "malformed_request");
    assert_eq!(said(&proxy.done()[0], "http.version"), "1.1");
}

/// F36: RFC 9110 §2.5
#[test]
fn an_upstream_may_have_a_later_minor_version_and_no_other_major_one() {
    let upstream = upstream().does(|call| {
        let version = call.head.word(1).trim_start_matches('/').to_owned();
        call.send(format!("HTTP/{version} 200 OK\r\ncontent-length: 2\r\n\r\nhi"))
    });
    let upstream = upstream.start();
    let proxy = proxy().before(&upstream).open("GET /1.2").open("GET /1.9").open("GET /2.0").start();
    let mut client = client(&proxy);
    for later in ["/1.2", "/1.9"] {
        let answer = client.get(later).send().is(200);
        assert_eq!((answer.head.start.as_str(), answer.text().as_str()), ("HTTP/1.1 200 OK", "hi"));
    }
    client.get("/2.0").send().refused(502, "invalid_upstream_response");
    assert_eq!(upstream.connections(), 1, "a later minor version keeps its connection");
    proxy.done();
}

/// F36: WHATWG URL §1.3 leaves them as they are.
#[test]
fn characters_that_browsers_send_raw_are_matched_and_forwarded_encoded() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x/{name}").open("GET /a%7Cb").start();
    let mut client = client(&proxy);
    for (sent, forwarded) in [
        ("/x/a|b", "/x/a%7Cb"),
        ("/x/a%7cb?q=a|b^{c}`d`", "/x/a%7Cb?q=a|b^{c}`d`"),
        ("/x/[a]^b?q[]=1", "/x/%5Ba%5D%5Eb?q[]=1"),
        ("/a|b", "/a%7Cb"),
    ] {
        let answer = client.raw(format!("GET {sent} HTTP/1.1\r\nhost: a\r\n\r\n"), 1).answer().is(200);
        assert_eq!(answer.json()["target"], forwarded, "{sent}");
    }
    // Browsers encode these, so whoever sends them means something else.
    for sent in ["/x/{a}", "/x/a`b", "/x/<a>", "/x/a\"b"] {
        client.raw(format!("GET {sent} HTTP/1.1\r\nhost: a\r\n\r\n"), 1).answer().refused(400, "malformed_request");
    }
    proxy.done();
}

/// F36
#[test]
fn answers_with_many_fields_pass_within_a_bound() {
    let many = |call: &mut Call<'_>| {
        let count: usize = call.head.word(1).trim_start_matches("/x/").parse().unwrap();
        let lines = "x-upstream: 1\r\n".repeat(count);
        call.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{lines}\r\n"))
    };
    let upstream = upstream().does(many).start();
    let proxy = proxy().before(&upstream).open("GET /x/{count}").start();
    let mut client = client(&proxy);
    for count in [99, 100, 500, 999] {
        let answer = client.get(&format!("/x/{count}")).send().is(200);
        assert_eq!(answer.head.all("x-upstream").len(), count, "all of them");
    }
    client.get("/x/1000").send().refused(502, "invalid_upstream_response");
    proxy.done();
}

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nlink: </b.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n";

/// F36: RFC 9110 §15.2
#[test]
fn interim_answers_reach_the_client_before_the_final_one() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let hints = move |call: &mut Call<'_>| {
        call.send(format!("HTTP/1.1 100 Continue\r\n\r\n{HINTS}"))?;
        // The proxy must not wait for more before it passes them on.
        released.lock().unwrap().recv().unwrap();
        call.send("HTTP/1.1 199 Almost\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    };
    let upstream = upstream().does(hints).start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    let early = client.head();
    assert_eq!((early.start.as_str(), early.all("link")), ("HTTP/1.1 103 Early Hints", vec!["</a.css>", "</b.css>"]));
    assert_eq!((early.header("x-hop"), early.header("connection")), (None, None));
    release.send(()).unwrap();
    assert_eq!(client.head().start, "HTTP/1.1 199 ");
    assert_eq!(client.answer().is(200).text(), "hi");
    // HTTP/1.0 has none.
    release.send(()).unwrap();
    client.raw("GET /x HTTP/1.0\r\n\r\n", 1).answer().is(200);
    proxy.done();
}

/// F36
#[test]
fn interim_answers_are_bounded() {
    let hints = |call: &mut Call<'_>| {
        let count = if call.head.word(1) == "/many" { 17 } else { 16 };
        call.send(format!("{}HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", HINTS.repeat(count)))
    };
    let upstream = upstream().does(hints).start();
    let proxy = proxy().before(&upstream).open("GET /{path}").start();
    let mut client = client(&proxy);
    client.raw("GET /some HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    (0..16).for_each(|_| assert_eq!(client.head().word(1), "103"));
    client.answer().is(200);
    client.raw("GET /many HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    (0..16).for_each(|_| assert_eq!(client.head().word(1), "103"));
    client.answer().refused(502, "invalid_upstream_response");
    proxy.done();
}

/// F36: RFC 9110 §6.6.2
#[test]
fn trailers_that_are_dropped_are_not_announced() {
    let trailed = |call: &mut Call<'_>| {
        call.body()?;
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
        call.send(format!("{head}2\r\n{{}}\r\n0\r\nx-sum: 7\r\n\r\n"))
    };
    let upstream = upstream().does(trailed).start();
    let proxy = proxy()
        .before(&upstream)
        .open("GET /x")
        .file("any.json", "{}")
        .route("GET /checked", "public: true, response: { json: any.json }")
        .route("POST /checked", "public: true, request: { json: any.json }")
        .start();
    let mut client = client(&proxy);
    for (target, te, announced) in
        [("/x", "te: trailers\r\n", Some("x-sum")), ("/x", "", None), ("/checked", "te: trailers\r\n", None)]
    {
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n{te}\r\n");
        let answer = client.raw(request, 1).answer().is(200);
        assert_eq!(answer.header("trailer"), announced, "{target} {te}");
        assert_eq!(!answer.trailers.is_empty(), announced.is_some(), "{target} {te}");
    }
    let body = "transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n";
    let head = "POST /checked HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n";
    client.raw(format!("{head}{body}"), 1).answer().is(200);
    let seen = upstream.seen().pop().unwrap();
    assert_eq!((seen.header("trailer"), seen.trailers.len()), (None, 0), "a body that was checked has a length");
    proxy.done();
}
