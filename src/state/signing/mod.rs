//! The keys that sign tokens of the token service: made here, sealed in the store, shared by all nodes.
//!
//! Keys follow each other. The next one is published before it signs, for longer than verifiers keep a key set; the one before
//! is published until its last token has expired. So a rotation refuses nobody. Of two nodes that make the next key at once, one
//! succeeds, because keys are numbered.

mod key_pair;
mod seal;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

pub(crate) use self::key_pair::SigningAlgorithm;
use self::key_pair::SigningKeyPair;
use self::seal::Seal;
pub(crate) use self::seal::SealSource;
use super::registry::entry::{Change, Entry, SigningKey};
use super::registry::{Registry, StoreError};

/// How long verifiers may keep the key set, in seconds: `max-age` of its response.
pub(crate) const KEY_SET_AGE: i64 = 300;
/// How long a key is published before it signs: two lifetimes of a key set, for caches behind caches.
const PUBLISHED_BEFORE: SignedDuration = SignedDuration::from_secs(2 * KEY_SET_AGE);
/// How long a key is published after its last token has expired: verifiers tolerate that much of skew.
const PUBLISHED_AFTER: SignedDuration = SignedDuration::from_secs(300);
/// Most keys that are opened at once; there are two or three.
const MAX_OPENED: usize = 16;

/// What the policy says of the keys.
#[derive(Debug, Clone)]
pub(crate) struct SigningSettings {
    pub(crate) algorithm: SigningAlgorithm,
    /// How long a key signs.
    pub(crate) rotate: Duration,
    /// How long an access token is valid.
    pub(crate) lifetime: Duration,
    /// What seals them.
    pub(crate) seal: SealSource,
    /// What sealed those before: it opens them, and seals nothing.
    pub(crate) seals_before: Vec<SecretString>,
}

/// Signs with the keys of a store.
pub(crate) struct Signing {
    settings: SigningSettings,
    registry: Arc<Registry>,
    seals: OnceLock<Seals>,
    /// Keys that were opened, by `kid`.
    opened: Mutex<HashMap<Box<str>, Arc<SigningKeyPair>>>,
}

/// The seal, and those before.
struct Seals {
    current: Seal,
    before: Vec<Seal>,
}

impl Seals {
    fn all(&self) -> impl Iterator<Item = &Seal> {
        std::iter::once(&self.current).chain(&self.before)
    }
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signing")
    }
}

/// Why nothing can be signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SigningError {
    /// The store has no key yet, or cannot be used.
    Store(String),
    /// The seal is not the one that the keys were sealed with, or cannot be used.
    Seal(String),
}

