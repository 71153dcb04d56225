//! State that operators, and callers for themselves, change at run time and that must not be lost: consumers, API keys, clients,
//! invitations, grants, suspensions, revocations.
//!
//! - `entry`: what is kept, with `client`; `family`: what is kept of refresh tokens, and read when one is used; `revocation_key`: what a
//!   revocation names, and how it is recognised on a request; `digest`;
//! - `memory`, `revoked`, `usage`: the working set, which requests consult (`lists`: many entries of it at once); `pending_load`, `since`: how it is read anew;
//! - `store`: the one interface of `embedded` (a folder of this machine) and `redis` (many nodes), with `store_config`,
//!   `store_error` and `health`; `underway`: a change that is being made;
//! - `single_use`: what only one request on one node may use, such as a DPoP proof.
//!
//! Requests never wait for a store, except to claim a single-use value or to use a refresh token. A change is first written to the store and then
//! put in force; it is in force on this node when [`Registry::change`] returns. A registry outlives policies: a reload
//! that names the same store keeps the same registry.

mod client;
mod digest;
mod embedded;
pub(crate) mod entry;
mod family;
mod family_limit;
mod health;
mod lists;
mod memory;
mod pending_load;
mod redis;
pub(crate) mod revocation_key;
mod revoked;
mod since;
mod single_use;
mod store;
mod store_config;
mod store_error;
mod underway;
mod usage;

use std::sync::atomic::AtomicU8;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{SemaphorePermit, oneshot};

use self::embedded::Embedded;
pub(crate) use self::embedded::StoreFolder;
use self::entry::{Change, Client, Consumer, Digest, Entry, Identity, Invitation, Key, Kind, Suspension};
pub(crate) use self::family::Family;
use self::family_limit::FamilyLimit;
pub(crate) use self::health::Health;
use self::memory::Memory;
pub(crate) use self::memory::{ConsumerState, Part};
use self::pending_load::PendingLoad;
use self::redis::Redis;
use self::revocation_key::RevocationKey;
use self::store::Store;
pub(crate) use self::store_config::StoreConfig;
pub(crate) use self::store_error::StoreError;
pub(crate) use self::underway::Underway;
pub(crate) use self::usage::{UnusualUse, Usage};
use super::counters::Counters;
use super::epoch::Epoch;
use super::ledger::Clock;
use super::redis::{Client as RedisClient, StoreDeadlines};

/// How often uses of keys are written.
const FLUSH: Duration = Duration::from_secs(10);
/// How often expired entries are removed, in flushes.
const SWEEP: u32 = 60;
/// Entries read in one step of that.
const PAGE: usize = 1000;
/// How many changes of callers may wait at once.
const OF_CALLERS: usize = 8;
/// How long the start waits for a store that cannot be reached, before requests are accepted (and refused).
const FIRST_LOAD: Duration = Duration::from_secs(3);

/// The registry: keys, invitations, revocations, grants, suspensions and run-time consumers.
pub(crate) struct Registry {
    config: Option<StoreConfig>,
    store: OnceLock<Arc<Store>>,
    memory: Arc<Memory>,
    health: Arc<AtomicU8>,
    /// The limits that are counted in the store.
    counters: OnceLock<Counters>,
    clock: Clock,
    family_limit: FamilyLimit,
    /// One change at a time: memory sees them in the store's order.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Changes that callers make for themselves, beside those of operators.
    of_callers: tokio::sync::Semaphore,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({:?})", self.health())
    }
}

impl Registry {
    /// Returns a registry that is not open yet; without a store it stays empty.
    pub(crate) fn new(config: Option<StoreConfig>, epoch: Epoch, clock: Clock) -> Self {
        let health = if config.is_none() { Health::Ready } else { Health::Loading };
        Self {
            config,
            store: OnceLock::new(),
            memory: Arc::new(Memory::new(epoch)),
            health: Arc::new(AtomicU8::new(health as u8)),
            counters: OnceLock::new(),
            clock,
            family_limit: FamilyLimit::default(),
            changing: Arc::default(),
            of_callers: tokio::sync::Semaphore::new(OF_CALLERS),
        }
    }

