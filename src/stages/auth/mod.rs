//! Who is calling: decides which consumer a request comes from, by exactly one credential, and what it was granted.
//!
//! [`Caller`] is made here and nowhere else. Nothing here asks what the caller wants: that is [`super::scope`]'s business.
//! Failing to decide (no keys to verify with) is its own answer, never "not who it says".

pub(crate) mod api_key;
pub(crate) mod cache;
pub(crate) mod jwt;
pub(crate) mod key_set;

use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use jiff::Timestamp;

use self::api_key::ApiKeys;
use self::cache::TokenCache;
use self::jwt::{Claims, Issuer, Token};
use super::rate_limit::Plan;
use crate::refusal::{Reason, Refusal, Stage};
use crate::state::ledger::{Account, Ledger, Tick};

/// What a request was known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A token of a known issuer.
    Jwt,
    /// An API key.
    ApiKey,
}

impl CredentialKind {
    /// As the record writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jwt => "jwt",
            Self::ApiKey => "api_key",
        }
    }
}

/// A consumer of the policy: who it is, what it may do at most, how much.
#[derive(Debug)]
pub(crate) struct Consumer {
    name: Arc<str>,
    roles: Box<[Box<str>]>,
    /// What its roles allow; absent: no ceiling.
    ceiling: Option<Box<[Box<str>]>>,
    plan: Option<Arc<Plan>>,
    account: Arc<Account>,
}

impl Consumer {
    /// Compiles a consumer. `ceiling` is the union of its roles' scopes, `None` when it has no `roles`.
    pub(crate) fn new(
        name: &str,
        roles: Vec<String>,
        ceiling: Option<Vec<Box<str>>>,
        plan: Option<Arc<Plan>>,
        account: Arc<Account>,
    ) -> Self {
        Self {
            name: name.into(),
            roles: roles.into_iter().map(Box::from).collect(),
            ceiling: ceiling.map(Vec::into_boxed_slice),
            plan,
            account,
        }
    }

    fn cut(&self, mut granted: Vec<Box<str>>) -> Box<[Box<str>]> {
        if let Some(ceiling) = &self.ceiling {
            granted.retain(|scope| ceiling.contains(scope));
        }
        granted.sort_unstable();
        granted.dedup();
        granted.into_boxed_slice()
    }
}

/// A known caller: a consumer, by one credential, with what that credential was granted.
///
/// Identity, not a decision: whether what was granted is enough is asked on every request.
#[derive(Debug)]
pub(crate) struct Caller {
    consumer: Arc<Consumer>,
    kind: CredentialKind,
    credential_id: Option<Box<str>>,
    granted: Box<[Box<str>]>,
    /// What the upstream is told, ready to send.
    told: Told,
}

/// The headers that tell an upstream who is calling.
#[derive(Debug)]
pub(crate) struct Told {
    /// `X-Consumer-Id`.
    pub(crate) consumer: HeaderValue,
    /// `X-Consumer-Scopes`.
    pub(crate) scopes: HeaderValue,
    /// `X-Consumer-Plan`.
    pub(crate) plan: Option<HeaderValue>,
    /// `X-Credential-Id`.
    pub(crate) credential: Option<HeaderValue>,
}

impl Caller {
    fn new(
        consumer: Arc<Consumer>,
        kind: CredentialKind,
        credential_id: Option<Box<str>>,
        granted: Vec<Box<str>>,
    ) -> Self {
        let granted = consumer.cut(granted);
        let told = Told {
            consumer: visible(&consumer.name),
            scopes: visible_list(&granted),
            plan: consumer.plan.as_ref().map(|plan| visible(plan.name())),
            credential: credential_id.as_deref().map(visible),
        };
        Self { consumer, kind, credential_id, granted, told }
    }

    /// The consumer's name.
    pub(crate) fn consumer(&self) -> &Arc<str> {
        &self.consumer.name
    }

    /// The consumer's roles, for the record.
    pub(crate) fn roles(&self) -> &[Box<str>] {
        &self.consumer.roles
    }

    /// The consumer's plan.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        self.consumer.plan.as_deref()
    }

    /// What it has used of its limits.
    pub(crate) fn account(&self) -> &Account {
        &self.consumer.account
    }

    /// Kind and id of the credential; never the secret.
    pub(crate) fn credential(&self) -> (CredentialKind, Option<&str>) {
        (self.kind, self.credential_id.as_deref())
    }

    /// All scopes that were granted, sorted.
    pub(crate) fn granted(&self) -> &[Box<str>] {
        &self.granted
    }

    /// Whether this scope was granted.
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.granted.iter().any(|granted| **granted == *scope)
    }

    /// What the upstream is told.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// A caller for tests of later stages.
    #[cfg(test)]
    pub(crate) fn sample(consumer: &str, granted: &[&str]) -> Self {
        let consumer = Consumer::new(consumer, Vec::new(), None, None, Arc::default());
        let granted = granted.iter().map(|scope| Box::from(*scope)).collect();
        Self::new(Arc::new(consumer), CredentialKind::ApiKey, None, granted)
    }
}

/// Names of the outside may hold anything; a header holds visible ASCII, so all else (and `%`) is percent-encoded.
fn visible(text: &str) -> HeaderValue {
    use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
    HeaderValue::try_from(utf8_percent_encode(text, ENCODED).to_string())
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn visible_list(items: &[Box<str>]) -> HeaderValue {
    let encoded: Vec<_> = items.iter().map(|item| visible(item)).collect();
    let bytes = encoded.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b' ');
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static(""))
}

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
                let (issuer, claims) = self.verify(token, now).await?;
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
                .cause(format_args!("issuer {}, id {}", issuer.name(), claims.subject)));
            }
        };
        let mut granted = claims.scopes.clone();
        for role in &claims.roles {
            granted.extend(self.roles.get(role).into_iter().flatten().cloned());
        }
        Ok(Caller::new(consumer, CredentialKind::Jwt, claims.jti.clone(), granted))
    }
}

enum Credential<'a> {
    Bearer(&'a str),
    Key(&'a [u8]),
}

/// `Authorization: Bearer b64token` (RFC 6750 §2.1); the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &HeaderValue) -> Result<Credential<'_>, Refusal> {
    let text = value.to_str().map_err(|_| jwt::invalid("the Authorization header is not visible ASCII"))?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => match token.trim_matches(' ') {
            "" => Err(missing("the token is empty")),
            token => Ok(Credential::Bearer(token)),
        },
        _ => Err(missing("this authentication scheme is not accepted; send `Authorization: Bearer …`")),
    }
}

fn missing(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Auth, Reason::MissingCredentials, detail)
}
