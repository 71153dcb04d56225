//! TLS towards clients.

use crate::support::*;

/// A listener whose certificate lies beside the policy.
const LISTENER: &str = r#"{ address: "127.0.0.1:0", tls: { certificate: c.pem, key: k.pem } }"#;

fn encrypted(upstream: &Upstream, authority: &certificates::Authority) -> Policy {
    let certified = authority.certifies(&["localhost"]);
    let policy = proxy().before(upstream).open("GET /x").listen(LISTENER);
    policy.file("c.pem", certified.certificate).file("k.pem", certified.key)
}

#[test]
fn a_request_over_tls_is_forwarded_and_recorded_as_such() {
    let (upstream, authority) = (upstream().start(), authority());
    let proxy = encrypted(&upstream, &authority).start();
    let mut client = client(&proxy).tls(authority.client(&["http/1.1"]));
    for _ in 0..2 {
        assert_eq!(client.get("/x").send().is(200).echoed("x-forwarded-proto"), ["https"]);
    }
    let records = proxy.done();
    assert_eq!(said(&records[0], "tls.version"), "1.3");
}

#[test]
fn a_new_certificate_serves_new_connections_and_leaves_the_old() {
    let (upstream, before, after) = (upstream().start(), authority(), authority());
    let mut proxy = encrypted(&upstream, &before).start();
    let mut old = client(&proxy).tls(before.client(&[]));
    old.get("/x").send().is(200);
    let certified = after.certifies(&["localhost"]);
    let reloaded = proxy.reload_to(|policy| policy.file("c.pem", certified.certificate).file("k.pem", certified.key));
    assert_eq!(reloaded, proxy::Reloaded::Loaded);
    old.get("/x").send().is(200);
    client(&proxy).tls(after.client(&[])).get("/x").send().is(200);
    proxy.done();
}

#[test]
fn plain_http_on_a_tls_port_is_no_request() {
    let (upstream, authority) = (upstream().start(), authority());
    let proxy = encrypted(&upstream, &authority).start();
    let mut lost = client(&proxy);
    lost.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 0);
    lost.connection().runs_dry();
    client(&proxy).tls(authority.client(&[])).get("/x").send().is(200);
    proxy.done();
}

#[test]
fn a_client_is_shown_the_certificate_for_the_name_that_it_asks_for() {
    let (upstream, default, shop, any) = (upstream().start(), authority(), authority(), authority());
    let listener = r#"{ address: "127.0.0.1:0", tls: { certificates: [
        { certificate: c.pem, key: k.pem }, { certificate: shop.pem, key: shop-k.pem }, { certificate: any.pem, key: any-k.pem }] } }"#;
    let mut policy = proxy().before(&upstream).open("GET /x").listen(listener);
    for (file, key, authority, names) in [
        ("c.pem", "k.pem", &default, &["localhost"][..]),
        ("shop.pem", "shop-k.pem", &shop, &["shop.example.com", "shop.example.org"]),
        ("any.pem", "any-k.pem", &any, &["*.example.com"]),
    ] {
        let certified = authority.certifies(names);
        policy = policy.file(file, certified.certificate).file(key, certified.key);
    }
    let mut proxy = policy.start();
    for (name, authority) in
        [("localhost", &default), ("shop.example.com", &shop), ("shop.example.org", &shop), ("api.example.com", &any)]
    {
        client(&proxy).tls(authority.client(&[])).asking_for(name).get("/x").send().is(200);
    }
    // Each is renewed by itself: here, one of them passes to another authority.
    let renewed = authority();
    let certified = renewed.certifies(&["shop.example.com"]);
    let reloaded =
        proxy.reload_to(|policy| policy.file("shop.pem", certified.certificate).file("shop-k.pem", certified.key));
    assert_eq!(reloaded, proxy::Reloaded::Loaded);
    client(&proxy).tls(renewed.client(&[])).asking_for("shop.example.com").get("/x").send().is(200);
    client(&proxy).tls(any.client(&[])).asking_for("api.example.com").get("/x").send().is(200);
    proxy.done();
}
