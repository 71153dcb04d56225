//! `auth.issuers`: whose JWTs are accepted, and what is required of them.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, AlgorithmFamily};

use super::claims;
use super::keys::{self, ALGORITHMS, CLOCK_SKEW, Keys};
use super::tenants;
use crate::policy::compile::context::Context;
use crate::policy::compile::names::plain_name;
use crate::policy::compile::plans::{self, Plans};
use crate::policy::document::{self, ClaimNames, Document};
use crate::policy::tree::At;
use crate::stages::auth::jwt::{Issuer, Settings};
use crate::stages::auth::key_location::RemoteKeys;
use crate::stages::auth::key_source::KeySource;

/// Largest `clock_skew`, in seconds: more would keep expired tokens alive.
const MAX_CLOCK_SKEW: i64 = 300;

/// A longer `max_lifetime` gets a warning, in seconds: a leaked token is valid for that long.
const LONG_LIFETIME: i64 = 24 * 3600;

/// The only value of `type`.
const ACCESS_TOKEN: &str = "at+jwt";

/// `auth.issuers`.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    plans: &Plans,
    at: At<'_>,
) -> (Vec<Issuer>, Vec<RemoteKeys>) {
    let mut issuers = Vec::new();
    let mut key_sets: Vec<RemoteKeys> = Vec::new();
    let mut known: HashMap<Box<str>, &str> = HashMap::new();
    for (name, written) in &document.auth.issuers {
        let at = at.key(name);
        plain_name(context, "issuer", name, at);
        let settings = settings(context, document, name, written, plans, at);
        let names = tenants::compile(context, written, at);
        let mut keys = keys::compile(context, written, names.first().map(|(iss, _)| &**iss), at);
        if let (Some(settings), Some(keys)) = (&settings, &keys) {
            warn_of_idle_algorithms(context, settings, keys, at);
        }
        if let Some(settings) = &settings
            && let Some(set) = context.stand_ins.and_then(|stand_ins| stand_ins.issuer(name, &settings.algorithms))
        {
            keys = keys.map(|_| Keys::Fixed(set));
        }
        for (iss, _) in &names {
            if let Some(other) = known.insert(iss.clone(), name)
                && other != name
            {
                context.error(at.key("issuer"), format!("issuer `{other}` has the same `iss`"));
            }
        }
        if let (Some(settings), Some(keys)) = (settings, keys) {
            for (iss, tenant) in names {
                let Some(keys) = keys::of(context, &keys, &iss, at) else { break };
                let settings = Settings { iss, tenant, ..settings.clone() };
                issuers.push(Issuer::new(settings, source(keys, &mut key_sets)));
            }
        }
    }
    (issuers, key_sets)
}

/// Names the keys of an issuer; issuers with the same key set share it.
fn source(keys: Keys, key_sets: &mut Vec<RemoteKeys>) -> KeySource {
    match keys {
        Keys::Fixed(set) => KeySource::Fixed(set),
        Keys::Remote(keys) => {
            KeySource::Remote(key_sets.iter().position(|known| *known == *keys).unwrap_or_else(|| {
                key_sets.push(*keys);
                key_sets.len() - 1
            }))
        }
    }
}

/// Reports `iss` as `consumer_claim`, except where it is the id of the issuer's one consumer.
fn check_consumer_claim(
    context: &mut Context<'_>,
    document: &Document,
    name: &str,
    written: &document::Issuer,
    at: At<'_>,
) {
    let names = written.consumer_claim.as_ref().map(|ClaimNames(names)| &**names).unwrap_or_default();
    let by_issuer = |identity: &document::Identity| {
        identity.issuer.as_deref() == Some(name) && identity.id.is_some() && identity.id == written.issuer
    };
    let is_iss = |name: &&String| matches!(name.as_str(), "iss" | "/iss");
    let is_of_one = |document: &Document| document.consumers.values().flat_map(|one| &one.identities).any(by_issuer);
    let is_good = |document| names.len() == 1 && is_of_one(document);
    for (position, _) in names.iter().enumerate().filter(|(_, name)| is_iss(name) && !is_good(document)) {
        context
            .error(at.index(position), "`iss` is the same in all tokens of an issuer")
            .help(
                "name a claim that tells its consumers apart, such as `client_id` or `sub`; or, if it has one consumer, write its `iss` \
                 as the `id` in the `identities` of that one",
            );
    }
}

