//! Which files are JSON Schemas of their own, and not parts of a description.
//!
//! They keep to their own draft, and `$id`, anchors and dynamic references mean what that draft says; so they are read by the
//! loader of JSON Schema files, and the schemas of the description only refer to them.

use serde_json::Value;

/// Where the dialects begin in which schemas are written like those of a description.
const DIALECTS: &str = "https://spec.openapis.org/oas/";
/// Keywords that only OpenAPI gives a meaning to.
const OF_OPENAPI: [&str; 3] = ["discriminator", "readOnly", "writeOnly"];

/// Whether a file is a JSON Schema: it names its draft; or it identifies parts of itself, or has dynamic references, and says
/// nothing that only OpenAPI gives a meaning to.
pub(super) fn is_schema(value: &Value) -> bool {
    let Value::Object(root) = value else { return false };
    if root.contains_key("openapi") {
        return false;
    }
    if let Some(Value::String(dialect)) = root.get("$schema") {
        return !dialect.starts_with(DIALECTS);
    }
    let (mut identifies, mut left) = (false, vec![value]);
    while let Some(part) = left.pop() {
        match part {
            Value::Object(members) => {
                let text = |key: &str| members.get(key).is_some_and(Value::is_string);
                let inner = !std::ptr::eq(part, value) && text("$id");
                identifies |= inner || text("$dynamicRef") || text("$recursiveRef");
                let means = |key: &str| {
                    members
                        .get(key)
                        .is_some_and(|value| *value == Value::Bool(true) || value.get("propertyName").is_some())
                };
                if OF_OPENAPI.iter().any(|key| means(key)) {
                    return false;
                }
                left.extend(members.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    identifies
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// F27: what a file says of its draft and of its parts is kept to.
    #[test]
    fn a_file_that_names_its_draft_or_its_parts_is_a_schema_of_its_own() {
        for (file, expected) in [
            (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), true),
            (json!({"$schema": "https://spec.openapis.org/oas/3.1/dialect/base"}), false),
            (json!({"type": "object"}), false),
            (json!({"$id": "https://e.example/a", "type": "object"}), false),
            (json!({"$defs": {"a": {"$id": "a"}}}), true),
            (json!({"items": {"$dynamicRef": "#node"}}), true),
            (json!({"items": {"$dynamicRef": "#node"}, "properties": {"id": {"readOnly": true}}}), false),
            (json!({"items": {"$dynamicRef": "#node"}, "discriminator": {"propertyName": "kind"}}), false),
            // Properties with such names.
            (json!({"properties": {"$id": {"type": "string"}, "$dynamicRef": {}}}), false),
            (json!({"openapi": "3.1.0", "$schema": "http://json-schema.org/draft-07/schema#"}), false),
            (json!([]), false),
        ] {
            assert_eq!(is_schema(&file), expected, "{file}");
        }
    }
}
