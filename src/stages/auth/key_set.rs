//! The keys an issuer signs with: parsed once, picked by `kid` and algorithm, and, when they come from a URL, kept fresh.
//!
//! Of a JWKS (RFC 7517) only what can verify is kept; the rest is skipped with its reason. A set that was fetched once
//! stays until a newer one comes: an issuer that is down does not lock its callers out.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::stages::strict_json;

/// Most keys of a set; more are not read.
const MAX_KEYS: usize = 100;
/// Most keys that one token is tried with.
const MAX_TRIED: usize = 4;
/// Shortest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;
/// Largest answer of a key set URL, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// A whole fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two fetches that went well.
const REFRESH: Duration = Duration::from_secs(300);
/// After the first fetch that failed; doubled up to [`REFRESH`] / 5.
const RETRY: Duration = Duration::from_secs(1);
/// A token with an unknown `kid` makes the set be fetched again, but not more often than this.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How long a request waits for that fetch.
const PATIENCE: Duration = Duration::from_secs(3);

/// Counts changes of what tokens are verified with. Shared by all key sets and all workers.
#[derive(Debug, Default, Clone)]
pub(crate) struct KeyEpoch(Arc<AtomicU64>);

impl KeyEpoch {
    /// Some key set changed.
    pub(crate) fn advance(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }

    /// The count now.
    pub(super) fn current(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The issuer's keys have never been had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// One key that can verify.
#[derive(Debug)]
pub(crate) struct VerificationKey {
    kid: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl VerificationKey {
    /// Whether the signature over the message is this key's.
    pub(crate) fn verifies(&self, message: &str, signature: &str, algorithm: Algorithm) -> bool {
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, algorithm).unwrap_or(false)
    }
}

/// An issuer's keys at one time.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
}

impl KeySet {
    /// From a JWKS. Returns what was skipped and why; the error says why nothing can be used.
    pub(crate) fn from_jwks(text: &[u8]) -> Result<(Self, Vec<String>), String> {
        let document = strict_json::parse(text).map_err(|error| format!("is not JSON: {error}"))?;
        let Some(Value::Array(entries)) = document.get("keys") else {
            return Err("is not a JWKS: it has no list `keys` (RFC 7517 §5)".to_owned());
        };
        let mut set = Self::default();
        let mut skipped = Vec::new();
        for (position, entry) in entries.iter().take(MAX_KEYS).enumerate() {
            match key_of(entry) {
                Ok(key) => set.keys.push(Arc::new(key)),
                Err(reason) => skipped.push(format!("key {position}: {reason}")),
            }
        }
        if set.keys.is_empty() {
            let reasons = if skipped.is_empty() { "it is empty".to_owned() } else { skipped.join("; ") };
            return Err(format!("has no key that can be used: {reasons}"));
        }
        Ok((set, skipped))
    }

    /// From PEM public keys (`BEGIN PUBLIC KEY`), one or more.
    pub(crate) fn from_pem(text: &str) -> Result<Self, String> {
        const BEGIN: &str = "-----BEGIN ";
        let mut set = Self::default();
        for (start, _) in text.match_indices(BEGIN).take(MAX_KEYS) {
            let rest = text.get(start..).unwrap_or_default();
            let block = rest.get(..BEGIN.len()).map_or(rest, |_| {
                let end = rest.get(BEGIN.len()..).and_then(|tail| tail.find(BEGIN));
                end.and_then(|end| rest.get(..end + BEGIN.len())).unwrap_or(rest)
            });
            if block.contains("PRIVATE KEY") {
                return Err("holds a private key; give the public one".to_owned());
            }
            let bytes = block.as_bytes();
            let key = DecodingKey::from_rsa_pem(bytes)
                .or_else(|_| DecodingKey::from_ec_pem(bytes))
                .or_else(|_| DecodingKey::from_ed_pem(bytes))
                .map_err(|_| "holds a block that is not a public RSA, EC or Ed25519 key".to_owned())?;
            let algorithms = key.family().algorithms().to_vec();
            set.keys.push(Arc::new(VerificationKey { kid: None, algorithms, key }));
        }
        if set.keys.is_empty() { Err("has no PEM public key".to_owned()) } else { Ok(set) }
    }

