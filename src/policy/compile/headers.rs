//! `headers`: which header fields of callers are dropped, and which of them an API keeps.

use std::collections::HashSet;
use std::sync::Arc;

use http::HeaderName;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST};

use super::context::Context;
use crate::policy::document::Document;
use crate::policy::header_rules::HeaderRules;
use crate::policy::tree::At;
use crate::policy::{Api, Route};

/// Fields without which the upstream would read another request than the one that was validated.
const NEEDED: [HeaderName; 4] = [CONTENT_ENCODING, CONTENT_TYPE, COOKIE, HOST];

/// `headers`, and the names that the rest of the policy has.
pub(super) fn compile(
    context: &mut Context<'_>,
    document: &Document,
    key_header: &HeaderName,
    (apis, routes): (&[Arc<Api>], &[Arc<Route>]),
    at: At<'_>,
) -> HeaderRules {
    let mut patterns = Vec::new();
    for (position, written) in document.headers.drop.iter().enumerate() {
        let pattern = written.to_ascii_lowercase();
        let name = pattern.strip_suffix('*').unwrap_or(&pattern);
        let at = at.key("drop").index(position);
        match name.parse::<HeaderName>() {
            Ok(_) => match needed(&pattern) {
                Some(needed) => {
                    context.error(at, format!("`{needed}` is a part of what is validated, so it cannot be dropped"));
                }
                None => patterns.push(pattern),
            },
            Err(_) => {
                context
                    .error(at, "this is not the name of a header")
                    .help("write a name, or its beginning and `*`, such as `x-internal-*`");
            }
        }
    }
    let validated = routes.iter().flat_map(|route| route.request.header_names());
    let kept = apis.iter().flat_map(|api| api.kept_headers());
    let named: HashSet<_> = validated.chain(kept).chain([key_header]).map(|name| name.as_str().into()).collect();
    HeaderRules::new(&patterns, named)
}

/// A needed field that this pattern, in lower case, would drop.
fn needed(pattern: &str) -> Option<HeaderName> {
    NEEDED.into_iter().find(|needed| match pattern.strip_suffix('*') {
        Some(beginning) => needed.as_str().starts_with(beginning),
        None => needed.as_str() == pattern,
    })
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

    /// The upstream gets every field that decides how it reads what was validated, whichever way a drop is written.
    #[test]
    fn a_needed_header_is_dropped_neither_by_name_nor_by_its_beginning() {
        for (pattern, expected) in [
            ("content-type", Some(CONTENT_TYPE)),
            ("content-*", Some(CONTENT_ENCODING)),
            ("content-t*", Some(CONTENT_TYPE)),
            ("cookie*", Some(COOKIE)),
            ("h*", Some(HOST)),
            ("x-content-*", None),
            ("content", None),
            ("content-type-*", None),
            ("cookie2", None),
        ] {
            assert_eq!(needed(pattern), expected, "{pattern}");
        }
    }
}
