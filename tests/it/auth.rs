//! Who is calling: credentials good and bad, and issuers that are there or not.

use crate::support::client::operator;
use crate::support::issuer::{Issuer, Key, now};
use crate::support::*;

/// A proxy in front of `upstream` that trusts `issuer` on `GET /x`.
fn guarded(upstream: &Upstream, issuer: &Issuer) -> Policy {
    proxy().before(upstream).trusts(issuer).route("GET /x", "scopes: [orders:read]")
}

#[test]
fn a_good_token_gets_through_and_says_who_came() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let answer = client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["corp:alice"]);
    assert_eq!(answer.echoed("x-consumer-scopes"), ["orders:read"]);
    assert_eq!(answer.echoed("x-consumer-plan"), ["free"]);
    assert_eq!(answer.echoed("authorization"), [""; 0]);
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.outcome"), "success", "{:#}", records[0]);
}

#[test]
fn every_kind_of_key_verifies() {
    for key in [Key::rsa("one"), Key::ec("one"), Key::ed("one")] {
        let (upstream, issuer) = (upstream().start(), Issuer::with(key));
        let proxy = guarded(&upstream, &issuer).start();
        client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
        proxy.done();
    }
}

#[test]
fn a_bad_token_is_told_why_and_reaches_nobody() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let token = || issuer.token();
    for (bad, code) in [
        (token().claim("exp", now() - 60), "expired_token"),
        (token().without("exp"), "invalid_token"),
        (token().claim("nbf", now() + 600), "invalid_token"),
        (token().claim("iat", now() + 600), "invalid_token"),
        (token().claim("aud", "somebody-else"), "invalid_token"),
        (token().claim("iss", "https://other.example"), "invalid_token"),
        (token().header("alg", "none"), "invalid_token"),
        (token().header("alg", "HS256"), "invalid_token"),
        (token().header("crit", json!(["exp"])), "invalid_token"),
        (token().header("typ", "logout+jwt"), "invalid_token"),
        (token().forged_with(Key::rsa("one")), "invalid_token"),
    ] {
        client.get("/x").bearer(bad).send().refused(401, code);
    }
    client.get("/x").bearer("not.a.token").send().refused(401, "invalid_token");
    client.get("/x").send().refused(401, "missing_credentials");
    client.get("/x").header("authorization", "Basic YTpi").send().refused(401, "missing_credentials");
    client.get("/x").bearer(token()).key("k").send().refused(400, "malformed_request");
    client.get("/x").bearer(token()).bearer(token()).send().refused(400, "malformed_request");
    client.get("/x").bearer(token().scope("orders:write")).send().refused(403, "insufficient_scope");
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn a_token_that_was_good_is_refused_when_its_signature_is_another() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let token = issuer.token().text();
    client.get("/x").bearer(&token).send().is(200);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let swapped: String = signature.chars().rev().collect();
    client.get("/x").bearer(format!("{message}.{swapped}")).send().refused(401, "invalid_token");
    client.get("/x").bearer(&token).send().is(200);
    proxy.done();
}

#[test]
fn keys_that_the_issuer_rotated_to_are_fetched_when_a_token_names_them() {
    let (upstream, issuer) = (upstream().start(), Issuer::with(Key::ec("old")));
    let proxy = guarded(&upstream, &issuer).start();
    let old = issuer.token().text();
    client(&proxy).get("/x").bearer(&old).send().is(200);
    issuer.rotates_to(Key::rsa("new"));
    client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    client(&proxy).get("/x").bearer(&old).send().refused(401, "invalid_token");
    proxy.done();
}

#[test]
fn an_issuer_that_goes_away_does_not_lock_its_callers_out() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    issuer.goes_down();
    client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    client(&proxy).get("/x").bearer(issuer.token().header("kid", "unknown")).send().refused(401, "invalid_token");
    client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    proxy.done();
}

