//! JSON views of policy, consumers, keys and revocations for operators. Never a secret.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::audit::Trail;
use crate::policy::{Access, Policy, Rights};
use crate::stages::auth::client::{Client, ClientCredential};
use crate::stages::auth::key_source::KeySource;
use crate::stages::auth::remote_key_set::Freshness;
use crate::stages::auth::{Authentication, Consumer as Listed, api_key};
use crate::stages::scope::Requirement;
use crate::state::registry::entry::{self, Consumer, Grant, Identity, Invitation, Key, Revocation, Suspension, hex};
use crate::state::registry::revocation_key::RevocationTarget;
use crate::state::registry::{Health, Registry};

/// The public part of a policy: never a secret.
pub(super) fn policy(policy: &Policy) -> Value {
    let apis: Vec<Value> = policy
        .apis()
        .iter()
        .map(|api| {
            let routes: Vec<Value> = policy
                .routes()
                .iter()
                .filter(|route| Arc::ptr_eq(route.api(), api))
                .map(|route| match &route.access {
                    Access::Public => json!({"route": &**route.name(), "public": true, "from": route.networks}),
                    Access::Scoped(requirement) => json!({
                        "route": &**route.name(),
                        "scopes": requirement.scopes(),
                        "from": route.networks,
                        "where": compared(requirement),
                        "only": requirement.only().map(|names| names.iter().map(|name| &**name).collect::<Vec<_>>()),
                    }),
                })
                .collect();
            let servers: Vec<_> = api.upstream().servers.iter().map(|server| &*server.name).collect();
            json!({"api": &**api.name(), "hosts": api.hosts(), "servers": servers, "routes": routes})
        })
        .collect();
    json!({"digest": &**policy.digest(), "apis": apis})
}

/// What requests name, and what of the caller it must be.
fn compared(requirement: &Requirement) -> Value {
    let conditions = requirement.ownership().unwrap_or_default().iter();
    conditions.map(|one| (one.name().to_owned(), Value::from(one.value()))).collect()
}

/// An operator, as the page shows it.
pub(super) fn operator(name: &str, rights: Rights) -> Value {
    let rights = match rights {
        Rights::Read => "read",
        Rights::Operate => "operate",
    };
    json!({"name": name, "rights": rights})
}

/// Where records go. `lag`: the age of the oldest record that waits, in seconds.
pub(super) fn sinks(trail: &Trail) -> Value {
    let sinks = trail.stats().into_iter().map(|sink| {
        json!({
            "sink": sink.sink, "records": sink.records_written, "bytes": sink.bytes_written, "waiting": sink.waiting,
            "lag": sink.lag.as_secs(), "failures": sink.failures, "rejected": sink.rejected, "error": sink.error,
        })
    });
    json!({"items": sinks.collect::<Vec<_>>(), "spooled_bytes": trail.spooled(), "dropped": trail.dropped()})
}

/// The state of the store.
pub(super) fn health(health: Health) -> &'static str {
    match health {
        Health::Ready => "ready",
        Health::Stale => "out_of_reach",
        Health::Loading => "loading",
        Health::Unwritable => "unwritable",
    }
}

/// The issuers and introspection endpoints, and the state of their keys.
pub(super) fn issuers(auth: &Authentication, now: Timestamp) -> Vec<Value> {
    let rules = auth.rules();
    let mut issuers: Vec<Value> = rules
        .issuers()
        .map(|issuer| {
            let (set, since, state, location) = match issuer.keys() {
                KeySource::Fixed(set) => (Some(Arc::clone(set)), None, "ready", None),
                KeySource::Own => {
                    let set = auth.own_keys(now);
                    let state = if set.keys().is_empty() { Freshness::Unavailable } else { Freshness::Ready };
                    (Some(Arc::new(set)), None, state.as_str(), None)
                }
                KeySource::Remote(position) => {
                    let remote = auth.key_set(*position);
                    let keys = remote.and_then(|remote| remote.cached());
                    let since = keys.as_ref().map(|(_, since)| since.to_string());
                    let state = remote.map_or(Freshness::Unavailable, |remote| remote.freshness(now)).as_str();
                    let location = remote.map(|remote| remote.source().location.to_string());
                    (keys.map(|(set, _)| set), since, state, location)
                }
            };
            let key = |key: &crate::stages::auth::key_set::VerificationKey| {
                let algorithms: Vec<_> = key.algorithms().iter().map(|algorithm| format!("{algorithm:?}")).collect();
                json!({"kid": key.kid(), "algorithms": algorithms, "tokens": key.verified()})
            };
            let keys: Vec<_> = set.iter().flat_map(|set| set.keys().iter().map(|one| key(one))).collect();
            json!({"name": issuer.name(), "issuer": issuer.iss(), "kind": "keys", "state": state, "keys": keys,
                "since": since, "location": location})
        })
        .collect();
    let text = |issuer: &Value, key| issuer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    issuers.sort_by_key(|issuer| (text(issuer, "name"), text(issuer, "issuer")));
    issuers.extend(rules.introspection.iter().map(|endpoint| {
        json!({"name": endpoint.settings().name, "kind": "introspection", "location": endpoint.endpoint().to_string()})
    }));
    issuers
}

