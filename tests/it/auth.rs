//! Who is calling: credentials good and bad, and issuers that are there or not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::client::operator;
use crate::support::issuer::{Issuer, Key, Token, now};
use crate::support::proxy::Reloaded;
use crate::support::*;

/// A proxy in front of `upstream` that trusts `issuer` on `GET /x`.
fn guarded(upstream: &Upstream, issuer: &Issuer) -> Policy {
    proxy().before(upstream).trusts(issuer).route("GET /x", "scopes: [orders:read]")
}

/// The SHA-256 of a key as the policy has it.
fn digest(key: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_good_token_gets_through_and_says_who_came() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let answer = client(&proxy).get("/x").bearer(issuer.token().claim("jti", "token-7")).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["corp:alice"]);
    assert_eq!(answer.echoed("x-consumer-scopes"), ["orders:read"]);
    assert_eq!(answer.echoed("x-consumer-plan"), ["free"]);
    assert_eq!(answer.echoed("x-credential-id"), ["token-7"]);
    assert_eq!(answer.echoed("authorization"), [""; 0]);
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.outcome"), "success");
    assert_eq!(said(&records[0], "user.id"), "corp:alice");
    assert_eq!(said(&records[0], "bartizan.credential.kind"), "jwt");
    assert_eq!(said(&records[0], "bartizan.credential.id"), "token-7");
}

#[test]
fn tokens_that_are_not_good_are_reported_as_such() {
    let (upstream, issuer) = (upstream().start(), Issuer::with(Key::ec("first")));
    let url = issuer.url();
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", &format!("jwks: \"{url}\", algorithms: [ES256], max_lifetime: 1h, default_plan: free"))
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let good = || issuer.token();
    let stray_bits = {
        // 64 bytes of signature leave four unused bits in the last character: another spelling of the same signature.
        let mut text = good().text();
        let last = text.pop().unwrap();
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let value = ALPHABET.iter().position(|&letter| letter == last as u8).unwrap();
        text.push(ALPHABET[value | 1] as char);
        text
    };
    let none = {
        let token = good().header("alg", "none");
        format!("{}.", token.message())
    };
    let bad_signature = format!("{}.{}", good().message(), URL_SAFE_NO_PAD.encode([7; 64]));
    let swapped_claims = {
        let (mine, theirs) = (good().text(), good().sub("mallory").message());
        format!("{theirs}.{}", mine.rsplit('.').next().unwrap())
    };
    let public_key_as_secret = Key::shared(issuer.key().pem().as_bytes());
    let cases: Vec<(&str, String, &str)> = vec![
        ("not a token", "abc".into(), "invalid_token"),
        ("two parts", "abc.def".into(), "invalid_token"),
        ("unknown issuer", good().claim("iss", "https://else.test").into(), "invalid_token"),
        ("no issuer", good().without("iss").into(), "invalid_token"),
        ("alg none", none, "invalid_token"),
        ("other alg, not accepted", Token::signed_by(Key::ed("first").into()).into(), "invalid_token"),
        ("alg says another", good().header("alg", "RS256").into(), "invalid_token"),
        (
            "HS256 with the public key",
            Token::signed_by(public_key_as_secret.into()).header("kid", "first").into(),
            "invalid_token",
        ),
        ("crit", good().header("crit", json!(["exp"])).into(), "invalid_token"),
        ("bad signature", bad_signature, "invalid_token"),
        ("claims of another", swapped_claims, "invalid_token"),
        ("another's key", good().forged_with(Key::ec("first")).into(), "invalid_token"),
        ("stray bits", stray_bits, "invalid_token"),
        ("expired", good().claim("iat", now() - 700).claim("exp", now() - 60).into(), "expired_token"),
        ("not yet", good().claim("nbf", now() + 120).into(), "invalid_token"),
        ("issued in the future", good().claim("iat", now() + 120).into(), "invalid_token"),
        ("lives too long", good().claim("exp", now() + 7200).into(), "token_lifetime_too_long"),
        ("lifetime unknown", good().without("iat").into(), "token_lifetime_too_long"),
        ("no end", good().without("exp").into(), "invalid_token"),
        ("exp as text", good().claim("exp", "tomorrow").into(), "invalid_token"),
        ("for another", good().claim("aud", "other-api").into(), "invalid_token"),
        ("for others", good().claim("aud", json!(["a", "b"])).into(), "invalid_token"),
        ("for nobody", good().without("aud").into(), "invalid_token"),
        ("aud with a number", good().claim("aud", json!(["orders-api", 1])).into(), "invalid_token"),
        ("a logout token", good().header("typ", "logout+jwt").into(), "invalid_token"),
        ("an ID token by type", good().header("typ", "id+jwt").into(), "invalid_token"),
        ("nobody", good().without("sub").into(), "invalid_token"),
        ("scope as number", good().claim("scope", 7).into(), "invalid_token"),
    ];
    let mut client = client(&proxy);
    for (case, token, code) in &cases {
        eprintln!("case: {case}");
        let answer = client.get("/x").bearer(token).send().refused(401, code);
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer realm=") && challenge.contains("error=\"invalid_token\""), "{challenge}");
    }
    upstream.saw_nothing();
    // None of them spoilt it for a good one.
    client.get("/x").bearer(good()).send().is(200);
    let records = proxy.done();
    for (record, (case, token, code)) in records.iter().zip(&cases) {
        assert_eq!(said(record, "event.reason"), *code, "{case}");
        assert_eq!(said(record, "bartizan.stage"), "auth", "{case}");
        let signature = token.rsplit('.').next().unwrap();
        assert!(signature.len() < 10 || !record.to_string().contains(signature), "{case}: the token is in the record");
    }
}

