//! Authenticates requests: decides which consumer a request comes from, by exactly one credential, and what that
//! credential was granted.
//!
//! Only this folder makes a [`Caller`]. What the caller wants is [`super::scope`]'s business. Failing to decide (no keys to
//! verify with, no store) has its own refusal, 503, and is never reported as a bad credential.
//!
//! 1. `credential` finds the credential. If `cache` does not know it, `bearer` (with `token`, `jwt`, `introspection`),
//!    `api_key` or `certificate` verifies it, and `directory` finds its consumer.
//! 2. `binding`: the sender has what the credential is bound to, a key (`dpop`) or a client certificate.
//! 3. `standing`: operators have not revoked it or suspended its consumer; their grants are added.
//!
//! Steps 2 and 3, and the credential's times, are checked on every request, whatever the cache knows.

pub(crate) mod api_key;
pub(crate) mod api_key_format;
pub(crate) mod attributes;
mod bearer;
mod binding;
pub(crate) mod cache;
pub(crate) mod caller;
pub(crate) mod certificate;
pub(crate) mod claim_path;
pub(crate) mod claims;
pub(crate) mod client;
pub(crate) mod client_basic;
pub(crate) mod client_key;
pub(crate) mod client_proof;
mod credential;
mod cross_site;
pub(crate) mod directory;
pub(crate) mod dpop;
pub(crate) mod failed_attempts;
pub(crate) mod fetch;
pub(crate) mod forwarded_certificate;
mod forwarded_claims;
pub(crate) mod grant;
pub(crate) mod introspection;
pub(crate) mod invitation;
pub(crate) mod jwt;
pub(crate) mod key_location;
pub(crate) mod key_rotation;
pub(crate) mod key_set;
pub(crate) mod key_source;
pub(crate) mod locations;
pub(crate) mod new_client;
mod own_keys;
pub(crate) mod pairs;
pub(crate) mod remote_key_set;
pub(crate) mod required_claim;
mod rules;
pub(crate) mod scopes_and_roles;
mod standing;
pub(crate) mod token;
mod weak_keys;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::HeaderValue;
use jiff::Timestamp;

use self::attributes::ClaimedAttributes;
use self::cache::{SentAs, TokenCache};
use self::caller::Verified;
pub(crate) use self::caller::{Caller, Consumer, CredentialKind};
use self::claims::{Confirmation, Times, refuse};
use self::credential::{Credential, Scheme};
use self::dpop::{Dpop, Nonces, Replays};
use self::failed_attempts::Attempt;
use self::introspection::IntrospectionClient;
use self::key_location::RemoteKeys;
use self::key_set::KeySet;
use self::key_source::KeySources;
use self::locations::{CredentialLocations, TokenLocation};
use self::own_keys::OwnKeys;
use self::remote_key_set::RemoteKeySet;
pub(crate) use self::rules::Rules;
use crate::exchange::{ClientCertificate, Request, Tick};
use crate::refusal::{Reason, Refusal};
use crate::secrets::stale::StaleSecrets;
use crate::state::epoch::Epoch;
use crate::state::ledger::Ledger;
use crate::state::registry::entry::hex;
use crate::state::registry::revocation_key::RevocationKey;
use crate::state::registry::{Health, Registry, UnusualUse};

/// The state of the process that authentication uses; it outlives policies.
pub(crate) struct State {
    /// What may not go on, because a secret that it needs is stale.
    pub(crate) stale: Arc<StaleSecrets>,
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
    stale: Arc<StaleSecrets>,
    registry: Arc<Registry>,
    ledger: Arc<Ledger>,
    keys: KeySources,
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
    /// What is unusual about this use of the credential.
    pub(crate) unusual: Option<UnusualUse>,
}

/// The authentication of one request, while it is under way.
struct Underway<'a, 'r> {
    request: &'r Request<'r>,
    /// Where its credential may be.
    locations: &'r CredentialLocations,
    cache: &'r TokenCache,
    /// Whose credential was sent, once that is known.
    holder: &'r mut Option<Arc<Caller>>,
    /// Set when the attempt is counted before it is decided.
    attempt: Option<Attempt<'a>>,
    /// It was authenticated before, and is asked for again while it goes on: what it has proven and where it was used is known.
    again: bool,
}

