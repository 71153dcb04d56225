//! Generates the policy of a description: closed by default, and no more open than the description.
//!
//! Scopes that operations name are used. For operations without scopes (open, or for any known caller), the first tag
//! gives two scopes, `TAG:read` and `TAG:write`, by method. Each set of scopes becomes a role. Operations that the
//! description leaves open are closed, with a comment that says how to open them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use http::HeaderName;

use super::yaml;
use crate::policy::openapi::{DescribedKey, Description, Operation, Security};

/// Other values in the policy.
pub(super) struct Given<'a> {
    /// Path of the description, from the policy's folder.
    pub(super) document: &'a str,
    /// URL of the API.
    pub(super) upstream: &'a str,
    /// Digest of the key of the example consumer.
    pub(super) digest: &'a str,
    /// Expiry of that key.
    pub(super) expires: &'a str,
}

/// A generated scope, for an operation whose description names none.
struct Own {
    scope: String,
    /// The reason, for a comment.
    why: &'static str,
}

/// The text of the policy.
pub(super) fn policy(description: &Description, given: &Given<'_>) -> String {
    let title = description.title.as_deref().unwrap_or("an API");
    let own: BTreeMap<&str, Own> =
        description.operations.iter().filter_map(|one| Some((&*one.route, own(one)?))).collect();
    let roles = roles(description, &own);
    let mut text = format!(
        "# yaml-language-server: $schema=./bartizan.schema.json\n\
         # A policy for {}, generated from its OpenAPI description.\n\
         # Closed by default: requests that neither file describes are refused. `TODO` marks what you need to decide.\n\
         # Check it: bartizan check policy.yaml    Run it: bartizan run --policy policy.yaml\n\
         version: 1\n{}\n\
         listen:\n  - address: 127.0.0.1:8080    # TODO: add TLS before you open it to other hosts: `tls: {{ certificate: …, key: … }}`\n\n\
         # admin: {{ address: 127.0.0.1:9901, token: \"${{file:admin-token}}\" }}    # health, metrics, keys, revocations\n",
        yaml::comment(title),
        if roles.len() > 1 {
            "allow: [unused_role]    # TODO: remove it when your consumers have all roles\n"
        } else {
            ""
        },
    );
    callers(&mut text, description, given, &own, &roles);
    let name = yaml::name(title, "api");
    let _ = write!(
        text,
        "\napis:\n  {}:\n    upstream: {}\n    openapi:\n      document: {}\n      \
         # Responses that violate the description are only recorded. When none are recorded, switch to `block`.\n      \
         responses: report\n      \
         # The same for requests with members that it calls `readOnly`.\n      \
         read_only: report\n      \
         # `true` refuses query parameters that are not described.\n      strict: false\n",
        yaml::value(&name),
        yaml::value(given.upstream),
        yaml::value(given.document),
    );
    routes(&mut text, description, &own);
    text.push_str("\naudit: [stdout]\n");
    text
}

/// Where API keys are, as the policy writes it, and the cookie that tokens are in, if there is one.
fn places(description: &Description) -> (String, Option<&str>) {
    let alternatives = description.operations.iter().flat_map(|operation| match &operation.security {
        Security::AnyOf(alternatives) => &**alternatives,
        _ => &[],
    });
    let cookie = alternatives.clone().find_map(|one| one.cookie.as_deref());
    let is_plain = |name: &&str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !name.is_empty() && name.bytes().all(is_plain)
    };
    let taken = ["authorization", "connection", "content-length", "cookie", "host"];
    let usable =
        |header: &str| HeaderName::from_bytes(header.as_bytes()).is_ok_and(|name| !taken.contains(&name.as_str()));
    let key = alternatives.clone().find_map(|one| one.key.as_ref());
    let key = match key {
        Some(DescribedKey::Query(name)) if is_plain(&name.as_str()) => format!("query: {}", yaml::value(name)),
        Some(DescribedKey::Header(name)) if !yaml::is_reference(name) && usable(name) => {
            format!("header: {}", yaml::value(name))
        }
        _ => "header: x-api-key".to_owned(),
    };
    (key, cookie.filter(is_plain))
}

