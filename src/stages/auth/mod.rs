//! Who is calling: decides which consumer a request comes from, by exactly one credential, and what it was granted.
//!
//! [`Caller`] is made here and nowhere else. Nothing here asks what the caller wants: that is [`super::scope`]'s business.
//! Failing to decide (no keys to verify with, no store) is its own answer, never "not who it says".
//!
//! The way of a credential: `credential` finds it; `cache` may know it; else `jwt`, `introspection`, `api_key` or
//! `certificate` verify it, and `directory` says whose it is. Then, on every request and after every cache: its times, what
//! it is bound to (`dpop`, the client certificate), and what operators have revoked, suspended or granted.

pub(crate) mod api_key;
pub(crate) mod api_key_format;
pub(crate) mod cache;
mod caller;
pub(crate) mod certificate;
pub(crate) mod claims;
mod credential;
pub(crate) mod directory;
pub(crate) mod dpop;
pub(crate) mod failed_attempts;
pub(crate) mod fetch;
pub(crate) mod introspection;
pub(crate) mod jwt;
pub(crate) mod key_set;
pub(crate) mod key_source;
mod weak_keys;

use std::collections::HashMap;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

use self::api_key::ApiKeys;
use self::cache::{Place, TokenCache};
use self::caller::Verified;
pub(crate) use self::caller::{Caller, Consumer, CredentialKind};
use self::certificate::Trusts;
use self::claims::{Claims, Confirmation, Settings, Times, refuse};
use self::credential::{Credential, Scheme};
use self::directory::Directory;
use self::dpop::{BoundToken, Dpop, Flaw, Used};
use self::failed_attempts::Failures;
use self::introspection::Introspection;
use self::jwt::{Issuer, Token};
use crate::exchange::{ClientCertificate, Request};
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::state::ledger::{Ledger, Tick};
use crate::state::registry::Health;
use crate::state::registry::entry::{Identity, hex};
use crate::state::registry::revocation_key::RevocationKey;

/// How callers are known.
#[derive(Debug)]
pub(crate) struct Authentication {
    /// By exact `iss`.
    issuers: HashMap<Box<str>, Issuer>,
    /// For tokens of nobody in `issuers`, in the order they are asked.
    introspection: Vec<Introspection>,
    keys: ApiKeys,
    key_header: HeaderName,
    directory: Directory,
    trusts: Trusts,
    dpop: Dpop,
    failures: Option<Failures>,
    /// Whether what is known is enough when the store is out of touch.
    serve_stale: bool,
    ledger: Arc<Ledger>,
}

/// What [`Authentication::new`] is made of.
pub(crate) struct Parts {
    /// All issuers; their `iss` differ.
    pub(crate) issuers: Vec<Issuer>,
    /// Introspection endpoints.
    pub(crate) introspection: Vec<Introspection>,
    /// API keys of the policy.
    pub(crate) keys: ApiKeys,
    /// Header that carries an API key.
    pub(crate) key_header: HeaderName,
    /// Who is who.
    pub(crate) directory: Directory,
    /// Who vouches for client certificates.
    pub(crate) trusts: Trusts,
    /// Proofs of possession.
    pub(crate) dpop: Dpop,
    /// The limit on failed attempts.
    pub(crate) failures: Option<Failures>,
    /// Whether what is known is enough when the store is out of touch.
    pub(crate) serve_stale: bool,
    /// Where failed attempts are counted.
    pub(crate) ledger: Arc<Ledger>,
}

/// Who is calling, and what of it was proven beside the credential.
#[derive(Debug)]
pub(crate) struct Known {
    /// The caller.
    pub(crate) caller: Arc<Caller>,
    /// It has also shown a client certificate that is its consumer's.
    pub(crate) certificate: bool,
}

