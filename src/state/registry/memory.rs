//! The working set: everything that requests look up, in memory.
//!
//! Requests only read; only [`super::Registry`] makes changes. No lock is held for longer than one look-up or change.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use ahash::RandomState;
use jiff::Timestamp;

use super::entry::{
    Change, Client, Consumer, Digest, Entry, Grant, Identity, Invitation, Key, Kind, LastUse, SigningKey, Suspension,
    grant_id, signing_key_id,
};
use super::revocation_key::RevocationKey;
use super::revoked::{Coverage, Revoked};
use super::usage::Usage;
use crate::state::epoch::Epoch;

/// Consumers, keys, clients, grants, suspensions, signing keys and invitations.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) consumers: BTreeMap<Box<str>, Arc<Consumer>>,
    /// The consumer that each external identity maps to.
    identities: HashMap<Identity, Box<str>>,
    /// The consumers with a DNS name in their certificates that is right below this one.
    below: HashMap<Box<str>, Vec<Box<str>>>,
    pub(super) keys: BTreeMap<Box<str>, Arc<Key>>,
    by_digest: HashMap<Digest, Arc<Key>, RandomState>,
    key_ids: Owned,
    pub(super) clients: BTreeMap<Box<str>, Arc<Client>>,
    client_ids: Owned,
    /// By consumer and id.
    pub(super) grants: BTreeMap<String, Arc<Grant>>,
    /// Ids of each consumer's grants.
    granted: HashMap<Box<str>, Vec<String>>,
    pub(super) suspensions: BTreeMap<Box<str>, Arc<Suspension>>,
    /// By id, which is in the order of their numbers.
    pub(super) signing_keys: BTreeMap<String, Arc<SigningKey>>,
    pub(super) invitations: BTreeMap<Box<str>, Arc<Invitation>>,
    invitation_ids: Owned,
}

/// The sorted ids of what each consumer has of one kind.
#[derive(Debug, Default)]
struct Owned(HashMap<Box<str>, BTreeSet<Box<str>>, RandomState>);

impl Owned {
    fn add(&mut self, consumer: &str, id: &str) {
        match self.0.get_mut(consumer) {
            Some(ids) => ids.insert(id.into()),
            None => self.0.insert(consumer.into(), BTreeSet::from([id.into()])).is_none(),
        };
    }

    fn remove(&mut self, consumer: &str, id: &str) {
        if let Some(ids) = self.0.get_mut(consumer) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(consumer);
            }
        }
    }

    /// The entries of a consumer, by id.
    fn of<'e, T>(
        &'e self,
        consumer: &str,
        entries: &'e BTreeMap<Box<str>, Arc<T>>,
    ) -> impl Iterator<Item = &'e Arc<T>> + use<'e, T> {
        self.0.get(consumer).into_iter().flatten().filter_map(|id| entries.get(id))
    }
}

/// The part of a sorted list that is wanted: so many entries behind this id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) after: Option<&'a str>,
    pub(crate) limit: usize,
}

impl Part<'_> {
    /// Whether an entry with this id may be in it.
    pub(crate) fn is_behind(&self, id: &str) -> bool {
        self.after.is_none_or(|after| *id > *after)
    }

    /// It, of these entries that are wanted.
    pub(super) fn of<K: Ord + Borrow<str>, T>(
        &self,
        entries: &BTreeMap<K, Arc<T>>,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Vec<Arc<T>> {
        let from = self.after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = entries.range::<str, _>((from, Bound::Unbounded)).map(|(_, entry)| entry);
        behind.filter(|entry| is_wanted(entry)).take(self.limit).cloned().collect()
    }
}

impl Entries {
    pub(super) fn put(&mut self, entry: Entry) {
        self.remove(entry.kind(), &entry.id());
        match entry {
            Entry::Consumer(consumer) => {
                for identity in &consumer.identities {
                    self.identities.insert(identity.clone(), consumer.name.clone());
                    if let Some(parent) = parent(identity) {
                        self.below.entry(parent.into()).or_default().push(consumer.name.clone());
                    }
                }
                self.consumers.insert(consumer.name.clone(), Arc::new(consumer));
            }
            Entry::Key(key) => {
                let key = Arc::new(key);
                self.by_digest.insert(key.sha256, Arc::clone(&key));
                self.key_ids.add(&key.consumer, &key.id);
                self.keys.insert(key.id.clone(), key);
            }
            Entry::Client(client) => {
                self.client_ids.add(&client.consumer, &client.id);
                self.clients.insert(client.id.clone(), Arc::new(client));
            }
            Entry::Grant(grant) => {
                let id = grant_id(&grant.consumer, &grant.id);
                self.granted.entry(grant.consumer.clone()).or_default().push(id.clone());
                self.grants.insert(id, Arc::new(grant));
            }
            Entry::Suspension(suspension) => {
                self.suspensions.insert(suspension.consumer.clone(), Arc::new(suspension));
            }
            Entry::SigningKey(key) => {
                let key = Arc::new(key);
                self.signing_keys.insert(signing_key_id(key.number), key);
            }
            Entry::Invitation(invitation) => {
                self.invitation_ids.add(&invitation.consumer, &invitation.id);
                self.invitations.insert(invitation.id.clone(), Arc::new(invitation));
            }
            Entry::Revocation(_) => {}
        }
    }

