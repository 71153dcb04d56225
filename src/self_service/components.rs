//! The schemas of an OpenAPI document: each that something refers to gets a name, and is copied once, without what its reader does
//! not see.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::policy::shown::ShownSchema;

/// Where the schemas of an OpenAPI document are.
const PLACE: &str = "#/components/schemas/";
/// Most values of all schemas of a document. Beyond that, a schema is left out: it takes time and memory to write one.
const MOST: usize = 30_000;
/// Most references from one place to another, where what is hidden is sought.
const MAX_HOPS: usize = 32;
/// Keywords that only other schemas refer to, or that have no meaning where references are pointers.
const LEFT_OUT: [&str; 9] =
    ["$anchor", "$comment", "$defs", "$dynamicAnchor", "$files", "$id", "$schema", "$vocabulary", "definitions"];

/// The schemas of a document, while it is written.
pub(super) struct Components {
    /// By document and place.
    names: HashMap<(*const Value, Box<str>), String>,
    waiting: Vec<(ShownSchema, String)>,
    schemas: Map<String, Value>,
    /// How often a name was wanted by several.
    wanted: HashMap<String, usize>,
    left: usize,
}

impl Components {
    /// Begins with these schemas.
    pub(super) fn new(schemas: Map<String, Value>) -> Self {
        Self { names: HashMap::new(), waiting: Vec::new(), schemas, wanted: HashMap::new(), left: MOST }
    }

    /// A reference to a schema.
    pub(super) fn refer(&mut self, schema: &ShownSchema) -> Value {
        json!({"$ref": format!("{PLACE}{}", self.name(schema))})
    }

    /// A copy of a schema, in which what is at these paths is only said to be hidden.
    pub(super) fn without(&mut self, schema: &ShownSchema, hidden: &[String]) -> Value {
        let paths: Vec<Vec<String>> = hidden.iter().map(|path| steps(path)).collect();
        let paths: Vec<&[String]> = paths.iter().map(Vec::as_slice).collect();
        match schema.document.pointer(&schema.pointer) {
            Some(value) => self.hide(value, &schema.document, &paths, 0),
            None => left_out(),
        }
    }

