//! What a store holds, compared with a policy: names that the store uses and the policy does not have, and names of both.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::view;
use crate::policy::Policy;
use crate::policy::diagnostic::{Problems, did_you_mean};
use crate::runtime::InForce;
use crate::state::registry::entry::Identity;

/// Maximum number of keys or clients that a message names.
const NAMED: usize = 5;
/// `source` of what the store holds, in lists of the admin API.
const STORE: &str = "store";

/// The consumers, keys and clients of a store.
pub(crate) struct StoreContent {
    consumers: Vec<StoredConsumer>,
    keys: Vec<StoredKey>,
    clients: Vec<StoredClient>,
}

#[derive(Deserialize)]
struct StoredConsumer {
    name: Box<str>,
    source: Box<str>,
    roles: Option<Vec<Box<str>>>,
    plan: Option<Box<str>>,
    identities: Vec<StoredIdentity>,
}

#[derive(Deserialize)]
struct StoredIdentity {
    /// Absent in identities of certificates.
    issuer: Option<Box<str>>,
}

#[derive(Deserialize)]
struct StoredKey {
    id: Box<str>,
    consumer: Box<str>,
    source: Box<str>,
    state: Box<str>,
    expires: Option<Timestamp>,
    /// Absent: nobody rotates it on schedule.
    rotation: Option<StoredRotation>,
}

#[derive(Deserialize)]
struct StoredClient {
    id: Box<str>,
    consumer: Box<str>,
    source: Box<str>,
}

#[derive(Deserialize)]
struct StoredRotation {
    id: Box<str>,
}

impl StoreContent {
    /// The content of an open store; empty while the store has not been read yet.
    pub(crate) fn of(in_force: &InForce, now: Timestamp) -> Self {
        let registry = in_force.registry();
        let issuer = |identity: &Identity| StoredIdentity {
            issuer: match identity {
                Identity::Issuer { issuer, .. } => Some(issuer.clone()),
                Identity::Certificate(_) | Identity::CertificateSan(_) => None,
            },
        };
        let consumers = registry.consumers().into_iter().map(|consumer| StoredConsumer {
            name: consumer.name.clone(),
            source: STORE.into(),
            roles: consumer.roles.clone(),
            plan: consumer.plan.clone(),
            identities: consumer.identities.iter().map(issuer).collect(),
        });
        let keys = registry.keys().into_iter().map(|key| {
            let state = view::state_of(&key, &in_force.policy, registry, now);
            let (id, consumer, expires) = (key.id.clone(), key.consumer.clone(), key.expires);
            let rotation = key.rotation.as_ref().map(|rotation| StoredRotation { id: rotation.of.clone() });
            StoredKey { id, consumer, source: STORE.into(), state: state.into(), expires, rotation }
        });
        let clients = registry.clients().into_iter().map(|client| StoredClient {
            id: client.id.clone(),
            consumer: client.consumer.clone(),
            source: STORE.into(),
        });
        Self { consumers: consumers.collect(), keys: keys.collect(), clients: clients.collect() }
    }

    /// Reads the items of `/v1/consumers`, `/v1/keys` and `/v1/clients`.
    pub(crate) fn read(
        consumers: Vec<Value>,
        keys: Vec<Value>,
        clients: Vec<Value>,
    ) -> Result<Self, serde_json::Error> {
        let mut consumers: Vec<StoredConsumer> = serde_json::from_value(Value::Array(consumers))?;
        let mut keys: Vec<StoredKey> = serde_json::from_value(Value::Array(keys))?;
        let mut clients: Vec<StoredClient> = serde_json::from_value(Value::Array(clients))?;
        consumers.retain(|consumer| *consumer.source == *STORE);
        keys.retain(|key| *key.source == *STORE);
        clients.retain(|client| *client.source == *STORE);
        Ok(Self { consumers, keys, clients })
    }

