//! A token of a known issuer: decides whether a JWT (RFC 7519, signed as RFC 7515) is good, and what it claims.
//!
//! The algorithm comes from the policy and never from the token (RFC 8725 §3.1). jsonwebtoken checks the signature; every
//! claim is checked here, because what it checks is off or lax by default. The text is decoded once, strictly: base64url
//! with stray bits would be a second spelling of the same token.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::key_set::{KeySource, Unavailable};
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::rate_limit::Plan;
use crate::stages::strict_json;

/// Claims that name the consumer, unless the policy names one.
const CONSUMER_CLAIMS: [&str; 3] = ["client_id", "azp", "sub"];
/// Claims that hold scopes, unless the policy names one.
const SCOPE_CLAIMS: [&str; 2] = ["scope", "scp"];
/// Header types of access tokens (RFC 9068 §2.1; `JWT` is what most issuers write). Others, such as `logout+jwt`, are
/// signed with the same keys for other ends (RFC 8725 §3.11).
const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];
/// Longest `kid`, subject and `jti`, in bytes: they are kept and recorded.
const MAX_NAME: usize = 256;
/// Most scopes of a token.
const MAX_SCOPES: usize = 256;

/// An issuer, as the policy has it.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// Its settings.
    settings: Settings,
    keys: KeySource,
}

/// What [`Issuer::new`] is made of, beside the keys.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Name in the policy.
    pub(crate) name: Box<str>,
    /// Exact `iss`.
    pub(crate) iss: Box<str>,
    /// One of them must be in `aud`.
    pub(crate) audience: Vec<String>,
    /// The only algorithms taken.
    pub(crate) algorithms: Vec<Algorithm>,
    /// Longest `exp - iat`, in seconds.
    pub(crate) max_lifetime: Option<i64>,
    /// Tolerated difference of clocks, in seconds.
    pub(crate) clock_skew: i64,
    /// Claim that names the consumer.
    pub(crate) consumer_claim: Option<String>,
    /// Claim that holds the scopes.
    pub(crate) scope_claim: Option<String>,
    /// Claim that holds role names.
    pub(crate) role_claim: Option<String>,
    /// Plan of callers that the policy does not list.
    pub(crate) default_plan: Option<Arc<Plan>>,
}

/// When a token is good, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) expires: i64,
    pub(crate) not_before: Option<i64>,
    pub(crate) skew: i64,
}

impl Times {
    /// Decides whether now lies within (RFC 7519 §4.1.4 and §4.1.5). Asked on every request, also of tokens known before.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Refusal> {
        let now = now.as_second();
        if now >= self.expires.saturating_add(self.skew) {
            return Err(refuse(Reason::ExpiredToken, "the token has expired; get a new one"));
        }
        if self.not_before.is_some_and(|start| now < start.saturating_sub(self.skew)) {
            return Err(invalid("the token is not valid yet (`nbf`)"));
        }
        Ok(())
    }
}

/// What a verified token claims.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    /// Who: the value of the consumer claim.
    pub(crate) subject: Box<str>,
    /// Scopes in the token.
    pub(crate) scopes: Vec<Box<str>>,
    /// Roles in the token.
    pub(crate) roles: Vec<Box<str>>,
    /// Its id.
    pub(crate) jti: Option<Box<str>>,
    /// When it is good.
    pub(crate) times: Times,
}

/// A token taken apart, and not believed yet.
pub(crate) struct Token<'a> {
    /// What was signed.
    message: &'a str,
    signature: &'a str,
    algorithm: Option<Algorithm>,
    kid: Option<String>,
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
        let is_access_token = match header.get("typ") {
            None => true,
            Some(Value::String(typ)) => TYPES.iter().any(|known| known.eq_ignore_ascii_case(typ)),
            Some(_) => false,
        };
        if !is_access_token {
            return Err(invalid("the token is not an access token (`typ`)"));
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
        Ok(Self { message, signature, algorithm, kid, claims, iss })
    }

    /// Who it says issued it.
    pub(crate) fn iss(&self) -> &str {
        &self.iss
    }

    fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str).filter(|text| !text.is_empty())
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    match strict_json::parse(&bytes) {
        Ok(Value::Object(members)) => Some(members),
        _ => None,
    }
}

impl Issuer {
    /// Puts it together; that HS* goes with a secret and nothing else has been seen to.
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

    /// Plan of callers that the policy does not list.
    pub(crate) fn default_plan(&self) -> Option<&Arc<Plan>> {
        self.settings.default_plan.as_ref()
    }