impl Authentication {
    /// Binds rules to the state of the process. Key sets that the previous policy has too are taken over.
    pub(crate) fn bind(rules: Arc<Rules>, state: State, previous: Option<&Self>) -> Self {
        let key_set = |wanted: &RemoteKeys| {
            let known = || previous.into_iter().flat_map(|previous| &previous.keys.remote);
            match known().find(|known| known.source() == wanted) {
                Some(known) => Arc::clone(known),
                None => {
                    let before = known().find(|known| known.source().is_same_set(wanted));
                    Arc::new(RemoteKeySet::new(wanted.clone(), state.epoch.clone(), before.map(|set| &**set)))
                }
            }
        };
        Self {
            keys: KeySources {
                remote: rules.key_sets.iter().map(key_set).collect(),
                own: OwnKeys::new(Arc::clone(&state.registry)),
            },
            introspection: rules.introspection.iter().map(IntrospectionClient::new).collect(),
            dpop: Dpop::new(rules.dpop.clone(), state.replays, state.nonces),
            stale: state.stale,
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
        &self.keys.remote
    }

    /// The key set at a position of [`Rules::key_sets`].
    pub(crate) fn key_set(&self, position: usize) -> Option<&RemoteKeySet> {
        self.keys.remote.get(position).map(|set| &**set)
    }

    /// The keys of the token service whose tokens are accepted.
    pub(crate) fn own_keys(&self, now: Timestamp) -> KeySet {
        self.keys.own.set(now)
    }

    /// The nonce that the next DPoP proof may carry (RFC 9449 §8).
    pub(crate) fn dpop_nonce(&self, now: Timestamp) -> HeaderValue {
        self.dpop.next_nonce(now)
    }

    /// Authenticates a request whose credential is in one of these places. If it is refused, `holder` is the caller whose credential
    /// that was, as far as that is known.
    ///
    /// Waits only for introspection, for a key set that must be fetched because a token names an unknown key, for the
    /// store where a DPoP proof must be claimed, and for what becomes of other attempts of the same address.
    pub(crate) async fn authenticate(
        &self,
        request: &Request<'_>,
        locations: &CredentialLocations,
        cache: &TokenCache,
        holder: &mut Option<Arc<Caller>>,
    ) -> Result<Authenticated, Refusal> {
        let failures = self.rules.failures.as_ref();
        if let Some(failures) = failures {
            failures.permit(&self.ledger, request.client(), request.tick)?;
        }
        let mut underway = Underway { request, locations, cache, holder, attempt: None, again: false };
        let known = self.identify(&mut underway).await;
        let failed = known.as_ref().err().is_some_and(failed_attempts::is_failure);
        match (underway.attempt, failures) {
            (Some(attempt), _) if failed => drop(attempt),
            (Some(attempt), _) => attempt.give_back(),
            (None, Some(failures)) if failed => failures.note(&self.ledger, request.client(), request.tick),
            (None, _) => {}
        }
        known.map_err(|refusal| match locations.challenges() {
            None => refusal,
            Some(challenges) => refusal.challenges(challenges),
        })
    }

    /// Makes an attempt to show a credential, for an address that has not failed too often. A failure counts.
    pub(crate) fn attempt<T>(
        &self,
        address: IpAddr,
        tick: Tick,
        attempt: impl FnOnce() -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let Some(failures) = &self.rules.failures else { return attempt() };
        failures.permit(&self.ledger, address, tick)?;
        attempt().inspect_err(|refusal| {
            if failed_attempts::is_failure(refusal) {
                failures.note(&self.ledger, address, tick);
            }
        })
    }

    /// Decides whether a request that was authenticated, and still goes on, would be now. Its proof of possession is not asked for
    /// again, and neither a success nor a failure counts as an attempt.
    pub(crate) async fn again(
        &self,
        request: &Request<'_>,
        locations: &CredentialLocations,
        cache: &TokenCache,
    ) -> Result<Authenticated, Refusal> {
        let mut holder = None;
        let mut underway = Underway { request, locations, cache, holder: &mut holder, attempt: None, again: true };
        self.identify(&mut underway).await
    }

    async fn identify<'a>(&'a self, underway: &mut Underway<'a, '_>) -> Result<Authenticated, Refusal> {
        self.store_available()?;
        let (request, locations) = (underway.request, underway.locations);
        let (caller, scheme) = match credential::find(locations, request.headers, request.received_query)? {
            Credential::Token { scheme, text, location } => {
                if matches!(location, TokenLocation::Cookie(_)) && !underway.again {
                    cross_site::permit(request, &locations.cookie_origins)?;
                }
                (self.bearer(text, underway).await?, Some((scheme, text)))
            }
            Credential::Key(key) => (self.key(&key, underway)?, None),
            Credential::None => return self.by_certificate(underway),
        };
        *underway.holder = Some(Arc::clone(&caller));
        let is_bound = caller.confirmation() != &Confirmation::default() || matches!(scheme, Some((Scheme::Dpop, _)));
        if is_bound && !underway.again {
            self.reserve(underway).await?;
            // Boxed: rare; it would be part of every request's future.
            Box::pin(self.confirm(&caller, scheme, request)).await?;
        }
        let certificate = match request.certificate().filter(|_| locations.certificate) {
            Some(shown) => self.certificate_beside(shown, &caller, request.now())?,
            None => false,
        };
        let (caller, unusual) = self.check_standing(caller, request, !underway.again)?;
        Ok(Authenticated { caller, certificate, unusual })
    }

