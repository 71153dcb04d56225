//! A token of a known issuer: decides whether a JWT (RFC 7519, signed as RFC 7515) is good, and what it claims.
//!
//! The algorithm comes from the policy and never from the token (RFC 8725 §3.1). jsonwebtoken checks the signature; every
//! claim is checked by [`super::claims`], because what it checks is off or lax by default. The text is decoded once, strictly: base64url
//! with stray bits would be a second spelling of the same token.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

pub(crate) use super::claims::{Claims, Settings, invalid};
use super::claims::{MAX_NAME, Voucher};
use super::key_source::{KeySource, RemoteKeySet, Unavailable};
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::strict_json;

/// Header types of access tokens (RFC 9068 §2.1). Others, such as `logout+jwt`, are signed with the same keys for other ends
/// (RFC 8725 §3.11).
const TYPES: [&str; 2] = ["at+jwt", "application/at+jwt"];
/// What most issuers write, of access tokens and of others.
const PLAIN: &str = "JWT";
/// Claims that only ID tokens have (OpenID Connect Core 1.0 §3.3.2.11; FAPI 1.0 §5.2.2.1). Not `nonce`: some issuers copy it.
const OF_ID_TOKENS: [&str; 3] = ["at_hash", "c_hash", "s_hash"];
/// How some issuers tell tokens of theirs apart that are no access tokens: Keycloak, Amazon Cognito.
const OF_OTHERS: [(&str, &[&str]); 2] = [("typ", &["ID", "Refresh", "Offline", "Logout"]), ("token_use", &["id"])];

/// An issuer, as the policy has it.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// Its settings.
    settings: Settings,
    keys: KeySource,
}

/// A token taken apart, and not believed yet.
pub(crate) struct Token<'a> {
    /// What was signed.
    message: &'a str,
    signature: &'a str,
    algorithm: Option<Algorithm>,
    kid: Option<String>,
    /// It says that it is an access token.
    typed: bool,
    claims: Map<String, Value>,
    iss: String,
}

impl<'a> Token<'a> {
    /// Takes a compact JWS apart (RFC 7515 §7.1).
    pub(crate) fn parse(text: &'a str) -> Result<Self, Refusal> {
        let malformed = || invalid("the token is not a JWT of three base64url parts");
        let (message, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = message.split_once('.').ok_or_else(malformed)?;
        let header = object(header).ok_or_else(malformed)?;
        let mut claims = object(payload).ok_or_else(malformed)?;

        // RFC 7515 §4.1.11: extensions that are not understood refuse the token, and we understand none.
        if header.contains_key("crit") {
            return Err(invalid("the token demands an extension (`crit`) that is not understood here"));
        }
        let typed = match header.get("typ") {
            Some(Value::String(typ)) if TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ)) => true,
            Some(Value::String(typ)) if PLAIN.eq_ignore_ascii_case(typ) => false,
            None => false,
            Some(_) => return Err(invalid("the token is not an access token (`typ`)")),
        };
        if !typed && is_other(&claims) {
            return Err(invalid("the token is an ID token, or another that is not for APIs; send the access token"));
        }
        // RFC 8417 §2.2: what tells of events, a logout say, is no access token whatever its type says.
        if claims.contains_key("events") {
            return Err(invalid("the token is a security event (`events`), not an access token"));
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_NAME => Some(kid.clone()),
            Some(_) => return Err(invalid("the token's `kid` is not a short string")),
        };
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(|name| name.parse().ok());
        let Some(Value::String(iss)) = claims.remove("iss") else {
            return Err(invalid("the token names no issuer (`iss`)"));
        };
        Ok(Self { message, signature, algorithm, kid, typed, claims, iss })
    }

    /// When it says that it ends, in seconds since 1970.
    pub(crate) fn end(&self) -> Option<i64> {
        self.claims.get("exp").and_then(Value::as_f64).map(|end| end as i64)
    }

    /// Who it says issued it.
    pub(crate) fn iss(&self) -> &str {
        &self.iss
    }
}

/// What of a token names it: of a JWS what was signed, of any other token all of it.
///
/// A signature by ECDSA has a twin that is as good, (r, n - s), and anyone who has the token can make it; so the text with
/// its signature is a name that a revoked token could shed.
pub(crate) fn name(text: &str) -> &str {
    match text.rsplit_once('.') {
        Some((message, _)) if message.split_once('.').is_some_and(|(header, _)| object(header).is_some()) => message,
        _ => text,
    }
}

/// When a token says that it ends, with the most that clocks may differ; nobody has verified it.
pub(crate) fn end(text: &str) -> Option<Timestamp> {
    /// No policy tolerates more, in seconds.
    const SKEW: i64 = 300;
    let payload = object(text.trim().split('.').nth(1)?)?;
    let end = payload.get("exp")?.as_f64()?;
    Timestamp::from_second((end as i64).checked_add(SKEW)?).ok()
}

