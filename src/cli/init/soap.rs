//! Generates the policy of a WSDL: one route for each path that its services have, for the operations of the bindings there.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use super::draft::Given;
use super::yaml;
use crate::xsd::names::QName;
use crate::xsd::wsdl::{Description, Operation};

/// Most operations that a comment lists.
const LISTED: usize = 20;
/// Most bytes of names of operations that all routes together may list.
const MOST: usize = 16 << 20;

/// The text of the policy.
pub(super) fn policy(service: &Description, routes: &Routes<'_>, given: &Given<'_>) -> String {
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
    for route in &routes.all {
        route.write(&mut text, &document, &scope);
    }
    if routes.more {
        text.push_str("      # TODO: the WSDL has more paths than are written here.\n");
    }
    text.push_str("\naudit: [stdout]\n");
    text
}

/// The routes that a policy has for the paths of the services.
pub(super) struct Routes<'a> {
    all: Vec<Route<'a>>,
    /// There are more paths.
    more: bool,
}

/// A path, and what can be called there.
pub(super) struct Route<'a> {
    pub(super) path: &'a str,
    comment: &'static str,
    /// The bindings of its ports; `None` for all.
    bindings: Option<BTreeSet<usize>>,
    /// The operations of these bindings, by name.
    names: BTreeSet<&'a str>,
    /// Whether the WSDL has others.
    only: bool,
    /// Names of these that operations of another port type have, too.
    ambiguous: BTreeSet<&'a str>,
}

impl<'a> Routes<'a> {
    pub(super) fn new(service: &'a Description) -> Self {
        let mut paths: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        let used: BTreeSet<usize> = service.operations.iter().map(|operation| operation.binding).collect();
        for address in &service.addresses {
            let binding = address.binding.filter(|binding| used.contains(binding));
            if let Some((path, binding)) = path(&address.location).zip(binding) {
                paths.entry(path).or_default().insert(binding);
            }
        }
        let size: usize = service.operations.iter().map(|operation| operation.name.len() + 16).sum();
        let most = (MOST / size.max(1)).max(1);
        let more = paths.len() > most;
        let mut all: Vec<Route<'a>> = paths
            .into_iter()
            .take(most)
            .map(|(path, bindings)| Route::new(service, path, bindings))
            .filter(|route| !route.names.is_empty())
            .collect();
        if all.is_empty() {
            let comment = "    # TODO: the WSDL names no usable address; write the service's path";
            let names = service.operations.iter().map(|operation| &*operation.name).collect();
            let (bindings, only, ambiguous) = (None, false, BTreeSet::new());
            all.push(Route { path: "/service", comment, bindings, names, only, ambiguous });
        }
        Self { all, more }
    }

    /// The path of the first route.
    pub(super) fn first_path(&self) -> &'a str {
        self.all.first().map_or("/service", |route| route.path)
    }

    /// The path of an operation.
    pub(super) fn path_of(&self, operation: &Operation) -> Option<&'a str> {
        let takes = |route: &&Route<'_>| {
            let bound = route.bindings.as_ref().is_none_or(|bindings| bindings.contains(&operation.binding));
            bound && route.names.contains(&*operation.name)
        };
        self.all.iter().find(takes).map(|route| route.path)
    }
}

impl<'a> Route<'a> {
    fn new(service: &'a Description, path: &'a str, bindings: BTreeSet<usize>) -> Self {
        let (own, others): (Vec<&Operation>, Vec<&Operation>) =
            service.operations.iter().partition(|operation| bindings.contains(&operation.binding));
        let mut names: BTreeSet<&str> = own.iter().map(|operation| &*operation.name).collect();
        let only = others.iter().any(|operation| !names.contains(&*operation.name));
        if only {
            // A policy would expand them.
            names.retain(|name| !yaml::is_reference(name));
        }
        let known: HashSet<(&str, QName)> =
            own.iter().map(|operation| (&*operation.name, operation.port_type)).collect();
        let differs = |operation: &&&Operation| !known.contains(&(&*operation.name, operation.port_type));
        let ambiguous = others.iter().filter(differs).map(|operation| &*operation.name);
        let ambiguous = ambiguous.filter(|name| names.contains(name)).collect();
        Self { path, comment: "", bindings: Some(bindings), names, only, ambiguous }
    }

    /// Writes it.
    fn write(&self, text: &mut String, document: &str, scope: &str) {
        let Self { path, comment, .. } = self;
        let names: Vec<&str> = self.names.iter().copied().collect();
        let request = if self.only {
            format!("{{ wsdl: {document}, operations: {} }}", yaml::list(&names))
        } else {
            document.to_owned()
        };
        let _ = write!(
            text,
            "      # {}\n      POST {path}:{comment}\n        scopes: {scope}\n        request: {{ soap: {request} }}\n        \
             # Responses that are not those of the WSDL are only recorded. When none are recorded, remove `mode`.\n        \
             response: {{ soap: {document}, mode: report }}\n",
            listed(&names),
        );
        if !self.ambiguous.is_empty() {
            let ambiguous: Vec<&str> = self.ambiguous.iter().copied().collect();
            let _ = writeln!(
                text,
                "        # TODO: operations of another portType have the same names, and can be called here, too: {}",
                listed(&ambiguous),
            );
        }
    }
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

/// Names of operations, for a comment.
fn listed(names: &[&str]) -> String {
    let more = names.len().saturating_sub(LISTED);
    let names = names.get(..LISTED).unwrap_or(names);
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
