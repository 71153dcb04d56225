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