    /// The keys of a consumer, by id.
    pub(super) fn keys_of(&self, consumer: &str) -> impl Iterator<Item = &Arc<Key>> {
        self.key_ids.of(consumer, &self.keys)
    }

    /// The clients of a consumer, by id.
    pub(super) fn clients_of(&self, consumer: &str) -> impl Iterator<Item = &Arc<Client>> {
        self.client_ids.of(consumer, &self.clients)
    }

    /// The invitations of a consumer, by id.
    pub(super) fn invitations_of(&self, consumer: &str) -> impl Iterator<Item = &Arc<Invitation>> {
        self.invitation_ids.of(consumer, &self.invitations)
    }

    /// Returns all of them, by kind and id.
    pub(super) fn all(&self) -> HashMap<(Kind, String), Entry> {
        let consumers = self.consumers.values().map(|one| Entry::Consumer(Consumer::clone(one)));
        let keys = self.keys.values().map(|one| Entry::Key(Key::clone(one)));
        let clients = self.clients.values().map(|one| Entry::Client(Client::clone(one)));
        let grants = self.grants.values().map(|one| Entry::Grant(Grant::clone(one)));
        let suspensions = self.suspensions.values().map(|one| Entry::Suspension(Suspension::clone(one)));
        let signing_keys = self.signing_keys.values().map(|one| Entry::SigningKey(SigningKey::clone(one)));
        let invitations = self.invitations.values().map(|one| Entry::Invitation(Invitation::clone(one)));
        let all = consumers.chain(keys).chain(clients).chain(grants).chain(suspensions).chain(signing_keys);
        all.chain(invitations).map(|entry| ((entry.kind(), entry.id()), entry)).collect()
    }

    fn remove(&mut self, kind: Kind, id: &str) {
        match kind {
            Kind::Consumer => {
                if let Some(consumer) = self.consumers.remove(id) {
                    self.identities.retain(|_, name| **name != *consumer.name);
                    for parent in consumer.identities.iter().filter_map(parent) {
                        if let Some(names) = self.below.get_mut(parent) {
                            names.retain(|name| **name != *consumer.name);
                        }
                    }
                    self.below.retain(|_, names| !names.is_empty());
                }
            }
            Kind::Key => {
                if let Some(key) = self.keys.remove(id) {
                    self.by_digest.remove(&key.sha256);
                    self.key_ids.remove(&key.consumer, id);
                }
            }
            Kind::Client => {
                if let Some(client) = self.clients.remove(id) {
                    self.client_ids.remove(&client.consumer, id);
                }
            }
            Kind::Grant => {
                if let Some(grant) = self.grants.remove(id)
                    && let Some(ids) = self.granted.get_mut(&grant.consumer)
                {
                    ids.retain(|known| known != id);
                    if ids.is_empty() {
                        self.granted.remove(&grant.consumer);
                    }
                }
            }
            Kind::Suspension => drop(self.suspensions.remove(id)),
            Kind::SigningKey => drop(self.signing_keys.remove(id)),
            Kind::Invitation => {
                if let Some(invitation) = self.invitations.remove(id) {
                    self.invitation_ids.remove(&invitation.consumer, id);
                }
            }
            Kind::Revocation => {}
        }
    }
}

/// The parent of a DNS name in certificates.
fn parent(identity: &Identity) -> Option<&str> {
    match identity {
        Identity::CertificateSan(name) => name.parent(),
        _ => None,
    }
}

/// What applies to a consumer now, in addition to its roles.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ConsumerState {
    /// All its requests are refused.
    pub(crate) suspended: bool,
    /// Scopes granted for a limited time.
    pub(crate) granted: Vec<Box<str>>,
}

/// Everything that requests look up.
pub(super) struct Memory {
    pub(super) revoked: Revoked,
    entries: RwLock<Entries>,
    /// Number of suspensions and grants: while it is zero, look-ups are skipped.
    exceptions: AtomicUsize,
    uses: Mutex<HashMap<Box<str>, Arc<Usage>>>,
    /// Advanced when a change affects the identity of callers.
    epoch: Epoch,
}

