//! `x-bartizan: { visible_to: […] }` on properties of responses: what only some callers see.
//!
//! A description says it once, where the property is; a mask needs the path. Lists add nothing to it, because a mask passes through
//! them. Alternatives (`oneOf` and others) are taken together: what is hidden in one is hidden in all.

use std::collections::HashSet;

use serde_json::Value;

use super::diagnostics::Diagnostics;
use super::files::{Files, Node, Spot};
use crate::policy::source::quote;
use crate::stages::mask::{Replacement, Rule};
use crate::stages::schema::media_type::MediaRange;

/// Most schemas that are looked at for one operation.
const MOST: usize = 20_000;
/// Keywords whose schema, or schemas, are about the same value.
const SAME: [&str; 9] = ["allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas", "dependencies"];
/// Keywords whose schema, or schemas, are about elements.
const ELEMENTS: [&str; 5] = ["items", "prefixItems", "contains", "unevaluatedItems", "additionalItems"];
/// Keywords whose schema, or schemas, are about members of any name.
const MEMBERS: [&str; 3] = ["additionalProperties", "patternProperties", "unevaluatedProperties"];
/// The keyword of all settings of this program.
const KEYWORD: &str = "x-bartizan";

/// Each `visible_to` of a description, until it is found to be about a response. One that is about none would hide nothing.
#[derive(Debug)]
pub(super) struct Unused {
    places: HashSet<(usize, String)>,
    /// Whether there is any, found or not.
    any: bool,
}

impl Unused {
    /// All that the files have.
    pub(super) fn of(files: &Files) -> Self {
        let says = |value: &Value| value.get(KEYWORD).is_some_and(|written| written.get("visible_to").is_some());
        let places: HashSet<_> = files.find(says).into_iter().map(|node| (node.file, node.pointer)).collect();
        Self { any: !places.is_empty(), places }
    }

    fn found(&mut self, node: &Node<'_>) {
        if !self.places.is_empty() {
            self.places.remove(&(node.file, node.pointer.clone()));
        }
    }

    /// Reports those that are left.
    pub(super) fn report(self, diagnostics: &mut Diagnostics) {
        let mut left: Vec<_> = self.places.into_iter().collect();
        left.sort();
        for (file, pointer) in left {
            let spot = Spot { file, pointer: format!("{pointer}/{KEYWORD}") };
            diagnostics
                .error_at(&spot, "`visible_to` hides nothing here: no response of an operation leads to this schema")
                .help("write `response: { mask: … }` at the routes whose responses have it, or remove it");
        }
    }
}

