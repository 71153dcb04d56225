//! The token service: an OAuth 2.0 authorization server (RFC 6749) for the clients of the policy's consumers.
//!
//! It is an issuer of the policy: its tokens are verified as all others are, with keys from the registry. Its requests go through
//! the chain as requests of public routes do, limits and record included.
//!
//! - `service`: what the endpoints have in common; `form`: the parameters of a request; `asked`: what it asks for; `credentials`: how a client presents itself;
//! - `grants`: the kinds of grants, with `refresh` for refresh tokens; `access_token`: what a token says;
//! - `lookup`: revocation (RFC 7009) and introspection (RFC 7662); `metadata` (RFC 8414).

mod access_token;
mod asked;
mod credentials;
mod form;
mod grants;
mod lookup;
mod metadata;
mod refresh;
mod service;

use serde_json::Value;

use self::form::Form;
use self::service::{Service, published, unavailable};
use crate::chain::{Admitted, Trace};
use crate::exchange::{Answer, Request};
use crate::policy::token_service::OwnEndpoint;
use crate::refusal::Refusal;
use crate::runtime::InForce;
use crate::stages::auth::cache::TokenCache;
use crate::stages::auth::claims::OWN_ISSUER;
use crate::state::signing::KEY_SET_AGE;

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
    if in_force.stale.has_issuer(OWN_ISSUER) {
        return Err(unavailable("`token_service.keys.seal` is stale"));
    }
    let service = Service { in_force, config, signing, request, tokens };
    let body = match endpoint {
        OwnEndpoint::Metadata => return Ok(published(&metadata::of(&service), KEY_SET_AGE)),
        OwnEndpoint::Keys => return keys(&service),
        OwnEndpoint::Token | OwnEndpoint::Revoke | OwnEndpoint::Introspect => admitted.into_parts().1,
    };
    let auth = &in_force.auth;
    let form = Form::read(request.headers, body).await?;
    // Nothing is waited for from here to the verdict: otherwise any number of guesses that come at once would all be tried.
    auth.permit_attempt(request)?;
    let answered = answer_client(&service, endpoint, &form, trace).await;
    answered.inspect_err(|refusal| auth.note_attempt(request, refusal))
}

/// The published keys. A set without keys would be kept by verifiers, and good tokens refused.
fn keys(service: &Service<'_>) -> Result<Box<Answer>, Refusal> {
    let set = service.signing.key_set(service.request.now());
    let is_empty = set.get("keys").and_then(Value::as_array).is_none_or(Vec::is_empty);
    if is_empty || !service.in_force.auth.is_store_available() {
        return Err(unavailable("the signing keys are not known"));
    }
    Ok(published(&set, KEY_SET_AGE))
}

async fn answer_client(
    service: &Service<'_>,
    endpoint: OwnEndpoint,
    form: &Form,
    trace: &mut Trace,
) -> Result<Box<Answer>, Refusal> {
    let credentials = credentials::of(service.request.headers, form)?;
    let (auth, issuer) = (&service.in_force.auth, &service.config.issuer);
    let (holder, unusual) = (&mut trace.holder, &mut trace.unusual);
    let client = auth.client_by_any(service.request, &credentials.readings(), issuer, holder, unusual).await?;
    trace.caller = Some(client.caller(&service.in_force.auth, Vec::new()));
    match endpoint {
        OwnEndpoint::Revoke => lookup::revoke(service, &client, form).await,
        OwnEndpoint::Introspect => lookup::introspect(service, &client, form).await,
        _ => grants::give(service, &client, form, trace).await,
    }
}
