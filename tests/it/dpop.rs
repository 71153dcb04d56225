//! Tokens that are bound to a key: good with a proof that the sender holds it (RFC 9449), for one request and once.

use std::sync::Arc;

use crate::support::issuer::{Issuer, Key, Token};
use crate::support::*;

/// Somebody with a key, and a token that is bound to it.
pub struct Holder {
    key: Arc<Key>,
    pub token: String,
}

impl Holder {
    pub fn of(issuer: &Issuer) -> Self {
        let key = Arc::new(Key::ec("holder"));
        let token = issuer.token().bound_to(&key).text();
        Self { key, token }
    }

    /// A good proof for this request.
    pub fn proof(&self, method: &str, url: &str) -> Token {
        Token::proof(&self.key, method, url).ath(&self.token)
    }
}

fn trusting(upstream: &Upstream, issuer: &Issuer) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .route("GET /x", "scopes: [orders:read]")
        .route("POST /x", "scopes: [orders:read]")
        .route("GET /y", "scopes: [orders:read]")
        .route("GET /payouts", "scopes: [orders:read], proof_of_possession: [dpop]")
}

/// With these settings of proofs.
fn set(policy: Policy, dpop: &str) -> Policy {
    let text = policy.yaml().replace("auth:\n", &format!("auth:\n  dpop: {{ {dpop} }}\n"));
    policy.text(&text)
}

#[test]
fn a_bound_token_with_a_proof_gets_through() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = trusting(&upstream, &issuer).start();
    let (mut client, holder) = (client(&proxy), Holder::of(&issuer));
    let proof = holder.proof("GET", &proxy.url("/x"));
    let answer = client.get("/x").dpop(&holder.token, &proof).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["corp:alice"]);
    assert_eq!(answer.echoed("authorization"), [""; 0]);
    assert_eq!(answer.echoed("dpop"), [""; 0]);
    // The query is no part of what a proof is for, and the scheme's case does not matter.
    let proof = holder.proof("GET", &proxy.url("/x")).text();
    let authorization = format!("dpop {}", holder.token);
    client.get("/x?a=b").header("authorization", &authorization).header("dpop", &proof).send().is(200);
    let proof = holder.proof("POST", &proxy.url("/x"));
    client.post("/x", "{}").dpop(&holder.token, &proof).send().is(200);
    proxy.done();
}

#[test]
fn a_proof_is_good_once_and_a_reload_gives_it_no_second_life() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let mut proxy = trusting(&upstream, &issuer).start();
    let (mut client, holder) = (client(&proxy), Holder::of(&issuer));
    let proof = holder.proof("GET", &proxy.url("/x")).text();
    client.get("/x").dpop(&holder.token, &proof).send().is(200);
    client.get("/x").dpop(&holder.token, &proof).send().refused(401, "invalid_dpop_proof");
    // Signed anew it is the same proof: what counts is its `jti`.
    let jti = "chosen-by-the-client";
    let again = || holder.proof("GET", &proxy.url("/x")).claim("jti", jti);
    client.get("/x").dpop(&holder.token, again()).send().is(200);
    client.get("/x").dpop(&holder.token, again()).send().refused(401, "invalid_dpop_proof");
    // To another holder it is another one.
    let other = Holder::of(&issuer);
    let theirs = other.proof("GET", &proxy.url("/x")).claim("jti", jti);
    client.get("/x").dpop(&other.token, theirs).send().is(200);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /open")), proxy::Reloaded::Loaded);
    client.get("/x").dpop(&holder.token, &proof).send().refused(401, "invalid_dpop_proof");
    proxy.done();
}

#[test]
fn a_bound_token_without_its_proof_is_refused() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = trusting(&upstream, &issuer).start();
    let (mut client, holder) = (client(&proxy), Holder::of(&issuer));
    let token = holder.token.as_str();
    let refused = client.get("/x").bearer(token).send().refused(401, "invalid_dpop_proof");
    assert!(refused.header("www-authenticate").unwrap().contains("DPoP"), "{:#?}", refused.head);
    let proof = || holder.proof("GET", &proxy.url("/x"));
    client.get("/x").bearer(token).header("dpop", &proof().text()).send().refused(401, "invalid_dpop_proof");
    let authorization = format!("DPoP {token}");
    client.get("/x").header("authorization", &authorization).send().refused(401, "invalid_dpop_proof");
    let twice = client.get("/x").dpop(token, proof()).header("dpop", &proof().text());
    twice.send().refused(401, "invalid_dpop_proof");
    // A token that is not bound is sent as what it is.
    let plain = issuer.token().text();
    let proof = Token::proof(&holder.key, "GET", &proxy.url("/x")).ath(&plain);
    client.get("/x").dpop(&plain, proof).send().refused(401, "invalid_token");
    client.get("/x").bearer(&plain).send().is(200);
    upstream.only();
    proxy.done();
}