#[test]
fn spellings_that_are_good_are_taken() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let good = || issuer.token();
    let mut client = client(&proxy);
    for (case, token) in [
        ("aud in a list", good().claim("aud", json!(["else", "orders-api"]))),
        ("scp as a list", good().without("scope").claim("scp", json!(["orders:write", "orders:read"]))),
        ("scp as text", good().without("scope").claim("scp", "orders:write orders:read")),
        ("scope before scp", good().claim("scp", "none")),
        ("several scopes", good().scope("orders:write orders:read")),
        ("no typ", good().without_header("typ")),
        ("typ JWT", good().header("typ", "JWT")),
        ("typ in full", good().header("typ", "application/AT+jwt")),
        ("no kid", good().without_header("kid")),
        ("clock a little ahead", good().claim("iat", now() + 5).claim("nbf", now() + 5)),
        ("just expired", good().claim("exp", now() - 2)),
        ("client_id before sub", good().claim("client_id", "bob")),
    ] {
        eprintln!("case: {case}");
        let answer = client.get("/x").bearer(token).send().is(200);
        let who = if case.starts_with("client_id") { "corp:bob" } else { "corp:alice" };
        assert_eq!(answer.echoed("x-consumer-id"), [who]);
    }
    // The scheme is case-insensitive (RFC 9110 §11.1).
    client.get("/x").header("authorization", &format!("bearer {}", good().text())).send().is(200);
    proxy.done();
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
fn no_credential_or_two_of_them() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let answer = client.get("/x").send().refused(401, "missing_credentials");
    // RFC 6750 §3.1: no error code when no credential came.
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"api\""));
    client.get("/x").header("authorization", "Basic YTpi").send().refused(401, "missing_credentials");
    client.get("/x").bearer(issuer.token()).key("abc").send().refused(400, "malformed_request");
    client.get("/x").bearer(issuer.token()).bearer(issuer.token()).send().refused(400, "malformed_request");
    client.get("/x").key("abc").key("abc").send().refused(400, "malformed_request");
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn roles_make_scopes_and_a_ceiling_cuts_them() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let url = issuer.url();
    let keys =
        format!("jwks: \"{url}\", algorithms: [ES256], role_claim: roles, scopes_and_roles: union, default_plan: free");
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", &keys)
        .with("roles: { clerk: [orders:read, orders:write], auditor: [orders:read] }")
        .with("consumers: { acme: { roles: [auditor], plan: free, identities: [{ issuer: corp, id: acme-backend }] } }")
        .route("GET /x", "scopes: [orders:read]")
        .route("POST /x", "scopes: [orders:write]")
        .start();
    let mut client = client(&proxy);
    let token = || issuer.token().without("scope");
    // A role in the token is its scopes; one nobody knows is nothing.
    let answer = client.get("/x").bearer(token().claim("roles", json!(["clerk"]))).send().is(200);
    assert_eq!(answer.echoed("x-consumer-scopes"), ["orders:read orders:write"]);
    client.get("/x").bearer(token().claim("roles", json!(["emperor"]))).send().refused(403, "insufficient_scope");
    // acme is known by its identity, and can do no more than its roles, whatever its token says.
    let acme = || issuer.token().sub("acme-backend").scope("orders:read orders:write");
    let answer = client.get("/x").bearer(acme()).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["acme"]);
    assert_eq!(answer.echoed("x-consumer-scopes"), ["orders:read"]);
    let refused = client.post("/x", "{}").bearer(acme()).send().refused(403, "insufficient_scope").json();
    assert_eq!(refused["required_scopes"], json!(["orders:write"]));
    assert_eq!(refused["granted_scopes"], json!(["orders:read"]));
    let records = proxy.done();
    assert_eq!(said(&records[2], "user.id"), "acme");
    assert_eq!(said(&records[2], "user.roles"), &json!(["auditor"]));
}

