//! WebSockets: opened like every request, and open no longer than their callers may have them.

use crate::support::client::operator;
use crate::support::proxy::{ADMIN_TOKEN, Reloaded, of_requests};
use crate::support::websocket::{KEY, accept, closed, frame, hears, open, says, sockets, switch};
use crate::support::*;

const SOCKET: &str = "scopes: [feed:read], upgrade: { websocket: {} }";

/// An API with WebSockets, whose operators can revoke.
fn before(upstream: &Upstream, issuer: &issuer::Issuer, asks: &str) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with("store: state/")
        .with("consumers: { acme: { plan: free, identities: [{ issuer: corp, id: acme-app }] } }")
        .route("GET /feed", asks)
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

fn token(issuer: &issuer::Issuer) -> issuer::Token {
    issuer.token().claim("client_id", "acme-app").scope("feed:read")
}

/// The record of the request, which is written when the WebSocket has ended.
fn of_request(records: &[Value]) -> &Value {
    let mut of_request = of_requests(records).filter(|record| said(record, "url.path") == "/feed");
    let record = of_request.next().unwrap();
    assert_eq!(said(record, "http.response.status_code"), 101);
    record
}

#[test]
fn messages_go_both_ways_and_the_record_has_its_begin_and_its_end() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = before(&upstream, &issuer, SOCKET).start();
    let mut client = client(&proxy);
    let head = open(&mut client, "/feed", &(bearer(&token(&issuer).text()) + "sec-websocket-protocol: chat\r\n"));
    assert_eq!(
        (head.word(1), head.header("upgrade"), head.header("connection")),
        ("101", Some("websocket"), Some("upgrade"))
    );
    assert_eq!(head.header("sec-websocket-accept"), Some(&*accept(KEY)));
    assert_eq!((head.header("content-length"), head.header("transfer-encoding")), (None, None));
    assert_eq!(hears(&mut client), "welcome");
    for text in ["one", "two", ""] {
        says(&mut client, text);
        assert_eq!(hears(&mut client), text);
    }
    let metrics = operator(&proxy).get("/metrics").send().text();
    assert!(metrics.contains("bartizan_websockets 1\n"), "{metrics}");
    // The opening is on record while it is open.
    eventually("its opening is on record", || {
        proxy.records().iter().any(|record| said(record, "event.action") == "websocket_opened").then_some(())
    });
    says(&mut client, "close");
    assert_eq!(closed(&mut client).0, 1000, "the upstream's own frame");
    let seen = upstream.seen().remove(0);
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(seen.header("sec-websocket-protocol"), Some("chat"));
    assert_eq!(seen.header("authorization"), None);
    let records = proxy.done();
    let record = of_request(&records);
    assert_eq!(said(record, "event.reason"), "closed_by_upstream");
    assert_eq!((said(record, "event.outcome"), said(record, "bartizan.consumer")), (&json!("success"), &json!("acme")));
    let sent = [frame(1, b"one", true), frame(1, b"two", true), frame(1, b"", true), frame(1, b"close", true)].concat();
    assert_eq!(said(record, "http.request.body.bytes"), sent.len());
    let opened = records.iter().find(|record| said(record, "event.action") == "websocket_opened").unwrap();
    assert_eq!(said(opened, "http.request.id"), said(record, "http.request.id"));
    assert_ne!(said(opened, "event.id"), said(record, "event.id"));
}

#[test]
fn it_ends_at_once_when_operators_take_the_permission_away() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = before(&upstream, &issuer, SOCKET).start();
    let text = token(&issuer).claim("jti", "t-1").text();
    let (mut revoked, mut suspended) = (client(&proxy), client(&proxy));
    for client in [&mut revoked, &mut suspended] {
        let text = token(&issuer).claim("jti", "t-2").text();
        assert_eq!(open(client, "/feed", &bearer(&text)).word(1), "101");
        assert_eq!(hears(client), "welcome");
    }
    let mut third = client(&proxy);
    open(&mut third, "/feed", &bearer(&text));
    assert_eq!(hears(&mut third), "welcome");
    let mut operator = operator(&proxy);
    let mut does = |method: &str, path: &str, body: Value| {
        let answer = operator.request(method, path).bearer(ADMIN_TOKEN).body(body.to_string()).send();
        assert!(answer.status < 300, "{}", answer.text());
    };
    does("POST", "/v1/revocations", json!({"jti": "t-1"}));
    assert_eq!(closed(&mut third), (1008, "revoked".to_owned()));
    says(&mut revoked, "goes on");
    assert_eq!(hears(&mut revoked), "goes on");
    does("PUT", "/v1/consumers/acme/suspension", json!({"reason": "unpaid"}));
    assert_eq!(closed(&mut suspended), (1008, "consumer_suspended".to_owned()));
    assert_eq!(closed(&mut revoked), (1008, "consumer_suspended".to_owned()));
    let records = proxy.done();
    let mut reasons: Vec<_> = of_requests(&records)
        .filter(|record| said(record, "url.path") == "/feed")
        .map(|record| (said(record, "event.reason").clone(), said(record, "event.outcome").clone()))
        .collect();
    reasons.sort_by_key(|(reason, _)| reason.to_string());
    let failed = |reason: &str| (json!(reason), json!("failure"));
    assert_eq!(reasons, [failed("consumer_suspended"), failed("consumer_suspended"), failed("revoked")]);
}

