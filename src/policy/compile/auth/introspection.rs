//! `auth.introspection`: endpoints that are asked about tokens of other issuers (RFC 7662).

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey};
use secrecy::ExposeSecret;

use super::claims;
use super::keys::{ALGORITHMS, CLOCK_SKEW, safe_url};
use crate::policy::compile::context::Context;
use crate::policy::compile::names::plain_name;
use crate::policy::compile::plans::{self, Plans};
use crate::policy::document::{self, Document};
use crate::policy::tree::At;
use crate::stages::auth::introspection::{ClientAuthentication, Introspection};
use crate::stages::auth::jwt::Settings;

/// Default of an endpoint's `cache`.
const BELIEVED: Duration = Duration::from_secs(10);

/// Default of an endpoint's `concurrent`.
const CONCURRENT: NonZeroU16 = NonZeroU16::MIN.saturating_add(63);

/// A longer time gets a warning: a token that the endpoint revokes stays valid for that long.
const LONG_BELIEVED: Duration = Duration::from_secs(300);

/// `auth.introspection`.
pub(super) fn compile(context: &mut Context<'_>, document: &Document, plans: &Plans, at: At<'_>) -> Vec<Introspection> {
    let mut endpoints = Vec::new();
    for (name, written) in &document.auth.introspection {
        let at = at.key(name);
        plain_name(context, "introspection endpoint", name, at);
        if document.auth.issuers.contains_key(name) {
            context.problems.error(at.key_place(), "an issuer already has this name");
        }
        endpoints.extend(endpoint(context, document, name, written, plans, at));
    }
    endpoints
}

/// An empty list would be no check at all, which is not what it looks like.
fn check_audience(context: &mut Context<'_>, written: &[String], at: At<'_>) {
    if written.is_empty() && at.present() && !at.damaged() {
        context
            .error(at, "an empty `audience` would be any audience")
            .help("list the audiences of the tokens, or leave it out if the endpoint checks them");
    }
}

fn endpoint(
    context: &mut Context<'_>,
    document: &Document,
    name: &str,
    written: &document::Introspection,
    plans: &Plans,
    at: At<'_>,
) -> Option<Introspection> {
    let plan = written.default_plan.as_ref();
    let default_plan = plan.and_then(|plan| plans::named(context, document, plans, plan, at.key("default_plan")));
    if let Some(cache) = written.cache {
        context.seconds(at.key("cache"), cache);
    }
    let believed = context.period(at.key("cache"), written.cache, BELIEVED);
    if believed > LONG_BELIEVED {
        context
            .warning(at.key("cache"), "a token that the issuer has revoked is accepted for this long")
            .help("a few seconds avoid most requests to the endpoint");
    }
    check_audience(context, &written.audience, at.key("audience"));
    let concurrent = concurrent(context, written.concurrent, at.key("concurrent"));
    let written_claims = [&written.consumer_claim, &written.user_claim, &written.scope_claim, &written.role_claim];
    let others = (&written.attributes, &written.forward_claims);
    let claims = claims::compile(context, written_claims, written.scopes_and_roles.as_deref(), others, at);
    let authentication = client_authentication(context, written, at);
    let (Some(endpoint), Some(client_id)) = (&written.endpoint, &written.client_id) else {
        let help = "write the URL, and the client ID of the proxy";
        context.missing(at, "introspection needs `endpoint` and `client_id`", help);
        return None;
    };
    let endpoint = safe_url(context, endpoint, at.key("endpoint"))?.uri().clone();
    let calls = (context.trust(written.ca.as_ref(), at)?, Arc::clone(&context.egress));
    let settings = Settings {
        name: name.into(),
        iss: "".into(),
        tenant: None,
        audience: written.audience.clone(),
        audience_claim: claims::audience(context, None, at),
        required: Box::default(),
        algorithms: Vec::new(),
        typed: false,
        max_lifetime: None,
        clock_skew: CLOCK_SKEW,
        consumer_claim: claims.consumer,
        user_claim: claims.user,
        scope_claim: claims.scope,
        role_claim: claims.role,
        scopes_and_roles: claims.scopes_and_roles,
        attributes: claims.attributes,
        forward_claims: claims.forwarded,
        default_plan,
    };
    let mut compiled =
        Introspection::new(settings, endpoint, client_id, authentication?, (believed, concurrent), calls);
    if let Some(stand_in) = context.stand_ins.and_then(|stand_ins| stand_ins.endpoint(name)) {
        compiled = compiled.with_stand_in(stand_in);
    }
    Some(compiled)
}

/// How many introspections there may be at once.
fn concurrent(context: &mut Context<'_>, written: Option<u16>, at: At<'_>) -> NonZeroU16 {
    let concurrent = written.map_or(Some(CONCURRENT), NonZeroU16::new);
    if concurrent.is_none() {
        context.error(at, "no token could be introspected").help("write a number from 1 to 65535");
    }
    concurrent.unwrap_or(CONCURRENT)
}

fn client_authentication(
    context: &mut Context<'_>,
    written: &document::Introspection,
    at: At<'_>,
) -> Option<ClientAuthentication> {
    const WAYS: [&str; 3] = ["basic", "post", "private_key_jwt"];
    let way = written.client_auth.as_deref().unwrap_or("basic");
    let secret = match (way, &written.client_secret) {
        ("basic" | "post", Some(secret)) => secret.clone(),
        ("basic" | "post", None) => {
            let help = "write `client_secret:` as a reference, or `client_auth: private_key_jwt`";
            context.missing(at.key("client_secret"), "`client_secret` is missing", help);
            return None;
        }
        ("private_key_jwt", _) => return signing_key(context, written, at),
        (other, _) => {
            context.unknown(at.key("client_auth"), "client authentication method", other, WAYS);
            return None;
        }
    };
    Some(if way == "basic" { ClientAuthentication::Basic(secret) } else { ClientAuthentication::Post(secret) })
}

fn signing_key(
    context: &mut Context<'_>,
    written: &document::Introspection,
    at: At<'_>,
) -> Option<ClientAuthentication> {
    let name = written.algorithm.as_deref().unwrap_or("RS256");
    let algorithm = name.parse::<Algorithm>().ok().filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac);
    if algorithm.is_none() {
        context.unknown(at.key("algorithm"), "algorithm", name, ALGORITHMS.into_iter().take(9));
    }
    let Some(key) = &written.private_key else {
        context.missing(at.key("private_key"), "`private_key` is missing", "write the path of a PEM private key");
        return None;
    };
    let (algorithm, key) = (algorithm?, context.private_key(key, at.key("private_key"))?);
    let pem = key.expose_secret().as_bytes();
    let parsed = match algorithm.family() {
        AlgorithmFamily::Ec => EncodingKey::from_ec_pem(pem),
        AlgorithmFamily::Ed => EncodingKey::from_ed_pem(pem),
        _ => EncodingKey::from_rsa_pem(pem),
    };
    match parsed {
        Ok(key) => {
            Some(ClientAuthentication::PrivateKeyJwt { key: Box::new(key), algorithm, kid: written.key_id.clone() })
        }
        Err(_) => {
            context.error(at.key("private_key"), format!("this is not a PEM private key for {name}"));
            None
        }
    }
}