/// Reads what callers do not see of the responses of an operation.
pub(super) fn read(operation: &Node<'_>, unused: &mut Unused, diagnostics: &mut Diagnostics) -> Vec<Rule> {
    let mut walk = Walk { diagnostics, unused, found: Vec::new(), way: Vec::new(), left: MOST };
    let mut others = Vec::new();
    for (_, written) in operation.get("responses").iter().flat_map(Node::entries) {
        let Ok(response) = written.resolved() else { continue };
        for (media, node) in response.get("content").iter().flat_map(Node::entries) {
            // Of `*/*`, the JSON is checked; and masked.
            let range = MediaRange::parse(media);
            let may_be_json = range.as_ref().is_some_and(|range| range.is_json() || range.is_wide());
            let schema = node.get("schema");
            if let Some(schema) = &schema {
                walk.schema(schema, "");
            }
            if !may_be_json || (schema.is_none() && range.is_none_or(|range| range.is_wide())) {
                others.push((media, node));
            }
        }
    }
    let Walk { found, left, unused, .. } = walk;
    if left == 0 && unused.any {
        diagnostics.error(operation, "its responses have too many schemas to look for `visible_to` in them");
    }
    for (media, node) in others.into_iter().filter(|_| !found.is_empty()) {
        diagnostics
            .error(&node, format!("`visible_to` hides fields of JSON, and {} is none", quote(media)))
            .at_key()
            .help("describe it as an operation of its own, or remove `visible_to` from the responses of this one");
    }
    let mut rules: Vec<Rule> = Vec::new();
    for rule in found {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

struct Walk<'w, 'd> {
    diagnostics: &'w mut Diagnostics,
    unused: &'w mut Unused,
    found: Vec<Rule>,
    /// The schemas that are being read, from the outermost.
    way: Vec<Outer<'d>>,
    left: usize,
}

/// A schema that is being read.
struct Outer<'d> {
    node: Node<'d>,
    path: String,
    /// Whether it was found within itself, at another path.
    circular: bool,
}

impl<'d> Walk<'_, 'd> {
    /// Reads a schema about the value at this path.
    fn schema(&mut self, node: &Node<'d>, path: &str) {
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        if let Some(outer) = self.way.iter_mut().find(|outer| outer.node.is(node)) {
            // At the same path it adds nothing: an alternative that refers to what it is an alternative of.
            outer.circular |= outer.path != path;
            return;
        }
        let before = self.found.len();
        self.way.push(Outer { node: node.clone(), path: path.to_owned(), circular: false });
        self.visible(node, path);
        if let Some(reference) = node.reference()
            && let Ok(target) = node.follow(reference)
        {
            self.schema(&target, path);
        }
        for target in alternatives(node) {
            self.schema(&target, path);
        }
        SAME.iter().for_each(|key| self.all(node, key, path));
        ELEMENTS.iter().for_each(|key| self.elements(node, key, path));
        let any = format!("{path}/*");
        MEMBERS.iter().for_each(|key| self.all(node, key, &any));
        for (name, property) in node.get("properties").iter().flat_map(Node::entries) {
            let name = name.replace('~', "~0").replace('/', "~1");
            self.schema(&property, &format!("{path}/{name}"));
        }
        let circular = self.way.pop().is_some_and(|outer| outer.circular);
        if circular && self.found.len() > before {
            self.diagnostics
                .error(node, "this schema contains itself, so `visible_to` in it has no end of paths")
                .help("write `response: { mask: … }` at the route");
        }
    }

    /// Elements are at the path of their list, unless they are hidden themselves.
    fn elements(&mut self, node: &Node<'d>, key: &str, path: &str) {
        let Some(inner) = node.get(key) else { return };
        let each: Vec<Node<'d>> = if inner.value.is_array() { inner.items().collect() } else { vec![inner] };
        for schema in each {
            let hidden = schema.resolved().ok().and_then(|target| target.get(KEYWORD));
            let is_hidden = schema.get(KEYWORD).or(hidden).is_some();
            self.schema(&schema, if is_hidden { format!("{path}/*") } else { path.to_owned() }.as_str());
        }
    }

    /// The schema of a keyword, or the schemas in its list or map.
    fn all(&mut self, node: &Node<'d>, key: &str, path: &str) {
        let Some(inner) = node.get(key) else { return };
        match inner.value {
            Value::Array(_) => inner.items().for_each(|schema| self.schema(&schema, path)),
            Value::Object(_) if matches!(key, "patternProperties" | "dependentSchemas" | "dependencies") => {
                inner.entries().for_each(|(_, schema)| self.schema(&schema, path));
            }
            _ => self.schema(&inner, path),
        }
    }

    /// `x-bartizan` of one schema.
    fn visible(&mut self, node: &Node<'d>, path: &str) {
        let Some(written) = node.get(KEYWORD) else { return };
        self.unused.found(node);
        for (key, inner) in written.entries().filter(|(key, _)| !matches!(*key, "visible_to" | "else")) {
            let problem =
                self.diagnostics.error(&inner, format!("unknown key {} in `x-bartizan` of a schema", quote(key)));
            problem.at_key().help("it has `visible_to` and `else`");
        }
        let scopes = written.get("visible_to").and_then(|scopes| {
            let names = scopes.value.as_array()?.iter().map(|name| name.as_str().map(Box::from));
            names.collect::<Option<Vec<Box<str>>>>()
        });
        let otherwise = match written.value.get("else") {
            None => Some("remove"),
            Some(Value::Null) => Some("null"),
            Some(other) => other.as_str(),
        };
        let (Some(scopes), Some(replacement)) = (scopes, otherwise.and_then(Replacement::read)) else {
            let problem = self.diagnostics.error(&written, "this does not say who sees it, and what the others get");
            problem.help(
                "write `{ visible_to: [customers:iban] }`, and `else: remove`, `null`, `\"***\"` or `keep_last 4`",
            );
            return;
        };
        match Rule::new(path, scopes, replacement) {
            Ok(rule) => self.found.push(rule),
            // The path of the whole body is empty.
            Err(_) => {
                let problem = self.diagnostics.error(&written, "the whole body cannot be hidden");
                problem.help("write the `scopes` of the operation");
            }
        }
    }
}

