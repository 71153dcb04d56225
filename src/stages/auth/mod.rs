//! Who is calling: decides which consumer a request comes from, by exactly one credential, and what it was granted.
//!
//! [`Caller`] is made here and nowhere else. Nothing here asks what the caller wants: that is [`super::scope`]'s business.
//! Failing to decide (no keys to verify with) is its own answer, never "not who it says".

pub(crate) mod api_key;
pub(crate) mod cache;
mod caller;
pub(crate) mod jwt;
pub(crate) mod key_set;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use jiff::Timestamp;

use self::api_key::ApiKeys;
use self::cache::TokenCache;
use self::caller::CredentialKind;
pub(crate) use self::caller::{Caller, Consumer};
use self::jwt::{Claims, Issuer, Token};
use crate::refusal::{Reason, Refusal, Stage};
use crate::state::ledger::{Ledger, Tick};

/// How callers are known.
#[derive(Debug)]
pub(crate) struct Authentication {
    /// By exact `iss`.
    issuers: HashMap<Box<str>, Issuer>,
    /// Who an issuer's subjects are: issuer name → id → consumer.
    identities: HashMap<Box<str>, HashMap<Box<str>, Arc<Consumer>>>,
    keys: ApiKeys,
    key_header: HeaderName,
    /// Role → scopes, for roles that tokens name.
    roles: HashMap<Box<str>, Box<[Box<str>]>>,
    ledger: Arc<Ledger>,
}

/// What [`Authentication::new`] is made of.
pub(crate) struct Parts {
    /// All issuers; their `iss` differ.
    pub(crate) issuers: Vec<Issuer>,
    /// Issuer name, id, consumer.
    pub(crate) identities: Vec<(Box<str>, Box<str>, Arc<Consumer>)>,
    /// API keys.
    pub(crate) keys: ApiKeys,
    /// Header that carries an API key.
    pub(crate) key_header: HeaderName,
    /// Role → scopes.
    pub(crate) roles: HashMap<Box<str>, Box<[Box<str>]>>,
    /// Where unlisted consumers have their accounts.
    pub(crate) ledger: Arc<Ledger>,
}

impl Authentication {
    /// Puts it together; that names resolve and nothing is there twice has been seen to.
    pub(crate) fn new(parts: Parts) -> Self {
        let mut identities: HashMap<Box<str>, HashMap<Box<str>, Arc<Consumer>>> = HashMap::new();
        for (issuer, id, consumer) in parts.identities {
            identities.entry(issuer).or_default().insert(id, consumer);
        }
        Self {
            issuers: parts.issuers.into_iter().map(|issuer| (issuer.iss().into(), issuer)).collect(),
            identities,
            keys: parts.keys,
            key_header: parts.key_header,
            roles: parts.roles,
            ledger: parts.ledger,
        }
    }

    /// The header that carries an API key.
    pub(crate) fn key_header(&self) -> &HeaderName {
        &self.key_header
    }

    /// Decides who is calling.
    ///
    /// A token that was verified before is known from `cache`; its times are looked at again. Waits only for a key
    /// set that has to be fetched because a token names a key not seen before.
    pub(crate) async fn authenticate(
        &self,
        headers: &HeaderMap,
        cache: &TokenCache,
        now: Timestamp,
        tick: Tick,
    ) -> Result<Arc<Caller>, Refusal> {
        match self.credential(headers)? {
            Credential::Key(key) => self.keys.caller(key, now),
            Credential::Bearer(token) => {
                if let Some((caller, times)) = cache.get(token) {
                    times.check(now)?;
                    return Ok(caller);
                }
                let epoch = cache.epoch();
                let text = str::from_utf8(token).ok().filter(|text| text.is_ascii());
                let text = text.ok_or_else(|| jwt::invalid("the Authorization header is not visible ASCII"))?;
                let (issuer, claims) = Box::pin(self.verify(text, now)).await?;
                let caller = Arc::new(self.caller_of(issuer, &claims, tick)?);
                cache.insert(token, &caller, claims.times, epoch);
                Ok(caller)
            }
        }
    }

    /// The one credential of a request; two are refused, never ranked.
    fn credential<'a>(&self, headers: &'a HeaderMap) -> Result<Credential<'a>, Refusal> {
        let mut authorization = headers.get_all(AUTHORIZATION).iter();
        let mut key = headers.get_all(&self.key_header).iter();
        match (authorization.next(), key.next(), authorization.next().is_some() || key.next().is_some()) {
            (Some(value), None, false) => bearer(value),
            (None, Some(value), false) => Ok(Credential::Key(value.as_bytes())),
            (None, None, _) => Err(missing("send a token (`Authorization: Bearer …`) or an API key")),
            _ => Err(Refusal::new(
                Stage::Auth,
                Reason::MalformedRequest,
                "more than one credential came; send exactly one of a token and an API key",
            )),
        }
    }

    async fn verify(&self, token: &str, now: Timestamp) -> Result<(&Issuer, Claims), Refusal> {
        let token = Token::parse(token)?;
        let issuer = self
            .issuers
            .get(token.iss())
            .ok_or_else(|| jwt::invalid("the token's issuer (`iss`) is not accepted here"))?;
        Ok((issuer, issuer.verify(&token, now).await?))
    }

    fn caller_of(&self, issuer: &Issuer, claims: &Claims, tick: Tick) -> Result<Caller, Refusal> {
        let listed = self.identities.get(issuer.name()).and_then(|ids| ids.get(&*claims.subject));
        let consumer = match (listed, issuer.default_plan()) {
            (Some(consumer), _) => Arc::clone(consumer),
            (None, Some(plan)) => {
                let name = format!("{}:{}", issuer.name(), claims.subject);
                let account = self.ledger.unlisted(&name, tick);
                Arc::new(Consumer::new(&name, Vec::new(), None, Some(Arc::clone(plan)), account))
            }
            (None, None) => {
                return Err(Refusal::new(
                    Stage::Auth,
                    Reason::UnknownConsumer,
                    "the token is good, but its bearer is not registered here; ask the API's owner to add it",
                )
                .cause(format!("issuer {}, id {}", issuer.name(), claims.subject)));
            }
        };
        let mut granted = claims.scopes.clone();
        for role in &claims.roles {
            granted.extend(self.roles.get(role).into_iter().flatten().cloned());
        }
        Ok(Caller::new(consumer, CredentialKind::Jwt, claims.jti.clone(), granted))
    }
}

/// The scheme, and what ends it.
const BEARER: &[u8] = b"bearer ";

enum Credential<'a> {
    /// Not looked at yet: a token that is known has been, when it was not.
    Bearer(&'a [u8]),
    Key(&'a [u8]),
}

/// `Authorization: Bearer b64token` (RFC 6750 §2.1); the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Result<Credential<'_>, Refusal> {
    const REFUSED: &str = "this authentication scheme is not accepted; send `Authorization: Bearer …`";
    let (scheme, token) = value.as_bytes().split_at_checked(BEARER.len()).ok_or_else(|| missing(REFUSED))?;
    if !scheme.eq_ignore_ascii_case(BEARER) {
        return Err(missing(REFUSED));
    }
    match token.trim_ascii() {
        b"" => Err(missing("the token is empty")),
        token => Ok(Credential::Bearer(token)),
    }
}

fn missing(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Auth, Reason::MissingCredentials, detail)
}
