//! JSON bodies: parses them strictly and validates them against a compiled JSON Schema.
//!
//! The schema is compiled once, with the policy: references resolve only within the document and its files, formats are
//! asserted, and patterns run in linear time. A violation names the location and the constraint, never the value.
//!
//! Most bodies are valid, and most schemas are simple: for those, [`FastPath`] runs first, which builds no tree.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, Retrieve, Uri, ValidationError, ValidationOptions, Validator};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::fast_path::FastPath;
use super::malformed::malformed;
use crate::refusal::{Members, Reason, Refusal, Stage, Violation};
use crate::stages::strict_json;

/// Most violations that one answer lists.
const MAX_VIOLATIONS: usize = 20;
/// Longest detail and longest pointer of one violation, in bytes.
const MAX_DETAIL: usize = 300;

/// A compiled schema.
pub(crate) struct JsonSchema {
    validator: Arc<Validator>,
    /// If present, the validator covers many definitions, and validates a value as the object member with this name.
    name: Option<Box<str>>,
    draft: Draft,
    /// The path of its file, and the files that it may refer to.
    origin: (Arc<str>, Arc<Files>),
    /// Accepts most valid bodies without a tree, if the schema supports it.
    fast_path: Option<FastPath>,
}

impl std::fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JsonSchema({:?})", self.draft)
    }
}

/// Documents that schemas may refer to, by path relative to the policy's directory.
pub(crate) type Files = HashMap<String, Value>;

/// Base URI for resolving paths. It does not exist on any network.
const BASE: &str = "policy:///";
/// Characters of paths that must be encoded in a URI (RFC 3986 §3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Retrieves only documents that have already been read.
struct LoadedFiles(Arc<Files>);

impl Retrieve for LoadedFiles {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        let path = uri.as_str().strip_prefix(BASE).map(|path| percent_decode_str(path).decode_utf8_lossy());
        let known = path.and_then(|path| self.0.get(&*path)).cloned();
        known.ok_or_else(|| "it is not a file in the policy's folder".into())
    }
}

/// A problem in a schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SchemaProblem {
    /// JSON pointer to the location in the schema.
    pub(crate) pointer: String,
    pub(crate) message: String,
}

impl JsonSchema {
    /// Compiles a schema in the draft named by its `$schema`; the default is 2020-12.
    pub(crate) fn new(schema: &Value) -> Result<Self, SchemaProblem> {
        Self::with_files(schema, "", Files::new())
    }

    /// Compiles a schema from the file at `path`, which may refer to the other `files`.
    pub(crate) fn with_files(schema: &Value, path: &str, files: Files) -> Result<Self, SchemaProblem> {
        Self::compile(schema, (path.into(), Arc::new(files)))
    }

    /// Compiles another schema as if it were in the same file as this one.
    pub(crate) fn sibling(&self, schema: &Value) -> Result<Self, SchemaProblem> {
        Self::compile(schema, self.origin.clone())
    }

    fn compile(schema: &Value, origin: (Arc<str>, Arc<Files>)) -> Result<Self, SchemaProblem> {
        let mut options = options().with_retriever(LoadedFiles(Arc::clone(&origin.1)));
        // Without files, references resolve only within the schema itself, as the fast path assumes.
        if !origin.1.is_empty() {
            options = options.with_base_uri(format!("{BASE}{}", utf8_percent_encode(&origin.0, PATH)));
        }
        let validator = options.build(schema).map_err(|error| SchemaProblem::of(&error))?;
        let draft = validator.draft();
        let fast_path = FastPath::new(schema, draft);
        Ok(Self { validator: Arc::new(validator), name: None, draft, origin, fast_path })
    }

    /// Compiles the definitions with these names of a document in JSON Schema 2020-12 (`{"$defs": …}`), all at once, so
    /// that what they share is compiled only once.
    pub(crate) fn definitions(document: &Value, names: &[&str]) -> Result<Vec<Self>, SchemaProblem> {
        let mut whole = document.clone();
        if let Value::Object(whole) = &mut whole {
            let reference = |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/$defs/{name}")}));
            whole.insert("properties".to_owned(), Value::Object(names.iter().map(reference).collect()));
            // With this keyword the crate finds a member's schema by hash; without it, by a linear search.
            whole.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        let validator = options().offline().build(&whole).map_err(|error| SchemaProblem::of(&error))?;
        let (validator, draft) = (Arc::new(validator), Draft::Draft202012);
        let fast_paths = FastPath::of_definitions(&whole, draft, names);
        let origin: (Arc<str>, Arc<Files>) = ("".into(), Arc::default());
        let one = |(name, fast_path): (&&str, Option<FastPath>)| Self {
            validator: Arc::clone(&validator),
            name: Some((*name).into()),
            draft,
            origin: origin.clone(),
            fast_path,
        };
        Ok(names.iter().zip(fast_paths).map(one).collect())
    }

    /// Checks that a body parses and conforms to the schema.
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), Refusal> {
        if self.fast_path.as_ref().is_some_and(|fast_path| fast_path.accepts(body)) {
            return Ok(());
        }
        self.check_slowly(body)
    }