fn identity(identity: &Identity) -> Value {
    match identity {
        Identity::Issuer { issuer, id } => json!({"issuer": issuer, "id": id}),
        Identity::Certificate(thumbprint) => json!({"certificate": format!("sha256:{}", hex::encode(thumbprint))}),
        Identity::CertificateSan(name) => json!({"certificate_san": name.to_string()}),
    }
}

/// A consumer of the policy.
pub(super) fn listed(policy: &Policy, consumer: &Listed, registry: &Registry) -> Value {
    let identities: Vec<_> = policy.auth().directory.identities(consumer.name()).into_iter().map(identity).collect();
    json!({
        "name": &**consumer.name(), "source": "policy", "roles": consumer.roles(),
        "plan": consumer.plan().map(|plan| plan.name().to_string()), "organization": consumer.organization(),
        "from": consumer.networks(), "attributes": consumer.attributes(), "identities": identities,
        "suspension": registry.suspension(consumer.name()).map(|one| suspension(&one)),
    })
}

/// A consumer made at run time.
pub(super) fn added(consumer: &Consumer, registry: &Registry) -> Value {
    json!({
        "name": consumer.name, "source": "store", "roles": consumer.roles, "plan": consumer.plan,
        "organization": consumer.organization, "from": consumer.from, "attributes": consumer.attributes,
        "identities": consumer.identities.iter().map(identity).collect::<Vec<_>>(), "note": consumer.note,
        "created": consumer.created, "created_by": consumer.created_by,
        "suspension": registry.suspension(&consumer.name).map(|one| suspension(&one)),
    })
}

/// A suspension.
pub(super) fn suspension(suspension: &Suspension) -> Value {
    json!({
        "consumer": suspension.consumer, "until": suspension.until, "reason": suspension.reason,
        "created": suspension.created, "created_by": suspension.created_by,
    })
}

/// A grant.
pub(super) fn grant(grant: &Grant) -> Value {
    json!({
        "id": grant.id, "consumer": grant.consumer, "scopes": grant.scopes, "until": grant.until,
        "reason": grant.reason, "created": grant.created, "created_by": grant.created_by,
    })
}

/// An invitation; never its code.
pub(super) fn invitation(invitation: &Invitation, now: Timestamp) -> Value {
    let claimed = invitation.claimed.as_ref();
    let credential = claimed.map(|claim| &claim.credential);
    let is_client = invitation.credential.is_client();
    json!({
        "id": invitation.id, "consumer": invitation.consumer, "plan": invitation.plan,
        "credential": invitation.credential, "state": invitation.state(now), "scopes": invitation.scopes,
        "from": invitation.from, "key_lifetime": invitation.lifetime, "expires": invitation.expires,
        "claimed": claimed.map(|claim| claim.at), "claimed_from": claimed.map(|claim| claim.address),
        "key": credential.filter(|_| !is_client), "client": credential.filter(|_| is_client), "note": invitation.note,
        "created": invitation.created, "created_by": invitation.created_by,
    })
}

/// A revocation.
pub(super) fn revocation(revocation: &Revocation) -> Value {
    let mut shown = json!({
        "id": revocation.target.id(), "issued_before": revocation.issued_before, "expires": revocation.expires,
        "reason": revocation.reason, "created": revocation.created, "created_by": revocation.created_by,
    });
    let target = match &revocation.target {
        RevocationTarget::Token(digest) => json!({"sha256": hex::encode(digest)}),
        RevocationTarget::Jti(jti) => json!({"jti": jti}),
        RevocationTarget::Subject { issuer, subject } => json!({"subject": subject, "issuer": issuer}),
        RevocationTarget::Consumer(name) => json!({"consumer": name}),
        RevocationTarget::Key(id) => json!({"key": id}),
        RevocationTarget::Certificate(digest) => json!({"certificate": format!("sha256:{}", hex::encode(digest))}),
        RevocationTarget::Issuer(name) => json!({"issuer": name}),
        RevocationTarget::Family(id) => json!({"family": id}),
        RevocationTarget::All => json!({"all": true}),
    };
    if let (Value::Object(shown), Value::Object(target)) = (&mut shown, target) {
        shown.extend(target);
    }
    shown
}