    /// Copies all schemas that were referred to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some((schema, name)) = self.waiting.pop() {
            let copy = match schema.document.pointer(&schema.pointer) {
                Some(value) => self.copy(value, &schema.document),
                None => left_out(),
            };
            self.schemas.insert(name, copy);
        }
        self.schemas
    }

    fn name(&mut self, schema: &ShownSchema) -> String {
        let key = (Arc::as_ptr(&schema.document), schema.pointer.clone());
        if let Some(name) = self.names.get(&key) {
            return name.clone();
        }
        let last = schema.pointer.rsplit('/').next().unwrap_or_default();
        let plain: String = last.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
        let base = if plain.is_empty() { "schema".to_owned() } else { plain };
        let mut name = base.clone();
        while self.schemas.contains_key(&name) {
            let number = self.wanted.entry(base.clone()).or_insert(1);
            *number += 1;
            name = format!("{base}-{number}");
        }
        // The name is taken from now on.
        self.schemas.insert(name.clone(), Value::Bool(true));
        self.names.insert(key, name.clone());
        self.waiting.push((schema.clone(), name.clone()));
        name
    }

    fn copy(&mut self, value: &Value, document: &Arc<Value>) -> Value {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            return left_out();
        }
        match value {
            Value::Object(members) => {
                let mut copy = Map::new();
                for (name, member) in members.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())) {
                    copy.insert(name.clone(), self.member(name, member, document));
                }
                Value::Object(copy)
            }
            Value::Array(items) => items.iter().map(|item| self.copy(item, document)).collect(),
            other => other.clone(),
        }
    }

    fn member(&mut self, name: &str, member: &Value, document: &Arc<Value>) -> Value {
        match (name, member) {
            ("$ref", Value::String(target)) => match local(target, document) {
                Some(schema) => json!(format!("{PLACE}{}", self.name(&schema))),
                // A file that is a schema of its own.
                None => json!(format!("{PLACE}{}", self.elsewhere())),
            },
            // Names of properties are no keywords.
            ("properties" | "patternProperties" | "dependentSchemas", Value::Object(members)) => {
                let copy = members.iter().map(|(name, one)| (name.clone(), self.copy(one, document)));
                Value::Object(copy.collect())
            }
            ("const" | "enum" | "default" | "examples", value) => self.plain(value),
            (_, value) => self.copy(value, document),
        }
    }

    /// Copies what is no schema.
    fn plain(&mut self, value: &Value) -> Value {
        self.left = self.left.saturating_sub(1);
        match value {
            _ if self.left == 0 => Value::Null,
            Value::Array(items) => items.iter().map(|item| self.plain(item)).collect(),
            Value::Object(members) => members.iter().map(|(name, one)| (name.clone(), self.plain(one))).collect(),
            other => other.clone(),
        }
    }

    fn elsewhere(&mut self) -> &'static str {
        const NAME: &str = "not-shown";
        self.schemas.entry(NAME).or_insert_with(left_out);
        NAME
    }

    /// Copies a schema without what is at `paths` of the values that it describes. Lists on the way are passed through, as masks
    /// do.
    fn hide(&mut self, value: &Value, document: &Arc<Value>, paths: &[&[String]], hops: usize) -> Value {
        self.left = self.left.saturating_sub(1);
        if paths.iter().any(|path| path.is_empty()) {
            return hidden();
        }
        if self.left == 0 || hops > MAX_HOPS {
            return left_out();
        }
        let Value::Object(members) = value else { return self.copy(value, document) };
        if paths.is_empty() {
            return self.copy(value, document);
        }
        let mut copy = Map::new();
        for (name, member) in members.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())) {
            if let Some((name, member)) = self.hide_in(name, member, document, paths, hops) {
                copy.insert(name, member);
            }
        }
        Value::Object(copy)
    }

    /// One keyword of such a schema.
    fn hide_in(
        &mut self,
        name: &str,
        member: &Value,
        document: &Arc<Value>,
        paths: &[&[String]],
        hops: usize,
    ) -> Option<(String, Value)> {
        let hid = match (name, member) {
            ("$ref", Value::String(target)) => {
                let target = local(target, document);
                let found = target.as_ref().and_then(|schema| document.pointer(&schema.pointer));
                let inner = found.map_or_else(left_out, |found| self.hide(found, document, paths, hops + 1));
                // Beside an `allOf` of its own, it would take its place.
                return Some(("anyOf".to_owned(), json!([inner])));
            }
            ("properties", Value::Object(properties)) => {
                let one = |(name, schema): (&String, &Value)| {
                    (name.clone(), self.hide(schema, document, &behind(paths, Some(name)), hops))
                };
                Value::Object(properties.iter().map(one).collect())
            }
            ("additionalProperties" | "unevaluatedProperties", schema) => {
                self.hide(schema, document, &behind(paths, None), hops)
            }
            ("items" | "prefixItems" | "additionalItems" | "unevaluatedItems", schemas) => {
                let is_element = |path: &&&[String]| {
                    let first = path.first().map(String::as_str).unwrap_or_default();
                    first == "*" || first.bytes().all(|byte| byte.is_ascii_digit())
                };
                let elements: Vec<&[String]> = paths.iter().filter(is_element).copied().collect();
                let all: Vec<&[String]> = [paths, &behind(&elements, None)].concat();
                match schemas {
                    Value::Array(schemas) => {
                        schemas.iter().map(|schema| self.hide(schema, document, &all, hops)).collect()
                    }
                    schema => self.hide(schema, document, &all, hops),
                }
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter().map(|schema| self.hide(schema, document, paths, hops)).collect()
            }
            ("then" | "else", schema) => self.hide(schema, document, paths, hops),
            ("required", Value::Array(names)) => {
                let stays = |name: &&Value| {
                    let name = name.as_str().unwrap_or_default();
                    !behind(paths, Some(name)).iter().any(|path| path.is_empty())
                };
                names.iter().filter(stays).cloned().collect()
            }
            ("type", member) => member.clone(),
            // They may say what a hidden value must be; as may keywords that are not known here.
            ("const" | "default" | "example" | "$dynamicRef" | "$recursiveRef", _)
            | (_, Value::Object(_) | Value::Array(_)) => return None,
            (_, member) => member.clone(),
        };
        Some((name.to_owned(), hid))
    }
}

/// What is behind the first step of these paths, if that is this name, or any; `None` stands for every name.
fn behind<'p>(paths: &[&'p [String]], name: Option<&str>) -> Vec<&'p [String]> {
    let fits = |path: &&'p [String]| -> Option<&'p [String]> {
        let (first, rest) = path.split_first()?;
        (first == "*" || name.is_none_or(|name| name == first)).then_some(rest)
    };
    paths.iter().filter_map(fits).collect()
}

