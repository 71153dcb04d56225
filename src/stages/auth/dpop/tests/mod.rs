mod keys;

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method};
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use serde_json::json;

use super::proof::MAX_PROOF;
use super::*;
use crate::exchange::SampleRequest;

const NOW: i64 = 1_800_000_000;
const TOKEN: &[u8] = b"an.access.token";
/// `ath` of the RFC's token.
const HASH_OF_ANOTHER: &str = "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Sends proofs signed with a key on P-256, mostly.
struct Client {
    pair: EcdsaKeyPair,
    jwk: Value,
    jkt: String,
}

impl Client {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)});
        let jkt = thumbprint(&jwk);
        Self { pair, jwk, jkt }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    /// A good header, with some members replaced; `null` takes one out.
    fn header(&self, change: &Value) -> Value {
        changed(json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk}), change)
    }

    /// A proof that is good but for what is changed.
    fn proof(&self, header: &Value, claims: &Value) -> String {
        compact(&self.header(header).to_string(), &good_claims(claims).to_string(), |message| self.sign(message))
    }
}

/// As jsonwebtoken makes it.
fn thumbprint(jwk: &Value) -> String {
    serde_json::from_value::<Jwk>(jwk.clone()).unwrap().thumbprint(ThumbprintHash::SHA256).unwrap()
}

