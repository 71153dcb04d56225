//! Who vouches for callers over the network: discovery, introspection; fresh tokens; and addresses that fail too often.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::support::client::operator;
use crate::support::issuer::{Key, Token};
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

/// An issuer that publishes documents by path; any other path is 404.
struct Publisher {
    server: Upstream,
    documents: Arc<Mutex<BTreeMap<String, Value>>>,
    up: Arc<AtomicBool>,
}

impl Publisher {
    fn start() -> Self {
        let documents: Arc<Mutex<BTreeMap<String, Value>>> = Arc::default();
        let up = Arc::new(AtomicBool::new(true));
        let (published, answers) = (Arc::clone(&documents), Arc::clone(&up));
        let server = upstream().does(move |call| {
            if !answers.load(Ordering::SeqCst) {
                call.close();
                return Ok(());
            }
            let document = published.lock().unwrap().get(call.head.word(1)).cloned();
            let (status, body) = document.map_or((404, String::new()), |document| (200, document.to_string()));
            call.answer(status, &[("content-type", "application/json")], body)
        });
        Self { server: server.start(), documents, up }
    }

    fn url(&self) -> String {
        self.server.url()
    }

    fn publishes(&self, path: &str, document: Value) {
        self.documents.lock().unwrap().insert(path.to_owned(), document);
    }

    /// The key set at `/keys/KID`, and metadata at `path` that name `issuer` and this set.
    fn publishes_keys(&self, path: &str, issuer: &str, kid: &str, key: &Key) {
        self.publishes(&format!("/keys/{kid}"), json!({"keys": [key.jwk()]}));
        self.publishes(path, json!({"issuer": issuer, "jwks_uri": format!("{}/keys/{kid}", self.url())}));
    }

    fn was_asked_for(&self, path: &str) -> bool {
        self.server.seen().iter().any(|seen| seen.target() == path)
    }
}

/// A proxy that discovers the keys of `issuer`.
fn discovering(upstream: &Upstream, issuer: &str) -> Policy {
    let settings = format!("issuer: \"{issuer}\", algorithms: [ES256], default_plan: free");
    proxy().before(upstream).issuer("corp", &settings).route("GET /x", "scopes: [orders:read]")
}

#[test]
fn keys_are_discovered_by_the_metadata_of_openid_or_oauth() {
    let (upstream, key) = (upstream().start(), Arc::new(Key::ec("first")));
    for (tenant, metadata) in [
        ("", "/.well-known/openid-configuration"),
        ("", "/.well-known/oauth-authorization-server"),
        ("/tenant", "/tenant/.well-known/openid-configuration"),
        ("/tenant", "/.well-known/oauth-authorization-server/tenant"),
    ] {
        let publisher = Publisher::start();
        let issuer = format!("{}{tenant}", publisher.url());
        publisher.publishes_keys(metadata, &issuer, "first", &key);
        let proxy = discovering(&upstream, &issuer).start();
        let token = Token::signed_by(Arc::clone(&key)).claim("iss", issuer);
        let answer = client(&proxy).get("/x").bearer(token).send().is(200);
        assert_eq!(answer.echoed("x-consumer-id"), ["corp:alice"], "{metadata}");
        proxy.done();
    }
}

