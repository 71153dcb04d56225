//! How many requests of a consumer are under way at the same time.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};

use crate::support::*;

/// An upstream that holds answers back on `/slow`: one a message, its head and half of its body before.
fn holding() -> (Upstream, Sender<()>) {
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let upstream = upstream().does(move |call| {
        if call.head.word(1) != "/slow" {
            return call.answer(200, &[], "");
        }
        call.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nh")?;
        let _ = may_go.lock().unwrap().recv();
        call.send("i")
    });
    (upstream.start(), go)
}

/// Refused while so many are under way, and admitted as soon as one has ended: whole, or because its client has left.
#[test]
fn so_many_requests_of_a_consumer_are_under_way_and_no_more() {
    let (upstream, go) = holding();
    let issuer = issuer();
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .plan("free: { rate: 100000/s, concurrent: 2 }")
        .route("GET /slow", "scopes: [orders:read]")
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let token = issuer.token().text();
    let begin = |client: &mut client::Client| {
        client.raw(format!("GET /slow HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"), 1);
        client.head();
    };
    let (mut first, mut second, mut third) = (client(&proxy), client(&proxy), client(&proxy));
    begin(&mut first);
    begin(&mut second);
    let refused = third.get("/x").bearer(&token).send().refused(429, "too_many_concurrent");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("ratelimit-policy"), Some(r#""concurrent";q=2;qu="concurrent-requests""#));
    assert_eq!(refused.header("ratelimit"), Some(r#""concurrent";r=0"#));
    // Other consumers have places of their own.
    third.get("/x").bearer(issuer.token().sub("bob")).send().is(200);

    go.send(()).unwrap();
    let admitted = |third: &mut client::Client| {
        eventually("a place is free", || (third.get("/x").bearer(&token).send().status == 200).then_some(()));
    };
    admitted(&mut third);
    // One of the two has ended; which one, the upstream has decided. The others leave before the end.
    first.leaves();
    second.leaves();
    drop(go);
    admitted(&mut third);
    proxy.stop();
}

/// What is refused for another reason takes no place, and what only reports lets it through.
#[test]
fn a_request_that_is_refused_takes_no_place() {
    let (upstream, go) = holding();
    let issuer = issuer();
    let policy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .plan("free: { rate: 100000/s, concurrent: 1 }")
        .route("GET /slow", "scopes: [orders:read]")
        .route("GET /once", "scopes: [orders:read], rate: 1/h")
        .route("GET /x", "scopes: [orders:read], mode: { rate_limit: report }");
    let proxy = policy.start();
    let token = issuer.token().text();
    let mut client = client(&proxy);
    client.get("/once").bearer(&token).send().is(200);
    client.get("/once").bearer(&token).send().refused(429, "rate_limited");
    let mut slow = client::client(&proxy);
    slow.raw(format!("GET /slow HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"), 1);
    slow.head();
    client.get("/x").bearer(&token).send().is(200);
    let records = proxy.recorded(3);
    assert_eq!(*said(&records[2], "bartizan.would_refuse"), json!(["too_many_concurrent"]));
    go.send(()).unwrap();
    slow.leaves();
    proxy.done();
}
