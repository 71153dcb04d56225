//! What the values of keywords look like.

use serde_json::Value;

/// The form of a keyword's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One schema.
    Schema,
    /// A list of schemas, at least one.
    Schemas,
    /// One schema; before 2020-12, or a list of them.
    SchemaOrSchemas,
    /// A map of schemas.
    ByName,
    /// A map of schemas, which only are a place for references.
    Definitions,
    /// What identifies a schema, or leads to one.
    Identity,
    /// A number.
    Number,
    /// A number above 0.
    Factor,
    /// A whole number from 0.
    Count,
    /// Text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A list of names.
    Names,
    /// A map of lists of names.
    NamesByName,
    /// One type, or a list of types.
    Types,
    /// A list.
    List,
    /// Anything.
    Value,
}

/// The types of JSON, and integers.
pub(super) const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

impl Form {
    /// Whether a value has this form in 2020-12; the schemas in it are not checked.
    pub(crate) fn fits(self, value: &Value) -> bool {
        let names = |value: &Value| value.as_array().is_some_and(|names| names.iter().all(Value::is_string));
        let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
        match self {
            Self::Schema | Self::SchemaOrSchemas => value.is_object() || value.is_boolean(),
            Self::Schemas => value.as_array().is_some_and(|schemas| !schemas.is_empty()),
            Self::ByName | Self::Definitions => value.is_object(),
            Self::Number => value.is_number(),
            Self::Factor => value.as_f64().is_some_and(|number| number > 0.0),
            Self::Count => value.as_u64().is_some(),
            Self::Text | Self::Identity => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Names => names(value),
            Self::NamesByName => value.as_object().is_some_and(|lists| lists.values().all(names)),
            Self::Types => match value {
                Value::Array(types) => !types.is_empty() && types.iter().all(known),
                one => known(one),
            },
            Self::List => value.is_array(),
            Self::Value => true,
        }
    }

    /// The words for messages.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Schema | Self::SchemaOrSchemas => "a schema",
            Self::Schemas => "a list of schemas",
            Self::ByName | Self::Definitions => "a map of schemas",
            Self::Number => "a number",
            Self::Factor => "a number above 0",
            Self::Count => "a whole number from 0",
            Self::Text | Self::Identity => "text",
            Self::Flag => "`true` or `false`",
            Self::Names => "a list of names",
            Self::NamesByName => "a map of lists of names",
            Self::Types => "a type of JSON, or a list of them",
            Self::List => "a list",
            Self::Value => "a value",
        }
    }
}
