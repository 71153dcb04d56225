//! Keywords of one schema that contradict each other, so that no value meets it: a slip that would refuse every request.

use serde_json::{Map, Value};

use crate::stages::decimal::Decimal;

/// A lower bound, an upper bound, whose they are, and whether a value may be equal to both.
const BOUNDS: [(&str, &str, &str, bool); 7] = [
    ("minimum", "maximum", "number", true),
    ("exclusiveMinimum", "maximum", "number", false),
    ("minimum", "exclusiveMaximum", "number", false),
    ("exclusiveMinimum", "exclusiveMaximum", "number", false),
    ("minLength", "maxLength", "string", true),
    ("minItems", "maxItems", "array", true),
    ("minProperties", "maxProperties", "object", true),
];

/// Returns the keywords that rule out every value, or every value of one type, and why.
pub(super) fn find(schema: &Map<String, Value>, types: Option<&[&str]>) -> Vec<(&'static str, String)> {
    let mut found: Vec<_> = BOUNDS.iter().filter_map(|bounds| crossed(schema, *bounds)).collect();
    found.extend(required(schema).map(|why| ("required", format!("no object meets this schema: {why}"))));
    found.extend(listed(schema, types));
    found
}

fn crossed(
    schema: &Map<String, Value>,
    (low, high, whose, may_be_equal): (&'static str, &str, &str, bool),
) -> Option<(&'static str, String)> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_number).map(Decimal::of);
    let (least, most) = (bound(low)?, bound(high)?);
    let why = match () {
        () if least > most => "more than",
        () if least == most && !may_be_equal => "not less than",
        () => return None,
    };
    Some((low, format!("no {whose} meets this schema: `{low}` is {why} `{high}`")))
}

/// Why no object can have all members that are required.
fn required(schema: &Map<String, Value>) -> Option<String> {
    let names: Vec<&str> = schema.get("required")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let of = |name: &str| properties.and_then(|properties| properties.get(name));
    if let Some(name) = names.iter().find(|name| of(name) == Some(&Value::Bool(false))) {
        return Some(format!("`{name}` is required, and its schema is `false`"));
    }
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    let has_patterns = schema.get("patternProperties").is_some();
    if let Some(name) = names.iter().find(|name| is_closed && !has_patterns && of(name).is_none()) {
        return Some(format!("`{name}` is required, and `additionalProperties: false` does not allow it"));
    }
    let most = schema.get("maxProperties").and_then(Value::as_u64)?;
    (names.len() as u64 > most).then(|| "`required` has more members than `maxProperties` allows".to_owned())
}

/// Values that are listed, and all of a type that is not allowed.
fn listed(schema: &Map<String, Value>, types: Option<&[&str]>) -> Option<(&'static str, String)> {
    if schema.get("enum").and_then(Value::as_array).is_some_and(Vec::is_empty) {
        return Some(("enum", "no value meets this schema: `enum` is empty".to_owned()));
    }
    let types = types.filter(|types| !types.is_empty())?;
    let (keyword, values) = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => ("enum", values.as_slice()),
        (_, Some(value)) => ("const", std::slice::from_ref(value)),
        _ => return None,
    };
    let is_allowed = |value: &Value| types.iter().any(|name| is_of(value, name));
    if values.iter().any(is_allowed) {
        return None;
    }
    let what = if keyword == "enum" { "no value of `enum`" } else { "the value of `const`" };
    let verb = if keyword == "enum" { "is" } else { "is not" };
    Some((keyword, format!("no value meets this schema: {what} {verb} of `type: {}`", types.join(", "))))
}

/// Whether a value is of a type; anything is of one that is not known, and so is a whole number of `integer`.
fn is_of(value: &Value, name: &str) -> bool {
    match (name, value) {
        ("null", value) => value.is_null(),
        ("boolean", value) => value.is_boolean(),
        ("string", value) => value.is_string(),
        ("array", value) => value.is_array(),
        ("object", value) => value.is_object(),
        ("integer" | "number", value) => value.is_number(),
        _ => true,
    }
}
