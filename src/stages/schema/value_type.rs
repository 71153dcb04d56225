//! The type of value that a text is read as, according to a schema.

use serde_json::Value;

use super::draft::Draft;
use super::text_encoding::{Decoding, decoded, without_mark};
use crate::stages::strict_json;

/// Most references followed, and deepest nesting of `allOf` and the like, when finding out which types a schema allows.
pub(super) const MAX_DEPTH: usize = 16;

/// The deepest nesting that names with brackets are decoded to.
const MAX_LEVELS: usize = 8;
/// Most parts of one type. Schemas may refer to themselves in many ways, so their number grows with every level.
const MAX_PARTS: usize = 10_000;

/// The types of value that a text is read as: all that the schema allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValueType {
    /// What a text is read as that is neither a list nor an object.
    pub(super) scalars: Scalars,
    /// Whether it may be neither.
    pub(super) plain: bool,
    /// Whether it may be any text, of any length or of some: the schema asks nothing else of it, so it may be a file.
    pub(super) free: bool,
    /// The type of the items, if it may be a list.
    pub(super) list: Option<Box<ValueType>>,
    /// The types of the members, if it may be an object.
    pub(super) object: Option<Members>,
    /// Whether the text of a scalar may contain a comma.
    pub(super) commas: bool,
}

/// The types of an object's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) known: Vec<(Box<str>, ValueType)>,
    others: Box<ValueType>,
    /// Whether the schema says that it has members with other names, too.
    pub(super) open: bool,
    /// Whether a name or a scalar in it may contain a comma.
    pub(super) commas: bool,
}

/// The scalar types that a text may be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scalars {
    text: bool,
    number: bool,
    boolean: bool,
    null: bool,
}

/// Text.
impl Default for ValueType {
    fn default() -> Self {
        Self::TEXT
    }
}

impl ValueType {
    const TEXT: Self = Self {
        scalars: Scalars { text: true, number: false, boolean: false, null: false },
        plain: true,
        free: true,
        list: None,
        object: None,
        commas: true,
    };

    /// The type of a value that is a scalar, a list of scalars, or an object of scalars.
    pub(super) fn flat(schema: &Value, root: &Value) -> Self {
        Self::of(schema, root, 1, &mut MAX_PARTS.clone())
    }

    /// The type of a value that may be nested.
    pub(super) fn nested(schema: &Value, root: &Value) -> Self {
        Self::of(schema, root, MAX_LEVELS, &mut MAX_PARTS.clone())
    }

    /// A text of which not all is known.
    fn unknown() -> Self {
        Self { free: false, ..Self::TEXT }
    }

    fn of(schema: &Value, root: &Value, levels: usize, left: &mut usize) -> Self {
        let Some(fewer) = left.checked_sub(1) else { return Self::unknown() };
        *left = fewer;
        let (mut types, mut parts) = (Vec::new(), Vec::new());
        gather(schema, root, MAX_DEPTH, &mut types, &mut parts);
        let find = |key: &str| parts.iter().find_map(|schema: &&Value| schema.get(key));
        let mut inner = |schema: Option<&Value>| match (schema, levels.checked_sub(1)) {
            (Some(schema), Some(levels)) => Self::of(schema, root, levels, left),
            (Some(_), None) => Self::unknown(),
            (None, _) => Self::default(),
        };
        let list = types.contains(&"array").then(|| Box::new(inner(find("items"))));
        let object = types.contains(&"object").then(|| {
            let properties = parts.iter().filter_map(|schema| schema.get("properties")?.as_object()).flatten();
            let known = properties.map(|(name, schema)| (name.as_str().into(), inner(Some(schema)))).collect();
            let known: Vec<_> = known;
            let others = find("additionalProperties");
            let open = others.map_or(known.is_empty(), |others| *others != Value::Bool(false));
            let has_comma = |(name, member): &(Box<str>, Self)| {
                name.contains(',') || member.commas || member.list.as_ref().is_some_and(|item| item.commas)
            };
            let commas = others != Some(&Value::Bool(false)) || known.iter().any(has_comma);
            Members { known, others: Box::new(inner(others)), open, commas }
        });
        let number = types.contains(&"number") || types.contains(&"integer");
        let (boolean, null) = (types.contains(&"boolean"), types.contains(&"null"));
        let string = types.contains(&"string");
        let text = string || !(number || boolean || null);
        let commas = text && may_contain_comma(schema, root, MAX_DEPTH);
        let plain = string || number || boolean || null || types.is_empty();
        let free = types.iter().all(|name| ["string", "null"].contains(name))
            && parts.iter().all(|part| is_free(part, &OF_FREE_TEXT));
        Self { scalars: Scalars { text, number, boolean, null }, plain, free, list, object, commas }
    }

    /// The type of an object's member.
    pub(super) fn member(&self, name: &str) -> &Self {
        const TEXT: &ValueType = &ValueType::TEXT;
        self.object.as_ref().map_or(TEXT, |members| {
            let known = members.known.iter().find(|(known, _)| **known == *name);
            known.map_or(&members.others, |(_, value_type)| value_type)
        })
    }