    /// From a shared secret, for HS* alone.
    pub(crate) fn from_secret(secret: &[u8]) -> Self {
        let key = DecodingKey::from_secret(secret);
        let algorithms = key.family().algorithms().to_vec();
        Self { keys: vec![Arc::new(VerificationKey { kid: None, algorithms, key })] }
    }

    /// The algorithms that some key of this set verifies.
    pub(crate) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.algorithms.contains(&algorithm))
    }

    /// The keys a token may be signed with: those of its `kid`; else those that have none.
    fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<Arc<VerificationKey>> {
        let fit = || self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        let named: Vec<_> = match kid {
            Some(kid) => fit().filter(|key| key.kid.as_deref() == Some(kid)).take(MAX_TRIED).cloned().collect(),
            None => return fit().take(MAX_TRIED).cloned().collect(),
        };
        if named.is_empty() { fit().filter(|key| key.kid.is_none()).take(MAX_TRIED).cloned().collect() } else { named }
    }
}

/// One entry of a JWKS, if it can verify signatures (RFC 7517 §4, RFC 7518 §6).
fn key_of(entry: &Value) -> Result<VerificationKey, String> {
    let jwk: Jwk = serde_json::from_value(entry.clone()).map_err(|_| "not a key of a known kind")?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return Err("not for signatures (`use`)".to_owned());
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            // Six bits a character of base64url.
            if rsa.n.trim_start_matches('A').len() * 6 < MIN_RSA_BITS {
                return Err(format!("an RSA key of less than {MIN_RSA_BITS} bits"));
            }
            AlgorithmFamily::Rsa.algorithms().to_vec()
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return Err("a curve that is not supported".to_owned()),
        },
        AlgorithmParameters::OctetKeyPair(okp) => match okp.curve {
            EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            _ => return Err("a curve that is not supported".to_owned()),
        },
        AlgorithmParameters::OctetKey(_) => return Err("a shared secret, which has no place in a JWKS".to_owned()),
        _ => return Err("not a key of a known kind".to_owned()),
    };
    if let Some(stated) = entry.get("alg").and_then(Value::as_str) {
        algorithms.retain(|algorithm| stated.parse::<Algorithm>().is_ok_and(|stated| stated == *algorithm));
        if algorithms.is_empty() {
            return Err(format!(
                "its algorithm {:?} does not fit its kind",
                stated.chars().take(20).collect::<String>()
            ));
        }
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its numbers are not base64url")?;
    Ok(VerificationKey { kid: jwk.common.key_id.map(Box::from), algorithms, key })
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// A file or a secret: there since the policy was compiled.
    Fixed(Arc<KeySet>),
    /// A URL.
    Remote(Arc<RemoteKeySet>),
}

impl KeySource {
    /// The keys that may have signed a token; empty when the issuer has no such key.
    pub(crate) async fn for_token(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<VerificationKey>>, Unavailable> {
        match self {
            Self::Fixed(set) => Ok(set.candidates(kid, algorithm)),
            Self::Remote(remote) => {
                let found = remote.current().ok_or(Unavailable)?.candidates(kid, algorithm);
                if !found.is_empty() {
                    return Ok(found);
                }
                // The issuer may have rotated its keys since the last fetch.
                remote.refetch().await;
                Ok(remote.current().ok_or(Unavailable)?.candidates(kid, algorithm))
            }
        }
    }
}

/// A key set behind a URL. It outlives policies; the daemon runs [`RemoteKeySet::keep_fresh`] once for each.
pub(crate) struct RemoteKeySet {
    url: Uri,
    tls: Arc<ClientConfig>,
    /// Told when the keys change.
    epoch: KeyEpoch,
    current: RwLock<Option<Arc<KeySet>>>,
    /// When a request last asked for a fetch.
    asked: Mutex<Option<Instant>>,
    /// Counts fetches that ended, good or bad; requests and the daemon's start wait on it.
    fetches: watch::Sender<u64>,
    /// A request wants the set fetched now.
    wanted: Notify,
}

impl fmt::Debug for RemoteKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKeySet({})", self.url)
    }
}

