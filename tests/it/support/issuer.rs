//! An issuer of tokens under a test's control: its keys, its key set over HTTP, and any token, good or broken.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, rsa};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::upstream::{Upstream, upstream};

/// The `iss` of every issuer here, unless a test says otherwise.
pub const ISS: &str = "https://issuer.test";

/// A private key, and what is published of it.
pub struct Key {
    kid: String,
    kind: Kind,
}

enum Kind {
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
    Ed(Box<Ed25519KeyPair>),
    Shared(Vec<u8>),
}

impl Key {
    pub fn rsa(kid: &str) -> Self {
        Self::new(kid, Kind::Rsa(Box::new(rsa::KeyPair::generate(KeySize::Rsa2048).unwrap())))
    }

    pub fn ec(kid: &str) -> Self {
        Self::new(kid, Kind::Ec(Box::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())))
    }

    pub fn p384(kid: &str) -> Self {
        Self::new(kid, Kind::Ec(Box::new(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap())))
    }

    pub fn ed(kid: &str) -> Self {
        Self::new(kid, Kind::Ed(Box::new(Ed25519KeyPair::generate().unwrap())))
    }

    /// For HS256.
    pub fn shared(secret: &[u8]) -> Self {
        Self::new("shared", Kind::Shared(secret.to_vec()))
    }

    fn new(kid: &str, kind: Kind) -> Self {
        Self { kid: kid.to_owned(), kind }
    }

    fn alg(&self) -> &'static str {
        match self.kind {
            Kind::Rsa(_) => "RS256",
            Kind::Ec(ref key) if key.public_key().as_ref().len() == 97 => "ES384",
            Kind::Ec(_) => "ES256",
            Kind::Ed(_) => "EdDSA",
            Kind::Shared(_) => "HS256",
        }
    }

    /// Any header and payload, whole and signed, whatever they hold.
    pub fn compact(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.kind {
            Kind::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Kind::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Kind::Ed(key) => key.sign(message).as_ref().to_vec(),
            Kind::Shared(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
        }
    }

    /// RFC 7517.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.kind {
            Kind::Rsa(key) => {
                // PKCS #1: SEQUENCE { INTEGER of 257 bytes with a leading zero, INTEGER 65537 }.
                let der = key.public_key().as_ref();
                assert_eq!(der[..9], [0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00]);
                json!({"kty": "RSA", "kid": self.kid, "use": "sig", "n": encode(&der[9..265]), "e": "AQAB"})
            }
            Kind::Ec(key) => {
                let point = key.public_key().as_ref();
                let (x, y) = point[1..].split_at(point.len() / 2);
                let (x, y, crv) = (encode(x), encode(y), if x.len() == 32 { "P-256" } else { "P-384" });
                json!({"kty": "EC", "crv": crv, "kid": self.kid, "use": "sig", "x": x, "y": y})
            }
            Kind::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "use": "sig", "x": encode(key.public_key().as_ref())})
            }
            Kind::Shared(_) => json!({"kty": "oct", "kid": self.kid}),
        }
    }

    /// SHA-256 of what makes an EC key (RFC 7638 §3.2): the `cnf.jkt` of tokens that are bound to it.
    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        assert_eq!(jwk["kty"], "EC");
        let text = format!(r#"{{"crv":{},"kty":"EC","x":{},"y":{}}}"#, jwk["crv"], jwk["x"], jwk["y"]);
        sha256(&text)
    }

    /// RFC 7517, with the private part of an EC key.
    pub fn private_jwk(&self) -> Value {
        let Kind::Ec(key) = &self.kind else { panic!("this is not an EC key") };
        let private: EcPrivateKeyBin<'_> = key.private_key().as_be_bytes().unwrap();
        let mut jwk = self.jwk();
        jwk["d"] = json!(URL_SAFE_NO_PAD.encode(private.as_ref()));
        jwk
    }

    /// `BEGIN PRIVATE KEY`.
    pub fn private_pem(&self) -> String {
        let armoured = |der: &[u8]| armoured("PRIVATE KEY", der);
        match &self.kind {
            Kind::Rsa(key) => armoured(key.as_der().unwrap().as_ref()),
            Kind::Ec(key) => armoured(key.to_pkcs8v1().unwrap().as_ref()),
            Kind::Ed(key) => armoured(key.to_pkcs8().unwrap().as_ref()),
            Kind::Shared(_) => panic!("a shared secret has no private half"),
        }
    }

    /// `BEGIN PUBLIC KEY`.
    pub fn pem(&self) -> String {
        let der = match &self.kind {
            Kind::Rsa(key) => key.public_key().as_der().unwrap(),
            Kind::Ec(key) => key.public_key().as_der().unwrap(),
            Kind::Ed(key) => key.public_key().as_der().unwrap(),
            Kind::Shared(_) => panic!("a shared secret has no public half"),
        };
        armoured("PUBLIC KEY", der.as_ref())
    }
}