#[test]
fn each_tenant_has_its_own_keys_and_none_speaks_for_another() {
    let upstream = upstream().start();
    let [one, two] = ["one", "two"].map(|kid| Arc::new(Key::ec(kid)));
    let publisher = Publisher::start();
    let iss = |tenant: &str| format!("{}/{tenant}/v2.0", publisher.url());
    for (tenant, key) in [("t-1", &one), ("t-2", &two), ("t-3", &two)] {
        let metadata = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        publisher.publishes_keys(&metadata, &iss(tenant), tenant, key);
    }
    let settings = "algorithms: [ES256], tenants: [t-1, t-2], attributes: { tenant: tid }, default_plan: free";
    let proxy = proxy()
        .before(&upstream)
        .issuer("entra", &format!("issuer: \"{}\", {settings}", iss("{tid}")))
        .route("GET /tenants/{tenant}", "scopes: [orders:read], where: { path.tenant: caller.tenant }")
        .start();
    let mut client = client(&proxy);
    let token =
        |key: &Arc<Key>, tenant: &str| Token::signed_by(Arc::clone(key)).claim("iss", iss(tenant)).claim("tid", tenant);
    let answer = client.get("/tenants/t-1").bearer(token(&one, "t-1")).send().is(200);
    // The ids of tenants are their own: `alice` of one is not `alice` of another.
    assert_eq!(answer.echoed("x-consumer-id"), ["entra:t-1/alice"]);
    let answer = client.get("/tenants/t-2").bearer(token(&two, "t-2")).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["entra:t-2/alice"]);
    client.get("/tenants/t-1").bearer(token(&two, "t-2")).send().refused(403, "not_yours");
    for other in [
        // Not listed, though its keys are published, and though they are those of one that is.
        token(&two, "t-3"),
        token(&two, "t-2").claim("iss", iss("T-2")),
        token(&two, "t-2").claim("iss", iss("{tid}")),
        // The key of another tenant.
        token(&two, "t-1"),
        token(&two, "t-2").claim("iss", iss("t-1")),
        // The claim names another, or none.
        token(&two, "t-2").claim("tid", "t-1"),
        token(&two, "t-2").claim("tid", json!(["t-2"])),
        token(&two, "t-2").without("tid"),
    ] {
        client.get("/tenants/t-2").bearer(other).send().refused(401, "invalid_token");
    }
    let shown = operator(&proxy).get("/v1/issuers").bearer(ADMIN_TOKEN).send().json();
    let named: Vec<_> = shown["items"].as_array().unwrap().iter().map(|item| item["issuer"].clone()).collect();
    assert_eq!(named, [json!(iss("t-1")), json!(iss("t-2"))]);
    let metrics = operator(&proxy).get("/metrics").send().text();
    let lines: Vec<_> = metrics.lines().filter(|line| line.starts_with("bartizan_issuer_keys{")).collect();
    assert_eq!(lines, ["bartizan_issuer_keys{issuer=\"entra\"} 2"]);
    proxy.done();
}

#[test]
fn a_listed_consumer_of_a_tenant_is_listed_with_it() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let settings = format!(
        "issuer: \"https://{{tid}}.test\", tenants: [t-1, t-2], jwks: \"{}\", algorithms: [ES256]",
        issuer.url()
    );
    let listed = |id: &str| {
        let consumers = format!("consumers: {{ acme: {{ plan: free, identities: [{{ issuer: corp, id: {id} }}] }} }}");
        proxy().before(&upstream).issuer("corp", &settings).with(&consumers).route("GET /x", "scopes: [orders:read]")
    };
    let proxy = listed("t-1/alice").start();
    let token = |tenant: &str| issuer.token().claim("iss", format!("https://{tenant}.test")).claim("tid", tenant);
    let answer = client(&proxy).get("/x").bearer(token("t-1")).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["acme"]);
    client(&proxy).get("/x").bearer(token("t-2")).send().refused(403, "unknown_consumer");
    proxy.done();
    for id in ["alice", "t-3/alice", "/alice"] {
        let folder = tempfile::TempDir::new().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.arg("check").arg(listed(id).write(folder.path())).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("this id begins with no tenant of its issuer"), "{id}: {said}");
    }
}

#[test]
fn a_token_must_have_what_the_policy_requires_and_the_audience_where_it_is() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let settings = format!(
        "jwks: \"{}\", algorithms: [ES256], audience: [shop-app], audience_claim: [/resource/id, azp], default_plan: free, \
         require: {{ token_use: access, amr: [mfa, hwk], email_verified: true }}",
        issuer.url()
    );
    let proxy = proxy().before(&upstream).issuer("corp", &settings).route("GET /x", "scopes: [orders:read]").start();
    let mut client = client(&proxy);
    let token = || {
        let token = issuer.token().claim("azp", "shop-app").claim("token_use", "access");
        token.claim("amr", json!(["pwd", "mfa"])).claim("email_verified", true)
    };
    client.get("/x").bearer(token()).send().is(200);
    client.get("/x").bearer(token().claim("resource", json!({"id": ["shop-app"]}))).send().is(200);
    for (other, detail) in [
        (token().without("azp"), "the token is not meant for this API (`/resource/id`, `azp`)"),
        (token().claim("resource", json!({"id": "x"})), "the token is not meant for this API (`/resource/id`, `azp`)"),
        (token().claim("token_use", "app"), "the token's `token_use` has no value that is accepted here"),
        (token().claim("amr", json!(["pwd"])), "the token's `amr` has no value that is accepted here"),
        (token().claim("email_verified", false), "the token's `email_verified` has no value that is accepted here"),
        (token().without("email_verified"), "the token lacks the claim `email_verified`, which is required here"),
    ] {
        let refused = client.get("/x").bearer(other).send().refused(401, "invalid_token").json();
        assert!(refused["detail"].as_str().unwrap().contains(detail), "{refused}");
    }
    proxy.done();
}

