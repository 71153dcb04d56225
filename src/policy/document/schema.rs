//! The JSON Schema of the policy file, generated from the document types, so that it cannot drift from them.
//!
//! Types with their own decoding (quantities, and what has a short form) have a hand-written schema here.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::contracts::SoapMap;
use super::openapi::OpenApiMap;
use super::plans::{Class, ClassMap, Quota, QuotaMap, Quotas};
use super::store::{Servers, SeveralServers, Store, StoreMap};
use super::{
    AttributeValues, Audit, AuditMap, ClaimNames, Content, Document, MaskRule, Mode, OpenApi, RequiredValues, Response,
    Sink, SoapContract, Upstream,
};
use super::{Pins, Retries, RetriesMap, RetryCause, UpstreamMap, Watch, WatchMap, Workers};
use crate::policy::share::Share;
use crate::policy::units::{CALENDAR_UNITS, CalendarCount, PERIOD_UNITS, Period, RATE_UNITS, Rate, SIZE_UNITS, Size};
use crate::refusal::Stage;

/// Keywords that a reference to a secret need not satisfy, because its value is not known yet.
const CONSTRAINTS: [&str; 6] = ["type", "enum", "const", "pattern", "minimum", "maximum"];

/// Returns the schema of the policy file (JSON Schema, draft 2020-12).
pub(crate) fn policy() -> Value {
    let generator = SchemaSettings::draft2020_12().with_transform(Refine).into_generator();
    let mut schema = generator.into_root_schema_for::<Document>();
    schema.insert("title".to_owned(), "Bartizan policy".into());
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        let reference = json!({
            "description": "A reference to a secret: `${env:NAME}` or `${file:PATH}`.",
            "type": "string",
            "pattern": "[$][{](env|file):",
        });
        definitions.insert("Reference".to_owned(), reference);
    }
    schema.to_value()
}

/// Adapts a generated schema to the decoder: no `null`, and a reference in place of any number, flag or word.
#[derive(Clone)]
struct Refine;

impl Transform for Refine {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        remove_null(object);
        object.remove("format");
        // A Rust default says only what an absent key decodes to; the policy's own defaults are never empty.
        object
            .retain(|key, value| key != "default" || !(value.is_null() || *value == json!([]) || *value == json!({})));
        let constrained = ["enum", "const", "pattern", "minimum"].iter().any(|key| object.contains_key(*key))
            || object.get("type").is_some_and(|kind| kind == "boolean" || kind == "integer");
        if constrained {
            let inner: Map<String, Value> = CONSTRAINTS.iter().filter_map(|key| object.remove_entry(*key)).collect();
            object.insert("anyOf".to_owned(), json!([inner, {"$ref": "#/$defs/Reference"}]));
        }
    }
}

/// Removes `null`: a key without a value is an error in a policy, not an absent key.
fn remove_null(object: &mut Map<String, Value>) {
    if let Some(Value::Array(kinds)) = object.get("type")
        && let [kind, Value::String(null)] = kinds.as_slice()
        && null == "null"
    {
        let kind = kind.clone();
        object.insert("type".to_owned(), kind);
    }
    if let Some(Value::Array(either)) = object.get("anyOf")
        && let [Value::Object(inner), null] = either.as_slice()
        && *null == json!({"type": "null"})
    {
        let inner = inner.clone();
        object.remove("anyOf");
        object.extend(inner);
    }
}

macro_rules! schema_of {
    ($type:ty, $name:literal, |$generator:ident| $schema:expr) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}

schema_of!(Period, "Period", |_generator| json_schema!({
    "description": "A duration such as `250ms`, `10s`, `1h30m` or `7d`.",
    "type": "string",
    "pattern": period_pattern(),
}));

schema_of!(Size, "Size", |_generator| json_schema!({
    "description": "A size such as `512B`, `64KiB` or `1MiB`.",
    "type": "string",
    "pattern": format!("^[0-9]+({})$", alternatives(&SIZE_UNITS, str::to_owned).join("|")),
}));

schema_of!(Rate, "Rate", |_generator| json_schema!({
    "description": "A rate such as `10/s`, `600/min`, `5000/h` or `100000/day`.",
    "type": "string",
    "pattern": format!("^0*[1-9][0-9]*/({})$", alternatives(&RATE_UNITS, str::to_owned).join("|")),
}));

schema_of!(Share, "Share", |_generator| json_schema!({
    "description": "A share such as `1%` or `0.01%`, with up to four decimals.",
    "type": "string",
    "pattern": "^(0?[0-9]{1,2}([.][0-9]{1,4})?|100([.]0{1,4})?)%$",
}));

schema_of!(CalendarCount, "CalendarCount", |_generator| json_schema!({
    "description": "A number in each hour, day or month of the calendar, such as `100/hour`, `10000/day` or `5000000/month`.",
    "type": "string",
    "pattern": format!("^0*[1-9][0-9]*/({})$", CALENDAR_UNITS.join("|")),
}));

schema_of!(Quota, "Quota", |generator| json_schema!({
    "anyOf": [generator.subschema_for::<CalendarCount>(), generator.subschema_for::<QuotaMap>()],
}));

schema_of!(Quotas, "Quotas", |generator| json_schema!({
    "anyOf": [
        generator.subschema_for::<Quota>(),
        {"type": "array", "items": generator.subschema_for::<Quota>(), "minItems": 1},
    ],
}));

schema_of!(Class, "Class", |generator| json_schema!({
    "anyOf": [generator.subschema_for::<Rate>(), generator.subschema_for::<ClassMap>()],
}));

