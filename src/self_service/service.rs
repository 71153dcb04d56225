//! What the endpoints have in common: what they work with, and how they answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::audit::ChangeRecord;
use crate::chain::Trace;
use crate::exchange::{Answer, Request};
use crate::policy::self_service::SelfService;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::state::registry::entry::Change;
use crate::state::registry::{Registry, StoreError};

/// Pages of other origins cannot load an answer (Fetch, Cross-Origin-Resource-Policy).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What the endpoints have in common.
pub(super) struct Service<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) config: &'a SelfService,
    pub(super) request: &'a Request<'a>,
}

/// An answer for the caller alone, which nobody may keep.
pub(super) fn private(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Box<Answer> {
    let mut headers = HeaderMap::with_capacity(6);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    Box::new(Answer { status, headers, body: body.into() })
}

/// The same, as JSON.
pub(super) fn json(status: StatusCode, body: &Value) -> Box<Answer> {
    private(status, "application/json", body.to_string())
}

pub(super) fn refuse(stage: Stage, reason: Reason, detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(stage, reason, detail)
}

pub(super) fn conflict(detail: impl Into<Cow<'static, str>>) -> Refusal {
    refuse(Stage::Request, Reason::Conflict, detail)
}

/// Makes changes that a caller asked for. They are on record even if it leaves meanwhile, because they are made all the same; unless
/// it is known that nothing was changed. They are made only if `holds` once no other change is under way on this node. `changed`
/// refuses them because something else was changed at the same moment.
pub(super) async fn change(
    registry: &Registry,
    holds: impl FnOnce() -> bool,
    changes: Vec<Change>,
    record: ChangeRecord,
    trace: &mut Trace,
    changed: impl FnOnce() -> Refusal,
) -> Result<(), Refusal> {
    let Some(_turn) = registry.turn_of_caller() else {
        let detail = "too many change their keys at this moment; try again shortly";
        return Err(refuse(Stage::Request, Reason::StoreUnavailable, detail));
    };
    trace.change = Some(Box::new(record));
    registry.change_if(holds, changes).await.map_err(|error| match error {
        StoreError::Unreachable(_) | StoreError::Unusable(_) => unsaved(&error),
        error => {
            trace.change = None;
            match error {
                StoreError::Changed => changed(),
                StoreError::Exists => conflict("somebody else has just registered the same; make a new one"),
                error => unsaved(&error),
            }
        }
    })
}

/// Refuses a change because the store did not make it.
fn unsaved(error: &StoreError) -> Refusal {
    let detail = "the change could not be saved; ask the API's owner whether it was made before you try again";
    refuse(Stage::Request, Reason::StoreUnavailable, detail).cause(error.to_string())
}

/// Refuses a change because there are no random bytes for a key.
pub(super) fn no_random_bytes() -> Refusal {
    refuse(Stage::Request, Reason::StoreUnavailable, "no key can be made now; try again shortly")
        .cause("the system cannot provide random bytes")
}
