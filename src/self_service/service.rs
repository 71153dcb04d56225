//! What the endpoints have in common: what they work with, and how they answer.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::exchange::{Answer, Request};
use crate::policy::self_service::SelfService;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::state::registry::StoreError;

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

/// Refuses a change because the store did not make it.
pub(super) fn unsaved(error: &StoreError) -> Refusal {
    let detail = "the change could not be saved; ask the API's owner whether it was made before you try again";
    refuse(Stage::Request, Reason::StoreUnavailable, detail).cause(error.to_string())
}

/// Refuses a change because there are no random bytes for a key.
pub(super) fn no_random_bytes() -> Refusal {
    refuse(Stage::Request, Reason::StoreUnavailable, "no key can be made now; try again shortly")
        .cause("the system cannot provide random bytes")
}