/// At least one part, in this order of units, and more than nothing in all; or `0s`.
fn period_pattern() -> String {
    let parts = alternatives(&PERIOD_UNITS, |unit| format!("([0-9]+{unit})?")).concat();
    format!("^(0s|(?=.*[1-9])(?=[0-9]){parts})$")
}

fn alternatives(units: &[(&str, u64)], text: fn(&str) -> String) -> Vec<String> {
    units.iter().map(|(unit, _)| text(unit)).collect()
}

schema_of!(ClaimNames, "ClaimNames", |_generator| json_schema!({
    "description": "A claim name or JSON pointer (`/realm_access/roles`), or a list: the first that is present counts.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ],
}));

schema_of!(AttributeValues, "AttributeValues", |_generator| json_schema!({
    "description": "A value, or a list: each of them is the consumer's.",
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
    ],
}));

schema_of!(RequiredValues, "RequiredValues", |_generator| {
    let value = json!({"anyOf": [{"type": "string"}, {"type": "boolean"}, {"type": "integer"}]});
    json_schema!({
        "description": "A value, or a list: the claim must have one of them.",
        "anyOf": [value, {"type": "array", "items": value, "minItems": 1}],
    })
});

schema_of!(Pins, "Pins", |_generator| {
    let pin = json!({"type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$"});
    json_schema!({
        "description": "The SHA-256 of a public key, or a list: one of them must be the server's.",
        "anyOf": [pin, {"type": "array", "items": pin, "minItems": 1}],
    })
});

schema_of!(Workers, "Workers", |_generator| json_schema!({
    "anyOf": [{"type": "string", "enum": ["auto"]}, {"type": "integer", "minimum": 1, "maximum": 1024}],
}));

schema_of!(Store, "Store", |generator| either("Folder of this machine.", &generator.subschema_for::<StoreMap>()));

schema_of!(Servers, "Servers", |generator| either(
    "URL of the only server: `redis://` or, with TLS, `rediss://`.",
    &generator.subschema_for::<SeveralServers>()
));

schema_of!(Retries, "Retries", |generator| json_schema!({
    "anyOf": [
        {"description": "How often.", "type": "integer", "minimum": 1, "maximum": 5},
        generator.subschema_for::<RetriesMap>(),
    ],
}));

schema_of!(RetryCause, "RetryCause", |_generator| json_schema!({
    "anyOf": [
        {"type": "string", "pattern": "^(connect|5[0-9]{2})$"},
        {"type": "integer", "minimum": 500, "maximum": 599},
    ],
}));

schema_of!(Upstream, "Upstream", |generator| either(
    "URL of the only server.",
    &generator.subschema_for::<UpstreamMap>()
));

schema_of!(Watch, "Watch", |generator| either(
    "How often the files are read and compared with what is in force.",
    &generator.subschema_for::<WatchMap>()
));

schema_of!(OpenApi, "OpenApi", |generator| either(
    "File of the description.",
    &generator.subschema_for::<OpenApiMap>()
));

schema_of!(SoapContract, "Soap", |generator| either(
    "WSDL 1.1 file, or XSD 1.0 file for the content of the Body.",
    &generator.subschema_for::<SoapMap>()
));

schema_of!(Audit, "Audit", |generator| json_schema!({
    "description": "The audit records: none, their sinks, or a map with `to`.",
    "anyOf": [
        {"description": "No audit records.", "type": "string", "enum": ["none"]},
        {"type": "array", "items": generator.subschema_for::<Sink>()},
        generator.subschema_for::<AuditMap>(),
    ],
}));

schema_of!(Mode, "Mode", |_generator| {
    let mode = json!({"type": "string", "enum": ["enforce", "report"]});
    let of_stage = |stage: &Stage| {
        let stage = stage.as_str();
        let description = format!("Mode of the `{stage}` stage.");
        (stage.to_owned(), json!({"description": description, "type": "string", "enum": ["enforce", "report"]}))
    };
    let stages: Map<String, Value> = Stage::REPORTABLE.iter().map(of_stage).collect();
    json_schema!({
        "description": "Whether requests are refused: for all stages, or by stage.",
        "anyOf": [mode, {"type": "object", "properties": stages, "additionalProperties": false}],
    })
});

schema_of!(Response, "Response", |generator| {
    let mut schema = Content::json_schema(generator);
    let mut max_size = generator.subschema_for::<Size>();
    max_size.insert("description".to_owned(), "Maximum size of a response that is validated or masked.".into());
    max_size.insert("default".to_owned(), "1MiB".into());
    if let Some(Value::Object(keys)) = schema.get_mut("properties") {
        keys.insert("mode".to_owned(), json!({
            "description": "`block` refuses a response that violates the schema with 502; `report` only records it.",
            "type": "string",
            "enum": ["block", "report"],
            "default": "block",
        }));
        keys.insert("max_size".to_owned(), max_size.to_value());
        let rules = json!({
            "description": "What only some callers see, by its path: a JSON pointer, in which `*` is any element or member.",
            "type": "object",
            "additionalProperties": generator.subschema_for::<MaskRule>(),
        });
        keys.insert("mask".to_owned(), rules);
    }
    schema.insert("description".to_owned(), "What responses must look like: all successful ones, or by status.".into());
    let by_status = json!({"^([1-5][0-9][0-9]|[1-5]XX|default)$": generator.subschema_for::<Content>()});
    schema.insert("patternProperties".to_owned(), by_status);
    schema
});

/// Returns the schema of a value that has a short form, a text.
fn either(short: &str, long: &Schema) -> Schema {
    json_schema!({"anyOf": [{"description": short, "type": "string"}, long]})
}
