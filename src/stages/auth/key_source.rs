//! Sources of an issuer's keys: fixed ones, a URL, or discovery; and how they are kept fresh.
//!
//! The daemon fetches in the background. A request waits only when it names an unknown key, for one fetch shared by all
//! waiting requests, and at most once in [`COOL_DOWN`]. A key set stays valid for `stale_for` after it was last
//! fetched, so an issuer that is down does not lock out its callers. Without a valid key set, tokens are answered 503
//! and not 401.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::Uri;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::Algorithm;
use quick_cache::sync::Cache;
use rustls::ClientConfig;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::fetch::{FetchError, Fetched, Fetcher, is_safe};
use super::key_set::{KeySet, VerificationKey};
use crate::stages::strict_json;
use crate::state::epoch::Epoch;

/// Longest duration of a fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two successful fetches, unless the response has a `max-age`.
const REFRESH: Duration = Duration::from_secs(300);
/// Bounds of that `max-age`.
const REFRESH_BOUNDS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));
/// Wait after the first failed fetch; doubled up to [`RETRY_MOST`].
const RETRY: Duration = Duration::from_secs(1);
/// Longest wait after a failed fetch.
const RETRY_MOST: Duration = Duration::from_secs(60);
/// A token with an unknown `kid` causes another fetch, at most once in this time.
const COOL_DOWN: Duration = Duration::from_secs(10);
/// How long a request waits for that fetch.
const FETCH_WAIT: Duration = Duration::from_secs(3);
/// How long a `kid` that the issuer does not have is remembered, and causes no fetch.
const UNKNOWN: SignedDuration = SignedDuration::from_secs(30);
/// How many of them are remembered.
const UNKNOWNS: usize = 1024;

/// The issuer's keys were never fetched, or are too old.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// Where an issuer's keys come from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    /// Read from a file, or a secret, when the policy was compiled.
    Fixed(Arc<KeySet>),
    /// Over the network: the position of the set among those that the policy fetches.
    Remote(usize),
}

/// A key set to fetch, as the policy says. Issuers with equal ones share a set.
#[derive(Clone)]
pub(crate) struct RemoteKeys {
    /// Where it is.
    pub(crate) location: Location,
    /// How long it stays valid after it was last fetched.
    pub(crate) stale_for: Duration,
    /// The authorities to trust when fetching it.
    pub(crate) tls: Arc<ClientConfig>,
    /// Equal when the same authorities are trusted.
    pub(crate) trust: Arc<str>,
}

impl PartialEq for RemoteKeys {
    fn eq(&self, other: &Self) -> bool {
        (&self.location, self.stale_for, &self.trust) == (&other.location, other.stale_for, &other.trust)
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKeys({})", self.location)
    }
}

impl KeySource {
    /// The keys that may have signed a token; empty when the issuer has no such key.
    pub(crate) async fn for_token(
        &self,
        key_sets: &[Arc<RemoteKeySet>],
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Vec<Arc<VerificationKey>>, Unavailable> {
        match self {
            Self::Fixed(set) => Ok(set.candidates(kid, algorithm)),
            Self::Remote(position) => {
                let remote = key_sets.get(*position).ok_or(Unavailable)?;
                let found = remote.usable(now)?.candidates(kid, algorithm);
                if !found.is_empty() || remote.is_known_unknown(kid, now) {
                    return Ok(found);
                }
                // The issuer may have rotated its keys since the last fetch.
                let asked = remote.refetch().await;
                let found = remote.usable(now)?.candidates(kid, algorithm);
                if asked && found.is_empty() {
                    remote.note_unknown(kid, now);
                }
                Ok(found)
            }
        }
    }
}

/// Where a key set is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// Its URL.
    Jwks(Uri),
    /// The issuer's metadata (OpenID Connect Discovery 1.0 §4, RFC 8414 §3).
    Discover {
        /// The exact `iss`, which the document must have as its `issuer`.
        issuer: Box<str>,
        /// URLs of the document, in the order they are tried.
        documents: [Uri; 2],
    },
}

