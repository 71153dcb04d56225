//! Checks what operators have decided about a credential and its consumer: revocations, suspensions, grants.
//!
//! Checked on every request, also for cached credentials, so that a change applies to the next request.

use std::sync::Arc;

use super::Authentication;
use super::caller::Caller;
use super::claims::refuse;
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::UnusualUse;

impl Authentication {
    /// Decides whether the credential is revoked or its consumer suspended, and adds grants that have not ended. Also says what
    /// is unusual about this use of the credential, if it `is_new`.
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
        let unusual = caller.usage().filter(|_| is_new).and_then(|usage| usage.note(request.now(), request.client()));
        let caller = if state.granted.is_empty() { caller } else { Arc::new(caller.with(&state.granted)) };
        Ok((caller, unusual))
    }
}
