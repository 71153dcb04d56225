//! Checks what operators have decided about a credential and its consumer: revocations, suspensions, grants.
//!
//! Checked on every request, also for cached credentials, so that a change applies to the next request.

use std::sync::Arc;

use super::Authentication;
use super::caller::Caller;
use super::claims::refuse;
use crate::exchange::Request;
use crate::exchange::networks::Networks;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::UnusualUse;

impl Authentication {
    /// Decides whether the credential is revoked, its consumer suspended, or the client in another network than the credential is
    /// good from, and adds grants that have not ended. Also says what is unusual about this use of the credential, if it `is_new`.
    pub(super) fn check_standing(
        &self,
        caller: Arc<Caller>,
        request: &Request<'_>,
        is_new: bool,
    ) -> Result<(Arc<Caller>, Option<UnusualUse>), Refusal> {
        let registry = &self.registry;
        if registry.is_revoked(caller.revocation_keys(), caller.issued(), request.now()) {
            return Err(refuse(Reason::Revoked, "the credential has been revoked; get a new one"));
        }
        let state = registry.consumer_state(caller.consumer(), request.now());
        if state.suspended {
            return Err(refuse(Reason::ConsumerSuspended, "the consumer is suspended; ask the API's owner"));
        }
        check_networks(caller.networks(), request)?;
        let unusual = caller.usage().filter(|_| is_new).and_then(|usage| usage.note(request.now(), request.client()));
        let caller = if state.granted.is_empty() { caller } else { Arc::new(caller.with(&state.granted)) };
        Ok((caller, unusual))
    }
}

/// Decides whether a credential is good from the address of a client, which must be in all of these lists.
pub(super) fn check_networks<'n>(
    mut networks: impl Iterator<Item = &'n Networks>,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    networks.find(|networks| !request.is_from(networks)).map_or(Ok(()), |networks| {
        let detail = "this credential may not be used from your network; ask the API's owner";
        Err(refuse(Reason::NetworkNotAllowed, request.network_detail(detail)).cause(request.is_not_in(networks)))
    })
}
