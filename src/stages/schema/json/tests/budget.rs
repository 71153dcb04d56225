//! A decision costs no more than its budget, whatever way the schema branches and whatever is sent (S1).

use serde_json::{Map, Value, json};

use super::super::*;

/// `Resource` is one of twelve types, each of which contains resources: the shape of FHIR.
fn resources() -> JsonSchema {
    let types: Vec<Value> = (0..12).map(|number| json!({"$ref": format!("#/$defs/T{number}")})).collect();
    let one = |number: u32| {
        let schema = json!({
            "type": "object",
            "properties": {
                "resourceType": {"const": format!("T{number}")},
                "contained": {"type": "array", "items": {"$ref": "#/$defs/Resource"}},
            },
            "required": ["resourceType"],
            "additionalProperties": false,
        });
        (format!("T{number}"), schema)
    };
    let mut definitions: Map<String, Value> = (0..12).map(one).collect();
    definitions.insert("Resource".to_owned(), json!({"oneOf": types}));
    JsonSchema::new(&json!({"$defs": definitions, "$ref": "#/$defs/Resource"})).unwrap()
}

fn contained(levels: u32, innermost: &str) -> Value {
    let innermost = json!({"resourceType": innermost});
    (0..levels).fold(innermost, |inner, _| json!({"resourceType": "T11", "contained": [inner]}))
}

fn steps(schema: &JsonSchema, value: &Value) -> Option<u64> {
    let most = (0..=24).map(|power| 1 << power);
    let within =
        |steps: &u64| Evaluation::new(&schema.graph, &[], Steps::new(*steps)).valid(schema.root, value).is_ok();
    most.into_iter().find(within)
}

#[test]
fn branches_that_lead_back_to_themselves_are_judged_once() {
    let schema = resources();
    assert!(schema.violations(&contained(20, "T3"), "").is_empty());
    // Not exponential: twice as deep takes about twice the steps.
    let (ten, twenty) = (steps(&schema, &contained(10, "T3")).unwrap(), steps(&schema, &contained(20, "T3")).unwrap());
    assert!(twenty <= 4 * ten && twenty <= 8192, "{ten} {twenty}");
    let found = schema.violations(&contained(20, "none"), "");
    assert!(!found.is_empty() && found.iter().all(|one| !one.detail.contains("too complex")), "{found:?}");
}

#[test]
fn every_way_to_branch_is_bounded() {
    let nested = |inner: Value| json!({"allOf": [inner], "anyOf": [{"properties": {"a": true}}], "unevaluatedProperties": false});
    let chain = |keyword: &str| {
        let link = |number: u32| {
            let next = json!({"$ref": format!("#/$defs/d{}", number + 1)});
            (format!("d{number}"), json!({ (keyword): [next, next] }))
        };
        let mut definitions: Map<String, Value> = (0..40).map(link).collect();
        definitions.insert("d40".to_owned(), json!({"type": "string"}));
        json!({"$defs": definitions, "$ref": "#/$defs/d0"})
    };
    let recursive = |keywords: Value| json!({"$defs": {"n": keywords}, "$ref": "#/$defs/n"});
    let n = json!({"type": "array", "items": {"$ref": "#/$defs/n"}});
    let lists = |innermost: Value| (0..60).fold(innermost, |inner, _| json!([inner]));
    for (name, schema, value, valid) in [
        ("anyOf, valid", recursive(json!({"anyOf": [n, n, {"type": "string"}]})), lists(json!("x")), true),
        ("anyOf, invalid", recursive(json!({"anyOf": [n, n, {"type": "string"}]})), lists(json!(1)), false),
        ("oneOf", recursive(json!({"oneOf": [n, {"type": "string"}]})), lists(json!("x")), true),
        ("not", recursive(json!({"not": {"not": {"anyOf": [n, n, {"type": "string"}]}}})), lists(json!("x")), true),
        (
            "if",
            recursive(
                json!({"if": {"type": "array", "items": {"$ref": "#/$defs/n"}}, "then": n, "else": {"type": "string"}}),
            ),
            lists(json!("x")),
            true,
        ),
        (
            "unevaluatedItems",
            recursive(json!({"allOf": [{"anyOf": [n, n, {"type": "string"}]}], "unevaluatedItems": false})),
            lists(json!("x")),
            true,
        ),
        (
            "nested unevaluatedProperties",
            (0..30).fold(json!({"type": "object"}), |inner, _| nested(inner)),
            json!({"a": 1}),
            true,
        ),
        ("many ways to one schema, anyOf", chain("anyOf"), json!(1), false),
        ("many ways to one schema, allOf", chain("allOf"), json!("x"), true),
    ] {
        let schema = JsonSchema::new(&schema).unwrap();
        let found = schema.violations(&value, "");
        assert_eq!(found.is_empty(), valid, "{name}: {found:?}");
        assert!(found.iter().all(|one| !one.detail.contains("too complex")), "{name}: {found:?}");
        assert!(steps(&schema, &value).is_some_and(|steps| steps <= 16_384), "{name}");
    }
}

