//! Random schemas and values: the verdicts are those of the `jsonschema` crate's own walk.

use jsonschema::json::SerdeJson;
use serde_json::{Map, Value, json};

use super::super::*;
use super::random::Random;
use crate::stages::schema::formats;

/// Drafts by year; the older ones by their number.
const DRAFTS: [(u32, &str); 4] = [
    (2020, "https://json-schema.org/draft/2020-12/schema"),
    (2019, "https://json-schema.org/draft/2019-09/schema"),
    (7, "http://json-schema.org/draft-07/schema#"),
    (6, "http://json-schema.org/draft-06/schema#"),
];
const NAMES: [&str; 4] = ["a", "b", "c", "xa"];

fn value(random: &mut Random, depth: u32) -> Value {
    match random.below(if depth == 0 { 6 } else { 9 }) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(random.below(4)),
        3 => json!(random.below(4) as f64 / 2.0),
        4 | 5 => json!(random.pick(&["a", "b", "ab", "xa", ""])),
        6 => (0..random.below(4)).map(|_| value(random, depth - 1)).collect(),
        _ => {
            let members = (0..random.below(4)).map(|_| (random.pick(&NAMES).to_owned(), value(random, depth - 1)));
            Value::Object(members.collect())
        }
    }
}

fn schema(random: &mut Random, depth: u32, draft: u32) -> Value {
    if depth == 0 || random.below(12) == 0 {
        let simple = [
            json!(true),
            json!(false),
            json!({"$ref": "#/definitions/x"}),
            json!({"type": "string"}),
            json!({"type": "integer"}),
            json!({"type": ["object", "array"]}),
        ];
        return simple[random.below(6) as usize].clone();
    }
    let mut members = Map::new();
    for _ in 0..=random.below(3) {
        let (key, value) = keyword(random, depth, draft);
        members.insert(key.to_owned(), value);
    }
    Value::Object(members)
}

fn keyword(random: &mut Random, depth: u32, draft: u32) -> (&'static str, Value) {
    let keys = [
        "type",
        "enum",
        "const",
        "minimum",
        "maxLength",
        "pattern",
        "required",
        "minItems",
        "uniqueItems",
        "properties",
        "patternProperties",
        "additionalProperties",
        "propertyNames",
        "items",
        "additionalItems",
        "prefixItems",
        "contains",
        "minContains",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "dependencies",
        "unevaluatedProperties",
        "unevaluatedItems",
        "$ref",
    ];
    let types = ["null", "boolean", "integer", "number", "string", "array", "object"];
    let key = random.pick(&keys);
    let below = |random: &mut Random| schema(random, depth - 1, draft);
    let value = match key {
        "type" => json!(random.pick(&types)),
        "enum" => json!([value(random, 1), value(random, 1)]),
        "const" => value(random, 1),
        "minimum" | "maxLength" | "minItems" | "minContains" => json!(random.below(3)),
        "pattern" => json!(random.pick(&["^a", "b$", "x"])),
        "required" => json!([random.pick(&NAMES)]),
        "uniqueItems" => json!(true),
        "properties" => json!({ (random.pick(&NAMES)): below(random), (random.pick(&NAMES)): below(random) }),
        "patternProperties" => json!({"^x": below(random), "a$": below(random)}),
        "items" if draft < 2020 && random.below(2) == 0 => json!([below(random), below(random)]),
        "prefixItems" | "allOf" | "anyOf" | "oneOf" => json!([below(random), below(random)]),
        "dependentSchemas" => json!({"a": below(random)}),
        "dependencies" => json!({"a": below(random), "b": ["c"]}),
        "$ref" => json!(random.pick(&["#/definitions/x", "#/definitions/y"])),
        _ => below(random),
    };
    (key, value)
}

#[test]
fn verdicts_are_those_of_the_crate() {
    let mut random = Random(88_172_645_463_325_252);
    let (mut pairs, mut invalid) = (0, 0);
    for round in 0..1_200 {
        let (draft, uri) = DRAFTS[round % DRAFTS.len()];
        let mut whole = schema(&mut random, 3, draft);
        let definitions = json!({"x": schema(&mut random, 2, draft), "y": schema(&mut random, 2, draft)});
        let Some(members) = whole.as_object_mut().filter(|members| draft >= 2019 || !members.contains_key("$ref"))
        else {
            continue;
        };
        members.insert("$schema".to_owned(), uri.into());
        members.insert("definitions".to_owned(), definitions);
        // In 2019-09, `contains` evaluates no items (core, §9.3.1.3); the crate says otherwise.
        let text = whole.to_string();
        if draft == 2019 && text.contains("contains") && text.contains("unevaluatedItems") {
            continue;
        }
        let theirs = formats::options::<SerdeJson>(Draft::from_schema_uri(uri), &whole).build(&whole);
        let ours = match JsonSchema::new(&whole) {
            Ok(ours) => ours,
            Err(problem) => {
                assert!(theirs.is_err() || problem.message.contains("leads back to itself"), "{problem:?} {whole}");
                continue;
            }
        };
        let theirs = theirs.unwrap();
        for _ in 0..10 {
            let value = value(&mut random, 3);
            let found = ours.violations(&value, "");
            assert_eq!(found.is_empty(), theirs.is_valid(&value), "{whole} {value} {found:?}");
            pairs += 1;
            invalid += u32::from(!found.is_empty());
        }
    }
    assert!(pairs > 6_000 && (pairs / 4..pairs * 3 / 4).contains(&invalid), "{invalid} of {pairs}");
}
