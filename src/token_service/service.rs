//! What the endpoints have in common: what they work with, and how they answer.

use std::borrow::Cow;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::exchange::{Answer, Request};
use crate::policy::token_service::TokenService;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::stages::auth::cache::TokenCache;
use crate::state::signing::{Signing, SigningError};

/// What the endpoints have in common.
pub(super) struct Service<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) config: &'a TokenService,
    pub(super) signing: &'a Signing,
    pub(super) request: &'a Request<'a>,
    /// Tokens that this worker has verified.
    pub(super) tokens: &'a TokenCache,
}

/// An answer that nobody may keep (RFC 6749 §5.1).
pub(super) fn private(body: &Value) -> Box<Answer> {
    let mut answer = published(body, 0);
    answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer that anybody may keep for this many seconds.
pub(super) fn published(body: &Value, age: i64) -> Box<Answer> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::try_from(format!("public, max-age={age}")) {
        headers.insert(CACHE_CONTROL, value);
    }
    Box::new(Answer { status: StatusCode::OK, headers, body: body.to_string().into() })
}

pub(super) fn refuse(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Refusal {
    let stage = if matches!(reason, Reason::InvalidScope | Reason::InvalidTarget) { Stage::Scope } else { Stage::Auth };
    Refusal::new(stage, reason, detail)
}

/// Refuses a request that is not what RFC 6749 asks for: `invalid_request`.
pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Refusal {
    refuse(Reason::MalformedRequest, detail)
}

pub(super) fn unavailable(cause: impl Into<Cow<'static, str>>) -> Refusal {
    refuse(Reason::IdentityUnavailable, "no token can be given now; try again shortly").cause(cause)
}

impl From<SigningError> for Refusal {
    fn from(error: SigningError) -> Self {
        unavailable(error.to_string())
    }
}