    /// The store that the policy names.
    pub(crate) fn config(&self) -> Option<&StoreConfig> {
        self.config.as_ref()
    }

    /// Returns whether it is in sync with its store.
    pub(crate) fn health(&self) -> Health {
        Health::load(&self.health)
    }

    /// Opens the store and reads it. Does nothing if it is open already.
    ///
    /// A store on this machine must be available. One on the network is awaited briefly, then loaded in the background.
    pub(crate) async fn open(&self) -> Result<(), StoreError> {
        if self.store.get().is_some() {
            return Ok(());
        }
        match self.config.clone() {
            None => {}
            Some(StoreConfig::Embedded { folder }) => {
                let (memory, health) = (Arc::clone(&self.memory), Arc::clone(&self.health));
                let (kept, clock) = (folder.clone(), self.clock);
                let opened = tokio::task::spawn_blocking(move || {
                    let store = Embedded::open(StoreFolder::new(&folder), &health)?;
                    let mut load = PendingLoad::new(&memory);
                    store.load(|entry| load.put(entry), |key, last| memory.learn_use(key, last))?;
                    load.replace();
                    Ok(store)
                });
                let opened = opened.await.map_err(|error| StoreError::Unusable(error.to_string()))?;
                // Fails only if the store was opened twice at once, which the store itself prevents.
                let _ = self.store.set(Arc::new(Store::Embedded(opened?)));
                let counters = tokio::task::spawn_blocking(move || Counters::in_folder(&kept, clock)).await;
                let counters = counters.map_err(|error| StoreError::Unusable(error.to_string()))?;
                let _ = self.counters.set(counters.map_err(StoreError::Unusable)?);
                Health::Ready.store(&self.health);
            }
            Some(StoreConfig::Redis { servers, prefix, timeout }) => {
                let deadlines = StoreDeadlines(timeout);
                let store = Redis::open(&servers, &prefix, deadlines, &self.memory, &self.health)?;
                let loaded = store.loaded();
                let counters = Counters::in_redis(
                    RedisClient::trying_once(&servers).map_err(|error| StoreError::Unusable(error.to_string()))?,
                    &prefix,
                    deadlines,
                    self.clock,
                );
                let connected = counters.connected();
                let _ = self.counters.set(counters);
                let _ = self.store.set(Arc::new(Store::Redis(Box::new(store))));
                let end = tokio::time::Instant::now() + FIRST_LOAD;
                if tokio::time::timeout_at(end, loaded).await.is_err() {
                    tracing::warn!("the store has not been read yet; requests are answered with 503 until then");
                }
                // Requests wait for limits much shorter than it may take to connect. Who cannot be counted is reported later.
                let _ = tokio::time::timeout_at(end, connected).await;
            }
        }
        Ok(())
    }

    /// Writes uses of keys and removes expired entries periodically, until `stopped` resolves.
    pub(crate) async fn keep(&self, mut stopped: oneshot::Receiver<()>) {
        let mut round = 0_u32;
        while tokio::time::timeout(FLUSH, &mut stopped).await.is_err() {
            self.probe().await;
            self.flush().await;
            round = round.wrapping_add(1);
            if round.is_multiple_of(SWEEP)
                && let Err(error) = self.sweep(Timestamp::now()).await
            {
                tracing::warn!(%error, "expired entries could not be removed from the store");
            }
        }
    }

    /// Tries to write to a store that could not be written.
    async fn probe(&self) {
        if let Some(Store::Embedded(store)) = self.store.get().map(|store| &**store) {
            let store = store.clone();
            // The store logs when it can be written again.
            let _ = tokio::task::spawn_blocking(move || store.probe()).await;
        }
    }

    /// Writes the uses of keys that have not been written yet.
    pub(crate) async fn flush(&self) {
        // While the store is away, uses are kept until they can be written.
        let Some(store) = self.store.get().filter(|_| self.health() == Health::Ready) else { return };
        let uses = self.memory.fresh_uses();
        if !uses.is_empty()
            && let Err(error) = store.note_uses(uses.clone()).await
        {
            self.memory.keep_fresh(&uses);
            tracing::warn!(%error, "the times at which API keys were last used could not be saved");
        }
    }

