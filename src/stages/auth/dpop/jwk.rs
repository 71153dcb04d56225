//! Public keys as JWKs, of DPoP proofs and of clients.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

/// Shortest RSA modulus, in bits (RFC 7518 §3.3).
const MIN_RSA_BITS: usize = 2048;

/// Returns the key of a public JWK, if it matches the algorithm (RFC 7518 §6, RFC 8037 §2), and its thumbprint (RFC 7638
/// §3).
///
/// A key has only one accepted spelling: strict base64url numbers of the right length. So the text to hash needs no
/// escaping.
pub(in crate::stages::auth) fn key_of(jwk: &Map<String, Value>, algorithm: Algorithm) -> Option<(DecodingKey, String)> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    // A number: as text, and as bytes.
    let number = |name: &str| Some((member(name)?, URL_SAFE_NO_PAD.decode(member(name)?).ok()?));
    let sized = |name: &str, size: usize| number(name).filter(|(_, bytes)| bytes.len() == size);
    // RFC 7517 §4.2: a key for encryption must not sign.
    if jwk.contains_key("use") && member("use") != Some("sig") {
        return None;
    }
    let (key, text) = match (member("kty")?, member("crv"), algorithm) {
        ("EC", Some(curve @ "P-256"), Algorithm::ES256) | ("EC", Some(curve @ "P-384"), Algorithm::ES384) => {
            let size = if algorithm == Algorithm::ES256 { 32 } else { 48 };
            let ((x, x_bytes), (y, y_bytes)) = (sized("x", size)?, sized("y", size)?);
            // SEC 1 §2.3.3: 4, then x and y. Verification checks that the point is on the curve.
            let point = [[4].as_slice(), x_bytes.as_slice(), y_bytes.as_slice()].concat();
            (DecodingKey::from_ec_der(&point), format!(r#"{{"crv":"{curve}","kty":"EC","x":"{x}","y":"{y}"}}"#))
        }
        ("OKP", Some("Ed25519"), Algorithm::EdDSA) => {
            let (x, bytes) = sized("x", 32)?;
            (DecodingKey::from_ed_der(&bytes), format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#))
        }
        ("RSA", _, algorithm) if algorithm.family() == AlgorithmFamily::Rsa => {
            let ((n, modulus), (e, exponent)) = (number("n")?, number("e")?);
            let first = *modulus.first()?;
            let bits = (modulus.len() * 8).saturating_sub(first.leading_zeros() as usize);
            // RFC 7518 §2, Base64urlUInt: no leading zeros.
            if first == 0 || *exponent.first()? == 0 || bits < MIN_RSA_BITS {
                return None;
            }
            let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
            (key, format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#))
        }
        _ => return None,
    };
    Some((key, URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))))
}
