//! The keys of an issuer: parsed once, selected by `kid` and algorithm.
//!
//! Keys of a JWKS (RFC 7517) that cannot verify signatures are skipped, with the reason. [`super::key_source`] fetches
//! key sets and keeps them fresh.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::weak_keys;
use crate::stages::strict_json;

/// Most keys of a set; further ones are ignored.
const MAX_KEYS: usize = 100;
/// Most keys that are tried for one token.
const MAX_TRIED: usize = 4;

/// A key that can verify signatures.
#[derive(Debug)]
pub(crate) struct VerificationKey {
    kid: Option<Box<str>>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    /// The parsed key for each algorithm. Empty: a shared secret.
    ready: Vec<(Algorithm, ParsedPublicKey)>,
    /// Number of tokens verified with it.
    verified: AtomicU64,
}

impl VerificationKey {
    fn public(kid: Option<Box<str>>, ready: Vec<(Algorithm, ParsedPublicKey)>, key: DecodingKey) -> Self {
        let algorithms = ready.iter().map(|(algorithm, _)| *algorithm).collect();
        Self { kid, algorithms, key, ready, verified: AtomicU64::new(0) }
    }

    fn secret(key: DecodingKey) -> Self {
        let algorithms = key.family().algorithms().to_vec();
        Self { kid: None, algorithms, key, ready: Vec::new(), verified: AtomicU64::new(0) }
    }

    /// Its `kid`.
    pub(crate) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The algorithms it verifies.
    pub(crate) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Number of tokens verified with it; cached tokens do not count again.
    pub(crate) fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    /// Whether this key made the signature of the message.
    pub(crate) fn verifies(&self, message: &str, signature: &str, algorithm: Algorithm) -> bool {
        let message = message.as_bytes();
        let good = if self.ready.is_empty() {
            jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
        } else {
            let ready = self.ready.iter().find(|(fit, _)| *fit == algorithm);
            let signature = URL_SAFE_NO_PAD.decode(signature);
            ready.zip(signature.ok()).is_some_and(|((_, key), signature)| key.verify_sig(message, &signature).is_ok())
        };
        if good {
            self.verified.fetch_add(1, Ordering::Relaxed);
        }
        good
    }
}

/// An issuer's keys at one time.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Arc<VerificationKey>>,
}

impl KeySet {
    /// Parses a JWKS. Also returns which keys were skipped and why; the error says why there is no usable key.
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

    /// The set of one key, a public JWK. The error says why it cannot be used.
    pub(super) fn from_jwk(jwk: &Value) -> Result<Self, String> {
        key_of(jwk).map(|key| Self { keys: vec![Arc::new(key)] })
    }

    /// Parses one or more PEM public keys (`BEGIN PUBLIC KEY`).
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
                return Err("contains a private key; use the public key".to_owned());
            }
            let bytes = block.as_bytes();
            let key = DecodingKey::from_rsa_pem(bytes)
                .or_else(|_| DecodingKey::from_ec_pem(bytes))
                .or_else(|_| DecodingKey::from_ed_pem(bytes))
                .map_err(|_| "contains a block that is not a public RSA, EC or Ed25519 key".to_owned())?;
            let ready = weak_keys::verifiers(&key).map_err(|reason| format!("holds {reason}"))?;
            set.keys.push(Arc::new(VerificationKey::public(None, ready, key)));
        }
        if set.keys.is_empty() { Err("has no PEM public key".to_owned()) } else { Ok(set) }
    }

    /// A shared secret, for HS* only.
    pub(crate) fn from_secret(secret: &[u8]) -> Self {
        Self { keys: vec![Arc::new(VerificationKey::secret(DecodingKey::from_secret(secret)))] }
    }

    /// A set of these keys.
    pub(super) fn of(keys: Vec<Arc<VerificationKey>>) -> Self {
        Self { keys }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> &[Arc<VerificationKey>] {
        &self.keys
    }

    /// Whether some key of this set verifies this algorithm.
    pub(crate) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.algorithms.contains(&algorithm))
    }

    /// The keys that may have signed a token: those with its `kid`, else those without a `kid`.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<Arc<VerificationKey>> {
        let fit = || self.keys.iter().filter(|key| key.algorithms.contains(&algorithm));
        let named: Vec<_> = match kid {
            Some(kid) => fit().filter(|key| key.kid.as_deref() == Some(kid)).take(MAX_TRIED).cloned().collect(),
            None => return fit().take(MAX_TRIED).cloned().collect(),
        };
        if named.is_empty() { fit().filter(|key| key.kid.is_none()).take(MAX_TRIED).cloned().collect() } else { named }
    }
}

