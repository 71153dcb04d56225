//! `nullable` of OpenAPI 3.0: null is accepted as well.
//!
//! According to 3.0.3 it has no effect without a `type`, nor on an `enum` that does not list null. Authors who write it
//! there mean null all the same, and most tools read it that way, as is done here.

use serde_json::{Map, Value, json};

/// The schema with null accepted as well.
pub(super) fn with_null(mut schema: Map<String, Value>) -> Value {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    match schema.get_mut("type") {
        Some(Value::Array(types)) if types.iter().all(|name| name != "null") => types.push("null".into()),
        Some(name @ Value::String(_)) if name != "null" => *name = json!([name, "null"]),
        _ => {}
    }
    // Of the other keywords, only these concern null. A further alternative is simpler than another `anyOf` around it.
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.push(json!({"type": "null"}));
    }
    let speaks = ["allOf", "not", "oneOf", "$ref"].iter().any(|keyword| schema.contains_key(*keyword));
    if speaks { json!({"anyOf": [schema, {"type": "null"}]}) } else { Value::Object(schema) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_taken_whatever_else_a_schema_says() {
        for schema in [
            json!({"type": "string"}),
            json!({"type": ["string", "null"]}),
            json!({"type": "string", "enum": ["a"]}),
            json!({"enum": ["a", null]}),
            json!({"allOf": [{"type": "object"}]}),
            json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!({"not": {"type": "null"}}),
            json!({"anyOf": [{"type": "string"}, {"type": "object"}]}),
            json!({"type": "string", "anyOf": [{"minLength": 2}, {"enum": ["a"]}]}),
            json!({"anyOf": [{"type": "string"}], "allOf": [{"maxLength": 1}, {"not": {"type": "null"}}]}),
        ] {
            let nullable = with_null(schema.as_object().unwrap().clone());
            let validator = jsonschema::options().offline().build(&nullable).unwrap();
            assert!(validator.is_valid(&Value::Null), "{nullable}");
            let before = jsonschema::options().offline().build(&schema).unwrap();
            for value in [json!("a"), json!("b"), json!({"a": 1}), json!({}), json!([]), json!(["x"]), json!(1)] {
                assert_eq!(validator.is_valid(&value), before.is_valid(&value), "{nullable} {value}");
            }
        }
    }
}
