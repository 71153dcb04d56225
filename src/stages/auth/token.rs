//! Tokens as text: tells JWTs (RFC 7519) from other tokens, and access tokens from other JWTs. Verifies nothing.
//!
//! A JWT is decoded once, strictly: base64url with stray bits would be a second spelling of the same token.

use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use base64::{Engine, alphabet};
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::claims::{MAX_NAME, invalid, is_other};
use crate::refusal::Refusal;
use crate::stages::strict_json;

/// Header types of access tokens (RFC 9068 §2.1). Issuers sign other types, such as `logout+jwt`, with the same keys for other
/// purposes (RFC 8725 §3.11).
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];
/// What most issuers write, for access tokens and others alike.
const PLAIN: &str = "JWT";

/// What was sent as a token. Nothing of it is verified.
pub(crate) enum Presented<'a> {
    /// Not a JWT, or an encrypted one: only its issuer knows what it is.
    Opaque,
    /// A JWT. Its issuer may be unknown here.
    Jwt(Token<'a>),
    /// A JWT that parsers read in different ways: its issuer cannot be known.
    Ambiguous,
}

/// A JWT that is parsed, but not verified.
pub(crate) struct Token<'a> {
    /// The signed part: header and payload.
    pub(super) message: &'a str,
    pub(super) signature: &'a str,
    pub(super) header: Map<String, Value>,
    /// All but `iss`.
    pub(super) claims: Map<String, Value>,
    iss: Option<String>,
}

/// The header of a JWT that is an access token.
pub(super) struct AccessHeader {
    pub(super) algorithm: Option<Algorithm>,
    pub(super) kid: Option<String>,
    /// Whether its `typ` says that it is an access token.
    pub(super) typed: bool,
}

impl<'a> Token<'a> {
    /// Parses a compact JWS (RFC 7515 §7.1) with claims.
    pub(crate) fn read(text: &'a str) -> Presented<'a> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Presented::Opaque;
        };
        let message = text.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        match (object(header), object(payload)) {
            (Some(header), Some(mut claims)) => {
                let iss = match claims.remove("iss") {
                    Some(Value::String(iss)) => Some(iss),
                    _ => None,
                };
                Presented::Jwt(Self { message, signature, header, claims, iss })
            }
            // An issuer that reads more leniently could take it for a token that would be refused here.
            _ if is_lenient_object(header) && is_lenient_object(payload) => Presented::Ambiguous,
            _ => Presented::Opaque,
        }
    }

    /// Decides whether header and claims are those of an access token.
    pub(super) fn check_kind(&self) -> Result<AccessHeader, Refusal> {
        let (header, claims) = (&self.header, &self.claims);
        // RFC 7515 §4.1.11: a token with an extension that is not supported is refused; none is supported here.
        if header.contains_key("crit") {
            return Err(invalid("the token requires an extension (`crit`) that is not supported"));
        }
        let typed = match header.get("typ") {
            Some(Value::String(typ)) if TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ)) => true,
            Some(Value::String(typ)) if PLAIN.eq_ignore_ascii_case(typ) => false,
            None => false,
            Some(_) => return Err(invalid("the token is not an access token (`typ`)")),
        };
        if !typed && is_other(claims) {
            return Err(invalid(
                "the token is not an access token (but an ID token, for example); send the access token",
            ));
        }
        // RFC 8417 §2.2: a token about events, such as a logout, is not an access token, whatever its type says.
        if claims.contains_key("events") {
            return Err(invalid("the token is a security event (`events`), not an access token"));
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_NAME => Some(kid.clone()),
            Some(_) => return Err(invalid("the token's `kid` is not a short string")),
        };
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(|name| name.parse().ok());
        Ok(AccessHeader { algorithm, kid, typed })
    }

    /// Its unverified expiry, in seconds since 1970.
    pub(crate) fn end(&self) -> Option<i64> {
        self.claims.get("exp").and_then(Value::as_f64).map(|end| end as i64)
    }

    /// Its unverified claims, without `iss`.
    pub(crate) fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// Its unverified issuer.
    pub(crate) fn iss(&self) -> Option<&str> {
        self.iss.as_deref()
    }
}

