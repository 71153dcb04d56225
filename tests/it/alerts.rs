//! Alerts in the record: what somebody should look at. Those of quotas are in `quotas.rs`.

use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// The alerts of a proxy, once there are so many.
#[track_caller]
fn alerts(proxy: &Proxy, count: usize) -> Vec<Value> {
    eventually(&format!("there are {count} alerts"), || {
        let alert = |record: &Value| said(record, "event.kind") == "alert";
        let alerts: Vec<_> = proxy.records().into_iter().filter(alert).collect();
        (alerts.len() >= count).then_some(alerts)
    })
}

fn counted(proxy: &Proxy, action: &str) -> bool {
    let page = operator(proxy).get("/metrics").send().text();
    page.contains(&format!("bartizan_alerts_total{{action=\"{action}\"}} 1\n"))
}

#[test]
fn a_caller_that_tries_what_it_may_not_do_is_reported_once() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let mut policy = proxy().before(&upstream).trusts(&issuer);
    for route in 0..7 {
        policy = policy.route(&format!("GET /x{route}"), "scopes: [orders:admin]");
    }
    let proxy = policy.start();
    let mut client = client(&proxy);
    let tokens = [issuer.token().text(), issuer.token().claim("sub", "bob").text()];
    // One by mistake, again and again; the other everywhere.
    for route in 0..7 {
        client.get("/x0").bearer(&tokens[0]).send().refused(403, "insufficient_scope");
        client.get(&format!("/x{route}")).bearer(&tokens[1]).send().refused(403, "insufficient_scope");
    }
    let alerts = alerts(&proxy, 1);
    assert_eq!(alerts.len(), 1);
    for (name, value) in [
        ("event.action", json!("scopes_probed")),
        ("event.type", json!(["info"])),
        ("bartizan.consumer", json!("corp:bob")),
        ("bartizan.signal.routes", json!(5)),
        ("bartizan.api", json!("orders")),
        ("client.ip", json!("127.0.0.1")),
    ] {
        assert_eq!(*said(&alerts[0], name), value, "{name}: {:#}", alerts[0]);
    }
    assert!(counted(&proxy, "scopes_probed"));
    proxy.done();
}

#[test]
fn a_key_that_is_used_from_a_new_network_is_reported() {
    let (upstream, store) = (upstream().start(), tempfile::tempdir().unwrap());
    let proxy = proxy()
        .before(&upstream)
        .with(&format!("store: \"{}\"\ntrusted_proxies: [127.0.0.1/32]", store.path().display()))
        .with("roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }")
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let key = operator(&proxy).post("/v1/consumers/acme/keys", r#"{"id":"acme-1"}"#).bearer(ADMIN_TOKEN).send();
    let key = key.json()["key"].as_str().unwrap().to_owned();
    let mut client = client(&proxy);
    for from in ["203.0.113.7", "203.0.113.8", "198.51.100.1", "203.0.113.9", "198.51.100.2"] {
        client.get("/x").key(&key).header("x-forwarded-for", from).send().is(200);
    }
    let alerts = alerts(&proxy, 1);
    assert_eq!(alerts.len(), 1, "one for the second network, and none for going back and forth");
    for (name, value) in [
        ("event.action", json!("new_network")),
        ("client.ip", json!("198.51.100.1")),
        ("bartizan.credential.id", json!("acme-1")),
        ("bartizan.consumer", json!("acme")),
    ] {
        assert_eq!(*said(&alerts[0], name), value, "{name}: {:#}", alerts[0]);
    }
    assert!(counted(&proxy, "new_network"));
    proxy.done();
}
