//! Readiness: `GET /readyz`.
//!
//! Not ready means that most of what the policy opens cannot be served, so that another node should be asked. What is
//! impaired beside that is `degraded`: taking this node out would make it worse. A probe that is stricter names the parts
//! that it requires: `?require=store,issuers`.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::view;
use crate::policy::validity::ValidityState;
use crate::policy::{Access, Policy};
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::secrets::vault::SecretState;
use crate::stages::auth::Authentication;
use crate::stages::auth::key_rotation::KeyRotation;
use crate::stages::auth::key_source::KeySource;
use crate::stages::auth::remote_key_set::Freshness;
use crate::state::registry::Health;

/// The state of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PartState {
    Ready,
    /// Impaired, but most of what the policy opens can be served.
    Degraded,
    /// Without it, most of what the policy opens cannot be served.
    Down,
}

/// The parts in their order on the page.
const PARTS: [&str; 5] = ["audit", "store", "issuers", "certificates", "secrets"];

/// What readiness is decided by.
#[derive(Debug, Clone)]
struct Facts {
    audit: PartState,
    store: Health,
    /// `store.on_failure: serve`.
    serves_stale: bool,
    /// The keys of each issuer.
    issuers: Vec<Freshness>,
    /// Callers can authenticate without an issuer's keys: by API key, certificate or introspection.
    other_credentials: bool,
    /// At least half of the routes need a credential.
    most_need_credentials: bool,
    /// Certificates and revocation lists of the listeners.
    certificates: Vec<ValidityState>,
    /// The vault has not given a secret again, or one is too old.
    secrets_fail: bool,
}

impl Facts {
    fn of(in_force: &InForce, now: Timestamp) -> Self {
        let (policy, auth, registry) = (&in_force.policy, &in_force.auth, in_force.registry());
        let rules = auth.rules();
        Self {
            audit: audit_state(in_force),
            store: registry.health(),
            serves_stale: rules.serve_stale,
            issuers: rules.issuers().map(|issuer| freshness(issuer.keys(), auth, now)).collect(),
            other_credentials: !rules.introspection.is_empty()
                || !rules.trusts.is_empty()
                || rules.keys.listed().next().is_some()
                || registry.has_keys(),
            most_need_credentials: most_need_credentials(policy),
            certificates: policy.validities().map(|validity| validity.state(now)).collect(),
            secrets_fail: in_force.stale.references() > 0
                || failing_secrets(in_force).next().is_some()
                || failing_renewals(in_force)
                || failing_rotations(in_force).next().is_some(),
        }
    }

    /// The state of each of [`PARTS`].
    fn parts(&self) -> [PartState; PARTS.len()] {
        let (store, issuers) = (self.store_state(), self.issuers_state());
        let invalid = |state: &ValidityState| matches!(state, ValidityState::Expired | ValidityState::NotYetValid);
        [
            self.audit,
            store,
            issuers,
            // Other nodes have the same ones.
            if self.certificates.iter().any(invalid) { PartState::Degraded } else { PartState::Ready },
            if self.secrets_fail { PartState::Degraded } else { PartState::Ready },
        ]
    }

    fn store_state(&self) -> PartState {
        match self.store {
            Health::Ready => PartState::Ready,
            Health::Stale if self.serves_stale => PartState::Degraded,
            // Requests are decided as ever, but nothing can be revoked now.
            Health::Unwritable => PartState::Degraded,
            // Every request with a credential is refused with 503.
            Health::Stale | Health::Loading if self.most_need_credentials => PartState::Down,
            Health::Stale | Health::Loading => PartState::Degraded,
        }
    }

    fn issuers_state(&self) -> PartState {
        let unavailable = |freshness: &Freshness| *freshness == Freshness::Unavailable;
        let none_left = !self.issuers.is_empty() && self.issuers.iter().all(unavailable) && !self.other_credentials;
        if none_left && self.most_need_credentials {
            PartState::Down
        } else if self.issuers.iter().any(|freshness| *freshness != Freshness::Ready) {
            PartState::Degraded
        } else {
            PartState::Ready
        }
    }
}

