//! What becomes of a token: revocation (RFC 7009) and introspection (RFC 7662).

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::form::Form;
use super::refresh;
use super::service::{Service, private, unavailable};
use crate::exchange::Answer;
use crate::refusal::{Reason, Refusal};
use crate::stages::auth::claims::{OWN_ISSUER, sources};
use crate::stages::auth::client_proof::KnownClient;
use crate::stages::auth::grant::OwnToken;
use crate::state::registry::Family;
use crate::state::registry::entry::{Change, Entry, Revocation};
use crate::state::registry::revocation_key::{RevocationKey, RevocationTarget};

/// Ends a token of the client. One that is unknown, or of another client, is no error (RFC 7009 §2.2).
pub(super) async fn revoke(service: &Service<'_>, client: &KnownClient, form: &Form) -> Result<Box<Answer>, Refusal> {
    let token = form.need("token")?;
    if let Some((family, _)) = refresh::known(service, token).await? {
        if *family.client == *client.client.id {
            refresh::end(service, &family.id, family.expires, "the client revoked it").await?;
        }
        return Ok(private(&json!({})));
    }
    let Some(own) = own(service, token).await? else { return Ok(private(&json!({}))) };
    let now = service.request.now();
    // One that has ended already needs no entry.
    let has_ended = own.expires.is_none_or(|end| end.saturating_add(300) <= now.as_second())
        || service.in_force.registry().is_revoked(&revocation_keys(&own, token), own.issued, now);
    if own.client() == Some(&client.client.id)
        && !has_ended
        && let Some(jti) = own.text("jti")
    {
        let revocation = Revocation {
            target: RevocationTarget::Jti(jti.into()),
            issued_before: None,
            expires: own.expires.and_then(|end| Timestamp::from_second(end.saturating_add(300)).ok()),
            reason: Some("the client revoked it".into()),
            created: service.request.now(),
            created_by: OWN_ISSUER.into(),
        };
        let changed = service.in_force.registry().change(vec![Change::Put(Entry::Revocation(revocation))]).await;
        changed.map_err(|error| unavailable(error.to_string()))?;
    }
    Ok(private(&json!({})))
}

/// Says whether a token is active. A client that is not an API learns about its own tokens only (RFC 7662 §2.2).
pub(super) async fn introspect(
    service: &Service<'_>,
    client: &KnownClient,
    form: &Form,
) -> Result<Box<Answer>, Refusal> {
    let token = form.need("token")?;
    let mut facts = match refresh::known(service, token).await? {
        Some((family, current)) => refresh_token(service, &family, current)?,
        None => access_token(service, token).await?,
    };
    let is_theirs = facts.get("client_id").and_then(Value::as_str) == Some(&client.client.id);
    if !is_theirs && !client.client.introspect {
        facts.clear();
    }
    facts.insert("active".to_owned(), json!(!facts.is_empty()));
    Ok(private(&Value::Object(facts)))
}

fn refresh_token(service: &Service<'_>, family: &Family, current: bool) -> Result<Map<String, Value>, Refusal> {
    let (auth, now) = (&service.in_force.auth, service.request.now());
    let keys = [RevocationKey::family(&family.id), RevocationKey::issuer(OWN_ISSUER)];
    let stands = auth.client_named(&family.client)?.is_some_and(|client| {
        client.check_standing(auth.registry(), &keys, Some(family.created.as_second()), now).is_ok()
    });
    if !current || now >= family.end() || !stands {
        return Ok(Map::new());
    }
    let facts = json!({
        "client_id": family.client, "scope": family.scopes.join(" "), "iss": service.config.issuer, "aud": family.audience,
        "iat": family.created.as_second(), "exp": family.end().as_second(),
    });
    Ok(if let Value::Object(facts) = facts { facts } else { Map::new() })
}

async fn access_token(service: &Service<'_>, token: &str) -> Result<Map<String, Value>, Refusal> {
    let Some(own) = own(service, token).await? else { return Ok(Map::new()) };
    let (auth, now) = (&service.in_force.auth, service.request.now());
    let keys = revocation_keys(&own, token);
    let client = own.client().map_or(Ok(None), |id| auth.client_named(id))?;
    let stands = client.is_some_and(|client| client.check_standing(auth.registry(), &keys, own.issued, now).is_ok());
    if own.expires.is_none_or(|end| end <= now.as_second()) || !stands {
        return Ok(Map::new());
    }
    let mut facts = own.claims;
    facts.insert("iss".to_owned(), json!(service.config.issuer));
    let bound = facts.get("cnf").is_some_and(|bound| bound.get("jkt").is_some());
    facts.insert("token_type".to_owned(), json!(if bound { "DPoP" } else { "Bearer" }));
    Ok(facts)
}

/// The keys by which a token of this service can be revoked, beside those of its client.
fn revocation_keys(own: &OwnToken, token: &str) -> Vec<RevocationKey> {
    let mut keys = vec![
        RevocationKey::issuer(OWN_ISSUER),
        RevocationKey::token(own.name.as_bytes()),
        RevocationKey::token(token.as_bytes()),
    ];
    keys.extend(own.text("jti").map(RevocationKey::jti));
    keys.extend(own.text("sid").map(RevocationKey::family));
    keys.extend(own.text("sub").map(|subject| RevocationKey::subject(OWN_ISSUER, subject)));
    keys.extend(sources(&own.claims).unwrap_or_default());
    keys
}

/// A token of this service; `None` if it is none, or its signature is wrong.
async fn own(service: &Service<'_>, token: &str) -> Result<Option<OwnToken>, Refusal> {
    match service.in_force.auth.own_token(token, service.request.now()).await {
        Ok(own) => Ok(Some(own)),
        Err(refusal) if refusal.reason() == Reason::IdentityUnavailable => Err(refusal),
        Err(_) => Ok(None),
    }
}
