//! Does what is to be done for a rotation: makes keys, writes them to the vault, ends those before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use super::progress::{HeldKey, Progress};
use super::step::{Facts, Finding, KnownKey, Step, may_replace, next_step};
use super::{KeyRotation, SCHEDULE};
use crate::secrets::vault::{OpenedSecret, Vault, VaultError, VaultReference};
use crate::stages::auth::api_key::{self, ApiKeys};
use crate::stages::auth::api_key_format;
use crate::state::registry::entry::{Change, Digest, Entry, Key, Kind, Rotation};
use crate::state::registry::revocation_key::RevocationKey;
use crate::state::registry::{Registry, StoreError};

/// How many keys that have ended are kept, so that the refusal of one says that it has expired.
const KEPT: usize = 10;
/// How often a key is written again at once, because somebody else has changed the secret.
const TRIES: usize = 3;
/// Most numbers that are skipped because something else has the id.
const SKIPPED: u64 = 1000;
/// Largest number that is believed of a key in the vault.
const MAX_NUMBER: u64 = 1_000_000_000;
/// How long one node has to put the end of a key on record, before another one tries.
const END_CLAIM: Duration = Duration::from_secs(60);

/// Where keys are delivered.
pub(crate) trait KeyVault {
    /// A secret that was read, to be changed.
    type Opened;

    /// Reads the secret.
    async fn open(&self, place: &VaultReference) -> Result<Self::Opened, String>;

    /// The value of the field, if there is one.
    fn value(opened: &Self::Opened, place: &VaultReference) -> Option<SecretString>;

    /// Writes the field; returns false if somebody has changed the secret since it was read. After an error it may be written or
    /// not.
    async fn write(&self, place: &VaultReference, opened: Self::Opened, value: &SecretString) -> Result<bool, String>;
}

impl KeyVault for Vault {
    type Opened = OpenedSecret;

    async fn open(&self, place: &VaultReference) -> Result<OpenedSecret, String> {
        self.open_secret(&place.secret).await.map_err(|error| error.write_message(&place.secret))
    }

    fn value(opened: &OpenedSecret, place: &VaultReference) -> Option<SecretString> {
        opened.value(&place.field)
    }

    async fn write(&self, place: &VaultReference, opened: OpenedSecret, value: &SecretString) -> Result<bool, String> {
        match self.write_field(place, opened, value).await {
            Ok(()) => Ok(true),
            Err(VaultError::Changed) => Ok(false),
            Err(error) => Err(error.write_message(&place.secret)),
        }
    }
}

/// One rotation, with everything that it needs.
pub(crate) struct Rotator<'a, V> {
    pub(crate) rotation: &'a KeyRotation,
    /// The keys of the policy.
    pub(crate) listed: &'a ApiKeys,
    pub(crate) registry: &'a Registry,
    pub(crate) vault: &'a V,
    pub(crate) progress: &'a Progress,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing that anybody needs to know.
    Nothing,
    /// The vault has the next key.
    Delivered(Delivered),
    /// Something is wrong.
    Failed {
        /// What.
        why: String,
        /// How often in a row.
        streak: u32,
    },
}

/// A key that the vault has now.
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) key: Arc<Key>,
    /// The key before, and when it ends.
    pub(crate) before: Option<(Box<str>, Timestamp)>,
}

