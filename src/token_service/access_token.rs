//! Access tokens: JWTs as RFC 9068 has them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::service::{Service, refuse, unavailable};
use crate::refusal::{Reason, Refusal};
use crate::stages::auth::attributes::ATTRIBUTES;
use crate::stages::auth::claims::{Confirmation, SOURCES};
use crate::state::registry::revocation_key::RevocationKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The type of access tokens (RFC 9068 §2.1).
const TYPE: &str = "at+jwt";
/// URN of the type (RFC 8693 §3).
pub(super) const TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What a token says.
pub(super) struct Contents<'a> {
    pub(super) client: &'a str,
    /// The subject: the client, or a user.
    pub(super) subject: &'a str,
    pub(super) scopes: &'a [Box<str>],
    pub(super) audience: &'a [Box<str>],
    pub(super) confirmation: &'a Confirmation,
    /// The family that it belongs to.
    pub(super) family: Option<&'a str>,
    /// It must not be valid for longer, in seconds since 1970.
    pub(super) no_longer_than: Option<i64>,
    /// Present: it is exchanged for another token; the client acts for its subject (RFC 8693 §4.1).
    pub(super) exchanged: Option<Exchanged<'a>>,
}

/// What a token takes over from the one that it is exchanged for.
pub(super) struct Exchanged<'a> {
    /// What ends that one.
    pub(super) revocation_keys: &'a [RevocationKey],
    /// Its attributes, as a claim.
    pub(super) attributes: Value,
}

/// Signs a token, and returns the response (RFC 6749 §5.1) without a refresh token.
pub(super) fn response(service: &Service<'_>, contents: &Contents<'_>) -> Result<Map<String, Value>, Refusal> {
    let now = service.request.now();
    let key = service.signing.active(now)?;
    let lifetime = SignedDuration::try_from(service.signing.lifetime()).unwrap_or_default();
    let mut expires = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX).as_second();
    if let Some(end) = contents.no_longer_than {
        expires = expires.min(end);
    }
    if expires <= now.as_second() {
        return Err(refuse(Reason::InvalidGrant, "what the token is given for has expired"));
    }
    if let Some(end) = key.until() {
        // By then the key is not published any more.
        expires = expires.min(end.as_second());
    }
    let scope = contents.scopes.join(" ");
    let mut claims = json!({
        "iss": &*service.config.issuer,
        "sub": contents.subject,
        "aud": match contents.audience {
            [one] => json!(one),
            several => json!(several),
        },
        "client_id": contents.client,
        "iat": now.as_second(),
        "exp": expires,
        "jti": Uuid::now_v7().to_string(),
        "scope": scope,
    });
    if let Value::Object(claims) = &mut claims {
        let mut bound = Map::new();
        if let Some(key) = &contents.confirmation.key {
            bound.insert("jkt".to_owned(), json!(key));
        }
        if let Some(certificate) = &contents.confirmation.certificate {
            bound.insert("x5t#S256".to_owned(), json!(URL_SAFE_NO_PAD.encode(certificate)));
        }
        if !bound.is_empty() {
            claims.insert("cnf".to_owned(), Value::Object(bound));
        }
        if let Some(family) = contents.family {
            claims.insert("sid".to_owned(), json!(family));
        }
        if let Some(exchanged) = &contents.exchanged {
            claims.insert("act".to_owned(), json!({"sub": contents.client}));
            let keys: Vec<_> = exchanged.revocation_keys.iter().map(|key| key.id()).collect();
            claims.insert(SOURCES.to_owned(), json!(keys));
            claims.insert(ATTRIBUTES.to_owned(), exchanged.attributes.clone());
        }
    }
    let token = key.sign(TYPE, &claims).ok_or_else(|| unavailable("the token could not be signed"))?;
    let kind = if contents.confirmation.key.is_some() { "DPoP" } else { "Bearer" };
    let mut response = Map::new();
    response.insert("access_token".to_owned(), json!(token));
    response.insert("token_type".to_owned(), json!(kind));
    response.insert("expires_in".to_owned(), json!(expires.saturating_sub(now.as_second())));
    response.insert("scope".to_owned(), json!(scope));
    Ok(response)
}
