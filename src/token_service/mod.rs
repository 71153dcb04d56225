//! The token service: an OAuth 2.0 authorization server (RFC 6749) for the clients of the policy's consumers.
//!
//! It is an issuer of the policy: its tokens are verified as all others are, with keys from the registry. Its requests go through
//! the chain as requests of public routes do, limits and record included.
//!
//! - `form`: the parameters of a request; `credentials`: how a client presents itself;
//! - `grants`: the kinds of grants, with `refresh` for refresh tokens; `access_token`: what a token says;
//! - `lookup`: revocation (RFC 7009) and introspection (RFC 7662); `metadata` (RFC 8414).

mod access_token;
mod credentials;
mod form;
mod grants;
mod lookup;
mod metadata;
mod refresh;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use self::form::Form;
use crate::chain::{Admitted, Trace};
use crate::exchange::Request;
use crate::policy::token_service::{OwnEndpoint, TokenService};
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;
use crate::stages::auth::cache::TokenCache;
use crate::stages::auth::client::KnownClient;
use crate::state::signing::{KEY_SET_AGE, Signing, SigningError};

/// An answer of this process.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// What the endpoints have in common.
struct Service<'a> {
    in_force: &'a InForce,
    config: &'a TokenService,
    signing: &'a Signing,
    request: &'a Request<'a>,
    /// Tokens that this worker has verified.
    tokens: &'a TokenCache,
}

/// Answers a request to an endpoint. `trace` has the client, as soon as it is known.
pub(crate) async fn answer(
    endpoint: OwnEndpoint,
    in_force: &InForce,
    request: &Request<'_>,
    admitted: Admitted,
    tokens: &TokenCache,
    trace: &mut Trace,
) -> Result<Box<Answer>, Refusal> {
    let (Some(config), Some(signing)) = (in_force.policy.token_service(), in_force.signing.as_deref()) else {
        return Err(unavailable("the policy has no token service"));
    };
    let service = Service { in_force, config, signing, request, tokens };
    let body = match endpoint {
        OwnEndpoint::Metadata => return Ok(published(&metadata::of(config), KEY_SET_AGE)),
        OwnEndpoint::Keys => return Ok(published(&signing.key_set(request.now()), KEY_SET_AGE)),
        OwnEndpoint::Token | OwnEndpoint::Revoke | OwnEndpoint::Introspect => admitted.into_parts().1,
    };
    let auth = &in_force.auth;
    auth.permit_attempt(request)?;
    let form = Form::read(request.headers, body).await?;
    let answered = service.answer(endpoint, &form, trace).await;
    answered.inspect_err(|refusal| auth.note_attempt(request, refusal))
}

impl<'a> Service<'a> {
    async fn answer(&self, endpoint: OwnEndpoint, form: &Form, trace: &mut Trace) -> Result<Box<Answer>, Refusal> {
        let presented = credentials::of(self.request.headers, form)?;
        let client = self.in_force.auth.client(self.request, presented.as_presented(), &self.config.issuer).await?;
        trace.caller = Some(client.caller(&self.in_force.auth, Vec::new()));
        match endpoint {
            OwnEndpoint::Revoke => lookup::revoke(self, &client, form).await,
            OwnEndpoint::Introspect => lookup::introspect(self, &client, form).await,
            _ => grants::give(self, &client, form, trace).await,
        }
    }

    /// What the client's consumer may do.
    fn ceiling<'c>(&self, client: &KnownClient<'c>) -> &'c [Box<str>] {
        client.client.consumer.ceiling().unwrap_or_default()
    }
}

/// An answer that nobody may keep (RFC 6749 §5.1).
fn private(body: &Value) -> Box<Answer> {
    let mut answer = published(body, 0);
    answer.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// An answer that anybody may keep for this many seconds.
fn published(body: &Value, age: i64) -> Box<Answer> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::try_from(format!("public, max-age={age}")) {
        headers.insert(CACHE_CONTROL, value);
    }
    Box::new(Answer { status: StatusCode::OK, headers, body: body.to_string().into() })
}

fn refuse(reason: Reason, detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    let stage = if matches!(reason, Reason::InvalidScope | Reason::InvalidTarget) { Stage::Scope } else { Stage::Auth };
    Refusal::new(stage, reason, detail)
}

/// Refuses a request that is not what RFC 6749 asks for: `invalid_request`.
fn malformed(detail: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    refuse(Reason::MalformedRequest, detail)
}

fn unavailable(cause: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    refuse(Reason::IdentityUnavailable, "no token can be given now; try again shortly").cause(cause)
}

impl From<SigningError> for Refusal {
    fn from(error: SigningError) -> Self {
        unavailable(error.to_string())
    }
}
