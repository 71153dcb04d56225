//! Authenticates requests: decides which consumer a request comes from, by exactly one credential, and what that
//! credential was granted.
//!
//! Only this folder makes a [`Caller`]. What the caller wants is [`super::scope`]'s business. Failing to decide (no keys to
//! verify with, no store) has its own refusal, 503, and is never reported as a bad credential.
//!
//! 1. `credential` finds the credential. If `cache` does not know it, `jwt`, `introspection`, `api_key` or `certificate`
//!    verifies it, and `directory` finds its consumer.
//! 2. `binding`: the sender has what the credential is bound to, a key (`dpop`) or a client certificate.
//! 3. `standing`: operators have not revoked it or suspended its consumer; their grants are added.
//!
//! Steps 2 and 3, and the credential's times, are checked on every request, whatever the cache knows.

pub(crate) mod api_key;
pub(crate) mod api_key_format;
mod binding;
pub(crate) mod cache;
mod caller;
pub(crate) mod certificate;
pub(crate) mod claim_path;
pub(crate) mod claims;
mod credential;
pub(crate) mod directory;
pub(crate) mod dpop;
pub(crate) mod failed_attempts;
pub(crate) mod fetch;
pub(crate) mod introspection;
pub(crate) mod jwt;
pub(crate) mod key_location;
pub(crate) mod key_set;
pub(crate) mod key_source;
pub(crate) mod remote_key_set;
mod rules;
mod standing;
mod weak_keys;

use std::sync::Arc;

use http::header::HeaderValue;
use jiff::Timestamp;

use self::cache::{CredentialSource, TokenCache};
use self::caller::Verified;
pub(crate) use self::caller::{Caller, Consumer, CredentialKind};
use self::claims::{Claims, Confirmation, Settings, Times, refuse};
use self::credential::{Credential, Scheme};
use self::directory::Directory;
use self::dpop::{Dpop, Nonces, Replays};
use self::introspection::IntrospectionClient;
use self::jwt::Token;
use self::key_location::RemoteKeys;
use self::remote_key_set::RemoteKeySet;
pub(crate) use self::rules::Rules;
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal};
use crate::state::epoch::Epoch;
use crate::state::ledger::{Ledger, Tick};
use crate::state::registry::entry::{Identity, hex};
use crate::state::registry::revocation_key::RevocationKey;
use crate::state::registry::{Health, Registry};

/// The state of the process that authentication uses; it outlives policies.
pub(crate) struct State {
    /// What operators have changed.
    pub(crate) registry: Arc<Registry>,
    /// Where limits and failed attempts are counted.
    pub(crate) ledger: Arc<Ledger>,
    /// Counts changes of credentials.
    pub(crate) epoch: Epoch,
    /// DPoP proofs that were used.
    pub(crate) replays: Arc<Replays>,
    /// Makes and recognises nonces for DPoP proofs.
    pub(crate) nonces: Arc<Nonces>,
}

/// Authenticates requests by the rules of a policy, with the state of this process.
#[derive(Debug)]
pub(crate) struct Authentication {
    rules: Arc<Rules>,
    registry: Arc<Registry>,
    ledger: Arc<Ledger>,
    /// By position in [`Rules::key_sets`].
    key_sets: Vec<Arc<RemoteKeySet>>,
    /// By position in [`Rules::introspection`].
    introspection: Vec<IntrospectionClient>,
    dpop: Dpop,
}

/// An authenticated request: its caller, and what was proven beside the credential.
#[derive(Debug)]
pub(crate) struct Authenticated {
    /// The caller.
    pub(crate) caller: Arc<Caller>,
    /// The connection has a client certificate that belongs to the caller's consumer.
    pub(crate) certificate: bool,
}

