//! Keeps the API keys that are made on schedule: each round does what is to be done for every one of them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::{record_delivered_key, record_ended_key, record_failed_rotation};
use crate::audit::{KEY_ROTATION_FAILED, Recorder};
use crate::proxy::downstream::worker::Shared;
use crate::runtime::InForce;
use crate::secrets::vault::SecretPath;
use crate::stages::auth::key_rotation::KeyRotation;
use crate::stages::auth::key_rotation::rotator::{Delivered, Outcome, Rotator};
use crate::state::registry::Health;
use crate::state::registry::entry::Key;
use crate::telemetry::Metrics;

/// The pause between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// After how many failures in a row there is an alert: within a few seconds.
const ALARM: u32 = 3;
/// How many rotations wait for the vault at once.
const AT_ONCE: usize = 8;
/// How long the end waits for a round that is under way.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// The task, for the life of the daemon. It may be ended within a change of the store, which is whole or not at all.
pub(super) struct KeyRotations {
    task: JoinHandle<()>,
    /// Dropped to stop the task between two rounds.
    stop: oneshot::Sender<()>,
}

impl KeyRotations {
    /// Starts it, for the policy that is in force at each moment. Must be called within a local runtime.
    pub(super) fn start(shared: &Arc<Shared>, recorder: &Rc<Recorder>) -> Self {
        let (shared, recorder) = (Arc::clone(shared), Rc::clone(recorder));
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::task::spawn_local(async move {
            while tokio::time::timeout(ROUND, &mut stopped).await.is_err() {
                round(&shared, &recorder).await;
            }
        });
        Self { task, stop }
    }

    /// Stops. What is under way is repeated at the next start.
    pub(super) async fn close(self) {
        let Self { mut task, stop } = self;
        drop(stop);
        if tokio::time::timeout(LAST_ROUND, &mut task).await.is_err() {
            task.abort();
        }
    }
}

async fn round(shared: &Shared, recorder: &Rc<Recorder>) {
    let in_force = shared.in_force.current();
    let rotations = in_force.policy.auth().keys.rotations();
    in_force.rotations.retain(|id| rotations.iter().any(|rotation| *rotation.id == *id));
    if rotations.is_empty() || in_force.registry().health() != Health::Ready {
        return;
    }
    let mut keys: BTreeMap<Box<str>, Vec<Arc<Key>>> = BTreeMap::new();
    for key in in_force.registry().rotated_keys() {
        if let Some(rotation) = &key.rotation {
            keys.entry(rotation.of.clone()).or_default().push(key);
        }
    }
    // Those of one secret are in turn: an engine of version 1 knows no check and set, so that one write would undo the other.
    let mut by_secret: BTreeMap<&SecretPath, Vec<_>> = BTreeMap::new();
    for (position, rotation) in rotations.iter().enumerate() {
        let mut own = keys.remove(&rotation.id).unwrap_or_default();
        own.retain(|key| rotation.owns(key));
        by_secret.entry(&rotation.deliver.secret).or_default().push((position, own));
    }
    let mut running = JoinSet::new();
    for of_secret in by_secret.into_values() {
        if running.len() >= AT_ONCE {
            running.join_next().await;
        }
        let (in_force, recorder, metrics) = (Arc::clone(&in_force), Rc::clone(recorder), shared.metrics.clone());
        running.spawn_local(async move {
            for (position, own) in of_secret {
                one(&in_force, position, own, &recorder, &metrics).await;
            }
        });
    }
    while running.join_next().await.is_some() {}
}

/// Does what is to be done for the rotation at this position.
async fn one(in_force: &InForce, position: usize, keys: Vec<Arc<Key>>, recorder: &Recorder, metrics: &Metrics) {
    let rules = in_force.policy.auth();
    let (Some(rotation), Some(vault)) = (rules.keys.rotations().get(position), &in_force.policy.vault) else { return };
    let (registry, progress, vault) = (&**in_force.registry(), &*in_force.rotations, &*vault.vault);
    let rotator = Rotator { rotation, listed: &rules.keys, registry, vault, progress };
    let now = Timestamp::now();
    for key in rotator.mark_ended(&keys, now).await {
        tracing::info!(key = &*key.id, consumer = &*key.consumer, "an API key that was replaced has ended");
        record_ended_key(recorder, in_force, &key);
    }
    let current = keys.iter().find(|key| rotation.next(key).is_some()).cloned();
    match rotator.advance(keys, now).await {
        Outcome::Nothing => {}
        Outcome::Delivered(Delivered { key, before }) => {
            let (consumer, place) = (&*rotation.consumer, &rotation.deliver);
            let end = before.as_ref().map(|(_, end)| end.to_string());
            tracing::info!(key = &*key.id, consumer, %place, end_of_the_last = end, "the next API key is in the vault");
            record_delivered_key(recorder, in_force, rotation, &key, before.as_ref());
        }
        Outcome::Failed { why, streak: 1 } => {
            tracing::warn!(rotation = &*rotation.id, why, "an API key was not rotated or delivered; it is tried again");
        }
        Outcome::Failed { why, streak } if streak != ALARM => {
            tracing::debug!(rotation = &*rotation.id, why, streak, "an API key still cannot be rotated or delivered");
        }
        Outcome::Failed { why, .. } => {
            failed(rotation, current.as_deref(), &why);
            metrics.alert(KEY_ROTATION_FAILED);
            record_failed_rotation(recorder, in_force, rotation, current.as_ref().map(|key| &*key.id), &why);
        }
    }
}

fn failed(rotation: &KeyRotation, current: Option<&Key>, why: &str) {
    let (consumer, id) = (&*rotation.consumer, &*rotation.id);
    match current {
        Some(key) => tracing::error!(
            rotation = id,
            consumer,
            key = &*key.id,
            why,
            "an API key cannot be rotated; the one before stays, beyond its time"
        ),
        None => {
            tracing::error!(rotation = id, consumer, why, "an API key cannot be delivered; the consumer has none yet");
        }
    }
}