    /// Counts the attempt before it waits for something.
    async fn reserve<'a>(&'a self, underway: &mut Underway<'a, '_>) -> Result<(), Refusal> {
        if let Some(failures) = &self.rules.failures
            && underway.attempt.is_none()
            && !underway.again
        {
            let Request { tick, .. } = *underway.request;
            underway.attempt = failures.reserve(&self.ledger, underway.request.client(), tick).await?;
        }
        Ok(())
    }

    /// Decides whether the registry is current enough to let anyone in.
    fn store_available(&self) -> Result<(), Refusal> {
        let unavailable = |cause: &'static str| Err(unavailable(cause.to_owned()));
        match self.registry.health() {
            Health::Ready | Health::Unwritable => Ok(()),
            Health::Stale if self.rules.serve_stale => Ok(()),
            Health::Stale => unavailable("the store is out of reach, and `store.on_failure` is `refuse`"),
            Health::Loading => unavailable("the store has not been read yet"),
        }
    }

    /// The caller that sends this API key.
    fn key(&self, key: &[u8], underway: &mut Underway<'_, '_>) -> Result<Arc<Caller>, Refusal> {
        let (cache, now) = (underway.cache, underway.request.now());
        let (caller, times) = match cache.get(key, SentAs::Key, now) {
            Some(known) => known,
            None => {
                let epoch = cache.epoch();
                let (caller, times) =
                    self.rules.keys.caller(key, &self.rules.directory, &self.registry, &self.ledger)?;
                let caller = Arc::new(caller);
                cache.insert(key, &caller, times, i64::MAX, epoch);
                (caller, times)
            }
        };
        api_key::check(times, now).inspect_err(|_| *underway.holder = Some(Arc::clone(&caller)))?;
        Ok(caller)
    }

    /// Authenticates a request by its client certificate, when it has no other credential.
    fn by_certificate(&self, underway: &mut Underway<'_, '_>) -> Result<Authenticated, Refusal> {
        let (request, locations) = (underway.request, underway.locations);
        let shown = request.certificate().filter(|_| locations.certificate);
        let shown = shown.ok_or_else(|| credential::missing(format!("send {}", locations.wanted())))?;
        let valid = certificate::check(shown, &self.rules.trusts, request.now());
        // Its chain was verified when the connection was opened: whose it is does not depend on whether it is still valid.
        let caller = self.certified(shown, underway);
        *underway.holder = caller.as_ref().ok().map(Arc::clone);
        valid?;
        let (caller, unusual) = self.check_standing(caller?, request, !underway.again)?;
        Ok(Authenticated { caller, certificate: true, unusual })
    }

    /// The caller whose client certificate this is.
    fn certified(&self, shown: &ClientCertificate, underway: &Underway<'_, '_>) -> Result<Arc<Caller>, Refusal> {
        let (cache, now) = (underway.cache, underway.request.now());
        if let Some((caller, _)) = cache.get(&shown.thumbprint, SentAs::Certificate, now) {
            return Ok(caller);
        }
        let epoch = cache.epoch();
        let consumer = self.consumer_of(shown)?.ok_or_else(|| unknown("a client certificate".to_owned()))?;
        let caller = Arc::new(Caller::new(
            Arc::clone(&consumer),
            consumer.account(&self.ledger),
            Verified {
                kind: CredentialKind::Certificate,
                id: Some(hex::encode(&shown.thumbprint).into()),
                issuer: None,
                user: None,
                networks: None,
                attributes: ClaimedAttributes::default(),
                forwarded: Box::default(),
                granted: consumer.ceiling().map(<[_]>::to_vec).unwrap_or_default(),
                revocation_keys: vec![RevocationKey::certificate(&shown.thumbprint)],
                issued: Some(shown.not_before),
                confirmation: Confirmation::default(),
                usage: None,
            },
        ));
        let times = Times { expires: shown.not_after, not_before: None, skew: 0 };
        cache.insert(&shown.thumbprint, &caller, times, i64::MAX, epoch);
        Ok(caller)
    }
}

fn unavailable(cause: String) -> Refusal {
    refuse(Reason::IdentityUnavailable, "identity cannot be checked now; try again shortly").cause(cause)
}

fn unknown(cause: String) -> Refusal {
    refuse(
        Reason::UnknownConsumer,
        "the credential is good, but its bearer is not registered here; ask the API's owner to add it",
    )
    .cause(cause)
}