#[test]
fn a_token_with_scopes_and_roles_grants_what_the_policy_says() {
    let (upstream, issuer) = (upstream().start(), issuer());
    for (how, both, scopes_only, roles_only) in
        [("union", "a:read a:write b:read", "a:read a:write", "a:write b:read"), ("intersect", "a:write", "", "")]
    {
        let settings = format!(
            "jwks: \"{}\", algorithms: [ES256], role_claim: roles, scopes_and_roles: {how}, default_plan: free",
            issuer.url()
        );
        let proxy = proxy()
            .before(&upstream)
            .issuer("corp", &settings)
            .with("roles: { clerk: [a:write, b:read] }")
            .route("GET /x", "scopes: []")
            .start();
        let token = || issuer.token().scope("a:read a:write").claim("roles", json!(["clerk"]));
        for (token, granted) in
            [(token(), both), (token().without("roles"), scopes_only), (token().without("scope"), roles_only)]
        {
            let answer = client(&proxy).get("/x").bearer(token).send().is(200);
            assert_eq!(answer.echoed("x-consumer-scopes"), [granted], "{how}");
        }
        proxy.done();
    }
}

#[test]
fn metadata_that_name_another_issuer_are_not_believed() {
    let (upstream, key) = (upstream().start(), Arc::new(Key::ec("first")));
    for wrong in ["https://login.example.com", "URL/", "URL/tenant", "url"] {
        let publisher = Publisher::start();
        let issuer = publisher.url();
        let named = wrong.replace("URL", &issuer).replace("url", &issuer.to_uppercase());
        publisher.publishes_keys("/.well-known/openid-configuration", &named, "first", &key);
        let proxy = discovering(&upstream, &issuer).start();
        let token = Token::signed_by(Arc::clone(&key)).claim("iss", issuer);
        client(&proxy).get("/x").bearer(token).send().refused(503, "identity_unavailable");
        assert!(!publisher.was_asked_for("/keys/first"), "{wrong}");
        proxy.done();
    }
}

