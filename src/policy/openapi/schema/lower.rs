//! Translates the schemas of OpenAPI into JSON Schema 2020-12.
//!
//! - OpenAPI 3.1 uses the same keywords. 3.0 has fewer, adds `nullable` and `exclusiveMinimum: true`, and ignores
//!   keywords beside `$ref`.
//! - `readOnly` properties are not required in requests, nor `writeOnly` ones in responses; the policy says whether they
//!   are refused.
//! - Formats are those of the drafts and of OpenAPI's registry; others are annotations.
//! - Annotations are left out.

use std::collections::HashSet;

use jsonschema::Draft;
use serde_json::{Map, Value, json};

use super::definitions::{Direction, Key, Schemas, reference};
use super::nullable;
use super::scopes::ScopeId;
use crate::policy::openapi::diagnostics::Diagnostics;
use crate::policy::openapi::files::Node;
use crate::policy::openapi::version::{self, Version};
use crate::policy::source::quote;
use crate::stages::schema::json::keywords::{Keyword, Word, find, word};
use crate::stages::schema::json::{Form, lint, pattern_problem};

/// Handled apart from the table of keywords, or annotations.
const OWN: &[&str] = &[
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$ref",
    "definitions",
    "discriminator",
    "nullable",
    "readOnly",
    "writeOnly",
];
/// Those of them that the other version does not have.
const OF_ONE: [(&str, Version); 4] = [
    ("$dynamicAnchor", Version::V3_0),
    ("$dynamicRef", Version::V3_0),
    ("$id", Version::V3_0),
    ("nullable", Version::V3_1),
];
/// Keywords of draft-04 that OpenAPI 3.0 leaves out.
const LEFT_OUT: [&str; 3] = ["additionalItems", "dependencies", "patternProperties"];
/// Change what references mean; not supported.
const IDENTITIES: &[&str] = &["$recursiveRef", "$vocabulary"];
const OF_ITS_OWN: &str = "write this schema in a JSON Schema file of its own, with `$schema`, and refer to it";
/// How deep `allOf` is searched for `readOnly` and `writeOnly` properties.
const MAX_DEPTH: usize = 8;

/// One schema being translated.
pub(super) struct Lowering<'s, 'd> {
    pub(super) schemas: &'s mut Schemas<'d>,
    pub(super) diagnostics: &'s mut Diagnostics,
    /// The definition that contains it.
    pub(super) within: &'s Key,
    /// How evaluation comes to the schema that is looked at.
    pub(super) scope: ScopeId,
}