#[test]
fn claims_are_found_by_name_by_pointer_and_in_order() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let settings = format!(
        "jwks: \"{}\", algorithms: [ES256], consumer_claim: [/act/client, sub], scope_claim: [permissions, scope], \
         role_claim: \"https://example.com/roles\", scopes_and_roles: union, default_plan: free",
        issuer.url()
    );
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", &settings)
        .with("roles: { clerk: [orders:write] }")
        .route("GET /x", "scopes: [orders:read]")
        .route("POST /x", "scopes: [orders:write]")
        .start();
    let mut client = client(&proxy);
    let answer = client.get("/x").bearer(issuer.token().claim("act", json!({"client": "app"}))).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["corp:app"]);
    assert_eq!(client.get("/x").bearer(issuer.token()).send().is(200).echoed("x-consumer-id"), ["corp:alice"]);
    client.post("/x", "{}").bearer(issuer.token().claim("https://example.com/roles", json!(["clerk"]))).send().is(200);
    client.get("/x").bearer(issuer.token().claim("permissions", json!([]))).send().refused(403, "insufficient_scope");
    // A claim of another type is not an absent one: neither `sub` nor `scope` takes its place.
    for (claim, value) in [("act", json!("app")), ("act", json!({"client": 7})), ("permissions", Value::Null)] {
        client.get("/x").bearer(issuer.token().claim(claim, value)).send().refused(401, "invalid_token");
    }
    proxy.done();
}

#[test]
fn without_a_default_plan_only_listed_consumers_come_in() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let url = issuer.url();
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", &format!("jwks: \"{url}\", algorithms: [ES256], consumer_claim: client"))
        .with("consumers: { acme: { plan: free, identities: [{ issuer: corp, id: acme-backend }] } }")
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let mut client = client(&proxy);
    client.get("/x").bearer(issuer.token().claim("client", "acme-backend")).send().is(200);
    client.get("/x").bearer(issuer.token().claim("client", "else")).send().refused(403, "unknown_consumer");
    client.get("/x").bearer(issuer.token()).send().refused(401, "invalid_token");
    proxy.done();
}

