//! The keywords of all drafts: which of them has each, what it judges, and what its value looks like.

use std::collections::HashMap;
use std::sync::LazyLock;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::form::Form;
use Draft::{Draft4, Draft6, Draft7, Draft201909, Draft202012};

/// A keyword that judges, or that leads to other schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyword {
    pub(crate) name: &'static str,
    /// The first and the last draft that have it.
    first: Draft,
    last: Draft,
    /// The types that it judges; none: every value.
    pub(crate) types: &'static [&'static str],
    pub(crate) form: Form,
}

const fn keyword(name: &'static str, first: Draft, last: Draft, types: &'static [&'static str], form: Form) -> Keyword {
    Keyword { name, first, last, types, form }
}

const NUMBER: &[&str] = &["integer", "number"];
const TEXT: &[&str] = &["string"];
const ARRAY: &[&str] = &["array"];
const OBJECT: &[&str] = &["object"];
const ANY: &[&str] = &[];

/// By name. What is said of subschemas and of OpenAPI is said of these, so that there is one list.
const KEYWORDS: [Keyword; 56] = [
    keyword("$anchor", Draft201909, Draft202012, ANY, Form::Identity),
    keyword("$comment", Draft4, Draft202012, ANY, Form::Identity),
    keyword("$defs", Draft4, Draft202012, ANY, Form::Definitions),
    keyword("$dynamicAnchor", Draft202012, Draft202012, ANY, Form::Identity),
    keyword("$dynamicRef", Draft202012, Draft202012, ANY, Form::Identity),
    keyword("$id", Draft6, Draft202012, ANY, Form::Identity),
    keyword("$recursiveAnchor", Draft201909, Draft201909, ANY, Form::Identity),
    keyword("$recursiveRef", Draft201909, Draft201909, ANY, Form::Identity),
    keyword("$ref", Draft4, Draft202012, ANY, Form::Identity),
    keyword("$schema", Draft4, Draft202012, ANY, Form::Identity),
    keyword("$vocabulary", Draft4, Draft202012, ANY, Form::Identity),
    keyword("additionalItems", Draft4, Draft201909, ARRAY, Form::Schema),
    keyword("additionalProperties", Draft4, Draft202012, OBJECT, Form::Schema),
    keyword("allOf", Draft4, Draft202012, ANY, Form::Schemas),
    keyword("anyOf", Draft4, Draft202012, ANY, Form::Schemas),
    keyword("const", Draft6, Draft202012, ANY, Form::Value),
    keyword("contains", Draft6, Draft202012, ARRAY, Form::Schema),
    keyword("contentEncoding", Draft6, Draft202012, TEXT, Form::Text),
    keyword("contentMediaType", Draft6, Draft202012, TEXT, Form::Text),
    keyword("contentSchema", Draft201909, Draft202012, TEXT, Form::Schema),
    keyword("definitions", Draft4, Draft202012, ANY, Form::Definitions),
    // Not in the later drafts, but judged in all of them here.
    keyword("dependencies", Draft4, Draft202012, OBJECT, Form::ByName),
    keyword("dependentRequired", Draft201909, Draft202012, OBJECT, Form::NamesByName),
    keyword("dependentSchemas", Draft201909, Draft202012, OBJECT, Form::ByName),
    keyword("else", Draft7, Draft202012, ANY, Form::Schema),
    keyword("enum", Draft4, Draft202012, ANY, Form::List),
    keyword("exclusiveMaximum", Draft4, Draft202012, NUMBER, Form::Number),
    keyword("exclusiveMinimum", Draft4, Draft202012, NUMBER, Form::Number),
    keyword("format", Draft4, Draft202012, ANY, Form::Text),
    keyword("id", Draft4, Draft4, ANY, Form::Identity),
    keyword("if", Draft7, Draft202012, ANY, Form::Schema),
    keyword("items", Draft4, Draft202012, ARRAY, Form::SchemaOrSchemas),
    keyword("maxContains", Draft201909, Draft202012, ARRAY, Form::Count),
    keyword("maxItems", Draft4, Draft202012, ARRAY, Form::Count),
    keyword("maxLength", Draft4, Draft202012, TEXT, Form::Count),
    keyword("maxProperties", Draft4, Draft202012, OBJECT, Form::Count),
    keyword("maximum", Draft4, Draft202012, NUMBER, Form::Number),
    keyword("minContains", Draft201909, Draft202012, ARRAY, Form::Count),
    keyword("minItems", Draft4, Draft202012, ARRAY, Form::Count),
    keyword("minLength", Draft4, Draft202012, TEXT, Form::Count),
    keyword("minProperties", Draft4, Draft202012, OBJECT, Form::Count),
    keyword("minimum", Draft4, Draft202012, NUMBER, Form::Number),
    keyword("multipleOf", Draft4, Draft202012, NUMBER, Form::Factor),
    keyword("not", Draft4, Draft202012, ANY, Form::Schema),
    keyword("oneOf", Draft4, Draft202012, ANY, Form::Schemas),
    keyword("pattern", Draft4, Draft202012, TEXT, Form::Text),
    keyword("patternProperties", Draft4, Draft202012, OBJECT, Form::ByName),
    keyword("prefixItems", Draft202012, Draft202012, ARRAY, Form::Schemas),
    keyword("properties", Draft4, Draft202012, OBJECT, Form::ByName),
    keyword("propertyNames", Draft6, Draft202012, OBJECT, Form::Schema),
    keyword("required", Draft4, Draft202012, OBJECT, Form::Names),
    keyword("then", Draft7, Draft202012, ANY, Form::Schema),
    keyword("type", Draft4, Draft202012, ANY, Form::Types),
    keyword("unevaluatedItems", Draft201909, Draft202012, ARRAY, Form::Schema),
    keyword("unevaluatedProperties", Draft201909, Draft202012, OBJECT, Form::Schema),
    keyword("uniqueItems", Draft4, Draft202012, ARRAY, Form::Flag),
];

/// Words that say nothing about which values are valid: of the drafts, of OpenAPI, and of editors.
const ANNOTATIONS: [&str; 26] = [
    "comment",
    "default",
    "deprecated",
    "deprecationMessage",
    "description",
    "discriminator",
    "doNotSuggest",
    "enumDescriptions",
    "enumNames",
    "errorMessage",
    "example",
    "examples",
    "externalDocs",
    "links",
    "markdownDescription",
    "name",
    "note",
    "notes",
    "readOnly",
    "title",
    "tsEnumNames",
    "tsType",
    "typeof",
    "version",
    "writeOnly",
    "xml",
];

/// Keywords of draft-03 and of OpenAPI 3.0, which no other draft has.
const FOREIGN: [(&str, &str, &str); 4] = [
    ("disallow", "draft-03", "write `not`"),
    ("divisibleBy", "draft-03", "write `multipleOf`"),
    ("extends", "draft-03", "write `allOf`"),
    ("nullable", "OpenAPI 3.0", "write `null` among the types: `type: [string, \"null\"]`"),
];

/// What a word in a schema is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// A keyword of the draft.
    Keyword(Keyword),
    /// A keyword of other drafts: which, and what to do.
    Foreign(&'static str, &'static str),
    /// Nearly a keyword of the draft.
    Misspelt(&'static str),
    /// A well-known annotation, or an extension (`x-…`).
    Annotation,
    Unknown,
}

/// What a word is in a draft.
pub(crate) fn word(draft: Draft, name: &str) -> Word {
    let known = find(name);
    match known {
        Some(keyword) if keyword.is_of(draft) => return Word::Keyword(keyword),
        Some(keyword) => {
            return Word::Foreign(keyword.drafts(), "name one in `$schema`, or write it with the draft's own keywords");
        }
        None => {}
    }
    if let Some((_, draft, help)) = FOREIGN.iter().find(|(foreign, ..)| *foreign == name) {
        return Word::Foreign(draft, help);
    }
    if ANNOTATIONS.contains(&name) || name.starts_with("x-") {
        return Word::Annotation;
    }
    near(draft, name).map_or(Word::Unknown, Word::Misspelt)
}

/// The keyword of a draft that a word is nearly, if it judges.
fn near(draft: Draft, name: &str) -> Option<&'static str> {
    let length = name.len();
    if !(3..=32).contains(&length) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let most = if length < 6 { 1 } else { 2 };
    let judging =
        KEYWORDS.iter().filter(|keyword| keyword.is_of(draft) && (keyword.judges() || keyword.name == "$defs"));
    let distance = |keyword: &Keyword| {
        let known = keyword.name.to_ascii_lowercase();
        let bare = known.trim_start_matches('$');
        // Of a short word, every other one is near.
        let far = known.len() < 4 && lower != known && lower != bare;
        if far || known.len().abs_diff(length) > most {
            return None;
        }
        let distance = strsim::osa_distance(&lower, &known);
        (distance <= most && (lower.chars().next() == bare.chars().next() || distance == 1)).then_some(distance)
    };
    judging.filter_map(|keyword| Some((distance(keyword)?, keyword.name))).min().map(|(_, name)| name)
}