#[test]
fn metadata_that_cannot_be_reached_are_503_until_they_can() {
    let (upstream, publisher, key) = (upstream().start(), Publisher::start(), Arc::new(Key::ec("first")));
    let issuer = publisher.url();
    publisher.publishes_keys("/.well-known/openid-configuration", &issuer, "first", &key);
    publisher.up.store(false, Ordering::SeqCst);
    let proxy = discovering(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let token = Token::signed_by(key).claim("iss", issuer).text();
    client.get("/x").bearer(&token).send().refused(503, "identity_unavailable");
    publisher.up.store(true, Ordering::SeqCst);
    eventually("the keys are discovered", || (client.get("/x").bearer(&token).send().status == 200).then_some(()));
    proxy.done();
}

#[test]
fn a_key_set_that_has_moved_is_found_by_its_metadata() {
    let (upstream, publisher) = (upstream().start(), Publisher::start());
    let [first, second] = ["first", "second"].map(|kid| Arc::new(Key::ec(kid)));
    let (issuer, metadata) = (publisher.url(), "/.well-known/openid-configuration");
    publisher.publishes_keys(metadata, &issuer, "first", &first);
    let proxy = discovering(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let token = |key: &Arc<Key>| Token::signed_by(Arc::clone(key)).claim("iss", publisher.url());
    client.get("/x").bearer(token(&first)).send().is(200);
    publisher.publishes_keys(metadata, &issuer, "second", &second);
    client.get("/x").bearer(token(&second)).send().is(200);
    client.get("/x").bearer(token(&first)).send().refused(401, "invalid_token");
    proxy.done();
}

#[test]
fn where_keys_come_from_is_checked_without_asking_anybody() {
    for (settings, said) in [
        ("issuer: \"https://unreachable.test\"", ""),
        ("jwks: \"https://unreachable.test/jwks\"", ""),
        ("jwks: key.json", ""),
        ("public_key: key.pem", ""),
        ("issuer: corp", "cannot be discovered: the URL has no scheme"),
        ("issuer: \"http://login.example.com\"", "write `jwks:` with the URL or file of its key set"),
        ("jwks: \"http://login.example.com/jwks\"", "plain http can be replaced in transit"),
        ("jwks: key.pem", "write `public_key:` in place of `jwks:`"),
        ("public_key: key.json", "write `jwks:` for the URL or file of a key set"),
        ("public_key: \"https://login.example.com/jwks\"", "this is a URL, not a PEM file"),
        ("jwks: key.json, public_key: key.pem", "an issuer has `jwks` or `public_key`, not both"),
        ("keys: key.pem", "did you mean `jwks` or `public_key`?"),
        ("issuer: corp, keys: discover", "Without either, the keys are discovered."),
    ] {
        is_checked(settings, said);
    }
}

#[test]
fn claims_are_names_pointers_or_lists_of_them() {
    for (settings, said) in [
        ("consumer_claim: [/act/sub, sub], scope_claim: /access/scopes", ""),
        ("role_claim: \"https://example.com/roles\", scopes_and_roles: union", ""),
        ("role_claim: roles", "write `intersect` if a token grants what both claims allow"),
        ("scopes_and_roles: union", "there is nothing to combine without `role_claim`"),
        ("role_claim: roles, scopes_and_roles: intersection", "did you mean `intersect`?"),
        ("require: { email_verified: true, /a/b: [x, 7] }", ""),
        ("require: { amr: [] }", "no token has a value of an empty list"),
        ("require: { iss: x }", "`issuer` says which `iss` is accepted"),
        ("audience_claim: [aud, /client/id]", ""),
        ("issuer: \"https://i.example/{tid}\", tenants: [a, b-1]", ""),
        ("issuer: \"https://i.example/{tid}\"", "write `tenants:` with the values that the claim in braces may have"),
        ("tenants: [a]", "write the claim that names it in braces"),
        ("issuer: \"https://i.example/{tid}/{oid}\", tenants: [a]", "at most one claim in braces"),
        ("issuer: \"https://i.example/{}\"", "at most one claim in braces"),
        ("issuer: \"https://i.example/{tid}\", tenants: []", "this list has no tenant"),
        ("issuer: \"https://i.example/{tid}\", tenants: [a, a]", "this tenant occurs twice"),
        ("issuer: \"https://i.example/{tid}\", tenants: [a/b]", "this cannot be a tenant"),
        ("consumer_claim: []", "this list names no claim"),
        ("consumer_claim: \"\"", "the name of a claim must not be empty"),
        ("scope_claim: [sub, /sub]", "this claim occurs twice"),
        ("role_claim: /realm~access/roles, scopes_and_roles: union", "in a JSON pointer, `~0` is a `~`"),
        ("role_claim: { name: roles }", "expected a claim such as `sub` or `/realm_access/roles`, or a list of claims"),
    ] {
        is_checked(&format!("public_key: key.pem, {settings}"), said);
    }
}

/// Checks a policy with these settings of an issuer. One error says this; empty: there is none.
#[track_caller]
fn is_checked(settings: &str, said: &str) {
    let (folder, key) = (tempfile::TempDir::new().unwrap(), Key::ec("first"));
    let policy = proxy().server("http://127.0.0.1:9").open("GET /x").file("key.pem", key.pem());
    let policy = policy.file("key.json", json!({"keys": [key.jwk()]}).to_string());
    let policy = policy.issuer("corp", &format!("{settings}, algorithms: [ES256], max_lifetime: 1h"));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.arg("check").arg(policy.write(folder.path())).output().unwrap();
    let found = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{settings}: {found}");
    assert!(found.contains(said) && found.matches("error: ").count() <= 1, "{settings}: {found}");
}
