//! The gauges of `/metrics`, collected from their owners when the page is requested.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::admin::expiring_keys::{SOON, expiring};
use crate::admin::process;
use crate::admin::secrets::{self, MOST_SECRETS};
use crate::policy::{Api, Server};
use crate::runtime::InForce;
use crate::stages::auth::Authentication;
use crate::stages::auth::jwt::Issuer;
use crate::stages::auth::key_source::KeySource;
use crate::stages::auth::remote_key_set::Freshness;
use crate::state::endpoint::EndpointState;
use crate::state::registry::{Health, Registry};
use crate::telemetry::{
    AddressNumbers, AuditNumbers, CertificateNumbers, Gauges, InputNumbers, IssuerNumbers, KeyNumbers, MemoryNumbers,
    RotationNumbers, SecretNumbers, SharedLimitNumbers, SinkNumbers, StoreNumbers, VaultNumbers,
};

/// Maximum number of API keys whose expiry a page lists.
const MOST_KEYS: usize = 1000;
/// Maximum length of a `kid` label, in characters.
const MAX_KID: usize = 128;

/// Collects the current values.
pub(super) fn gauges(in_force: &InForce, now: Timestamp) -> Gauges {
    let registry = in_force.registry();
    let ending = expiring(&in_force.policy.auth().keys, registry, SOON, now);
    let endings = ending.len();
    let ending = ending.into_iter().take(MOST_KEYS);
    let ending = ending.map(|one| KeyNumbers {
        consumer: one.consumer.into_string(),
        key: one.key.into_string(),
        end: one.end.as_second(),
    });
    let (ending, store) = (ending.collect(), store(registry));
    let memory = &in_force.memory;
    let memory = MemoryNumbers { in_use: memory.in_use(), limit: memory.limit(), refusals: memory.refusals() };
    let certificates = in_force.policy.validities().filter_map(|one| {
        let (kind, file, name) = (one.kind.as_str(), one.file.to_string(), one.name.to_string());
        Some(CertificateNumbers { kind, file, name, end: one.end?.as_second() })
    });
    let secrets = secrets::listed(in_force).into_iter().take(MOST_SECRETS).map(|one| InputNumbers {
        source: one.source,
        up: one.error.is_none(),
        since: one.since.map(Timestamp::as_second),
        reference: one.reference,
    });
    let secrets = secrets.collect();
    let (certificates, process) = (certificates.collect(), process::numbers());
    Gauges {
        audit: audit(in_force),
        memory,
        certificates,
        secrets,
        process,
        issuers: issuers(&in_force.auth, now),
        store,
        vault: vault(in_force, now),
        rotations: rotations(in_force),
        addresses: addresses(in_force),
        ending,
        endings,
    }
}

fn vault(in_force: &InForce, now: Timestamp) -> Option<VaultNumbers> {
    let vault = in_force.policy.vault.as_ref()?;
    let numbers = vault.uses.secrets().into_iter().filter_map(|secret| {
        let state = vault.vault.kept.state(secret)?;
        let age = now.duration_since(state.confirmed).as_secs_f64().max(0.0);
        Some(SecretNumbers { secret: secret.to_string(), age, failures: state.failures })
    });
    Some(VaultNumbers { secrets: numbers.collect(), logins: vault.vault.logins() })
}

fn addresses(in_force: &InForce) -> Vec<AddressNumbers> {
    let (now, endpoints) = (in_force.ledger.tick(Instant::now()), in_force.endpoints.current());
    let of_server = |api: &Api, server: &Server| {
        let resolved = endpoints.0.get(server.index).map(|resolved| &*resolved.endpoints).unwrap_or_default();
        let count = |state| resolved.iter().filter(|endpoint| endpoint.state(now) == state).count();
        let states = EndpointState::ALL.map(|state| (state.as_str(), count(state)));
        AddressNumbers { api: api.name().to_string(), server: server.name.to_string(), states: states.to_vec() }
    };
    let apis = in_force.policy.apis().iter();
    apis.flat_map(|api| api.upstream().servers.iter().map(move |server| of_server(api, server))).collect()
}