/// The steps of a path of a mask: a JSON pointer with `*`.
fn steps(path: &str) -> Vec<String> {
    path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

/// The target of a reference within a document.
fn local(target: &str, document: &Arc<Value>) -> Option<ShownSchema> {
    let pointer = percent_encoding::percent_decode_str(target.strip_prefix('#')?).decode_utf8().ok()?;
    (pointer.is_empty() || pointer.starts_with('/'))
        .then(|| ShownSchema { document: Arc::clone(document), pointer: pointer.as_ref().into() })
}

fn hidden() -> Value {
    json!({"description": "Hidden from you."})
}

fn left_out() -> Value {
    json!({"description": "Not shown here; ask the API's owner."})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Arc<Value> {
        Arc::new(json!({"$defs": {
            "Order": {"type": "object", "required": ["id", "card"], "additionalProperties": false, "properties": {
                "id": {"type": "string"}, "card": {"$ref": "#/$defs/Card"}, "next": {"$ref": "#/$defs/Order"},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}}, "$ref": {"const": {"$id": 1}},
            }},
            "Card": {"type": "object", "properties": {"number": {"pattern": "^4"}, "name": true}, "required": ["number"]},
            "Line": {"properties": {"price": {"type": "number"}, "sku": {"$ref": "https://elsewhere.example/sku"}}},
        }}))
    }

    #[test]
    fn what_is_referred_to_is_copied_once() {
        let document = document();
        let mut components = Components::new(Map::new());
        let order = ShownSchema::definition(&document, "Order");
        assert_eq!(components.refer(&order), json!({"$ref": "#/components/schemas/Order"}));
        assert_eq!(components.refer(&order), json!({"$ref": "#/components/schemas/Order"}));
        let schemas = components.finish();
        let mut names: Vec<&str> = schemas.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["Card", "Line", "Order", "not-shown"]);
        assert_eq!(schemas["Order"]["properties"]["next"], json!({"$ref": "#/components/schemas/Order"}));
        assert_eq!(schemas["Order"]["properties"]["$ref"], json!({"const": {"$id": 1}}), "a property of that name");
        assert_eq!(schemas["Line"]["properties"]["sku"], json!({"$ref": "#/components/schemas/not-shown"}));
    }

    #[test]
    fn what_is_hidden_is_not_described() {
        let document = document();
        let hides = |paths: &[&str]| {
            let mut components = Components::new(Map::new());
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let copy = components.without(&ShownSchema::definition(&document, "Order"), &paths);
            (copy, Value::Object(components.finish()))
        };
        let (order, _) = hides(&["/card"]);
        assert_eq!(order["properties"]["card"], hidden());
        assert_eq!(order["required"], json!(["id"]));
        let (order, others) = hides(&["/card/number", "/lines/*/price"]);
        let card = &order["properties"]["card"]["anyOf"][0];
        assert_eq!((&card["properties"]["number"], &card["required"]), (&hidden(), &json!([])));
        let line = &order["properties"]["lines"]["items"]["anyOf"][0];
        assert_eq!(line["properties"]["price"], hidden());
        assert!(!order["properties"]["card"].to_string().contains("^4"));
        let of_line = |path: &str| hides(&[path]).0["properties"]["lines"]["items"]["anyOf"][0].clone();
        // A list may be passed through, and a name may be any.
        assert_eq!(of_line("/lines/price")["properties"]["price"], hidden());
        let any = hides(&["/*/number"]).0;
        assert_eq!(any["properties"]["card"]["anyOf"][0]["properties"]["number"], hidden());
        // It ends, although a schema refers to itself.
        assert!(hides(&["/next/next/next/card"]).0.is_object());
        assert!(others["Order"].is_object(), "what nothing hides in is shared: {others}");
    }

    #[test]
    fn a_document_has_an_end() {
        let many: Map<String, Value> =
            (0..MOST).map(|number| (number.to_string(), json!({"type": "string"}))).collect();
        let document = Arc::new(json!({"properties": many}));
        let mut components = Components::new(Map::new());
        components.refer(&ShownSchema::whole(&document));
        let schemas = components.finish();
        let left = schemas["schema"]["properties"].as_object().unwrap().values().filter(|one| **one == left_out());
        assert!(left.count() > MOST / 4);
    }
}
