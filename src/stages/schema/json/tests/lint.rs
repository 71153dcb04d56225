//! What is written in a schema and not enforced is reported (F24, F30).

use serde_json::{Value, json};

use super::super::lint::Lints;
use super::super::*;

/// `pointer message (help)` of each finding.
fn found(draft: &str, mut schema: Value) -> Vec<String> {
    schema["$schema"] = draft.into();
    let lints = Lints::of(&schema, Draft::from_schema_uri(draft), true);
    let help = |help: &Option<String>| help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    lints.found.iter().map(|lint| format!("{} {}{}", lint.pointer, lint.message, help(&lint.help))).collect()
}

const D4: &str = "http://json-schema.org/draft-04/schema#";
const D7: &str = "http://json-schema.org/draft-07/schema#";
const D2019: &str = "https://json-schema.org/draft/2019-09/schema";
const D2020: &str = "https://json-schema.org/draft/2020-12/schema";

/// F24
#[test]
fn a_keyword_that_nothing_enforces_is_reported_with_the_one_that_is_meant() {
    for (word, meant) in [
        ("requred", "required"),
        ("maxlength", "maxLength"),
        ("patern", "pattern"),
        ("additionalproperties", "additionalProperties"),
        ("Properties", "properties"),
        ("tpye", "type"),
        ("ref", "$ref"),
    ] {
        let reported = found(D7, json!({"type": "object", "properties": {"a": { (word): 1 }}}));
        let expected =
            format!("/properties/a/{word} `{word}` is not a keyword, so it is not checked (did you mean `{meant}`?)");
        assert_eq!(reported, [expected], "{word}");
    }
    for word in ["x-order", "example", "markdownDescription", "title", "note", "units", "displayName"] {
        assert_eq!(found(D7, json!({"type": "object", "properties": {"a": { (word): 1 }}})), [""; 0], "{word}");
    }
}

/// F24
#[test]
fn a_keyword_of_another_draft_is_reported_with_the_drafts_that_have_it() {
    for (draft, keyword, value, drafts) in [
        (D7, "prefixItems", json!([true]), Some("2020-12, but not of draft-07")),
        (D7, "dependentRequired", json!({}), Some("2019-09 and later drafts, but not of draft-07")),
        (D7, "unevaluatedItems", json!(false), Some("2019-09 and later drafts, but not of draft-07")),
        (D4, "const", json!(1), Some("draft-06 and later drafts, but not of draft-04")),
        (D4, "if", json!(true), Some("draft-07 and later drafts, but not of draft-04")),
        (D2020, "additionalItems", json!(false), Some("2019-09 and the drafts before it, but not of 2020-12")),
        (D2020, "$recursiveRef", json!("#"), Some("2019-09, but not of 2020-12")),
        (D2020, "nullable", json!(true), Some("OpenAPI 3.0, but not of 2020-12")),
        (D2020, "divisibleBy", json!(2), Some("draft-03, but not of 2020-12")),
        // It is judged all the same.
        (D2020, "dependencies", json!({"a": ["b"]}), None),
        (D2019, "unevaluatedItems", json!(false), None),
    ] {
        let reported = found(draft, json!({"minLength": 1, (keyword): value}));
        let start = drafts.map(|drafts| format!("/{keyword} `{keyword}` is a keyword of {drafts}: it is not checked"));
        let same = reported.len() == usize::from(start.is_some());
        assert!(same && start.is_none_or(|start| reported[0].starts_with(&start)), "{keyword}: {reported:?}");
    }
}

/// F24
#[test]
fn what_has_no_effect_where_it_stands_is_reported() {
    for (draft, schema, expected) in [
        (
            D7,
            json!({"properties": {"a": {"$ref": "#/definitions/a", "maxLength": 5, "title": "A"}}, "definitions": {"a": {"type": "string"}}}),
            Some("/properties/a/maxLength `maxLength` beside `$ref` is not checked in draft-07"),
        ),
        (D2019, json!({"$ref": "#/$defs/a", "maxLength": 5, "$defs": {"a": {"type": "string"}}}), None),
        (
            D7,
            json!({"type": "string", "minimum": 1}),
            Some("/minimum `minimum` is for numbers, so it has no effect beside `type: string`"),
        ),
        (D7, json!({"type": ["string", "null"], "required": ["a"]}), Some("/required `required` is for objects")),
        (D7, json!({"type": ["string", "integer"], "minimum": 1}), None),
        (D7, json!({"type": "number", "minimum": 1}), None),
        (D7, json!({"minLength": 1, "then": false}), Some("/then `then` has no effect without `if`")),
        (D7, json!({"definitions": {"a": {"type": "string"}}}), Some(" this schema accepts every value")),
        (D7, json!({"title": "Order"}), Some(" this schema accepts every value")),
        (D7, json!({"$ref": "#/definitions/a", "definitions": {"a": {"type": "string"}}}), None),
        // A draft of its own inside.
        (D7, json!({"properties": {"a": {"$schema": D2020, "$id": "urn:a", "prefixItems": [true]}}}), None),
    ] {
        let reported = found(draft, schema.clone());
        let same = reported.len() == usize::from(expected.is_some());
        assert!(same && expected.is_none_or(|start| reported[0].starts_with(start)), "{schema}: {reported:?}");
    }
}

