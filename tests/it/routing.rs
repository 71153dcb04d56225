//! Which requests find a route, and what of a path is forwarded.

use crate::support::*;

#[test]
fn routes_by_method_and_path() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .open("GET /orders/{id}")
        .open("GET /orders/latest")
        .open("POST /orders")
        .open("GET /files/{path...}")
        .start();
    let mut client = client(&proxy);
    client.get("/orders/7").send().is(200);
    client.get("/orders/latest").send().is(200);
    client.get("/files/a/b/c").send().is(200);
    client.get("/orders/7/more").send().refused(404, "no_route");
    client.get("/orders/").send().refused(404, "no_route");
    client.get("/").send().refused(404, "no_route");
    client.get("/Orders/7").send().refused(404, "no_route");
    let answer = client.request("DELETE", "/orders/7").send().refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    assert_eq!(upstream.seen().len(), 3);
    let records = proxy.done();
    let routes: Vec<_> = records.iter().map(|record| said(record, "bartizan.route").as_str()).collect();
    assert_eq!(routes[..4], [Some("GET /orders/{id}"), Some("GET /orders/latest"), Some("GET /files/{path...}"), None]);
}

#[test]
fn head_follows_get() {
    let upstream = upstream().answers(200, "hello").start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let mut client = client(&proxy);
    let answer = client.request("HEAD", "/x").send().is(200);
    assert_eq!((answer.header("content-length"), answer.body.len()), (Some("5"), 0));
    // The connection is in step after it.
    assert_eq!(client.get("/x").send().is(200).text(), "hello");
    client.request("HEAD", "/nothing").send().is(404);
    client.get("/x").send().is(200);
    proxy.done();
}

#[test]
fn scopes_and_approved_consumers() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .with("consumers: { acme: { plan: free, identities: [{ issuer: corp, id: acme-backend }] } }")
        .route("GET /both", "scopes: [a, b]")
        .route("GET /any", "scopes: []")
        .route("GET /acme", "scopes: [a], only: [acme]")
        .open("GET /open")
        .start();
    let mut client = client(&proxy);
    let answer = client.get("/both").bearer(issuer.token().scope("a")).send().refused(403, "insufficient_scope");
    assert!(answer.header("www-authenticate").unwrap().contains("error=\"insufficient_scope\", scope=\"a b\""));
    client.get("/both").bearer(issuer.token().scope("b a c")).send().is(200);
    client.get("/both").bearer(issuer.token().scope("ab")).send().refused(403, "insufficient_scope");
    client.get("/any").bearer(issuer.token().scope("")).send().is(200);
    client.get("/any").send().refused(401, "missing_credentials");
    client.get("/acme").bearer(issuer.token().scope("a")).send().refused(403, "consumer_not_approved");
    client.get("/acme").bearer(issuer.token().scope("a").sub("acme-backend")).send().is(200);
    client.get("/acme").bearer(issuer.token().scope("b").sub("acme-backend")).send().refused(403, "insufficient_scope");
    client.get("/open").send().is(200);
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.scopes.required"), &json!(["a", "b"]));
    assert_eq!(said(&records[0], "bartizan.scopes.granted"), &json!(["a"]));
    assert_eq!(said(&records[0], "bartizan.stage"), "scope");
}

#[test]
fn hosts_choose_the_api() {
    let (view, there) = (upstream().answers(200, "here").start(), upstream().answers(200, "there").start());
    let policy = format!(
        "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\naudit: [{{ file: {{ path: audit.jsonl }} }}]\napis:\n\
         \x20 here:\n    hosts: [here.test]\n    upstream: {}\n    routes: {{ \"GET /x\": {{ public: true }} }}\n\
         \x20 there:\n    hosts: [there.test]\n    upstream: {}\n    routes: {{ \"GET /x\": {{ public: true }} }}\n",
        view.url(),
        there.url(),
    );
    let proxy = proxy().text(&policy).start();
    let mut client = client(&proxy);
    assert_eq!(client.get("/x").host("here.test").send().is(200).text(), "here");
    assert_eq!(client.get("/x").host("THERE.test:8080").send().is(200).text(), "there");
    client.get("/x").host("else.test").send().refused(404, "no_route");
    // Of an absolute-form target, its authority counts, whatever Host says.
    assert_eq!(client.get("http://here.test/x").host("here.test").send().is(200).text(), "here");
    let answer = client.get("http://here.test/x").host("there.test").send();
    assert_eq!(answer.is(200).text(), "here", "RFC 9112 §3.2.2");
    for seen in view.seen() {
        assert_eq!(seen.header("host"), Some(view.address.to_string().as_str()));
        assert_eq!(seen.header("x-forwarded-host").unwrap().to_ascii_lowercase(), "here.test");
        assert_eq!(seen.target(), "/x");
    }
    proxy.done();
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_refused() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /{path...}").start();
    let mut client = client(&proxy);
    for path in [
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a/%2e%2e/b",
        "/a/%2E/b",
        "/a/.%2e/b",
        "/a//b",
        "//a",
        "/a/..;x/b",
        "/a%00b",
        "/a%252fb",
        "/a%",
        "/a%zz",
        "/a%c0%afb",
        "/a%ff",
        "/..",
        "/a/../../b",
    ] {
        eprintln!("path: {path}");
        client.get(path).send().refused(400, "malformed_request");
    }
    upstream.saw_nothing();
    let records = proxy.done();
    assert!(records.iter().all(|record| said(record, "event.reason") == "malformed_request"));
}

#[test]
fn what_is_matched_is_what_is_forwarded() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /orders/{id}").start();
    let mut client = client(&proxy);
    for (asked, forwarded) in [
        ("/orders/7", "/orders/7"),
        ("/orders/7?", "/orders/7?"),
        ("/orders/7?a=%2F&b=//../x&token=hunter2", "/orders/7?a=%2F&b=//../x&token=hunter2"),
        ("/%6frders/%7e7", "/orders/~7"),
        ("/orders/a%20b", "/orders/a%20b"),
        ("/orders/%e4%bd%a0", "/orders/%E4%BD%A0"),
        ("/orders/a;b=c", "/orders/a;b=c"),
        ("/x/../orders/./7", "/orders/7"),
    ] {
        assert_eq!(client.get(asked).send().is(200).json()["target"], forwarded, "{asked}");
    }
    let records = proxy.done();
    assert_eq!(said(&records[2], "url.path"), "/orders/7");
    assert!(!Value::from(records).to_string().contains("hunter2"), "the query is in the record");
}
