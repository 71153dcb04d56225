//! Key pairs that sign tokens.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};

/// How tokens are signed: ECDSA (RFC 7518 §3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SigningAlgorithm {
    /// P-256 with SHA-256.
    Es256,
    /// P-384 with SHA-384.
    Es384,
}

impl SigningAlgorithm {
    /// All, by the names of RFC 7518.
    pub(crate) const ALL: [(&'static str, Self); 2] = [("ES256", Self::Es256), ("ES384", Self::Es384)];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find_map(|(known, algorithm)| (known == name).then_some(algorithm))
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::Es256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::Es384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    fn curve(self) -> &'static str {
        match self {
            Self::Es256 => "P-256",
            Self::Es384 => "P-384",
        }
    }
}

/// A key pair, ready to sign.
pub(super) struct SigningKeyPair {
    algorithm: SigningAlgorithm,
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl SigningKeyPair {
    /// Makes a new one; `None` if the system has no random bytes.
    pub(super) fn generate(algorithm: SigningAlgorithm) -> Option<Self> {
        let pair = EcdsaKeyPair::generate(algorithm.signing()).ok()?;
        Some(Self { algorithm, pair, random: SystemRandom::new() })
    }

    /// Reads PKCS #8.
    pub(super) fn read(algorithm: &str, pkcs8: &[u8]) -> Option<Self> {
        let algorithm = SigningAlgorithm::of(algorithm)?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm.signing(), pkcs8).ok()?;
        Some(Self { algorithm, pair, random: SystemRandom::new() })
    }

    /// The private key, as PKCS #8.
    pub(super) fn private(&self) -> Option<Zeroizing<Vec<u8>>> {
        let document = self.pair.to_pkcs8v1().ok()?;
        Some(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// The `kid` and the public key as a JWK (RFC 7517); the `kid` is its thumbprint (RFC 7638).
    pub(super) fn public(&self) -> Option<(Box<str>, Value)> {
        // X9.62: 4, then both coordinates.
        let (4, coordinates) = self.pair.public_key().as_ref().split_first()? else { return None };
        let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let curve = self.algorithm.curve();
        let canonical = format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        let jwk = json!({
            "kty": "EC", "crv": curve, "x": x, "y": y, "use": "sig", "alg": self.algorithm.name(), "kid": kid,
        });
        Some((kid.into(), jwk))
    }

    /// Signs a message; the signature is in the form of RFC 7515.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.pair.sign(&self.random, message).ok().map(|signature| signature.as_ref().to_vec())
    }
}
