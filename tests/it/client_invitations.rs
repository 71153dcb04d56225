//! Invitations for clients of the token service: claimed once, with a secret that is made here, or with a key or a certificate of the
//! partner's own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::documented::{joined, sends_what_is_before_a_comment};
use crate::self_service::{CLAIM, claim, invite, operates, proxy_text};
use crate::support::client::{Answer, Client, operator};
use crate::support::issuer::{Key, Token, now};
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::redis::Server;
use crate::support::*;
use crate::token_service::{ASSERTION, ISSUER, claims, sends};

/// An API behind tokens of its own, with no client yet.
fn serving(upstream: &Upstream) -> Policy {
    proxy()
        .before(upstream)
        .with(&format!("token_service: {{ issuer: \"{ISSUER}\", audience: [orders-api], refresh_token: {{}} }}"))
        .with("self_service: { path: /.bartizan, rate: 1000/s }")
        .with("store: state/")
        .with("roles: { clerk: [\"orders:read\", \"orders:write\"] }")
        .with("consumers: { acme: { plan: free, roles: [clerk] }, bank: { plan: free, roles: [clerk] } }")
        .route("GET /orders", "scopes: [\"orders:read\"]")
        .route("POST /orders", "scopes: [\"orders:write\"]")
}

/// The same for clients that show certificates.
fn certified(upstream: &Upstream, authority: &certificates::Authority) -> Policy {
    let server = authority.certifies(&["localhost"]);
    serving(upstream)
        .listen("{ address: \"127.0.0.1:0\", tls: { certificate: server.crt, key: server.key, client_ca: ca.pem } }")
        .file("server.crt", &*server.certificate)
        .file("server.key", &*server.key)
        .file("ca.pem", authority.pem())
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no `{name}`: {value:#}")).to_owned()
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

/// Asks for a token with the secret of a client.
fn asks(client: &mut Client, (id, secret): (&str, &str)) -> Answer {
    let grant = [("grant_type", "client_credentials")];
    sends(client, "/oauth/token", &[("authorization", &basic(id, secret))], &grant)
}

/// Asks for a token with an assertion of a client.
fn asserts(client: &mut Client, id: &str, key: &Arc<Key>) -> Answer {
    let assertion = Token::signed_by(Arc::clone(key))
        .claim("iss", id)
        .claim("sub", id)
        .claim("aud", ISSUER)
        .claim("exp", now() + 60)
        .claim("jti", uuid())
        .header("typ", "client-authentication+jwt")
        .text();
    let form =
        [("grant_type", "client_credentials"), ("client_assertion_type", ASSERTION), ("client_assertion", &*assertion)];
    sends(client, "/oauth/token", &[], &form)
}

fn uuid() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}

fn token(answer: Answer) -> String {
    text(&answer.is(200).json(), "access_token")
}

fn rotates(client: &mut Client, (id, secret): (&str, &str), body: &str) -> Answer {
    let path = format!("/.bartizan/clients/{id}/rotate");
    client.post(&path, body).header("authorization", &basic(id, secret)).send()
}

/// Invites a consumer, and claims a client with a secret: its id and the secret.
#[track_caller]
fn claimed(proxy: &Proxy, consumer: &str, mut with: Value) -> (String, String) {
    with["credential"] = "client_secret".into();
    let (_, code) = invite(proxy, consumer, with);
    let made = claim(&mut client(proxy), &code).is(201).json();
    (text(&made, "client_id"), text(&made, "client_secret"))
}

/// Sends a claim with more than the code.
fn claims_with(client: &mut Client, code: &str, more: &Value) -> Answer {
    let mut body = json!({"code": code});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    client.post(CLAIM, body.to_string()).send()
}

/// Issue 19: claimed, tokens, called and rotated, with nothing but what the partner was given; and all of it is on record.
#[test]
fn a_partner_claims_a_client_secret_and_rotates_it() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let (invitation, code) = invite(&proxy, "acme", json!({"credential": "client_secret", "scopes": ["orders:read"]}));
    let mut partner = client(&proxy);
    claims_with(&mut partner, &code, &json!({"jwk": {}})).refused(422, "schema_violation");
    let made = claim(&mut partner, &code).is(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    assert!(secret.starts_with(&format!("bzs_{id}_")) && made["key"].is_null(), "{made}");
    assert_eq!(
        (text(&made, "issuer"), text(&made, "token_endpoint")),
        (ISSUER.into(), format!("{ISSUER}/oauth/token"))
    );
    claim(&mut partner, &code).refused(410, "invitation_ended");

    let first = token(asks(&mut partner, (&id, &secret)));
    assert_eq!((&claims(&first)["client_id"], &claims(&first)["scope"]), (&json!(id), &json!("orders:read")));
    let called = partner.get("/orders").bearer(&*first).send().is(200);
    assert_eq!(called.echoed("x-consumer-id"), ["acme"]);
    partner.post("/orders", "{}").bearer(&*first).send().refused(403, "insufficient_scope");
    let me = partner.get("/.bartizan/me").bearer(&*first).send().is(200).json();
    let own = &me["clients"][0];
    assert_eq!((&own["id"], &own["kind"], &own["state"]), (&json!(id), &json!("client_secret"), &json!("active")));
    assert_eq!((own["secrets"].as_array().unwrap().len(), &me["keys"]), (1, &json!([])), "{me:#}");

    let rotated = rotates(&mut partner, (&id, &secret), r#"{"overlap": "1h"}"#).is(201).json();
    let next = text(&rotated, "client_secret");
    assert!(next != secret && rotated["client_id"] == made["client_id"], "{rotated}");
    for secret in [&secret, &next] {
        token(asks(&mut partner, (&id, secret)));
        let post = [("grant_type", "client_credentials"), ("client_id", &*id), ("client_secret", secret)];
        token(sends(&mut partner, "/oauth/token", &[], &post));
    }
    // The old one is replaced once, and the new one not before the old one has ended.
    let again = rotates(&mut partner, (&id, &secret), "").refused(409, "conflict");
    assert!(again.text().contains("replaced already"), "{}", again.text());
    let early = rotates(&mut partner, (&id, &next), "").refused(409, "conflict");
    assert!(early.text().contains(&text(&rotated, "replaced_expires")), "{}", early.text());

    let listed = operates(&proxy, "GET", "/v1/consumers/acme/clients", Value::Null, 200);
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["credential"]), (&json!(id), &json!("client_secret")));
    assert_eq!(listed["items"][0]["secrets"].as_array().unwrap().len(), 2);
    let invitations = operates(&proxy, "GET", "/v1/invitations", Value::Null, 200);
    assert_eq!((&invitations["items"][0]["client"], &invitations["items"][0]["key"]), (&json!(id), &Value::Null));
    operates(&proxy, "DELETE", &format!("/v1/invitations/{invitation}"), Value::Null, 409);

    let records = proxy.done();
    let of = |action: &str| records.iter().find(|record| said(record, "event.action") == action).unwrap();
    let claim = of("invitation_claimed");
    assert_eq!(said(claim, "bartizan.target"), &json!(format!("acme {invitation} -> {id}")));
    assert_eq!(said(claim, "bartizan.change.scopes"), &json!(["orders:read"]));
    let rotated = of("client_secret_rotated");
    assert_eq!(
        (said(rotated, "bartizan.consumer"), said(rotated, "bartizan.target")),
        (&json!("acme"), &json!(format!("acme {id}")))
    );
    assert_eq!(said(rotated, "bartizan.credential.kind"), "client_secret");
    let all = format!("{records:?}");
    for secret in [&code, &secret, &next, &first] {
        assert!(!all.contains(secret.as_str()), "a secret is on record");
    }
}