fn rotations(in_force: &InForce) -> Vec<RotationNumbers> {
    let rotations = in_force.policy.auth().keys.rotations();
    let keys = if rotations.is_empty() { Vec::new() } else { in_force.registry().rotated_keys() };
    let numbers = rotations.iter().map(|rotation| {
        let status = in_force.rotations.status(&rotation.id);
        RotationNumbers {
            consumer: rotation.consumer.to_string(),
            key: rotation.id.to_string(),
            up: status.error.is_none(),
            failures: status.failures,
            next: keys.iter().filter_map(|key| rotation.next(key)).max().map(Timestamp::as_second),
        }
    });
    numbers.collect()
}

fn audit(in_force: &InForce) -> AuditNumbers {
    let stats = in_force.trail.stats();
    AuditNumbers {
        records: stats.iter().map(|sink| sink.records_written).sum(),
        bytes: stats.iter().map(|sink| sink.bytes_written).sum(),
        failing: in_force.trail.failing().is_some(),
        dropped: in_force.trail.dropped(),
        spooled: in_force.trail.spooled(),
        sinks: stats
            .into_iter()
            .map(|sink| SinkNumbers {
                sink: sink.sink,
                waiting: sink.waiting,
                lag: sink.lag.as_secs_f64(),
                failures: sink.failures,
                rejected: sink.rejected,
                rejected_not_kept: sink.rejected_not_kept,
            })
            .collect(),
    }
}

fn issuers(auth: &Authentication, now: Timestamp) -> Vec<IssuerNumbers> {
    let mut issuers: Vec<_> = auth.rules().issuers().collect();
    issuers.sort_by(|one, other| (one.name(), one.iss()).cmp(&(other.name(), other.iss())));
    // The tenants of an issuer may share their keys, which count once.
    let mut seen: Vec<(&str, &KeySource)> = Vec::new();
    let mut all: Vec<IssuerNumbers> = Vec::new();
    for issuer in issuers {
        let is_same = |(name, keys): &(&str, &KeySource)| *name == issuer.name() && keys.is_same(issuer.keys());
        if seen.iter().any(is_same) {
            continue;
        }
        seen.push((issuer.name(), issuer.keys()));
        let more = numbers(issuer, auth, now);
        match all.last_mut().filter(|last| last.name == more.name) {
            Some(last) => last.add(more),
            None => all.push(more),
        }
    }
    all
}

fn numbers(issuer: &Issuer, auth: &Authentication, now: Timestamp) -> IssuerNumbers {
    let (set, loaded, freshness) = match issuer.keys() {
        KeySource::Fixed(set) => (Some(Arc::clone(set)), None, Freshness::Ready),
        KeySource::Own => {
            let set = auth.own_keys(now);
            let is_empty = set.keys().is_empty();
            (Some(Arc::new(set)), None, if is_empty { Freshness::Unavailable } else { Freshness::Ready })
        }
        KeySource::Remote(position) => {
            let remote = auth.key_set(*position);
            let set = remote.and_then(|remote| remote.cached()).map(|(set, _)| set);
            let confirmed = remote.and_then(|remote| remote.confirmed()).map(Timestamp::as_second);
            (set, confirmed, remote.map_or(Freshness::Unavailable, |remote| remote.freshness(now)))
        }
    };
    let keys = set.iter().flat_map(|set| set.keys());
    let name = |kid: Option<&str>| kid.unwrap_or_default().chars().take(MAX_KID).collect();
    let tokens: Vec<_> = keys.map(|key| (name(key.kid()), key.verified())).collect();
    IssuerNumbers {
        name: issuer.name().to_owned(),
        up: freshness == Freshness::Ready,
        keys: if freshness == Freshness::Unavailable { 0 } else { tokens.len() },
        loaded,
        tokens,
    }
}

fn store(registry: &Registry) -> Option<StoreNumbers> {
    let entries = registry.counts().map(|(kind, count)| (kind.as_str(), count)).to_vec();
    let kind = registry.config()?.kind();
    let limits = registry.counters().map(|counters| SharedLimitNumbers {
        up: counters.is_available(),
        nodes: counters.nodes(),
        questions: counters.questions(),
        blocks: counters.tokens(),
    });
    Some(StoreNumbers { kind, up: registry.health() == Health::Ready, entries, limits })
}
