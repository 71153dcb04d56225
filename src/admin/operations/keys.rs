//! Creates, rotates (with an overlap), changes and removes API keys. The key itself is in one response only, and never
//! stored.

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::page::Row;
use super::{Completed, Operation, Result, conflict, details, input, sha256, store_error, text, view};
use crate::audit::Change as Details;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::api_key_format;
use crate::stages::auth::key_rotation::KeyRotation;
use crate::state::registry::entry::{AskedRotation, Change, Digest, Entry, Key, Rotation, hex};

/// Default lifetime of a key.
const KEY_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long a rotated key stays valid by default.
const OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Operation<'_> {
    pub(super) async fn keys(&self, consumer: Option<&str>) -> Result<Completed> {
        let (page, policy, registry) = (self.page()?, self.policy(), self.registry());
        let listed = policy.auth().keys.listed();
        let listed = listed.filter(|one| consumer.is_none_or(|name| **one.consumer.name() == *name));
        // One of the store that the policy lists as well is not in use.
        let ids: HashSet<&str> = policy.auth().keys.listed().map(|one| &*one.id).collect();
        let is_used = |one: &Key| !ids.contains(&*one.id);
        let made = match consumer {
            Some(name) => registry.keys_of(name).into_iter().filter(|one| is_used(one)).collect(),
            None => registry.some_keys(page.part(), is_used),
        };
        let listed = listed.map(|one| (&*one.id, Row::Listed(one)));
        let (shown, next) = page.take(listed.chain(made.iter().map(|one| (&*one.id, Row::Made(one)))));
        let ids: Vec<Box<str>> = shown.iter().map(|(id, _)| (*id).into()).collect();
        registry.refresh_uses(&ids).await.map_err(|error| store_error(&error))?;
        let shown = shown.into_iter().map(|(_, one)| match one {
            Row::Listed(one) => view::listed_key(one, policy, registry, self.now),
            Row::Made(one) => view::made(one, policy, registry, self.now),
        });
        Ok(Completed::shown(json!({"items": shown.collect::<Vec<_>>(), "next": next})))
    }

    pub(super) fn key(&self, id: &str) -> Result<Value> {
        let (policy, registry) = (self.policy(), self.registry());
        let listed = policy.auth().keys.listed().find(|one| *one.id == *id);
        let listed = listed.map(|one| view::listed_key(one, policy, registry, self.now));
        let made = || registry.key_by_id(id).map(|one| view::made(&one, policy, registry, self.now));
        listed.or_else(made).ok_or_else(|| self.missing_key(id))
    }

    pub(super) fn is_listed_key(&self, id: &str) -> bool {
        self.policy().auth().keys.listed().any(|key| *key.id == *id)
    }

    pub(super) fn made_key(&self, id: &str) -> Result<Arc<Key>> {
        match self.registry().key_by_id(id) {
            Some(key) => Ok(key),
            None if self.is_listed_key(id) => {
                Err(conflict("this key is defined in the policy file; change it there, or revoke it"))
            }
            None => Err(self.missing_key(id)),
        }
    }

    pub(super) async fn new_key(&self, consumer: &str, id: Option<&str>) -> Result<Completed> {
        let written: input::Key = input::read(self.body)?;
        self.consumer(consumer)?;
        let (key, secret) = self.compile_key(consumer, id, written, None)?;
        let mut shown = view::made(&key, self.policy(), self.registry(), self.now);
        if let (Value::Object(shown), Some(secret)) = (&mut shown, secret) {
            shown.insert("key".to_owned(), secret.expose_secret().into());
        }
        let (target, details) = details::key(&key);
        let done = Completed::changed(StatusCode::CREATED, shown, "key_created", target).with(details);
        self.change(vec![Change::Create(Entry::Key(key))], done).await
    }

    /// Builds a key from the body, with its secret unless the body has a digest.
    fn compile_key(
        &self,
        consumer: &str,
        id: Option<&str>,
        written: input::Key,
        before: Option<&Key>,
    ) -> Result<(Key, Option<SecretString>)> {
        let id = match (id, written.id) {
            (Some(id), None) => id.to_owned(),
            (None, Some(id)) => id,
            (None, None) => api_key_format::new_id(consumer),
            (Some(_), Some(_)) => {
                return Err(input::wrong("/id", "the id is in the path already; remove it from the body"));
            }
        };
        if !api_key_format::is_id(&id) {
            return Err(input::wrong("/id", "an id must consist of 1 to 64 lower-case letters, digits and `-`"));
        }
        if self.registry().key_by_id(&id).is_some() || self.is_listed_key(&id) {
            return Err(conflict("a key with this id exists; rotate it, or choose another id"));
        }
        let narrows = matches!(written.scopes, input::Member::Value(_));
        let scopes = written.scopes.or(before.and_then(|before| before.scopes.clone()));
        self.check_scopes(scopes.as_deref().unwrap_or_default(), written.force || !narrows)?;
        let not_before = match written.not_before {
            input::Member::Value(at) => Some(at.at("/not_before", self.now)?),
            _ => None,
        };
        let longest = self.policy().auth().keys.max_age();
        let default = longest.map_or(KEY_LIFETIME, |longest| longest.min(KEY_LIFETIME));
        let expires = match written.expires {
            input::Member::Value(at) => Some(at.at("/expires", self.now)?),
            input::Member::Null => None,
            input::Member::Absent => self.now.checked_add(default).ok(),
        };
        if expires.is_some_and(|end| end <= not_before.unwrap_or(self.now)) {
            return Err(input::wrong("/expires", "the key would expire before it becomes valid"));
        }
        let (sha256, secret) = secret_of(&id, written.sha256.as_deref())?;
        let key = Key {
            id: id.into(),
            consumer: consumer.into(),
            sha256,
            scopes,
            from: written.from.or(before.and_then(|before| before.from.clone())),
            not_before,
            expires,
            replaced_by: None,
            note: text(written.note.or(before.and_then(|before| before.note.clone())))?,
            created: self.now,
            created_by: self.by.into(),
            rotation: None,
            ends_for_good: false,
        };
        Ok((key, secret))
    }

    pub(super) async fn patch_key(&self, id: &str) -> Result<Completed> {
        let key = self.made_key(id)?;
        let written: input::Key = input::read(self.body)?;
        if written.id.is_some() || written.sha256.is_some() || written.overlap.is_some() {
            return Err(input::wrong(
                "",
                "only `expires`, `not_before`, `scopes`, `from` and `note` of a key can be changed",
            ));
        }
        let moment = |given: input::Member<input::Moment>, before, pointer| match given {
            input::Member::Absent => Ok(before),
            input::Member::Null => Ok(None),
            input::Member::Value(at) => at.at(pointer, self.now).map(Some),
        };
        let of_policy = written.scopes != input::Member::Absent || written.from != input::Member::Absent;
        if of_policy && self.scheduled(id).is_some() {
            return Err(conflict(
                "the policy file says which scopes and networks this key has; change it there, and reload",
            ));
        }
        let narrows = matches!(written.scopes, input::Member::Value(_));
        let scopes = written.scopes.or(key.scopes.clone());
        self.check_scopes(scopes.as_deref().unwrap_or_default(), written.force || !narrows)?;
        let changed = Key {
            scopes,
            from: written.from.or(key.from.clone()),
            not_before: moment(written.not_before, key.not_before, "/not_before")?,
            ends_for_good: key.ends_for_good || matches!(written.expires, input::Member::Value(_)),
            expires: moment(written.expires, key.expires, "/expires")?,
            note: text(written.note.or(key.note.clone()))?,
            ..Key::clone(&key)
        };
        let shown = view::made(&changed, self.policy(), self.registry(), self.now);
        let (target, details) = details::key(&changed);
        let done = Completed::changed(StatusCode::OK, shown, "key_changed", target).with(details);
        self.change(vec![Change::Put(Entry::Key(changed))], done).await
    }

    /// Refuses to rotate a key that is no longer accepted, or that has a successor: a repeated command would make another,
    /// and nobody would have the first one's secret.
    fn check_rotation(&self, key: &Key) -> Result<()> {
        let shown = view::made(key, self.policy(), self.registry(), self.now);
        match shown.get("state").and_then(Value::as_str) {
            Some("revoked") => return Err(conflict("this key is revoked; create another one instead of rotating it")),
            Some("expired" | "too_old") => {
                return Err(conflict("this key has expired; create another one instead of rotating it"));
            }
            _ => {}
        }
        match key.replaced_by.as_ref().filter(|successor| self.registry().key_by_id(successor).is_some()) {
            Some(successor) => Err(conflict(format!(
                "this key was rotated to `{successor}` already; if the secret of `{successor}` was lost, remove that key \
                 and rotate again"
            ))),
            None => Ok(()),
        }
    }

    /// The rotation of the policy that a key belongs to, or that has this id itself.
    fn scheduled(&self, id: &str) -> Option<&KeyRotation> {
        let key = self.registry().key_by_id(id);
        let is_meant =
            |rotation: &&KeyRotation| *rotation.id == *id || key.as_ref().is_some_and(|key| rotation.owns(key));
        self.policy().auth().keys.rotations().iter().find(is_meant)
    }

    /// Lets the schedule make the next key at once: only the consumer is to see it, in the vault.
    async fn ask_for_rotation(&self, id: &str, rotation: &KeyRotation) -> Result<Completed> {
        let written: input::ScheduledRotation = input::read(self.body)?;
        let keys = self.registry().rotated_keys();
        let Some(current) = keys.iter().find(|key| rotation.next(key).is_some()) else {
            return Err(conflict("the vault does not have the first key yet; the log and the record say why"));
        };
        if *id != *rotation.id && *id != *current.id {
            let current = &current.id;
            return Err(conflict(format!("this key is not the current one: that is `{current}`")));
        }
        let end = written.overlap.map(|overlap| overlap.at("/overlap", self.now)).transpose()?;
        let asked = Some(AskedRotation { by: self.by.into(), end });
        let made = current.rotation.clone().map(|made| Rotation { asked, ..made });
        let asking = Key { rotation: made, ..Key::clone(current) };
        let shown = view::made(&asking, self.policy(), self.registry(), self.now);
        let (target, details) = (details::key(&asking).0, Details { until: end, ..Details::default() });
        let unchanged = || self.registry().key_by_id(&current.id).is_some_and(|now| now == *current);
        let changes = vec![Change::Put(Entry::Key(asking))];
        let done = Completed::changed(StatusCode::ACCEPTED, shown, "key_rotation_asked", target).with(details);
        self.confirmed(self.registry().change_if(unchanged, changes).await, done)
    }

    pub(super) async fn rotate(&self, id: &str) -> Result<Completed> {
        if let Some(rotation) = self.scheduled(id) {
            return self.ask_for_rotation(id, rotation).await;
        }
        let old = self.made_key(id)?;
        self.check_rotation(&old)?;
        let mut written: input::Key = input::read(self.body)?;
        let overlap = written.overlap.take();
        let end = match overlap {
            Some(overlap) => overlap.at("/overlap", self.now)?,
            None => self.now.checked_add(OVERLAP).unwrap_or(Timestamp::MAX),
        };
        let (key, secret) = self.compile_key(&old.consumer, None, written, Some(&old))?;
        // Rotation never extends the old key's lifetime.
        let end = old.expires.map_or(end, |expires| expires.min(end));
        let ending = Key { expires: Some(end), replaced_by: Some(key.id.clone()), ..Key::clone(&old) };
        let mut shown = view::made(&key, self.policy(), self.registry(), self.now);
        if let Value::Object(shown) = &mut shown {
            shown.insert("replaces".to_owned(), id.into());
            shown.insert("replaced_expires".to_owned(), end.to_string().into());
            shown.extend(secret.map(|secret| ("key".to_owned(), secret.expose_secret().into())));
        }
        let (target, details) = (format!("{} -> {}", details::key(&old).0, key.id), details::key(&key).1);
        // Of two rotations at the same time, on whatever nodes, only one finds the key as it was.
        let swap = Change::Swap(Box::new((Entry::Key(Key::clone(&old)), Entry::Key(ending))));
        let done = Completed::changed(StatusCode::CREATED, shown, "key_rotated", target).with(details);
        self.change(vec![Change::Create(Entry::Key(key)), swap], done).await
    }
}

/// Returns the given digest, or generates a secret and returns both.
fn secret_of(id: &str, sha256_text: Option<&str>) -> Result<(Digest, Option<SecretString>)> {
    if let Some(text) = sha256_text {
        let digest = hex::decode(text).ok_or_else(|| input::wrong("/sha256", "not a SHA-256 digest in hexadecimal"))?;
        return Ok((digest, None));
    }
    let secret = api_key_format::mint(id).map_err(|_| {
        Refusal::new(Stage::Request, Reason::StoreUnavailable, "the system cannot provide random bytes now")
    })?;
    Ok((sha256(secret.expose_secret().as_bytes()), Some(secret)))
}