    /// Compares it with a policy. A name in both is an error: it would not say whose key is revoked, or whose rights
    /// count. A name that the policy lacks is a warning.
    pub(crate) fn compare(&self, policy: &Policy) -> Problems {
        let mut problems = Problems::new();
        let auth = policy.auth();
        for consumer in &self.consumers {
            let name = &consumer.name;
            if auth.directory.listed().contains_key(name) {
                problems
                    .error(None, format!("the consumer `{name}` is in the policy and in the store"))
                    .help(format!("rename it in the policy, or remove it first: `bartizan consumer remove {name}`"));
                continue;
            }
            compare_consumer(consumer, policy, &mut problems);
        }
        let listed: HashSet<&str> = auth.keys.listed().map(|listed| &*listed.id).collect();
        for key in &self.keys {
            if listed.contains(&*key.id) {
                let id = &key.id;
                problems.error(None, format!("the key `{id}` is in the policy and in the store")).help(format!(
                    "give it another `id` in the policy, or remove it first: `bartizan key remove {id}`"
                ));
            }
        }
        for StoredClient { id, .. } in self.clients.iter().filter(|client| auth.clients.contains_key(&client.id)) {
            problems
                .error(None, format!("the client `{id}` is in the policy and in the store"))
                .help(format!("give it another `id` in the policy, or remove it first: `bartizan client remove {id}`"));
        }
        self.orphans(policy, &mut problems);
        self.unrotated(policy, &mut problems);
        problems
    }

    /// Warns of keys that nobody rotates any more: the last one of a rotation has no end.
    fn unrotated(&self, policy: &Policy, problems: &mut Problems) {
        let rotations = policy.auth().keys.rotations();
        let endless = self.keys.iter().filter(|key| *key.state == *"active" && key.expires.is_none());
        for (key, rotation) in endless.filter_map(|key| Some((key, key.rotation.as_ref()?))) {
            if rotations.iter().any(|known| known.id == rotation.id && known.consumer == key.consumer) {
                continue;
            }
            let (id, of) = (&key.id, &rotation.id);
            let message =
                format!("the key `{id}` is no longer rotated: `{}` has no key `{of}` with `rotate`", key.consumer);
            let help = format!("write it again, or end the key: `bartizan key revoke {id}`");
            problems.warning(None, message).help(help);
        }
    }

    /// Warns of keys and clients that would be accepted again as soon as somebody gives their consumer's name to another one.
    fn orphans(&self, policy: &Policy, problems: &mut Problems) {
        let listed = policy.auth().directory.listed().keys();
        let known: HashSet<&str> =
            listed.chain(self.consumers.iter().map(|consumer| &consumer.name)).map(|name| &**name).collect();
        let keys = self.keys.iter().filter(|key| matches!(&*key.state, "active" | "not_yet"));
        let keys = keys.map(|key| ("key", &*key.consumer, &*key.id));
        let clients = self.clients.iter().map(|client| ("client", &*client.consumer, &*client.id));
        let mut orphans: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (kind, consumer, id) in keys.chain(clients).filter(|(_, consumer, _)| !known.contains(consumer)) {
            orphans.entry((consumer, kind)).or_default().push(id);
        }
        for ((consumer, kind), ids) in orphans {
            let mut named: Vec<_> = ids.iter().take(NAMED).map(|id| format!("`{id}`")).collect();
            if let Some(more) = ids.len().checked_sub(NAMED).filter(|more| *more > 0) {
                named.push(format!("{more} more"));
            }
            let message = format!(
                "the consumer `{consumer}` no longer exists, but the store has its {kind}s: {}",
                named.join(", ")
            );
            let help = format!("remove each, `bartizan {kind} remove ID`, or add the consumer again");
            problems.warning(None, message).help(help);
        }
    }
}

fn compare_consumer(consumer: &StoredConsumer, policy: &Policy, problems: &mut Problems) {
    let (auth, name) = (policy.auth(), &consumer.name);
    let directory = &auth.directory;
    let mut warn = |what: &str, missing: &str, meant: Option<String>| {
        let message = format!("the consumer `{name}` of the store has the {what} `{missing}`, which the policy lacks");
        let help =
            "add it to the policy, or change the consumer by PATCH /v1/consumers/NAME of the admin API".to_owned();
        problems.warning(None, message).help(meant.unwrap_or(help));
    };
    if let Some(plan) = consumer.plan.as_ref().filter(|plan| !directory.has_plan(plan)) {
        warn("plan", plan, did_you_mean(plan, directory.plan_names()));
    }
    for role in consumer.roles.iter().flatten().filter(|role| !directory.has_role(role)) {
        warn("role", role, did_you_mean(role, directory.role_names()));
    }
    let known: Vec<&str> = auth.issuer_names().collect();
    for issuer in consumer.identities.iter().filter_map(|identity| identity.issuer.as_deref()) {
        if !known.contains(&issuer) {
            warn("issuer", issuer, did_you_mean(issuer, known.iter().copied()));
        }
    }
}
