//! What the audit record says of a change: for people, what was changed, and how.

use crate::audit::Change;
use crate::state::registry::entry::{Client, Grant, Invitation, Key, Revocation, Suspension, hex};
use crate::state::registry::revocation_key::RevocationTarget;

/// A key, and what is given with it.
pub(super) fn key(key: &Key) -> (String, Change) {
    let scopes = key.scopes.clone().unwrap_or_default();
    (
        format!("{} {}", key.consumer, key.id),
        Change { scopes, until: key.expires, reason: key.note.clone(), drill: None },
    )
}

/// A client, and what it may do until when.
pub(super) fn client(client: &Client) -> (String, Change) {
    let (scopes, reason) = (client.scopes.clone().unwrap_or_default(), client.note.clone());
    (format!("{} {}", client.consumer, client.id), Change { scopes, until: client.end(), reason, drill: None })
}

/// An invitation, and what can be claimed until when.
pub(super) fn invitation(invitation: &Invitation) -> (String, Change) {
    let (scopes, reason) = (invitation.scopes.clone().unwrap_or_default(), invitation.note.clone());
    let target = format!("{} {}", invitation.consumer, invitation.id);
    (target, Change { scopes, until: Some(invitation.expires), reason, drill: None })
}

/// The scopes that a grant gives, until when, and why.
pub(super) fn grant(grant: &Grant) -> Change {
    Change { scopes: grant.scopes.clone(), until: Some(grant.until), reason: grant.reason.clone(), drill: None }
}

/// Until when a consumer is suspended, and why.
pub(super) fn suspension(suspension: &Suspension) -> Change {
    Change { scopes: Vec::new(), until: suspension.until, reason: suspension.reason.clone(), drill: None }
}

/// What a revocation names, until when, and why.
pub(super) fn revocation(revocation: &Revocation) -> (String, Change) {
    let target = match &revocation.target {
        RevocationTarget::Token(digest) => format!("token sha256:{}", hex::encode(digest)),
        RevocationTarget::Jti(jti) => format!("jti {jti}"),
        RevocationTarget::Subject { issuer, subject } => format!("subject {subject} of issuer {issuer}"),
        RevocationTarget::Consumer(name) => format!("consumer {name}"),
        RevocationTarget::Key(id) => format!("key {id}"),
        RevocationTarget::Certificate(digest) => format!("certificate sha256:{}", hex::encode(digest)),
        RevocationTarget::Issuer(name) => format!("issuer {name}"),
        RevocationTarget::Family(id) => format!("family {id}"),
        RevocationTarget::All => "all credentials".to_owned(),
    };
    let target = match revocation.issued_before {
        Some(at) => format!("{target}, issued before {at}"),
        None => target,
    };
    (target, Change { scopes: Vec::new(), until: revocation.expires, reason: revocation.reason.clone(), drill: None })
}
