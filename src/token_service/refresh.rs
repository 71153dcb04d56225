//! Refresh tokens (RFC 6749 §6), each of which is used once (RFC 9700 §4.14.2).
//!
//! A token is derived from the seal, its family's id and its generation. So the store holds nothing secret, the token after a
//! given one is always the same, and every token that was ever given is recognised. A client that did not get a response sends
//! the token again, and gets the same successor while `grace` lasts, from whatever node and however often. A token that is used
//! later than that was stolen, or its successor was: the family ends, with all access tokens it gave.

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::access_token::{self, Contents};
use super::asked;
use super::form::Form;
use super::service::{Service, refuse, unavailable};
use crate::policy::token_service::RefreshSettings;
use crate::refusal::{Reason, Refusal};
use crate::stages::auth::claims::{Confirmation, OWN_ISSUER};
use crate::stages::auth::client::Client;
use crate::stages::auth::client_proof::KnownClient;
use crate::state::registry::entry::{Change, Entry, Revocation};
use crate::state::registry::revocation_key::{RevocationKey, RevocationTarget};
use crate::state::registry::{Family, StoreError};
use crate::state::signing::Signing;

/// What refresh tokens begin with.
const PREFIX: &str = "bzr";
/// Bytes of a family's id.
const ID: usize = 16;
/// How often a family that others change at the same time is read again.
const TRIES: usize = 8;

/// A refresh token that was sent.
struct Sent<'a> {
    family: &'a str,
    generation: u64,
}

/// Begins a family; returns its id and its first token. `None`: the client has begun too many, and does without.
pub(super) async fn begin(
    service: &Service<'_>,
    settings: RefreshSettings,
    client: &KnownClient,
    (scopes, audience): (&[Box<str>], &[Box<str>]),
    confirmation: &Confirmation,
) -> Result<Option<(Box<str>, String)>, Refusal> {
    let now = service.request.now();
    if !service.in_force.registry().may_begin_family(&client.client.id, now) {
        return Ok(None);
    }
    let mut id = [0; ID];
    rand::fill(&mut id).map_err(|_| unavailable("the system has no random bytes"))?;
    let family = Family {
        id: URL_SAFE_NO_PAD.encode(id).into(),
        client: client.client.id.clone(),
        scopes: scopes.to_vec(),
        audience: audience.to_vec(),
        jkt: confirmation.key.clone(),
        created: now,
        expires: after(now, settings.lifetime),
        idle: after(now, settings.idle),
        generation: 0,
        rotated: now,
    };
    let token = token(service.signing, &family.id, 0)?;
    let id = family.id.clone();
    match service.in_force.registry().swap_family(None, family, now).await {
        Ok(true) => Ok(Some((id, token))),
        Ok(false) => Err(unavailable("the id of the family is taken")),
        Err(error) => Err(store(&error)),
    }
}

/// Answers a request with a refresh token.
pub(super) async fn refresh(
    service: &Service<'_>,
    client: &KnownClient,
    form: &Form,
    confirmation: &Confirmation,
) -> Result<(Vec<Box<str>>, Value), Refusal> {
    let Some(settings) = service.config.refresh else {
        return Err(refuse(Reason::UnsupportedGrantType, "no refresh tokens are given here"));
    };
    let sent = read(service.signing, form.need("refresh_token")?)?.ok_or_else(invalid)?;
    let mut family = find(service, &client.client, &sent).await?;
    // Clients have credentials of their own, so that the key may be another one (RFC 9449 §5), but not none.
    if family.jkt.is_some() && confirmation.key.is_none() {
        return Err(refuse(
            Reason::InvalidGrant,
            "the tokens of this grant are bound to a key; send a proof in the `DPoP` header",
        ));
    }
    // What the client may do may have changed.
    let ceiling = client.client.ceiling();
    let within: Vec<_> = family.scopes.iter().filter(|scope| ceiling.contains(scope)).cloned().collect();
    let scopes = asked::scopes(form, &within)?;
    let within: Vec<_> =
        family.audience.iter().filter(|name| service.config.audience.contains(name)).cloned().collect();
    if within.is_empty() {
        return Err(invalid());
    }
    let audience = asked::audience(form, &within)?;
    let mut generation = None;
    for _ in 0..TRIES {
        generation = rotate(service, settings, &family, sent.generation).await?;
        if generation.is_some() {
            break;
        }
        family = find(service, &client.client, &sent).await?;
    }
    let generation = generation.ok_or_else(|| unavailable("the family is changed all the time"))?;
    let mut response = access_token::response(
        service,
        &Contents {
            client: &client.client.id,
            subject: &client.client.id,
            scopes: &scopes,
            audience: &audience,
            confirmation,
            family: Some(&family.id),
            no_longer_than: client.end().into_iter().chain([family.expires.as_second()]).min(),
            exchanged: None,
        },
    )?;
    response.insert("refresh_token".to_owned(), json!(token(service.signing, &family.id, generation)?));
    Ok((scopes, Value::Object(response)))
}

