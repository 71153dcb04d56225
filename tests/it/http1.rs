//! What clients of HTTP/1.x are answered: versions, how bodies are framed, and when the connection is kept.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::support::wire::{Body, Framing};
use crate::support::*;

const FIXED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-upstream\r\n\r\n2\r\nhi\r\n0\r\nx-upstream: done\r\n\r\n";

#[test]
fn answers_are_framed_for_those_who_asked() {
    const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    const LONG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n";
    const UNKNOWN: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    const UNCHANGED: &str = "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n";
    const NOTHING: &str = "HTTP/1.1 204 Gone Fishing\r\ncontent-length: 0\r\n\r\n";
    const ANSWERS: [&str; 7] = [FIXED, CHUNKED, EMPTY, LONG, UNKNOWN, UNCHANGED, NOTHING];
    let upstream = upstream()
        .does(|call| {
            call.body()?;
            let answer = call.head.word(1).strip_prefix("/x?").and_then(|number| number.parse::<usize>().ok());
            call.send(ANSWERS[answer.unwrap()])
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    // Method, version and Connection of what is asked, what the upstream says; the first line, Content-Length,
    // Transfer-Encoding and Connection as they come back, and the body.
    for ((method, version, asked), said, line, framing, body) in [
        (("GET", "1.1", ""), FIXED, "HTTP/1.1 200 OK", (Some("2"), None, None), "hi"),
        (("GET", "1.1", ""), CHUNKED, "HTTP/1.1 200 OK", (None, Some("chunked"), None), "hi"),
        (("GET", "1.1", "Close"), FIXED, "HTTP/1.1 200 OK", (Some("2"), None, Some("close")), "hi"),
        (("GET", "1.1", "close"), CHUNKED, "HTTP/1.1 200 OK", (None, Some("chunked"), Some("close")), "hi"),
        (("GET", "1.0", ""), FIXED, "HTTP/1.0 200 OK", (Some("2"), None, Some("close")), "hi"),
        (("GET", "1.0", ""), CHUNKED, "HTTP/1.0 200 OK", (None, None, Some("close")), "hi"),
        (("GET", "1.0", "keep-alive"), FIXED, "HTTP/1.0 200 OK", (Some("2"), None, Some("keep-alive")), "hi"),
        (("GET", "1.0", "keep-alive"), CHUNKED, "HTTP/1.0 200 OK", (None, None, Some("close")), "hi"),
        (("HEAD", "1.1", ""), LONG, "HTTP/1.1 200 OK", (Some("7"), None, None), ""),
        (("HEAD", "1.1", ""), UNKNOWN, "HTTP/1.1 200 OK", (None, None, None), ""),
        (("GET", "1.1", ""), UNCHANGED, "HTTP/1.1 304 Not Modified", (Some("7"), None, None), ""),
        (("GET", "1.1", ""), NOTHING, "HTTP/1.1 204 Gone Fishing", (None, None, None), ""),
        (("GET", "1.1", ""), EMPTY, "HTTP/1.1 200 OK", (Some("0"), None, None), ""),
    ] {
        let mut client = client(&proxy);
        let number = ANSWERS.iter().position(|answer| *answer == said).unwrap();
        let connection = if asked.is_empty() { String::new() } else { format!("connection: {asked}\r\n") };
        client.raw(format!("{method} /x?{number} HTTP/{version}\r\nhost: a\r\n{connection}\r\n"), 1);
        let case = format!("{method} {version} {asked:?} {said}");
        let head = client.head();
        let reported = (head.header("content-length"), head.header("transfer-encoding"), head.header("connection"));
        assert_eq!((head.start.as_str(), reported), (line, framing), "{case}");
        assert_eq!(head.all("date").len(), 1, "{case}");
        let bodiless = method == "HEAD" || said == UNCHANGED || said == NOTHING;
        let mut read = if bodiless { Body::framed(Framing::Length(0)) } else { Body::of(&head, Framing::UntilClose) };
        assert_eq!(read.rest(client.connection()).unwrap(), body.as_bytes(), "{case}");
        assert!(read.trailers.is_empty(), "nobody asked for trailers: {:?}", read.trailers);
        if framing.2 == Some("close") {
            client.closes();
        } else {
            // Exactly one answer came: the next begins where it ended.
            client.raw("GET /y HTTP/1.1\r\nhost: a\r\n\r\n", 1).answer().refused(404, "no_route");
        }
    }
    proxy.done();
}

#[test]
fn a_date_of_the_upstream_is_kept() {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let upstream = upstream()
        .does(move |call| call.send(format!("HTTP/1.1 200 OK\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n")))
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    assert_eq!(client(&proxy).get("/x").send().is(200).header("date"), Some(date));
    proxy.done();
}

#[test]
fn what_a_refused_request_still_sends_is_thrown_away_within_bounds() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).route("POST /x", "scopes: [s]").open("GET /y").start();
    let mut little = client(&proxy);
    let chunked = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let fixed = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    for asked in [chunked, fixed, chunked] {
        little.raw(asked, 1).answer().refused(401, "missing_credentials");
    }
    little.get("/y").send().is(200);

    let mut much = client(&proxy);
    much.raw("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 10000000\r\n\r\n", 1).more("x".repeat(100_000));
    much.answer().refused(401, "missing_credentials");
    much.connection().runs_dry();
    assert_eq!(upstream.only().target(), "/y");
    proxy.done();
}

