//! What crosses the proxy and what does not.

use crate::support::*;

#[test]
fn what_is_for_one_hop_stays_on_it() {
    let upstream = upstream()
        .does(|call| {
            let headers = [
                ("connection", "x-hop, keep-alive"),
                ("x-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("x-powered-by", "secret"),
                ("via", "1.1 secret"),
                ("ratelimit", "lies"),
                ("x-request-id", "lies"),
                ("x-upstream", "kept"),
            ];
            call.answer(200, &headers, "hi")
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    // That nothing else comes back is checked on every answer, against the list in `support::client`.
    let answer = client(&proxy)
        .get("/x")
        .header("connection", "X-Mine, keep-alive")
        .header("x-mine", "1")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers, deflate")
        .header("proxy-authorization", "Basic YTpi")
        .header("proxy-connection", "keep-alive")
        .header("x-kept", "yes")
        .send()
        .is(200);
    assert_eq!(answer.header("x-upstream"), Some("kept"));
    let seen = upstream.only();
    for gone in ["x-mine", "keep-alive", "proxy-authorization", "proxy-connection"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("te"), Some("trailers"));
    assert_eq!(seen.header("x-kept"), Some("yes"));
    proxy.done();
}

/// An upstream that leads back here would be called until a limit ends it (U11).
#[test]
fn a_request_that_comes_back_goes_no_further() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    let sent = upstream.only().header("via").map(str::to_owned).unwrap();
    let answer = client.get("/x").header("via", &format!("1.1 edge, {sent}")).send();
    answer.refused(502, "upstream_unreachable");
    // Another proxy of this kind is none of ours.
    client.get("/x").header("via", "1.1 bartizan, 1.1 bartizan-0123456789abcdef").send().is(200);
    assert_eq!(upstream.seen().len(), 2);
    proxy.done();
}

#[test]
fn connection_cannot_take_away_what_a_message_means() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("POST /x").start();
    let mut client = client(&proxy);
    for named in ["content-type", "x-forwarded-for", "host", "close, Content-Length"] {
        client.post("/x", "{}").header("connection", named).send().refused(400, "malformed_request");
    }
    client.post("/x", "{}").header("connection", "x-request-id, via").send().is(200);
    assert_eq!(upstream.seen().len(), 1);
    for seen in upstream.seen() {
        assert_eq!(seen.header("content-type"), Some("application/json"));
        assert!(seen.header("x-forwarded-for").is_some() && seen.header("x-request-id").is_some());
        assert_eq!(seen.header("host"), Some(upstream.address.to_string().as_str()));
    }
    proxy.done();
}

#[test]
fn nobody_says_for_us_who_is_calling() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .with("trusted_proxies: [127.0.0.0/8]")
        .route("GET /x", "scopes: [orders:read]")
        .open("GET /open")
        .start();
    let mut client = client(&proxy);
    for path in ["/open", "/x"] {
        let request = client.get(path).bearer(issuer.token());
        let request = request.header("X-Consumer-Id", "root").header("x-consumer-scopes", "all");
        let request = request.header("X-CONSUMER-ANYTHING", "1").header("x-credential-id", "1");
        request.header("x-request-id", "mine").send().is(200);
    }
    let seen = upstream.seen();
    assert_eq!(seen[0].header("x-consumer-id"), None, "nobody is known on a public route");
    assert_eq!(seen[1].header("x-consumer-id"), Some("corp:alice"));
    for seen in &seen {
        assert_eq!(seen.header("x-consumer-anything"), None);
        assert_ne!(seen.header("x-credential-id"), Some("1"));
        assert_ne!(seen.header("x-request-id"), Some("mine"));
        assert_eq!(seen.header("authorization"), None);
    }
    proxy.done();
}

#[test]
fn one_id_from_the_caller_to_the_upstream_and_the_record() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = client(&proxy).get("/x").header("traceparent", trace).send().is(200);
    let seen = upstream.only();
    assert_eq!(seen.header("x-request-id"), Some(answer.id().as_str()));
    assert_eq!(seen.header("traceparent"), Some(trace));
    assert!(seen.header("via").is_some());
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.id"), &answer.id());
    assert_eq!(said(&records[0], "trace.id"), "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn what_strangers_say_of_earlier_hops_is_dropped() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut request = client(&proxy);
    let mut request = request.get("/x").host("api.test");
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-user"] {
        request = request.header(name, "203.0.113.9");
    }
    for name in ["x-real-ip", "x-original-forwarded-for", "client-cert", "client-cert-chain"] {
        request = request.header(name, "203.0.113.9");
    }
    request.send().is(200);
    let seen = upstream.only();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("x-forwarded-host"), Some("api.test"));
    assert!(!format!("{:?}", seen.head).contains("203.0.113.9"), "{:?}", seen.head);
    let records = proxy.done();
    assert_eq!(said(&records[0], "client.ip"), "127.0.0.1");
}

#[test]
fn what_a_trusted_proxy_says_of_earlier_hops_is_kept() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).with("trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]").open("GET /x").start();
    let answer =
        client(&proxy).get("/x").header("x-forwarded-for", "198.51.100.1, 203.0.113.9, 10.1.1.1").send().is(200);
    assert_eq!(answer.echoed("x-forwarded-for"), ["198.51.100.1, 203.0.113.9, 10.1.1.1, 127.0.0.1"]);
    let records = proxy.done();
    // The last that is not trusted: who came before it is hearsay.
    assert_eq!(said(&records[0], "client.ip"), "203.0.113.9");
    assert_eq!(said(&records[0], "source.ip"), "127.0.0.1");
}

#[test]
fn names_with_an_underscore_are_refused() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    client(&proxy).get("/x").header("x_consumer_id", "root").send().refused(400, "malformed_request");
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn upgrades_are_not_taken() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let request = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let status = client(&proxy).raw(request, 1).answer().status;
    assert!(status == 200 || status == 400, "{status}");
    for seen in upstream.seen() {
        assert_eq!(seen.header("upgrade"), None);
    }
    proxy.done();
}