/// What a secret may be replaced with, by whom, and how often is guessed.
#[test]
fn a_secret_replaces_only_itself() {
    let upstream = upstream().start();
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let policy = serving(&upstream).auth("failed_attempts: 4/h");
    let listed =
        format!("bank: {{ plan: free, roles: [clerk], clients: [{{ id: listed-1, secret_sha256: \"{digest}\" }}] }}");
    let text_with = proxy_text(&policy, "bank: { plan: free, roles: [clerk] }", &listed);
    let proxy = policy.text(&text_with).start();
    let (acme, of_acme) = claimed(&proxy, "acme", json!({"key_lifetime": "48h"}));
    let (bank, of_bank) = claimed(&proxy, "bank", json!({}));
    let mut partner = client(&proxy);
    let path = format!("/.bartizan/clients/{acme}/rotate");
    let mut sends = |headers: &[(&str, &str)], body: &str| {
        let mut request = partner.post(&path, body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.send()
    };
    let (good, others) = (basic(&acme, &of_acme), basic(&bank, &of_bank));
    sends(&[("authorization", &others)], "").refused(404, "not_found");
    sends(&[("authorization", &good), ("origin", "https://evil.example")], "").refused(403, "cors_refused");
    sends(&[("authorization", &good)], r#"{"overlap": "31d"}"#).refused(422, "schema_violation");
    sends(&[("authorization", &good)], r#"{"overlap": "1h", "overlap": "2h"}"#).refused(422, "schema_violation");
    let listed = basic("listed-1", "test");
    let mut caller = client(&proxy);
    let of_policy = caller.post("/.bartizan/clients/listed-1/rotate", "").header("authorization", &listed).send();
    assert!(of_policy.refused(409, "conflict").text().contains("kept by the API's owner"));
    // A token replaces nothing, and neither does no credential. Guesses have an end.
    let bearer = token(asks(&mut caller, (&acme, &of_acme)));
    for header in [format!("Bearer {bearer}"), basic(&acme, "wrong"), basic("nobody", &of_acme)] {
        let refused = sends(&[("authorization", &header)], "").refused(401, "invalid_client");
        assert_eq!(refused.header("www-authenticate"), Some(r#"Basic realm="token""#));
    }
    sends(&[], "").refused(401, "invalid_client");
    sends(&[("authorization", &good)], "").refused(429, "too_many_failures");
    proxy.done();

    // Without an overlap, the old one ends at once; the next one lives as long as the operator let it live.
    let proxy = serving(&upstream).start();
    let (id, secret) = claimed(&proxy, "acme", json!({"key_lifetime": "48h"}));
    let mut partner = client(&proxy);
    let next = rotates(&mut partner, (&id, &secret), r#"{"overlap": "0s"}"#).is(201).json();
    let late = asks(&mut partner, (&id, &secret)).is(401);
    assert!(late.text().contains("was replaced at") && late.text().contains("at once"), "{}", late.text());
    let lives = text(&next, "expires").parse::<jiff::Timestamp>().unwrap();
    assert!((46..=48).contains(&lives.duration_since(jiff::Timestamp::now()).as_hours()), "{lives}");
    let after = rotates(&mut partner, (&id, &text(&next, "client_secret")), r#"{"overlap": "0s"}"#).is(201).json();
    token(asks(&mut partner, (&id, &text(&after, "client_secret"))));
    let proxy = proxy.again("TERM");
    token(asks(&mut client(&proxy), (&id, &text(&after, "client_secret"))));
    operates(&proxy, "POST", "/v1/revocations", json!({"subject": id, "issuer": "token_service"}), 201);
    let proxy = proxy.again("TERM");
    asks(&mut client(&proxy), (&id, &text(&after, "client_secret"))).is(401);
    // Whose secret it was is on record, for those who look for a theft.
    asks(&mut client(&proxy), (&id, &text(&next, "client_secret"))).is(401);
    let records = proxy.done();
    let late = records.iter().find(|record| said(record, "event.reason") == "invalid_client").unwrap();
    assert_eq!(said(late, "bartizan.consumer"), "acme", "{late:#?}");
}

/// A thief replaces the secret, and then its own, so that nobody sees the theft: that is seen all the same, by the owner and by operators.
#[test]
fn a_secret_that_was_replaced_twice_still_says_so_when_it_is_used() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let (id, secret) = claimed(&proxy, "acme", json!({}));
    let mut thief = client(&proxy);
    let mut last = secret.clone();
    for _ in 0..2 {
        let next = rotates(&mut thief, (&id, &last), r#"{"overlap": "0s"}"#).is(201).json();
        last = text(&next, "client_secret");
    }
    let mut owner = client(&proxy);
    for _ in 0..2 {
        let late = asks(&mut owner, (&id, &secret)).is(401);
        assert!(late.text().contains("was replaced at") && late.text().contains("at once"), "{}", late.text());
    }
    assert!(rotates(&mut owner, (&id, &secret), "").refused(401, "invalid_client").text().contains("was replaced at"));
    token(asks(&mut thief, (&id, &last)));
    let metrics = operator(&proxy).get("/metrics").send().text();
    assert!(metrics.contains("bartizan_alerts_total{action=\"replaced_secret_used\"} 1\n"), "{metrics}");
    let records = proxy.done();
    let alerts: Vec<_> = records.iter().filter(|record| said(record, "event.kind") == "alert").collect();
    assert_eq!(alerts.len(), 1, "one an hour: {alerts:#?}");
    for (name, value) in [
        ("event.action", json!("replaced_secret_used")),
        ("bartizan.consumer", json!("acme")),
        ("bartizan.credential.id", json!(id)),
        ("client.ip", json!("127.0.0.1")),
    ] {
        assert_eq!(*said(alerts[0], name), value, "{name}: {:#}", alerts[0]);
    }
}

/// What is remembered of secrets that were replaced has a bound, and what was replaced within a day is not forgotten.
#[test]
fn a_secret_is_not_replaced_any_number_of_times_within_a_day() {
    let upstream = upstream().start();
    let mut proxy = serving(&upstream).start();
    let (id, secret) = claimed(&proxy, "acme", json!({}));
    let mut partner = client(&proxy);
    let mut last = secret.clone();
    for number in 0..31 {
        if number == 16 {
            // Changes have a rate, which begins anew.
            partner.leaves();
            proxy = proxy.again("TERM");
            partner = client(&proxy);
        }
        last = text(&rotates(&mut partner, (&id, &last), r#"{"overlap": "0s"}"#).is(201).json(), "client_secret");
    }
    let refused = rotates(&mut partner, (&id, &last), r#"{"overlap": "0s"}"#).refused(409, "conflict");
    assert!(refused.text().contains("too many secrets within a day; replace this one after 20"), "{}", refused.text());
    token(asks(&mut partner, (&id, &last)));
    assert!(asks(&mut partner, (&id, &secret)).is(401).text().contains("was replaced at"));
    proxy.done();
}

/// RFC 7523: the partner sends a public key, and signs what it asks for tokens with.
#[test]
fn a_partner_brings_its_own_key() {
    let (upstream, key) = (upstream().start(), Arc::new(Key::ec("mine")));
    let listed = Key::ed("listed");
    let policy = serving(&upstream).file("bank.jwks.json", json!({"keys": [listed.jwk()]}).to_string());
    let with = "bank: { plan: free, roles: [clerk], clients: [{ id: bank-1, jwks: bank.jwks.json }] }";
    let text_with = proxy_text(&policy, "bank: { plan: free, roles: [clerk] }", with);
    let proxy = policy.text(&text_with).start();
    let kind = json!({"credential": "private_key_jwt"});
    let (_, code) = invite(&proxy, "acme", kind.clone());
    let mut partner = client(&proxy);
    let (own_keys, p521) = (partner.get("/oauth/jwks").send().is(200).json(), json!({"kty": "EC", "crv": "P-521"}));
    let with = |name: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk[name] = value;
        jwk
    };
    for (more, status, code_said, detail) in [
        (json!({}), 422, "schema_violation", "send its public part as `jwk`"),
        (json!({"jwk": key.private_jwk()}), 422, "schema_violation", "make a new one"),
        (json!({"jwk": {"keys": [key.jwk()]}}), 422, "schema_violation", "key set"),
        (json!({"jwk": p521}), 422, "schema_violation", "P-256"),
        (json!({"jwk": with("x", json!("AAAA"))}), 422, "schema_violation", "too short"),
        (json!({"jwk": with("use", json!("enc"))}), 422, "schema_violation", "base64url"),
        (json!({"jwk": "text"}), 422, "schema_violation", "not the JSON object"),
        (json!({"jwk": key.jwk(), "certificate": "x"}), 422, "schema_violation", "and no more"),
        (json!({"jwk": listed.jwk()}), 409, "conflict", "used here already"),
        (json!({"jwk": own_keys["keys"][0]}), 409, "conflict", "used here already"),
    ] {
        let refused = claims_with(&mut partner, &code, &more).refused(status, code_said).text();
        assert!(refused.contains(detail), "{detail}: {refused}");
        assert!(!refused.contains(key.private_jwk()["d"].as_str().unwrap()));
    }
    let twice = format!(r#"{{"code": "{code}", "jwk": {{"kty": "EC", "kty": "RSA"}}}}"#);
    partner.post(CLAIM, twice).send().refused(422, "schema_violation");
    // None of it has used the code.
    let made = claims_with(&mut partner, &code, &json!({"jwk": key.jwk()})).is(201).json();
    let id = text(&made, "client_id");
    assert!(made.get("client_secret").is_none() && made.get("rotate").is_none(), "{made}");
    let bearer = token(asserts(&mut partner, &id, &key));
    partner.get("/orders").bearer(&*bearer).send().is(200);
    asserts(&mut partner, &id, &Arc::new(Key::ec("mine"))).is(401);
    // Another client does not get the same key, whatever is said of it.
    let (_, second) = invite(&proxy, "bank", kind);
    let mut renamed = key.jwk();
    renamed["kid"] = json!("other");
    claims_with(&mut partner, &second, &json!({"jwk": renamed})).refused(409, "conflict");
    // Unless that client has ended.
    let ended = operates(&proxy, "POST", "/v1/revocations", json!({"subject": id, "issuer": "token_service"}), 201);
    let next = claims_with(&mut partner, &second, &json!({"jwk": key.jwk()})).is(201).json();
    token(asserts(&mut partner, &text(&next, "client_id"), &key));
    operates(&proxy, "DELETE", &format!("/v1/revocations/{}", text(&ended, "id")), Value::Null, 200);
    let shown = operates(&proxy, "GET", &format!("/v1/clients/{id}"), Value::Null, 200);
    assert_eq!((&shown["thumbprint"], &shown["source"]), (&json!(key.thumbprint()), &json!("store")));
    let records = proxy.done();
    let all = format!("{records:?}");
    assert!(!all.contains(key.private_jwk()["d"].as_str().unwrap()), "a private key is on record");
}

/// RFC 8705: the partner sends its certificate, and its tokens are bound to that.
#[test]
fn a_partner_brings_its_own_certificate() {
    let (upstream, authority, stranger) = (upstream().start(), authority(), authority());
    let (own, bank) = (authority.vouches_for(7, &["acme.test"]), authority.vouches_for(8, &["bank.test"]));
    let identity = "bank: { plan: free, roles: [clerk], identities: [{ certificate_san: \"dns:bank.test\" }] }";
    let policy = certified(&upstream, &authority);
    let text_with = proxy_text(&policy, "bank: { plan: free, roles: [clerk] }", identity);
    let proxy = policy.text(&text_with).start();
    let (_, code) = invite(&proxy, "acme", json!({"credential": "certificate", "key_lifetime": null}));
    let plain = || client(&proxy).tls(authority.client(&[]));
    let expired = authority.certifies_between((2020, 1, 1), (2021, 1, 1));
    for (more, status, said, detail) in [
        (json!({}), 422, "schema_violation", "in PEM"),
        (json!({"certificate": "x"}), 422, "schema_violation", "in PEM"),
        (json!({"certificate": own.key}), 422, "schema_violation", "private key"),
        (json!({"certificate": format!("{}{}", own.certificate, own.key)}), 422, "schema_violation", "private key"),
        (
            json!({"certificate": stranger.vouches_for(7, &["acme.test"]).certificate}),
            422,
            "schema_violation",
            "not accepted",
        ),
        (json!({"certificate": expired.certificate}), 422, "schema_violation", "not accepted"),
        // That it has the key is shown by the handshake: a certificate is no secret.
        (json!({"certificate": own.certificate}), 422, "schema_violation", "connect with the certificate"),
        (json!({"certificate": bank.certificate}), 422, "schema_violation", "connect with the certificate"),
        (json!({"certificate": "x".repeat(17_000)}), 413, "body_too_large", ""),
    ] {
        let refused = claims_with(&mut plain(), &code, &more).refused(status, said).text();
        assert!(refused.contains(detail), "{detail}: {refused}");
    }
    let showing = |certified: &certificates::Certified| client(&proxy).tls(authority.client_showing(certified));
    let other = claims_with(&mut showing(&bank), &code, &json!({"certificate": own.certificate}));
    assert!(other.refused(422, "schema_violation").text().contains("connect with the certificate"));
    let of_bank = claims_with(&mut showing(&bank), &code, &json!({"certificate": bank.certificate}));
    assert!(of_bank.refused(409, "conflict").text().contains("used here already"));
    let made = claims_with(&mut showing(&own), &code, &json!({"certificate": own.certificate})).is(201).json();
    let id = text(&made, "client_id");
    assert!(made["expires"].is_string(), "it ends with the certificate: {made}");
    let form = [("grant_type", "client_credentials"), ("client_id", &*id)];
    let bearer = token(sends(&mut showing(&own), "/oauth/token", &[], &form));
    showing(&own).get("/orders").bearer(&*bearer).send().is(200);
    plain().get("/orders").bearer(&*bearer).send().refused(401, "invalid_token");
    sends(&mut plain(), "/oauth/token", &[], &form).is(401);
    sends(&mut showing(&bank), "/oauth/token", &[], &form).is(401);
    let metadata = plain().get("/.well-known/oauth-authorization-server").send().is(200).json();
    assert!(metadata["token_endpoint_auth_methods_supported"].to_string().contains("self_signed_tls_client_auth"));
    // One certificate, one consumer; its next client may have the same, and a revoked one is nobody's.
    let (_, of_bank) = invite(&proxy, "bank", json!({"credential": "certificate"}));
    claims_with(&mut showing(&own), &of_bank, &json!({"certificate": own.certificate})).refused(409, "conflict");
    let (_, second) = invite(&proxy, "acme", json!({"credential": "certificate"}));
    let next = claims_with(&mut showing(&own), &second, &json!({"certificate": own.certificate})).is(201).json();
    let next = text(&next, "client_id");
    token(sends(&mut showing(&own), "/oauth/token", &[], &[form[0], ("client_id", &*next)]));
    let (_, second) = invite(&proxy, "acme", json!({"credential": "certificate"}));
    let other = authority.vouches_for(9, &["acme.test"]);
    let thumbprint: String = other.thumbprint().iter().map(|byte| format!("{byte:02x}")).collect();
    operates(&proxy, "POST", "/v1/revocations", json!({"certificate": format!("sha256:{thumbprint}")}), 201);
    let revoked =
        claims_with(&mut showing(&other), &second, &json!({"certificate": other.certificate})).refused(409, "conflict");
    assert!(revoked.text().contains("was revoked"), "{}", revoked.text());
    // Neither is one that is older than what was revoked of its consumer: it would be refused from the start.
    let before = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let all = json!({"consumer": "acme", "issued_before": before.to_string()});
    operates(&proxy, "POST", "/v1/revocations", all, 201);
    let older = authority.vouches_for(10, &["acme.test"]);
    let revoked =
        claims_with(&mut showing(&older), &second, &json!({"certificate": older.certificate})).refused(409, "conflict");
    assert!(revoked.text().contains("was revoked"), "{}", revoked.text());
    assert_eq!(operates(&proxy, "GET", &format!("/v1/clients/{next}"), Value::Null, 200)["state"], "revoked");
    sends(&mut showing(&own), "/oauth/token", &[], &[form[0], ("client_id", &*next)]).is(401);
    proxy.done();
}

/// What operators decide holds for clients as it does for keys: at the token endpoint, for tokens that are out, and for refresh tokens.
#[test]
fn operators_stop_a_client_at_once() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let mut partner = client(&proxy);
    let refreshes = |partner: &mut Client, (id, secret): (&str, &str), token: &str| {
        let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
        sends(partner, "/oauth/token", &[("authorization", &basic(id, secret))], &form)
    };
    let (id, secret) = claimed(&proxy, "acme", json!({}));
    let given = asks(&mut partner, (&id, &secret)).is(200).json();
    let (bearer, refresh) = (text(&given, "access_token"), text(&given, "refresh_token"));
    operates(&proxy, "PUT", "/v1/consumers/acme/suspension", json!({"until": "1h"}), 200);
    partner.get("/orders").bearer(&*bearer).send().refused(403, "consumer_suspended");
    assert_eq!(asks(&mut partner, (&id, &secret)).is(400).json()["error"], "unauthorized_client");
    rotates(&mut partner, (&id, &secret), "").refused(403, "consumer_suspended");
    let rotation = format!("/.bartizan/clients/{id}/rotate");
    operates(&proxy, "DELETE", "/v1/consumers/acme/suspension", Value::Null, 200);
    let refresh = text(&refreshes(&mut partner, (&id, &secret), &refresh).is(200).json(), "refresh_token");

    operates(&proxy, "POST", "/v1/revocations", json!({"subject": "nobody", "issuer": "token_service"}), 422);
    let revoked = operates(&proxy, "POST", "/v1/revocations", json!({"subject": id, "issuer": "token_service"}), 201);
    assert_eq!(
        (&revoked["hit"]["active_clients"], &revoked["hit"]["active_keys"]),
        (&json!(1), &json!(0)),
        "{revoked}"
    );
    partner.get("/orders").bearer(&*bearer).send().refused(401, "revoked");
    for answer in [asks(&mut partner, (&id, &secret)), refreshes(&mut partner, (&id, &secret), &refresh)] {
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    let shown = operates(&proxy, "GET", &format!("/v1/clients/{id}"), Value::Null, 200);
    assert_eq!(shown["state"], "revoked");
    operates(&proxy, "DELETE", &format!("/v1/revocations/{}", text(&revoked, "id")), Value::Null, 200);
    token(asks(&mut partner, (&id, &secret)));

    operates(&proxy, "DELETE", &format!("/v1/clients/{id}"), Value::Null, 200);
    partner.get("/orders").bearer(&*bearer).send().refused(403, "unknown_consumer");
    asks(&mut partner, (&id, &secret)).is(401);
    operates(&proxy, "DELETE", &format!("/v1/clients/{id}"), Value::Null, 404);
    let records = proxy.done();
    let refused = records.iter().find(|record| {
        said(record, "event.reason") == "consumer_suspended" && *said(record, "url.path") == json!(rotation)
    });
    assert_eq!(said(refused.unwrap(), "bartizan.consumer"), "acme", "{refused:#?}");
    let proxy = serving(&upstream).start();
    let mut partner = client(&proxy);

    // Where it is good from holds for its tokens, too.
    let (id, secret) = claimed(&proxy, "acme", json!({"from": ["127.0.0.0/8"]}));
    let bearer = token(asks(&mut partner, (&id, &secret)));
    partner.get("/orders").bearer(&*bearer).send().is(200);
    operates(&proxy, "DELETE", &format!("/v1/clients/{id}"), Value::Null, 200);
    partner.get("/orders").bearer(&*bearer).send().refused(403, "unknown_consumer");
    proxy.done();
}

/// What is listed as the state of a client is what it gets when it asks for a token.
#[test]
fn the_state_of_a_client_is_what_it_gets() {
    let (upstream, key) = (upstream().start(), Arc::new(Key::ed("listed")));
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let policy = serving(&upstream).file("bank.jwks.json", json!({"keys": [key.jwk()]}).to_string());
    let listed = format!(
        "bank: {{ plan: free, roles: [clerk], clients: [{{ id: signs, jwks: bank.jwks.json }}, \
         {{ id: ended, secret_sha256: \"{digest}\", expires: 2020-01-01T00:00:00Z }}, {{ id: old, secret_sha256: \"{digest}\", \
         created: 2020-01-01T00:00:00Z }}, {{ id: good, secret_sha256: \"{digest}\", created: 2026-01-01T00:00:00Z }}] }}"
    );
    let text_with = proxy_text(&policy, "bank: { plan: free, roles: [clerk] }", &listed);
    let proxy = policy.text(&text_with).start();
    let before = json!({"consumer": "bank", "issued_before": "2025-06-01T00:00:00Z"});
    let revoked = operates(&proxy, "POST", "/v1/revocations", before, 201);
    assert_eq!((&revoked["hit"]["active_clients"], &revoked["hit"]["active_keys"]), (&json!(3), &json!(0)));
    let mut partner = client(&proxy);
    for (id, state) in [("signs", "active"), ("ended", "revoked"), ("old", "revoked"), ("good", "active")] {
        let shown = operates(&proxy, "GET", &format!("/v1/clients/{id}"), Value::Null, 200);
        assert_eq!(shown["state"], state, "{id}");
        let answer = if id == "signs" { asserts(&mut partner, id, &key) } else { asks(&mut partner, (id, "test")) };
        assert_eq!(answer.status, if state == "active" { 200 } else { 401 }, "{id}");
    }
    operates(&proxy, "DELETE", &format!("/v1/revocations/{}", text(&revoked, "id")), Value::Null, 200);
    for (id, state) in [("ended", "expired"), ("old", "active")] {
        let shown = operates(&proxy, "GET", &format!("/v1/clients/{id}"), Value::Null, 200);
        assert_eq!(shown["state"], state, "{id}");
        assert_eq!(asks(&mut partner, (id, "test")).status, if state == "active" { 200 } else { 401 }, "{id}");
    }
    proxy.done();
}

/// A consumer has room for many clients, and not for any number; those that are revoked do not count.
#[test]
fn a_consumer_has_so_many_clients_at_most() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let (id, _) = claimed(&proxy, "acme", json!({}));
    for _ in 1..100 {
        claimed(&proxy, "acme", json!({}));
    }
    let (path, wanted) = ("/v1/consumers/acme/invitations", json!({"credential": "client_secret"}));
    let full = operates(&proxy, "POST", path, wanted.clone(), 409);
    assert!(full.to_string().contains("100 clients"), "{full}");
    invite(&proxy, "acme", json!({"credential": "api_key"}));
    operates(&proxy, "POST", "/v1/revocations", json!({"subject": id, "issuer": "token_service"}), 201);
    operates(&proxy, "POST", path, wanted, 201);
    proxy.done();
}

/// Keys of the other kinds that partners have.
#[test]
fn a_partner_brings_a_key_of_another_kind() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let mut partner = client(&proxy);
    for key in [Key::rsa("rsa"), Key::p384("p384"), Key::ed("ed")].map(Arc::new) {
        let (_, code) = invite(&proxy, "acme", json!({"credential": "private_key_jwt"}));
        let made = claims_with(&mut partner, &code, &json!({"jwk": key.jwk()})).is(201).json();
        let bearer = token(asserts(&mut partner, &text(&made, "client_id"), &key));
        partner.get("/orders").bearer(&*bearer).send().is(200);
    }
    proxy.done();
}

/// A client whose consumer is removed is gone, with its tokens; and a later consumer with the same name does not have it.
#[test]
fn a_client_goes_with_its_consumer() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let consumer = json!({"name": "shop", "roles": ["clerk"], "plan": "free"});
    operates(&proxy, "POST", "/v1/consumers", consumer.clone(), 201);
    let (id, secret) = claimed(&proxy, "shop", json!({}));
    let mut partner = client(&proxy);
    let bearer = token(asks(&mut partner, (&id, &secret)));
    partner.get("/orders").bearer(&*bearer).send().is(200);
    operates(&proxy, "DELETE", "/v1/consumers/shop", Value::Null, 200);
    operates(&proxy, "POST", "/v1/consumers", consumer, 201);
    partner.get("/orders").bearer(&*bearer).send().refused(403, "unknown_consumer");
    asks(&mut partner, (&id, &secret)).is(401);
    proxy.done();
}

/// The client is good from some networks only, and so are its tokens, whatever node gave them.
#[test]
fn a_token_is_good_where_its_client_is() {
    let upstream = upstream().start();
    let policy = serving(&upstream).with("trusted_proxies: [127.0.0.0/8]");
    let proxy = policy.start();
    let inside = ("x-forwarded-for", "203.0.113.7");
    let (_, code) = invite(&proxy, "acme", json!({"credential": "client_secret", "from": ["203.0.113.0/24"]}));
    let mut partner = client(&proxy);
    claim(&mut partner, &code).refused(403, "network_not_allowed");
    let made = partner.post(CLAIM, json!({"code": code}).to_string()).header(inside.0, inside.1).send().is(201).json();
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    asks(&mut partner, (&id, &secret)).is(403);
    let grant = [("grant_type", "client_credentials")];
    let bearer = token(sends(&mut partner, "/oauth/token", &[("authorization", &basic(&id, &secret)), inside], &grant));
    partner.get("/orders").bearer(&*bearer).header(inside.0, inside.1).send().is(200);
    partner.get("/orders").bearer(&*bearer).send().refused(403, "network_not_allowed");
    proxy.done();
}

/// What was invited to must still be there when it is claimed, and what nobody could use is not invited to.
#[test]
fn a_kind_of_credential_that_is_not_offered_is_not_invited_to() {
    let upstream = upstream().start();
    let mut proxy = serving(&upstream).start();
    let path = "/v1/consumers/acme/invitations";
    operates(&proxy, "POST", path, json!({"credential": "certificate"}), 409);
    operates(&proxy, "POST", path, json!({"credential": "password"}), 422);
    operates(&proxy, "POST", path, json!({"credential": "later"}), 422);
    let (_, code) = invite(&proxy, "acme", json!({"credential": "client_secret"}));
    proxy.reload_to(|policy| {
        let text = policy.yaml();
        let line = text.lines().find(|line| line.starts_with("token_service:")).unwrap().to_owned();
        policy.text(&text.replace(&line, ""))
    });
    operates(&proxy, "POST", path, json!({"credential": "client_secret"}), 409);
    claim(&mut client(&proxy), &code).refused(410, "invitation_ended");
    proxy.done();
}

/// On two nodes, which know of a client through Redis alone, it is one client; and its secret is replaced once.
#[test]
fn a_client_is_known_on_whatever_node() {
    let Some(redis) = Server::start("save \"\"", &[]) else { return };
    let upstream = upstream().start();
    let limits = "limits: { on_failure: local, timeout: 30s }";
    let store = format!("store: {{ redis: \"redis://127.0.0.1:{}\", timeout: 30s, {limits} }}", redis.port);
    let policy = serving(&upstream);
    let text_with = proxy_text(&policy, "store: state/", &store);
    let text_with = text_with.replace(
        "refresh_token: {} }",
        "refresh_token: {}, keys: { seal: \"b7e151628aed2a6abf7158809cf4f3c762e7160f38b4da56a784d9045190cfef\" } }",
    );
    let [here, there] = [(); 2].map(|()| policy.clone().text(&text_with).start());
    let (id, secret) = claimed(&here, "acme", json!({}));
    let known = || (asks(&mut client(&there), (&id, &secret)).status == 200).then_some(());
    eventually("the client is known there", known);
    let next = rotates(&mut client(&there), (&id, &secret), "").is(201).json();
    let next = text(&next, "client_secret");
    let replaced = || (asks(&mut client(&here), (&id, &next)).status == 200).then_some(());
    eventually("the new secret is known here", replaced);
    rotates(&mut client(&here), (&id, &secret), "").refused(409, "conflict");

    // Of two claims of one code at the same moment, one is granted, wherever they are.
    let (_, code) = invite(&here, "acme", json!({"credential": "client_secret"}));
    let known = || {
        let invitations = operates(&there, "GET", "/v1/consumers/acme/invitations", Value::Null, 200);
        (invitations["items"].as_array().unwrap().len() == 2).then_some(())
    };
    eventually("the invitation is known there", known);
    let both = std::thread::scope(|scope| {
        let claims = [&here, &there].map(|node| scope.spawn(|| claim(&mut client(node), &code).status));
        claims.map(|claim| claim.join().unwrap())
    });
    assert!(matches!(both, [201, 410] | [410, 201]), "{both:?}");
    let of_acme = operates(&here, "GET", "/v1/consumers/acme/clients", Value::Null, 200);
    assert_eq!(of_acme["items"].as_array().unwrap().len(), 2, "{of_acme:#}");

    // What operators decide on one node holds on the other.
    let status = || asks(&mut client(&there), (&id, &next)).status;
    operates(&here, "PUT", "/v1/consumers/acme/suspension", json!({"until": "1h"}), 200);
    eventually("the suspension is known there", || (status() == 400).then_some(()));
    operates(&here, "DELETE", "/v1/consumers/acme/suspension", Value::Null, 200);
    eventually("its end is known there", || (status() == 200).then_some(()));
    operates(&here, "POST", "/v1/revocations", json!({"subject": id, "issuer": "token_service"}), 201);
    eventually("the revocation is known there", || (status() == 401).then_some(()));
    here.done();
    there.done();
}

fn bartizan(proxy: &Proxy, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let admin = format!("http://{}", proxy.admin());
    command.args(arguments).args(["--admin", &admin, "--admin-token", ADMIN_TOKEN]);
    let output = command.env_remove("BARTIZAN_POLICY").current_dir(proxy.folder.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The commands of operators: who is invited to what, which clients there are, and how one is ended.
#[test]
fn operators_have_commands_for_clients() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let (code, invitation, said) =
        bartizan(&proxy, &["consumer", "invite", "acme", "--credential", "client_secret", "--sheet", "acme.md"]);
    assert_eq!(code, Some(0), "{said}");
    let made = claim(&mut client(&proxy), invitation.trim()).is(201).json();
    let id = text(&made, "client_id");
    let (_, listed, _) = bartizan(&proxy, &["consumer", "invitations"]);
    assert!(listed.contains("client_secret") && listed.contains(&id), "{listed}");
    let (_, listed, _) = bartizan(&proxy, &["client", "list", "--consumer", "acme"]);
    assert!(listed.contains(&id) && listed.contains("active"), "{listed}");
    let (code, _, said) = bartizan(&proxy, &["client", "revoke", "acme-0"]);
    assert!(code == Some(1) && said.contains("no client with this id"), "{said}");
    assert_eq!(bartizan(&proxy, &["client", "revoke", &id, "--reason", "leaked"]).0, Some(0));
    let (_, listed, _) = bartizan(&proxy, &["client", "list"]);
    assert!(listed.contains("revoked"), "{listed}");
    assert_eq!(bartizan(&proxy, &["client", "remove", &id]).0, Some(0));
    assert_eq!(bartizan(&proxy, &["client", "remove", &id]).0, Some(1));
    let wrong = bartizan(&proxy, &["consumer", "invite", "acme", "--credential", "password"]);
    assert!(wrong.0 == Some(2) && wrong.2.contains("private_key_jwt"), "{}", wrong.2);
    proxy.done();
}

/// The commands of a sheet, each as a partner pastes it: one line, which no shell takes for something else.
pub fn commands(sheet: &str) -> Vec<String> {
    let sent = joined(sheet).lines().find(|line| sends_what_is_before_a_comment(line)).map(str::to_owned);
    assert_eq!(sent, None, "{sheet}");
    let blocks = sheet.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    let commands: Vec<String> = blocks.collect();
    for command in &commands {
        // An interactive zsh does not know comments, and `read` would read the line that is pasted behind it.
        assert!(command.lines().count() == 1 && !command.contains('#') && !command.contains("read "), "{command}");
    }
    commands
}

/// The command of a sheet that has this text.
#[track_caller]
pub fn command(sheet: &str, part: &str) -> String {
    commands(sheet).into_iter().find(|command| command.contains(part)).unwrap_or_else(|| panic!("no {part}: {sheet}"))
}

/// Runs a command in a shell without a terminal, after which this is typed; what it prints.
pub fn pasted(shell: &str, folder: &Path, command: &str, typed: &str) -> String {
    let mut run = Command::new("setsid");
    run.args(["-w", shell, "-c", command]).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = run.spawn().unwrap();
    // It may read nothing.
    let _ = run.stdin.take().unwrap().write_all(typed.as_bytes());
    String::from_utf8(run.wait_with_output().unwrap().stdout).unwrap()
}

/// The shells that are here, of those that partners use.
pub fn shells() -> Vec<&'static str> {
    // `dash` has no `--version`.
    let is_here = |shell: &&str| Command::new(shell).args(["-c", ":"]).status().is_ok_and(|status| status.success());
    if !["curl", "setsid"].into_iter().all(has) {
        return Vec::new();
    }
    ["dash", "bash", "zsh"].into_iter().filter(is_here).collect()
}

/// Each sheet is enough for a shell with `curl` and `openssl`: claim, get a token, call, see, replace.
#[test]
fn each_sheet_is_all_that_a_partner_needs() {
    let shells = shells();
    if shells.is_empty() || !Command::new("openssl").arg("version").status().is_ok_and(|status| status.success()) {
        return skipped("there is no shell with curl, setsid and openssl");
    }
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let (url, folder) = (proxy.url(""), proxy.folder.path());
    for shell in &shells {
        for credential in ["client_secret", "private_key_jwt"] {
            let more = ["--url", &url, "--from", "127.0.0.0/8"];
            let arguments = [&["consumer", "invite", "acme", "--credential", credential][..], &more].concat();
            let (code, printed, said) = bartizan(&proxy, &arguments);
            assert_eq!(code, Some(0), "{said}");
            let (invitation, sheet) = printed.split_once("\n\n").unwrap();
            assert!(sheet.contains("127.0.0.0/8") && sheet.contains("error_description"), "{sheet}");
            // The issuer of tests has no port.
            let sheet = sheet.replace(&format!("{ISSUER}/oauth/token"), &proxy.url("/oauth/token"));
            std::fs::write(proxy.file("code.txt"), format!("{invitation}\r\n")).unwrap();
            let is_key = credential == "private_key_jwt";
            if is_key {
                pasted(shell, folder, &command(&sheet, "openssl genrsa"), "");
            }
            let made = pasted(shell, folder, &command(&sheet, "/invitations/claim"), "");
            let made: Value = serde_json::from_str(&made).unwrap_or_else(|_| panic!("{made}\n{sheet}"));
            let (id, secret) = (text(&made, "client_id"), made["client_secret"].as_str().unwrap_or_default());
            let typed = format!("{secret}\n");
            let asks = if is_key {
                let file = sheet.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
                std::fs::write(proxy.file("token.sh"), file.replace("YOUR_ID", &id)).unwrap();
                command(&sheet, "token.sh")
            } else {
                command(&sheet, "/oauth/token").replace("YOUR_ID", &id)
            };
            let given = pasted(shell, folder, &asks, &typed);
            let given: Value = serde_json::from_str(&given).unwrap_or_else(|_| panic!("{given}\n{sheet}"));
            let bearer = given["access_token"].as_str().unwrap_or_else(|| panic!("{given}\n{sheet}"));
            let runs = |part: &str| {
                let command = command(&sheet, part).replace("YOUR_ID", &id).replace("YOUR_TOKEN", bearer);
                pasted(shell, folder, &command, &typed)
            };
            assert!(runs("/orders").starts_with("HTTP/1.1 200"), "{sheet}");
            assert!(runs("/.bartizan/me").contains(&format!("\"kind\":\"{credential}\"")), "{sheet}");
            if !is_key {
                assert!(runs("/rotate").contains("replaced_expires"), "{sheet}");
            }
            runs("/.bartizan/docs");
            assert!(std::fs::read_to_string(proxy.file("docs.html")).unwrap().contains("What acme may call"));
            std::fs::remove_file(proxy.file("docs.html")).unwrap();
        }
    }
    proxy.owes(shells.len() * 11);
    proxy.done();
}

/// The sheet for a certificate, likewise; which may be of a file with the line ends of Windows.
#[test]
fn the_sheet_for_a_certificate_is_all_that_a_partner_needs() {
    let shells = shells();
    if shells.is_empty() {
        return skipped("there is no shell with curl and setsid");
    }
    let (upstream, authority) = (upstream().start(), authority());
    let proxy = certified(&upstream, &authority).start();
    let (url, folder) = (format!("https://localhost:{}", proxy.address().port()), proxy.folder.path());
    for (number, shell) in (7..).zip(&shells) {
        let own = authority.vouches_for(number, &["acme.test"]);
        std::fs::write(proxy.file("client.crt"), own.certificate.replace('\n', "\r\n")).unwrap();
        std::fs::write(proxy.file("client.key"), &own.key).unwrap();
        let arguments = ["consumer", "invite", "acme", "--credential", "certificate", "--url", &url];
        let (code, printed, said) = bartizan(&proxy, &arguments);
        assert_eq!(code, Some(0), "{said}");
        let (invitation, sheet) = printed.split_once("\n\n").unwrap();
        std::fs::write(proxy.file("code.txt"), invitation).unwrap();
        assert!(
            sheet.contains(&format!("'{ISSUER}{CLAIM}'")) && sheet.contains("must take client certificates"),
            "{sheet}"
        );
        let sheet = sheet
            // That is another address than the one that is called: it takes certificates, and the claim shows one.
            .replace(&format!("{ISSUER}/"), &format!("{url}/"))
            .replace("curl ", "curl --http1.1 --cacert ca.pem -H 'Host: 127.0.0.1' ");
        let made = pasted(shell, folder, &command(&sheet, "/invitations/claim"), "");
        let made: Value = serde_json::from_str(&made).unwrap_or_else(|_| panic!("{made}\n{sheet}"));
        let asks = command(&sheet, "/oauth/token").replace("YOUR_ID", &text(&made, "client_id"));
        let given = pasted(shell, folder, &asks, "");
        let given: Value = serde_json::from_str(&given).unwrap_or_else(|_| panic!("{given}\n{sheet}"));
        let bearer = text(&given, "access_token");
        let runs = |part: &str| pasted(shell, folder, &command(&sheet, part).replace("YOUR_TOKEN", &bearer), "");
        assert!(runs("/orders").starts_with("HTTP/1.1 200"), "{sheet}");
        assert!(runs("/.bartizan/me").contains("\"kind\":\"certificate\""), "{sheet}");
    }
    proxy.owes(shells.len() * 4);
    proxy.done();
}