/// The secrets that the vault did not give when it was last asked, or that cannot be put in force, and why.
fn failing_secrets(in_force: &InForce) -> impl Iterator<Item = (String, SecretState)> {
    let vault = in_force.policy.vault.iter();
    vault
        .flat_map(|vault| {
            let states = vault.uses.secrets().into_iter();
            states.filter_map(|secret| Some((secret.to_string(), vault.vault.kept.state(secret)?)))
        })
        .filter(|(_, state)| state.error().is_some())
}

/// The API keys that cannot be rotated or delivered to the vault, and why.
fn failing_rotations(in_force: &InForce) -> impl Iterator<Item = (&KeyRotation, Box<str>)> {
    let rotations = in_force.policy.auth().keys.rotations().iter();
    rotations.filter_map(|rotation| Some((rotation, in_force.rotations.status(&rotation.id).error?)))
}

/// Whether a certificate could not be renewed.
fn failing_renewals(in_force: &InForce) -> bool {
    let mut vaults = in_force.policy.vault.iter();
    vaults.any(|vault| vault.certificates.iter().any(|one| vault.vault.certificate_error(one).is_some()))
}

/// While the spool keeps what a sink does not take, requests are served as ever.
fn audit_state(in_force: &InForce) -> PartState {
    match in_force.trail.failing() {
        Some(_) => PartState::Down,
        None if in_force.trail.degraded().is_some() => PartState::Degraded,
        None => PartState::Ready,
    }
}

fn most_need_credentials(policy: &Policy) -> bool {
    let routes = policy.routes();
    let scoped = routes.iter().filter(|route| matches!(route.access, Access::Scoped(_))).count();
    scoped > 0 && scoped.saturating_mul(2) >= routes.len()
}

fn freshness(keys: &KeySource, auth: &Authentication, now: Timestamp) -> Freshness {
    match keys {
        KeySource::Own if auth.own_keys(now).keys().is_empty() => Freshness::Unavailable,
        KeySource::Fixed(_) | KeySource::Own => Freshness::Ready,
        KeySource::Remote(position) => {
            auth.key_set(*position).map_or(Freshness::Unavailable, |remote| remote.freshness(now))
        }
    }
}

/// Returns the status and the body of `/readyz`. Fails if `require` in the query names something that is no part.
pub(super) fn page(in_force: &InForce, query: Option<&str>, now: Timestamp) -> Result<(StatusCode, Value), Refusal> {
    let states = Facts::of(in_force, now).parts();
    let is_ready = is_ready(states, query)?;
    let degraded: Vec<&str> =
        PARTS.into_iter().zip(states).filter(|(_, state)| *state != PartState::Ready).map(|(part, _)| part).collect();
    let key_sets = in_force
        .auth
        .key_sets()
        .iter()
        .map(|set| json!({"location": set.source().location.to_string(), "state": set.freshness(now).as_str()}));
    let certificates = in_force.policy.validities().filter(|one| one.state(now) != ValidityState::Valid).map(|one| {
        json!({
            "kind": one.kind.as_str(), "file": one.file, "name": one.name,
            "state": one.state(now).as_str(), "expires": one.end,
        })
    });
    let stats = in_force.trail.stats();
    let failing = stats.iter().filter(|sink| sink.error.is_some());
    let sinks: Vec<_> =
        failing.map(|sink| json!({"sink": sink.sink, "error": sink.error, "waiting": sink.waiting})).collect();
    let secrets = failing_secrets(in_force)
        .map(|(secret, state)| json!({"secret": secret, "error": state.error(), "confirmed": state.confirmed}));
    let rotations = failing_rotations(in_force)
        .map(|(rotation, error)| json!({"key": rotation.id, "consumer": rotation.consumer, "error": error}));
    let body = json!({
        "ready": is_ready,
        "degraded": degraded,
        "policy": &**in_force.policy.digest(),
        "key_sets": key_sets.collect::<Vec<_>>(),
        "store": {"state": view::health(in_force.registry().health())},
        "audit": {"failing": in_force.trail.failing(), "sinks": sinks},
        "certificates": certificates.collect::<Vec<_>>(),
        "secrets": {"failing": secrets.collect::<Vec<_>>(), "stale": in_force.stale.references(),
            "keys": rotations.collect::<Vec<_>>()},
    });
    Ok((if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body))
}

