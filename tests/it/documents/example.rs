//! The examples in a description: as they are written, and as those of a schema's parts make one of the whole.

use std::cell::Cell;

use serde_json::{Map, Value};

/// Deepest schema that an example is put together for.
const DEEPEST: usize = 8;

/// Follows references within the document; `null` where there is nothing.
pub fn resolved<'d>(root: &'d Value, mut node: &'d Value) -> &'d Value {
    for _ in 0..8 {
        let Some(reference) = node.get("$ref").and_then(Value::as_str) else { return node };
        let pointer = reference.trim_start_matches('#').replace("%7B", "{").replace("%7D", "}");
        node = root.pointer(&pointer).unwrap_or(&Value::Null);
    }
    &Value::Null
}

/// The examples of a parameter or a media type, and else the one of its schema.
pub fn all<'d>(root: &'d Value, node: &'d Value, hidden: &str) -> Vec<Value> {
    if let Some(example) = node.get("example").filter(|example| !example.is_null()) {
        return vec![example.clone()];
    }
    let named = node.get("examples").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let values: Vec<_> = named.filter_map(|named| resolved(root, named).get("value")).cloned().collect();
    match node.get("schema") {
        Some(schema) if values.is_empty() => {
            let parts = Schema { root, hidden, shown: Cell::new(false) };
            parts.example(schema, 0).filter(|_| parts.shown.get()).into_iter().collect()
        }
        _ => values,
    }
}

/// How an example is put together from a schema.
struct Schema<'d> {
    root: &'d Value,
    /// `readOnly` in requests, `writeOnly` in responses: members that an example of that direction does not have.
    hidden: &'d str,
    /// Whether any part was written as an example: a list of choices alone is none.
    shown: Cell<bool>,
}

impl Schema<'_> {
    /// An example of which every part is written in the schema; `None` where one is missing that is required.
    fn example(&self, schema: &Value, depth: usize) -> Option<Value> {
        let schema = resolved(self.root, schema);
        if depth > DEEPEST {
            return None;
        }
        let first = |name: &str| schema.get(name)?.as_array()?.first();
        if let Some(value) = schema.get("example").or(first("examples")).filter(|value| !value.is_null()) {
            self.shown.set(true);
            return Some(value.clone());
        }
        let only = ["default", "const"].into_iter().find_map(|name| schema.get(name)).or(first("enum"));
        if let Some(value) = only.filter(|value| !value.is_null()) {
            return Some(value.clone());
        }
        if let Some(branches) = ["oneOf", "anyOf"].into_iter().find_map(|name| schema.get(name)?.as_array()) {
            // What stands beside the branches holds too; no example shows how they go together.
            let alone = schema.get("properties").is_none() && schema.get("allOf").is_none();
            return branches.iter().filter(|_| alone).find_map(|branch| self.example(branch, depth + 1));
        }
        if schema.get("allOf").is_some() || schema.get("properties").is_some() {
            let mut members = Map::new();
            self.members(schema, depth, &mut members)?;
            return (!members.is_empty()).then_some(Value::Object(members));
        }
        let item = self.example(schema.get("items")?, depth + 1)?;
        Some(Value::Array(vec![item; schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, 3) as usize]))
    }

    fn members(&self, schema: &Value, depth: usize, into: &mut Map<String, Value>) -> Option<()> {
        let schema = resolved(self.root, schema);
        if depth > DEEPEST {
            return None;
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.members(part, depth + 1, into)?;
        }
        for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let shown = resolved(self.root, member).get(self.hidden) != Some(&Value::Bool(true));
            if let Some(value) = self.example(member, depth + 1).filter(|_| shown) {
                into.insert(name.clone(), value);
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            let member =
                schema.get("properties").and_then(|all| all.get(name)).map(|member| resolved(self.root, member));
            let hidden = member.is_some_and(|member| member.get(self.hidden) == Some(&Value::Bool(true)));
            if !hidden && !into.contains_key(name) {
                into.insert(name.to_owned(), plain(member?)?);
            }
        }
        Some(())
    }
}

/// A value for a schema that says no more than a type; `None` for any other.
pub fn plain(schema: &Value) -> Option<Value> {
    let number = |name| schema.get(name).and_then(Value::as_u64);
    match schema.get("type").and_then(Value::as_str)? {
        "integer" | "number" => Some(number("minimum").unwrap_or(1).into()),
        "boolean" => Some(true.into()),
        "string" if schema.get("pattern").is_none() => match schema.get("format").and_then(Value::as_str) {
            None => Some("text".repeat(number("minLength").unwrap_or(1).div_ceil(4).max(1) as usize).into()),
            Some("uuid") => Some("6f1b2a0e-0d5c-4c2e-9e52-b1a5a1c0ffee".into()),
            Some("date") => Some("2026-11-26".into()),
            Some("date-time") => Some("2026-11-26T10:00:00Z".into()),
            Some("uri" | "url") => Some("https://example.com/a".into()),
            Some("email") => Some("a@example.com".into()),
            Some(_) => None,
        }
        .filter(|text: &Value| {
            let length = text.as_str().map_or(0, str::len) as u64;
            number("maxLength").is_none_or(|most| length <= most)
        }),
        _ => None,
    }
}
