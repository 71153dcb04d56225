//! What callers may see and do for themselves, on the API's own listener: who they are and what is left of their limits, their own
//! keys, what they may call, and claiming invitations.
//!
//! Its requests go through the chain as all others do, limits and record included. Nothing here depends on what a request says of
//! the consumer: everything is about the caller that authentication has found.
//!
//! - `service`: what the endpoints have in common; `input`: the bodies of requests;
//! - `claim`: claims an invitation, for which `new_credential` makes the credential; `me`; `rotate`: replaces a key of the caller;
//!   `rotate_secret`: replaces the secret of a client of the token service; `overlap`: what both take;
//! - [`offer`]: what somebody may call, and how it is described: `openapi` as a document (with the schemas of
//!   `components`), `docs` as a page, [`sheet`] as the hand-over sheet of an invitation, with the commands of `partner_steps`. `kept`: neither
//!   document is made for each who asks.

mod claim;
mod components;
mod docs;
mod input;
mod kept;
mod key_use;
mod me;
mod new_credential;
pub(crate) mod offer;
mod openapi;
mod overlap;
mod partner_steps;
mod rotate;
mod rotate_secret;
mod service;
pub(crate) mod sheet;

use self::service::{Service, refuse};
use crate::chain::{Admitted, Trace};
use crate::exchange::{Answer, Request};
use crate::policy::self_service::SelfEndpoint;
use crate::refusal::{Reason, Refusal, Stage};
use crate::runtime::InForce;

/// Answers a request to an endpoint.
pub(crate) async fn answer(
    endpoint: SelfEndpoint,
    in_force: &InForce,
    request: &Request<'_>,
    admitted: Admitted,
    trace: &mut Trace,
) -> Result<Box<Answer>, Refusal> {
    let Some(config) = in_force.policy.self_service() else {
        return Err(refuse(Stage::Request, Reason::NotFound, "there is nothing here"));
    };
    let service = Service { in_force, config, request };
    let (caller, body) = admitted.into_parts();
    match endpoint {
        SelfEndpoint::ClaimInvitation => return claim::claim(&service, body, trace).await,
        SelfEndpoint::RotateSecret => return rotate_secret::rotate(&service, body, trace).await,
        _ => {}
    }
    // The routes of all other endpoints ask for a credential.
    let missing = || refuse(Stage::Auth, Reason::MissingCredentials, "send a token or an API key");
    let caller = caller.ok_or_else(missing)?;
    match endpoint {
        SelfEndpoint::Me => Ok(me::answer(&service, &caller).await),
        SelfEndpoint::RotateKey => rotate::rotate(&service, &caller, body, trace).await,
        SelfEndpoint::OpenApi => Ok(openapi::answer(&service, &caller)),
        SelfEndpoint::Docs => Ok(docs::answer(&service, &caller)),
        SelfEndpoint::ClaimInvitation | SelfEndpoint::RotateSecret => Err(missing()),
    }
}
