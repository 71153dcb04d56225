//! `forward_claims` of issuers and introspection endpoints: the headers in which the upstream gets claims, which are then never the
//! callers'.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use http::header::COOKIE;

use super::context::Context;
use crate::policy::document::{ClaimNames, Document};
use crate::policy::header_changes::{reserved_in_requests, with_hyphens};
use crate::policy::request_fields::is_override;
use crate::policy::tree::At;
use crate::policy::{Api, Route};
use crate::stages::auth::locations::CredentialLocations;

/// Most headers of one issuer.
const MOST: usize = 32;

/// The names of headers for claims, as written; a problem is reported at the name.
pub(super) fn header_names<'w>(
    context: &mut Context<'_>,
    written: &'w BTreeMap<String, ClaimNames>,
    at: At<'_>,
) -> Vec<(HeaderName, &'w str)> {
    if written.len() > MOST {
        context.error(at, format!("a token is forwarded in at most {MOST} headers"));
    }
    let mut names: Vec<(HeaderName, &str)> = Vec::new();
    for text in written.keys() {
        let place = at.key(text).key_place();
        let Ok(name) = text.parse::<HeaderName>() else {
            let problem = context.problems.error(place, "this is not the name of a header");
            problem.help("write one name, such as `X-User-Email`");
            continue;
        };
        let overrides = is_override(&with_hyphens(name.as_str()), true);
        let why = overrides.then_some("the API may take it for another method or path");
        if let Some(why) = reserved_in_requests(name.as_str()).or(why) {
            context.problems.error(place, format!("`{name}` cannot have a claim: {why}"));
        } else if names.iter().any(|(other, _)| with_hyphens(other.as_str()) == with_hyphens(name.as_str())) {
            context.problems.error(place, "servers read this header and another one here as the same");
        } else {
            names.push((name, text));
        }
    }
    names
}

/// The headers that have claims, with hyphens for `_` and `.`. Reports those that the rest of the policy has.
pub(super) fn names(
    context: &mut Context<'_>,
    document: &Document,
    locations: &CredentialLocations,
    (apis, routes): (&[Arc<Api>], &[Arc<Route>]),
    at: At<'_>,
) -> Vec<Box<str>> {
    let at = at.key("auth");
    let issuers = document.auth.issuers.iter().map(|(name, issuer)| ("issuers", name, &issuer.forward_claims));
    let endpoints = document.auth.introspection.iter();
    let endpoints = endpoints.map(|(name, endpoint)| ("introspection", name, &endpoint.forward_claims));
    let mut names = Vec::new();
    for (key, issuer, written) in issuers.chain(endpoints) {
        for text in written.keys() {
            let Ok(name) = text.parse::<HeaderName>() else { continue };
            let plain = with_hyphens(name.as_str());
            let is_same = |other: &HeaderName| with_hyphens(other.as_str()) == plain;
            let has_own = |api: &&Arc<Api>| {
                api.request_headers().dropped().contains(&plain.as_str().into())
                    || api.kept_headers().iter().any(is_same)
            };
            let why = if name == COOKIE || locations.has_header(&name) || locations.headers().any(is_same) {
                Some("it carries credentials".to_owned())
            } else if let Some(api) = apis.iter().find(has_own) {
                Some(format!("`headers.request` of the API `{}` names it", api.name()))
            } else {
                let reads = |route: &&Arc<Route>| route.decisive_headers().any(is_same);
                routes
                    .iter()
                    .find(reads)
                    .map(|route| format!("`{}` validates or compares what callers send in it", route.name()))
            };
            if let Some(why) = why {
                let place = at.key(key).key(issuer).key("forward_claims").key(text).key_place();
                let problem = context.problems.error(place, format!("`{name}` cannot have a claim: {why}"));
                problem.help("use a header of its own, such as `X-User-Email`");
            }
            names.push(plain.into());
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}