    /// The slow path: builds the tree and reports what is wrong.
    fn check_slowly(&self, body: &[u8]) -> Result<(), Refusal> {
        let value =
            strict_json::parse(body).map_err(|error| malformed(format!("the body is not acceptable JSON: {error}")))?;
        match self.violations(value, "") {
            violations if violations.is_empty() => Ok(()),
            violations => Err(violated("the body", violations)),
        }
    }

    /// Returns the first violations of a value, with `prefix` before their pointers.
    pub(super) fn violations(&self, value: Value, prefix: &str) -> Vec<Violation> {
        let value = match &self.name {
            None => value,
            Some(name) => Value::Object(Map::from_iter([(name.to_string(), value)])),
        };
        if self.validator.is_valid(&value) {
            return Vec::new();
        }
        let errors = self.validator.iter_errors(&value).take(MAX_VIOLATIONS);
        errors
            .map(|error| Violation {
                pointer: format!("{prefix}{}", self.inner(error.instance_path().as_str(), "/")),
                detail: cut(error.masked().to_string()),
                keyword: Some(error.kind().keyword().into()),
                schema: Some(self.inner(error.schema_path().as_str(), "/properties/").into()),
            })
            .collect()
    }

    /// Removes the step to the validated member from a pointer.
    fn inner<'p>(&self, pointer: &'p str, step: &str) -> &'p str {
        let name = self.name.as_deref();
        name.and_then(|name| pointer.strip_prefix(step)?.strip_prefix(name)).unwrap_or(pointer)
    }
}

impl SchemaProblem {
    fn of(error: &ValidationError<'_>) -> Self {
        Self { pointer: error.instance_path().to_string(), message: error.to_string() }
    }
}

/// Options for every schema.
fn options() -> ValidationOptions<'static> {
    jsonschema::options()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex())
}

/// Refuses a message that parses but violates its schema. Pointers contain names chosen by the caller, so their length
/// and number are bounded here.
pub(super) fn violated(what: &str, mut errors: Vec<Violation>) -> Refusal {
    errors.truncate(MAX_VIOLATIONS);
    for violation in &mut errors {
        violation.pointer = cut(std::mem::take(&mut violation.pointer));
    }
    let detail = format!("{what} parses but violates the schema; `errors` lists where and how");
    Refusal::new(Stage::Schema, Reason::SchemaViolation, detail).members(Members { errors, ..Members::default() })
}

