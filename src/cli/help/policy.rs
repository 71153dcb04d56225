//! The keys of the policy, from its JSON Schema.

use serde_json::{Map, Value};

use crate::policy::document::schema;

/// What each key takes, its default and its meaning.
pub(super) fn page() -> String {
    let schema = schema::policy();
    let none = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&none);
    let mut page = Page { definitions, text: TITLE.to_owned() };
    page.keys("", &schema);
    page.text
}

const TITLE: &str = "Keys of the policy. NAME is a name that you choose, and `[]` an item of a list.\n\
    A duration is written as `250ms`, `10s` or `1h30m`, a size as `64KiB`, a rate as `10/s` or `600/min`,\n\
    a share as `1%`.\n\
    `${env:NAME}` and `${file:PATH}` in a value stand for secrets. Paths are relative to the policy's folder.\n";

struct Page<'s> {
    definitions: &'s Map<String, Value>,
    text: String,
}

impl<'s> Page<'s> {
    /// Lists the keys in a value with this schema; `path` is the path of the value.
    fn keys(&mut self, path: &str, schema: &'s Value) {
        let schema = self.resolve(schema);
        let dot = if path.is_empty() { "" } else { "." };
        for (name, property) in entries(schema, "properties") {
            let path = format!("{path}{dot}{name}");
            self.key(&path, property);
            self.keys(&path, property);
        }
        for (_, status) in entries(schema, "patternProperties") {
            let path = format!("{path}{dot}STATUS");
            self.key(&path, status);
            self.keys(&path, status);
        }
        if let Some(inner) = schema.get("additionalProperties").filter(|inner| inner.is_object()) {
            self.keys(&format!("{path}{dot}NAME"), inner);
        }
        if let Some(items) = schema.get("items") {
            self.keys(&format!("{path}[]"), items);
        }
        for one in alternatives(schema) {
            self.keys(path, one);
        }
    }

    fn key(&mut self, path: &str, property: &'s Value) {
        let description = |schema: &'s Value| schema.get("description").and_then(Value::as_str);
        let meaning = description(property).or_else(|| description(self.resolve(property))).unwrap_or_default();
        let default = match property.get("default") {
            None => String::new(),
            Some(Value::String(text)) => format!(", default {text}"),
            Some(other) => format!(", default {other}"),
        };
        let meaning = if meaning.is_empty() { String::new() } else { format!("    {meaning}\n") };
        self.text.push_str(&format!("\n{path}: {}{default}\n{meaning}", self.kind(property)));
    }

    /// What a value with this schema is.
    fn kind(&self, schema: &'s Value) -> String {
        match schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
            Some("Period") => return "duration".to_owned(),
            Some("Size") => return "size".to_owned(),
            Some("Rate") => return "rate".to_owned(),
            Some("Share") => return "share".to_owned(),
            _ => {}
        }
        let schema = self.resolve(schema);
        if let Some(word) = schema.get("const").and_then(Value::as_str) {
            return word.to_owned();
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | ");
        }
        let mut kinds: Vec<String> =
            alternatives(schema).filter(|one| !is_reference(one)).map(|one| self.kind(one)).collect();
        // Several kinds of maps, such as of sinks, are maps.
        kinds.dedup();
        if !kinds.is_empty() {
            return kinds.join(" | ");
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("array") => match schema.get("items").map(|items| self.kind(items)) {
                Some(items) if items.contains(" | ") => format!("list of ({items})"),
                Some(items) => format!("list of {items}"),
                None => "list".to_owned(),
            },
            Some("object") => match schema.get("additionalProperties").filter(|inner| inner.is_object()) {
                Some(inner) => format!("map from names to {}", self.kind(inner)),
                None => "map".to_owned(),
            },
            Some("boolean") => "true | false".to_owned(),
            Some("integer") => "number".to_owned(),
            _ => "text".to_owned(),
        }
    }

    fn resolve(&self, schema: &'s Value) -> &'s Value {
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/"));
        name.and_then(|name| self.definitions.get(name)).unwrap_or(schema)
    }
}

fn entries<'s>(schema: &'s Value, keyword: &str) -> impl Iterator<Item = (&'s String, &'s Value)> {
    schema.get(keyword).and_then(Value::as_object).into_iter().flatten()
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|keyword| schema.get(keyword)?.as_array()).flatten()
}

fn is_reference(schema: &Value) -> bool {
    schema.get("$ref").is_some_and(|path| path == "#/$defs/Reference")
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn keys_have_their_path_type_default_and_meaning() {
        let page = page();
        for expected in [
            "\nversion: number\n    Version of the policy language: 1. Required.\n",
            "\nworkers: auto | number, default auto\n",
            "\nlisten: list of map\n",
            "\nlisten[].tls.client_certificate: optional | required, default optional\n",
            "\nauth.issuers.NAME.stale_for: duration, default 24h\n",
            "\nroles: map from names to list of text\n",
            "\nplans.NAME.rate: rate\n",
            "\napis.NAME.upstream: text | map\n",
            "\napis.NAME.routes.NAME.response.STATUS.json: text\n",
            "\napis.NAME.routes.NAME.public: true | false\n",
            "\naudit: none | list of (stdout | map) | map\n",
            "\naudit[].file.path: text\n",
            "\naudit.to[].file.path: text\n",
        ] {
            assert!(page.contains(expected), "{expected:?} is not in {page}");
        }
    }
}
