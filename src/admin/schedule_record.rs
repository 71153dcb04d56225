//! Audit records of what is done on schedule: keys that are made, and that end.

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;

use super::operator_record::{Answered, HERE, OperatorRequest};
use crate::audit::{Change, ChangeRecord, CredentialFacts, KEY_ROTATION_FAILED, Outcome, Record, Recorder};
use crate::exchange::{Exchange, Peer};
use crate::runtime::InForce;
use crate::stages::auth::CredentialKind;
use crate::stages::auth::key_rotation::{KeyRotation, SCHEDULE};
use crate::state::registry::entry::{Key, SigningKey};

/// Writes the record of a signing key that was made.
pub(crate) fn record_signing_key(recorder: &Recorder, in_force: &InForce, key: &SigningKey) {
    let target = format!("signing key {}", key.kid);
    let change = ChangeRecord { action: "signing_key_rotated", target, details: Change::default() };
    record(recorder, in_force, &key.created_by, change);
}

/// Writes the record of an API key that was made and delivered to the vault. `before`: the key before, and when it ends.
pub(crate) fn record_delivered_key(
    recorder: &Recorder,
    in_force: &InForce,
    rotation: &KeyRotation,
    key: &Key,
    before: Option<&(Box<str>, Timestamp)>,
) {
    let KeyRotation { consumer, deliver, .. } = rotation;
    let (action, target, until) = match before {
        Some((before, end)) => ("key_rotated", format!("{consumer} {before} -> {}", key.id), Some(*end)),
        None => ("key_created", format!("{consumer} {}", key.id), None),
    };
    let (scopes, reason) = (key.scopes.clone().unwrap_or_default(), Some(format!("delivered to {deliver}").into()));
    let details = Change { scopes, until, reason, drill: None };
    record(recorder, in_force, &key.created_by, ChangeRecord { action, target, details });
}

/// Writes the record of an API key that has ended, because another one has taken its place.
pub(crate) fn record_ended_key(recorder: &Recorder, in_force: &InForce, key: &Key) {
    let target = format!("{} {}", key.consumer, key.id);
    let details = Change { until: key.expires, ..Change::default() };
    record(recorder, in_force, SCHEDULE, ChangeRecord { action: "key_ended", target, details });
}

/// Writes an alert that the API key of a consumer cannot be rotated. `current`: the key that stays.
pub(crate) fn record_failed_rotation(
    recorder: &Recorder,
    in_force: &InForce,
    rotation: &KeyRotation,
    current: Option<&str>,
    why: &str,
) {
    let peer = Peer::new(HERE, None);
    let exchange = Exchange::unparsed(&peer);
    recorder.switch(Arc::clone(&in_force.trail));
    recorder.record(&Record {
        outcome: Outcome::Failure,
        consumer: Some(&rotation.consumer),
        credential: Some(CredentialFacts {
            kind: CredentialKind::ApiKey.as_str(),
            id: Some(current.unwrap_or(&rotation.id)),
            issuer: None,
        }),
        cause: Some(why),
        ..Record::of(&exchange, &peer, KEY_ROTATION_FAILED, in_force.policy.digest())
    });
}

fn record(recorder: &Recorder, in_force: &InForce, by: &str, change: ChangeRecord) {
    let peer = Peer::new(HERE, None);
    let reported = OperatorRequest { by: by.into(), change: Some(change), ..OperatorRequest::default() };
    let answered = Answered { status: StatusCode::OK, bytes: 0, refusal: None };
    recorder.switch(Arc::clone(&in_force.trail));
    reported.record(recorder, &peer, &Exchange::unparsed(&peer), in_force.policy.digest(), &answered);
}