impl Authentication {
    /// Puts it together; that names resolve and nothing is there twice has been seen to.
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            issuers: parts.issuers.into_iter().map(|issuer| (issuer.iss().into(), issuer)).collect(),
            introspection: parts.introspection,
            keys: parts.keys,
            key_header: parts.key_header,
            directory: parts.directory,
            trusts: parts.trusts,
            dpop: parts.dpop,
            failures: parts.failures,
            serve_stale: parts.serve_stale,
            ledger: parts.ledger,
        }
    }

    /// The header that carries an API key.
    pub(crate) fn key_header(&self) -> &HeaderName {
        &self.key_header
    }

    /// Who is who.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The API keys of the policy.
    pub(crate) fn keys(&self) -> &ApiKeys {
        &self.keys
    }

    /// All issuers, in no order.
    pub(crate) fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuers.values()
    }

    /// All introspection endpoints.
    pub(crate) fn introspection(&self) -> &[Introspection] {
        &self.introspection
    }

    /// What the next proof of possession may hold.
    pub(crate) fn dpop_nonce(&self, now: Timestamp) -> HeaderValue {
        self.dpop.next_nonce(now)
    }

    /// Decides who is calling.
    ///
    /// A credential that was verified before is known from `cache`; its times, what it is bound to, and whether it was
    /// revoked are looked at again. Waits only for a key set that has to be fetched because a token names a key not seen
    /// before, and for introspection.
    pub(crate) async fn authenticate(&self, request: &Request<'_>, cache: &TokenCache) -> Result<Known, Refusal> {
        let Some(failures) = &self.failures else { return self.identify(request, cache).await };
        failures.permit(&self.ledger, request.client(), request.tick)?;
        let known = self.identify(request, cache).await;
        if let Err(refusal) = &known
            && failed_attempts::is_failure(refusal)
        {
            failures.note(&self.ledger, request.client(), request.tick);
        }
        known
    }

    async fn identify(&self, request: &Request<'_>, cache: &TokenCache) -> Result<Known, Refusal> {
        self.store_available()?;
        let (caller, scheme) = match credential::find(request.headers, &self.key_header)? {
            Credential::Token(scheme, token) => (self.bearer(token, request, cache).await?, Some((scheme, token))),
            Credential::Key(key) => (self.key(key, request.now(), cache)?, None),
            Credential::None => return self.by_certificate(request, cache),
        };
        if caller.confirmation() != &Confirmation::default() || matches!(scheme, Some((Scheme::Dpop, _))) {
            // Boxed: rare, and else a part of every request's future.
            Box::pin(self.confirm(&caller, scheme, request)).await?;
        }
        let certificate = match request.certificate() {
            Some(shown) => self.shown_beside(shown, &caller, request.now())?,
            None => false,
        };
        Ok(Known { caller: self.standing(caller, request)?, certificate })
    }

    /// What operators have changed must be known before anybody is let in.
    fn store_available(&self) -> Result<(), Refusal> {
        let unavailable = |cause: &'static str| {
            Err(refuse(Reason::IdentityUnavailable, "identity cannot be checked now; try again shortly").cause(cause))
        };
        match self.directory.registry().health() {
            Health::Ready => Ok(()),
            Health::Stale if self.serve_stale => Ok(()),
            Health::Stale => unavailable("the store is out of reach, and `store.on_failure` is `refuse`"),
            Health::Loading => unavailable("the store has not been read yet"),
        }
    }

    /// Who sends a token.
    async fn bearer(&self, token: &[u8], request: &Request<'_>, cache: &TokenCache) -> Result<Arc<Caller>, Refusal> {
        if let Some((caller, times)) = cache.get(token, Place::Authorization, request.now()) {
            times.check(request.now())?;
            return Ok(caller);
        }
        let epoch = cache.epoch();
        let text = str::from_utf8(token).ok().filter(|text| text.is_ascii());
        let text = text.ok_or_else(|| claims::invalid("the Authorization header is not visible ASCII"))?;
        // Boxed: large and rare, and else a part of every request's future.
        let (caller, times, until) = Box::pin(self.verify(text, request)).await?;
        let caller = Arc::new(caller);
        cache.insert(token, &caller, times, until, epoch);
        Ok(caller)
    }

    /// Verifies a token: by the keys of its issuer, or by asking those who may know it.
    async fn verify(&self, text: &str, request: &Request<'_>) -> Result<(Caller, Times, i64), Refusal> {
        let token = Token::parse(text);
        if let Ok(token) = &token
            && let Some(issuer) = self.issuers.get(token.iss())
        {
            let claims = issuer.verify(token, request.now()).await?;
            let caller = self.caller_of(issuer.settings(), CredentialKind::Jwt, &claims, text, request.tick)?;
            return Ok((caller, claims.times, i64::MAX));
        }
        let mut unavailable = None;
        for endpoint in &self.introspection {
            match endpoint.verify(text, request.now()).await {
                Ok(Some((claims, until))) => {
                    let kind = CredentialKind::Introspected;
                    let caller = self.caller_of(endpoint.settings(), kind, &claims, text, request.tick)?;
                    return Ok((caller, claims.times, until));
                }
                Ok(None) => {}
                Err(refusal) if refusal.reason() == Reason::IdentityUnavailable => unavailable = Some(refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        // Whoever could not be asked might have known it.
        if let Some(refusal) = unavailable {
            return Err(refusal);
        }
        match token {
            Err(refusal) if self.introspection.is_empty() => Err(refusal),
            _ if self.introspection.is_empty() => {
                Err(claims::invalid("the token's issuer (`iss`) is not accepted here"))
            }
            _ => Err(claims::invalid("the token is not active")),
        }
    }

    fn caller_of(
        &self,
        settings: &Settings,
        kind: CredentialKind,
        claims: &Claims,
        text: &str,
        tick: Tick,
    ) -> Result<Caller, Refusal> {
        let identity = Identity::Issuer { issuer: settings.name.clone(), id: claims.subject.clone() };
        let consumer = match (self.directory.identified(&identity)?, &settings.default_plan) {
            (Some(consumer), _) => consumer,
            (None, Some(plan)) => self.directory.unlisted(&settings.name, &claims.subject, plan, tick),
            (None, None) => return Err(unknown(format!("issuer {}, id {}", settings.name, claims.subject))),
        };
        let mut granted = claims.scopes.clone();
        granted.extend(self.directory.scopes(&claims.roles));
        let named = jwt::name(text);
        let mut revocation_keys = vec![RevocationKey::token(named.as_bytes()), RevocationKey::issuer(&settings.name)];
        // Whoever revokes by digest may know that of the whole text alone.
        revocation_keys.extend((named != text).then(|| RevocationKey::token(text.as_bytes())));
        revocation_keys.extend(claims.jti.as_deref().map(RevocationKey::jti));
        let other = claims.sub.iter().filter(|sub| **sub != claims.subject);
        revocation_keys.extend(other.map(|sub| RevocationKey::subject(&settings.name, sub)));
        revocation_keys.push(RevocationKey::subject(&settings.name, &claims.subject));
        let verified = Verified {
            kind,
            id: claims.jti.clone(),
            granted,
            revocation_keys,
            issued: claims.issued,
            confirmation: claims.confirmation.clone(),
            usage: None,
        };
        Ok(Caller::new(consumer, verified))
    }

    /// Who sends an API key.
    fn key(&self, key: &[u8], now: Timestamp, cache: &TokenCache) -> Result<Arc<Caller>, Refusal> {
        if let Some((caller, times)) = cache.get(key, Place::KeyHeader, now) {
            api_key::check(times, now)?;
            return Ok(caller);
        }
        let epoch = cache.epoch();
        let (caller, times) = self.keys.caller(key, &self.directory)?;
        let caller = Arc::new(caller);
        cache.insert(key, &caller, times, i64::MAX, epoch);
        api_key::check(times, now)?;
        Ok(caller)
    }

    /// Who holds the client certificate of a request that brings nothing else.
    fn by_certificate(&self, request: &Request<'_>, cache: &TokenCache) -> Result<Known, Refusal> {
        const MISSING: &str = "send a token (`Authorization: Bearer …`) or an API key";
        let shown = request.certificate().ok_or_else(|| credential::missing(MISSING))?;
        certificate::check(shown, &self.trusts, request.now())?;
        let caller = match cache.get(&shown.thumbprint, Place::Handshake, request.now()) {
            Some((caller, _)) => caller,
            None => {
                let epoch = cache.epoch();
                let consumer = self.consumer_of(shown)?;
                let consumer = consumer.ok_or_else(|| unknown("a client certificate".to_owned()))?;
                let id = hex::encode(&shown.thumbprint);
                let caller = Arc::new(Caller::new(
                    Arc::clone(&consumer),
                    Verified {
                        kind: CredentialKind::Certificate,
                        id: Some(id.into()),
                        granted: consumer.ceiling().map(<[_]>::to_vec).unwrap_or_default(),
                        revocation_keys: vec![RevocationKey::certificate(&shown.thumbprint)],
                        issued: Some(shown.not_before),
                        confirmation: Confirmation::default(),
                        usage: None,
                    },
                ));
                let times = Times { expires: shown.not_after, not_before: None, skew: 0 };
                cache.insert(&shown.thumbprint, &caller, times, i64::MAX, epoch);
                caller
            }
        };
        Ok(Known { caller: self.standing(caller, request)?, certificate: true })
    }

    /// The consumer whose certificate this is; two are one too many.
    fn consumer_of(&self, shown: &ClientCertificate) -> Result<Option<Arc<Consumer>>, Refusal> {
        let by_name = shown.names.iter().map(|name| Identity::CertificateSan(name.clone()));
        let mut found: Option<Arc<Consumer>> = None;
        for identity in std::iter::once(Identity::Certificate(shown.thumbprint)).chain(by_name) {
            let Some(consumer) = self.directory.identified(&identity)? else { continue };
            match &found {
                Some(other) if other.name() != consumer.name() => {
                    return Err(refuse(Reason::InvalidCertificate, "the client certificate is that of two consumers")
                        .cause(format!("{} and {}", other.name(), consumer.name())));
                }
                _ => found = Some(consumer),
            }
        }
        Ok(found)
    }

    /// Whether a certificate shown beside another credential is the caller's own; it must not be somebody else's.
    fn shown_beside(&self, shown: &ClientCertificate, caller: &Caller, now: Timestamp) -> Result<bool, Refusal> {
        let Some(consumer) = self.consumer_of(shown)? else { return Ok(false) };
        certificate::check(shown, &self.trusts, now)?;
        if consumer.name() == caller.consumer() {
            return Ok(true);
        }
        Err(Refusal::new(
            Stage::Auth,
            Reason::MalformedRequest,
            "the client certificate and the credential belong to different consumers; send one of them",
        ))
    }

    /// Decides whether the bearer of a bound token has what it is bound to, and sent it as such a token is sent.
    async fn confirm(
        &self,
        caller: &Caller,
        sent: Option<(Scheme, &[u8])>,
        request: &Request<'_>,
    ) -> Result<(), Refusal> {
        let Some((scheme, token)) = sent else { return Ok(()) };
        let confirmation = caller.confirmation();
        if let Some(thumbprint) = &confirmation.certificate {
            let shown = request.certificate().filter(|shown| shown.thumbprint == *thumbprint);
            let shown = shown.ok_or_else(|| {
                refuse(Reason::InvalidToken, "the token is bound to a client certificate that was not shown")
            })?;
            certificate::check(shown, &self.trusts, request.now())?;
        }
        match (&confirmation.key, scheme) {
            (None, Scheme::Bearer) => Ok(()),
            (None, Scheme::Dpop) => Err(claims::invalid("the token is not bound to a key; send it as a bearer token")),
            // RFC 9449 §7.2: else whoever finds the token could leave the proof out.
            (Some(_), Scheme::Bearer) => Err(refuse(
                Reason::InvalidDpopProof,
                "the token is bound to a key; send it as `Authorization: DPoP …` with a proof",
            )),
            (Some(jkt), Scheme::Dpop) => {
                let proven = self.dpop.check(request, BoundToken { token, jkt });
                let used = proven.map_err(|flaw| self.unproven(flaw, request.now()))?;
                self.claim(&used, request.now()).await
            }
        }
    }

    /// Decides whether a proof was used on another node.
    async fn claim(&self, used: &Used, now: Timestamp) -> Result<(), Refusal> {
        let what = format!("dpop:{}", hex::encode(&used.mark));
        match self.directory.registry().claim(&what, used.lifetime).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.unproven(Flaw::Replayed, now)),
            // What this node remembers is then all there is.
            Err(_) if self.serve_stale => Ok(()),
            Err(error) => Err(refuse(Reason::IdentityUnavailable, "proofs cannot be checked now; try again shortly")
                .cause(format!("whether a proof was used on another node: {error}"))),
        }
    }

    fn unproven(&self, flaw: Flaw, now: Timestamp) -> Refusal {
        let invalid = |detail| refuse(Reason::InvalidDpopProof, detail);
        match flaw {
            Flaw::Missing => invalid("send a proof of possession in the `DPoP` header"),
            Flaw::Several => invalid("more than one `DPoP` header came; send exactly one"),
            Flaw::Invalid(detail) => invalid(detail),
            Flaw::Replayed => invalid("the proof was used before; make a new one for every request"),
            Flaw::NonceNeeded => {
                refuse(Reason::UseDpopNonce, "make the proof with the `nonce` of the `DPoP-Nonce` header")
                    .dpop_nonce(self.dpop.next_nonce(now))
            }
            // The caller is who it says: a 401 would have it throw its token away, and come again at once with another.
            Flaw::TooMany { wait } => refuse(
                Reason::RateLimited,
                format!("the key was used for more proofs than are remembered of one; wait {wait} s"),
            )
            .members(Members { retry_after: Some(wait), ..Members::default() }),
            Flaw::Full => refuse(Reason::IdentityUnavailable, "proofs cannot be checked now; try again shortly")
                .cause("the memory of proofs is full of ones that are still good"),
        }
    }

    /// Decides, after every cache, whether what was verified still stands, and adds what is granted for a time.
    fn standing(&self, caller: Arc<Caller>, request: &Request<'_>) -> Result<Arc<Caller>, Refusal> {
        let registry = self.directory.registry();
        if registry.is_revoked(caller.revocation_keys(), caller.issued(), request.now()) {
            return Err(refuse(Reason::Revoked, "the credential has been revoked; get a new one"));
        }
        let standing = registry.standing(caller.consumer(), request.now());
        if standing.suspended {
            return Err(refuse(Reason::ConsumerSuspended, "the consumer is suspended; ask the API's owner"));
        }
        if let Some(usage) = caller.usage() {
            usage.note(request.now(), request.client());
        }
        if standing.granted.is_empty() { Ok(caller) } else { Ok(Arc::new(caller.with(&standing.granted))) }
    }
}

fn unknown(cause: String) -> Refusal {
    refuse(
        Reason::UnknownConsumer,
        "the credential is good, but its bearer is not registered here; ask the API's owner to add it",
    )
    .cause(cause)
}
