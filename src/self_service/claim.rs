//! Claims an invitation: makes the credential that it is for, which is shown this once.
//!
//! The store takes the invitation and the credential in one step, in which the invitation must still be open: of claims at the same
//! time, on whatever nodes, one succeeds.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::input;
use super::new_credential::{self, NewCredential, Sent};
use super::service::{Service, change, conflict, json, refuse};
use crate::audit::{Change as Details, ChangeRecord};
use crate::body::Body;
use crate::chain::Trace;
use crate::exchange::Answer;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::client::{MOST_CLIENTS, good_clients};
use crate::state::registry::entry::{self, Change, Entry, Invitation};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    code: String,
    /// The public key of a client that signs assertions.
    jwk: Option<Map<String, Value>>,
    /// The certificate of a client, in PEM.
    certificate: Option<String>,
}

/// Answers `POST invitations/claim`.
pub(super) async fn claim(service: &Service<'_>, body: Body, trace: &mut Trace) -> Result<Box<Answer>, Refusal> {
    let Service { in_force, request, .. } = service;
    let Asked { code, jwk, certificate } = input::read(request, body).await?;
    let invited = in_force.auth.invited(&code, request, &mut trace.holder)?;
    let consumer = invited.caller.consumer_itself();
    trace.caller = Some(invited.caller.clone());
    let (invitation, now) = (&*invited.invitation, request.now());
    let sent = Sent { jwk: jwk.as_ref(), certificate: certificate.as_deref() };
    let NewCredential { entry, id, expires, shown, sent } = new_credential::make(service, invitation, consumer, sent)?;
    let claimed = entry::Claim { at: now, address: request.client(), credential: id.clone() };
    let after = Invitation { claimed: Some(claimed), ..invitation.clone() };
    let swap = (Entry::Invitation(invitation.clone()), Entry::Invitation(after));
    let changes = vec![Change::Swap(Box::new(swap)), Change::Create(entry)];
    let record = ChangeRecord {
        action: "invitation_claimed",
        target: format!("{} {} -> {id}", invitation.consumer, invitation.id),
        details: Details {
            scopes: invitation.scopes.clone().unwrap_or_default(),
            until: expires,
            reason: invitation.note.clone(),
            drill: None,
        },
    };
    let changed = || {
        let detail = "it was claimed or withdrawn at this moment; if that was not you, tell the API's owner at once";
        refuse(Stage::Auth, Reason::InvitationEnded, detail)
    };
    let registry = in_force.registry();
    let holds = || {
        if !sent.is_none_or(|sent| sent.is_new(&in_force.auth, now)) {
            return Err(conflict("somebody else has just registered the same; make a new one"));
        }
        // Invitations have counted, but a client may be good again: its revocation was undone.
        if invitation.credential.is_client() && good_clients(registry, &invitation.consumer, now) >= MOST_CLIENTS {
            let detail = format!(
                "there are {MOST_CLIENTS} clients already; ask the API's owner to remove those that are not used"
            );
            return Err(conflict(detail));
        }
        Ok(())
    };
    change(registry, holds, changes, record, trace, changed).await?;
    Ok(json(StatusCode::CREATED, &shown))
}