impl Authentication {
    /// Binds rules to the state of the process. Key sets that the previous policy has too are taken over.
    pub(crate) fn bind(rules: Arc<Rules>, state: State, previous: Option<&Self>) -> Self {
        let key_set = |wanted: &RemoteKeys| {
            let known = || previous.into_iter().flat_map(|previous| &previous.key_sets);
            match known().find(|known| known.source() == wanted) {
                Some(known) => Arc::clone(known),
                None => {
                    let before = known().find(|known| known.source().is_same_set(wanted));
                    Arc::new(RemoteKeySet::new(wanted.clone(), state.epoch.clone(), before.map(|set| &**set)))
                }
            }
        };
        Self {
            key_sets: rules.key_sets.iter().map(key_set).collect(),
            introspection: rules.introspection.iter().map(IntrospectionClient::new).collect(),
            dpop: Dpop::new(rules.dpop.clone(), state.replays, state.nonces),
            registry: state.registry,
            ledger: state.ledger,
            rules,
        }
    }

    /// What the policy says.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What operators have changed.
    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The key sets that are fetched, as [`Rules::key_sets`] lists them.
    pub(crate) fn key_sets(&self) -> &[Arc<RemoteKeySet>] {
        &self.key_sets
    }

    /// The key set at a position of [`Rules::key_sets`].
    pub(crate) fn key_set(&self, position: usize) -> Option<&RemoteKeySet> {
        self.key_sets.get(position).map(|set| &**set)
    }

    /// The nonce that the next DPoP proof may carry (RFC 9449 §8).
    pub(crate) fn dpop_nonce(&self, now: Timestamp) -> HeaderValue {
        self.dpop.next_nonce(now)
    }

    /// Authenticates a request.
    ///
    /// Waits only for introspection, for a key set that must be fetched because a token names an unknown key, and for the
    /// store where a DPoP proof must be claimed.
    pub(crate) async fn authenticate(
        &self,
        request: &Request<'_>,
        cache: &TokenCache,
    ) -> Result<Authenticated, Refusal> {
        let Some(failures) = &self.rules.failures else { return self.identify(request, cache).await };
        failures.permit(&self.ledger, request.client(), request.tick)?;
        let known = self.identify(request, cache).await;
        if let Err(refusal) = &known
            && failed_attempts::is_failure(refusal)
        {
            failures.note(&self.ledger, request.client(), request.tick);
        }
        known
    }

    async fn identify(&self, request: &Request<'_>, cache: &TokenCache) -> Result<Authenticated, Refusal> {
        self.store_available()?;
        let (caller, scheme) = match credential::find(request.headers, &self.rules.key_header)? {
            Credential::Token(scheme, token) => (self.bearer(token, request, cache).await?, Some((scheme, token))),
            Credential::Key(key) => (self.key(key, request.now(), cache)?, None),
            Credential::None => return self.by_certificate(request, cache),
        };
        if caller.confirmation() != &Confirmation::default() || matches!(scheme, Some((Scheme::Dpop, _))) {
            // Boxed: rare; it would be part of every request's future.
            Box::pin(self.confirm(&caller, scheme, request)).await?;
        }
        let certificate = match request.certificate() {
            Some(shown) => self.certificate_beside(shown, &caller, request.now())?,
            None => false,
        };
        Ok(Authenticated { caller: self.check_standing(caller, request)?, certificate })
    }

