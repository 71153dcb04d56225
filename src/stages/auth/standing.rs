//! Checks what operators have decided about a credential and its consumer: revocations, suspensions, grants.
//!
//! Asked on every request, after every cache, so that a change holds for the next request.

use std::sync::Arc;

use super::Authentication;
use super::caller::Caller;
use super::claims::refuse;
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal};

impl Authentication {
    /// Decides whether the credential is revoked or its consumer suspended, and adds grants that have not ended.
    pub(super) fn standing(&self, caller: Arc<Caller>, request: &Request<'_>) -> Result<Arc<Caller>, Refusal> {
        let registry = &self.registry;
        if registry.is_revoked(caller.revocation_keys(), caller.issued(), request.now()) {
            return Err(refuse(Reason::Revoked, "the credential has been revoked; get a new one"));
        }
        let standing = registry.standing(caller.consumer(), request.now());
        if standing.suspended {
            return Err(refuse(Reason::ConsumerSuspended, "the consumer is suspended; ask the API's owner"));
        }
        if let Some(usage) = caller.usage() {
            usage.note(request.now(), request.client());
        }
        if standing.granted.is_empty() { Ok(caller) } else { Ok(Arc::new(caller.with(&standing.granted))) }
    }
}