#[test]
fn an_issuer_that_was_never_there_is_503_and_not_the_callers_fault() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let url = issuer.url();
    issuer.goes_down();
    let settings = format!("keys: \"{url}\", algorithms: [RS256, ES256, EdDSA], default_plan: free");
    let proxy = proxy().before(&upstream).issuer("corp", &settings).route("GET /x", "scopes: [orders:read]").start();
    client(&proxy).get("/x").bearer(issuer.token()).send().refused(503, "identity_unavailable");
    let ready = operator(&proxy).get("/readyz").send();
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)), "{}", ready.text());
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn a_caller_nobody_registered_is_403() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let settings = format!("keys: \"{}\", algorithms: [RS256, ES256, EdDSA]", issuer.url());
    let listed = "consumers: { acme: { plan: free, identities: [{ issuer: corp, id: alice }] } }";
    let policy = proxy().before(&upstream).issuer("corp", &settings).with(listed);
    let proxy = policy.route("GET /x", "scopes: [orders:read]").start();
    let answer = client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["acme"]);
    client(&proxy).get("/x").bearer(issuer.token().sub("mallory")).send().refused(403, "unknown_consumer");
    proxy.done();
}

#[test]
fn roles_are_the_ceiling_of_tokens_and_keys() {
    // Digests of "good", "old" and "soon".
    let consumers = r#"
roles: { clerk: [orders:read] }
consumers:
  acme:
    roles: [clerk]
    plan: free
    identities: [{ issuer: corp, id: alice }]
    keys:
      - { id: good, sha256: "770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c" }
      - { id: old, sha256: "cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4", expires: 2020-01-01T00:00:00Z }
"#;
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).with(consumers);
    let policy = policy.route("GET /x", "scopes: [orders:read]").route("POST /x", "scopes: [orders:write]");
    let proxy = policy.route("GET /only", "scopes: [orders:read], only: [acme]").start();
    let mut client = client(&proxy);
    let both = || issuer.token().scope("orders:read orders:write").text();
    client.get("/x").bearer(both()).send().is(200);
    client.post("/x", "{}").bearer(both()).send().refused(403, "insufficient_scope");
    client.get("/only").bearer(both()).send().is(200);
    client.get("/only").bearer(issuer.token().sub("bob")).send().refused(403, "consumer_not_approved");
    let answer = client.get("/x").key("good").send().is(200);
    assert_eq!((answer.echoed("x-credential-id"), answer.echoed("x-api-key")), (vec!["good".to_owned()], vec![]));
    client.post("/x", "{}").key("good").send().refused(403, "insufficient_scope");
    client.get("/x").key("old").send().refused(401, "expired_key");
    client.get("/x").key("other").send().refused(401, "invalid_key");
    proxy.done();
}

#[test]
fn a_shared_secret_comes_from_the_environment_and_signs_hs256_alone() {
    let secret = "a secret of at least thirty-two bytes";
    let upstream = upstream().start();
    let settings = "secret: \"${env:ISSUER_SECRET}\", algorithms: [HS256], default_plan: free";
    let policy = proxy().before(&upstream).issuer("corp", settings).env("ISSUER_SECRET", secret);
    let proxy = policy.route("GET /x", "scopes: [orders:read]").start();
    let issuer = Issuer::with(Key::shared(secret.as_bytes()));
    client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    let other = Issuer::with(Key::shared(b"another secret of thirty-two bytes"));
    client(&proxy).get("/x").bearer(other.token()).send().refused(401, "invalid_token");
    proxy.done();
}

#[test]
fn keys_come_from_files_too() {
    let (upstream, issuer) = (upstream().start(), Issuer::with(Key::rsa("one")));
    for (name, content) in [("keys.json", issuer.jwks()), ("keys.pem", issuer.key().pem())] {
        let settings = format!("keys: {name}, algorithms: [RS256], default_plan: free");
        let policy = proxy().before(&upstream).issuer("corp", &settings).file(name, content);
        let proxy = policy.route("GET /x", "scopes: [orders:read]").start();
        client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
        client(&proxy)
            .get("/x")
            .bearer(issuer.token().forged_with(Key::rsa("one")))
            .send()
            .refused(401, "invalid_token");
        proxy.done();
    }
}