impl<V: KeyVault> Rotator<'_, V> {
    /// Does the next thing that is to be done. `keys`: those of the rotation.
    pub(crate) async fn advance(&self, mut keys: Vec<Arc<Key>>, now: Timestamp) -> Outcome {
        let (id, progress) = (&*self.rotation.id, self.progress);
        if !progress.may_try(id, now) {
            return Outcome::Nothing;
        }
        keys.sort_by_key(|key| number(key));
        let pending = keys.iter().filter(|key| is_pending(key)).map(|key| number(key));
        let seen = progress.pending(id, pending, now);
        let known: Vec<KnownKey> = keys.iter().filter_map(|key| self.known(key, &seen, now)).collect();
        let held = progress.held(id);
        let of_held = held.as_ref().and_then(|held| keys.iter().find(|key| key.sha256 == held.sha256));
        let facts = Facts {
            held: of_held.map(|key| number(key)),
            is_shared: self.registry.is_shared(),
            every: self.rotation.every,
            now,
        };
        let step = next_step(&known, facts);
        match step {
            Step::Wait => return Outcome::Nothing,
            Step::Check if !progress.takes_a_look(id, now) => return Outcome::Nothing,
            // The next one would be refused as well.
            Step::Create if self.is_revoked(&[], now, now) => return Outcome::Nothing,
            _ => {}
        }
        match self.in_turn(step, &keys, held.as_ref(), now).await {
            Ok(None) => Outcome::Nothing,
            Ok(Some(delivered)) => {
                if progress.succeed(id) {
                    tracing::info!(rotation = id, "the API key can be rotated again");
                }
                Outcome::Delivered(delivered)
            }
            Err(why) => {
                let streak = progress.fail(id, &why, now);
                Outcome::Failed { why, streak }
            }
        }
    }

    /// Does it again if somebody else changes the secret at the same time, such as another of its fields.
    async fn in_turn(
        &self,
        step: Step,
        keys: &[Arc<Key>],
        held: Option<&HeldKey>,
        now: Timestamp,
    ) -> Result<Option<Delivered>, String> {
        for _ in 0..TRIES {
            if let Some(done) = self.act(step, keys, held, now).await? {
                return Ok(done);
            }
        }
        Err(format!("others change the secret of `{}` again and again", self.rotation.deliver))
    }

    /// Does it; `None` if somebody has changed the secret meanwhile.
    async fn act(
        &self,
        step: Step,
        keys: &[Arc<Key>],
        held: Option<&HeldKey>,
        now: Timestamp,
    ) -> Result<Option<Option<Delivered>>, String> {
        let place = &self.rotation.deliver;
        let opened = match self.vault.open(place).await {
            // Whether the vault answers is seen to by those who need its secrets.
            Err(_) if step == Step::Check => return Ok(Some(None)),
            opened => opened?,
        };
        let found = V::value(&opened, place);
        let found = found.as_ref().map(|value| value.expose_secret());
        let in_vault = found.map(|text| sha256(text.as_bytes()));
        // It was written by a process that ended, or had no answer.
        let written = keys.iter().rev().find(|key| is_pending(key) && Some(key.sha256) == in_vault);
        if let Some(key) = written.filter(|key| self.accepts(key, now)) {
            return self.settle(key, None, now).await.map(Some);
        }
        match (step, held) {
            (Step::Deliver(wanted), Some(held)) => {
                let Some(key) = keys.iter().find(|key| number(key) == wanted) else { return Ok(Some(None)) };
                if !self.registry.key_by_id(&key.id).is_some_and(|key| is_pending(&key)) {
                    return Ok(Some(None));
                }
                if !self.vault.write(place, opened, &held.secret).await? {
                    return Ok(None);
                }
                return self.settle(key, in_vault, now).await.map(Some);
            }
            (Step::Create, _) => self.create(keys, found, now).await?,
            (Step::Check, _) => self.judge(keys, found, in_vault, now).await?,
            _ => {}
        }
        Ok(Some(None))
    }

    /// Decides what it means that the vault has this.
    async fn judge(
        &self,
        keys: &[Arc<Key>],
        found: Option<&str>,
        in_vault: Option<Digest>,
        now: Timestamp,
    ) -> Result<(), String> {
        let KeyRotation { id, deliver, .. } = self.rotation;
        let current = keys.iter().rev().find(|key| !is_pending(key));
        match self.finding(keys, current.map(|key| key.sha256), found, in_vault) {
            Finding::Current => {
                if self.progress.succeed(id) {
                    tracing::info!(rotation = &**id, "the vault has the current API key again");
                }
                Ok(())
            }
            Finding::Lost if may_replace(current.and_then(|key| delivered(key)), now) => {
                tracing::warn!(rotation = &**id, place = %deliver, "the vault has lost the current API key; another one is made");
                self.create(keys, found, now).await
            }
            Finding::Lost => Ok(()),
            Finding::Foreign => Err(format!(
                "`{deliver}` has a value that is no key of `{id}`: somebody else writes there; the next rotation replaces it, also by \
                 `bartizan key rotate {id}`"
            )),
        }
    }

    fn finding(
        &self,
        keys: &[Arc<Key>],
        current: Option<Digest>,
        found: Option<&str>,
        in_vault: Option<Digest>,
    ) -> Finding {
        let is_own = |text| self.number_of(text).is_some();
        if in_vault.is_some() && in_vault == current {
            Finding::Current
        } else if found.is_none_or(is_own) || keys.iter().any(|key| Some(key.sha256) == in_vault) {
            Finding::Lost
        } else {
            Finding::Foreign
        }
    }

    /// The number in a key of this rotation, known or not.
    fn number_of(&self, text: &str) -> Option<u64> {
        let (of, number) = api_key_format::id_of(text)?.rsplit_once('-')?;
        number.parse().ok().filter(|number| of == &*self.rotation.id && *number <= MAX_NUMBER)
    }

    /// Makes the next key. It is delivered later, when other nodes know it as well. `found`: what the vault has.
    async fn create(&self, keys: &[Arc<Key>], found: Option<&str>, now: Timestamp) -> Result<(), String> {
        let rotation = self.rotation;
        let last = keys.last().map_or(0, |last| number(last));
        // A number is not used again, even if the store has lost the key.
        let lost = found.and_then(|text| self.number_of(text)).filter(|lost| *lost > last);
        if let Some(lost) = lost {
            let known = self.registry.get(Kind::Key, &format!("{}-{lost}", rotation.id)).await;
            if known.map_err(|error| error.to_string())?.is_some() {
                // Another node has made and delivered it, and this one is about to learn of it.
                return Ok(());
            }
        }
        let Some((number, id)) = self.next_id(lost.unwrap_or(last))? else { return Ok(()) };
        let secret = api_key_format::mint(&id).map_err(|_| "the system cannot provide random bytes now".to_owned())?;
        let sha256 = sha256(secret.expose_secret().as_bytes());
        let asked = keys.iter().rev().find_map(|key| key.rotation.as_ref()?.asked.as_ref());
        let key = Key {
            id: id.into(),
            consumer: rotation.consumer.clone(),
            sha256,
            scopes: rotation.scopes.clone(),
            from: rotation.networks.clone(),
            not_before: None,
            expires: None,
            replaced_by: None,
            note: None,
            created: now,
            created_by: asked.map_or(SCHEDULE.into(), |asked| asked.by.clone()),
            rotation: Some(Rotation { of: rotation.id.clone(), number, delivered: None, asked: None, ended: false }),
            ends_for_good: false,
        };
        // Of another node's, the last one stays: that node may deliver it at this moment.
        let kept = usize::from(self.registry.is_shared());
        let lost = keys.iter().rev().filter(|key| is_pending(key)).skip(kept);
        let mut changes: Vec<Change> = lost.map(|key| Change::Remove(Kind::Key, key.id.to_string())).collect();
        changes.push(Change::Create(Entry::Key(key)));
        // Before it is stored: the store may take it, and not be able to say so.
        self.progress.hold(&rotation.id, Some(HeldKey { sha256, secret }));
        match self.registry.change(changes).await {
            Ok(()) => Ok(()),
            Err(StoreError::Exists) => {
                // Another node has made it.
                self.progress.hold(&rotation.id, None);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// The number and the id of the next key: nothing else has it, and it is not revoked. `None`: another node has made it since the
    /// keys were looked at.
    fn next_id(&self, last: u64) -> Result<Option<(u64, String)>, String> {
        let first = last.saturating_add(1);
        let free =
            (first..first.saturating_add(SKIPPED)).map(|number| (number, format!("{}-{number}", self.rotation.id)));
        for (number, id) in free {
            match self.registry.key_by_id(&id) {
                Some(known) if self.rotation.owns(&known) => return Ok(None),
                Some(_) => continue,
                None => {}
            }
            let is_listed = self.listed.listed().any(|listed| *listed.id == *id);
            if !is_listed && !self.registry.has_revocation(&RevocationKey::key(&id).id()) {
                return Ok(Some((number, id)));
            }
        }
        Err("all ids of the next key are taken".to_owned())
    }

    /// Notes that the vault has a key, and ends those before. `in_vault`: what was there.
    async fn settle(&self, key: &Key, in_vault: Option<Digest>, now: Timestamp) -> Result<Option<Delivered>, String> {
        let (registry, rotation) = (self.registry, self.rotation);
        let keys: Vec<Arc<Key>> = registry.rotated_keys().into_iter().filter(|key| rotation.owns(key)).collect();
        let asked = keys.iter().filter(|key| key.replaced_by.is_none()).find_map(|key| asked_end(key));
        let end = asked.unwrap_or_else(|| now.saturating_add(rotation.overlap).unwrap_or(Timestamp::MAX)).max(now);
        let ending = |before: &Key| Key {
            expires: Some(before.expires.map_or(end, |expires| expires.min(end))),
            replaced_by: before.replaced_by.clone().or_else(|| Some(key.id.clone())),
            rotation: before.rotation.clone().map(|rotation| Rotation { asked: None, ..rotation }),
            ..before.clone()
        };
        // As it is now: an operator may have changed it while the vault was written.
        let Some(latest) = registry.key_by_id(&key.id) else { return Ok(None) };
        let mut changes = vec![Change::Put(Entry::Key(with(&latest, |rotation| rotation.delivered = Some(now))))];
        let mut before = None;
        for other in keys.iter().filter(|other| other.id != key.id) {
            if !is_pending(other) {
                let ended = ending(other);
                if other.replaced_by.is_none() {
                    before = ended.expires.map(|end| (other.id.clone(), end));
                }
                if ended != **other {
                    changes.push(Change::Put(Entry::Key(ended)));
                }
            } else if number(other) < number(key) {
                changes.push(Change::Remove(Kind::Key, other.id.to_string()));
            }
        }
        changes.extend(self.taken_over(in_vault).filter(|other| other.id != key.id).map(|other| {
            let ended = ending(&other);
            before = before.take().or(ended.expires.map(|end| (other.id.clone(), end)));
            Change::Put(Entry::Key(ended))
        }));
        changes.extend(too_many(&keys, now));
        let is_there = || registry.key_by_id(&key.id).is_some_and(|key| is_pending(&key));
        match registry.change_if(is_there, changes).await {
            Ok(()) => {}
            Err(StoreError::Exists) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        }
        self.progress.hold(&rotation.id, None);
        let key = registry.key_by_id(&key.id);
        Ok(key.map(|key| Delivered { key, before }))
    }

    /// A key that an operator made for the same consumer, and wrote to the same place.
    fn taken_over(&self, in_vault: Option<Digest>) -> impl Iterator<Item = Arc<Key>> {
        let known = in_vault.and_then(|digest| self.registry.key(&digest));
        known.into_iter().filter(|key| key.rotation.is_none() && key.consumer == self.rotation.consumer)
    }

    /// Marks the keys that have ended. Returns those whose end is to be put on record.
    pub(crate) async fn mark_ended(&self, keys: &[Arc<Key>], now: Timestamp) -> Vec<Arc<Key>> {
        let has_ended = |key: &&Arc<Key>| {
            let is_marked = key.rotation.as_ref().is_none_or(|rotation| rotation.ended);
            !is_marked && key.expires.is_some_and(|end| end <= now)
        };
        let mut ended = Vec::new();
        for key in keys.iter().filter(has_ended) {
            if !matches!(self.registry.claim(&format!("key_ended:{}", key.id), END_CLAIM).await, Ok(true)) {
                continue;
            }
            let marked = with(key, |rotation| rotation.ended = true);
            // What an operator has changed meanwhile is looked at again in the next round.
            let is_same = || self.registry.key_by_id(&key.id).is_some_and(|latest| latest == *key);
            match self.registry.change_if(is_same, vec![Change::Put(Entry::Key(marked))]).await {
                Ok(()) => ended.push(Arc::clone(key)),
                Err(StoreError::Exists) => {}
                Err(error) => tracing::warn!(%error, key = &*key.id, "the end of an API key could not be noted"),
            }
        }
        ended
    }

    fn known(&self, key: &Key, seen: &BTreeMap<u64, Timestamp>, now: Timestamp) -> Option<KnownKey> {
        let rotation = key.rotation.as_ref()?;
        Some(KnownKey {
            number: rotation.number,
            created: key.created,
            seen: seen.get(&rotation.number).copied().unwrap_or(now),
            delivered: rotation.delivered,
            asked: rotation.asked.is_some(),
            accepted: self.accepts(key, now),
        })
    }

    fn accepts(&self, key: &Key, now: Timestamp) -> bool {
        let end = api_key::end(Some(key.created), key.expires, self.listed.max_age());
        end.is_none_or(|end| now < end) && !self.is_revoked(&[RevocationKey::key(&key.id)], key.created, now)
    }

    fn is_revoked(&self, key: &[RevocationKey], created: Timestamp, now: Timestamp) -> bool {
        let of_all = [RevocationKey::consumer(&self.rotation.consumer), RevocationKey::all()];
        self.registry.is_revoked(&[key, &of_all].concat(), Some(created.as_second()), now)
    }
}

fn number(key: &Key) -> u64 {
    key.rotation.as_ref().map(|rotation| rotation.number).unwrap_or_default()
}

fn delivered(key: &Key) -> Option<Timestamp> {
    key.rotation.as_ref()?.delivered
}

fn asked_end(key: &Key) -> Option<Timestamp> {
    key.rotation.as_ref()?.asked.as_ref()?.end
}

/// Whether the vault does not have the key, as far as is known.
fn is_pending(key: &Key) -> bool {
    key.rotation.as_ref().is_some_and(|rotation| rotation.delivered.is_none())
}

/// The key with another state of its rotation.
fn with(key: &Key, change: impl FnOnce(&mut Rotation)) -> Key {
    let mut key = key.clone();
    if let Some(rotation) = &mut key.rotation {
        change(rotation);
    }
    key
}

/// Removes the oldest keys that have ended, if that is on record.
fn too_many(keys: &[Arc<Key>], now: Timestamp) -> Vec<Change> {
    let has_ended = |key: &&Arc<Key>| key.expires.is_some_and(|end| end <= now);
    let mut ended: Vec<&Arc<Key>> = keys.iter().filter(has_ended).collect();
    ended.sort_by_key(|key| std::cmp::Reverse(number(key)));
    let on_record = |key: &&&Arc<Key>| key.rotation.as_ref().is_some_and(|rotation| rotation.ended);
    let oldest = ended.iter().skip(KEPT).filter(on_record);
    oldest.map(|key| Change::Remove(Kind::Key, key.id.to_string())).collect()
}

fn sha256(bytes: &[u8]) -> Digest {
    digest(&SHA256, bytes).as_ref().try_into().unwrap_or_default()
}
