//! What crosses, and what does not.

use crate::support::*;

#[test]
fn what_a_caller_says_of_itself_does_not_cross() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut request = client(&proxy);
    let mut request = request.get("/x");
    for (name, value) in [
        ("x-consumer-id", "forged"),
        ("x-credential-id", "forged"),
        ("x-forwarded-for", "9.9.9.9"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=9.9.9.9"),
        ("x-real-ip", "9.9.9.9"),
        ("client-cert", "forged"),
        ("x-request-id", "forged"),
        ("connection", "x-hop, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("upgrade", "websocket"),
        ("x-kept", "yes"),
    ] {
        request = request.header(name, value);
    }
    let answer = request.send().is(200);
    for name in
        ["x-consumer-id", "x-credential-id", "forwarded", "x-real-ip", "client-cert", "x-hop", "keep-alive", "upgrade"]
    {
        assert_eq!(answer.echoed(name), [""; 0], "{name}");
    }
    assert_eq!(answer.echoed("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(answer.echoed("x-forwarded-proto"), ["http"]);
    assert_eq!(answer.echoed("x-forwarded-host"), [proxy.address().to_string()]);
    assert_eq!(answer.echoed("x-kept"), ["yes"]);
    assert_eq!(answer.echoed("via"), ["1.1 bartizan"]);
    assert_eq!(answer.echoed("x-request-id"), [answer.id()]);
    let records = proxy.done();
    assert_eq!(*said(&records[0], "event.id"), json!(answer.id()));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("trusted_proxies: [127.0.0.0/8]").start();
    let mut client = client(&proxy);
    let answer =
        client.get("/x").header("x-forwarded-for", "6.6.6.6, 9.9.9.9").header("x-forwarded-proto", "https").send();
    assert_eq!(answer.echoed("x-forwarded-for"), ["6.6.6.6, 9.9.9.9, 127.0.0.1"]);
    assert_eq!(answer.echoed("x-forwarded-proto"), ["https"]);
    let records = proxy.done();
    assert_eq!(said(&records[0], "client.ip"), "9.9.9.9");
    assert_eq!(said(&records[0], "source.ip"), "127.0.0.1");
}

#[test]
fn a_credential_goes_upstream_only_when_that_is_written() {
    let issuer = issuer();
    for (line, goes) in [("forward_credentials: false", false), ("forward_credentials: true", true)] {
        let upstream = upstream().start();
        let policy = proxy().before(&upstream).trusts(&issuer).upstream(line);
        let proxy = policy.route("GET /x", "scopes: [orders:read]").start();
        let answer = client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
        assert_eq!(answer.echoed("authorization").len(), usize::from(goes));
        proxy.done();
    }
}

#[test]
fn nothing_says_what_runs_behind() {
    let upstream = upstream()
        .does(|call| call.answer(200, &[("x-powered-by", "secret"), ("via", "1.1 inner"), ("x-upstream", "1")], "hi"))
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    // Header names are checked against a list by the client.
    let answer = client(&proxy).get("/x").send().is(200);
    assert_eq!(answer.header("x-upstream"), Some("1"));
    proxy.done();
}
