//! What is wrong with a schema that its meta-schema does not allow, in words about the keyword and what to write. The
//! validator of meta-schemas says where, and nothing but what it was asked to check there.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, ValidationError};
use serde_json::Value;

use super::form::{Form, TYPES};
use super::keywords::{self, Keyword, draft_name};
use super::problem::SchemaProblem;

/// What is expected at a place in a schema.
#[derive(Debug, Clone, Copy)]
enum Spot {
    /// A schema; of this keyword, if it is its value.
    Schema(Option<Keyword>),
    /// Schemas in a list or by name.
    Schemas(Keyword),
    /// The value of a keyword that has no schemas in it.
    Value(Keyword),
    /// A part of such a value.
    Part(Keyword),
    /// Anything.
    Other,
}

/// The problem that an error of a meta-schema's validator is about.
pub(super) fn problem(error: &ValidationError<'_>, draft: Draft) -> SchemaProblem {
    let error = deepest(error);
    let pointer = error.instance_path().to_string();
    let value = error.instance().as_ref();
    let spot = spot(&pointer, draft);
    let message = match spot {
        Spot::Schema(Some(keyword)) if !keyword.form.fits(value) => must_be(keyword, draft),
        Spot::Schema(_) => of_schema(value, draft),
        Spot::Schemas(keyword) | Spot::Value(keyword) => of_value(keyword, value, draft),
        Spot::Part(keyword) => must_be(keyword, draft),
        Spot::Other => not_allowed("this", draft),
    };
    let help = match spot {
        Spot::Value(Keyword { form: Form::Types, .. }) | Spot::Part(Keyword { form: Form::Types, .. }) => {
            known_types(value)
        }
        _ => None,
    };
    SchemaProblem { help, ..SchemaProblem::at(&pointer, message) }
}

/// Where one of several forms is allowed: what is wrong with that which goes deepest, if that is more than the form itself.
fn deepest<'e, 'v>(error: &'e ValidationError<'v>) -> &'e ValidationError<'v> {
    let depth = |error: &ValidationError<'_>| error.instance_path().as_str().len();
    let ValidationErrorKind::AnyOf { context } = error.kind() else { return error };
    let below = context.iter().flatten().map(deepest).max_by_key(|below| depth(below));
    below.filter(|below| depth(below) > depth(error)).unwrap_or(error)
}

/// Follows a pointer from a schema.
fn spot(pointer: &str, draft: Draft) -> Spot {
    let step = |spot, step: &str| match spot {
        Spot::Schema(Some(Keyword { form: Form::SchemaOrSchemas, .. })) if step.parse::<usize>().is_ok() => {
            Spot::Schema(None)
        }
        Spot::Schema(_) => match keywords::find(step).filter(|keyword| keyword.is_of(draft)) {
            None => Spot::Other,
            Some(keyword) => match keyword.form {
                Form::Schema | Form::SchemaOrSchemas => Spot::Schema(Some(keyword)),
                Form::Schemas | Form::ByName | Form::Definitions => Spot::Schemas(keyword),
                _ => Spot::Value(keyword),
            },
        },
        // Of names, or schemas.
        Spot::Schemas(keyword) if keyword.name == "dependencies" => Spot::Part(keyword),
        Spot::Schemas(_) => Spot::Schema(None),
        Spot::Value(keyword) | Spot::Part(keyword) => Spot::Part(keyword),
        Spot::Other => Spot::Other,
    };
    pointer.split('/').skip(1).fold(Spot::Schema(None), step)
}

fn of_schema(value: &Value, draft: Draft) -> String {
    match draft {
        _ if value.is_object() => {}
        Draft::Draft4 => return "in draft-04, a schema is an object".to_owned(),
        _ => return "a schema is an object, `true` or `false`".to_owned(),
    }
    let alone = |bound: &str, exclusive: &str| value.get(exclusive).is_some() && value.get(bound).is_none();
    for (bound, exclusive) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
        if draft == Draft::Draft4 && alone(bound, exclusive) {
            return format!("in draft-04, `{exclusive}` needs `{bound}` beside it");
        }
    }
    not_allowed("this schema", draft)
}

fn of_value(keyword: Keyword, value: &Value, draft: Draft) -> String {
    let Keyword { name, form, .. } = keyword;
    let items = value.as_array().map(Vec::as_slice);
    match name {
        "exclusiveMinimum" | "exclusiveMaximum" if draft == Draft::Draft4 => {
            format!("in draft-04, `{name}` must be `true` or `false`")
        }
        _ if !form.fits(value) => must_be(keyword, draft),
        "$id" => "`$id` must be a URI without a fragment; to name a place, write `$anchor`".to_owned(),
        "$anchor" | "$dynamicAnchor" => {
            format!("`{name}` must begin with a letter or `_`, followed by letters, digits, `-`, `_` and `.`")
        }
        _ => match items {
            Some([]) => format!("`{name}` must not be empty"),
            Some(items) if items.iter().enumerate().any(|(at, item)| items.iter().take(at).any(|one| one == item)) => {
                format!("`{name}` has the same value twice")
            }
            _ => not_allowed(&format!("`{name}`"), draft),
        },
    }
}