impl RemoteKeySet {
    /// Not fetched yet.
    pub(crate) fn new(url: Uri, tls: Arc<ClientConfig>, epoch: KeyEpoch) -> Self {
        Self {
            url,
            tls,
            epoch,
            current: RwLock::default(),
            asked: Mutex::default(),
            fetches: watch::Sender::new(0),
            wanted: Notify::new(),
        }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &Uri {
        &self.url
    }

    /// Whether it has been had.
    pub(crate) fn is_had(&self) -> bool {
        self.current().is_some()
    }

    /// Waits until the first fetch has ended, good or bad.
    pub(crate) async fn first_fetch(&self) {
        // An error means that the sender is gone, and it is ours.
        let _ = self.fetches.subscribe().wait_for(|fetches| *fetches > 0).await;
    }

    fn current(&self) -> Option<Arc<KeySet>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for a fetch and waits for it, unless a request asked just now.
    async fn refetch(&self) {
        if !self.may_ask() {
            return;
        }
        let mut fetches = self.fetches.subscribe();
        self.wanted.notify_one();
        let _ = tokio::time::timeout(PATIENCE, fetches.changed()).await;
    }

    fn may_ask(&self) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let may = asked.is_none_or(|at| at.elapsed() >= COOL_DOWN);
        if may {
            *asked = Some(Instant::now());
        }
        may
    }

    /// Fetches the set, and again before it gets old or when a request wants it; never ends.
    pub(crate) async fn keep_fresh(&self) {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(&self.tls))
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let mut wait = RETRY;
        loop {
            let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch(&client)).await;
            match fetched.unwrap_or_else(|_| Err("the fetch took too long".to_owned())) {
                Ok(()) => wait = REFRESH,
                Err(reason) => {
                    tracing::warn!(url = %self.url, had = self.is_had(), %reason, "a key set could not be fetched");
                    wait = if wait == REFRESH { RETRY } else { (wait * 2).min(REFRESH / 5) };
                }
            }
            self.fetches.send_modify(|fetches| *fetches += 1);
            // Elapsed or wanted: either way it is time.
            let _ = tokio::time::timeout(wait, self.wanted.notified()).await;
        }
    }

    async fn fetch<C>(&self, client: &Client<C, Empty<Bytes>>) -> Result<(), String>
    where
        C: hyper_util::client::legacy::connect::Connect + Clone + Send + Sync + 'static,
    {
        let request = Request::get(self.url.clone())
            .header(http::header::ACCEPT, "application/jwk-set+json, application/json")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = client.request(request).await.map_err(|error| chain(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let (set, skipped) = KeySet::from_jwks(&body)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|before| !before.same(&set)) {
            tracing::info!(url = %self.url, keys = set.keys.len(), ?skipped, "a key set was fetched");
            *current = Some(Arc::new(set));
            drop(current);
            self.epoch.advance();
        }
        Ok(())
    }
}

impl KeySet {
    fn same(&self, other: &Self) -> bool {
        let facts = |set: &Self| -> Vec<_> {
            set.keys.iter().map(|key| (key.kid.clone(), key.algorithms.clone(), material(&key.key))).collect()
        };
        facts(self) == facts(other)
    }
}

fn material(key: &DecodingKey) -> Vec<u8> {
    match key.kind() {
        jsonwebtoken::DecodingKeyKind::SecretOrDer(bytes) => bytes.clone(),
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, e } => [n.as_slice(), e.as_slice()].concat(),
    }
}