#[test]
fn a_proof_is_for_one_request_with_one_token_by_one_key() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = trusting(&upstream, &issuer).start();
    let (mut client, holder) = (client(&proxy), Holder::of(&issuer));
    let (url, port) = (proxy.url("/x"), proxy.address().port());
    let good = || holder.proof("GET", &url);
    let other_key = Arc::new(Key::ec("thief"));
    let other_token = issuer.token().bound_to(&holder.key).text();
    let jwk = || json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
    for (what, proof) in [
        ("another method", good().claim("htm", "POST")),
        ("another case of the method", good().claim("htm", "get")),
        ("another path", good().claim("htu", proxy.url("/y"))),
        ("another host", good().claim("htu", format!("http://api.test:{port}/x"))),
        ("another port", good().claim("htu", "http://127.0.0.1/x")),
        ("another scheme", good().claim("htu", url.replace("http:", "https:"))),
        ("another token", good().ath(&other_token)),
        ("no token", good().without("ath")),
        ("another key", Token::proof(&other_key, "GET", &url).ath(&holder.token)),
        ("another signature", good().forged_with(Key::ec("thief"))),
        ("a key that is none", good().header("jwk", jwk())),
        ("no key", good().without_header("jwk")),
        ("another type", good().header("typ", "at+jwt")),
        ("no algorithm", good().header("alg", "none")),
        ("a shared secret's algorithm", good().header("alg", "HS256")),
        ("no id", good().without("jti")),
        ("too long ago", good().claim("iat", issuer::now() - 600)),
        ("ahead of time", good().claim("iat", issuer::now() + 600)),
        ("no time", good().without("iat")),
    ] {
        let answer = client.get("/x").dpop(&holder.token, proof).send();
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        answer.refused(401, "invalid_dpop_proof");
    }
    client.get("/x").dpop(&holder.token, "not.a.proof").send().refused(401, "invalid_dpop_proof");
    upstream.saw_nothing();
    client.get("/x").dpop(&holder.token, good()).send().is(200);
    proxy.done();
}

#[test]
fn a_route_may_ask_for_a_proof() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = trusting(&upstream, &issuer).start();
    let (mut client, holder) = (client(&proxy), Holder::of(&issuer));
    let plain = issuer.token().text();
    client.get("/x").bearer(&plain).send().is(200);
    client.get("/payouts").bearer(&plain).send().refused(403, "stronger_credential_required");
    let proof = holder.proof("GET", &proxy.url("/payouts"));
    client.get("/payouts").dpop(&holder.token, proof).send().is(200);
    proxy.done();
}

#[test]
fn a_proof_holds_the_nonce_that_was_given_out() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = set(trusting(&upstream, &issuer), "nonce: true, max_age: 60s").start();
    let (mut client, holder) = (client(&proxy), Holder::of(&issuer));
    let proof = || holder.proof("GET", &proxy.url("/x"));
    let asked = client.get("/x").dpop(&holder.token, proof()).send().refused(401, "use_dpop_nonce");
    let challenge = asked.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("DPoP ") && challenge.contains("error=\"use_dpop_nonce\""), "{challenge}");
    let nonce = asked.header("dpop-nonce").expect("a nonce").to_owned();
    for _ in 0..2 {
        client.get("/x").dpop(&holder.token, proof().claim("nonce", &*nonce)).send().is(200);
    }
    let refused = client.get("/x").dpop(&holder.token, proof().claim("nonce", "made-up")).send();
    assert!(refused.refused(401, "use_dpop_nonce").header("dpop-nonce").is_some());
    // Who needs no proof needs no nonce.
    client.get("/x").bearer(issuer.token()).send().is(200);
    proxy.done();
}

#[test]
fn how_long_a_proof_is_good_is_the_policys_word() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let holder = Holder::of(&issuer);
    for (dpop, status) in [("max_age: 60s", 401), ("max_age: 10m", 200), ("max_age: 10m, algorithms: [EdDSA]", 401)] {
        let proxy = set(trusting(&upstream, &issuer), dpop).start();
        let proof = holder.proof("GET", &proxy.url("/x")).claim("iat", issuer::now() - 300);
        let answer = client(&proxy).get("/x").dpop(&holder.token, proof).send();
        assert_eq!(answer.status, status, "{dpop}: {}", answer.text());
        proxy.done();
    }
}