/// F18: a schema that nothing can meet would refuse every request.
#[test]
fn a_schema_that_nothing_can_meet_is_reported() {
    let bounds = |least: &str, most: &str| json!({(least): 5, (most): 5});
    for (schema, expected) in [
        (
            json!({"minimum": 5, "maximum": 4}),
            Some("/minimum no number meets this schema: `minimum` is more than `maximum`"),
        ),
        (bounds("minimum", "maximum"), None),
        (
            bounds("minimum", "exclusiveMaximum"),
            Some("/minimum no number meets this schema: `minimum` is not less than `exclusiveMaximum`"),
        ),
        (
            json!({"type": "string", "minLength": 2, "maxLength": 1}),
            Some("/minLength no string meets this schema: `minLength` is more than `maxLength`"),
        ),
        (bounds("minItems", "maxItems"), None),
        // F40: binary64 takes these for equal.
        (
            json!({"minimum": 9_007_199_254_740_993_u64, "maximum": 9_007_199_254_740_992_u64}),
            Some("/minimum no number meets this schema: `minimum` is more than `maximum`"),
        ),
        (json!({"exclusiveMinimum": 9_007_199_254_740_992_u64, "exclusiveMaximum": 9_007_199_254_740_993_u64}), None),
        (
            json!({"required": ["a", "c"], "properties": {"a": {"type": "string"}}, "additionalProperties": false}),
            Some(
                "/required no object meets this schema: `c` is required, and `additionalProperties: false` does not allow it",
            ),
        ),
        (
            json!({"required": ["c"], "patternProperties": {"^c": {"type": "null"}}, "additionalProperties": false}),
            None,
        ),
        (
            json!({"required": ["a"], "properties": {"a": false}}),
            Some("/required no object meets this schema: `a` is required, and its schema is `false`"),
        ),
        (
            json!({"required": ["a", "b"], "maxProperties": 1}),
            Some("/required no object meets this schema: `required` has more members than `maxProperties` allows"),
        ),
        (
            json!({"type": "integer", "enum": ["1", "2"]}),
            Some("/enum no value meets this schema: no value of `enum` is of `type: integer`"),
        ),
        (json!({"enum": []}), Some("/enum no value meets this schema: `enum` is empty")),
        (json!({"type": ["integer", "null"], "enum": ["1", null]}), None),
        (json!({"type": "number", "const": 1}), None),
        (
            json!({"type": "boolean", "const": "true"}),
            Some("/const no value meets this schema: the value of `const` is not of `type: boolean`"),
        ),
    ] {
        let found = found(D7, schema.clone());
        assert_eq!(found.first().map(String::as_str), expected, "{schema}");
        assert!(found.len() <= 1, "{schema}: {found:?}");
    }
}

/// F30
#[test]
fn a_format_that_is_not_known_is_reported_and_never_an_error() {
    for (format, expected) in [
        ("uuid", None),
        ("int64", None),
        ("password", None),
        ("color", Some("the format `color` is not known, so it is not checked")),
        ("datetime", Some("the format `datetime` is not known, so it is not checked (did you mean `date-time`?)")),
        ("Date-Time", Some("the format `Date-Time` is not known, so it is not checked (did you mean `date-time`?)")),
        ("emial", Some("the format `emial` is not known, so it is not checked (did you mean `email`?)")),
    ] {
        let schema = json!({"type": "string", "format": format});
        assert!(JsonSchema::new(&schema).is_ok(), "{format}");
        let reported = found(D7, schema);
        assert_eq!(
            reported.first().map(String::as_str),
            expected.map(|text| format!("/format {text}")).as_deref(),
            "{format}"
        );
    }
}

/// F24
#[test]
fn findings_are_bounded_and_unknown_words_are_counted() {
    let properties: serde_json::Map<String, Value> =
        (0..5_000).map(|number| (format!("p{number}"), json!({"requred": [], (format!("word{number}")): 1}))).collect();
    let lints = Lints::of(&json!({ "properties": properties }), Draft::Draft7, true);
    assert_eq!((lints.found.len(), lints.more), (20, 4_980));
    assert!(lints.annotations().unwrap().ends_with("more"), "{:?}", lints.annotations());
    let lints = Lints::of(&json!({"type": "string", "units": "m"}), Draft::Draft7, true);
    assert_eq!(lints.annotations().as_deref(), Some("`units` is no keyword, and is taken for an annotation"));
}