impl Memory {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self {
            revoked: Revoked::default(),
            entries: RwLock::default(),
            exceptions: AtomicUsize::new(0),
            uses: Mutex::default(),
            epoch,
        }
    }

    pub(super) fn entries(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a consumer is suspended, and what it is granted.
    pub(super) fn consumer_state(&self, consumer: &str, now: Timestamp) -> ConsumerState {
        if self.exceptions.load(Ordering::Acquire) == 0 {
            return ConsumerState::default();
        }
        let entries = self.entries();
        let suspension = entries.suspensions.get(consumer);
        let suspended = suspension.is_some_and(|suspension| suspension.until.is_none_or(|until| now < until));
        let ids = entries.granted.get(consumer).map(Vec::as_slice).unwrap_or_default();
        let grants = ids.iter().filter_map(|id| entries.grants.get(id)).filter(|grant| now < grant.until);
        ConsumerState { suspended, granted: grants.flat_map(|grant| grant.scopes.iter().cloned()).collect() }
    }

    pub(super) fn key(&self, digest: &Digest) -> Option<Arc<Key>> {
        self.entries().by_digest.get(digest).cloned()
    }

    pub(super) fn consumer(&self, name: &str) -> Option<Arc<Consumer>> {
        self.entries().consumers.get(name).cloned()
    }

    pub(super) fn identified(&self, identity: &Identity) -> Option<Arc<Consumer>> {
        let entries = self.entries();
        entries.identities.get(identity).and_then(|name| entries.consumers.get(name)).cloned()
    }

    /// Returns up to two consumers with a DNS name in their certificates that is right below this one.
    pub(super) fn certified_below(&self, parent: &str) -> Vec<Box<str>> {
        let entries = self.entries();
        let mut names: Vec<_> = entries.below.get(parent).into_iter().flatten().cloned().collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(2);
        names
    }

    /// Returns the place where uses of a key are recorded.
    pub(super) fn usage(&self, key: &str) -> Arc<Usage> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        match uses.get(key) {
            Some(known) => Arc::clone(known),
            None => Arc::clone(uses.entry(key.into()).or_default()),
        }
    }

    pub(super) fn learn_use(&self, key: &str, last: LastUse) {
        self.usage(key).learn(last);
    }

    /// Takes the uses that have not been written to the store yet.
    pub(super) fn fresh_uses(&self) -> Vec<(Box<str>, LastUse)> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = uses.iter().filter(|(_, usage)| usage.fresh.swap(false, Ordering::AcqRel));
        fresh.filter_map(|(id, usage)| Some((id.clone(), usage.last()?))).collect()
    }

    /// Puts back uses that could not be written.
    pub(super) fn keep_fresh(&self, uses: &[(Box<str>, LastUse)]) {
        uses.iter().for_each(|(key, _)| self.usage(key).fresh.store(true, Ordering::Release));
    }

    /// Applies a change that the store has made.
    pub(super) fn apply(&self, change: Change) {
        let kind = match &change {
            Change::Put(entry) | Change::Create(entry) => entry.kind(),
            Change::Swap(entries) => entries.1.kind(),
            Change::Remove(kind, _) => *kind,
            // Stores say whether it was removed.
            Change::RemoveIf(_) => return,
        };
        let change = match change {
            Change::Swap(entries) => Change::Put(entries.1),
            change => change,
        };
        match change {
            Change::Put(Entry::Revocation(revocation)) | Change::Create(Entry::Revocation(revocation)) => {
                self.revoked.put(
                    revocation.target.revocation_key(),
                    Coverage::new(revocation.issued_before, revocation.expires),
                );
            }
            Change::Remove(Kind::Revocation, id) => {
                if let Some(key) = RevocationKey::of_id(&id) {
                    self.revoked.remove(key);
                }
            }
            Change::Put(entry) | Change::Create(entry) => self.with_entries(|entries| entries.put(entry)),
            Change::Remove(kind, id) => self.with_entries(|entries| entries.remove(kind, &id)),
            Change::Swap(_) | Change::RemoveIf(_) => {}
        }
        if matches!(kind, Kind::Consumer | Kind::Key | Kind::Client | Kind::SigningKey) {
            // After the change, so that callers cached before it are looked up again.
            self.epoch.advance();
        } else {
            self.epoch.touch();
        }
    }

    fn with_entries(&self, change: impl FnOnce(&mut Entries)) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut entries);
        self.exceptions.store(entries.suspensions.len() + entries.grants.len(), Ordering::Release);
    }

    /// Replaces all entries, and revocations.
    pub(super) fn replace(&self, loaded: Entries, revoked: &HashMap<RevocationKey, Coverage, RandomState>) {
        // Nothing is lifted in between: what is added comes first.
        revoked.iter().for_each(|(key, coverage)| self.revoked.put(*key, *coverage));
        self.revoked.retain(|key, _| revoked.contains_key(&key));
        self.with_entries(|entries| *entries = loaded);
        self.epoch.advance();
    }
}