#[test]
fn it_ends_with_the_token() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = before(&upstream, &issuer, SOCKET).start();
    let mut client = client(&proxy);
    // It is accepted for as long as clocks may differ, and ends within that time.
    let text = token(&issuer).claim("exp", issuer::now() - 28).text();
    assert_eq!(open(&mut client, "/feed", &bearer(&text)).word(1), "101");
    assert_eq!(hears(&mut client), "welcome");
    assert_eq!(closed(&mut client), (1008, "expired_token".to_owned()));
    proxy.done();
}

#[test]
fn it_ends_when_the_policy_takes_the_route_or_the_scope_away_and_outlives_other_changes() {
    let (upstream, issuer) = (sockets().start(), issuer());
    for (asks, ends) in [
        ("scopes: [feed:read], upgrade: { websocket: { idle: 1m } }", None),
        ("scopes: [feed:write], upgrade: { websocket: {} }", Some("insufficient_scope")),
        ("scopes: [feed:read]", Some("no_route")),
    ] {
        let proxy = before(&upstream, &issuer, SOCKET).start();
        let mut client = client(&proxy);
        open(&mut client, "/feed", &bearer(&token(&issuer).text()));
        assert_eq!(hears(&mut client), "welcome");
        let policy = proxy.file("policy.yaml");
        let text = std::fs::read_to_string(&policy).unwrap();
        std::fs::write(&policy, text.replace(SOCKET, asks)).unwrap();
        assert_eq!(proxy.reload(), Reloaded::Loaded);
        match ends {
            Some(reason) => assert_eq!(closed(&mut client), (1008, reason.to_owned())),
            None => {
                says(&mut client, "still there");
                assert_eq!(hears(&mut client), "still there");
                client.leaves();
            }
        }
        proxy.done();
    }
}

#[test]
fn a_page_opens_one_only_if_its_origin_is_listed_or_the_apis_own() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = before(&upstream, &issuer, SOCKET).api("cors: { origins: [\"https://app.test\"] }").start();
    let mut status = |origin: &str| {
        let fields = bearer(&token(&issuer).text()) + &format!("origin: {origin}\r\n");
        open(&mut client(&proxy), "/feed", &fields).word(1).to_owned()
    };
    let statuses = ["https://app.test", "http://a", "https://evil.test", "https://a", "null"].map(&mut status);
    assert_eq!(statuses, ["101", "101", "403", "403", "403"]);
    let records = proxy.done();
    let refused = of_requests(&records).filter(|record| said(record, "event.reason") == "cors_refused").count();
    assert_eq!(refused, 3);
}

#[test]
fn it_ends_when_nothing_is_sent_and_at_the_end_of_its_lifetime_and_of_the_process() {
    let (upstream, issuer) = (sockets().start(), issuer());
    for (limit, reason) in [("idle: 300ms", "idle"), ("lifetime: 300ms", "lifetime")] {
        let asks = format!("scopes: [feed:read], upgrade: {{ websocket: {{ {limit} }} }}");
        let proxy = before(&upstream, &issuer, &asks).start();
        let mut client = client(&proxy);
        open(&mut client, "/feed", &bearer(&token(&issuer).text()));
        assert_eq!(hears(&mut client), "welcome");
        assert_eq!(closed(&mut client), (1001, reason.to_owned()));
        let records = proxy.done();
        assert_eq!(said(of_request(&records), "event.reason"), reason);
    }
    let mut proxy = before(&upstream, &issuer, SOCKET).start();
    let mut client = client(&proxy);
    open(&mut client, "/feed", &bearer(&token(&issuer).text()));
    assert_eq!(hears(&mut client), "welcome");
    proxy.signal("TERM");
    assert_eq!(closed(&mut client), (1001, "stopping".to_owned()));
    assert!(proxy.ended().success());
    assert_eq!(said(of_request(&proxy.records()), "event.reason"), "stopping");
}

