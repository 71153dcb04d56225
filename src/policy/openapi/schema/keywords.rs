//! The keywords of schemas: JSON Schema 2020-12, which OpenAPI 3.1 uses, and the subset in OpenAPI 3.0.

use serde_json::Value;

/// The form of a keyword's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One schema.
    Schema,
    /// A list of schemas, at least one.
    Schemas,
    /// A map of schemas.
    ByName,
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

/// Every keyword that asserts something or contains schemas, and whether OpenAPI 3.0 has it.
const KEYWORDS: &[(&str, Form, bool)] = &[
    ("additionalProperties", Form::Schema, true),
    ("allOf", Form::Schemas, true),
    ("anyOf", Form::Schemas, true),
    ("const", Form::Value, false),
    ("contains", Form::Schema, false),
    ("dependentRequired", Form::NamesByName, false),
    ("dependentSchemas", Form::ByName, false),
    ("else", Form::Schema, false),
    ("enum", Form::List, true),
    ("exclusiveMaximum", Form::Number, true),
    ("exclusiveMinimum", Form::Number, true),
    ("format", Form::Text, true),
    ("if", Form::Schema, false),
    ("items", Form::Schema, true),
    ("maxContains", Form::Count, false),
    ("maxItems", Form::Count, true),
    ("maxLength", Form::Count, true),
    ("maxProperties", Form::Count, true),
    ("maximum", Form::Number, true),
    ("minContains", Form::Count, false),
    ("minItems", Form::Count, true),
    ("minLength", Form::Count, true),
    ("minProperties", Form::Count, true),
    ("minimum", Form::Number, true),
    ("multipleOf", Form::Factor, true),
    ("not", Form::Schema, true),
    ("oneOf", Form::Schemas, true),
    ("pattern", Form::Text, true),
    ("patternProperties", Form::ByName, false),
    ("prefixItems", Form::Schemas, false),
    ("properties", Form::ByName, true),
    ("propertyNames", Form::Schema, false),
    ("required", Form::Names, true),
    ("then", Form::Schema, false),
    ("type", Form::Types, true),
    ("unevaluatedItems", Form::Schema, false),
    ("unevaluatedProperties", Form::Schema, false),
    ("uniqueItems", Form::Flag, true),
];

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// The form of a keyword's value, and whether OpenAPI 3.0 has it; `None` for keywords that assert nothing.
pub(super) fn find(name: &str) -> Option<(Form, bool)> {
    KEYWORDS.iter().find(|(known, ..)| *known == name).map(|(_, form, old)| (*form, *old))
}

impl Form {
    /// Whether a value has this form; the schemas in it are not checked.
    pub(super) fn fits(self, value: &Value) -> bool {
        let names = |value: &Value| value.as_array().is_some_and(|names| names.iter().all(Value::is_string));
        let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
        match self {
            Self::Schema => value.is_object() || value.is_boolean(),
            Self::Schemas => value.as_array().is_some_and(|schemas| !schemas.is_empty()),
            Self::ByName => value.is_object(),
            Self::Number => value.is_number(),
            Self::Factor => value.as_f64().is_some_and(|number| number > 0.0),
            Self::Count => value.as_u64().is_some(),
            Self::Text => value.is_string(),
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
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Schema => "a schema",
            Self::Schemas => "a list of schemas",
            Self::ByName => "a map of schemas",
            Self::Number => "a number",
            Self::Factor => "a number above 0",
            Self::Count => "a whole number from 0",
            Self::Text => "text",
            Self::Flag => "`true` or `false`",
            Self::Names => "a list of names",
            Self::NamesByName => "a map of lists of names",
            Self::Types => "a type of JSON, or a list of them",
            Self::List => "a list",
            Self::Value => "a value",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(KEYWORDS.is_sorted_by_key(|(name, ..)| *name));
    }
}
