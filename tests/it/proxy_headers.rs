//! Headers, cookies and paths with which a caller would say what only a proxy may, or mean one thing here and another at the
//! upstream.

use crate::support::*;

/// S4: who proves itself with headers of other proxies, or gives another address, is nobody at the upstream.
#[test]
fn what_only_a_proxy_may_say_does_not_cross() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let said = [
        "True-Client-Ip",
        "CF-Connecting-IP",
        "X-Envoy-External-Address",
        "X-Forwarded",
        "X-SSL-Client-Verify",
        "SSL-Client-Cert",
        "X-ARR-ClientCert",
        "Remote-User",
        "X-Remote-User",
        "X-Auth-Request-Email",
        "X-WEBAUTH-USER",
        "X-MS-Client-Principal-Id",
        "X-Amzn-Oidc-Data",
        "X-Goog-Authenticated-User-Email",
        "Proxy",
    ];
    let mut client = client(&proxy);
    let request = client.get("/x").header("x-kept", "yes");
    said.iter().fold(request, |request, name| request.header(name, "203.0.113.9")).send().is(200);
    let seen = upstream.only();
    assert_eq!(seen.header("x-kept"), Some("yes"));
    assert!(!format!("{:?}", seen.head).contains("203.0.113.9"), "{:?}", seen.head);
    proxy.done();
}

/// S4: another method or path than the one that was authorized is refused, in every spelling.
#[test]
fn headers_that_override_method_or_path_are_refused() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("POST /x").start();
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Override-URL",
        "X_HTTP_Method_Override",
        "X.HTTP.Method.Override",
        "X.Consumer.Id",
    ] {
        let request = |proxy: &Proxy| client(proxy).post("/x", "{}").header(name, "DELETE").send();
        request(&proxy).refused(400, "malformed_request");
    }
    upstream.saw_nothing();
    // A proxy that clients come through may have passed on what they sent, or tell what it has rewritten itself.
    assert_eq!(proxy.reload_to(|policy| policy.with("trusted_proxies: [127.0.0.0/8]")), proxy::Reloaded::Loaded);
    let mut client = client(&proxy);
    client.post("/x", "{}").header("x-http-method-override", "DELETE").send().refused(400, "malformed_request");
    let answer = client.post("/x", "{}").header("x-original-url", "/admin").send().is(200);
    assert_eq!(answer.echoed("x-original-url"), [""; 0]);
    proxy.done();
}

/// S4: the same lists hold for trailers, which servers merge into the head.
#[test]
fn what_does_not_cross_as_a_header_does_not_cross_as_a_trailer() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).with("headers: { drop: [x-internal-*] }").open("POST /x").start();
    let trailers = [
        "X-HTTP-Method-Override: DELETE",
        "X-Real-Ip: 203.0.113.9",
        "Remote-User: root",
        "X-SSL-Client-Verify: SUCCESS",
        "X-Consumer-Id: root",
        "X.Consumer.Id: root",
        "Proxy: x",
        "X-Internal-Role: root",
        "X-Sum: 7",
    ];
    let head = "POST /x HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
    client(&proxy).raw(format!("{head}{}\r\n\r\n", trailers.join("\r\n")), 1).answer().is(200);
    let names: Vec<_> = upstream.only().trailers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["x-sum"]);
    proxy.done();
}

/// S4: the policy drops more, and an API keeps by name what it knows how to read.
#[test]
fn a_policy_drops_headers_and_an_api_keeps_some() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).with("headers: { drop: [X-Internal-*, x-debug] }").open("GET /x");
    let keep = "headers: { request: { keep: [x-internal-trace, Remote-User, x-original-uri, x_legacy] } }";
    let text = policy.yaml().replace("    routes:\n", &format!("    {keep}\n    routes:\n"));
    let proxy = policy.text(&text).start();
    let sent =
        ["x-internal-role", "x-debug", "x-internal-trace", "remote-user", "x-original-uri", "x_legacy", "x-other"];
    let mut client = client(&proxy);
    let answer = sent.iter().fold(client.get("/x"), |request, name| request.header(name, "1")).send().is(200);
    let crossed: Vec<_> = sent.iter().filter(|name| answer.echoed(name) == ["1"]).copied().collect();
    assert_eq!(crossed, ["x-internal-trace", "remote-user", "x-original-uri", "x_legacy", "x-other"]);
    client.get("/x").header("x_other", "1").send().refused(400, "malformed_request");
    proxy.done();
}

/// S17: what a route validates is not taken off by `Connection`.
#[test]
fn connection_cannot_take_away_a_header_that_is_validated() {
    let upstream = upstream().start();
    let schema = r#"{"type": "object", "properties": {"X-Tenant": {"type": "string", "pattern": "^t-[0-9]+$"}}}"#;
    let proxy = proxy()
        .before(&upstream)
        .file("headers.json", schema)
        .route("GET /x", "public: true, request: { headers: headers.json }")
        .start();
    let mut client = client(&proxy);
    client.get("/x").header("x-tenant", "t-1").send().is(200);
    let request = client.get("/x").header("x-tenant", "t-1").header("connection", "X-Tenant");
    request.send().refused(400, "malformed_request");
    assert_eq!(upstream.only().header("x-tenant"), Some("t-1"));
    proxy.done();
}

/// S18: cookies and queries that servers read in another way than they are judged here are refused.
#[test]
fn cookies_and_queries_are_judged_as_upstreams_read_them() {
    let upstream = upstream().start();
    let schema = r#"{"type": "object", "properties": {"c": {"type": "integer", "maximum": 10}}}"#;
    let proxy = proxy()
        .before(&upstream)
        .file("c.json", schema)
        .route("GET /x", "public: true, request: { cookies: c.json, query: c.json }")
        .open("GET /free")
        .start();
    let mut client = client(&proxy);
    client.get("/x?c=10").header("cookie", "a=1; c=10").send().is(200);
    for (target, cookie) in [
        ("/x", "c=11"),
        ("/x", "c =11"),
        ("/x", "c=\"11\""),
        ("/x", "%63=11"),
        ("/x", "a; c=10"),
        ("/x?c=11", "c=10"),
        ("/x?a=1;c=11", "c=10"),
        ("/x?c%20=11", "c=10"),
        ("/x?c+=11", "c=10"),
    ] {
        client.get(target).header("cookie", cookie).send().refused(422, "schema_violation");
    }
    assert_eq!(upstream.seen().len(), 1);
    // Where nothing is judged, nothing is misread.
    client.get("/free?a=1;b").header("cookie", "c =11").send().is(200);
    proxy.done();
}

/// A2: a form of a slash, a backslash or a dot that a server may turn into the thing itself does not cross.
#[test]
fn compatibility_forms_of_separators_are_refused() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /files/{path...}").start();
    let mut client = client(&proxy);
    for path in ["..%EF%BC%8Fadmin", "%EF%BC%8E%EF%BC%8E/a", "a%EF%BC%BCb", "%E2%80%A4%E2%80%A4/a", "a%E2%88%95b"] {
        client.get(&format!("/files/{path}")).send().refused(400, "malformed_request");
    }
    upstream.saw_nothing();
    client.get("/files/caf%C3%A9%E2%80%A6").send().is(200);
    proxy.done();
}

/// S22: a target of another scheme is no request for us.
#[test]
fn other_schemes_are_refused() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    client.raw("GET ftp://a/x HTTP/1.1\r\nhost: a\r\n\r\n", 1).answer().refused(400, "malformed_request");
    upstream.saw_nothing();
    proxy.done();
}