    /// Removes expired entries from memory and from the store.
    async fn sweep(&self, now: Timestamp) -> Result<(), StoreError> {
        self.memory.revoked.sweep(now);
        let Some(store) = self.store.get() else { return Ok(()) };
        store.sweep_families(now).await?;
        for kind in [
            Kind::Grant,
            Kind::Suspension,
            Kind::Revocation,
            Kind::SigningKey,
            Kind::Invitation,
            Kind::Key,
            Kind::Client,
        ] {
            let mut after = None;
            loop {
                let page = store.page(kind, after.take(), PAGE).await?;
                // An operator may have replaced an entry since it was read, and that one has not ended.
                let ended = page.iter().filter(|entry| entry.has_ended(now)).cloned().map(Change::RemoveIf);
                let ended: Vec<Change> = ended.collect();
                if !ended.is_empty() {
                    self.change(ended).await?;
                }
                match page.last() {
                    Some(last) if page.len() == PAGE => after = Some(last.id()),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Makes all changes or none. They are stored, and in force on this node, when this returns.
    pub(crate) async fn change(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.change_if(|| true, changes).await
    }

    /// Makes all changes if `holds` returns true once no other change is being made on this node.
    pub(crate) async fn change_if(&self, holds: impl FnOnce() -> bool, changes: Vec<Change>) -> Result<(), StoreError> {
        self.begin(|| holds().then_some(changes)).await?.done().await
    }

    /// Begins to make all changes that `decide` returns once no other change is being made on this node; if it returns none, that is
    /// [`StoreError::Exists`]. Nothing is changed if this is dropped before it returns.
    pub(crate) async fn begin(&self, decide: impl FnOnce() -> Option<Vec<Change>>) -> Result<Underway, StoreError> {
        let store = Arc::clone(self.opened()?);
        let one_at_a_time = Arc::clone(&self.changing).lock_owned().await;
        let changes = decide().ok_or(StoreError::Exists)?;
        let memory = Arc::clone(&self.memory);
        // In a task of its own: when nobody waits any more, what is stored must be in force all the same.
        Ok(Underway::new(tokio::spawn(async move {
            let _one_at_a_time = one_at_a_time;
            store.apply(changes).await?.into_iter().for_each(|change| memory.apply(change));
            Ok(())
        })))
    }

    /// The turn of a caller that changes what is its own; `None` if too many do. Few of them wait at once, so that operators never
    /// wait for many.
    pub(crate) fn turn_of_caller(&self) -> Option<SemaphorePermit<'_>> {
        self.of_callers.try_acquire().ok()
    }

    /// Puts a change in force that is stored already, or need not be stored.
    pub(crate) fn learn(&self, change: Change) {
        self.memory.apply(change);
    }

    /// Returns one entry from the store.
    pub(crate) async fn get(&self, kind: Kind, id: &str) -> Result<Option<Entry>, StoreError> {
        match self.store.get() {
            Some(store) => store.get(kind, id).await,
            None => Ok(None),
        }
    }

    /// Returns whether a revocation with this id is in force here, even if the store has lost it.
    pub(crate) fn has_revocation(&self, id: &str) -> bool {
        RevocationKey::of_id(id).is_some_and(|key| self.memory.revoked.contains(key))
    }

    /// Returns up to `limit` entries of a kind from the store, by id, after `after`.
    pub(crate) async fn page(&self, kind: Kind, after: Option<String>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        match self.store.get() {
            Some(store) => store.page(kind, after, limit).await,
            None => Ok(Vec::new()),
        }
    }

    /// Returns whether one of these keys is revoked, for a credential issued at `issued` (seconds since 1970).
    pub(crate) fn is_revoked(&self, revocation_keys: &[RevocationKey], issued: Option<i64>, now: Timestamp) -> bool {
        self.memory.revoked.covers(revocation_keys, issued, now)
    }

    /// Returns whether a consumer is suspended, and the scopes it is granted for a limited time.
    pub(crate) fn consumer_state(&self, consumer: &str, now: Timestamp) -> ConsumerState {
        self.memory.consumer_state(consumer, now)
    }

    /// The API key with this digest.
    pub(crate) fn key(&self, digest: &Digest) -> Option<Arc<Key>> {
        self.memory.key(digest)
    }

    /// The API key with this id.
    pub(crate) fn key_by_id(&self, id: &str) -> Option<Arc<Key>> {
        self.memory.entries().keys.get(id).cloned()
    }

    /// The client of the token service with this id.
    pub(crate) fn client(&self, id: &str) -> Option<Arc<Client>> {
        self.memory.entries().clients.get(id).cloned()
    }

    /// Whether other nodes may have the same store.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.config, Some(StoreConfig::Redis { .. }))
    }

    /// Returns a consumer created at run time.
    pub(crate) fn consumer(&self, name: &str) -> Option<Arc<Consumer>> {
        self.memory.consumer(name)
    }

    /// Returns the consumer created at run time that has this external identity.
    pub(crate) fn identified(&self, identity: &Identity) -> Option<Arc<Consumer>> {
        self.memory.identified(identity)
    }

    /// Returns up to two consumers with a DNS name in their certificates that is right below this one.
    pub(crate) fn certified_below(&self, parent: &str) -> Vec<Box<str>> {
        self.memory.certified_below(parent)
    }

    /// The suspension of a consumer.
    pub(crate) fn suspension(&self, consumer: &str) -> Option<Arc<Suspension>> {
        self.memory.entries().suspensions.get(consumer).cloned()
    }

    /// The invitation with this id.
    pub(crate) fn invitation(&self, id: &str) -> Option<Arc<Invitation>> {
        self.memory.entries().invitations.get(id).cloned()
    }

    /// Claims a single-use value; returns false if any node holds a claim on it that has not expired. Without a shared
    /// store each node must detect reuse by itself, and this returns true.
    ///
    /// Errors: nodes share a store, and it cannot be reached now.
    pub(crate) async fn claim(&self, what: &str, lifetime: Duration) -> Result<bool, StoreError> {
        match (self.store.get().map(|store| &**store), self.health()) {
            (None | Some(Store::Embedded(_)), _) => Ok(true),
            (Some(Store::Redis(store)), Health::Ready) => store.claims().claim(what, lifetime).await,
            // The store is known to be unreachable, so fail without waiting.
            (Some(Store::Redis(_)), _) => Err(StoreError::Unreachable("it is unavailable".to_owned())),
        }
    }

    /// Returns a family of refresh tokens from the store.
    pub(crate) async fn family(&self, id: &str) -> Result<Option<Family>, StoreError> {
        self.opened()?.family(id).await
    }

    /// Whether a client may begin another family now, which is counted: at most 1000 at once, and then one a minute.
    pub(crate) fn may_begin_family(&self, client: &str, now: Timestamp) -> bool {
        self.family_limit.take(client, now)
    }

    /// Stores a family in place of `before`; returns false, with nothing changed, if another is there. It is stored when this
    /// returns.
    pub(crate) async fn swap_family(
        &self,
        before: Option<Family>,
        after: Family,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.opened()?.swap_family(before, after, now).await
    }

    fn opened(&self) -> Result<&Arc<Store>, StoreError> {
        self.store.get().ok_or_else(|| match self.config {
            None => StoreError::None,
            Some(_) => StoreError::Unreachable("it is not open yet".to_owned()),
        })
    }

    /// What is counted in the store, if there is one.
    pub(crate) fn counters(&self) -> Option<&Counters> {
        self.counters.get()
    }

    /// Loads when these keys were last used on other nodes.
    pub(crate) async fn refresh_uses(&self, keys: &[Box<str>]) -> Result<(), StoreError> {
        if let Some(Store::Redis(store)) = self.store.get().map(|store| &**store)
            && !keys.is_empty()
        {
            for (key, last) in keys.iter().zip(store.uses(keys).await?) {
                last.into_iter().for_each(|last| self.memory.learn_use(key, last));
            }
        }
        Ok(())
    }

    /// Returns the place where uses of a key are recorded.
    pub(crate) fn usage(&self, key: &str) -> Arc<Usage> {
        self.memory.usage(key)
    }
}