fn settings(
    context: &mut Context<'_>,
    document: &Document,
    name: &str,
    written: &document::Issuer,
    plans: &Plans,
    at: At<'_>,
) -> Option<Settings> {
    if written.audience.is_empty() {
        let help = "write the audience of its tokens, such as `audience: [orders-api]`";
        context.missing(at.key("audience"), "`audience` is missing", help);
    }
    let algorithms = algorithms(context, written, at.key("algorithms"));
    match written.token_type.as_deref() {
        None | Some(ACCESS_TOKEN) => {}
        Some(other) => context.unknown(at.key("type"), "type of access token", other, [ACCESS_TOKEN]),
    }
    let skew = written.clock_skew.map_or(CLOCK_SKEW, |skew| context.seconds(at.key("clock_skew"), skew));
    if skew > MAX_CLOCK_SKEW {
        context.error(at.key("clock_skew"), "a clock skew of more than 5m would keep expired tokens alive");
    }
    let plan = written.default_plan.as_ref();
    let default_plan = plan.and_then(|plan| plans::named(context, document, plans, plan, at.key("default_plan")));
    check_consumer_claim(context, document, name, written, at.key("consumer_claim"));
    let document::Issuer { consumer_claim, user_claim, scope_claim, role_claim, .. } = written;
    let written_claims = [consumer_claim, user_claim, scope_claim, role_claim];
    let others = (&written.attributes, &written.forward_claims);
    let claims = claims::compile(context, written_claims, written.scopes_and_roles.as_deref(), others, at);
    if written.user_claim.is_none() && plans.values().any(|plan| plan.limits_users()) {
        context.problems.note(at.key_place(), "`sub` identifies users, and `per_user` limits each of them").help(
            "if clients without a user have a `sub` of their own, set `user_claim` to a claim that only users have",
        );
    }
    let max_lifetime = max_lifetime(context, name, written, at);
    Some(Settings {
        name: name.into(),
        iss: "".into(),
        tenant: None,
        audience: written.audience.clone(),
        audience_claim: claims::audience(context, written.audience_claim.as_ref(), at.key("audience_claim")),
        required: claims::required(context, &written.require, at.key("require")),
        algorithms,
        typed: written.token_type.is_some(),
        max_lifetime,
        clock_skew: skew,
        consumer_claim: claims.consumer,
        user_claim: claims.user,
        scope_claim: claims.scope,
        role_claim: claims.role,
        scopes_and_roles: claims.scopes_and_roles,
        attributes: claims.attributes,
        forward_claims: claims.forwarded,
        default_plan,
    })
}

/// `max_lifetime`, in seconds; with a warning if it is missing or long.
fn max_lifetime(context: &mut Context<'_>, name: &str, written: &document::Issuer, at: At<'_>) -> Option<i64> {
    let max_lifetime = written.max_lifetime.map(|most| context.seconds(at.key("max_lifetime"), most));
    match max_lifetime {
        None if !at.damaged() => {
            context
                .problems
                .warning(at.key_place(), format!("the lifetime of tokens of `{name}` is not limited"))
                .help("write `max_lifetime:` with the lifetime that the issuer gives, such as `1h`");
        }
        Some(most) if most > LONG_LIFETIME => {
            context
                .warning(at.key("max_lifetime"), "tokens may live for more than a day")
                .help("a leaked token does less harm when tokens are short-lived and renewed");
        }
        _ => {}
    }
    max_lifetime
}

fn algorithms(context: &mut Context<'_>, written: &document::Issuer, at: At<'_>) -> Vec<Algorithm> {
    if written.algorithms.is_empty() {
        context.missing(at, "`algorithms` is missing", "write the algorithms that sign its tokens, such as `[RS256]`");
    }
    let shared = written.secret.is_some();
    let mut algorithms = Vec::new();
    for (position, name) in written.algorithms.iter().enumerate() {
        let at = at.index(position);
        match name.parse::<Algorithm>() {
            Ok(algorithm) if (algorithm.family() == AlgorithmFamily::Hmac) == shared => algorithms.push(algorithm),
            Ok(_) if shared => {
                context.error(at, "`secret` goes with HS256, HS384 and HS512 only");
            }
            Ok(_) => {
                context
                    .error(at, "HS* is signed with a shared secret")
                    .help("write `secret:` and no `jwks:` or `public_key:`; or name an algorithm with public keys");
            }
            Err(_) if name == "none" => {
                context.error(at, "unsigned tokens are never accepted");
            }
            Err(_) => context.unknown(at, "algorithm", name, ALGORITHMS),
        }
    }
    algorithms
}

fn warn_of_idle_algorithms(context: &mut Context<'_>, settings: &Settings, keys: &Keys, at: At<'_>) {
    let Keys::Fixed(set) = keys else { return };
    for algorithm in &settings.algorithms {
        if !set.verifies(*algorithm) {
            context.warning(at.key("algorithms"), format!("no key of this issuer can verify {algorithm:?}"));
        }
    }
}