fn changed(mut members: Value, change: &Value) -> Value {
    for (name, value) in change.as_object().unwrap() {
        match value {
            Value::Null => members.as_object_mut().unwrap().remove(name),
            value => members.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    members
}

fn good_claims(change: &Value) -> Value {
    let hash = encode(digest(&SHA256, TOKEN));
    let good = json!({"jti": "1", "htm": "POST", "htu": "https://api.example/orders", "iat": NOW, "ath": hash});
    changed(good, change)
}

fn compact(header: &str, claims: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A request and the bound token it brings.
#[derive(Clone, Copy)]
struct Facts<'a> {
    method: &'a str,
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    token: &'a [u8],
    jkt: &'a str,
}

fn facts(jkt: &str) -> Facts<'_> {
    Facts { method: "POST", scheme: "https", authority: "api.example", path: "/orders", token: TOKEN, jkt }
}

fn dpop(change: impl FnOnce(&mut Settings)) -> Dpop {
    use Algorithm::{ES256, ES384, EdDSA, PS256, RS256};
    let algorithms = vec![ES256, ES384, EdDSA, PS256, RS256];
    let mut settings = Settings { max_age: 60, skew: 30, nonce: false, algorithms };
    change(&mut settings);
    Dpop::new(settings, Arc::new(Replays::new()), Arc::new(Nonces::new()))
}

fn check(dpop: &Dpop, proofs: &[&str], facts: &Facts<'_>, now: i64) -> Result<(), ProofError> {
    let proofs = proofs.iter().map(|proof| HeaderValue::from_str(proof).unwrap());
    use_proofs(dpop, proofs, facts, now).map(drop)
}

fn use_proofs(
    dpop: &Dpop,
    proofs: impl IntoIterator<Item = HeaderValue>,
    facts: &Facts<'_>,
    now: i64,
) -> Result<UsedProof, ProofError> {
    let Facts { method, scheme, authority, path, token, jkt } = *facts;
    let headers = HeaderMap::from_iter(proofs.into_iter().map(|proof| (DPOP, proof)));
    let sample = SampleRequest::new(&Method::from_bytes(method.as_bytes()).unwrap(), path).dated(at(now));
    let request = Request { scheme, authority, ..sample.with(None, &headers) };
    dpop.check(&request, BoundToken { token, jkt })
}

/// The verdict on one proof by a memory that has seen nothing.
fn verdict(proof: &str, jkt: &str) -> Result<(), ProofError> {
    check(&dpop(|_| {}), &[proof], &facts(jkt), NOW)
}

/// Good when `reason` is empty; otherwise invalid, for the reason that these words stand for.
fn assert_verdict(got: Result<(), ProofError>, reason: &str, what: impl fmt::Display) {
    match got {
        Ok(()) => assert_eq!("", reason, "{what}"),
        Err(ProofError::Invalid(detail)) => {
            assert!(!reason.is_empty() && detail.contains(reason), "{what}: {detail}, and not {reason}");
        }
        Err(error) => panic!("{what}: {error:?}"),
    }
}

#[test]
fn the_example_of_the_rfc_is_good() {
    // RFC 9449 §7.1.
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklD\
                 UkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2\
                 R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM\
                 6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8\
                 ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1ple\
                 mAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let example = Facts {
        method: "GET",
        scheme: "https",
        authority: "resource.example.org",
        path: "/protectedresource",
        token: b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        jkt: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
    };
    assert_eq!(check(&dpop(|_| {}), &[proof], &example, 1_562_262_618), Ok(()));
}

#[test]
fn exactly_one_proof_comes() {
    let client = Client::new();
    let (one, two) = (client.proof(&json!({}), &json!({})), client.proof(&json!({}), &json!({"jti": "2"})));
    for (proofs, expected) in [
        (vec![], Err(ProofError::Missing)),
        (vec![one.as_str()], Ok(())),
        (vec![one.as_str(), two.as_str()], Err(ProofError::Several)),
        (vec![one.as_str(), one.as_str()], Err(ProofError::Several)),
    ] {
        assert_eq!(check(&dpop(|_| {}), &proofs, &facts(&client.jkt), NOW), expected, "{}", proofs.len());
    }
    assert_verdict(verdict(&format!("{one}, {two}"), &client.jkt), "three base64url parts", "folded into one");
}

#[test]
fn every_claim_is_checked() {
    let client = Client::new();
    for (change, reason) in [
        (json!({}), ""),
        (json!({"sub": "more", "exp": 1}), ""),
        (json!({"jti": null}), "`jti`"),
        (json!({"jti": ""}), "`jti`"),
        (json!({"jti": 1}), "`jti`"),
        (json!({"jti": "x".repeat(256)}), ""),
        (json!({"jti": "x".repeat(257)}), "`jti`"),
        (json!({"htm": null}), "`htm`"),
        (json!({"htm": "GET"}), "`htm`"),
        (json!({"htm": "post"}), "`htm`"),
        (json!({"htm": "POST "}), "`htm`"),
        (json!({"htm": ["POST"]}), "`htm`"),
        (json!({"htu": null}), "`htu`"),
        (json!({"htu": 1}), "`htu`"),
        (json!({"htu": ""}), "`htu`"),
        (json!({"htu": "/orders"}), "`htu`"),
        (json!({"htu": "https://api.example/orders?page=2#top"}), ""),
        (json!({"htu": "https://api.example/orders/"}), "`htu`"),
        (json!({"htu": "https://api.example/Orders"}), "`htu`"),
        (json!({"htu": "https://api.example.evil/orders"}), "`htu`"),
        (json!({"htu": "http://api.example/orders"}), "`htu`"),
        (json!({"htu": "https://api.example:8443/orders"}), "`htu`"),
        (json!({"ath": null}), "`ath`"),
        (json!({"ath": HASH_OF_ANOTHER}), "`ath`"),
        (json!({"ath": format!("{}=", encode(digest(&SHA256, TOKEN)))}), "`ath`"),
        (json!({"ath": 1}), "`ath`"),
        (json!({"iat": null}), "`iat`"),
        (json!({"iat": NOW.to_string()}), "`iat`"),
        (json!({"iat": -1}), "`iat`"),
        (json!({"iat": 1e300}), "`iat`"),
        (json!({"iat": NOW as f64 + 0.5}), ""),
        (json!({"iat": NOW - 90}), ""),
        (json!({"iat": NOW - 91}), "`iat`"),
        (json!({"iat": NOW + 30}), ""),
        (json!({"iat": NOW + 31}), "`iat`"),
        (json!({"nonce": "any"}), ""),
        (json!({"nonce": 1}), "`nonce`"),
        (json!({"nonce": []}), "`nonce`"),
    ] {
        assert_verdict(verdict(&client.proof(&json!({}), &change), &client.jkt), reason, &change);
    }
}

#[test]
fn every_fact_of_the_request_is_checked() {
    let client = Client::new();
    let proof = client.proof(&json!({}), &json!({}));
    let other = Client::new();
    let good = facts(&client.jkt);
    for (facts, reason) in [
        (good, ""),
        (Facts { authority: "API.example:443", path: "/./orders", ..good }, ""),
        (Facts { method: "PUT", ..good }, "`htm`"),
        (Facts { scheme: "http", ..good }, "`htu`"),
        (Facts { scheme: "", ..good }, "`htu`"),
        (Facts { authority: "api.example:444", ..good }, "`htu`"),
        (Facts { authority: "", ..good }, "`htu`"),
        (Facts { path: "/orders/1", ..good }, "`htu`"),
        (Facts { path: "*", ..good }, "`htu`"),
        (Facts { token: b"another.access.token", ..good }, "`ath`"),
        (Facts { token: b"", ..good }, "`ath`"),
        (Facts { jkt: &other.jkt, ..good }, "`cnf.jkt`"),
        (Facts { jkt: "", ..good }, "`cnf.jkt`"),
        (Facts { jkt: &client.jkt[..42], ..good }, "`cnf.jkt`"),
    ] {
        assert_verdict(check(&dpop(|_| {}), &[&proof], &facts, NOW), reason, reason);
    }
}

#[test]
fn headers_that_are_not_of_a_proof_are_refused() {
    let client = Client::new();
    for (change, reason) in [
        (json!({}), ""),
        (json!({"kid": "ignored", "jku": "https://evil.example/jwks.json"}), ""),
        (json!({"typ": null}), "`typ`"),
        (json!({"typ": "JWT"}), "`typ`"),
        (json!({"typ": "DPoP+jwt"}), "`typ`"),
        (json!({"typ": "application/dpop+jwt"}), "`typ`"),
        (json!({"typ": ["dpop+jwt"]}), "`typ`"),
        (json!({"alg": null}), "`alg` is not"),
        (json!({"alg": "none"}), "`alg` is not"),
        (json!({"alg": "es256"}), "`alg` is not"),
        (json!({"alg": "HS256"}), "`alg` is not"),
        (json!({"alg": "PS512"}), "`alg` is not"),
        (json!({"alg": "ES384"}), "does not match"),
        (json!({"alg": "RS256"}), "does not match"),
        (json!({"alg": "EdDSA"}), "does not match"),
        (json!({"crit": []}), "`crit`"),
        (json!({"crit": ["b64"], "b64": false}), "`crit`"),
        (json!({"jwk": null}), "(`jwk`)"),
        (json!({"jwk": client.jwk.to_string()}), "(`jwk`)"),
        (json!({"jwk": [client.jwk]}), "(`jwk`)"),
        (json!({"jwk": {}}), "does not match"),
    ] {
        assert_verdict(verdict(&client.proof(&change, &json!({})), &client.jkt), reason, &change);
    }
}

#[test]
fn forged_signatures_are_not_good() {
    let (client, other) = (Client::new(), Client::new());
    let header = client.header(&json!({})).to_string();
    let claims = good_claims(&json!({})).to_string();
    type Forge<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let cases: [(&str, Forge<'_>); 9] = [
        ("over another message", &|_| client.sign(b"another message")),
        ("by another key", &|message| other.sign(message)),
        ("r and s swapped", &|message| {
            let mut signature = client.sign(message);
            signature.rotate_left(32);
            signature
        }),
        ("r is zero", &|message| [[0; 32].as_slice(), &client.sign(message)[32..]].concat()),
        ("s is zero", &|message| [&client.sign(message)[..32], &[0; 32]].concat()),
        ("all zero", &|_| vec![0; 64]),
        ("one byte short", &|message| client.sign(message)[..63].to_vec()),
        ("one byte long", &|message| [client.sign(message).as_slice(), &[0]].concat()),
        ("none", &|_| Vec::new()),
    ];
    for (what, sign) in cases {
        assert_verdict(verdict(&compact(&header, &claims, sign), &client.jkt), "signature", what);
    }

    // The thief of a token signs with a key of their own.
    let own = client.header(&json!({"jwk": other.jwk})).to_string();
    let proof = compact(&own, &claims, |message| other.sign(message));
    assert_verdict(verdict(&proof, &client.jkt), "`cnf.jkt`", "own key");
    // The key in the header is not the one that signed, and the token is bound to it.
    let proof = compact(&own, &claims, |message| client.sign(message));
    assert_verdict(verdict(&proof, &other.jkt), "signature", "swapped key");

    // A shared secret that everybody knows: the public key. Not even when the settings take it.
    let hs256 = |jwk: &Value| {
        let header = client.header(&json!({"alg": "HS256", "jwk": jwk})).to_string();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, client.pair.public_key().as_ref());
        compact(&header, &claims, |message| hmac::sign(&secret, message).as_ref().to_vec())
    };
    let lax = dpop(|settings| settings.algorithms.push(Algorithm::HS256));
    let oct = json!({"kty": "oct", "k": encode(client.pair.public_key().as_ref())});
    for proof in [hs256(&client.jwk), hs256(&oct)] {
        assert_verdict(check(&lax, &[&proof], &facts(&client.jkt), NOW), "`alg` is not", "HS256");
    }
}

#[test]
fn a_proof_has_one_form() {
    let client = Client::new();
    let proof = client.proof(&json!({}), &json!({}));
    let (message, signature) = proof.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    // 64 bytes leave four bits of the last character unused.
    let mut stray = proof.clone().into_bytes();
    *stray.last_mut().unwrap() += 1;
    let parts = "three base64url parts";
    for (text, reason) in [
        (proof.clone(), ""),
        (String::from_utf8(stray).unwrap(), "signature"),
        (format!("{proof}="), "signature"),
        (format!("{message}."), "signature"),
        (format!("{header}=.{claims}.{signature}"), parts),
        (format!("{header}.{claims} .{signature}"), parts),
        (format!("{proof}.{signature}"), parts),
        (format!(".{proof}"), parts),
        (format!("{}.{claims}.{signature}", encode("[]")), parts),
        (format!("{}.{claims}.{signature}", encode("{}{}")), parts),
        (message.to_owned(), parts),
        ("..".to_owned(), parts),
        (String::new(), parts),
        (format!("{header}.{claims}.{}", "A".repeat(MAX_PROOF)), "8 KiB"),
    ] {
        assert_verdict(verdict(&text, &client.jkt), reason, &text);
    }
    let largest = MAX_PROOF - message.len() - 1;
    let text = format!("{message}.{}", "A".repeat(largest));
    assert_verdict(verdict(&text, &client.jkt), "signature", "as long as may be");
    let bytes = HeaderValue::from_bytes(&[0xc3, 0xa9]).unwrap();
    let got = use_proofs(&dpop(|_| {}), [bytes], &facts(&client.jkt), NOW).map(drop);
    assert_verdict(got, parts, "not ASCII");
}

#[test]
fn what_stands_twice_is_refused() {
    let client = Client::new();
    let (header, claims) = (client.header(&json!({})).to_string(), good_claims(&json!({})).to_string());
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    for (header, claims) in [
        (twice(&header, r#""typ":"dpop+jwt""#), claims.clone()),
        (header.replacen(r#""kty""#, r#""kty":"EC","kty""#, 1), claims.clone()),
        (header.clone(), twice(&claims, r#""htm":"GET""#)),
        (header.clone(), twice(&claims, r#""j\u0074i":"2""#)),
    ] {
        let proof = compact(&header, &claims, |message| client.sign(message));
        assert_verdict(verdict(&proof, &client.jkt), "three base64url parts", format!("{header} {claims}"));
    }
}

#[test]
fn a_proof_is_good_once() {
    let (client, other) = (Client::new(), Client::new());
    let dpop = dpop(|_| {});
    let send = |client: &Client, claims: &Value, now| {
        check(&dpop, &[&client.proof(&json!({}), claims)], &facts(&client.jkt), now)
    };
    // What is not good is not remembered.
    let bad = compact(&client.header(&json!({})).to_string(), &good_claims(&json!({})).to_string(), |_| vec![1; 64]);
    assert_verdict(check(&dpop, &[&bad], &facts(&client.jkt), NOW), "signature", "forged");
    assert_eq!(send(&client, &json!({}), NOW), Ok(()));
    assert_eq!(send(&client, &json!({}), NOW), Err(ProofError::Replayed));
    assert_eq!(send(&client, &json!({"iat": NOW + 1}), NOW + 1), Err(ProofError::Replayed), "the id counts");
    assert_eq!(send(&client, &json!({}), NOW + 90), Err(ProofError::Replayed), "in the last second");
    assert_verdict(send(&client, &json!({}), NOW + 91), "`iat`", "when it is good no more");
    assert_eq!(send(&client, &json!({"jti": "2"}), NOW), Ok(()));
    assert_eq!(send(&other, &json!({}), NOW), Ok(()), "the ids of others do not matter");
    assert_eq!(send(&client, &json!({"iat": NOW + 91}), NOW + 91), Ok(()), "an id may come again after its time");
}

#[test]
fn a_reload_forgets_no_proof() {
    let client = Client::new();
    let proof = client.proof(&json!({}), &json!({}));
    let before = dpop(|_| {});
    assert_eq!(check(&before, &[&proof], &facts(&client.jkt), NOW), Ok(()));
    let settings = Settings { max_age: 10, skew: 0, nonce: false, algorithms: vec![Algorithm::ES256] };
    let after = Dpop::new(settings, Arc::clone(&before.replays), Arc::clone(&before.nonces));
    assert_eq!(check(&after, &[&proof], &facts(&client.jkt), NOW), Err(ProofError::Replayed));
}

#[test]
fn what_cannot_be_remembered_is_not_good() {
    let client = Client::new();
    for (all, per_key) in [(0, 1), (1, 0)] {
        let full = Dpop { replays: Arc::new(Replays::with_capacity(all, per_key)), ..dpop(|_| {}) };
        let send = |claims: Value| check(&full, &[&client.proof(&json!({}), &claims)], &facts(&client.jkt), NOW);
        let got = send(json!({}));
        assert!(matches!(got, Err(ProofError::Full | ProofError::TooMany { .. })), "{got:?}");
        assert_eq!(got == Err(ProofError::Full), all == 0, "{got:?}");
        assert_verdict(send(json!({"htm": "GET"})), "`htm`", "not good anyway");
    }
}

#[test]
fn a_proof_is_claimed_for_as_long_as_any_node_would_take_it() {
    let client = Client::new();
    for (issued, left) in [(NOW, 121), (NOW + 30, 151), (NOW - 90, 31)] {
        let value = HeaderValue::from_str(&client.proof(&json!({}), &json!({"iat": issued}))).unwrap();
        let used = use_proofs(&dpop(|_| {}), [value], &facts(&client.jkt), NOW).unwrap();
        assert_eq!(
            (used.lifetime, used.replay_key),
            (Duration::from_secs(left), replay_key(&client.jkt, "1")),
            "{issued}"
        );
    }
}

#[test]
fn a_nonce_is_needed_where_the_policy_says_so() {
    let client = Client::new();
    let dpop = dpop(|settings| settings.nonce = true);
    let issued = |at_second| dpop.nonces.issue(at(at_second)).to_str().unwrap().to_owned();
    let foreign = Nonces::new().issue(at(NOW)).to_str().unwrap().to_owned();
    let send = |claims: Value| check(&dpop, &[&client.proof(&json!({}), &claims)], &facts(&client.jkt), NOW);
    for (nonce, expected) in [
        (json!(null), Err(ProofError::NonceNeeded)),
        (json!(""), Err(ProofError::NonceNeeded)),
        (json!("any"), Err(ProofError::NonceNeeded)),
        (json!(foreign), Err(ProofError::NonceNeeded)),
        (json!(issued(NOW - 301)), Err(ProofError::NonceNeeded)),
        (json!(1), Err(ProofError::Invalid("the DPoP proof's `nonce` is not a string"))),
        // None of those used the id up.
        (json!(issued(NOW - 300)), Ok(())),
        (json!(issued(NOW)), Err(ProofError::Replayed)),
    ] {
        assert_eq!(send(json!({"nonce": nonce})), expected, "{nonce}");
    }
    assert_eq!(send(json!({"nonce": issued(NOW), "jti": "2"})), Ok(()));
    assert_eq!(send(json!({"nonce": issued(NOW), "jti": "3"})), Ok(()), "a nonce is good for many proofs");
    assert_verdict(send(json!({"htm": "GET"})), "`htm`", "a nonce would not help");
}
