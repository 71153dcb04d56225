//! Replaces a key of the caller. The old one stays valid for an overlap, so that nothing has to be stopped.

use http::StatusCode;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::input;
use super::key_use::KeyUse;
use super::new_credential::digest_of;
use super::overlap::{self, Asked};
use super::service::{Service, change, conflict, json, no_random_bytes, refuse};
use crate::audit::{Change as Details, ChangeRecord};
use crate::body::Body;
use crate::chain::Trace;
use crate::exchange::Answer;
use crate::policy::Policy;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::api_key::Key as KnownKey;
use crate::stages::auth::{Caller, CredentialKind, api_key_format};
use crate::state::registry::Registry;
use crate::state::registry::entry::{Change, Entry, Key};

/// How many keys of a consumer may not have ended for another one to be made.
const MOST_KEYS: usize = 20;

/// Answers `POST keys/{id}/rotate`.
pub(super) async fn rotate(
    service: &Service<'_>,
    caller: &Caller,
    body: Body,
    trace: &mut Trace,
) -> Result<Box<Answer>, Refusal> {
    let Service { in_force, request, .. } = service;
    let (policy, registry, now) = (&in_force.policy, &**in_force.registry(), request.now());
    let asked: Asked = input::read(request, body).await?;
    let overlap = overlap::of(&asked)?;
    let old = own_key(policy, registry, caller, &overlap::id(&request.exchange.path))?;
    check(policy, registry, &old, caller, now)?;
    let (key, secret) = successor(&old, caller, now)?;
    let end = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
    // Rotation never extends the life of the old key.
    let end = old.expires.map_or(end, |expires| expires.min(end));
    let ending = Key { expires: Some(end), replaced_by: Some(key.id.clone()), ..old.clone() };
    let swap = Change::Swap(Box::new((Entry::Key(old.clone()), Entry::Key(ending))));
    let record = ChangeRecord {
        action: "key_rotated",
        target: format!("{} {} -> {}", key.consumer, old.id, key.id),
        details: Details {
            scopes: key.scopes.clone().unwrap_or_default(),
            until: key.expires,
            reason: Some("by its owner".into()),
            drill: None,
        },
    };
    let changed = || conflict("the key was changed at this moment; see which keys you have, and try again");
    let changes = vec![swap, Change::Create(Entry::Key(key.clone()))];
    change(registry, || Ok(()), changes, record, trace, changed).await?;
    let mut answer = json!({
        "consumer": key.consumer, "id": key.id, "key": secret.expose_secret(),
        "expires": key.expires, "scopes": key.scopes, "replaces": old.id,
        "replaced_expires": end,
    });
    if let Some(answer) = answer.as_object_mut() {
        KeyUse::of(policy).tell(answer);
    }
    Ok(json(StatusCode::CREATED, &answer))
}

/// A key of the caller's consumer. That others have a key with this id is not shown.
fn own_key(policy: &Policy, registry: &Registry, caller: &Caller, id: &str) -> Result<Key, Refusal> {
    if let Some(key) = registry.key_by_id(id).filter(|key| *key.consumer == **caller.consumer()) {
        return Ok(Key::clone(&key));
    }
    let is_listed = |key: &KnownKey| *key.id == *id && key.consumer.name() == caller.consumer();
    Err(match policy.auth().keys.listed().any(is_listed) {
        true => conflict("this key is kept by the API's owner, who alone can replace it; ask for a new one"),
        false => refuse(Stage::Request, Reason::NotFound, "you have no key with this id; see which keys you have"),
    })
}

/// Decides whether the caller may replace a key, and whether it can be replaced.
fn check(policy: &Policy, registry: &Registry, old: &Key, caller: &Caller, now: Timestamp) -> Result<(), Refusal> {
    let keys = &policy.auth().keys;
    if old.rotation.is_some() || keys.rotations().iter().any(|rotation| rotation.owns(old)) {
        return Err(conflict("this key is made on schedule; read the next one where it is delivered"));
    }
    let consumer = policy.auth().directory.named(&old.consumer, registry)?;
    let consumer = consumer.ok_or_else(|| conflict("the consumer of this key does not exist any more"))?;
    let known = keys.of_registry(old, consumer);
    may_replace(&known, caller)?;
    if old.ends_for_good {
        return Err(conflict("the API's owner has set the end of this key; ask for a new one"));
    }
    match known.state(keys.max_age(), registry, now) {
        "revoked" => return Err(conflict("this key is revoked; ask the API's owner for a new one")),
        "expired" | "too_old" => return Err(conflict("this key has expired; ask the API's owner for a new one")),
        _ => {}
    }
    let has_ended = |key: &Key| key.expires.is_some_and(|end| end <= now);
    if registry.keys_of(&old.consumer).iter().filter(|key| !has_ended(key)).count() >= MOST_KEYS {
        return Err(conflict(format!("there are {MOST_KEYS} keys that have not ended; wait until some have")));
    }
    match old.replaced_by.as_ref().filter(|next| registry.key_by_id(next).is_some()) {
        Some(next) => Err(conflict(format!(
            "this key was replaced by `{next}` already; if you do not have that one, ask the API's owner for a new one"
        ))),
        None => Ok(()),
    }
}

/// A key gives what it may do for as long as it lives. So a key replaces only itself, and a token, which ends soon and may be that of
/// one user among many, replaces none; a client certificate is the consumer's own, and replaces those that may do no more than it.
fn may_replace(old: &KnownKey, caller: &Caller) -> Result<(), Refusal> {
    let stronger = |detail| refuse(Stage::Scope, Reason::StrongerCredentialRequired, detail);
    let may_all = || {
        let mut able = old.consumer.ceiling().unwrap_or_default().iter();
        able.all(|scope| caller.has(scope) || old.scopes.as_ref().is_some_and(|own| !own.contains(scope)))
    };
    match caller.credential() {
        (CredentialKind::ApiKey, Some(id)) if *id == *old.id => Ok(()),
        (CredentialKind::ApiKey, _) => Err(stronger("a key is replaced with itself, or with a client certificate")),
        (CredentialKind::Certificate, _) if may_all() => Ok(()),
        (CredentialKind::Certificate, _) => Err(stronger("that key may do more than you; replace it with itself")),
        _ => Err(stronger("keys are replaced with a key or a client certificate, and not with a token")),
    }
}

/// Makes the key that follows: it may do the same, and lives as long as the operator let the old one live.
fn successor(old: &Key, caller: &Caller, now: Timestamp) -> Result<(Key, SecretString), Refusal> {
    let id = api_key_format::new_id(&old.consumer);
    let secret = api_key_format::mint(&id).map_err(|_| no_random_bytes())?;
    let lifetime = old.expires.map(|expires| expires.duration_since(old.not_before.unwrap_or(old.created)));
    let (_, with) = caller.credential();
    let key = Key {
        id: id.into(),
        sha256: digest_of(&secret),
        not_before: None,
        expires: lifetime.map(|lifetime| now.checked_add(lifetime).unwrap_or(Timestamp::MAX)),
        replaced_by: None,
        created: now,
        created_by: format!("its owner, with {}", with.unwrap_or("a certificate")).into(),
        ..old.clone()
    };
    Ok((key, secret))
}