/// Refuses a text that is not a JWT in its one spelling.
pub(super) fn malformed() -> Refusal {
    invalid("the token is not a JWT of three base64url parts")
}

/// The part of a token that identifies it for revocation: the signed part of a JWS, or all of any other token.
///
/// Anyone who has a token with an ECDSA signature (r, s) can make another valid signature, (r, n - s). So a revoked
/// token could evade its revocation if the signature identified it.
pub(crate) fn name(text: &str) -> &str {
    match text.rsplit_once('.') {
        Some((message, _)) if message.split_once('.').is_some_and(|(header, _)| object(header).is_some()) => message,
        _ => text,
    }
}

/// The unverified expiry of a token, plus the largest possible clock skew.
pub(crate) fn end(text: &str) -> Option<Timestamp> {
    /// The most that a policy can tolerate, in seconds.
    const SKEW: i64 = 300;
    let payload = object(text.trim().split('.').nth(1)?)?;
    let end = payload.get("exp")?.as_f64()?;
    Timestamp::from_second((end as i64).checked_add(SKEW)?).ok()
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match strict_json::parse(&bytes) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

/// Whether a decoder that skips what it does not understand reads a JSON object.
fn is_lenient_object(part: &str) -> bool {
    let mut digits: Vec<u8> = part
        .bytes()
        .filter_map(|byte| match byte {
            b'+' => Some(b'-'),
            b'/' => Some(b'_'),
            b'-' | b'_' => Some(byte),
            _ => byte.is_ascii_alphanumeric().then_some(byte),
        })
        .collect();
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let bytes = GeneralPurpose::new(&alphabet::URL_SAFE, config).decode(&digits);
    bytes.is_ok_and(|bytes| matches!(serde_json::from_slice(&bytes), Ok(Value::Object(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_by_what_was_signed() {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
        for (text, named) in [
            (format!("{header}.e30.c2ln"), format!("{header}.e30")),
            (format!("{header}.e30."), format!("{header}.e30")),
            (format!("{header}.e30"), format!("{header}.e30")),
            ("opaque".to_owned(), "opaque".to_owned()),
            ("opaque.with.dots".to_owned(), "opaque.with.dots".to_owned()),
            (String::new(), String::new()),
        ] {
            assert_eq!(name(&text), named, "{text}");
        }
    }

    /// S10: what is no JWT may be asked about at its issuer; a JWT in a second spelling may not, because a more lenient
    /// reader would take it for the token that is refused here.
    #[test]
    fn a_second_spelling_of_a_jwt_is_not_an_opaque_token() {
        let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
        let rest = format!("{}.c2ln", part(r#"{"iss":"https://corp.example"}"#));
        let header = part(r#"{"alg":"HS256","typ":"logout+jwt"}"#);
        let token = format!("{header}.{rest}");
        let stray = header.replace('J', "J=");
        for (text, expected) in [
            (token.clone(), "jwt"),
            (format!("{token} "), "jwt"),
            (format!("{header}=.{rest}"), "ambiguous"),
            (format!("{stray}.{rest}"), "ambiguous"),
            (format!("!{token}"), "ambiguous"),
            (format!("{}.{rest}", part(r#"{"alg":"HS256","alg":"HS256"}"#)), "ambiguous"),
            (format!("{token}.x.y"), "opaque"),
            (format!("v4.{rest}"), "opaque"),
            ("a.b.c".to_owned(), "opaque"),
            ("..".to_owned(), "opaque"),
            ("opaque".to_owned(), "opaque"),
            (String::new(), "opaque"),
        ] {
            let got = match Token::read(&text) {
                Presented::Opaque => "opaque",
                Presented::Jwt(_) => "jwt",
                Presented::Ambiguous => "ambiguous",
            };
            assert_eq!(got, expected, "{text}");
        }
    }
}