/// Schemas that a value may also satisfy without a `$ref` to them: what a dynamic reference means depends on the way to it, and a
/// discriminator names schemas that extend the one that has it.
fn alternatives<'d>(node: &Node<'d>) -> Vec<Node<'d>> {
    let mut found = Vec::new();
    for reference in ["$dynamicRef", "$recursiveRef"].iter().filter_map(|key| node.text(key)) {
        let Ok((target, anchor)) = node.follow_dynamic(reference) else { continue };
        found.push(target);
        if let Some(anchor) = anchor {
            found.extend(node.files.find(|value| value.get("$dynamicAnchor").is_some_and(|name| name == anchor)));
        }
    }
    let Some(discriminator) = node.get("discriminator") else { return found };
    let schemas = node.files.root().and_then(|root| root.get("components")?.get("schemas"));
    for (_, meant) in discriminator.get("mapping").iter().flat_map(Node::entries) {
        let Some(text) = meant.value.as_str() else { continue };
        found.extend(schemas.as_ref().and_then(|schemas| schemas.get(text)));
        found.extend(meant.follow(text).ok());
    }
    let extends = |schema: &Node<'d>| {
        let mut parts = schema.get("allOf").into_iter().flat_map(|all| all.items().collect::<Vec<_>>());
        parts.any(|part| part.reference().is_some_and(|to| part.follow(to).is_ok_and(|target| target.is(node))))
    };
    let named = schemas.iter().flat_map(Node::entries).map(|(_, schema)| schema);
    found.extend(named.filter(extends));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::MemoryBudget;
    use crate::policy::catalog::Catalog;
    use crate::policy::diagnostic::Problems;
    use crate::policy::openapi::Description;
    use crate::policy::openapi::options::Options;
    use crate::policy::source::Sources;
    use crate::stages::mask::{self, Mask};

    const HIDDEN: &str = "{ x-bartizan: { visible_to: [a], else: null } }";

    /// Reads a description of `GET /a` with this content of its response, and these schemas. Returns the mask, or all errors.
    fn read(content: &str, schemas: &str) -> Result<Vec<Rule>, String> {
        let is_used = content.contains("/Secret") || schemas.contains("/Secret");
        let secret =
            if is_used { format!("    Secret: {{ properties: {{ iban: {HIDDEN} }} }}\n") } else { String::new() };
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "openapi: 3.1.0
info: {{ title: a, version: '1' }}
paths:
  /a: {{ get: {{ security: [{{ login: [] }}], responses: {{ 200: {{ description: a, content: {{ {content} }} }} }} }} }}
components:
  securitySchemes: {{ login: {{ type: http, scheme: bearer }} }}
  schemas:
    Any: {{}}
{secret}{schemas}"
        );
        std::fs::write(folder.path().join("api.yaml"), text).unwrap();
        std::fs::write(folder.path().join("policy.yaml"), "version: 1\n").unwrap();
        let none = Box::new(|_: &str| Err(std::env::VarError::NotPresent));
        let mut sources = Sources::open_with(&folder.path().join("policy.yaml"), none).unwrap();
        let source = sources.read("api.yaml").unwrap();
        let mut problems = Problems::new();
        let catalog = Catalog::default();
        let read = Description::read(&mut sources, &catalog, &source, "api.yaml", &Options::default(), &mut problems);
        let said = || problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("\n");
        let operation = read.ok_or_else(said)?.operations.pop();
        operation.map(|operation| operation.mask).ok_or_else(said)
    }

    /// What a description hides is hidden in what it describes.
    #[test]
    fn what_is_described_as_hidden_does_not_pass() {
        let secret = "$ref: '#/components/schemas/Secret'";
        for (schema, schemas, text) in [
            (secret, "", r#"{"iban":"SECRET"}"#),
            (&*format!("items: {{ {secret} }}"), "", r#"[{"iban":"SECRET"}]"#),
            (&*format!("items: {{ items: {{ {secret} }} }}"), "", r#"[[{"iban":"SECRET"}]]"#),
            (&*format!("items: {{ additionalProperties: {{ {secret} }} }}"), "", r#"[{"eur":{"iban":"SECRET"}}]"#),
            (
                &*format!("additionalProperties: {{ items: {{ patternProperties: {{ a: {{ {secret} }} }} }} }}"),
                "",
                r#"{"x":[{"a":{"iban":"SECRET"}}]}"#,
            ),
            (&*format!("items: {{ additionalProperties: {HIDDEN} }}"), "", r#"[{"eur":"SECRET"}]"#),
            (&*format!("items: {HIDDEN}"), "", r#"["SECRET"]"#),
            (
                &*format!("prefixItems: [{{ additionalProperties: {{ {secret} }} }}]"),
                "",
                r#"[{"eur":{"iban":"SECRET"}}]"#,
            ),
            (&*format!("oneOf: [{{ type: string }}, {{ {secret} }}]"), "", r#"{"iban":"SECRET"}"#),
            ("$dynamicRef: '#/components/schemas/Secret'", "", r#"{"iban":"SECRET"}"#),
            (
                "$ref: '#/components/schemas/Pet'",
                "    Pet: { discriminator: { propertyName: kind, mapping: { c: Cat } } }
    Cat: { allOf: [{ $ref: '#/components/schemas/Pet' }, { $ref: '#/components/schemas/Secret' }] }\n",
                r#"{"kind":"c","iban":"SECRET"}"#,
            ),
            (
                "$ref: '#/components/schemas/Pet'",
                "    Pet: { properties: { kind: {} }, discriminator: { propertyName: kind } }
    Cat: { allOf: [{ $ref: '#/components/schemas/Pet' }, { $ref: '#/components/schemas/Secret' }] }\n",
                r#"{"kind":"Cat","iban":"SECRET"}"#,
            ),
        ] {
            for media in ["application/json", "application/*", "'*/*'", "application/hal+json"] {
                let rules = read(&format!("{media}: {{ schema: {{ {schema} }} }}"), schemas);
                let rules = rules.unwrap_or_else(|said| panic!("{schema}: {said}"));
                let hidden = Mask::new(rules).hidden(|_| false).unwrap_or_else(|| panic!("{media} {schema}"));
                let masked = mask::rewrite(hidden, text.as_bytes(), &MemoryBudget::new(10_000)).unwrap();
                let masked = String::from_utf8(masked.to_vec()).unwrap();
                assert!(!masked.contains("SECRET"), "{media} {schema}: {masked}");
            }
        }
    }

    #[test]
    fn what_cannot_be_hidden_is_an_error() {
        let secret = "{ schema: { $ref: '#/components/schemas/Secret' } }";
        let no_json = "`visible_to` hides fields of JSON";
        let nowhere = "no response of an operation leads to this schema";
        for (content, expected) in [
            (&*format!("text/csv: {secret}"), no_json),
            (&format!("application/xml: {secret}"), no_json),
            (&format!("no media type: {secret}"), no_json),
            (&format!("application/json: {secret}, text/csv: {{}}"), no_json),
            (&format!("application/json: {secret}, '*/*': {{}}"), no_json),
            // Of requests.
            (&format!("application/json: {{ schema: {{ x-in-requests: {secret} }} }}"), nowhere),
            ("application/json: { schema: { contentSchema: { $ref: '#/components/schemas/Secret' } } }", nowhere),
        ] {
            let said = read(content, "").unwrap_err();
            assert!(said.contains(expected), "{content}: {said}");
        }
    }
}
