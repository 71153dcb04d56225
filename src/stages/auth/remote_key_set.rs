//! A key set over the network, and how it is kept fresh.
//!
//! The daemon fetches in the background. A request waits only when it names an unknown key, for one fetch shared by all
//! waiting requests, and at most once in [`COOL_DOWN`]. A key set stays valid for `stale_for` after it was last
//! fetched, so an issuer that is down does not lock out its callers. Without a valid key set, tokens are answered 503
//! and not 401.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::Uri;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::Algorithm;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, watch};

use super::fetch::{FetchError, Fetched, Fetcher};
use super::key_location::{Location, RemoteKeys, key_set_url};
use super::key_set::{KeySet, VerificationKey};
use crate::state::epoch::Epoch;

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
    failing: AtomicBool,
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
    /// Not fetched yet. If `before` is the same key set under other settings, its keys are used until then.
    pub(crate) fn new(source: RemoteKeys, epoch: Epoch, before: Option<&Self>) -> Self {
        let current = before.and_then(Self::current);
        Self {
            stale_for: SignedDuration::try_from(source.stale_for).unwrap_or(SignedDuration::MAX),
            fetcher: Fetcher::new(&source.egress, &source.trust, source.egress.timeout),
            source,
            epoch,
            current: RwLock::new(current),
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
        match (self.usable(now), self.failing.load(Ordering::Relaxed)) {
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

    /// The keys that may have signed a token; empty when the issuer has no such key.
    ///
    /// "No such key" is decided only by a set that was fetched after the token came, or just before. If it cannot be
    /// fetched, the issuer may have rotated its keys, and the token is neither accepted nor rejected.
    pub(super) async fn for_token(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        now: Timestamp,
    ) -> Result<Vec<Arc<VerificationKey>>, Unavailable> {
        let found = self.usable(now)?.candidates(kid, algorithm);
        if !found.is_empty() || self.is_known_unknown(kid, now) {
            return Ok(found);
        }
        if !self.refetch().await {
            return Err(Unavailable);
        }
        let found = self.usable(now)?.candidates(kid, algorithm);
        if found.is_empty() {
            self.note_unknown(kid, now);
        }
        Ok(found)
    }

    /// Makes sure that the set was fetched now or less than [`COOL_DOWN`] ago. Returns false if the fetch failed, or
    /// takes too long.
    async fn refetch(&self) -> bool {
        let mut fetches = self.fetches.subscribe();
        let finished = *fetches.borrow_and_update();
        if self.begin_fetch(finished)
            && !matches!(tokio::time::timeout(FETCH_WAIT, fetches.changed()).await, Ok(Ok(())))
        {
            return false;
        }
        !self.failing.load(Ordering::Relaxed)
    }

    /// Asks for a fetch, unless one was asked for less than [`COOL_DOWN`] ago. Returns whether one is running;
    /// `finished` is the number of those that are not.
    fn begin_fetch(&self, finished: u64) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match *asked {
            Some((at, before)) if at.elapsed() < COOL_DOWN => before == finished,
            _ => {
                *asked = Some((Instant::now(), finished));
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
                    self.failing.store(false, Ordering::Relaxed);
                    self.refresh_after(fetched)
                }
                Err(reason) => {
                    self.failing.store(true, Ordering::Relaxed);
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

    /// How long to wait after a successful fetch; never so long that the keys would be too old before the next.
    fn refresh_after(&self, max_age: Option<Duration>) -> Duration {
        let (least, most) = REFRESH_BOUNDS;
        let wait = max_age.map_or(REFRESH, |max_age| max_age.clamp(least, most));
        wait.min(self.source.stale_for / 2).max(RETRY)
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

#[cfg(test)]
mod tests {
    use rustls::ClientConfig;

    use super::*;
    use crate::egress::Trust;

    fn key_set(stale_for: Duration) -> RemoteKeySet {
        let tls = Arc::new(
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        );
        let location = Location::Jwks("https://a.example/jwks".parse().unwrap());
        let trust = Trust { config: tls, identity: "none".into() };
        let source = RemoteKeys { location, stale_for, trust, egress: Arc::default() };
        RemoteKeySet::new(source, Epoch::default(), None)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn fetched(keys: &RemoteKeySet, second: i64) {
        let set = Arc::new(KeySet::from_secret(b"secret"));
        *keys.current.write().unwrap() = Some(CachedKeys { set, confirmed: at(second), since: at(second) });
    }

    #[test]
    fn keys_are_good_until_they_are_too_old() {
        let keys = key_set(Duration::from_secs(60));
        assert_eq!(keys.freshness(at(0)), Freshness::Unavailable, "never fetched");
        fetched(&keys, 100);
        for (now, failing, expected) in [
            (100, false, Freshness::Ready),
            (160, true, Freshness::Stale),
            (161, true, Freshness::Unavailable),
            (161, false, Freshness::Unavailable),
        ] {
            keys.failing.store(failing, Ordering::Relaxed);
            assert_eq!(keys.freshness(at(now)), expected, "{now} {failing}");
        }
        keys.note_unknown(Some("k"), at(100));
        assert!(keys.is_known_unknown(Some("k"), at(129)) && !keys.is_known_unknown(Some("k"), at(130)));
        assert!(!keys.is_known_unknown(Some("other"), at(100)) && !keys.is_known_unknown(None, at(100)));
    }

    #[test]
    fn a_set_is_fetched_again_before_it_is_too_old() {
        let seconds = Duration::from_secs;
        for (stale_for, max_age, wait) in [
            (86_400, None, 300),
            (86_400, Some(5), 60),
            (86_400, Some(86_400), 3600),
            (600, None, 300),
            (60, None, 30),
            (60, Some(3600), 30),
            (1, None, 1),
        ] {
            let keys = key_set(seconds(stale_for));
            assert_eq!(keys.refresh_after(max_age.map(seconds)), seconds(wait), "{stale_for} {max_age:?}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_only_by_a_set_that_was_fetched() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        // The outcome of the fetch that the token causes: `None` does not finish.
        for (failing, expected) in [(Some(true), None), (Some(false), Some(0)), (None, None)] {
            let keys = key_set(Duration::from_secs(3600));
            fetched(&keys, 100);
            let ask = keys.for_token(Some("new"), Algorithm::RS256, at(200));
            let fetch = async {
                if let Some(failing) = failing {
                    keys.wanted.notified().await;
                    keys.failing.store(failing, Ordering::Relaxed);
                    keys.fetches.send_modify(|fetches| *fetches += 1);
                }
            };
            let (found, ()) = runtime.block_on(async { tokio::join!(ask, fetch) });
            assert_eq!(found.ok().map(|keys| keys.len()), expected, "{failing:?}");
            // In the cool-down the same holds, without another fetch.
            let again = runtime.block_on(keys.for_token(Some("newer"), Algorithm::RS256, at(200)));
            assert_eq!(again.ok().map(|keys| keys.len()), expected, "{failing:?}, again");
        }
    }

    #[test]
    fn other_settings_of_the_same_set_begin_with_its_keys() {
        let before = key_set(Duration::from_secs(60));
        fetched(&before, 100);
        let source = RemoteKeys { stale_for: Duration::from_secs(3600), ..before.source.clone() };
        let after = RemoteKeySet::new(source, Epoch::default(), Some(&before));
        assert_eq!(after.confirmed(), Some(at(100)));
        assert!(after.usable(at(1000)).is_ok() && before.usable(at(1000)).is_err());
    }
}
