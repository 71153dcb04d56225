//! Decides whether the code of an invitation is good, and which consumer it invites.
//!
//! A code has 256 random bits, like a key. What it can be claimed for is in the registry; the code itself is never stored.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

use super::attributes::ClaimedAttributes;
use super::caller::{Caller, Consumer, CredentialKind, Verified};
use super::claims::{Confirmation, refuse};
use super::{Authentication, api_key_format, standing};
use crate::exchange::Request;
use crate::refusal::{Reason, Refusal};
use crate::state::registry::entry::Invitation;

/// An invitation that can be claimed.
pub(crate) struct Invited {
    pub(crate) invitation: Arc<Invitation>,
    /// The consumer that it invites; its credential is the invitation.
    pub(crate) caller: Arc<Caller>,
}

impl Authentication {
    /// Finds the invitation with this code, and decides whether it can be claimed now. Waits for nothing: otherwise any number of
    /// guesses that come at once would all be tried. A code that does not exist counts as a failed attempt.
    ///
    /// # Errors
    /// The code is unknown or has ended, its consumer is suspended or revoked, or the client is in another network. `holder` is
    /// the consumer that it invites, as far as that is known.
    pub(crate) fn invited(
        &self,
        code: &str,
        request: &Request<'_>,
        holder: &mut Option<Arc<Caller>>,
    ) -> Result<Invited, Refusal> {
        self.store_available()?;
        self.attempt(request.client(), request.tick, || self.find_invitation(code, request, holder))
    }

    fn find_invitation(
        &self,
        code: &str,
        request: &Request<'_>,
        holder: &mut Option<Arc<Caller>>,
    ) -> Result<Invited, Refusal> {
        let invalid = |detail| refuse(Reason::InvalidInvitation, detail);
        let id = api_key_format::invitation_of(code);
        let id = id.ok_or_else(|| invalid("the code is mistyped or truncated; check it"))?;
        let sent = digest(&SHA256, code.as_bytes());
        let found = self.registry.invitation(id).filter(|known| bool::from(known.sha256.ct_eq(sent.as_ref())));
        let invitation = found.ok_or_else(|| invalid("the code is unknown; check it, or ask for a new one"))?;
        let consumer = self.rules.directory.named(&invitation.consumer, &self.registry)?;
        let consumer = consumer.ok_or_else(|| ended("its consumer does not exist any more; ask the API's owner"))?;
        let caller = Arc::new(self.invited_caller(&invitation, &consumer));
        *holder = Some(Arc::clone(&caller));
        let now = request.now();
        match invitation.state(now) {
            "open" => {}
            "claimed" => {
                let detail = "it was claimed before; if you did and the answer got lost, ask the API's owner for a new one; if that was not you, \
                              tell the owner at once";
                return Err(ended(detail));
            }
            "withdrawn" => return Err(ended("it was withdrawn; ask the API's owner")),
            _ => return Err(ended("it has expired; ask for a new one")),
        }
        if invitation.plan.as_deref() != consumer.plan().map(|plan| &**plan.name()) {
            return Err(ended("its consumer has another plan by now; ask for a new one"));
        }
        if self.registry.is_revoked(caller.revocation_keys(), caller.issued(), now) {
            return Err(refuse(Reason::Revoked, "the credentials of this consumer were revoked; ask the API's owner"));
        }
        if self.registry.consumer_state(consumer.name(), now).suspended {
            return Err(refuse(Reason::ConsumerSuspended, "the consumer is suspended; ask the API's owner"));
        }
        standing::check_networks(caller.networks(), request)?;
        Ok(Invited { invitation, caller })
    }

    fn invited_caller(&self, invitation: &Invitation, consumer: &Arc<Consumer>) -> Caller {
        Caller::new(
            Arc::clone(consumer),
            consumer.account(&self.ledger),
            Verified {
                kind: CredentialKind::Invitation,
                id: Some(invitation.id.clone()),
                issuer: None,
                user: None,
                networks: invitation.from.clone().map(Arc::new),
                attributes: ClaimedAttributes::default(),
                granted: Vec::new(),
                revocation_keys: Vec::new(),
                issued: Some(invitation.created.as_second()),
                confirmation: Confirmation::default(),
                usage: None,
                forwarded: Box::default(),
            },
        )
    }
}

fn ended(detail: &'static str) -> Refusal {
    refuse(Reason::InvitationEnded, detail)
}