/// Whether claims are those of a token that was signed for another end (RFC 8725 §3.12), as far as that can be told.
fn is_other(claims: &Map<String, Value>) -> bool {
    let says = |(claim, values): &(&str, &[&str])| {
        claims.get(*claim).and_then(Value::as_str).is_some_and(|value| values.contains(&value))
    };
    OF_ID_TOKENS.iter().any(|claim| claims.contains_key(*claim)) || OF_OTHERS.iter().any(says)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match strict_json::parse(&bytes) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

impl Issuer {
    /// Assembles it. The compiler has already checked that HS* is used with a secret, and only then.
    pub(crate) fn new(settings: Settings, keys: KeySource) -> Self {
        Self { settings, keys }
    }

    /// Its name in the policy.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its exact `iss`.
    pub(crate) fn iss(&self) -> &str {
        &self.settings.iss
    }

    /// What is asked of its tokens.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where its keys come from.
    pub(crate) fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// Decides whether a token of this issuer is good: signature first, then every claim.
    pub(crate) async fn verify(
        &self,
        token: &Token<'_>,
        key_sets: &[Arc<RemoteKeySet>],
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        if self.settings.typed && !token.typed {
            return Err(invalid("the token does not say that it is an access token (`typ: at+jwt`)"));
        }
        let algorithm = token
            .algorithm
            .filter(|algorithm| self.settings.algorithms.contains(algorithm))
            .ok_or_else(|| invalid("the token is signed with an algorithm that is not accepted here"))?;
        let keys =
            self.keys.for_token(key_sets, token.kid.as_deref(), algorithm, now).await.map_err(|Unavailable| {
                Refusal::new(
                    Stage::Auth,
                    Reason::IdentityUnavailable,
                    "the issuer's keys cannot be had; try again shortly",
                )
                .cause(format!("no key set of issuer {} has been fetched yet", self.settings.name))
            })?;
        if keys.is_empty() {
            return Err(invalid("the token is signed with a key that the issuer does not publish"));
        }
        if !keys.iter().any(|key| key.verifies(token.message, token.signature, algorithm)) {
            return Err(invalid("the token's signature is not good"));
        }
        self.settings.judge(&token.claims, Voucher::Signature, now)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;
    use crate::stages::auth::key_set::KeySet;

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
    const NOW: i64 = 1_800_000_000;

    fn issuer(change: impl FnOnce(&mut Settings)) -> Issuer {
        let mut settings = Settings {
            name: "corp".into(),
            iss: "https://corp.example".into(),
            audience: vec!["orders".to_owned(), "billing".to_owned()],
            algorithms: vec![Algorithm::HS256],
            typed: false,
            max_lifetime: None,
            clock_skew: 30,
            consumer_claim: None,
            scope_claim: None,
            role_claim: None,
            default_plan: None,
        };
        change(&mut settings);
        Issuer::new(settings, KeySource::Fixed(Arc::new(KeySet::from_secret(SECRET))))
    }

    /// Good claims, with some replaced; `null` takes one out.
    fn claims(change: &Value) -> Value {
        let mut claims = json!({
            "iss": "https://corp.example", "aud": "orders", "sub": "alice", "scope": "a b", "iat": NOW, "exp": NOW + 60,
        });
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        claims
    }

    fn signed(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let key = EncodingKey::from_secret(SECRET);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    fn verdict(issuer: &Issuer, token: &str) -> Result<Claims, Reason> {
        let now = Timestamp::from_second(NOW).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let token = Token::parse(token).map_err(|refusal| refusal.reason())?;
        runtime.block_on(issuer.verify(&token, &[], now)).map_err(|refusal| refusal.reason())
    }

    fn of_claims(change: &Value) -> Result<Claims, Reason> {
        verdict(&issuer(|_| {}), &signed(&json!({"alg": "HS256"}), &claims(change)))
    }

    #[test]
    fn every_claim_is_checked() {
        use Reason::{ExpiredToken, InvalidToken};
        for (change, expected) in [
            (json!({}), None),
            (json!({"exp": NOW - 29}), None),
            (json!({"exp": NOW - 30}), Some(ExpiredToken)),
            (json!({"exp": null}), Some(InvalidToken)),
            (json!({"exp": (NOW + 60).to_string()}), Some(InvalidToken)),
            (json!({"exp": -1}), Some(InvalidToken)),
            (json!({"exp": 1e300}), Some(InvalidToken)),
            (json!({"exp": NOW as f64 + 0.5}), None),
            (json!({"nbf": NOW + 30}), None),
            (json!({"nbf": NOW + 31}), Some(InvalidToken)),
            (json!({"nbf": "soon"}), Some(InvalidToken)),
            (json!({"iat": NOW + 30}), None),
            (json!({"iat": NOW + 31}), Some(InvalidToken)),
            (json!({"iat": null}), None),
            (json!({"aud": "billing"}), None),
            (json!({"aud": ["other", "orders"]}), None),
            (json!({"aud": ["orders", 1]}), Some(InvalidToken)),
            (json!({"aud": "order"}), Some(InvalidToken)),
            (json!({"aud": []}), Some(InvalidToken)),
            (json!({"aud": {"orders": true}}), Some(InvalidToken)),
            (json!({"aud": null}), Some(InvalidToken)),
            (json!({"sub": null}), Some(InvalidToken)),
            (json!({"sub": ""}), Some(InvalidToken)),
            (json!({"sub": "x".repeat(257)}), Some(InvalidToken)),
            (json!({"iss": 1}), Some(InvalidToken)),
            (json!({"iss": null}), Some(InvalidToken)),
            (json!({"scope": 1}), Some(InvalidToken)),
            (json!({"scope": vec!["s"; 257]}), Some(InvalidToken)),
        ] {
            assert_eq!(of_claims(&change).err(), expected, "{change}");
        }
    }

    #[test]
    fn who_and_what_come_from_the_claims_of_the_policy() {
        let scopes = |claims: &Claims| claims.scopes.join(" ");
        let good = of_claims(&json!({"azp": "app", "jti": "t1"})).unwrap();
        assert_eq!((&*good.subject, scopes(&good), good.jti.as_deref()), ("app", "a b".to_owned(), Some("t1")));
        assert_eq!(&*of_claims(&json!({"azp": "app", "client_id": "id"})).unwrap().subject, "id");
        assert_eq!(scopes(&of_claims(&json!({"scope": null, "scp": ["x", "y"]})).unwrap()), "x y");
        assert_eq!(scopes(&of_claims(&json!({"scope": null})).unwrap()), "");

        let issuer = issuer(|settings| {
            settings.consumer_claim = Some("email".to_owned());
            settings.scope_claim = Some("perms".to_owned());
            settings.role_claim = Some("roles".to_owned());
        });
        let named = |change| verdict(&issuer, &signed(&json!({"alg": "HS256"}), &claims(&change)));
        let got = named(json!({"email": "a@b", "perms": ["p"], "roles": "clerk auditor"})).unwrap();
        assert_eq!(
            (&*got.subject, scopes(&got), got.roles.join(" ")),
            ("a@b", "p".to_owned(), "clerk auditor".to_owned())
        );
        assert_eq!(named(json!({"perms": ["p"]})), Err(Reason::InvalidToken), "no fall-back to another claim");
    }

    #[test]
    fn a_lifetime_is_bounded_and_needs_its_start() {
        let issuer = issuer(|settings| settings.max_lifetime = Some(60));
        for (change, expected) in [
            (json!({}), None),
            (json!({"exp": NOW + 61}), Some(Reason::TokenLifetimeTooLong)),
            (json!({"iat": null}), Some(Reason::TokenLifetimeTooLong)),
            (json!({"iat": 0}), Some(Reason::TokenLifetimeTooLong)),
        ] {
            let got = verdict(&issuer, &signed(&json!({"alg": "HS256"}), &claims(&change)));
            assert_eq!(got.err(), expected, "{change}");
        }
    }

    #[test]
    fn headers_that_ask_for_something_else_are_refused() {
        for (header, good) in [
            (json!({"alg": "HS256", "typ": "JWT"}), true),
            (json!({"alg": "HS256", "typ": "at+JWT"}), true),
            (json!({"alg": "HS256", "kid": "any"}), true),
            (json!({"alg": "HS256", "typ": "logout+jwt"}), false),
            (json!({"alg": "HS256", "typ": 1}), false),
            (json!({"alg": "HS256", "crit": []}), false),
            (json!({"alg": "HS256", "crit": ["b64"], "b64": false}), false),
            (json!({"alg": "HS256", "kid": 7}), false),
            (json!({"alg": "HS384"}), false),
            (json!({"alg": "RS256"}), false),
            (json!({"alg": "none"}), false),
            (json!({"alg": "hs256"}), false),
            (json!({}), false),
        ] {
            let got = verdict(&issuer(|_| {}), &signed(&header, &claims(&json!({}))));
            assert_eq!(got.is_ok(), good, "{header}");
        }
    }

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

    #[test]
    fn a_token_has_one_spelling() {
        let issuer = issuer(|_| {});
        let token =
            jsonwebtoken::encode(&Header::default(), &claims(&json!({})), &EncodingKey::from_secret(SECRET)).unwrap();
        assert!(verdict(&issuer, &token).is_ok());

        // 32 bytes of signature leave two bits of the last character unused.
        let mut stray = token.clone().into_bytes();
        let last = stray.last_mut().unwrap();
        *last = if *last == b'A' { b'B' } else { *last + 1 };
        let (message, signature) = token.rsplit_once('.').unwrap();
        for other in [
            String::from_utf8(stray).unwrap(),
            format!("{token}="),
            format!("{token} "),
            format!("{message}."),
            format!("{message}.{}", signature.to_uppercase()),
            format!("{token}.{signature}"),
            message.to_owned(),
            "..".to_owned(),
            String::new(),
            "é.é.é".to_owned(),
        ] {
            assert_eq!(verdict(&issuer, &other), Err(Reason::InvalidToken), "{other}");
        }
        let twice = format!(
            "{}.{}.{signature}",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
            URL_SAFE_NO_PAD.encode(r#"{"iss":"https://corp.example","iss":"https://corp.example"}"#),
        );
        assert!(Token::parse(&twice).is_err(), "a duplicate claim");
    }
}
