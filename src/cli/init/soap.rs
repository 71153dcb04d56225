//! Generates the policy of a WSDL: one route for each path that its services have.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::draft::Given;
use super::yaml;
use crate::xsd::wsdl::Description;

/// Most operations that a comment lists.
const LISTED: usize = 20;

/// The text of the policy.
pub(super) fn policy(service: &Description, given: &Given<'_>) -> String {
    let title = service.service.as_deref().unwrap_or("a SOAP service");
    let name = yaml::value(&yaml::name(title, "service"));
    let scope = yaml::list(&[format!("{}:call", yaml::name(title, "service"))]);
    let mut text = format!(
        "# yaml-language-server: $schema=./bartizan.schema.json\n\
         # A policy for {}, generated from its WSDL.\n\
         # Closed by default: only the operations of the WSDL can be called. `TODO` marks what you need to decide.\n\
         # Check it: bartizan check policy.yaml    Run it: bartizan run --policy policy.yaml\n\
         version: 1\n\n\
         listen:\n  - address: 127.0.0.1:8080    # TODO: add TLS before you open it to other hosts: `tls: {{ certificate: …, key: … }}`\n\n\
         # admin: {{ address: 127.0.0.1:9901, token: \"${{file:admin-token}}\" }}    # health, metrics, keys, revocations\n\n\
         auth:\n  api_keys: {{ header: x-api-key }}\n\n\
         # A role is a set of scopes.\nroles:\n  caller: {scope}\n\n\
         # Limits of one consumer. TODO: set what the service can handle.\nplans:\n  standard: {{ rate: 10/s, burst: 20 }}\n\n\
         # Who may call. `roles` limits every credential of a consumer.\nconsumers:\n  example:\n    \
         roles: [caller]\n    plan: standard\n    keys:    # by digest; the key itself was shown once\n      \
         - {{ id: example-1, sha256: \"{}\", expires: {} }}\n\n\
         apis:\n  {name}:\n    upstream: {}\n    routes:\n",
        yaml::comment(title),
        given.digest,
        given.expires,
        yaml::value(given.upstream),
    );
    let document = yaml::value(given.document);
    for (path, comment) in paths(service) {
        let _ = write!(
            text,
            "      # {}\n      POST {path}:{comment}\n        scopes: {scope}\n        request: {{ soap: {document} }}\n        \
             # Responses that are not those of the WSDL are only recorded. When none are recorded, remove `mode`.\n        \
             response: {{ soap: {document}, mode: report }}\n",
            operations(service),
        );
    }
    text.push_str("\naudit: [stdout]\n");
    text
}

/// The path of the first route.
pub(super) fn first_path(service: &Description) -> &str {
    paths(service).first().map_or("/service", |(path, _)| path)
}

/// The paths of the services, each with a comment.
fn paths(service: &Description) -> BTreeSet<(&str, &'static str)> {
    let paths: BTreeSet<_> =
        service.addresses.iter().filter_map(|address| path(address)).map(|path| (path, "")).collect();
    if paths.is_empty() {
        return BTreeSet::from([(
            "/service",
            "    # TODO: the WSDL names no usable address; write the service's path",
        )]);
    }
    paths
}

/// The path of a URL, if it can be that of a route as it is.
fn path(address: &str) -> Option<&str> {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))?;
    let path = rest.find(['/', '?', '#']).and_then(|start| rest.get(start..)).unwrap_or_default();
    let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    let confusing = path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | ".."));
    (path.chars().all(plain) && !confusing).then_some(path)
}

/// What can be called, for a comment.
fn operations(service: &Description) -> String {
    let mut names: Vec<&str> = service.operations.iter().map(|operation| &*operation.name).collect();
    names.sort_unstable();
    names.dedup();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let listed = yaml::comment(&names.join(", "));
    if more > 0 { format!("{listed} and {more} more") } else { listed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_paths() {
        for (address, expected) in [
            ("http://example.com/a/b.asmx", Some("/a/b.asmx")),
            ("https://example.com:8443/a?x=1", Some("/a")),
            ("http://example.com", Some("/")),
            ("http://example.com?wsdl", Some("/")),
            ("http://example.com/a/", Some("/a/")),
            ("http://example.com/{a}", None),
            ("http://example.com/a//b", None),
            ("http://example.com/a/../b", None),
            ("http://example.com/%7e", None),
            ("jms:queue", None),
            ("REPLACE_WITH_ACTUAL_URL", None),
        ] {
            assert_eq!(path(address), expected, "{address}");
        }
    }
}
