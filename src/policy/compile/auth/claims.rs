//! The claims that say who a caller is, and what it may do: settings of issuers and introspection endpoints.

use std::collections::BTreeMap;

use crate::policy::compile::attributes;
use crate::policy::compile::context::Context;
use crate::policy::document::ClaimNames;
use crate::policy::tree::At;
use crate::stages::auth::claim_path::{ClaimPath, ClaimPaths};
use crate::stages::auth::claims::{CONSUMER_CLAIMS, SCOPE_CLAIMS, USER_CLAIMS};

/// The claims that hold facts about a caller.
pub(super) struct Claims {
    pub(super) consumer: ClaimPaths,
    pub(super) user: ClaimPaths,
    pub(super) scope: ClaimPaths,
    pub(super) role: Option<ClaimPaths>,
}

/// `consumer_claim`, `user_claim`, `scope_claim` and `role_claim`, with their defaults.
pub(super) fn compile(
    context: &mut Context<'_>,
    [consumer, user, scope, role]: [&Option<ClaimNames>; 4],
    at: At<'_>,
) -> Claims {
    let consumer = claim(context, consumer.as_ref(), at.key("consumer_claim"));
    let user = claim(context, user.as_ref(), at.key("user_claim"));
    let scope = claim(context, scope.as_ref(), at.key("scope_claim"));
    Claims {
        consumer: consumer.unwrap_or_else(|| ClaimPaths::of_names(&CONSUMER_CLAIMS)),
        user: user.unwrap_or_else(|| ClaimPaths::of_names(&USER_CLAIMS)),
        scope: scope.unwrap_or_else(|| ClaimPaths::of_names(&SCOPE_CLAIMS)),
        role: claim(context, role.as_ref(), at.key("role_claim")),
    }
}

/// `attributes` of an issuer or an introspection endpoint, each with the claims that have it.
pub(super) fn attributes(
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
