//! Parses a DPoP proof, and checks what it claims about the request.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::HeaderValue;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::error::{ProofError, invalid};
use super::jwk::key_of;
use super::target::Target;
use crate::exchange::Request;
use crate::stages::strict_json;

/// Longest proof, in bytes: several times the size of one with an RSA key of 8192 bits.
pub(super) const MAX_PROOF: usize = 8 * 1024;
/// Members that only private and symmetric keys have (RFC 7518 §6.2.2, §6.3.2 and §6.4.1; RFC 8037 §2).
pub(super) const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A parsed proof, not verified.
pub(super) struct Proof<'a> {
    /// What was signed.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: Map<String, Value>,
    pub(super) claims: Map<String, Value>,
}

impl<'a> Proof<'a> {
    /// Parses a compact JWS (RFC 7515 §7.1; RFC 9449 §4.3, rule 2). The signature is decoded when it is verified.
    pub(super) fn parse(value: &'a HeaderValue) -> Result<Self, ProofError> {
        if value.len() > MAX_PROOF {
            return invalid("the DPoP proof is longer than 8 KiB");
        }
        let parts = || {
            let (message, signature) = value.to_str().ok()?.rsplit_once('.')?;
            let (header, claims) = message.split_once('.')?;
            Some(Self { message, signature, header: object(header)?, claims: object(claims)? })
        };
        parts().ok_or(ProofError::Invalid("the DPoP proof is not a JWT of three base64url parts"))
    }

    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// Returns the public key in the header, and its thumbprint (RFC 9449 §4.3, rules 6 and 7).
    pub(super) fn key(&self, algorithm: Algorithm) -> Result<(DecodingKey, String), ProofError> {
        let Some(Value::Object(jwk)) = self.header.get("jwk") else {
            return invalid("the DPoP proof's header has no public key (`jwk`)");
        };
        if PRIVATE.iter().any(|member| jwk.contains_key(*member)) {
            return invalid(
                "the DPoP proof's `jwk` discloses a private key; generate a new key, and send its public part only",
            );
        }
        key_of(jwk, algorithm).ok_or(ProofError::Invalid(
            "the DPoP proof's `jwk` does not match its `alg`; use RSA with at least 2048 bits, P-256, P-384 or Ed25519",
        ))
    }

    /// Checks that the proof was made for this request and this token, if there is one (RFC 9449 §4.3, rules 8, 9 and 12).
    pub(super) fn is_for(&self, request: &Request<'_>, token: Option<&[u8]>) -> Result<(), ProofError> {
        // RFC 9110 §9.1: methods are case-sensitive.
        if self.claim("htm") != Some(request.method()) {
            return invalid("the DPoP proof's `htm` is not the method of this request");
        }
        let stated = self.claim("htu").and_then(Target::parse);
        if stated.is_none() || stated != Target::new(request.scheme, request.authority, request.received_path) {
            return invalid("the DPoP proof's `htu` is not the URI of this request, without query and fragment");
        }
        let Some(token) = token else { return Ok(()) };
        let hash = URL_SAFE_NO_PAD.encode(digest(&SHA256, token));
        if self.claim("ath") != Some(hash.as_str()) {
            return invalid("the DPoP proof's `ath` is not the SHA-256 of the token, in base64url");
        }
        Ok(())
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    match strict_json::parse(&URL_SAFE_NO_PAD.decode(part).ok()?) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}