impl Location {
    /// The metadata URLs of an issuer; `None` unless it is an https URL, or an http URL on this machine.
    pub(crate) fn discover(issuer: &str) -> Option<Self> {
        let url = issuer.parse::<Uri>().ok().filter(|url| is_safe(url) && url.query().is_none())?;
        let (scheme, authority) = (url.scheme_str()?, url.authority()?);
        let path = url.path().trim_end_matches('/');
        // OpenID Connect appends to the path, RFC 8414 §3.1 inserts before it.
        let openid = format!("{scheme}://{authority}{path}/.well-known/openid-configuration").parse().ok()?;
        let oauth = format!("{scheme}://{authority}/.well-known/oauth-authorization-server{path}").parse().ok()?;
        Some(Self::Discover { issuer: issuer.into(), documents: [openid, oauth] })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jwks(url) => url.fmt(f),
            Self::Discover { issuer, .. } => write!(f, "discovery of {issuer}"),
        }
    }
}

/// A set that was fetched.
#[derive(Debug, Clone)]
struct CachedKeys {
    set: Arc<KeySet>,
    /// When it was last fetched, changed or not.
    confirmed: Timestamp,
    /// When its keys last changed.
    since: Timestamp,
}

/// The state of a key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The last fetch succeeded.
    Ready,
    /// The last fetch failed; the set before is still used.
    Stale,
    /// It was never fetched, or is too old to be used.
    Unavailable,
}

impl Freshness {
    /// The name shown to operators.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Stale => "stale",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A key set over the network. It outlives policies; the daemon runs [`RemoteKeySet::keep_fresh`] once for each.
pub(crate) struct RemoteKeySet {
    source: RemoteKeys,
    stale_for: SignedDuration,
    fetcher: Fetcher,
    /// Advanced when the keys change.
    epoch: Epoch,
    current: RwLock<Option<CachedKeys>>,
    /// Whether the last fetch failed.
    failing: std::sync::atomic::AtomicBool,
    /// When a request last asked for a fetch, and the number of finished fetches at that time.
    asked: Mutex<Option<(Instant, u64)>>,
    /// `kid`s that the issuer did not have, and when they were looked for.
    unknown: Cache<Box<str>, Timestamp>,
    /// Number of finished fetches, failed ones included; requests and the start of the daemon wait on it.
    fetches: watch::Sender<u64>,
    /// Wakes the fetching task before its time.
    wanted: Notify,
}

impl fmt::Debug for RemoteKeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteKeySet({})", self.source.location)
    }
}

impl RemoteKeySet {
    /// Not fetched yet.
    pub(crate) fn new(source: RemoteKeys, epoch: Epoch) -> Self {
        Self {
            stale_for: SignedDuration::try_from(source.stale_for).unwrap_or(SignedDuration::MAX),
            fetcher: Fetcher::new(&source.tls, FETCH_TIMEOUT),
            source,
            epoch,
            current: RwLock::default(),
            failing: false.into(),
            asked: Mutex::default(),
            unknown: Cache::new(UNKNOWNS),
            fetches: watch::Sender::new(0),
            wanted: Notify::new(),
        }
    }

    /// Where it is found, and who is trusted there.
    pub(crate) fn source(&self) -> &RemoteKeys {
        &self.source
    }

    /// Its state.
    pub(crate) fn freshness(&self, now: Timestamp) -> Freshness {
        match (self.usable(now), self.failing.load(std::sync::atomic::Ordering::Relaxed)) {
            (Err(Unavailable), _) => Freshness::Unavailable,
            (Ok(_), true) => Freshness::Stale,
            (Ok(_), false) => Freshness::Ready,
        }
    }

    /// The keys that were fetched last, and when they last changed.
    pub(crate) fn cached(&self) -> Option<(Arc<KeySet>, Timestamp)> {
        self.current().map(|cached| (cached.set, cached.since))
    }

    /// When the keys were last fetched, changed or not.
    pub(crate) fn confirmed(&self) -> Option<Timestamp> {
        self.current().map(|cached| cached.confirmed)
    }

    /// Waits until the first fetch has finished, successfully or not.
    pub(crate) async fn first_fetch(&self) {
        // Fails only if the sender is dropped, and `self` owns it.
        let _ = self.fetches.subscribe().wait_for(|fetches| *fetches > 0).await;
    }

