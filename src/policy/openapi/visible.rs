//! `x-bartizan: { visible_to: […] }` on properties of responses: what only some callers see.
//!
//! A description says it once, where the property is; a mask needs the path. Lists add nothing to it, because a mask passes through
//! them. Alternatives (`oneOf` and others) are taken together: what is hidden in one is hidden in all.

use serde_json::Value;

use super::diagnostics::Diagnostics;
use super::files::Node;
use super::media_type::is_json;
use crate::policy::source::quote;
use crate::stages::mask::{Replacement, Rule};

/// Most schemas that are looked at for one operation.
const MOST: usize = 20_000;
/// Keywords whose schema, or schemas, are about the same value.
const SAME: [&str; 8] = ["allOf", "anyOf", "oneOf", "if", "then", "else", "not", "dependentSchemas"];
/// Keywords whose schema, or schemas, are about elements.
const ELEMENTS: [&str; 4] = ["items", "prefixItems", "contains", "unevaluatedItems"];
/// Keywords whose schema, or schemas, are about members of any name.
const MEMBERS: [&str; 3] = ["additionalProperties", "patternProperties", "unevaluatedProperties"];

/// Reads what callers do not see of the responses of an operation.
pub(super) fn read(operation: &Node<'_>, diagnostics: &mut Diagnostics) -> Vec<Rule> {
    let mut walk = Walk { diagnostics, found: Vec::new(), way: Vec::new(), left: MOST };
    let mut others = Vec::new();
    for (_, written) in operation.get("responses").iter().flat_map(Node::entries) {
        let Ok(response) = written.resolved() else { continue };
        for (media, node) in response.get("content").iter().flat_map(Node::entries) {
            match node.get("schema") {
                Some(schema) if is_json(media) => walk.schema(&schema, ""),
                _ => others.push((media, node)),
            }
        }
    }
    let Walk { found, left, .. } = walk;
    if left == 0 {
        diagnostics.error(operation, "its responses have too many schemas to look for `visible_to` in them");
    }
    for (media, node) in others.into_iter().filter(|_| !found.is_empty()) {
        diagnostics
            .error(&node, format!("`visible_to` hides fields of JSON, and {} is none", quote(media)))
            .at_key()
            .help("describe it as an operation of its own, or remove `visible_to` from the JSON beside it");
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
    found: Vec<Rule>,
    /// The schemas that are being read, from the outermost, and whether each was found within itself.
    way: Vec<(Node<'d>, bool)>,
    left: usize,
}

impl<'d> Walk<'_, 'd> {
    /// Reads a schema about the value at this path.
    fn schema(&mut self, node: &Node<'d>, path: &str) {
        let Some(left) = self.left.checked_sub(1) else { return };
        self.left = left;
        if let Some((_, circular)) = self.way.iter_mut().find(|(outer, _)| outer.is(node)) {
            *circular = true;
            return;
        }
        let before = self.found.len();
        self.way.push((node.clone(), false));
        self.visible(node, path);
        if let Some(reference) = node.reference()
            && let Ok(target) = node.follow(reference)
        {
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
        let circular = self.way.pop().is_some_and(|(_, circular)| circular);
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
            let hidden = schema.resolved().ok().and_then(|target| target.get("x-bartizan"));
            let is_hidden = schema.get("x-bartizan").or(hidden).is_some();
            self.schema(&schema, if is_hidden { format!("{path}/*") } else { path.to_owned() }.as_str());
        }
    }

    /// The schema of a keyword, or the schemas in its list or map.
    fn all(&mut self, node: &Node<'d>, key: &str, path: &str) {
        let Some(inner) = node.get(key) else { return };
        match inner.value {
            Value::Array(_) => inner.items().for_each(|schema| self.schema(&schema, path)),
            Value::Object(_) if matches!(key, "patternProperties" | "dependentSchemas") => {
                inner.entries().for_each(|(_, schema)| self.schema(&schema, path));
            }
            _ => self.schema(&inner, path),
        }
    }

    /// `x-bartizan` of one schema.
    fn visible(&mut self, node: &Node<'d>, path: &str) {
        let Some(written) = node.get("x-bartizan") else { return };
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