/// Why a pattern cannot be kept: it does not parse, or would not run in linear time.
pub(crate) fn pattern_problem(pattern: &str) -> Option<String> {
    let schema = json!({"pattern": pattern});
    options().offline().build(&schema).err().map(|error| cut(error.to_string()))
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn verdicts_name_the_place_and_never_the_value() {
        let schema = JsonSchema::new(&json!({
            "type": "object",
            "required": ["id", "mail"],
            "additionalProperties": false,
            "properties": {
                "id": {"type": "integer", "minimum": 1},
                "mail": {"type": "string", "format": "email"},
                "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}},
            },
        }))
        .unwrap();
        for (body, expected) in [
            (r#"{"id": 1, "mail": "a@b.example"}"#, Ok(())),
            (r#"{"id": 0, "mail": "hunter2"}"#, Err((Reason::SchemaViolation, "/id /mail"))),
            (r#"{"id": 1, "mail": "a@b.example", "tags": ["ok", "NO"]}"#, Err((Reason::SchemaViolation, "/tags/1"))),
            (r#"{"mail": "a@b.example", "hunter2": 1}"#, Err((Reason::SchemaViolation, " "))),
            (r#"{"id": 1, "id": 2, "mail": "a@b.example"}"#, Err((Reason::MalformedBody, ""))),
            ("{", Err((Reason::MalformedBody, ""))),
            ("", Err((Reason::MalformedBody, ""))),
        ] {
            let got = schema.check(body.as_bytes()).map_err(|refusal| {
                let pointers: Vec<_> = refusal.violations().iter().map(|violation| violation.pointer.clone()).collect();
                (refusal.reason(), pointers.join(" "))
            });
            assert_eq!(got, expected.map_err(|(reason, pointers)| (reason, pointers.to_owned())), "{body}");
        }
        let refusal = schema.check(br#"{"id": 7, "mail": "hunter2"}"#).unwrap_err();
        assert!(!refusal.violations()[0].detail.contains("hunter2"), "{refusal:?}");
    }

    #[test]
    fn definitions_are_judged_apart_whatever_they_share() {
        let document = json!({"$defs": {
            "plain": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}, "next": {"$ref": "#/$defs/plain"}}},
            "odd": {"type": "object", "properties": {"plain": {"$ref": "#/$defs/plain"}}, "patternProperties": {"^x": {"type": "string"}}},
            "holds.odd": {"type": "array", "items": {"$ref": "#/$defs/odd"}},
        }});
        let names = ["plain", "odd", "holds.odd"];
        let schemas = JsonSchema::definitions(&document, &names).unwrap();
        // The simple definition has a fast path, in spite of the unsupported ones.
        assert_eq!(schemas.iter().map(|schema| schema.fast_path.is_some()).collect::<Vec<_>>(), [true, false, false]);
        for (name, body, expected) in [
            ("plain", r#"{"id": 1, "next": {"id": 2}}"#, None),
            ("plain", r#"{"id": 1, "next": {}}"#, Some("/next")),
            ("plain", r#"{"id": "1"}"#, Some("/id")),
            ("odd", r#"{"plain": {"id": 1}, "x": "y"}"#, None),
            ("odd", r#"{"plain": {}}"#, Some("/plain")),
            ("odd", r#"{"x": 1}"#, Some("/x")),
            ("odd", "[]", Some("")),
            ("holds.odd", r#"[{"x": "y"}, {"x": 1}]"#, Some("/1/x")),
            ("holds.odd", r#"[{"plain": {"id": 7}}]"#, None),
        ] {
            let position = names.iter().position(|known| *known == name).unwrap();
            let got = schemas[position].check(body.as_bytes()).err();
            let pointer = got.as_ref().map(|refusal| &*refusal.violations()[0].pointer);
            assert_eq!(pointer, expected, "{name} {body}");
            if let Some(refusal) = &got {
                let schema = refusal.violations()[0].schema.as_deref().unwrap();
                assert!(!schema.contains("properties/holds.odd") && !schema.starts_with("/properties/odd"), "{schema}");
            }
        }
        let problem = JsonSchema::definitions(&json!({"$defs": {"a": {"type": "strin"}}}), &["a"]).unwrap_err();
        assert!(problem.pointer.starts_with("/$defs/a"), "{problem:?}");
    }

    #[test]
    fn every_draft_is_known_and_what_cannot_be_kept_is_an_error() {
        for (draft, good) in [
            ("https://json-schema.org/draft/2020-12/schema", true),
            ("https://json-schema.org/draft/2019-09/schema", true),
            ("http://json-schema.org/draft-07/schema#", true),
            ("http://json-schema.org/draft-06/schema#", true),
            ("http://json-schema.org/draft-04/schema#", true),
            ("https://example.com/my-own", false),
        ] {
            let schema = JsonSchema::new(&json!({"$schema": draft, "type": "string", "format": "date-time"}));
            assert_eq!(schema.is_ok(), good, "{draft}: {schema:?}");
            if let Ok(schema) = schema {
                assert!(schema.check(br#""2026-01-01T00:00:00Z""#).is_ok());
                assert!(schema.check(br#""yesterday""#).is_err(), "{draft} asserts formats");
            }
        }
        for schema in [
            json!({"type": "strin"}),
            json!({"$ref": "https://example.com/other.json"}),
            json!({"$ref": "#/$defs/missing"}),
            json!({"pattern": "(a)\\1"}),
            json!({"pattern": "("}),
            json!({"format": "no-such-format"}),
            json!({"minimum": "1"}),
        ] {
            assert!(JsonSchema::new(&schema).is_err(), "{schema}");
        }
    }
}