/// An error with its sources: "client error (Connect)" alone helps nobody.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A coordinate or a modulus of so many bytes: never verified with, only sorted.
    fn number(bytes: usize) -> String {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xc5; bytes])
    }

    #[test]
    fn only_keys_that_can_verify_are_kept() {
        let rsa = |bytes| json!({"kty": "RSA", "n": number(bytes), "e": "AQAB", "kid": "r"});
        let with = |mut key: Value, name: &str, value: &str| {
            key[name] = value.into();
            key
        };
        let ec = |curve: &str, bytes| json!({"kty": "EC", "crv": curve, "x": number(bytes), "y": number(bytes)});
        for (key, expected) in [
            (rsa(256), Some(vec![Algorithm::RS256, Algorithm::PS512])),
            (with(rsa(256), "alg", "RS256"), Some(vec![Algorithm::RS256])),
            (with(rsa(256), "use", "sig"), Some(vec![Algorithm::RS384])),
            (with(rsa(256), "use", "enc"), None),
            (with(rsa(256), "alg", "ES256"), None),
            (with(rsa(256), "alg", "RSA-OAEP"), None),
            (rsa(128), None),
            (ec("P-256", 32), Some(vec![Algorithm::ES256])),
            (ec("P-384", 48), Some(vec![Algorithm::ES384])),
            (ec("P-521", 66), None),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": number(32)}), Some(vec![Algorithm::EdDSA])),
            (json!({"kty": "OKP", "crv": "X25519", "x": number(32)}), None),
            (json!({"kty": "oct", "k": number(32)}), None),
            (json!({"kty": "new"}), None),
            (json!("key"), None),
        ] {
            let set = KeySet::from_jwks(json!({"keys": [key.clone()]}).to_string().as_bytes());
            match expected {
                None => assert!(set.is_err(), "{key}: {set:?}"),
                Some(algorithms) => {
                    let (set, skipped) = set.unwrap();
                    assert!(algorithms.iter().all(|algorithm| set.verifies(*algorithm)), "{key}: {set:?}");
                    assert!(!set.verifies(Algorithm::HS256) && skipped.is_empty(), "{key}");
                }
            }
        }
    }

    #[test]
    fn what_is_skipped_is_told_and_what_is_no_jwks_is_an_error() {
        let mixed = json!({"keys": [
            {"kty": "oct", "k": number(32)},
            {"kty": "OKP", "crv": "Ed25519", "x": number(32), "kid": "one"},
        ]});
        let (set, skipped) = KeySet::from_jwks(mixed.to_string().as_bytes()).unwrap();
        assert_eq!((set.keys.len(), skipped.len()), (1, 1), "{skipped:?}");
        for text in ["", "{}", "[]", r#"{"keys": []}"#, r#"{"keys": 1}"#, r#"{"keys": [], "keys": []}"#] {
            assert!(KeySet::from_jwks(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"] {
            assert!(KeySet::from_pem(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_kid_picks_its_key_and_only_keys_without_one_stand_in() {
        let key = |kid: Option<&str>| {
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": number(32)});
            if let Some(kid) = kid {
                key["kid"] = kid.into();
            }
            key
        };
        let set = |keys: &[Value]| KeySet::from_jwks(json!({"keys": keys}).to_string().as_bytes()).unwrap().0;
        let named = set(&[key(Some("a")), key(Some("b"))]);
        let unnamed = set(&[key(Some("a")), key(None)]);
        for (set, kid, algorithm, expected) in [
            (&named, Some("a"), Algorithm::EdDSA, 1),
            (&named, Some("c"), Algorithm::EdDSA, 0),
            (&named, None, Algorithm::EdDSA, 2),
            (&named, Some("a"), Algorithm::RS256, 0),
            (&unnamed, Some("c"), Algorithm::EdDSA, 1),
        ] {
            assert_eq!(set.candidates(kid, algorithm).len(), expected, "{kid:?} {algorithm:?}");
        }
    }
}