impl std::fmt::Display for SigningError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Store(why) | Self::Seal(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for SigningError {}

/// A key, ready to sign.
pub(crate) struct ActiveKey {
    key: Arc<SigningKey>,
    pair: Arc<SigningKeyPair>,
}

impl ActiveKey {
    /// When its last token must have expired, if another key follows.
    pub(crate) fn until(&self) -> Option<Timestamp> {
        self.key.until
    }

    /// Makes a JWT of this type (RFC 7515 §3.1).
    pub(crate) fn sign(&self, typ: &str, claims: &Value) -> Option<String> {
        let header = json!({"alg": &*self.key.algorithm, "typ": typ, "kid": &*self.key.kid});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(message.as_bytes())?;
        Some(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Signing {
    /// Nothing is opened or made yet.
    pub(crate) fn new(settings: SigningSettings, registry: Arc<Registry>) -> Self {
        Self { settings, registry, seals: OnceLock::new(), opened: Mutex::default() }
    }

    /// How long an access token is valid.
    pub(crate) fn lifetime(&self) -> Duration {
        self.settings.lifetime
    }

    fn seals(&self) -> Result<&Seals, SigningError> {
        if let Some(seals) = self.seals.get() {
            return Ok(seals);
        }
        let SigningSettings { seal, seals_before, .. } = &self.settings;
        let open = |source: &SealSource| Seal::open(source).map_err(SigningError::Seal);
        let before = seals_before.iter().map(|secret| open(&SealSource::Secret(secret.clone())));
        let opened = Seals { current: open(seal)?, before: before.collect::<Result<_, _>>()? };
        Ok(self.seals.get_or_init(|| opened))
    }

    /// Derives 256 bits that only a holder of the seal can derive.
    ///
    /// # Errors
    /// The seal cannot be used.
    pub(crate) fn derive(&self, parts: &[&[u8]]) -> Result<[u8; 32], SigningError> {
        Ok(self.seals()?.current.derive(parts))
    }

    /// Whether these bits were derived from these parts, by the seal or by one before it.
    ///
    /// # Errors
    /// The seal cannot be used.
    pub(crate) fn has_derived(&self, parts: &[&[u8]], bits: &[u8]) -> Result<bool, SigningError> {
        Ok(self.seals()?.all().any(|seal| seal.derive(parts).ct_eq(bits).into()))
    }

    /// The key that signs at this time.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    pub(crate) fn active(&self, now: Timestamp) -> Result<ActiveKey, SigningError> {
        let keys = self.registry.signing_keys();
        let key = active(&keys, now).ok_or_else(|| SigningError::Store("there is no signing key yet".to_owned()))?;
        let pair = self.pair(key)?;
        Ok(ActiveKey { key: Arc::clone(key), pair })
    }

    fn pair(&self, key: &SigningKey) -> Result<Arc<SigningKeyPair>, SigningError> {
        let opened = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = opened().get(&key.kid) {
            return Ok(Arc::clone(pair));
        }
        let foreign = || {
            let why = "was sealed with another seal; give that one as `keys.seal_before`";
            SigningError::Seal(format!("signing key {} {why}", key.kid))
        };
        let seal = self.seals()?.all().find(|seal| *seal.id() == *key.seal).ok_or_else(foreign)?;
        let sealed = STANDARD.decode(&*key.sealed).ok();
        let private = sealed.and_then(|sealed| seal.unseal(&about(key), &sealed)).ok_or_else(foreign)?;
        let pair = SigningKeyPair::read(&key.algorithm, &private);
        let pair = Arc::new(pair.ok_or_else(|| SigningError::Store(format!("signing key {} is damaged", key.kid)))?);
        let mut opened = opened();
        if opened.len() >= MAX_OPENED {
            opened.clear();
        }
        opened.insert(key.kid.clone(), Arc::clone(&pair));
        Ok(pair)
    }

    /// The keys that are published at this time, as a JWKS (RFC 7517 §5).
    pub(crate) fn key_set(&self, now: Timestamp) -> Value {
        let keys = self.registry.signing_keys();
        let keys: Vec<_> = keys.iter().filter(|key| key.is_accepted(now)).map(|key| &key.public).collect();
        json!({ "keys": keys })
    }

    /// Makes the first key, and the next one when it is time. Returns the key that was made.
    ///
    /// # Errors
    /// The store or the seal cannot be used.
    pub(crate) async fn maintain(&self, now: Timestamp) -> Result<Option<Arc<SigningKey>>, SigningError> {
        let keys = self.registry.signing_keys();
        let Some(last) = keys.last() else { return self.create(&keys, now, now, "schedule").await };
        self.pair(last)?;
        let rotate = SignedDuration::try_from(self.settings.rotate).unwrap_or(SignedDuration::MAX);
        // A key of another algorithm, or with another seal, is replaced as soon as the policy names a new one.
        let is_as_before =
            *last.algorithm == *self.settings.algorithm.name() && *last.seal == *self.seals()?.current.id();
        let due = if is_as_before { last.active.saturating_add(rotate).unwrap_or(Timestamp::MAX) } else { now };
        let publish = due.saturating_sub(PUBLISHED_BEFORE).unwrap_or(due);
        if now < publish || now < last.active {
            return Ok(None);
        }
        let active = due.max(now.saturating_add(PUBLISHED_BEFORE).unwrap_or(now));
        self.create(&keys, now, active, "schedule").await
    }

    /// Makes the next key, whatever the schedule. `at_once`: it signs at once, and the tokens of all others are refused.
    ///
    /// # Errors
    /// The store or the seal cannot be used.
    pub(crate) async fn rotate(
        &self,
        now: Timestamp,
        at_once: bool,
        by: &str,
    ) -> Result<Option<Arc<SigningKey>>, SigningError> {
        let keys = self.registry.signing_keys();
        let first = keys.is_empty();
        let active = if at_once || first { now } else { now.saturating_add(PUBLISHED_BEFORE).unwrap_or(now) };
        self.create(&keys, now, active, by).await
    }

    /// Creates the key after these; the last of them signs until then. `None`: another node has created it.
    async fn create(
        &self,
        keys: &[Arc<SigningKey>],
        now: Timestamp,
        active: Timestamp,
        by: &str,
    ) -> Result<Option<Arc<SigningKey>>, SigningError> {
        let number = keys.last().map_or(1, |last| last.number.saturating_add(1));
        let key = Arc::new(self.make(number, now, active, by)?);
        let lifetime = SignedDuration::try_from(self.settings.lifetime).unwrap_or_default();
        let end = if active <= now && !keys.is_empty() {
            now
        } else {
            active.saturating_add(lifetime.saturating_add(PUBLISHED_AFTER)).unwrap_or(Timestamp::MAX)
        };
        let mut changes = vec![Change::Create(Entry::SigningKey(SigningKey::clone(&key)))];
        for before in keys.iter().filter(|before| before.until.is_none_or(|until| until > end)) {
            changes.push(Change::Put(Entry::SigningKey(SigningKey { until: Some(end), ..SigningKey::clone(before) })));
        }
        match self.registry.change(changes).await {
            Ok(()) => Ok(Some(key)),
            Err(StoreError::Exists) => Ok(None),
            Err(error) => Err(SigningError::Store(error.to_string())),
        }
    }

    fn make(&self, number: u64, now: Timestamp, active: Timestamp, by: &str) -> Result<SigningKey, SigningError> {
        let seal = &self.seals()?.current;
        let made = || {
            let pair = SigningKeyPair::generate(self.settings.algorithm)?;
            let (kid, public) = pair.public()?;
            let mut key = SigningKey {
                number,
                kid,
                algorithm: self.settings.algorithm.name().into(),
                public,
                sealed: Box::default(),
                seal: seal.id().into(),
                active,
                until: None,
                created: now,
                created_by: by.into(),
            };
            key.sealed = STANDARD.encode(seal.seal(&about(&key), &pair.private()?)?).into();
            Some(key)
        };
        made().ok_or_else(|| SigningError::Seal("no signing key can be made".to_owned()))
    }
}

/// What is sealed together with a private key, so that it is not taken for another one.
fn about(key: &SigningKey) -> String {
    format!("{} {} {}", key.number, key.algorithm, key.kid)
}

/// The newest key that is active.
pub(crate) fn active(keys: &[Arc<SigningKey>], now: Timestamp) -> Option<&Arc<SigningKey>> {
    keys.iter().rev().find(|key| key.active <= now && key.is_accepted(now))
}

#[cfg(test)]
mod tests;