/// The family of a token, if it has not ended.
async fn find(service: &Service<'_>, client: &Client, sent: &Sent<'_>) -> Result<Family, Refusal> {
    let (registry, now) = (service.in_force.registry(), service.request.now());
    let found = registry.family(sent.family).await.map_err(|error| store(&error))?;
    let family = found.filter(|family| *family.client == *client.id && now < family.end()).ok_or_else(invalid)?;
    let keys = [RevocationKey::family(&family.id), RevocationKey::issuer(OWN_ISSUER)];
    client.check_standing(registry, &keys, Some(family.created.as_second()), now).map_err(|_| invalid())?;
    Ok(family)
}

/// Returns the generation of the token that follows; `None` if the family has been changed meanwhile.
async fn rotate(
    service: &Service<'_>,
    settings: RefreshSettings,
    family: &Family,
    sent: u64,
) -> Result<Option<u64>, Refusal> {
    let now = service.request.now();
    let grace = SignedDuration::try_from(settings.grace).unwrap_or_default();
    let next = sent.saturating_add(1);
    if sent < family.generation {
        if next == family.generation && now <= family.rotated.saturating_add(grace).unwrap_or(Timestamp::MAX) {
            return Ok(Some(next));
        }
        end(service, &family.id, family.expires, "a refresh token was used again").await?;
        let cause = format!("family {}: generation {sent} was used after generation {}", family.id, family.generation);
        let detail = "the refresh token was used before; its grant has ended, get a new one";
        return Err(refuse(Reason::InvalidGrant, detail).cause(cause));
    }
    // A later generation than the store knows is one that the store has lost in a failover: tokens cannot be made up.
    let after = Family { generation: next, rotated: now, idle: after(now, settings.idle), ..family.clone() };
    let swapped = service.in_force.registry().swap_family(Some(family.clone()), after, now).await;
    Ok(swapped.map_err(|error| store(&error))?.then_some(next))
}

/// Ends a family, and its access tokens, on all nodes.
pub(super) async fn end(service: &Service<'_>, id: &str, expires: Timestamp, reason: &str) -> Result<(), Refusal> {
    if service.in_force.registry().is_revoked(&[RevocationKey::family(id)], None, service.request.now()) {
        return Ok(());
    }
    let lifetime = SignedDuration::try_from(service.signing.lifetime()).unwrap_or_default();
    let revocation = Revocation {
        target: RevocationTarget::Family(id.into()),
        issued_before: None,
        // Its last access token may be given at its end.
        expires: expires.saturating_add(lifetime).ok(),
        reason: Some(reason.into()),
        created: service.request.now(),
        created_by: OWN_ISSUER.into(),
    };
    let changed = service.in_force.registry().change(vec![Change::Put(Entry::Revocation(revocation))]).await;
    changed.map_err(|error| store(&error))
}

/// The family of a refresh token, and whether the token is its current one; `None` if this service has not made it.
pub(super) async fn known(service: &Service<'_>, text: &str) -> Result<Option<(Family, bool)>, Refusal> {
    let Some(sent) = read(service.signing, text)? else { return Ok(None) };
    let family = service.in_force.registry().family(sent.family).await.map_err(|error| store(&error))?;
    Ok(family.map(|family| {
        let current = sent.generation >= family.generation;
        (family, current)
    }))
}

fn token(signing: &Signing, family: &str, generation: u64) -> Result<String, Refusal> {
    let secret = signing.derive(&derivation(family, &generation.to_be_bytes()))?;
    Ok(format!("{PREFIX}.{family}.{generation}.{}", URL_SAFE_NO_PAD.encode(secret)))
}

/// What the secret of a token is derived from.
fn derivation<'a>(family: &'a str, generation: &'a [u8; 8]) -> [&'a [u8]; 3] {
    [b"refresh token", family.as_bytes(), generation]
}

/// Reads a token; `None` if this service has not made it.
fn read<'a>(signing: &Signing, text: &'a str) -> Result<Option<Sent<'a>>, Refusal> {
    let mut parts = text.split('.');
    let (Some(PREFIX), Some(family), Some(generation), Some(secret), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Ok(None);
    };
    let Some(number) = generation.parse::<u64>().ok().filter(|_| family.len() <= 2 * ID) else { return Ok(None) };
    let Ok(secret) = URL_SAFE_NO_PAD.decode(secret) else { return Ok(None) };
    // One token has one text: `+1` is a number as well.
    let is_ours =
        number.to_string() == generation && signing.has_derived(&derivation(family, &number.to_be_bytes()), &secret)?;
    Ok(is_ours.then_some(Sent { family, generation: number }))
}

fn invalid() -> Refusal {
    refuse(Reason::InvalidGrant, "the refresh token is not valid; get a new one")
}

fn store(error: &StoreError) -> Refusal {
    unavailable(error.to_string())
}

fn after(now: Timestamp, period: std::time::Duration) -> Timestamp {
    let period = SignedDuration::try_from(period).unwrap_or(SignedDuration::MAX);
    now.saturating_add(period).unwrap_or(Timestamp::MAX)
}
