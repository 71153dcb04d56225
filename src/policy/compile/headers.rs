//! `headers`: which header fields of callers are dropped, and which of them an API keeps.

use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST};

use super::context::Context;
use super::forward_claims;
use crate::policy::document::Document;
use crate::policy::header_rules::HeaderRules;
use crate::policy::tree::At;
use crate::policy::{Api, Route};
use crate::stages::auth::locations::CredentialLocations;

/// Fields without which the upstream would read another request than the one that was validated.
const NEEDED: [HeaderName; 4] = [CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST];

/// `headers`, and the names that the rest of the policy has; `at` is that of the policy.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    locations: &CredentialLocations,
    (apis, routes): (&[Arc<Api>], &[Arc<Route>]),
    at: At<'_>,
) -> HeaderRules {
    let claimed = forward_claims::names(context, document, locations, (apis, routes), at);
    let mut patterns = Vec::new();
    for (position, written) in document.headers.drop.iter().enumerate() {
        let pattern = written.to_ascii_lowercase();
        let name = pattern.strip_suffix('*').unwrap_or(&pattern);
        let at = at.key("headers").key("drop").index(position);
        match name.parse::<HeaderName>() {
            Ok(_) if is_needed(&pattern) => {
                context.error(at, "this header is a part of what is validated, so it cannot be dropped");
            }
            Ok(_) => patterns.push(pattern),
            Err(_) => {
                context
                    .error(at, "this is not the name of a header")
                    .help("write a name, or its beginning and `*`, such as `x-internal-*`");
            }
        }
    }
    let validated = routes.iter().flat_map(|route| route.decisive_headers());
    let kept = apis.iter().flat_map(|api| api.kept_headers());
    let named: HashSet<_> = validated.chain(kept).chain(locations.headers()).map(|name| name.as_str().into()).collect();
    let changed = apis.iter().flat_map(|api| api.request_headers().dropped()).cloned();
    HeaderRules::new(&patterns, named).changing(changed.collect()).claiming(claimed)
}

/// Whether a pattern in lower case drops a field that is needed.
fn is_needed(pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => NEEDED.iter().any(|needed| needed.as_str().starts_with(beginning)),
        None => NEEDED.iter().any(|needed| needed == pattern),
    }
}

/// `headers.request.keep` of an API.
pub(super) fn kept(context: &mut Context<'_>, written: &[String], at: At<'_>) -> Box<[HeaderName]> {
    let mut kept = Vec::new();
    for (position, text) in written.iter().enumerate() {
        match text.parse::<HeaderName>() {
            Ok(name) => kept.push(name),
            Err(_) => {
                context
                    .error(at.index(position), "this is not the name of a header")
                    .help("write one name, such as `x-original-url`");
            }
        }
    }
    kept.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_validated_cannot_be_dropped_by_its_name_or_its_beginning() {
        for (pattern, needed) in [
            ("content-type", true),
            ("content-*", true),
            ("c*", true),
            ("host*", true),
            ("content-disposition", false),
            ("content-type-*", false),
            ("x-internal-*", false),
        ] {
            assert_eq!(is_needed(pattern), needed, "{pattern}");
        }
    }
}
