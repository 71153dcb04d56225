//! JWTs of known issuers (RFC 7519, RFC 7515): decides whether a token is valid, and reads its claims.
//!
//! The algorithm comes from the policy and never from the token (RFC 8725 §3.1). [`super::claims`] checks every claim,
//! because the checks of jsonwebtoken are off or lax by default.

use jiff::Timestamp;

use super::claims::VerifiedBy;
pub(crate) use super::claims::{Claims, Settings, invalid};
use super::key_source::{KeySource, KeySources};
use super::remote_key_set::Unavailable;
use super::token::{AccessHeader, Token};
use crate::refusal::{Reason, Refusal, Stage};

/// An issuer of the policy.
#[derive(Debug)]
pub(crate) struct Issuer {
    settings: Settings,
    keys: KeySource,
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

    /// What its tokens must satisfy.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where its keys come from.
    pub(crate) fn keys(&self) -> &KeySource {
        &self.keys
    }

    /// Decides whether a token of this issuer is authentic and its claims are acceptable: first its signature, then every
    /// claim, except whether it is valid now ([`Settings::check_times`]).
    pub(super) async fn verify(
        &self,
        token: &Token<'_>,
        sources: &KeySources,
        now: Timestamp,
    ) -> Result<Claims, Refusal> {
        let AccessHeader { algorithm, kid, typed } = token.check_kind()?;
        if self.settings.typed && !typed {
            return Err(invalid("the token does not say that it is an access token (`typ: at+jwt`)"));
        }
        let algorithm = algorithm
            .filter(|algorithm| self.settings.algorithms.contains(algorithm))
            .ok_or_else(|| invalid("the token is signed with an algorithm that is not accepted here"))?;
        let keys = self.keys.for_token(sources, kid.as_deref(), algorithm, now).await;
        let keys = keys.map_err(|Unavailable| {
            Refusal::new(
                Stage::Auth,
                Reason::IdentityUnavailable,
                "the issuer's keys are not available; try again shortly",
            )
            .cause(format!("the key set of issuer {} cannot be fetched", self.settings.name))
        })?;
        if keys.is_empty() {
            return Err(invalid("the token is signed with a key that the issuer does not publish"));
        }
        if !keys.iter().any(|key| key.verifies(token.message, token.signature, algorithm)) {
            return Err(invalid("the token's signature is not valid"));
        }
        self.settings.read(&token.claims, VerifiedBy::Signature)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::{Value, json};

    use super::super::token::Presented;
    use super::*;
    use crate::stages::auth::claim_path::{ClaimPath, ClaimPaths};
    use crate::stages::auth::claims::{AUDIENCE_CLAIMS, CONSUMER_CLAIMS, SCOPE_CLAIMS, USER_CLAIMS};
    use crate::stages::auth::key_set::KeySet;
    use crate::stages::auth::scopes_and_roles::ScopesAndRoles;

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
    const NOW: i64 = 1_800_000_000;

    fn issuer(change: impl FnOnce(&mut Settings)) -> Issuer {
        let mut settings = Settings {
            name: "corp".into(),
            iss: "https://corp.example".into(),
            tenant: None,
            audience: vec!["orders".to_owned(), "billing".to_owned()],
            audience_claim: ClaimPaths::of_names(&AUDIENCE_CLAIMS),
            required: Box::default(),
            algorithms: vec![Algorithm::HS256],
            typed: false,
            max_lifetime: None,
            clock_skew: 30,
            consumer_claim: ClaimPaths::of_names(&CONSUMER_CLAIMS),
            user_claim: ClaimPaths::of_names(&USER_CLAIMS),
            scope_claim: ClaimPaths::of_names(&SCOPE_CLAIMS),
            role_claim: None,
            scopes_and_roles: ScopesAndRoles::Union,
            attributes: Box::default(),
            forward_claims: Box::default(),
            default_plan: None,
        };
        change(&mut settings);
        Issuer::new(settings, KeySource::Fixed(Arc::new(KeySet::from_secret(SECRET))))
    }

    /// Good claims, with some replaced; `null` removes one.
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
        let Presented::Jwt(token) = Token::read(token) else { return Err(Reason::InvalidToken) };
        if token.iss() != Some(issuer.iss()) {
            return Err(Reason::InvalidToken);
        }
        let claims =
            runtime.block_on(issuer.verify(&token, &KeySources::none(), now)).map_err(|refusal| refusal.reason())?;
        issuer.settings().check_times(&claims, now).map_err(|refusal| refusal.reason())?;
        Ok(claims)
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
            settings.consumer_claim = ClaimPaths::of_names(&["email"]);
            settings.scope_claim = ClaimPaths::of_names(&["perms"]);
            settings.role_claim = Some(ClaimPaths::of_names(&["roles"]));
        });
        let named = |change| verdict(&issuer, &signed(&json!({"alg": "HS256"}), &claims(&change)));
        let got = named(json!({"email": "a@b", "perms": ["p"], "roles": "clerk auditor"})).unwrap();
        assert_eq!(
            (&*got.subject, scopes(&got), got.roles.join(" ")),
            ("a@b", "p".to_owned(), "clerk auditor".to_owned())
        );
        assert_eq!(named(json!({"perms": ["p"]})), Err(Reason::InvalidToken), "no fall-back to another claim");
    }

    /// The user is another than the consumer, or there is none.
    #[test]
    fn a_consumer_acts_for_a_user_or_for_itself() {
        let custom = issuer(|settings| settings.user_claim = ClaimPaths::of_names(&["email", "upn"]));
        for (issuer, change, user) in [
            (None, json!({"client_id": "app"}), Some(Some("alice"))),
            (None, json!({"client_id": "alice"}), Some(None)),
            (None, json!({}), Some(None)),
            (None, json!({"client_id": "app", "sub": ""}), Some(None)),
            (None, json!({"client_id": "app", "sub": 7}), None),
            (None, json!({"client_id": "app", "sub": "x".repeat(257)}), None),
            (Some(&custom), json!({"client_id": "app"}), Some(None)),
            (Some(&custom), json!({"client_id": "app", "upn": "bob"}), Some(Some("bob"))),
            (Some(&custom), json!({"client_id": "app", "email": "a@b", "upn": "bob"}), Some(Some("a@b"))),
            (Some(&custom), json!({"client_id": "app", "email": 7, "upn": "bob"}), None),
            (Some(&custom), json!({"client_id": "app", "email": ["a@b"]}), None),
        ] {
            let got = match issuer {
                None => of_claims(&change),
                Some(issuer) => verdict(issuer, &signed(&json!({"alg": "HS256"}), &claims(&change))),
            };
            let got = got.map(|got| got.user.map(String::from));
            assert_eq!(got, user.map(|user| user.map(str::to_owned)).ok_or(Reason::InvalidToken), "{change}");
        }
    }

    #[test]
    fn a_claim_of_a_wrong_type_refuses_the_token_and_is_never_taken_for_absent() {
        let path = |text: &str| ClaimPath::parse(text).unwrap();
        let issuer = issuer(|settings| {
            settings.consumer_claim = ClaimPaths::new(vec![path("app"), path("/act/client"), path("sub")]);
            settings.scope_claim = ClaimPaths::new(vec![path("perms"), path("/access/0/scopes"), path("scope")]);
            settings.role_claim = Some(ClaimPaths::new(vec![path("https://a.example/roles"), path("/realm/roles")]));
        });
        for (change, expected) in [
            (json!({}), Some(("alice", "a b", ""))),
            (json!({"app": "one", "act": {"client": "two"}}), Some(("one", "a b", ""))),
            (json!({"act": {"client": "two"}}), Some(("two", "a b", ""))),
            (json!({"act": {}}), Some(("alice", "a b", ""))),
            (json!({"app": ""}), None),
            (json!({"app": 7}), None),
            (json!({"app": ["one"]}), None),
            (json!({"app": {"id": "one"}}), None),
            (json!({"act": "two"}), None),
            (json!({"act": {"client": null}}), None),
            (json!({"act": {"client": false}}), None),
            (json!({"perms": "x y"}), Some(("alice", "x y", ""))),
            (json!({"perms": ["x", "y"]}), Some(("alice", "x y", ""))),
            (json!({"perms": []}), Some(("alice", "", ""))),
            (json!({"perms": ""}), Some(("alice", "", ""))),
            (json!({"access": [{"scopes": "x"}]}), Some(("alice", "x", ""))),
            (json!({"access": []}), Some(("alice", "a b", ""))),
            (json!({"perms": 1}), None),
            (json!({"perms": {"x": true}}), None),
            (json!({"perms": ["x", 1]}), None),
            (json!({"access": "x"}), None),
            (json!({"access": [{"scopes": null}]}), None),
            (json!({"https://a.example/roles": "r s"}), Some(("alice", "a b", "r s"))),
            (json!({"realm": {"roles": ["r", "s"]}}), Some(("alice", "a b", "r s"))),
            (json!({"realm": {"roles": {"r": 1}}}), None),
            (json!({"realm": ["r"]}), None),
            (json!({"https://a.example/roles": 1, "realm": {"roles": ["r"]}}), None),
        ] {
            let got = verdict(&issuer, &signed(&json!({"alg": "HS256"}), &claims(&change)));
            let got = got.map(|got| (got.subject.to_string(), got.scopes.join(" "), got.roles.join(" ")));
            let expected = expected.map(|(who, scopes, roles)| (who.to_owned(), scopes.to_owned(), roles.to_owned()));
            assert_eq!(got, expected.ok_or(Reason::InvalidToken), "{change}");
        }
        let mut nulls = claims(&json!({}));
        for claim in ["app", "perms", "https://a.example/roles"] {
            nulls[claim] = Value::Null;
            assert!(verdict(&issuer, &signed(&json!({"alg": "HS256"}), &nulls)).is_err(), "{claim}");
            nulls.as_object_mut().unwrap().remove(claim);
        }
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
        assert!(matches!(Token::read(&twice), Presented::Ambiguous), "a duplicate claim");
    }
}
