//! Tokens and DPoP proofs: headers and claims are the input, and the signatures are always good, so that what is behind them is
//! reached. Whatever comes, there is a verdict; and what is let through has the claims that it must have.
//!
//! The lines are: the token's header, its claims, the proof's header, its claims. `$KEY` is the public key of the proof, `$JKT`
//! its thumbprint, `$ATH` the hash of the token.
#![no_main]

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use aws_lc_rs::{hmac, signature};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use world::oracle::{Bounds, bounded};
use world::{NOW, World};

const SECRET: &str = "9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015";
const POLICY: &str = "version: 1
listen: [{ address: '127.0.0.1:0' }]
auth:
  issuers:
    corp: { issuer: 'https://corp.example', audience: [orders-api], algorithms: [HS256], max_lifetime: 1h, secret: SECRET, scope_claim: [scope, scp], role_claim: /realm/roles }
roles: { clerk: [orders:read] }
consumers: { acme: { roles: [clerk], identities: [{ issuer: corp, id: acme }] } }
apis:
  all:
    upstream: http://127.0.0.1:9
    routes:
      GET /orders: { scopes: [orders:read] }
      GET /bound: { scopes: [], proof_of_possession: [dpop] }
audit: none
";

thread_local!(static WORLD: LazyLock<World> =
    const { LazyLock::new(|| World::with(&POLICY.replace("SECRET", SECRET), &[])) });

struct ProofKey {
    pair: EcdsaKeyPair,
    jwk: String,
    thumbprint: String,
}

static PROOF_KEY: LazyLock<ProofKey> = LazyLock::new(|| {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(32);
    let jwk = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, encode(x), encode(y));
    let thumbprint = hash(jwk.as_bytes());
    ProofKey { pair, jwk, thumbprint }
});

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hash(bytes: &[u8]) -> String {
    encode(digest(&SHA256, bytes).as_ref())
}

fn jws(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    format!("{signed}.{}", encode(&sign(signed.as_bytes())))
}

fuzz_target!(|text: &str| {
    let key = &*PROOF_KEY;
    let text = text.replace("$KEY", &key.jwk).replace("$JKT", &key.thumbprint);
    let mut lines = text.lines();
    let (header, claims) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let token = jws(header, claims, |signed| hmac::sign(&secret, signed).as_ref().to_vec());

    let (scheme, proof) = match (lines.next(), lines.next()) {
        (Some(header), Some(claims)) => {
            let claims = claims.replace("$ATH", &hash(token.as_bytes()));
            let sign = |signed: &[u8]| -> signature::Signature {
                key.pair.sign(&SystemRandom::new(), signed).expect("a signature")
            };
            let proof = jws(header, &claims, |signed| sign(signed).as_ref().to_vec());
            ("DPoP", format!("DPoP: {proof}\r\n"))
        }
        _ => ("Bearer", String::new()),
    };
    for path in ["/orders", "/bound"] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {scheme} {token}\r\n{proof}\r\n");
        let send = || WORLD.with(|world| world.connection(request.as_bytes(), request.len()));
        // The second time may be a replay of the proof: each is one request.
        for verdict in bounded(Bounds::USUAL, request.len(), send) {
            assert!(matches!(verdict, None | Some((400 | 401 | 403 | 431, _))), "{verdict:?}");
            if verdict.is_none() {
                let header: Value = serde_json::from_str(header).expect("JSON");
                let claims: Value = serde_json::from_str(claims).expect("JSON");
                assert_eq!(header["alg"], "HS256");
                assert_eq!(claims["iss"], "https://corp.example");
                assert!(claims["exp"].as_f64().is_some_and(|end| end > NOW as f64 - 60.0), "{claims}");
                assert!(claims["aud"].to_string().contains("orders-api"), "{claims}");
                assert!(path != "/bound" || !proof.is_empty(), "without a proof");
            }
        }
    }
});
