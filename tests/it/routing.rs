//! Which requests find a route, and what of their path is forwarded.

use crate::support::*;

#[test]
fn what_is_not_written_is_closed() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /a/{id}").open("POST /a").start();
    let mut client = client(&proxy);
    client.get("/a/1").send().is(200);
    client.request("HEAD", "/a/1").send().is(200);
    client.get("/b").send().refused(404, "no_route");
    client.get("/a/1/").send().refused(404, "no_route");
    let refused = client.request("DELETE", "/a/1").send().refused(405, "method_not_allowed");
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
    proxy.done();
}

#[test]
fn what_is_matched_is_what_is_forwarded() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /a/{id}").start();
    let mut client = client(&proxy);
    for (target, forwarded) in [
        ("/a/1?b=%2f..%2f&c", "/a/1?b=%2f..%2f&c"),
        ("/a/%7e", "/a/~"),
        ("/x/../a/1", "/a/1"),
        ("/a/%c3%a9", "/a/%C3%A9"),
    ] {
        assert_eq!(client.get(target).send().is(200).json()["target"], forwarded, "{target}");
    }
    for target in
        ["/a/%2f", "/a/%5c", "/a/..%2f", "/a/%2e%2e", "/a//1", "/a/%252f", "/a/%00", "/../a", "/a/%ff", "/a/%zz"]
    {
        client.get(target).send().refused(400, "malformed_request");
        client.leaves();
    }
    let records = proxy.done();
    assert!(records.iter().all(|record| !said(record, "url.path").to_string().contains('?')), "{records:#?}");
}

#[test]
fn an_api_may_have_hosts_of_its_own() {
    let (one, other) = (upstream().answers(200, "one").start(), upstream().answers(200, "other").start());
    let policy = format!(
        "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\naudit: [{{ file: {{ path: audit.jsonl }} }}]\napis:\n  \
         one: {{ hosts: [one.example], upstream: \"{}\", routes: {{ GET /x: {{ public: true }} }} }}\n  \
         other: {{ upstream: \"{}\", routes: {{ GET /x: {{ public: true }} }} }}\n",
        one.url(),
        other.url()
    );
    let proxy = proxy().text(&policy).start();
    let mut client = client(&proxy);
    for (host, expected) in [("one.example", "one"), ("ONE.example:80", "one"), ("two.example", "other")] {
        assert_eq!(client.get("/x").host(host).send().is(200).text(), expected, "{host}");
    }
    proxy.done();
}
