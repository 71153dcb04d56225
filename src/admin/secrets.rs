//! The secrets and certificates of the policy in force: where they come from, how old they are and what is wrong. Never a
//! value.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::runtime::InForce;
use crate::secrets::ages::InputError;
use crate::secrets::inputs::{Input, InputKind};

/// Maximum number of secrets on a page of metrics.
pub(super) const MOST_SECRETS: usize = 1000;

/// One secret, or one file of certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedSecret {
    /// As the policy writes it.
    pub(super) reference: String,
    /// `env`, `file` or `vault`.
    pub(super) source: &'static str,
    kind: &'static str,
    /// `FILE:LINE:COLUMN`, in the order of the policy.
    used_at: Vec<String>,
    version: Option<String>,
    /// Since when this value is known.
    pub(super) since: Option<Timestamp>,
    /// When its source last gave it.
    confirmed: Option<Timestamp>,
    /// What is wrong, and since when if that is known.
    pub(super) error: Option<(String, Option<Timestamp>)>,
}

/// The secrets of the policy in force: variables and files, and then those of the vault.
pub(super) fn listed(in_force: &InForce) -> Vec<ListedSecret> {
    let inputs = in_force.policy.inputs.iter().filter(|input| input.kind.is_listed());
    inputs.map(|input| of_input(input, in_force)).chain(of_vault(in_force)).collect()
}

fn of_input(input: &Input, in_force: &InForce) -> ListedSecret {
    let error = in_force.ages.error(&input.name).map(|InputError { message, since }| (message.into(), Some(since)));
    ListedSecret {
        reference: input.reference().to_owned(),
        source: if input.kind == InputKind::Variable { "env" } else { "file" },
        kind: if input.kind == InputKind::Certificates { "certificates" } else { "secret" },
        used_at: input.uses.iter().map(|one| one.place.to_string()).collect(),
        version: input.version(),
        since: in_force.ages.since(&input.name),
        confirmed: None,
        error,
    }
}

fn of_vault(in_force: &InForce) -> impl Iterator<Item = ListedSecret> {
    let mut places: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let vault = in_force.policy.vault.as_ref();
    for one in vault.into_iter().flat_map(|vault| vault.uses.iter()) {
        places.entry(&one.reference).or_default().push(one.place.to_string());
    }
    places.into_iter().map(move |(reference, used_at)| {
        let state = vault.and_then(|vault| vault.vault.kept.state(&reference.secret));
        ListedSecret {
            reference: format!("${{{reference}}}"),
            source: "vault",
            kind: "secret",
            used_at,
            version: state.as_ref().and_then(|state| state.version).map(|version| version.to_string()),
            since: state.as_ref().map(|state| state.changed),
            confirmed: state.as_ref().map(|state| state.confirmed),
            error: state.and_then(|state| Some((state.error()?.to_owned(), None))),
        }
    })
}

/// As JSON.
pub(super) fn view(secrets: &[ListedSecret], now: Timestamp) -> Vec<Value> {
    let one = |secret: &ListedSecret| {
        let age = secret.since.map(|since| now.duration_since(since).as_secs().max(0));
        let error = secret.error.as_ref().map(|(message, since)| json!({"message": message, "since": since}));
        json!({
            "reference": secret.reference, "source": secret.source, "kind": secret.kind, "used_at": secret.used_at,
            "version": secret.version, "since": secret.since, "age": age, "confirmed": secret.confirmed, "error": error,
        })
    };
    secrets.iter().map(one).collect()
}
