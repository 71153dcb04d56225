//! Reads the public key with which a new client will sign its assertions. The client sends it, so it is read strictly, and only
//! what is needed of it is kept.

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::dpop::jwk;
use super::key_set::KeySet;
use crate::state::registry::entry::ClientKey;

/// Members of private keys and of shared secrets (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Members that say what a key is for (RFC 7517 §4).
const USE: [&str; 4] = ["alg", "kid", "use", "key_ops"];
/// Longest `kid`, in bytes.
const MAX_KID: usize = 128;

/// Why a key is not taken: where in the JWK, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The member, if it is one of them.
    pub(super) member: Option<&'static str>,
    pub(super) detail: String,
}

/// Reads a public JWK (RFC 7517): an RSA key of at least 2048 bits, or one on P-256, P-384 or Ed25519.
///
/// # Errors
/// It has private members, is of another kind, is weak, or is not for signatures.
pub(crate) fn read(jwk: &Map<String, Value>) -> Result<(ClientKey, KeySet), Problem> {
    // A key set may have it, too.
    let set = jwk.get("keys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
    let mut keys = std::iter::once(jwk).chain(set);
    if let Some(member) = keys.find_map(|key| PRIVATE.into_iter().find(|member| key.contains_key(*member))) {
        let member = Some(member).filter(|member| jwk.contains_key(*member));
        let detail = "you sent your private key, so it is no longer private; make a new one, and send its public part";
        return Err(Problem { member, detail: detail.to_owned() });
    }
    let whole = |detail: &str| Problem { member: None, detail: detail.to_owned() };
    if jwk.contains_key("keys") {
        return Err(whole("this is a key set; send one key of it"));
    }
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    let (algorithm, members): (_, &[&str]) = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => (Algorithm::RS256, &["kty", "n", "e"]),
        (Some("EC"), Some("P-256")) => (Algorithm::ES256, &["kty", "crv", "x", "y"]),
        (Some("EC"), Some("P-384")) => (Algorithm::ES384, &["kty", "crv", "x", "y"]),
        (Some("OKP"), Some("Ed25519")) => (Algorithm::EdDSA, &["kty", "crv", "x"]),
        _ => return Err(whole("use an RSA key, or one on P-256, P-384 or Ed25519")),
    };
    let is_kid = |kid: &str| (1..=MAX_KID).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic());
    if jwk.contains_key("kid") && !text("kid").is_some_and(is_kid) {
        let detail = format!("a `kid` is 1 to {MAX_KID} visible ASCII characters");
        return Err(Problem { member: Some("kid"), detail });
    }
    let named = members.iter().chain(&USE);
    let named = named.filter_map(|name| Some(((*name).to_owned(), jwk.get(*name)?.clone())));
    let public: Map<String, Value> = named.collect();
    let unusable = || whole("its numbers are too short, or not base64url without padding (RFC 7518 §6)");
    let (_, thumbprint) = jwk::key_of(&public, algorithm).ok_or_else(unusable)?;
    let public = Value::Object(public);
    let set = KeySet::from_jwk(&public).map_err(|reason| whole(&format!("it cannot be used: {reason}")))?;
    Ok((ClientKey { jwk: public, thumbprint: thumbprint.into() }, set))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;

    #[test]
    fn only_public_keys_that_can_verify_are_taken() {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let ec = json!({"kty": "EC", "crv": "P-256", "x": text(x), "y": text(y)});
        let ed = Ed25519KeyPair::generate().unwrap();
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": text(ed.public_key().as_ref())});
        let rsa = |bytes: usize| json!({"kty": "RSA", "n": text(&vec![0xc5; bytes]), "e": "AQAB"});
        let with = |key: &Value, name: &str, value: Value| {
            let mut key = key.clone();
            key[name] = value;
            key
        };
        for (key, problem) in [
            (ec.clone(), None),
            (ed.clone(), None),
            (rsa(256), None),
            (with(&ec, "kid", json!("mine-1")), None),
            (with(&ec, "use", json!("sig")), None),
            (with(&ec, "x5c", json!(["…"])), None),
            (with(&ec, "d", json!("AA")), Some("private key")),
            (with(&rsa(256), "oth", json!([])), Some("private key")),
            (json!({"kty": "oct", "k": "AA"}), Some("private key")),
            (json!({"keys": [ec.clone()]}), Some("key set")),
            (json!({"keys": [ec.clone(), with(&ec, "d", json!("AA"))]}), Some("private key")),
            (json!({"kty": "EC", "crv": "P-521", "x": text(&[1; 66]), "y": text(&[1; 66])}), Some("P-256")),
            (json!({"kty": "OKP", "crv": "X25519", "x": text(&[1; 32])}), Some("P-256")),
            (json!({"kty": ["EC"]}), Some("P-256")),
            (json!({}), Some("P-256")),
            (rsa(255), Some("too short")),
            (rsa(1025), Some("more than 8192")),
            (with(&rsa(256), "e", json!("AQ")), Some("exponent")),
            (with(&ec, "x", json!(format!("{}=", text(x)))), Some("base64url")),
            (with(&ec, "x", json!(text(&x[1..]))), Some("too short")),
            (with(&ec, "y", json!(text(&[7; 32]))), Some("not on P-256")),
            (with(&ed, "x", json!(text(&[0; 32]))), Some("small order")),
            (with(&ec, "kid", json!("")), Some("`kid`")),
            (with(&ec, "kid", json!("k".repeat(129))), Some("`kid`")),
            (with(&ec, "kid", json!(7)), Some("`kid`")),
            (with(&ec, "use", json!("enc")), Some("base64url")),
            (with(&ec, "key_ops", json!(["sign"])), Some("for verifying")),
            (with(&ec, "alg", json!("RS256")), Some("does not fit")),
        ] {
            let read = read(key.as_object().unwrap());
            match problem {
                None => {
                    let (taken, _) = read.unwrap_or_else(|problem| panic!("{key}: {problem:?}"));
                    assert!(taken.jwk.get("x5c").is_none() && taken.thumbprint.len() == 43, "{key}");
                }
                Some(problem) => {
                    let found = read.map(|(taken, _)| taken).unwrap_err().detail;
                    assert!(found.contains(problem), "{key}: {found}");
                    assert!(!found.contains(&text(x)), "{found}");
                }
            }
        }
    }

    /// One key has one thumbprint, whatever else is said of it.
    #[test]
    fn a_key_is_known_again() {
        let ed = Ed25519KeyPair::generate().unwrap();
        let x = URL_SAFE_NO_PAD.encode(ed.public_key().as_ref());
        let key = |more: Value| {
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "x": x});
            key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(key.as_object().unwrap()).unwrap()
        };
        let ((one, set), (other, other_set)) = (key(json!({})), key(json!({"kid": "other", "alg": "EdDSA"})));
        assert_eq!(one.thumbprint, other.thumbprint);
        assert!(set.shares_key(&other_set));
        let another = Ed25519KeyPair::generate().unwrap();
        let another =
            json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(another.public_key().as_ref())});
        let (another, another_set) = read(another.as_object().unwrap()).unwrap();
        assert!(another.thumbprint != one.thumbprint && !set.shares_key(&another_set));
    }
}