#[test]
fn what_costs_too_much_is_refused_and_not_judged() {
    let numbers = |count: u32| Value::Array((0..count).map(|number| json!(f64::from(number) + 0.5)).collect());
    for (name, schema, value) in [
        ("many values", json!({"items": {"anyOf": [{"type": "string"}, {"type": "number"}]}}), numbers(300_000)),
        ("fractions", json!({"items": {"multipleOf": 0.01}}), numbers(200_000)),
        (
            "patterns that are large",
            json!({"pattern": "(?:\\p{L}{20}|\\w{30}|.{40}){4}Q"}),
            json!("ab".repeat(1 << 20)),
        ),
        ("long patterns to compile", json!({"format": "regex"}), json!("(".repeat(1 << 20))),
        ("patterns that go back", json!({"pattern": "^(a+)+\\1b$"}), json!("a".repeat(1000))),
        ("long lists of values", json!({"items": {"enum": (0..10_000).collect::<Vec<_>>()}}), (0..2_000).collect()),
    ] {
        let schema = JsonSchema::new(&schema).unwrap();
        let found = schema.violations(&value, "");
        assert!(found.len() == 1 && found[0].detail.starts_with("too complex to judge"), "{name}: {found:?}");
    }
}

#[test]
fn what_takes_long_is_left_to_another_thread() {
    let schema = JsonSchema::new(&json!({"items": {"contains": true, "anyOf": [{"minimum": 5}, {"type": "integer"}]}}));
    let schema = schema.unwrap();
    let body = |count: usize| format!("[{}1]", "1,".repeat(count));
    assert!(schema.check_at_once(body(1_000).as_bytes()).is_some_and(|checked| checked.is_ok()));
    assert!(schema.check_at_once(body(20_000).as_bytes()).is_none());
    assert!(schema.check(body(20_000).as_bytes()).is_ok());
}

#[test]
fn a_tree_that_takes_too_much_memory_is_not_built() {
    let schema = JsonSchema::new(&json!({"not": {"type": "string"}})).unwrap();
    // Ten bytes of text make an object of some 600 bytes.
    let body = |count: usize| format!("[{}1]", r#"{"a":1},"#.repeat(count));
    assert!(schema.check(body(10_000).as_bytes()).is_ok());
    let refusal = schema.check(body(200_000).as_bytes()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::SchemaViolation);
    assert!(refusal.violations()[0].detail.starts_with("too complex to judge"), "{refusal:?}");
}

#[test]
fn a_schema_that_leads_back_to_itself_for_one_value_is_a_problem() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "items": {"$ref": "#/$defs/a"}}),
        json!({"$defs": {"a": {"not": {"$ref": "#/$defs/b"}}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        json!({"dependentSchemas": {"x": {"$ref": "#"}}}),
    ] {
        let problem = JsonSchema::new(&schema).unwrap_err();
        assert!(problem.message.contains("leads back to itself"), "{schema}: {problem:?}");
    }
    assert!(JsonSchema::new(&json!({"properties": {"next": {"$ref": "#"}}})).is_ok());
}

#[test]
fn long_chains_of_schemas_do_not_exhaust_the_stack() {
    let chain = |length: u32| {
        let link = |number: u32| {
            (format!("d{number}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", number + 1)}, true]}))
        };
        let mut definitions: Map<String, Value> = (0..length).map(link).collect();
        definitions.insert(format!("d{length}"), json!({"type": "integer"}));
        JsonSchema::new(&json!({"$defs": definitions, "$ref": "#/$defs/d0"})).unwrap()
    };
    assert!(chain(500).violations(&json!(1), "").is_empty());
    assert!(!chain(500).violations(&json!("x"), "").is_empty());
    let found = chain(100_000).violations(&json!(1), "");
    assert!(found.len() == 1 && found[0].detail.starts_with("too complex to judge"), "{found:?}");
}
