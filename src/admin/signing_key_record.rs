//! The audit record of a signing key that was made on schedule.

use std::sync::Arc;

use http::StatusCode;

use super::operator_record::{Answered, ChangeRecord, HERE, OperatorRequest};
use crate::audit::{Change, Recorder};
use crate::exchange::{Exchange, Peer};
use crate::runtime::InForce;
use crate::state::registry::entry::SigningKey;

/// Writes the record.
pub(crate) fn record_signing_key(recorder: &Recorder, in_force: &InForce, key: &SigningKey) {
    let peer = Peer::new(HERE, None);
    let target = format!("signing key {}", key.kid);
    let change = ChangeRecord { action: "signing_key_rotated", target, details: Change::default() };
    let reported = OperatorRequest { by: key.created_by.clone(), change: Some(change), ..OperatorRequest::default() };
    let answered = Answered { status: StatusCode::OK, bytes: 0, refusal: None };
    recorder.switch(Arc::clone(&in_force.trail));
    reported.record(recorder, &peer, &Exchange::unparsed(&peer), in_force.policy.digest(), &answered);
}