    /// For rehearsals at another time: treats the keys as fetched at `at`.
    pub(crate) fn as_of(&self, at: Timestamp) {
        if let Some(cached) = &mut *self.current.write().unwrap_or_else(PoisonError::into_inner) {
            cached.confirmed = at;
        }
    }

    fn current(&self) -> Option<CachedKeys> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys, unless they are too old.
    fn usable(&self, now: Timestamp) -> Result<Arc<KeySet>, Unavailable> {
        let cached = self.current().ok_or(Unavailable)?;
        if now.duration_since(cached.confirmed) > self.stale_for { Err(Unavailable) } else { Ok(cached.set) }
    }

    fn is_known_unknown(&self, kid: Option<&str>, now: Timestamp) -> bool {
        let noted = kid.and_then(|kid| self.unknown.get(kid));
        noted.is_some_and(|at| now.duration_since(at) < UNKNOWN)
    }

    fn note_unknown(&self, kid: Option<&str>, now: Timestamp) {
        if let Some(kid) = kid {
            self.unknown.insert(kid.into(), now);
        }
    }

    /// Asks for a fetch, unless there was one just before, and waits for it. Returns whether one has finished.
    async fn refetch(&self) -> bool {
        let mut fetches = self.fetches.subscribe();
        let ended = *fetches.borrow_and_update();
        if !self.ask(ended) {
            return false;
        }
        matches!(tokio::time::timeout(FETCH_WAIT, fetches.changed()).await, Ok(Ok(())))
    }

    /// Asks for a fetch. Returns whether there is one to wait for; `ended` have finished so far.
    fn ask(&self, ended: u64) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match *asked {
            Some((at, before)) if at.elapsed() < COOL_DOWN => before == ended,
            _ => {
                *asked = Some((Instant::now(), ended));
                self.wanted.notify_one();
                true
            }
        }
    }

    /// Fetches the set, again and again: when it gets old, or when a request asks for it. Never returns.
    pub(crate) async fn keep_fresh(&self) {
        let mut retry = RETRY;
        loop {
            let wait = match self.fetch().await {
                Ok(fetched) => {
                    retry = RETRY;
                    self.failing.store(false, std::sync::atomic::Ordering::Relaxed);
                    let (least, most) = REFRESH_BOUNDS;
                    fetched.map_or(REFRESH, |kept| kept.clamp(least, most))
                }
                Err(reason) => {
                    self.failing.store(true, std::sync::atomic::Ordering::Relaxed);
                    let cached = self.current().is_some();
                    tracing::warn!(location = %self.source.location, cached, %reason, "a key set could not be fetched");
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MOST);
                    wait
                }
            };
            self.fetches.send_modify(|fetches| *fetches += 1);
            // Elapsed or woken up: fetch again in either case.
            let _ = tokio::time::timeout(wait, self.wanted.notified()).await;
        }
    }

    /// Fetches the set. Returns how long it may be kept.
    async fn fetch(&self) -> Result<Option<Duration>, String> {
        let discovered;
        let url = match &self.source.location {
            Location::Jwks(url) => url,
            Location::Discover { issuer, documents } => {
                discovered = self.discover(issuer, documents).await?;
                &discovered
            }
        };
        let fetched = self.fetcher.get(url, "application/jwk-set+json, application/json").await;
        let Fetched { body, max_age } = fetched.map_err(|error| format!("{url}: {error}"))?;
        let (set, skipped) = KeySet::from_jwks(&body)?;
        let now = Timestamp::now();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match &mut *current {
            Some(cached) if cached.set.same(&set) => cached.confirmed = now,
            changed => {
                tracing::info!(%url, keys = set.keys().len(), ?skipped, "a key set was fetched");
                let set = match changed {
                    Some(before) => set.continuing(&before.set),
                    None => set,
                };
                *changed = Some(CachedKeys { set: Arc::new(set), confirmed: now, since: now });
                drop(current);
                self.unknown.clear();
                self.epoch.advance();
            }
        }
        Ok(max_age)
    }

    /// Finds the URL of the keys in the issuer's metadata.
    async fn discover(&self, issuer: &str, [openid, oauth]: &[Uri; 2]) -> Result<Uri, String> {
        let (url, document) = match self.fetcher.get(openid, "application/json").await {
            Ok(fetched) => (openid, fetched),
            // It may support OAuth without OpenID Connect.
            Err(FetchError::Status(status)) if status.is_client_error() => {
                let fetched = self.fetcher.get(oauth, "application/json").await;
                (oauth, fetched.map_err(|error| format!("{openid}: the status is {status}; {oauth}: {error}"))?)
            }
            Err(error) => return Err(format!("{openid}: {error}")),
        };
        key_set_url(&document.body, issuer).map_err(|error| format!("{url}: {error}"))
    }
}