fn must_be(keyword: Keyword, draft: Draft) -> String {
    let words = match keyword {
        Keyword { name: "dependencies", .. } => "a map of schemas, or of lists of names",
        Keyword { form: Form::SchemaOrSchemas, .. } if draft < Draft::Draft202012 => "a schema, or a list of them",
        Keyword { form, .. } => form.words(),
    };
    format!("`{}` must be {words}", keyword.name)
}

fn not_allowed(what: &str, draft: Draft) -> String {
    format!("{what} is not what the meta-schema of {} allows", draft_name(draft))
}

/// Which type may be meant, or which there are.
fn known_types(value: &Value) -> Option<String> {
    let written = match value {
        Value::Array(names) => names.as_slice(),
        name => std::slice::from_ref(name),
    };
    let is_unknown = |name: &&str| !TYPES.contains(name);
    let unknown = written.iter().filter_map(Value::as_str).find(is_unknown)?;
    let near = TYPES.into_iter().find(|known| strsim::osa_distance(&unknown.to_ascii_lowercase(), known) <= 2);
    Some(match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the types are {}", TYPES.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::JsonSchema;

    /// F27: no message is that of a library about its meta-schema.
    #[test]
    fn a_keyword_that_is_misused_is_said_in_our_words() {
        let (old, seven) = ("http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#");
        for (schema, pointer, expected) in [
            (
                json!({"type": "strng"}),
                "/type",
                "`type` must be a type of JSON, or a list of them (did you mean `string`?)",
            ),
            (
                json!({"type": ["null", "text"]}),
                "/type/1",
                "`type` must be a type of JSON, or a list of them (the types are array, boolean, integer, null, number, \
                 object, string)",
            ),
            (json!({"type": ["null", "null"]}), "/type", "`type` has the same value twice"),
            (
                json!({"properties": {"type": {"minLength": -1}}}),
                "/properties/type/minLength",
                "`minLength` must be a whole number from 0",
            ),
            (json!({"properties": []}), "/properties", "`properties` must be a map of schemas"),
            (json!({"properties": {"a": 5}}), "/properties/a", "a schema is an object, `true` or `false`"),
            (json!({"$defs": {"minLength": 5}}), "/$defs/minLength", "a schema is an object, `true` or `false`"),
            (json!({"required": "a"}), "/required", "`required` must be a list of names"),
            (json!({"required": [5]}), "/required/0", "`required` must be a list of names"),
            (json!({"required": ["a", "a"]}), "/required", "`required` has the same value twice"),
            (json!({"items": 5}), "/items", "`items` must be a schema"),
            (json!({"$schema": seven, "items": 5}), "/items", "`items` must be a schema, or a list of them"),
            (json!({"$schema": seven, "items": [{"not": 5}]}), "/items/0/not", "`not` must be a schema"),
            (
                json!({"$schema": seven, "dependencies": {"a": 5}}),
                "/dependencies/a",
                "`dependencies` must be a map of schemas, or of lists of names",
            ),
            (json!({"multipleOf": 0}), "/multipleOf", "`multipleOf` must be a number above 0"),
            (json!({"minimum": "1"}), "/minimum", "`minimum` must be a number"),
            (json!({"allOf": []}), "/allOf", "`allOf` must be a list of schemas"),
            (
                json!({"allOf": [{"uniqueItems": "yes"}]}),
                "/allOf/0/uniqueItems",
                "`uniqueItems` must be `true` or `false`",
            ),
            (
                json!({"$anchor": "1 2"}),
                "/$anchor",
                "`$anchor` must begin with a letter or `_`, followed by letters, digits, `-`, `_` and `.`",
            ),
            (
                json!({"$id": "https://e.example/#x"}),
                "/$id",
                "`$id` must be a URI without a fragment; to name a place, write `$anchor`",
            ),
            (json!({"$schema": old, "required": []}), "/required", "`required` must not be empty"),
            (json!({"$schema": old, "not": true}), "/not", "in draft-04, a schema is an object"),
            (
                json!({"$schema": old, "minimum": 1, "exclusiveMinimum": 5}),
                "/exclusiveMinimum",
                "in draft-04, `exclusiveMinimum` must be `true` or `false`",
            ),
            (
                json!({"$schema": old, "exclusiveMaximum": true}),
                "",
                "in draft-04, `exclusiveMaximum` needs `maximum` beside it",
            ),
            (
                json!({"dependentRequired": {"a": 5}}),
                "/dependentRequired/a",
                "`dependentRequired` must be a map of lists of names",
            ),
            (json!([1]), "", "a schema is an object, `true` or `false`"),
        ] {
            let problem = JsonSchema::new(&schema).unwrap_err();
            let help = problem.help.map(|help| format!(" ({help})")).unwrap_or_default();
            assert_eq!(
                (&*problem.pointer, format!("{}{help}", problem.message)),
                (pointer, expected.to_owned()),
                "{schema}"
            );
        }
    }
}
