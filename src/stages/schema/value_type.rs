//! The type of value that a text is read as, according to a schema.

use serde_json::{Number, Value};

use super::text_encoding::{TextEncoding, decoded};

/// Most references followed, and deepest nesting of lists and objects, when finding out which types a schema allows.
pub(super) const MAX_DEPTH: usize = 16;

/// The type of value that a text is read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ValueType {
    Scalar(Scalars),
    List(Box<ValueType>),
    Object(Vec<(Box<str>, ValueType)>, Box<ValueType>),
}

/// The scalar types that a text may be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Scalars {
    pub(super) text: bool,
    pub(super) number: bool,
    pub(super) boolean: bool,
    pub(super) null: bool,
}

impl ValueType {
    /// Finds the type that texts are read as under a schema.
    pub(super) fn of(schema: &Value, root: &Value, depth: usize) -> Self {
        let (mut types, mut parts) = (Vec::new(), Vec::new());
        gather(schema, root, depth, &mut types, &mut parts);
        let find = |key: &str| parts.iter().find_map(|schema: &&Value| schema.get(key));
        let inner = |schema: Option<&Value>| match (schema, depth.checked_sub(1)) {
            (Some(schema), Some(depth)) => Self::of(schema, root, depth),
            _ => Self::Scalar(Scalars { text: true, ..Scalars::default() }),
        };
        if types.contains(&"array") {
            return Self::List(Box::new(inner(find("items"))));
        }
        if types.contains(&"object") {
            let properties = parts.iter().filter_map(|schema| schema.get("properties")?.as_object()).flatten();
            let members = properties.map(|(name, schema)| (name.as_str().into(), inner(Some(schema)))).collect();
            return Self::Object(members, Box::new(inner(find("additionalProperties"))));
        }
        let number = types.contains(&"number") || types.contains(&"integer");
        let (boolean, null) = (types.contains(&"boolean"), types.contains(&"null"));
        let text = types.contains(&"string") || !(number || boolean || null);
        Self::Scalar(Scalars { text, number, boolean, null })
    }

    /// The type of an object's member.
    pub(super) fn member(&self, name: &str) -> &Self {
        match self {
            Self::Object(members, others) => {
                members.iter().find(|(known, _)| **known == *name).map_or(others, |(_, value_type)| value_type)
            }
            other => other,
        }
    }

    /// Decodes one scalar. No style covers lists within lists: their items are text.
    pub(super) fn scalar(&self, text: &str, encoding: TextEncoding) -> Result<Value, &'static str> {
        let text = decoded(text, encoding)?;
        let Self::Scalar(scalars) = self else { return Ok(Value::String(text.into_owned())) };
        let number = || text.parse::<Number>().ok().filter(|_| !text.contains(char::is_whitespace));
        Ok(match &*text {
            "true" if scalars.boolean => Value::Bool(true),
            "false" if scalars.boolean => Value::Bool(false),
            "" | "null" if scalars.null && !scalars.text => Value::Null,
            _ => match scalars.number.then(number).flatten() {
                Some(number) => Value::Number(number),
                None => Value::String(text.into_owned()),
            },
        })
    }
}

/// Collects all types that a schema may allow, and the subschemas that describe lists and objects.
pub(super) fn gather<'s>(
    schema: &'s Value,
    root: &'s Value,
    depth: usize,
    types: &mut Vec<&'s str>,
    parts: &mut Vec<&'s Value>,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match schema.get("type") {
        Some(Value::String(name)) => types.push(name),
        Some(Value::Array(names)) => types.extend(names.iter().filter_map(Value::as_str)),
        _ => {
            let values = schema.get("enum").and_then(Value::as_array).into_iter().flatten().chain(schema.get("const"));
            types.extend(values.map(|value| match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
            }));
            // A schema with `properties` or `items` describes objects or lists.
            types.extend(schema.get("properties").map(|_| "object").or(schema.get("items").map(|_| "array")));
        }
    }
    parts.push(schema);
    let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    if let Some(target) = pointer.and_then(|pointer| root.pointer(pointer)) {
        gather(target, root, depth, types, parts);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for branch in schema.get(key).and_then(Value::as_array).into_iter().flatten() {
            gather(branch, root, depth, types, parts);
        }
    }
}