/// Parses one entry of a JWKS that can verify signatures (RFC 7517 §4, RFC 7518 §6).
fn key_of(entry: &Value) -> Result<VerificationKey, String> {
    let jwk: Jwk = serde_json::from_value(entry.clone()).map_err(|_| "not a key of a known kind")?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return Err("not for signatures (`use`)".to_owned());
    }
    if jwk.common.key_operations.as_ref().is_some_and(|operations| !operations.contains(&KeyOperations::Verify)) {
        return Err("not for verifying (`key_ops`)".to_owned());
    }
    let known = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => true,
        AlgorithmParameters::EllipticCurve(ec) => matches!(ec.curve, EllipticCurve::P256 | EllipticCurve::P384),
        AlgorithmParameters::OctetKeyPair(okp) => matches!(okp.curve, EllipticCurve::Ed25519),
        AlgorithmParameters::OctetKey(_) => return Err("a shared secret, which has no place in a JWKS".to_owned()),
        _ => return Err("not a key of a known kind".to_owned()),
    };
    if !known {
        return Err("a curve that is not supported".to_owned());
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| "its numbers are not base64url")?;
    let mut ready = weak_keys::verifiers(&key)?;
    if let Some(stated) = entry.get("alg").and_then(Value::as_str) {
        ready.retain(|(algorithm, _)| stated.parse::<Algorithm>().is_ok_and(|stated| stated == *algorithm));
        if ready.is_empty() {
            return Err(format!(
                "its algorithm {:?} does not fit its kind",
                stated.chars().take(20).collect::<String>()
            ));
        }
    }
    Ok(VerificationKey::public(jwk.common.key_id.map(Box::from), ready, key))
}

impl KeySet {
    /// Whether both have a key, whatever its `kid` and its algorithms.
    pub(super) fn shares_key(&self, other: &Self) -> bool {
        let mut own = self.keys.iter().map(|key| material(&key.key));
        own.any(|own| other.keys.iter().any(|other| material(&other.key) == own))
    }

    /// Returns whether another set has the same keys in the same order.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len() && self.keys.iter().zip(&other.keys).all(|(one, other)| one.same(other))
    }

    /// Keeps the counts of keys that were in the set before.
    pub(super) fn continuing(mut self, before: &Self) -> Self {
        for key in &mut self.keys {
            if let Some(known) = before.keys.iter().find(|known| known.same(key)) {
                *key = Arc::clone(known);
            }
        }
        self
    }
}

impl VerificationKey {
    fn same(&self, other: &Self) -> bool {
        self.kid == other.kid && self.algorithms == other.algorithms && material(&self.key) == material(&other.key)
    }
}

fn material(key: &DecodingKey) -> Vec<u8> {
    match key.kind() {
        jsonwebtoken::DecodingKeyKind::SecretOrDer(bytes) => bytes.clone(),
        jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, e } => [n.as_slice(), e.as_slice()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    };
    use serde_json::json;

    use super::*;

    /// A coordinate or a modulus of this many bytes; nothing is verified with it.
    fn number(bytes: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0xc5; bytes])
    }

    #[test]
    fn only_keys_that_can_verify_are_kept() {
        let rsa = |bytes| json!({"kty": "RSA", "n": number(bytes), "e": "AQAB", "kid": "r"});
        let with = |mut key: Value, name: &str, value: &str| {
            key[name] = value.into();
            key
        };
        let ec = |curve: &str, bytes| json!({"kty": "EC", "crv": curve, "x": number(bytes), "y": number(bytes)});
        let on = |curve: &str, kind| {
            let pair = EcdsaKeyPair::generate(kind).unwrap();
            let (_, coordinates) = pair.public_key().as_ref().split_first().unwrap();
            let (x, y) = coordinates.split_at(coordinates.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
        };
        for (key, expected) in [
            (rsa(256), Some(vec![Algorithm::RS256, Algorithm::PS512])),
            (with(rsa(256), "alg", "RS256"), Some(vec![Algorithm::RS256])),
            (with(rsa(256), "use", "sig"), Some(vec![Algorithm::RS384])),
            (with(rsa(256), "use", "enc"), None),
            (with(rsa(256), "alg", "ES256"), None),
            (with(rsa(256), "alg", "RSA-OAEP"), None),
            (rsa(128), None),
            (on("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING), Some(vec![Algorithm::ES256])),
            (on("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING), Some(vec![Algorithm::ES384])),
            (ec("P-256", 32), None),
            (ec("P-256", 48), None),
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
    fn what_is_skipped_is_reported_and_what_is_no_jwks_is_an_error() {
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