    /// Decodes one scalar.
    pub(super) fn scalar(&self, text: &str, decoding: Decoding<'_>) -> Result<Draft, &'static str> {
        let text = decoded(text, decoding.encoding)?;
        let scalars = self.scalars;
        let number = || if text.contains(char::is_whitespace) { None } else { decoding.intake.number(&text) };
        let mut readings = Vec::new();
        match &*text {
            "true" if scalars.boolean => readings.push(Value::Bool(true)),
            "false" if scalars.boolean => readings.push(Value::Bool(false)),
            "" | "null" if scalars.null && !scalars.text => readings.push(Value::Null),
            _ => readings.extend(scalars.number.then(number).flatten().map(Value::Number)),
        }
        let absent = text.is_empty() && scalars.null && scalars.text;
        if scalars.text || readings.is_empty() {
            readings.push(Value::String(text.into_owned()));
        }
        readings.extend(absent.then_some(Value::Null));
        Ok(Draft::one_of(readings.into_iter().map(Draft::Value).collect()))
    }

    /// Decodes an object that is JSON, or a list of such objects; `None` if the text is neither.
    pub(super) fn json_objects(&self, text: &str, decoding: Decoding<'_>) -> Option<Draft> {
        let fits = |value: &Value| match value {
            Value::Object(_) => self.object.is_some(),
            Value::Array(_) => self.list.as_ref().is_some_and(|item| item.object.is_some()),
            _ => false,
        };
        let text = decoded(text, decoding.encoding).ok()?;
        let value = strict_json::parse_in(decoding.intake, without_mark(text.as_bytes())).ok()?;
        fits(&value).then_some(Draft::Value(value))
    }
}

/// Keywords of a text whose length alone matters, beside annotations.
const OF_FREE_TEXT: [&str; 3] = ["type", "minLength", "maxLength"];
/// Keywords of an object that ask nothing of the values of its members, but what `properties` says.
const OF_PLAIN_OBJECT: [&str; 6] =
    ["type", "properties", "additionalProperties", "required", "minProperties", "maxProperties"];

/// Whether an object asks nothing of its members, but what `properties` says.
pub(super) fn is_plain_object(parts: &[&Value]) -> bool {
    let of_members = |part: &&&Value| part.get("properties").is_some() || part.get("additionalProperties").is_some();
    let others = parts.iter().filter(|part| part.get("additionalProperties").is_some_and(Value::is_object)).count();
    // What one part lists is an additional property of another.
    let apart = others == 0 || parts.iter().filter(of_members).count() == 1;
    apart && parts.iter().all(|part| is_free(part, &OF_PLAIN_OBJECT))
}

/// Whether a part of a schema has no keywords but these, annotations, and those that [`gather`] follows.
fn is_free(part: &Value, keywords: &[&str]) -> bool {
    const OTHERS: [&str; 22] = [
        "$anchor",
        "$comment",
        "$defs",
        "$id",
        "$ref",
        "$schema",
        "allOf",
        "anyOf",
        "contentMediaType",
        "default",
        "definitions",
        "deprecated",
        "description",
        "example",
        "examples",
        "externalDocs",
        "nullable",
        "oneOf",
        "readOnly",
        "title",
        "writeOnly",
        "xml",
    ];
    let Some(part) = part.as_object() else { return part.as_bool().unwrap_or_default() };
    part.iter().all(|(key, value)| match key.as_str() {
        "format" => value == "binary",
        "$ref" => value.as_str().is_some_and(|reference| reference == "#" || reference.starts_with("#/")),
        key => keywords.contains(&key) || OTHERS.contains(&key) || key.starts_with("x-"),
    })
}

/// Whether a text that satisfies a schema may contain a comma.
fn may_contain_comma(schema: &Value, root: &Value, depth: usize) -> bool {
    /// Formats whose texts never do.
    const WITHOUT: [&str; 6] = ["date", "date-time", "duration", "ipv4", "ipv6", "uuid"];
    let Some(depth) = depth.checked_sub(1) else { return true };
    let with = |value: &Value| value.as_str().is_some_and(|text| text.contains(','));
    let listed = |key: &str| schema.get(key).and_then(Value::as_array);
    let mut allowed = true;
    allowed &= listed("enum").is_none_or(|values| values.iter().any(with));
    allowed &= schema.get("const").is_none_or(with);
    allowed &= match schema.get("type") {
        Some(Value::String(name)) => name == "string",
        Some(Value::Array(names)) => names.iter().any(|name| name == "string"),
        _ => true,
    };
    allowed &= !schema.get("format").and_then(Value::as_str).is_some_and(|format| WITHOUT.contains(&format));
    let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    let target = pointer.and_then(|pointer| root.pointer(pointer));
    allowed &= target.is_none_or(|target| may_contain_comma(target, root, depth));
    allowed &= listed("allOf").is_none_or(|all| all.iter().all(|one| may_contain_comma(one, root, depth)));
    for key in ["anyOf", "oneOf"] {
        allowed &= listed(key).is_none_or(|any| any.iter().any(|one| may_contain_comma(one, root, depth)));
    }
    allowed
}

/// Collects all types that a schema may allow, and the subschemas that describe lists and objects.
pub(super) fn gather<'s>(
    schema: &'s Value,
    root: &'s Value,
    depth: usize,
    types: &mut Vec<&'s str>,
    parts: &mut Vec<&'s Value>,
) {
    let Some(depth) = depth.checked_sub(1) else {
        // Not a schema: what it says is not known.
        parts.push(&Value::Null);
        return;
    };
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