#[test]
fn api_keys_are_known_by_their_digest_and_their_time() {
    let upstream = upstream().start();
    let consumers = format!(
        "consumers:\n  acme:\n    roles: [clerk]\n    plan: free\n    keys:\n\
         \x20     - {{ id: good, sha256: \"{}\" }}\n\
         \x20     - {{ id: old, sha256: \"{}\", expires: 2020-01-01T00:00:00Z }}\n\
         \x20     - {{ id: next, sha256: \"{}\", not_before: 2999-01-01T00:00:00Z }}\n\
         \x20     - {{ id: narrow, sha256: \"{}\", scopes: [orders:read] }}\n",
        digest("key-good"),
        digest("key-old"),
        digest("key-next"),
        digest("key-narrow"),
    );
    let proxy = proxy()
        .before(&upstream)
        .with("roles: { clerk: [orders:read, orders:write] }")
        .with(&consumers)
        .route("GET /x", "scopes: [orders:read]")
        .route("POST /x", "scopes: [orders:write]")
        .route("GET /refunds", "scopes: [orders:refund]")
        .start();
    let mut client = client(&proxy);
    let answer = client.get("/x").key("key-good").send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["acme"]);
    assert_eq!(answer.echoed("x-credential-id"), ["good"]);
    assert_eq!(answer.echoed("x-api-key"), [""; 0]);
    client.post("/x", "{}").key("key-good").send().is(200);
    client.get("/x").key("key-narrow").send().is(200);
    client.post("/x", "{}").key("key-narrow").send().refused(403, "insufficient_scope");
    client.get("/refunds").key("key-good").send().refused(403, "insufficient_scope");
    client.get("/x").key("key-unknown").send().refused(401, "invalid_key");
    client.get("/x").key(&digest("key-good")).send().refused(401, "invalid_key");
    client.get("/x").key("key-old").send().refused(401, "expired_key");
    client.get("/x").key("key-next").send().refused(401, "expired_key");
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.credential.kind"), "api_key");
    assert_eq!(said(&records[0], "bartizan.credential.id"), "good");
    assert!(!Value::from(records).to_string().contains("key-good"));
}

#[test]
fn keys_are_fetched_at_the_start_and_again_for_an_unknown_kid() {
    let (upstream, issuer) = (upstream().start(), Issuer::with(Key::ec("old")));
    let proxy = guarded(&upstream, &issuer).start();
    assert_eq!(issuer.fetches(), 1);
    let mut client = client(&proxy);
    let old = issuer.token().text();
    client.get("/x").bearer(&old).send().is(200);
    issuer.rotates_to(Key::rsa("new"));
    client.get("/x").bearer(issuer.token()).send().is(200);
    assert_eq!(issuer.fetches(), 2);
    client.get("/x").bearer(&old).send().refused(401, "invalid_token");
    // Whoever invents key ids does not make us ask the issuer each time.
    for number in 0..5 {
        client
            .get("/x")
            .bearer(issuer.token().header("kid", format!("invented-{number}")))
            .send()
            .refused(401, "invalid_token");
    }
    assert!(issuer.fetches() <= 3, "{}", issuer.fetches());
    proxy.done();
}

#[test]
fn an_issuer_that_was_never_there_is_503_and_never_401() {
    let (upstream, issuer) = (upstream().start(), issuer());
    issuer.goes_down();
    let proxy = guarded(&upstream, &issuer).open("GET /open").start();
    let mut client = client(&proxy);
    client.get("/x").bearer(issuer.token()).send().refused(503, "identity_unavailable");
    client.get("/x").bearer(issuer.token().forged_with(Key::ec("first"))).send().refused(503, "identity_unavailable");
    // What needs no issuer is served all the same.
    client.get("/open").send().is(200);
    let ready = operator(&proxy).get("/readyz").send();
    assert_eq!((ready.status, &ready.json()["key_sets"][0]["state"]), (503, &json!("unavailable")));
    issuer.comes_back();
    eventually("the keys are had", || (operator(&proxy).get("/readyz").send().status == 200).then_some(()));
    client.get("/x").bearer(issuer.token()).send().is(200);
    proxy.done();
}

