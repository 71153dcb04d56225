//! The kinds of grants: `client_credentials` (RFC 6749 §4.4), `refresh_token` (§6), token exchange (RFC 8693).

use serde_json::{Value, json};

use super::access_token::{self, Contents, Exchanged, TOKEN_TYPE};
use super::asked;
use super::form::Form;
use super::refresh;
use super::service::{Service, malformed, private, refuse};
use crate::chain::Trace;
use crate::exchange::Answer;
use crate::refusal::{Reason, Refusal};
use crate::stages::auth::claims::Confirmation;
use crate::stages::auth::client_proof::KnownClient;

/// RFC 8693 §2.1.
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// Types of subject tokens: access tokens are JWTs here (RFC 8693 §3).
const SUBJECT_TYPES: [&str; 2] = [TOKEN_TYPE, "urn:ietf:params:oauth:token-type:jwt"];

/// All kinds, as metadata lists them.
pub(super) fn kinds(service: &crate::policy::token_service::TokenService) -> Vec<&'static str> {
    let refresh = service.refresh.map(|_| "refresh_token");
    ["client_credentials"].into_iter().chain(refresh).chain([EXCHANGE]).collect()
}

/// Answers a request for a token.
pub(super) async fn give(
    service: &Service<'_>,
    client: &KnownClient,
    form: &Form,
    trace: &mut Trace,
) -> Result<Box<Answer>, Refusal> {
    let kind = form.need("grant_type")?;
    if !matches!(kind, "client_credentials" | "refresh_token" | EXCHANGE) {
        return Err(refuse(Reason::UnsupportedGrantType, "this grant type is not supported here"));
    }
    let auth = &service.in_force.auth;
    let key = auth.proven_key(service.request, &client.client.id).await?;
    if client.client.dpop && key.is_none() {
        return Err(malformed("the tokens of this client are bound to a key; send a proof in the `DPoP` header"));
    }
    let confirmation = Confirmation { certificate: client.certificate, key };
    let (scopes, response) = match kind {
        "client_credentials" => client_credentials(service, client, form, &confirmation).await?,
        "refresh_token" => refresh::refresh(service, client, form, &confirmation).await?,
        _ => exchange(service, client, form, &confirmation).await?,
    };
    trace.caller = Some(client.caller(auth, scopes));
    Ok(private(&response))
}

async fn client_credentials(
    service: &Service<'_>,
    client: &KnownClient,
    form: &Form,
    confirmation: &Confirmation,
) -> Result<(Vec<Box<str>>, Value), Refusal> {
    let scopes = asked::scopes(form, &client.client.ceiling())?;
    let audience = asked::audience(form, &service.config.audience)?;
    let begun = match service.config.refresh {
        None => None,
        Some(settings) => refresh::begin(service, settings, client, (&scopes, &audience), confirmation).await?,
    };
    let mut response = access_token::response(
        service,
        &Contents {
            client: &client.client.id,
            subject: &client.client.id,
            scopes: &scopes,
            audience: &audience,
            confirmation,
            family: begun.as_ref().map(|(family, _)| &**family),
            no_longer_than: client.end(),
            exchanged: None,
        },
    )?;
    if let Some((_, token)) = begun {
        response.insert("refresh_token".to_owned(), json!(token));
    }
    Ok((scopes, Value::Object(response)))
}

async fn exchange(
    service: &Service<'_>,
    client: &KnownClient,
    form: &Form,
    confirmation: &Confirmation,
) -> Result<(Vec<Box<str>>, Value), Refusal> {
    let issuers = &client.client.exchange;
    if issuers.is_empty() {
        return Err(refuse(Reason::UnauthorizedClient, "this client may not exchange tokens; ask the API's owner"));
    }
    let (token, of_type) = (form.need("subject_token")?, form.need("subject_token_type")?);
    if !SUBJECT_TYPES.contains(&of_type) {
        return Err(malformed("`subject_token_type` is not that of an access token or a JWT"));
    }
    if form.get("requested_token_type").is_some_and(|wanted| !SUBJECT_TYPES.contains(&wanted)) {
        return Err(malformed("`requested_token_type` is not that of an access token"));
    }
    if form.get("actor_token").is_some() {
        return Err(malformed("`actor_token` is not supported: the actor is the client"));
    }
    let auth = &service.in_force.auth;
    let key = confirmation.key.as_deref();
    let subject = auth.subject(token, issuers, key, service.request, service.tokens).await?;
    // Never more than the token has, nor than the client may have.
    let ceiling = client.client.ceiling();
    let both: Vec<_> = subject.scopes.iter().filter(|scope| ceiling.contains(scope)).cloned().collect();
    let scopes = asked::scopes(form, &both)?;
    let audience = asked::audience(form, &service.config.audience)?;
    // Of what issuer it is: two of them may have users of the same name.
    let prefix = format!("{}:", subject.issuer);
    let about = subject.caller.user().unwrap_or(subject.caller.consumer());
    let is_named_so = subject.caller.user().is_none() && about.starts_with(&prefix);
    let about = if is_named_so { about.to_owned() } else { prefix + about };
    if auth.client_named(&about)?.is_some() {
        return Err(refuse(Reason::InvalidGrant, "the subject of the token has the name of a client"));
    }
    // What the token was bound to, the new one is bound to as well.
    let certificate = confirmation.certificate.or(subject.confirmation.certificate);
    let confirmation = Confirmation { certificate, key: confirmation.key.clone() };
    let mut response = access_token::response(
        service,
        &Contents {
            client: &client.client.id,
            subject: &about,
            scopes: &scopes,
            audience: &audience,
            confirmation: &confirmation,
            family: None,
            no_longer_than: client.end().into_iter().chain([subject.expires]).min(),
            exchanged: Some(Exchanged {
                revocation_keys: &subject.revocation_keys,
                attributes: subject.caller.attributes().to_claim(),
            }),
        },
    )?;
    response.insert("issued_token_type".to_owned(), json!(TOKEN_TYPE));
    Ok((scopes, Value::Object(response)))
}
