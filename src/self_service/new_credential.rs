//! Makes the credential that an invitation is for: an API key, or a client of the token service.
//!
//! A client's secret is made here. Its key or certificate is made by the partner, who sends the public part: then nothing secret ever
//! leaves the partner.

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::key_use::KeyUse;
use super::service::{Service, no_random_bytes, refuse};
use crate::policy::self_service::SelfEndpoint;
use crate::policy::token_service::{OwnEndpoint, TokenService};
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::stages::auth::new_client::NewKey;
use crate::stages::auth::{Authentication, Consumer, api_key_format};
use crate::state::registry::entry::{
    self, Client, ClientCredential, ClientSecret, Digest, Entry, Invitation, InvitedCredential, Key,
};

/// What the partner has sent beside the code.
#[derive(Clone, Copy)]
pub(super) struct Sent<'a> {
    /// The public key of a client.
    pub(super) jwk: Option<&'a Map<String, Value>>,
    /// The certificate of a client, in PEM.
    pub(super) certificate: Option<&'a str>,
}

/// What of that no other client may have; a certificate, no client of another consumer.
pub(super) enum Unique {
    Key(NewKey),
    Certificate(Digest, Box<str>),
}

/// A new credential.
pub(super) struct NewCredential {
    /// What is stored of it.
    pub(super) entry: Entry,
    pub(super) id: Box<str>,
    pub(super) expires: Option<Timestamp>,
    /// The answer to the partner, with what is shown this once.
    pub(super) shown: Value,
    pub(super) sent: Option<Unique>,
}

impl Unique {
    /// Whether no client has it yet.
    pub(super) fn is_new(&self, auth: &Authentication, now: Timestamp) -> bool {
        match self {
            Self::Key(key) => !auth.has_client_key(key, now),
            Self::Certificate(thumbprint, consumer) => !auth.has_client_certificate(thumbprint, consumer, now),
        }
    }
}

/// Makes the credential of an invitation of this consumer.
///
/// # Errors
/// What was sent with the code is not what this credential needs, or not good.
pub(super) fn make(
    service: &Service<'_>,
    invitation: &Invitation,
    consumer: &Consumer,
    sent: Sent<'_>,
) -> Result<NewCredential, Refusal> {
    let (auth, now) = (&service.in_force.auth, service.request.now());
    match (&invitation.credential, sent.jwk, sent.certificate) {
        (InvitedCredential::ApiKey, None, None) => new_key(service, invitation),
        (InvitedCredential::ClientSecret, None, None) => {
            let id = api_key_format::new_id(&invitation.consumer);
            let secret = api_key_format::mint_client_secret(&id).map_err(|_| no_random_bytes())?;
            let expires = end(invitation, now);
            let stored = ClientSecret { sha256: digest_of(&secret), created: now, expires };
            let credential = ClientCredential::Secrets(vec![stored]);
            let client = new_client(invitation, id, credential, (now, None));
            answer(service, client, expires, Some(&secret), None)
        }
        (InvitedCredential::PrivateKeyJwt, Some(jwk), None) => {
            let key = auth.new_client_key(jwk, now)?;
            let expires = end(invitation, now);
            let credential = ClientCredential::Key(key.key.clone());
            let id = api_key_format::new_id(&invitation.consumer);
            let client = new_client(invitation, id, credential, (now, expires));
            answer(service, client, expires, None, Some(Unique::Key(key)))
        }
        (InvitedCredential::Certificate, None, Some(pem)) => {
            let new = auth.new_client_certificate(pem, consumer, service.request)?;
            let expires = end(invitation, now).into_iter().chain(new.expires).min();
            let credential = ClientCredential::Certificate(new.thumbprint);
            let id = api_key_format::new_id(&invitation.consumer);
            let client = new_client(invitation, id, credential, (now, expires));
            let client = Client { issued: new.issued, ..client };
            let sent = Unique::Certificate(new.thumbprint, invitation.consumer.clone());
            answer(service, client, expires, None, Some(sent))
        }
        (InvitedCredential::Later(_), ..) => Err(refuse(
            Stage::Auth,
            Reason::InvitationEnded,
            "this invitation cannot be claimed at the moment; ask the API's owner for a new one",
        )),
        (InvitedCredential::ApiKey, ..) => Err(wrong("", "this invitation is for an API key; send `code` alone")),
        (InvitedCredential::ClientSecret, ..) => {
            Err(wrong("", "this invitation is for a client secret; send `code` alone"))
        }
        (InvitedCredential::PrivateKeyJwt, ..) => {
            Err(wrong("/jwk", "this invitation is for a key of your own; send its public part as `jwk`, and no more"))
        }
        (InvitedCredential::Certificate, ..) => {
            let detail = "this invitation is for a certificate of your own; connect with it, send it as `certificate`, in PEM, and no more";
            Err(wrong("/certificate", detail))
        }
    }
}