    /// Decides whether the registry is current enough to let anyone in.
    fn store_available(&self) -> Result<(), Refusal> {
        let unavailable = |cause: &'static str| {
            Err(refuse(Reason::IdentityUnavailable, "identity cannot be checked now; try again shortly").cause(cause))
        };
        match self.registry.health() {
            Health::Ready | Health::Unwritable => Ok(()),
            Health::Stale if self.rules.serve_stale => Ok(()),
            Health::Stale => unavailable("the store is out of reach, and `store.on_failure` is `refuse`"),
            Health::Loading => unavailable("the store has not been read yet"),
        }
    }

    /// The caller that sends this token.
    async fn bearer(&self, token: &[u8], request: &Request<'_>, cache: &TokenCache) -> Result<Arc<Caller>, Refusal> {
        if let Some((caller, times)) = cache.get(token, CredentialSource::Authorization, request.now()) {
            times.check(request.now())?;
            return Ok(caller);
        }
        let epoch = cache.epoch();
        let text = str::from_utf8(token).ok().filter(|text| text.is_ascii());
        let text = text.ok_or_else(|| claims::invalid("the Authorization header is not visible ASCII"))?;
        // Boxed: large and rare; it would be part of every request's future.
        let (caller, times, until) = Box::pin(self.verify(text, request)).await?;
        let caller = Arc::new(caller);
        cache.insert(token, &caller, times, until, epoch);
        Ok(caller)
    }

    /// Verifies a token by the keys of its issuer, or by introspection.
    async fn verify(&self, text: &str, request: &Request<'_>) -> Result<(Caller, Times, i64), Refusal> {
        let token = Token::parse(text);
        if let Ok(token) = &token
            && let Some(issuer) = self.rules.issuers.get(token.iss())
        {
            let claims = issuer.verify(token, &self.key_sets, request.now()).await?;
            let caller = self.caller_of(issuer.settings(), CredentialKind::Jwt, &claims, text, request.tick)?;
            return Ok((caller, claims.times, i64::MAX));
        }
        let mut unavailable = None;
        for (endpoint, client) in self.rules.introspection.iter().zip(&self.introspection) {
            match endpoint.verify(client, text, request.now()).await {
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
        // The endpoint that could not be asked might have known the token.
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
        let directory = &self.rules.directory;
        let (consumer, account) = match (directory.identified(&identity, &self.registry)?, &settings.default_plan) {
            (Some(consumer), _) => {
                let account = self.ledger.listed(consumer.name());
                (consumer, account)
            }
            (None, Some(plan)) => {
                let consumer = Directory::unlisted(&settings.name, &claims.subject, plan);
                let account = self.ledger.unlisted(consumer.name(), tick);
                (consumer, account)
            }
            (None, None) => return Err(unknown(format!("issuer {}, id {}", settings.name, claims.subject))),
        };
        let mut granted = claims.scopes.clone();
        granted.extend(directory.scopes(&claims.roles));
        let named = jwt::name(text);
        let mut revocation_keys = vec![RevocationKey::token(named.as_bytes()), RevocationKey::issuer(&settings.name)];
        // An operator may have revoked it by the digest of the whole text.
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
        Ok(Caller::new(consumer, account, verified))
    }

    /// The caller that sends this API key.
    fn key(&self, key: &[u8], now: Timestamp, cache: &TokenCache) -> Result<Arc<Caller>, Refusal> {
        if let Some((caller, times)) = cache.get(key, CredentialSource::KeyHeader, now) {
            api_key::check(times, now)?;
            return Ok(caller);
        }
        let epoch = cache.epoch();
        let (caller, times) = self.rules.keys.caller(key, &self.rules.directory, &self.registry, &self.ledger)?;
        let caller = Arc::new(caller);
        cache.insert(key, &caller, times, i64::MAX, epoch);
        api_key::check(times, now)?;
        Ok(caller)
    }

    /// Authenticates a request by its client certificate, when it has no other credential.
    fn by_certificate(&self, request: &Request<'_>, cache: &TokenCache) -> Result<Authenticated, Refusal> {
        const MISSING: &str = "send a token (`Authorization: Bearer …`) or an API key";
        let shown = request.certificate().ok_or_else(|| credential::missing(MISSING))?;
        certificate::check(shown, &self.rules.trusts, request.now())?;
        let caller = match cache.get(&shown.thumbprint, CredentialSource::Handshake, request.now()) {
            Some((caller, _)) => caller,
            None => {
                let epoch = cache.epoch();
                let consumer = self.consumer_of(shown)?;
                let consumer = consumer.ok_or_else(|| unknown("a client certificate".to_owned()))?;
                let id = hex::encode(&shown.thumbprint);
                let caller = Arc::new(Caller::new(
                    Arc::clone(&consumer),
                    self.ledger.listed(consumer.name()),
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
        Ok(Authenticated { caller: self.check_standing(caller, request)?, certificate: true })
    }
}

fn unknown(cause: String) -> Refusal {
    refuse(
        Reason::UnknownConsumer,
        "the credential is good, but its bearer is not registered here; ask the API's owner to add it",
    )
    .cause(cause)
}
