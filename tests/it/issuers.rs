//! Who vouches for callers over the network: discovery, introspection; fresh tokens; and addresses that fail too often.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// An introspection endpoint that knows `good` as a token of `bob`, and counts what it is asked.
struct Endpoint {
    server: Upstream,
    up: Arc<AtomicBool>,
    good: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Endpoint {
    fn start() -> Self {
        let flags = [(); 2].map(|()| Arc::new(AtomicBool::new(true)));
        let [up, good] = flags;
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, knows, count) = (Arc::clone(&up), Arc::clone(&good), Arc::clone(&asked));
        let server = upstream().does(move |call| {
            count.fetch_add(1, Ordering::SeqCst);
            call.close();
            if !answers.load(Ordering::SeqCst) {
                return Ok(());
            }
            let body = String::from_utf8_lossy(&call.body()?).into_owned();
            let known = knows.load(Ordering::SeqCst) && body.contains("token=good&");
            let answer = if known {
                json!({"active": true, "client_id": "bob", "scope": "orders:read", "exp": issuer::now() + 300, "iat": issuer::now()})
            } else {
                json!({"active": false})
            };
            call.answer(200, &[("content-type", "application/json")], answer.to_string())
        });
        Self { server: server.start(), up, good, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn asking(upstream: &Upstream, endpoint: &Endpoint, more: &str) -> Policy {
    let auth = format!(
        "auth: {{ introspection: {{ partner: {{ endpoint: \"{}/introspect\", client_id: \"bartizan\", \
         client_secret: \"s p\", default_plan: free{more} }} }} }}",
        endpoint.server.url()
    );
    proxy().before(upstream).with(&auth).route("GET /x", "scopes: [orders:read]")
}

#[test]
fn an_opaque_token_is_asked_about_once_and_remembered() {
    let (upstream, endpoint) = (upstream().start(), Endpoint::start());
    let proxy = asking(&upstream, &endpoint, ", cache: 1h").start();
    let mut client = client(&proxy);
    for _ in 0..3 {
        let answer = client.get("/x").bearer("good").send().is(200);
        assert_eq!(answer.echoed("x-consumer-id"), ["partner:bob"]);
    }
    assert_eq!(endpoint.asked(), 1);
    for _ in 0..2 {
        client.get("/x").bearer("bad").send().refused(401, "invalid_token");
    }
    assert_eq!(endpoint.asked(), 2);
    // RFC 6749 §2.3.1: both parts are form-encoded within Basic.
    let seen = endpoint.server.seen();
    assert_eq!(seen[0].header("authorization"), Some("Basic YmFydGl6YW46cyUyMHA="));
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.credential.kind"), "introspected");
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_503_and_never_401() {
    let (upstream, endpoint) = (upstream().start(), Endpoint::start());
    let proxy = asking(&upstream, &endpoint, "").start();
    endpoint.up.store(false, Ordering::SeqCst);
    client(&proxy).get("/x").bearer("good").send().refused(503, "identity_unavailable");
    endpoint.up.store(true, Ordering::SeqCst);
    client(&proxy).get("/x").bearer("good").send().is(200);
    // What was said is believed; a token that was never seen is not.
    endpoint.good.store(false, Ordering::SeqCst);
    client(&proxy).get("/x").bearer("good").send().is(200);
    proxy.done();
}

#[test]
fn who_vouches_is_shown_with_the_keys_that_are_used() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy().before(&upstream).trusts(&issuer).route("GET /x", "scopes: [orders:read]").start();
    for _ in 0..3 {
        client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    }
    let shown = operator(&proxy).get("/v1/issuers").bearer(ADMIN_TOKEN).send().json();
    let corp = &shown["items"][0];
    assert_eq!((corp["name"].as_str(), corp["state"].as_str()), (Some("corp"), Some("ready")), "{shown:#}");
    assert_eq!((corp["keys"][0]["kid"].as_str(), corp["keys"][0]["tokens"].as_u64()), (Some("first"), Some(3)));
    proxy.done();
}

#[test]
fn a_powerful_route_wants_a_fresh_token() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).route("POST /refund", "scopes: [orders:read], max_age: 5m");
    let proxy = policy.start();
    let mut client = client(&proxy);
    let issued = |ago: i64| issuer.token().claim("iat", issuer::now() - ago).text();
    client.post("/refund", "{}").bearer(issued(60)).send().is(200);
    client.post("/refund", "{}").bearer(issued(400)).send().refused(403, "stronger_credential_required");
    let ageless = issuer.token().without("iat").text();
    client.post("/refund", "{}").bearer(ageless).send().refused(403, "stronger_credential_required");
    proxy.done();
}

#[test]
fn an_address_that_fails_too_often_waits_and_others_do_not() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).route("GET /x", "scopes: [orders:read]");
    let text = policy.yaml().replace("auth:\n", "trusted_proxies: [127.0.0.1]\nauth:\n  failed_attempts: 3/h\n");
    let mut proxy = policy.text(&text).start();
    let mut client = client(&proxy);
    let good = issuer.token().text();
    let mut from =
        |address: &str, token: &str| client.get("/x").header("x-forwarded-for", address).bearer(token).send();
    for _ in 0..3 {
        from("192.0.2.1", &good).is(200);
        from("192.0.2.1", "guess").refused(401, "invalid_token");
    }
    let refused = from("192.0.2.1", &good).refused(429, "too_many_failures");
    assert!(refused.header("retry-after").is_some());
    from("192.0.2.2", &good).is(200);
    from("2001:db8::1", &good).is(200);
    let other = text.replace("[127.0.0.1]", "[127.0.0.1, 127.0.0.2]");
    assert_eq!(proxy.reload_to(|policy| policy.text(&other)), proxy::Reloaded::Loaded);
    from("192.0.2.1", &good).refused(429, "too_many_failures");
    proxy.done();
}