#[test]
fn a_new_key_while_the_issuer_is_down_is_not_the_fault_of_the_caller() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).route("GET /x", "scopes: [orders:read]");
    let text = policy.yaml().replace("auth:\n", "auth:\n  failed_attempts: 1/h\n");
    let proxy = policy.text(&text).start();
    let mut client = client(&proxy);
    let of_the_old = issuer.token().text();
    client.get("/x").bearer(&of_the_old).send().is(200);
    issuer.rotates_to(Key::ec("next"));
    issuer.goes_down();
    for _ in 0..3 {
        client.get("/x").bearer(issuer.token()).send().refused(503, "identity_unavailable");
    }
    client.get("/x").bearer(&of_the_old).send().is(200);
    proxy.done();
}

#[test]
fn an_issuer_that_goes_down_later_locks_nobody_out() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let mut proxy = guarded(&upstream, &issuer).start();
    issuer.goes_down();
    client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    // It may be a key that it has made since, so nobody can tell whether the token is good.
    let unknown = issuer.token().header("kid", "unknown");
    client(&proxy).get("/x").bearer(unknown).send().refused(503, "identity_unavailable");
    // Nor does a reload, which keeps the keys of an issuer that did not change.
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /more")), Reloaded::Loaded);
    client(&proxy).get("/x").bearer(issuer.token()).send().is(200);
    proxy.done();
}

#[test]
fn keys_in_files_are_taken() {
    let (upstream, rsa, ec) = (upstream().start(), Issuer::with(Key::rsa("rsa")), issuer());
    let ed = Issuer::with(Key::ed("ed"));
    let pem = format!("{}{}", rsa.key().pem(), ec.key().pem());
    let proxy = proxy()
        .before(&upstream)
        .issuer("pem", "public_key: keys.pem, algorithms: [RS256, ES256], default_plan: free")
        .issuer("jwks", "issuer: \"https://jwks.test\", jwks: keys.json, algorithms: [EdDSA], default_plan: free")
        .file("keys.pem", pem)
        .file("keys.json", ed.jwks())
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let mut client = client(&proxy);
    client.get("/x").bearer(rsa.token()).send().is(200);
    client.get("/x").bearer(ec.token()).send().is(200);
    client.get("/x").bearer(ed.token().claim("iss", "https://jwks.test")).send().is(200);
    // A key of one issuer is not a key of the other.
    client.get("/x").bearer(ed.token()).send().refused(401, "invalid_token");
    client.get("/x").bearer(ec.token().claim("iss", "https://jwks.test")).send().refused(401, "invalid_token");
    proxy.done();
}

#[test]
fn a_shared_secret_comes_from_the_environment() {
    const SECRET: &str = "a-shared-secret-of-more-than-32-bytes";
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", "secret: \"${env:TEST_SECRET}\", algorithms: [HS256], default_plan: free")
        .env("TEST_SECRET", SECRET)
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let token = |secret: &str| Token::signed_by(Key::shared(secret.as_bytes()).into());
    let mut client = client(&proxy);
    client.get("/x").bearer(token(SECRET)).send().is(200);
    client.get("/x").bearer(token("${env:TEST_SECRET}")).send().refused(401, "invalid_token");
    assert!(proxy.stderr.all().iter().all(|line| !line.contains(SECRET)));
    proxy.done();
}

#[test]
fn credentials_go_upstream_only_where_the_policy_says_so() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).upstream("forward_credentials: true").start();
    let token = issuer.token().text();
    let answer = client(&proxy).get("/x").bearer(&token).send().is(200);
    assert_eq!(answer.echoed("authorization"), [format!("Bearer {token}")]);
    proxy.done();
}

#[test]
fn a_token_that_expires_is_refused_though_it_was_good_before() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let url = issuer.url();
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", &format!("jwks: \"{url}\", algorithms: [ES256], default_plan: free, clock_skew: 0s"))
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let token = issuer.token().claim("iat", now() - 10).claim("exp", now() + 2).text();
    let mut client = client(&proxy);
    let mut good = 0;
    let last = eventually("the token expires", || {
        let answer = client.get("/x").bearer(&token).send();
        good += usize::from(answer.status == 200);
        (answer.status != 200).then_some(answer)
    });
    last.refused(401, "expired_token");
    assert_eq!(upstream.seen().len(), good);
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