/// Whether no part is down, and every part that the query requires is ready.
fn is_ready(states: [PartState; PARTS.len()], query: Option<&str>) -> Result<bool, Refusal> {
    let mut ready = states.iter().all(|state| *state != PartState::Down);
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    for part in pairs.filter_map(|pair| pair.strip_prefix("require=")).flat_map(|parts| parts.split(',')) {
        let Some((_, state)) = PARTS.iter().zip(states).find(|(known, _)| **known == part) else {
            let detail = format!("`require` names a part that does not exist; the parts are {}", PARTS.join(", "));
            return Err(Refusal::new(Stage::Request, Reason::MalformedRequest, detail));
        };
        ready &= state == PartState::Ready;
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::PartState::{Degraded, Down, Ready};
    use super::*;

    #[test]
    fn not_ready_is_what_cannot_serve_most_and_the_rest_is_degraded() {
        // U5: Redis away with `refuse` was ready, and one of many issuers without keys was not.
        let well = Facts {
            audit: Ready,
            store: Health::Ready,
            serves_stale: false,
            issuers: vec![Freshness::Ready, Freshness::Ready],
            other_credentials: false,
            most_need_credentials: true,
            certificates: vec![ValidityState::Valid, ValidityState::ExpiresSoon],
            secrets_fail: false,
        };
        let issuers = |issuers: &[Freshness]| Facts { issuers: issuers.to_vec(), ..well.clone() };
        let (unavailable, stale) = (Freshness::Unavailable, Freshness::Stale);
        for (facts, expected) in [
            (well.clone(), [Ready, Ready, Ready, Ready, Ready]),
            (Facts { audit: Down, ..well.clone() }, [Down, Ready, Ready, Ready, Ready]),
            (Facts { audit: Degraded, ..well.clone() }, [Degraded, Ready, Ready, Ready, Ready]),
            (Facts { store: Health::Loading, ..well.clone() }, [Ready, Down, Ready, Ready, Ready]),
            (Facts { store: Health::Stale, ..well.clone() }, [Ready, Down, Ready, Ready, Ready]),
            (
                Facts { store: Health::Stale, serves_stale: true, ..well.clone() },
                [Ready, Degraded, Ready, Ready, Ready],
            ),
            (
                Facts { store: Health::Loading, most_need_credentials: false, ..well.clone() },
                [Ready, Degraded, Ready, Ready, Ready],
            ),
            (issuers(&[unavailable, Freshness::Ready]), [Ready, Ready, Degraded, Ready, Ready]),
            (issuers(&[stale, stale]), [Ready, Ready, Degraded, Ready, Ready]),
            (issuers(&[unavailable, unavailable]), [Ready, Ready, Down, Ready, Ready]),
            (
                Facts { other_credentials: true, ..issuers(&[unavailable, unavailable]) },
                [Ready, Ready, Degraded, Ready, Ready],
            ),
            (Facts { most_need_credentials: false, ..issuers(&[unavailable]) }, [Ready, Ready, Degraded, Ready, Ready]),
            (issuers(&[]), [Ready, Ready, Ready, Ready, Ready]),
            (
                Facts { certificates: vec![ValidityState::Expired], ..well.clone() },
                [Ready, Ready, Ready, Degraded, Ready],
            ),
            (
                Facts { certificates: vec![ValidityState::NotYetValid], ..well.clone() },
                [Ready, Ready, Ready, Degraded, Ready],
            ),
            (Facts { secrets_fail: true, ..well }, [Ready, Ready, Ready, Ready, Degraded]),
        ] {
            assert_eq!(facts.parts(), expected, "{facts:?}");
        }
    }

    #[test]
    fn a_stricter_probe_names_the_parts_that_it_requires() {
        let states = [Ready, Degraded, Ready, Degraded, Ready];
        for (query, expected) in [
            (None, Some(true)),
            (Some("x=1"), Some(true)),
            (Some("require=audit"), Some(true)),
            (Some("require=store"), Some(false)),
            (Some("require=audit,store"), Some(false)),
            (Some("require=audit&require=certificates"), Some(false)),
            (Some("require=everything"), None),
            (Some("require="), None),
        ] {
            assert_eq!(is_ready(states, query).ok(), expected, "{query:?}");
        }
        assert_eq!(is_ready([Down, Ready, Ready, Ready, Ready], None).ok(), Some(false));
    }
}