/// Writes issuers, roles, plans and an example consumer.
fn callers(
    text: &mut String,
    description: &Description,
    given: &Given<'_>,
    own: &BTreeMap<&str, Own>,
    roles: &BTreeMap<String, Vec<String>>,
) {
    let (key, cookie) = places(description);
    let _ = write!(text, "\nauth:\n  api_keys: {{ {key} }}\n");
    if let Some(cookie) = cookie {
        let _ = writeln!(text, "  tokens: {{ from: [authorization, {{ cookie: {} }}] }}", yaml::value(cookie));
    }
    if !description.issuers.is_empty() {
        text.push_str("  # TODO: check the issuer and the audience, then remove the `#`.\n");
        text.push_str("  # issuers:\n");
    }
    for issuer in &description.issuers {
        let url = match issuer.url.split_once("/.well-known/") {
            Some((url, _)) if issuer.discovery => url,
            _ => origin(&issuer.url),
        };
        let _ = write!(
            text,
            "  #   {}:\n  #     issuer: {}    # the exact `iss` of its tokens\n  #     audience: [{}]\n  #     \
             algorithms: [RS256, ES256]\n  #     max_lifetime: 1h\n",
            yaml::value(&yaml::name(&issuer.name, "login")),
            yaml::value(url),
            yaml::value(&yaml::name(description.title.as_deref().unwrap_or_default(), "api")),
        );
    }
    text.push_str("\n# A role is a set of scopes.\nroles:\n");
    for (name, scopes) in roles {
        let _ = writeln!(text, "  {}: {}", yaml::value(name), yaml::list(scopes));
    }
    let role = reader(description, own, roles).map(|name| yaml::value(name)).unwrap_or_default();
    let _ = write!(
        text,
        "\n# Limits of one consumer. TODO: set what the API can handle.\nplans:\n  standard: {{ rate: 10/s, burst: 20 }}\n\n\
         # Who may call. `roles` limits every credential of a consumer.\nconsumers:\n  example:\n    \
         roles: [{role}]\n    plan: standard\n    keys:    # by digest; the key itself was shown once\n      \
         - {{ id: example-1, sha256: \"{}\", expires: {} }}\n",
        given.digest, given.expires,
    );
}

/// Writes what the policy adds to the description.
fn routes(text: &mut String, description: &Description, own: &BTreeMap<&str, Own>) {
    let _ = writeln!(
        text,
        "    # {} operations are described; the policy adds only these settings.",
        description.operations.len()
    );
    if own.is_empty() {
        text.push_str("    # routes:\n    #   GET /path: { rate: 5/s }\n");
        return;
    }
    text.push_str("    routes:\n");
    for operation in &description.operations {
        let Some(Own { scope, why }) = own.get(&*operation.route) else { continue };
        let summary = operation.summary.as_deref().map(yaml::comment).filter(|summary| !summary.is_empty());
        if let Some(summary) = summary {
            let _ = writeln!(text, "      # {summary}");
        }
        let scopes = yaml::list(std::slice::from_ref(scope));
        let _ = writeln!(text, "      {}: {{ scopes: {scopes} }}{why}", operation.route);
    }
}

/// Returns a generated scope for an operation whose description names none.
fn own(operation: &Operation) -> Option<Own> {
    if operation.extensions.scopes.is_some() {
        return None;
    }
    let why = match &operation.security {
        Security::AnyOf(alternatives) if alternatives.iter().any(|one| !one.scopes.is_empty()) => return None,
        Security::AnyOf(_) => "",
        Security::Open => "    # open in the description: `{ public: true }` opens it",
        Security::Unknown(..) => "    # the description requires an unsupported credential",
    };
    let (method, path) = operation.route.split_once(' ').unwrap_or_default();
    // Skips `v1` and `{id}` to find the resource.
    let telling = |segment: &&str| {
        let version = segment.strip_prefix('v').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        !version && !segment.is_empty() && !segment.starts_with('{')
    };
    let first = path.split('/').find(telling);
    let subject = yaml::name(operation.tag.as_deref().or(first).unwrap_or_default(), "api");
    let verb = if ["GET", "HEAD", "OPTIONS"].contains(&method) { "read" } else { "write" };
    Some(Own { scope: format!("{subject}:{verb}"), why })
}

/// Returns one role for each scope that an operation requires.
fn roles(description: &Description, own: &BTreeMap<&str, Own>) -> BTreeMap<String, Vec<String>> {
    let mut scopes: BTreeSet<&str> = own.values().map(|own| &*own.scope).collect();
    for operation in &description.operations {
        scopes.extend(operation.extensions.scopes.iter().flatten().map(String::as_str));
        if let Security::AnyOf(alternatives) = &operation.security {
            scopes.extend(alternatives.iter().flat_map(|one| &one.scopes).map(String::as_str));
        }
    }
    let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for scope in scopes.into_iter().filter(|scope| !yaml::is_reference(scope)) {
        roles.entry(yaml::name(scope, "role")).or_default().push(scope.to_owned());
    }
    if roles.is_empty() {
        roles.insert("caller".to_owned(), Vec::new());
    }
    roles
}

/// Returns the role that can read the most.
fn reader<'r>(
    description: &Description,
    own: &BTreeMap<&str, Own>,
    roles: &'r BTreeMap<String, Vec<String>>,
) -> Option<&'r String> {
    let reads = |scopes: &[String]| {
        let gets = description.operations.iter().filter(|operation| operation.route.starts_with("GET "));
        let open = |operation: &&Operation| match (own.get(&*operation.route), &operation.security) {
            (Some(own), _) => scopes.contains(&own.scope),
            (None, Security::AnyOf(alternatives)) => {
                alternatives.iter().any(|one| one.scopes.iter().all(|scope| scopes.contains(scope)))
            }
            _ => false,
        };
        gets.filter(open).count()
    };
    // The first of equals.
    roles.iter().rev().max_by_key(|(_, scopes)| reads(scopes)).map(|(name, _)| name)
}

/// Returns scheme and host of a URL.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |slash| start + slash);
    url.get(..end).unwrap_or(url)
}
