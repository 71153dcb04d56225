//! The claims that say who a caller is, and what it may do: settings of issuers and introspection endpoints.

use std::collections::BTreeMap;

use http::HeaderName;

use crate::policy::compile::attributes;
use crate::policy::compile::context::Context;
use crate::policy::compile::forward_claims;
use crate::policy::document::{ClaimNames, RequiredValues};
use crate::policy::tree::At;
use crate::stages::auth::claim_path::{ClaimPath, ClaimPaths};
use crate::stages::auth::claims::{AUDIENCE_CLAIMS, CONSUMER_CLAIMS, SCOPE_CLAIMS, USER_CLAIMS};
use crate::stages::auth::required_claim::RequiredClaim;
use crate::stages::auth::scopes_and_roles::ScopesAndRoles;

/// The claims that hold facts about a caller.
pub(super) struct Claims {
    pub(super) consumer: ClaimPaths,
    pub(super) user: ClaimPaths,
    pub(super) scope: ClaimPaths,
    pub(super) role: Option<ClaimPaths>,
    pub(super) scopes_and_roles: ScopesAndRoles,
    pub(super) attributes: Box<[(Box<str>, ClaimPaths)]>,
    pub(super) forwarded: Box<[(HeaderName, ClaimPaths)]>,
}

/// `consumer_claim`, `user_claim`, `scope_claim` and `role_claim`, with their defaults; `scopes_and_roles`, `attributes` and
/// `forward_claims`.
pub(super) fn compile(
    context: &mut Context<'_>,
    [consumer, user, scope, role]: [&Option<ClaimNames>; 4],
    scopes_and_roles: Option<&str>,
    (named, forwarded): (&BTreeMap<String, ClaimNames>, &BTreeMap<String, ClaimNames>),
    at: At<'_>,
) -> Claims {
    let consumer = claim(context, consumer.as_ref(), at.key("consumer_claim"));
    let user = claim(context, user.as_ref(), at.key("user_claim"));
    let scope = claim(context, scope.as_ref(), at.key("scope_claim"));
    Claims {
        consumer: consumer.unwrap_or_else(|| ClaimPaths::of_names(&CONSUMER_CLAIMS)),
        user: user.unwrap_or_else(|| ClaimPaths::of_names(&USER_CLAIMS)),
        scope: scope.unwrap_or_else(|| ClaimPaths::of_names(&SCOPE_CLAIMS)),
        scopes_and_roles: how_combined(context, scopes_and_roles, role.is_some(), at),
        role: claim(context, role.as_ref(), at.key("role_claim")),
        attributes: attributes(context, named, at.key("attributes")),
        forwarded: forward(context, forwarded, at.key("forward_claims")),
    }
}

/// `scopes_and_roles`. Tokens have scopes by default, so a claim for roles is always a second one: what both of them grant is not
/// for us to guess.
fn how_combined(context: &mut Context<'_>, written: Option<&str>, has_roles: bool, at: At<'_>) -> ScopesAndRoles {
    let at_key = at.key("scopes_and_roles");
    match (written, has_roles) {
        (Some("union"), true) => return ScopesAndRoles::Union,
        (Some("intersect"), true) => return ScopesAndRoles::Intersect,
        (Some("union" | "intersect"), false) if !at.key("role_claim").damaged() => {
            context
                .error(at_key, "there is nothing to combine without `role_claim`")
                .help("add it, or remove this key");
        }
        (Some("union" | "intersect"), false) => {}
        (Some(other), _) => context.unknown(at_key, "way to combine scopes and roles", other, ["union", "intersect"]),
        (None, true) => context.missing(
            at_key,
            "`scopes_and_roles` is missing: a token may have scopes and roles",
            "write `intersect` if a token grants what both claims allow, or `union` if either of them is enough",
        ),
        (None, false) => return ScopesAndRoles::Union,
    }
    // The policy has a problem, and is not served.
    ScopesAndRoles::Intersect
}

/// `audience_claim`, with its default.
pub(super) fn audience(context: &mut Context<'_>, written: Option<&ClaimNames>, at: At<'_>) -> ClaimPaths {
    claim(context, written, at).unwrap_or_else(|| ClaimPaths::of_names(&AUDIENCE_CLAIMS))
}

/// `require` of an issuer.
pub(super) fn required(
    context: &mut Context<'_>,
    written: &BTreeMap<String, RequiredValues>,
    at: At<'_>,
) -> Box<[RequiredClaim]> {
    let mut all = Vec::new();
    for (name, RequiredValues(values)) in written {
        let at = at.key(name);
        if values.is_empty() && !at.damaged() {
            context.error(at, "no token has a value of an empty list").help("write a value, or remove the claim");
        }
        match ClaimPath::parse(name) {
            Ok(_) if matches!(name.as_str(), "iss" | "/iss") => {
                context.problems.error(at.key_place(), "`issuer` says which `iss` is accepted").help("remove this");
            }
            Ok(path) => all.push(RequiredClaim::new(path, values)),
            Err(problem) => {
                context.problems.error(at.key_place(), problem);
            }
        }
    }
    all.into()
}

/// `attributes` of an issuer or an introspection endpoint, each with the claims that have it.
fn attributes(
    context: &mut Context<'_>,
    written: &BTreeMap<String, ClaimNames>,
    at: At<'_>,
) -> Box<[(Box<str>, ClaimPaths)]> {
    let mut all = Vec::new();
    for (name, names) in written {
        let at = at.key(name);
        attributes::check_name(context, name, at);
        all.extend(claim(context, Some(names), at).map(|paths| (name.as_str().into(), paths)));
    }
    all.into()
}

/// `forward_claims` of an issuer or an introspection endpoint: headers, each with the claims that have its value.
fn forward(
    context: &mut Context<'_>,
    written: &BTreeMap<String, ClaimNames>,
    at: At<'_>,
) -> Box<[(HeaderName, ClaimPaths)]> {
    let names = forward_claims::header_names(context, written, at);
    let with_claims = |(name, text): (HeaderName, &str)| Some((name, claim(context, written.get(text), at.key(text))?));
    names.into_iter().filter_map(with_claims).collect()
}

/// The claims of a setting, in the order they are tried.
fn claim(context: &mut Context<'_>, written: Option<&ClaimNames>, at: At<'_>) -> Option<ClaimPaths> {
    let ClaimNames(names) = written?;
    if names.is_empty() && !at.damaged() {
        context.error(at, "this list names no claim").help("name one, or remove the key");
    }
    let mut paths = Vec::new();
    for (position, name) in names.iter().enumerate() {
        match ClaimPath::parse(name) {
            Ok(path) if paths.contains(&path) => {
                context.error(at.index(position), "this claim occurs twice");
            }
            Ok(path) => paths.push(path),
            Err(problem) => {
                context.error(at.index(position), problem);
            }
        }
    }
    Some(ClaimPaths::new(paths))
}