/// A keyword by its name.
pub(crate) fn find(name: &str) -> Option<Keyword> {
    /// Asked for every word of every schema.
    static BY_NAME: LazyLock<HashMap<&str, Keyword, ahash::RandomState>> =
        LazyLock::new(|| KEYWORDS.into_iter().map(|keyword| (keyword.name, keyword)).collect());
    BY_NAME.get(name).copied()
}

/// How people call a draft.
pub(crate) fn draft_name(draft: Draft) -> &'static str {
    match draft {
        Draft4 => "draft-04",
        Draft6 => "draft-06",
        Draft7 => "draft-07",
        Draft201909 => "2019-09",
        _ => "2020-12",
    }
}

impl Keyword {
    pub(crate) fn is_of(self, draft: Draft) -> bool {
        (self.first..=self.last).contains(&draft)
    }

    /// Whether it can make a value invalid.
    pub(crate) fn judges(self) -> bool {
        match self.form {
            Form::Definitions => false,
            Form::Identity => ["$ref", "$dynamicRef", "$recursiveRef"].contains(&self.name),
            _ => !["contentEncoding", "contentMediaType", "contentSchema"].contains(&self.name),
        }
    }

    fn drafts(self) -> &'static str {
        match (self.first, self.last) {
            (Draft4, Draft4) => "draft-04",
            (_, Draft201909) if self.first == Draft4 => "2019-09 and the drafts before it",
            (Draft201909, Draft201909) => "2019-09",
            (Draft6, _) => "draft-06 and later drafts",
            (Draft7, _) => "draft-07 and later drafts",
            (Draft201909, _) => "2019-09 and later drafts",
            _ => "2020-12",
        }
    }
}

/// A step from a keyword to one of its subschemas.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<'v> {
    /// The keyword's value is the schema.
    Itself,
    Index(usize),
    Name(&'v str),
}

/// Visits the subschemas of a schema, each with the keyword and the step below it.
pub(super) fn subschemas<'v>(
    draft: Draft,
    schema: &'v Map<String, Value>,
    mut visit: impl FnMut(&'v str, Step<'v>, &'v Value),
) {
    for (key, value) in schema {
        let Some(keyword) = find(key).filter(|keyword| keyword.is_of(draft)) else { continue };
        match (keyword.form, value) {
            (Form::Schema | Form::SchemaOrSchemas, Value::Object(_) | Value::Bool(_)) => {
                visit(key, Step::Itself, value);
            }
            (Form::Schemas | Form::SchemaOrSchemas, Value::Array(items)) => {
                items.iter().enumerate().for_each(|(index, item)| visit(key, Step::Index(index), item));
            }
            (Form::ByName | Form::Definitions, Value::Object(members)) => {
                let schemas = members.iter().filter(|(_, value)| value.is_object() || value.is_boolean());
                schemas.for_each(|(name, item)| visit(key, Step::Name(name), item));
            }
            _ => {}
        }
    }
}