impl<'d> Lowering<'_, 'd> {
    /// Translates a whole definition.
    pub(super) fn whole(&mut self, node: &Node<'d>) -> Value {
        self.lowered(node, self.within.base)
    }

    /// Translates a schema inside a definition.
    pub(super) fn schema(&mut self, node: &Node<'d>) -> Value {
        self.lowered(node, false)
    }

    fn lowered(&mut self, node: &Node<'d>, base: bool) -> Value {
        let around = self.scope;
        self.scope = self.schemas.scopes.passing(around, node);
        let lowered = self.lowered_here(node, base);
        self.scope = around;
        lowered
    }

    fn lowered_here(&mut self, node: &Node<'d>, base: bool) -> Value {
        if let Some(uri) = node.in_schema_file() {
            return Value::Object(Map::from_iter([("$ref".to_owned(), uri.into())]));
        }
        if let Some(embedded) = self.embedded(node) {
            return embedded;
        }
        match node.value {
            // 3.0 allows booleans for `additionalProperties` only; elsewhere their meaning is clear all the same.
            Value::Bool(_) => return node.value.clone(),
            Value::Object(_) => {}
            Value::Null => {
                self.diagnostics.warning(node, "there is no schema, so nothing is checked").at_key();
                return Value::Bool(true);
            }
            _ => {
                self.diagnostics
                    .closing(node, "this is not a schema")
                    .help("a schema is a map, such as `{ type: string }`");
                return Value::Bool(false);
            }
        }
        let mut out = Map::new();
        self.references(node, &mut out);
        if self.schemas.version == Version::V3_0 && node.get("$ref").is_some() {
            return Value::Object(out);
        }
        for (name, child) in node.entries() {
            match asserting(name) {
                _ if OF_ONE.contains(&(name, self.schemas.version)) => self.other(name, &child),
                _ if OWN.contains(&name) => {}
                Some(keyword) if self.schemas.version == Version::V3_0 && !is_in_3_0(keyword) => {
                    let message = format!("`{name}` is not a keyword of OpenAPI 3.0, so it is not checked");
                    self.diagnostics.warning(&child, message).at_key().help("OpenAPI 3.1 has it");
                }
                Some(keyword) => {
                    self.for_another_type(node, keyword, &child);
                    self.keyword(node, name, keyword.form, &child, &mut out);
                }
                None => self.other(name, &child),
            }
        }
        self.contradictions(node, &out);
        if base {
            out.remove("oneOf").or_else(|| out.remove("anyOf"));
        } else {
            self.discriminate(node, &mut out);
        }
        match self.schemas.version {
            Version::V3_0 if node.flag("nullable") => nullable::with_null(out),
            _ => Value::Object(out),
        }
    }

    /// Tells keywords that no value meets together: as they are judged, so without what is for the other direction only.
    fn contradictions(&mut self, node: &Node<'d>, out: &Map<String, Value>) {
        let nullable = self.schemas.version == Version::V3_0 && node.flag("nullable");
        for (keyword, message) in lint::contradictions(out) {
            // Null is accepted whatever is listed.
            let is_met = nullable && (keyword == "enum" || keyword == "const");
            if let Some(child) = node.get(keyword).filter(|_| !is_met) {
                self.diagnostics.warning(&child, message).at_key();
            }
        }
    }

    fn references(&mut self, node: &Node<'d>, out: &mut Map<String, Value>) {
        if let Some(written) = node.get("$ref") {
            match node.reference().map(|text| node.follow(text)) {
                Some(Ok(target)) => {
                    let name = self.schemas.define_in(self.scope, &target);
                    out.insert("$ref".to_owned(), format!("#/$defs/{name}").into());
                }
                Some(Err(problem)) => drop(self.diagnostics.closing(&written, problem)),
                None => drop(self.diagnostics.closing(&written, "a `$ref` must be text")),
            }
        }
        if let Some(written) = node.get("$dynamicRef").filter(|_| self.schemas.version == Version::V3_1) {
            self.dynamic(node, &written, out);
        }
    }

    /// `$dynamicRef` leads to the outermost dynamic anchor that evaluation has passed (2020-12 core, §8.2.3.2).
    fn dynamic(&mut self, node: &Node<'d>, written: &Node<'d>, out: &mut Map<String, Value>) {
        let Some(text) = written.value.as_str() else {
            self.diagnostics.closing(written, "a `$dynamicRef` must be text");
            return;
        };
        let target = node.follow_dynamic(text).and_then(|(target, anchor)| {
            let outermost = anchor.and_then(|name| Some((self.schemas.scopes.outermost(self.scope, name)?, name)));
            let meant = outermost.map(|(resource, name)| node.dynamic_anchor(resource, name)).transpose()?.flatten();
            Ok(meant.unwrap_or(target))
        });
        match target {
            Ok(_) if self.schemas.scopes.full => {
                self.diagnostics.closing(written, "there are too many ways to dynamic references");
            }
            Ok(target) => {
                let name = self.schemas.define_in(self.scope, &target);
                out.insert("allOf".to_owned(), json!([reference(&name)]));
            }
            Err(problem) => drop(self.diagnostics.closing(written, problem)),
        }
    }

    fn other(&mut self, name: &str, child: &Node<'d>) {
        let unsupported = match name {
            "$schema" => self.is_other_draft(child).then_some("the schema is read in the dialect of the description"),
            name => IDENTITIES.contains(&name).then_some("references are resolved by path and JSON pointer only"),
        };
        if let Some(why) = unsupported {
            let message = format!("`{name}` is not supported: {why}");
            self.diagnostics.warning(child, message).at_key().help(OF_ITS_OWN);
            return;
        }
        // 3.0 has the keywords of draft-04, but for those that it leaves out.
        let (draft, version) = match self.schemas.version {
            Version::V3_0 => (Draft::Draft4, "OpenAPI 3.0"),
            Version::V3_1 => (Draft::Draft202012, "OpenAPI 3.1"),
        };
        let (message, help) = match word(draft, name) {
            Word::Misspelt(meant) => {
                (format!("{} is not a keyword, so it is not checked", quote(name)), format!("did you mean `{meant}`?"))
            }
            Word::Foreign(whose, help) => {
                (format!("`{name}` is a keyword of {whose}, but not of {version}: it is not checked"), help.to_owned())
            }
            Word::Keyword(keyword) if keyword.judges() => {
                (format!("`{name}` is not a keyword of {version}, so it is not checked"), "remove it".to_owned())
            }
            _ => return,
        };
        self.diagnostics.warning(child, message).at_key().help(help);
    }

    /// Whether `$schema` names anything but what schemas of the description are written in.
    fn is_other_draft(&self, child: &Node<'d>) -> bool {
        let same = |text: &str| version::is_dialect(text) && self.schemas.version == Version::V3_1;
        !child.value.as_str().is_some_and(same)
    }

    /// Tells a keyword that judges no value of the types that the schema allows.
    fn for_another_type(&mut self, node: &Node<'d>, keyword: Keyword, child: &Node<'d>) {
        let types: Vec<&str> = match node.value.get("type") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        if let Some(message) = lint::for_another_type(keyword, &types) {
            self.diagnostics.warning(child, message).at_key();
        }
    }

    fn keyword(&mut self, node: &Node<'d>, name: &str, form: Form, child: &Node<'d>, out: &mut Map<String, Value>) {
        let old = self.schemas.version == Version::V3_0;
        let value = match (name, child.value) {
            ("exclusiveMaximum", Value::Bool(exclusive)) if old => {
                return exclude(*exclusive, node, "maximum", name, out);
            }
            ("exclusiveMinimum", Value::Bool(exclusive)) if old => {
                return exclude(*exclusive, node, "minimum", name, out);
            }
            (_, value) if !form.fits(value) => {
                let message = format!("`{name}` is {}; this value is not checked", form.words());
                self.diagnostics.warning(child, message).at_key();
                return;
            }
            // With `exclusiveMinimum: true` beside it, that is the bound.
            ("maximum", _) if old && node.flag("exclusiveMaximum") => return,
            ("minimum", _) if old && node.flag("exclusiveMinimum") => return,
            ("format", Value::String(format)) => {
                if let Some((message, help)) = lint::unknown_format(format) {
                    let item = self.diagnostics.warning(child, message);
                    if let Some(help) = help {
                        item.help(help);
                    }
                    return;
                }
                child.value.clone()
            }
            ("pattern", Value::String(pattern)) => {
                if !self.keeps(pattern, child) {
                    return;
                }
                child.value.clone()
            }
            ("properties", _) => self.properties(child),
            ("patternProperties", _) => {
                let kept = child.entries().filter(|(pattern, child)| self.keeps(pattern, child)).collect::<Vec<_>>();
                let members = kept.into_iter().map(|(pattern, child)| (pattern.to_owned(), self.schema(&child)));
                Value::Object(members.collect())
            }
            ("required", Value::Array(names)) => self.required(node, names),
            ("allOf", _) => child.items().map(|item| self.base(&item).unwrap_or_else(|| self.schema(&item))).collect(),
            _ => match form {
                Form::Schema | Form::SchemaOrSchemas => self.schema(child),
                Form::Schemas => child.items().map(|item| self.schema(&item)).collect(),
                Form::ByName => {
                    Value::Object(child.entries().map(|(name, child)| (name.to_owned(), self.schema(&child))).collect())
                }
                _ => child.value.clone(),
            },
        };
        match (name, out.get_mut("allOf")) {
            ("allOf", Some(Value::Array(made))) => {
                if let Value::Array(items) = value {
                    made.extend(items);
                }
            }
            _ => drop(out.insert(name.to_owned(), value)),
        }
    }

    /// Whether a pattern can be matched in linear time; warns where it cannot.
    fn keeps(&mut self, pattern: &str, child: &Node<'d>) -> bool {
        let known = self.schemas.patterns.get(pattern).cloned();
        let problem = known.unwrap_or_else(|| {
            let problem = pattern_problem(pattern);
            self.schemas.patterns.insert(pattern.to_owned(), problem.clone());
            problem
        });
        if let Some(problem) = &problem {
            self.diagnostics
                .warning(child, format!("this pattern is not checked: {problem}"))
                .help("patterns are matched in linear time: no look-around, no back-references");
        }
        problem.is_none()
    }

    fn properties(&mut self, properties: &Node<'d>) -> Value {
        let mut members = Map::new();
        for (name, property) in properties.entries() {
            let hidden = self.schemas.one_way && goes(&property, self.other_way());
            let schema = if hidden { Value::Bool(false) } else { self.schema(&property) };
            members.insert(name.to_owned(), schema);
        }
        Value::Object(members)
    }

    /// The keyword of properties that are only for the other direction.
    fn other_way(&self) -> &'static str {
        match self.schemas.direction {
            Direction::Request => "readOnly",
            Direction::Response => "writeOnly",
        }
    }

    /// Without those that are not required in this direction, and without duplicates.
    fn required(&self, node: &Node<'d>, names: &[Value]) -> Value {
        let mut optional = HashSet::new();
        one_way(node, self.other_way(), MAX_DEPTH, &mut optional);
        let mut seen = HashSet::new();
        let kept = names.iter().filter(|name| {
            let name = name.as_str().unwrap_or_default();
            !optional.contains(name) && seen.insert(name)
        });
        kept.cloned().collect()
    }
}