/// When a credential of an invitation ends that is claimed now.
fn end(invitation: &Invitation, now: Timestamp) -> Option<Timestamp> {
    let lifetime = invitation.lifetime.map(SignedDuration::from_secs);
    lifetime.map(|lifetime| now.checked_add(lifetime).unwrap_or(Timestamp::MAX))
}

fn new_key(service: &Service<'_>, invitation: &Invitation) -> Result<NewCredential, Refusal> {
    let now = service.request.now();
    let id = api_key_format::new_id(&invitation.consumer);
    let secret = api_key_format::mint(&id).map_err(|_| no_random_bytes())?;
    let key = Key {
        id: id.into(),
        consumer: invitation.consumer.clone(),
        sha256: digest_of(&secret),
        scopes: invitation.scopes.clone(),
        from: invitation.from.clone(),
        not_before: None,
        expires: end(invitation, now),
        replaced_by: None,
        note: invitation.note.clone(),
        created: now,
        created_by: made_by(invitation),
        rotation: None,
        ends_for_good: false,
    };
    let path = |endpoint| service.config.path_of(endpoint);
    let mut shown = json!({
        "consumer": key.consumer, "plan": invitation.plan, "id": key.id, "key": secret.expose_secret(),
        "expires": key.expires, "scopes": key.scopes,
        "me": path(SelfEndpoint::Me), "docs": path(SelfEndpoint::Docs),
        "rotate": path(SelfEndpoint::RotateKey).replace("{id}", &key.id),
    });
    if let Some(shown) = shown.as_object_mut() {
        KeyUse::of(&service.in_force.policy).tell(shown);
    }
    let (id, expires) = (key.id.clone(), key.expires);
    Ok(NewCredential { entry: Entry::Key(key), id, expires, shown, sent: None })
}

/// A client of an invitation; `created` and when it expires, unless its secrets do.
fn new_client(
    invitation: &Invitation,
    id: String,
    credential: ClientCredential,
    (created, expires): (Timestamp, Option<Timestamp>),
) -> Client {
    Client {
        id: id.into(),
        consumer: invitation.consumer.clone(),
        credential,
        scopes: invitation.scopes.clone(),
        from: invitation.from.clone(),
        expires,
        issued: None,
        note: invitation.note.clone(),
        created,
        created_by: made_by(invitation),
    }
}

/// Says how the partner gets tokens with its new client.
fn answer(
    service: &Service<'_>,
    client: Client,
    expires: Option<Timestamp>,
    secret: Option<&SecretString>,
    sent: Option<Unique>,
) -> Result<NewCredential, Refusal> {
    let tokens = token_service(service)?;
    let path = |endpoint| service.config.path_of(endpoint);
    let mut shown = json!({
        "consumer": client.consumer, "client_id": client.id, "expires": expires, "scopes": client.scopes,
        "issuer": tokens.issuer, "token_endpoint": tokens.url(OwnEndpoint::Token),
        "me": path(SelfEndpoint::Me), "docs": path(SelfEndpoint::Docs),
    });
    if let (Value::Object(shown), Some(secret)) = (&mut shown, secret) {
        shown.insert("client_secret".to_owned(), secret.expose_secret().into());
        shown.insert("rotate".to_owned(), path(SelfEndpoint::RotateSecret).replace("{id}", &client.id).into());
    }
    Ok(NewCredential { id: client.id.clone(), entry: Entry::Client(client), expires, shown, sent })
}

/// The policy may have had it when the invitation was made.
fn token_service<'a>(service: &'a Service<'_>) -> Result<&'a TokenService, Refusal> {
    service.in_force.policy.token_service().ok_or_else(|| {
        refuse(
            Stage::Auth,
            Reason::InvitationEnded,
            "no tokens are given here any more; ask the API's owner for a new one",
        )
    })
}

fn made_by(invitation: &Invitation) -> Box<str> {
    format!("invitation {}", invitation.id).into()
}

/// The digest that a key or a secret is kept by.
pub(super) fn digest_of(secret: &SecretString) -> entry::Digest {
    digest(&SHA256, secret.expose_secret().as_bytes()).as_ref().try_into().unwrap_or_default()
}

fn wrong(pointer: &str, detail: &'static str) -> Refusal {
    let errors = vec![Violation::new(pointer, detail.to_owned())];
    refuse(Stage::Schema, Reason::SchemaViolation, detail).members(Members { errors, ..Members::default() })
}