#[test]
fn a_request_that_comes_early_waits_for_its_turn() {
    let upstream = upstream()
        .does(|call| {
            call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
            call.send("5\r\n last\r\n0\r\n\r\n")
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\nGET /x HTTP/1.1\r\nho", 2).more("st: a\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(client.answer().is(200).text(), "first last");
    }
    proxy.done();
}

#[test]
fn a_head_may_come_in_as_many_pieces_as_it_likes() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let mut client = client(&proxy);
    client.raw("P", 1);
    for piece in b"OST /x HTTP/1.1\r\nhost: a\r\nx-one: 1\r\ncontent-length: 3\r\n\r\nabc".chunks(5) {
        client.more(piece);
    }
    let answer = client.answer().is(200);
    assert_eq!((answer.json()["body"].as_str(), answer.echoed("x-one")), (Some("abc"), vec!["1".to_owned()]));
    proxy.done();
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let upstream = upstream()
        .does(move |call| {
            call.close();
            call.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
            may_go.lock().unwrap().recv().unwrap();
            Ok(())
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    // To a client of HTTP/1.0, the end of the connection is the end of the body.
    let mut client = client(&proxy);
    client.raw("GET /x HTTP/1.0\r\nhost: a\r\n\r\n", 1);
    let head = client.head();
    go.send(()).unwrap();
    let ended = Body::of(&head, Framing::UntilClose).rest(client.connection());
    assert!(ended.is_err(), "it looks whole: {ended:?}");
    proxy.done();
}

#[test]
fn a_client_that_was_not_asked_for_its_body_learns_that_the_connection_ends() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).route("POST /x", "scopes: [s]").start();
    let mut client = client(&proxy);
    client.raw("POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n", 1);
    let answer = client.answer().refused(401, "missing_credentials");
    assert_eq!(answer.header("connection"), Some("close"));
    client.closes();
    proxy.done();
}

/// S11: many clients repeat a request, a POST too, if the connection closes without a byte of an answer.
#[test]
fn an_answer_that_breaks_before_a_byte_left_is_502() {
    let upstream = upstream()
        .does(|call| {
            call.close();
            call.send("HTTP/1.1 200 OK\r\netag: \"7\"\r\ntransfer-encoding: chunked\r\n\r\nno chunk\r\n")
        })
        .start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let answer = client(&proxy).post("/x", "{}").send().refused(502, "invalid_upstream_response");
    assert_eq!(answer.header("etag"), None);
    let records = proxy.done();
    assert_eq!(said(&records[0], "http.response.status_code"), 502);
    assert_eq!(said(&records[0], "http.response.body.bytes"), answer.body.len());
}

#[test]
fn an_upstream_that_only_ever_says_wait_is_502() {
    let upstream = upstream()
        .does(|call| {
            call.close();
            call.send("HTTP/1.1 100 Continue\r\n\r\n".repeat(17))
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    client(&proxy).get("/x").send().refused(502, "invalid_upstream_response");
    let records = proxy.done();
    assert!(said(&records[0], "event.reason") == "invalid_upstream_response");
}