/// RFC 7468.
fn armoured(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

/// An issuer with its key set behind a URL.
pub struct Issuer {
    keys: Arc<Mutex<Vec<Arc<Key>>>>,
    up: Arc<AtomicBool>,
    server: Upstream,
}

/// With one ES256 key, published.
pub fn issuer() -> Issuer {
    Issuer::with(Key::ec("first"))
}

impl Issuer {
    /// With this key, published.
    pub fn with(key: Key) -> Self {
        let keys = Arc::new(Mutex::new(vec![Arc::new(key)]));
        let up = Arc::new(AtomicBool::new(true));
        let (published, answers) = (Arc::clone(&keys), Arc::clone(&up));
        let server = upstream().does(move |call| {
            call.close();
            if !answers.load(Ordering::SeqCst) {
                return Ok(());
            }
            let keys: Vec<Value> = published.lock().unwrap().iter().map(|key| key.jwk()).collect();
            call.answer(200, &[("content-type", "application/jwk-set+json")], json!({"keys": keys}).to_string())
        });
        Self { keys, up, server: server.start() }
    }

    /// Takes fetches and closes without an answer.
    pub fn goes_down(&self) {
        self.up.store(false, Ordering::SeqCst);
    }

    pub fn comes_back(&self) {
        self.up.store(true, Ordering::SeqCst);
    }

    /// How often its keys were fetched.
    pub fn fetches(&self) -> usize {
        self.server.seen().len()
    }

    /// Publishes this key in place of all before, and signs with it.
    pub fn rotates_to(&self, key: Key) {
        *self.keys.lock().unwrap() = vec![Arc::new(key)];
    }

    /// Where its keys are.
    pub fn url(&self) -> String {
        format!("{}/jwks", self.server.url())
    }

    /// The JWKS as text.
    pub fn jwks(&self) -> String {
        let keys: Vec<Value> = self.keys.lock().unwrap().iter().map(|key| key.jwk()).collect();
        json!({"keys": keys}).to_string()
    }

    pub fn key(&self) -> Arc<Key> {
        Arc::clone(&self.keys.lock().unwrap()[0])
    }

    /// A good token of `alice` for `orders-api`, to be made worse.
    pub fn token(&self) -> Token {
        Token::signed_by(self.key())
    }
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// As base64url.
fn sha256(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
}

/// A token in the making.
pub struct Token {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    key: Arc<Key>,
}

impl Token {
    pub fn signed_by(key: Arc<Key>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let header = json!({"alg": key.alg(), "typ": "at+jwt", "kid": key.kid});
        let claims = json!({
            "iss": ISS, "aud": "orders-api", "sub": "alice", "iat": now(), "exp": now() + 300,
            "scope": "orders:read", "jti": format!("token-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        });
        let (Value::Object(header), Value::Object(claims)) = (header, claims) else { unreachable!() };
        Self { header, claims, key }
    }

    /// A good proof (RFC 9449 §4.2) that whoever asks this has the key, to be made worse.
    pub fn proof(key: &Arc<Key>, method: &str, url: &str) -> Self {
        let proof = Self::signed_by(Arc::clone(key));
        let header = json!({"typ": "dpop+jwt", "alg": key.alg(), "jwk": key.jwk()});
        let claims = json!({"htm": method, "htu": url, "iat": now(), "jti": proof.claims["jti"]});
        let (Value::Object(header), Value::Object(claims)) = (header, claims) else { unreachable!() };
        Self { header, claims, ..proof }
    }

    /// For a proof: the token that it comes with.
    pub fn ath(self, token: &str) -> Self {
        self.claim("ath", sha256(token))
    }

    /// Bound to a key (RFC 9449 §6.1).
    pub fn bound_to(self, key: &Key) -> Self {
        self.claim("cnf", json!({"jkt": key.thumbprint()}))
    }

    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name).unwrap();
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name).unwrap();
        self
    }

    pub fn scope(self, scope: &str) -> Self {
        self.claim("scope", scope)
    }

    pub fn sub(self, sub: &str) -> Self {
        self.claim("sub", sub)
    }

    /// Signs with another key than the header says.
    pub fn forged_with(mut self, key: Key) -> Self {
        self.key = Arc::new(key);
        self
    }

    /// Header and claims, as JSON.
    pub fn parts(&self) -> (String, String) {
        (Value::Object(self.header.clone()).to_string(), Value::Object(self.claims.clone()).to_string())
    }

    /// Header and payload, encoded and joined.
    pub fn message(&self) -> String {
        let part = |map: &Map<String, Value>| URL_SAFE_NO_PAD.encode(Value::Object(map.clone()).to_string());
        format!("{}.{}", part(&self.header), part(&self.claims))
    }

    /// The compact form.
    pub fn text(&self) -> String {
        let message = self.message();
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.text()
    }
}

impl From<&Token> for String {
    fn from(token: &Token) -> Self {
        token.text()
    }
}
