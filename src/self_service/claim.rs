//! Claims an invitation: makes the credential that it is for, which is shown this once.
//!
//! The store takes the invitation and the credential in one step, in which the invitation must still be open: of claims at the same
//! time, on whatever nodes, one succeeds.

use aws_lc_rs::digest::{SHA256, digest};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::input;
use super::key_use::KeyUse;
use super::service::{Service, change, json, no_random_bytes, refuse};
use crate::audit::{Change as Details, ChangeRecord};
use crate::body::Body;
use crate::chain::Trace;
use crate::exchange::Answer;
use crate::policy::self_service::SelfEndpoint;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::auth::api_key_format;
use crate::state::registry::entry::{self, Change, Entry, Invitation, InvitedCredential, Key};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    code: String,
}

/// Answers `POST invitations/claim`.
pub(super) async fn claim(service: &Service<'_>, body: Body, trace: &mut Trace) -> Result<Box<Answer>, Refusal> {
    let Service { in_force, request, .. } = service;
    let Asked { code } = input::read(request, body).await?;
    let invited = in_force.auth.invited(&code, request, &mut trace.refused)?;
    trace.caller = Some(invited.caller);
    let (invitation, now) = (&*invited.invitation, request.now());
    let InvitedCredential::ApiKey = invitation.credential;
    let (key, secret) = new_key(invitation, now)?;
    let claimed = entry::Claim { at: now, address: request.client(), credential: key.id.clone() };
    let after = Invitation { claimed: Some(claimed), ..invitation.clone() };
    let swap = (Entry::Invitation(invitation.clone()), Entry::Invitation(after));
    let changes = vec![Change::Swap(Box::new(swap)), Change::Create(Entry::Key(key.clone()))];
    let record = ChangeRecord {
        action: "invitation_claimed",
        target: format!("{} {} -> {}", invitation.consumer, invitation.id, key.id),
        details: Details {
            scopes: key.scopes.clone().unwrap_or_default(),
            until: key.expires,
            reason: invitation.note.clone(),
            drill: None,
        },
    };
    let changed = || {
        let detail = "it was claimed or withdrawn at this moment; if that was not you, tell the API's owner at once";
        refuse(Stage::Auth, Reason::InvitationEnded, detail)
    };
    change(in_force.registry(), changes, record, trace, changed).await?;
    let path = |endpoint| service.config.path_of(endpoint);
    let mut answer = json!({
        "consumer": key.consumer, "plan": invitation.plan, "id": key.id, "key": secret.expose_secret(),
        "expires": key.expires, "scopes": key.scopes,
        "me": path(SelfEndpoint::Me), "docs": path(SelfEndpoint::Docs),
        "rotate": path(SelfEndpoint::RotateKey).replace("{id}", &key.id),
    });
    if let Some(answer) = answer.as_object_mut() {
        KeyUse::of(&in_force.policy).tell(answer);
    }
    Ok(json(StatusCode::CREATED, &answer))
}

/// Makes the key of an invitation.
fn new_key(invitation: &Invitation, now: Timestamp) -> Result<(Key, SecretString), Refusal> {
    let id = api_key_format::new_id(&invitation.consumer);
    let secret = api_key_format::mint(&id).map_err(|_| no_random_bytes())?;
    let lifetime = invitation.lifetime.map(SignedDuration::from_secs);
    let key = Key {
        id: id.into(),
        consumer: invitation.consumer.clone(),
        sha256: digest_of(&secret),
        scopes: invitation.scopes.clone(),
        from: invitation.from.clone(),
        not_before: None,
        expires: lifetime.map(|lifetime| now.checked_add(lifetime).unwrap_or(Timestamp::MAX)),
        replaced_by: None,
        note: invitation.note.clone(),
        created: now,
        created_by: format!("invitation {}", invitation.id).into(),
        rotation: None,
        ends_for_good: false,
    };
    Ok((key, secret))
}

/// The digest that a key is kept by.
pub(super) fn digest_of(secret: &SecretString) -> entry::Digest {
    digest(&SHA256, secret.expose_secret().as_bytes()).as_ref().try_into().unwrap_or_default()
}