/// A key of the policy.
pub(super) fn listed_key(listed: &api_key::Key, policy: &Policy, registry: &Registry, now: Timestamp) -> Value {
    key(listed, None, policy, registry, now)
}

/// A key made at run time.
pub(super) fn made(made: &Key, policy: &Policy, registry: &Registry, now: Timestamp) -> Value {
    key(&as_listed(made, policy), Some(made), policy, registry, now)
}

/// Whether a key made at run time is good now: its `state`.
pub(super) fn state_of(made: &Key, policy: &Policy, registry: &Registry, now: Timestamp) -> &'static str {
    as_listed(made, policy).state(policy.auth().keys.max_age(), registry, now)
}

fn as_listed(made: &Key, policy: &Policy) -> api_key::Key {
    // Views show only the consumer's name, so the rest is left empty.
    let consumer = Arc::new(Listed::new(&made.consumer, Vec::new(), None, None));
    policy.auth().keys.of_registry(made, consumer)
}

/// A client made at run time.
pub(super) fn made_client(stored: &entry::Client, registry: &Registry, now: Timestamp) -> Value {
    // Views show only the consumer's name, so the rest is left empty.
    let consumer = Arc::new(Listed::new(&stored.consumer, Vec::new(), None, None));
    client(&Client::of_registry(stored, consumer), Some(stored), registry, now)
}

/// A client of the policy, or `made` at run time.
pub(super) fn client(client: &Client, made: Option<&entry::Client>, registry: &Registry, now: Timestamp) -> Value {
    let (mut secrets, mut certificate, mut thumbprint) = (None, None, None);
    match &client.credential {
        ClientCredential::Secrets(all) => {
            // Those that have ended are remembered, and good for nothing.
            let good = all.iter().filter(|secret| secret.expires.is_none_or(|end| end > now));
            let shown = good.map(|secret| json!({"created": secret.created, "expires": secret.expires}));
            secrets = Some(shown.collect::<Vec<_>>());
        }
        ClientCredential::Certificate(digest) => certificate = Some(format!("sha256:{}", hex::encode(digest))),
        ClientCredential::Key(key) => thumbprint = Some(&key.thumbprint),
        ClientCredential::Keys(_) => {}
    }
    json!({
        "id": client.id, "consumer": &**client.consumer.name(), "source": if made.is_some() { "store" } else { "policy" },
        "credential": client.credential.kind().as_str(), "state": client.state(registry, now), "scopes": client.scopes,
        "from": client.networks.as_deref(), "expires": client.expires, "secrets": secrets, "certificate": certificate,
        "thumbprint": thumbprint, "note": made.and_then(|made| made.note.as_ref()), "created": client.created,
        "created_by": made.map(|made| &made.created_by),
    })
}

/// How a key is rotated that is made on schedule.
fn rotation(key: &Key, policy: &Policy) -> Option<Value> {
    let made = key.rotation.as_ref()?;
    let settings = policy.auth().keys.rotations().iter().find(|settings| settings.owns(key));
    Some(json!({
        "id": made.of, "delivered": made.delivered, "deliver": settings.map(|settings| settings.deliver.to_string()),
        "next": settings.and_then(|settings| settings.next(key)),
        "asked_by": made.asked.as_ref().map(|asked| &asked.by),
    }))
}

fn key(key: &api_key::Key, made: Option<&Key>, policy: &Policy, registry: &Registry, now: Timestamp) -> Value {
    let state = key.state(policy.auth().keys.max_age(), registry, now);
    let last = registry.usage(&key.id).last();
    json!({
        "id": key.id, "consumer": &**key.consumer.name(), "source": if made.is_some() { "store" } else { "policy" },
        "state": state, "scopes": key.scopes, "from": key.networks, "created": key.created, "not_before": key.not_before,
        "expires": key.expires, "created_by": made.map(|made| &made.created_by),
        "note": made.and_then(|made| made.note.as_ref()),
        "replaced_by": made.and_then(|made| made.replaced_by.as_ref()), "rotation": made.and_then(|made| rotation(made, policy)),
        "last_used": last.map(|last| last.at), "last_address": last.map(|last| last.address),
    })
}
