//! DPoP proofs (RFC 9449) for tokens that are bound to a key of the rehearsal.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::request::RehearsalRequest;

/// A key that a token is bound to.
pub(super) struct Prover {
    key: EncodingKey,
    jwk: Jwk,
    thumbprint: String,
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prover({})", self.thumbprint)
    }
}

impl Prover {
    /// Generates a new key (ES256). Returns `None` if the system has no random bytes.
    pub(super) fn new() -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        let key = EncodingKey::from_ec_der(pair.to_pkcs8v1().ok()?.as_ref());
        // SEC 1 §2.3.3: 4, then x and y of equal length.
        let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 §3.
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()));
        let jwk = serde_json::from_value(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})).ok()?;
        Some(Self { key, jwk, thumbprint })
    }

    /// The `jkt` of a token that is bound to this key (RFC 9449 §6.1).
    pub(super) fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Signs a proof for this request, over TLS or not, and this token (RFC 9449 §4.2).
    pub(super) fn proof(
        &self,
        request: &RehearsalRequest,
        secure: bool,
        token: &str,
        nonce: &str,
        at: Timestamp,
    ) -> Result<String, String> {
        let scheme = if secure { "https" } else { "http" };
        let host = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = host.map_or("", |(_, host)| host);
        let path = request.target.split('?').next().unwrap_or_default();
        let claims = json!({
            "htm": request.method, "htu": format!("{scheme}://{host}{path}"), "iat": at.as_second(),
            "jti": uuid::Uuid::now_v7().to_string(), "nonce": nonce,
            "ath": URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())),
        });
        let typ = Some("dpop+jwt".to_owned());
        let header = Header { typ, jwk: Some(self.jwk.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|error| format!("cannot sign a DPoP proof: {error}"))
    }
}