/// In the middle of a message, no frame of ours can follow: the connection just ends.
#[test]
fn nothing_is_put_into_a_message_that_was_begun() {
    let issuer = issuer();
    let upstream = upstream()
        .does(|call| {
            switch(call, &accept(KEY))?;
            call.send([0x81, 100, b'h', b'a', b'l', b'f'])?;
            call.connection.runs_dry();
            call.close();
            Ok(())
        })
        .start();
    let proxy = before(&upstream, &issuer, "scopes: [feed:read], upgrade: { websocket: { lifetime: 300ms } }").start();
    let mut client = client(&proxy);
    open(&mut client, "/feed", &bearer(&token(&issuer).text()));
    assert_eq!(hears(&mut client), "welcome");
    assert_eq!(client.connection().runs_dry(), [0x81, 100, b'h', b'a', b'l', b'f']);
    proxy.done();
}

/// Whatever the upstream answers but 101 to this very request is an answer, and what follows is HTTP.
#[test]
fn nothing_is_switched_unless_both_sides_agree() {
    let issuer = issuer();
    // The upstream does not want to, and the connection goes on.
    let refuses = upstream().answers(403, "no").start();
    let proxy = before(&refuses, &issuer, SOCKET).start();
    let mut client = client(&proxy);
    let text = bearer(&token(&issuer).text());
    for _ in 0..2 {
        let request = format!(
            "GET /feed HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n{text}\r\n"
        );
        assert_eq!(client.raw(request, 1).answer().is(403).text(), "no");
    }
    proxy.done();

    // It answers another request, or switches to something else, or nobody has asked.
    for (answer, asks, status) in [
        (
            format!("upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n", accept("AAAA")),
            SOCKET,
            502,
        ),
        ("upgrade: websocket\r\nconnection: upgrade\r\n".to_owned(), SOCKET, 502),
        (format!("upgrade: h2c\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n", accept(KEY)), SOCKET, 502),
        (format!("upgrade: websocket\r\ncontent-length: 3\r\nsec-websocket-accept: {}\r\n", accept(KEY)), SOCKET, 502),
        (format!("upgrade: websocket\r\nsec-websocket-accept: {}\r\n", accept(KEY)), "scopes: [feed:read]", 502),
    ] {
        let upstream = upstream()
            .does(move |call| {
                call.send(format!("HTTP/1.1 101 Switching Protocols\r\n{answer}\r\n"))?;
                call.close();
                Ok(())
            })
            .start();
        let proxy = before(&upstream, &issuer, asks).start();
        let mut client = crate::support::client(&proxy);
        let head = open(&mut client, "/feed", &text);
        assert_eq!(head.word(1), status.to_string());
        drop(client);
        proxy.done();
    }
}

#[test]
fn who_may_not_call_the_route_opens_nothing() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let proxy = before(&upstream, &issuer, SOCKET).start();
    for (fields, status) in [
        (String::new(), "401"),
        (bearer(&token(&issuer).scope("other").text()), "403"),
        (bearer(&token(&issuer).text()) + "content-length: 3\r\n", "400"),
    ] {
        assert_eq!(open(&mut client(&proxy), "/feed", &fields).word(1), status);
    }
    // A route without WebSockets answers as if nobody had asked for one.
    let mut plain = client(&proxy);
    assert_eq!(plain.get("/feed").bearer(token(&issuer).text()).send().is(200).text(), "a page");
    assert_eq!(upstream.seen().len(), 1);
    proxy.done();
}

#[test]
fn what_is_wrong_with_the_settings_is_said() {
    let (upstream, issuer) = (sockets().start(), issuer());
    for (route, asks, problem) in [
        ("GET /feed", "public: true, upgrade: {}", "`upgrade` does not say to what"),
        ("POST /feed", "public: true, upgrade: { websocket: {} }", "a WebSocket begins with a GET request"),
        ("GET /feed", "public: true, upgrade: { websocket: { idle: 0s } }", "greater than zero"),
        (
            "GET /feed",
            "public: true, upgrade: { websocket: {} }, response: { json: s.json }",
            "cannot be checked against the schema",
        ),
    ] {
        let policy = proxy().before(&upstream).trusts(&issuer).route(route, asks).file("s.json", "{}");
        let text = policy.fails();
        assert!(text.contains(problem), "{asks}: {text}");
    }
}
