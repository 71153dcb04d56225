//! Listeners behind a proxy that says by the PROXY protocol for whom it opens a connection.

use crate::support::client::Client;
use crate::support::*;

const LISTENER: &str = "{ address: \"127.0.0.1:0\", proxy_protocol: true }";
const TRUSTED: &str = "trusted_proxies: [127.0.0.0/8]";

fn line(client: &str) -> String {
    format!("PROXY TCP4 {client} 10.0.0.1 56324 443\r\n")
}

/// Version 2 with these bytes after the signature.
fn binary(rest: &[u8]) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n", rest].concat()
}

/// Nothing comes of a connection that begins like this.
#[track_caller]
fn is_closed(proxy: &Proxy, beginning: impl AsRef<[u8]>) {
    let mut client = through(proxy, beginning);
    client.connection();
    client.closes();
}

fn through(proxy: &Proxy, header: impl AsRef<[u8]>) -> Client {
    client(proxy).beginning(header)
}

#[test]
fn the_address_in_the_header_is_that_of_the_client() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .listen(LISTENER)
        .with(TRUSTED)
        .route("GET /x", "public: true, rate: 1/h")
        .open("GET /y")
        .start();
    let v2 = binary(&[0x21, 0x11, 0, 15, 203, 0, 113, 9, 10, 0, 0, 1, 0xdc, 4, 1, 187, 4, 0, 0]);
    for (header, address) in [(line("192.0.2.1").into_bytes(), "192.0.2.1"), (v2, "203.0.113.9")] {
        let mut client = through(&proxy, header);
        let answer = client.get("/x").header("x-forwarded-for", "198.51.100.7").send().is(200);
        assert_eq!(answer.echoed("x-forwarded-for"), [address], "what the client itself says is not believed");
        client.get("/x").send().refused(429, "rate_limited");
    }
    // Behind another trusted proxy, what that one says of the client counts.
    let mut behind = through(&proxy, line("127.0.0.9"));
    behind.get("/y").header("x-forwarded-for", "198.51.100.7").send().is(200);
    // The proxy itself: a health check, or a connection that it knows nothing of.
    for header in [binary(&[0x20, 0, 0, 0]), b"PROXY UNKNOWN\r\n".to_vec()] {
        // What a client says that the proxy does not name is not believed.
        through(&proxy, header).get("/y").header("x-forwarded-for", "198.51.100.8").send().is(200);
    }
    let records = proxy.done();
    let mut clients: Vec<_> = records.iter().map(|record| said(record, "client.ip").as_str().unwrap()).collect();
    // Workers write theirs apart.
    clients.sort_unstable();
    let expected = [&["127.0.0.1"; 2][..], &["192.0.2.1"; 2], &["198.51.100.7"], &["203.0.113.9"; 2]].concat();
    assert_eq!(clients, expected);
}

/// The network of the proxy says nothing of a client that it does not name.
#[test]
fn a_client_that_the_proxy_does_not_name_is_in_no_network() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .listen(LISTENER)
        .with(TRUSTED)
        .route("GET /x", "public: true, from: [127.0.0.0/8, 192.0.2.0/24]")
        .start();
    through(&proxy, line("192.0.2.1")).get("/x").send().is(200);
    for header in [binary(&[0x20, 0, 0, 0]), b"PROXY UNKNOWN\r\n".to_vec()] {
        through(&proxy, header).get("/x").send().refused(403, "network_not_allowed");
    }
    proxy.done();
}

#[test]
fn the_header_comes_before_tls() {
    let (upstream, authority) = (upstream().start(), authority());
    let certified = authority.certifies(&["localhost"]);
    let proxy = proxy()
        .before(&upstream)
        .listen("{ address: \"127.0.0.1:0\", proxy_protocol: true, tls: { certificate: c.pem, key: k.pem } }")
        .file("c.pem", certified.certificate)
        .file("k.pem", certified.key)
        .with(TRUSTED)
        .open("GET /x")
        .start();
    let mut client = through(&proxy, line("192.0.2.1")).tls(authority.client(&["http/1.1"]));
    assert_eq!(client.get("/x").send().is(200).echoed("x-forwarded-for"), ["192.0.2.1"]);
    proxy.done();
}

#[test]
fn what_is_no_header_and_who_may_not_send_one_are_not_served() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).listen(LISTENER).with(TRUSTED).open("GET /x").start();
    let head = "GET /x HTTP/1.1\r\nhost: a\r\n\r\n";
    for header in [
        "".to_owned(),
        "PROXY TCP4 192.0.2.1 10.0.0.1 56324\r\n".to_owned(),
        format!("PROXY UNKNOWN {}\r\n", "x".repeat(200)),
        "PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\n".to_owned(),
    ] {
        is_closed(&proxy, format!("{header}{head}"));
    }
    is_closed(&proxy, binary(&[0x21, 0x12, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    let refused = |proxy: &Proxy| {
        let metrics = client::operator(proxy).get("/metrics").send().text();
        let line = metrics.lines().find(|line| line.starts_with("bartizan_connections_refused_total ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(refused(&proxy), 5);
    let policy = proxy.policy.clone();
    let elsewhere = policy.yaml().replace(TRUSTED, "trusted_proxies: [10.0.0.0/8]");
    assert_eq!(proxy.reload_to(|policy| policy.text(&elsewhere)), proxy::Reloaded::Loaded);
    is_closed(&proxy, line("192.0.2.1") + head);
    assert_eq!(refused(&proxy), 6);
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn each_client_of_a_proxy_has_its_own_limit_of_connections() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .listen(LISTENER)
        .with(TRUSTED)
        .with("limits: { per_client: 1 }")
        .open("GET /x")
        .start();
    let mut first = through(&proxy, line("192.0.2.1"));
    first.get("/x").send().is(200);
    is_closed(&proxy, line("192.0.2.1"));
    through(&proxy, line("192.0.2.2")).get("/x").send().is(200);
    first.get("/x").send().is(200);
    proxy.done();
}

#[test]
fn a_header_that_does_not_come_has_a_deadline() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .listen(LISTENER)
        .with(TRUSTED)
        .with("timeouts: { request_headers: 200ms }")
        .open("GET /x")
        .start();
    is_closed(&proxy, "PROXY TCP4 192.0.2.1");
    proxy.done();
}
