//! Verdicts, problems of schemas, and what a decision may cost.

mod budget;
mod differential;
mod judges;
mod lint;
mod numbers;
pub(in crate::stages::schema) mod random;
mod resources;

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
    let schemas = JsonSchema::definitions_alone(&Arc::new(document), &names).unwrap();
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
    let problem =
        JsonSchema::definitions_alone(&Arc::new(json!({"$defs": {"a": {"type": "strin"}}})), &["a"]).unwrap_err();
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
        json!({"pattern": "(?P<n>a)"}),
        json!({"pattern": "("}),
        json!({"minimum": "1"}),
    ] {
        assert!(JsonSchema::new(&schema).is_err(), "{schema}");
    }
}