/// The `jwks_uri` of a metadata document, whose `issuer` must be this one (RFC 8414 §3.3).
fn key_set_url(document: &[u8], issuer: &str) -> Result<Uri, String> {
    let document = strict_json::parse(document).map_err(|error| format!("not JSON: {error}"))?;
    match document.get("issuer").and_then(Value::as_str) {
        Some(named) if named == issuer => {}
        Some(named) => return Err(format!("the metadata are of issuer {named:?}, not of {issuer:?}")),
        None => return Err("the metadata have no `issuer`".to_owned()),
    }
    let url = document.get("jwks_uri").and_then(Value::as_str).and_then(|url| url.parse::<Uri>().ok());
    url.filter(is_safe).ok_or_else(|| "the `jwks_uri` of the metadata is not an https URL".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_metadata_are() {
        for (issuer, openid, oauth) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/tenant/",
                "https://a.example/tenant/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server/tenant",
            ),
        ] {
            let documents = [openid.parse().unwrap(), oauth.parse().unwrap()];
            assert_eq!(Location::discover(issuer), Some(Location::Discover { issuer: issuer.into(), documents }));
        }
        for issuer in ["http://a.example", "corp", "https://a.example?x", ""] {
            assert_eq!(Location::discover(issuer), None, "{issuer}");
        }
    }

    #[test]
    fn metadata_are_believed_for_their_own_issuer_alone() {
        let issuer = "https://a.example";
        let read = |document: Value| key_set_url(document.to_string().as_bytes(), issuer).ok();
        let good = json!({"issuer": issuer, "jwks_uri": "https://keys.example/jwks"});
        assert_eq!(read(good.clone()), Some("https://keys.example/jwks".parse().unwrap()));
        for (member, value) in [
            ("issuer", json!("https://a.example/")),
            ("issuer", json!("https://b.example")),
            ("issuer", Value::Null),
            ("jwks_uri", json!("http://keys.example/jwks")),
            ("jwks_uri", json!("/jwks")),
            ("jwks_uri", Value::Null),
        ] {
            let mut document = good.clone();
            document[member] = value;
            assert_eq!(read(document.clone()), None, "{document}");
        }
    }

    #[test]
    fn keys_are_good_until_they_are_too_old() {
        let tls = Arc::new(
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        );
        let location = Location::Jwks("https://a.example/jwks".parse().unwrap());
        let source = RemoteKeys { location, stale_for: Duration::from_secs(60), tls, trust: "none".into() };
        let keys = RemoteKeySet::new(source, Epoch::default());
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(keys.freshness(at(0)), Freshness::Unavailable, "never fetched");
        let set = Arc::new(KeySet::from_secret(b"secret"));
        *keys.current.write().unwrap() = Some(CachedKeys { set, confirmed: at(100), since: at(100) });
        for (now, failing, expected) in [
            (100, false, Freshness::Ready),
            (160, true, Freshness::Stale),
            (161, true, Freshness::Unavailable),
            (161, false, Freshness::Unavailable),
        ] {
            keys.failing.store(failing, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(keys.freshness(at(now)), expected, "{now} {failing}");
        }
        keys.note_unknown(Some("k"), at(100));
        assert!(keys.is_known_unknown(Some("k"), at(129)) && !keys.is_known_unknown(Some("k"), at(130)));
        assert!(!keys.is_known_unknown(Some("other"), at(100)) && !keys.is_known_unknown(None, at(100)));
    }
}