    /// Decides whether a token of this issuer is good: signature first, then every claim.
    pub(crate) async fn verify(&self, token: &Token<'_>, now: Timestamp) -> Result<Claims, Refusal> {
        let algorithm = token
            .algorithm
            .filter(|algorithm| self.settings.algorithms.contains(algorithm))
            .ok_or_else(|| invalid("the token is signed with an algorithm that is not accepted here"))?;
        let keys = self.keys.for_token(token.kid.as_deref(), algorithm).await.map_err(|Unavailable| {
            Refusal::new(Stage::Auth, Reason::IdentityUnavailable, "the issuer's keys cannot be had; try again shortly")
                .cause(format!("no key set of issuer {} has been fetched yet", self.settings.name))
        })?;
        if keys.is_empty() {
            return Err(invalid("the token is signed with a key that the issuer does not publish"));
        }
        if !keys.iter().any(|key| key.verifies(token.message, token.signature, algorithm)) {
            return Err(invalid("the token's signature is not good"));
        }
        self.claims(token, now)
    }

    /// Decides whether the claims of a token whose signature is good are acceptable.
    fn claims(&self, token: &Token<'_>, now: Timestamp) -> Result<Claims, Refusal> {
        let settings = &self.settings;
        let expires = date(token, "exp")?.ok_or_else(|| invalid("the token has no end (`exp`)"))?;
        let times = Times { expires, not_before: date(token, "nbf")?, skew: settings.clock_skew };
        times.check(now)?;
        let issued = date(token, "iat")?;
        if issued.is_some_and(|issued| issued > now.as_second().saturating_add(settings.clock_skew)) {
            return Err(invalid("the token was issued in the future (`iat`)"));
        }
        if let Some(most) = settings.max_lifetime {
            match issued {
                Some(issued) if expires.saturating_sub(issued) <= most => {}
                _ => {
                    return Err(refuse(
                        Reason::TokenLifetimeTooLong,
                        format!("get a token whose `exp` is at most {most} s after its `iat`"),
                    ));
                }
            }
        }
        if !self.is_for_us(token.claims.get("aud")) {
            return Err(invalid("the token is not meant for this API (`aud`)"));
        }
        let subject = match &settings.consumer_claim {
            Some(claim) => token.text(claim),
            None => CONSUMER_CLAIMS.iter().find_map(|claim| token.text(claim)),
        };
        let subject = subject
            .filter(|subject| subject.len() <= MAX_NAME)
            .ok_or_else(|| invalid("the token does not say who its bearer is"))?;
        let scopes = match &settings.scope_claim {
            Some(claim) => names(token.claims.get(claim)),
            None => names(SCOPE_CLAIMS.iter().find_map(|claim| token.claims.get(*claim))),
        };
        let roles = settings.role_claim.as_ref().and_then(|claim| names(token.claims.get(claim)).transpose());
        let (Some(scopes), Ok(roles)) = (scopes.ok(), roles.transpose()) else {
            return Err(invalid("the token's scopes or roles are not a list of names"));
        };
        Ok(Claims {
            subject: subject.into(),
            scopes: scopes.unwrap_or_default(),
            roles: roles.unwrap_or_default(),
            jti: token.text("jti").filter(|jti| jti.len() <= MAX_NAME).map(Box::from),
            times,
        })
    }

    /// RFC 7519 §4.1.3: `aud` is one string or a list of them.
    fn is_for_us(&self, audience: Option<&Value>) -> bool {
        let ours = |value: &Value| value.as_str().is_some_and(|text| self.settings.audience.iter().any(|a| a == text));
        match audience {
            Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(ours),
            Some(value) => ours(value),
            None => false,
        }
    }
}

/// A NumericDate (RFC 7519 §2): seconds, perhaps with a fraction, which is cut. Anything else refuses the token.
fn date(token: &Token<'_>, claim: &str) -> Result<Option<i64>, Refusal> {
    /// The year 10000, past which nothing sensible lies.
    const MOST: f64 = 253_402_300_800.0;
    match token.claims.get(claim) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(seconds) if (0.0..MOST).contains(&seconds) => Ok(Some(seconds as i64)),
            _ => Err(invalid(format!("the token's `{claim}` is not a date in seconds"))),
        },
    }
}

/// Names separated by spaces (RFC 6749 §3.3), or a list of them. Absent is `Ok(None)`.
fn names(value: Option<&Value>) -> Result<Option<Vec<Box<str>>>, ()> {
    let names: Vec<Box<str>> = match value {
        None => return Ok(None),
        Some(Value::String(text)) => text.split(' ').filter(|name| !name.is_empty()).map(Box::from).collect(),
        Some(Value::Array(list)) => {
            list.iter().map(|item| item.as_str().map(Box::from).ok_or(())).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(()),
    };
    if names.len() > MAX_SCOPES { Err(()) } else { Ok(Some(names)) }
}

/// Refuses a token for this reason.
pub(crate) fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    refuse(Reason::InvalidToken, detail)
}

fn refuse(reason: Reason, detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Auth, reason, detail)
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
        runtime.block_on(issuer.verify(&token, now)).map_err(|refusal| refusal.reason())
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
        assert!(Token::parse(&twice).is_err(), "a claim that stands twice");
    }
}