/// A keyword that can make a value invalid; `dependencies` is none in OpenAPI.
fn asserting(name: &str) -> Option<Keyword> {
    find(name).filter(|keyword| keyword.is_of(Draft::Draft202012) && keyword.judges() && name != "dependencies")
}

fn is_in_3_0(keyword: Keyword) -> bool {
    keyword.is_of(Draft::Draft4) && !LEFT_OUT.contains(&keyword.name)
}

/// Whether a property, or the schema it refers to, has this keyword (`readOnly` or `writeOnly`).
fn goes(property: &Node<'_>, word: &str) -> bool {
    property.flag(word) || property.resolved().is_ok_and(|target| target.flag(word))
}

/// The properties with this keyword, including those in `allOf`.
fn one_way<'d>(node: &Node<'d>, word: &str, depth: usize, found: &mut HashSet<&'d str>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let Ok(node) = node.resolved() else { return };
    let properties = node.get("properties");
    let properties = properties.iter().flat_map(Node::entries);
    found.extend(properties.filter(|(_, property)| goes(property, word)).map(|(name, _)| name));
    for part in node.get("allOf").iter().flat_map(Node::items) {
        one_way(&part, word, depth, found);
    }
}

/// `exclusiveMinimum: true` beside `minimum`, as 3.0 has it.
fn exclude(exclusive: bool, node: &Node<'_>, bound: &str, name: &str, out: &mut Map<String, Value>) {
    if let Some(number) = node.value.get(bound).filter(|number| exclusive && number.is_number()) {
        out.insert(name.to_owned(), number.clone());
    }
}
