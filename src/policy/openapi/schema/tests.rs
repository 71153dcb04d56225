//! Schemas of a description that say what they are called, or which draft they are in.

use serde_json::{Value, json};

use crate::policy::openapi::tests::judge;

const BOTH: (bool, bool) = (true, true);
const NEITHER: (bool, bool) = (false, false);

/// F27: of the schemas with an anchor, a dynamic reference takes the outermost one on the way to it.
#[test]
fn a_dynamic_reference_leads_to_the_outermost_anchor() {
    let components = "components: { \
        list: { $id: 'https://e.example/list', type: array, items: { $dynamicRef: '#item' }, $defs: { any: { $dynamicAnchor: item } } }, \
        texts: { $id: 'https://e.example/texts', $ref: list, $defs: { item: { $dynamicAnchor: item, type: string } } }, \
        numbers: { $id: 'https://e.example/numbers', allOf: [{ $ref: list }], $defs: { item: { $dynamicAnchor: item, type: number } } }, \
        tree: { $id: 'https://e.example/tree', $dynamicAnchor: node, type: object, \
                properties: { data: true, children: { type: array, items: { $dynamicRef: '#node' } } } }, \
        strict: { $id: 'https://e.example/strict', $dynamicAnchor: node, $ref: tree, unevaluatedProperties: false }, \
        pair: { properties: { texts: { $ref: '#/components/texts' }, numbers: { $ref: '#/components/numbers' } } } }";
    let nested = |name: &str| json!({"children": [{"children": [{ name: 1 }]}]});
    for (schema, value, expected) in [
        ("list", json!(["a", 1]), BOTH),
        ("texts", json!(["a"]), BOTH),
        ("texts", json!([1]), NEITHER),
        ("numbers", json!([1]), BOTH),
        ("numbers", json!(["a"]), NEITHER),
        ("pair", json!({"texts": ["a"], "numbers": [1]}), BOTH),
        ("pair", json!({"texts": ["a"], "numbers": ["a"]}), NEITHER),
        ("pair", json!({"texts": [1], "numbers": [1]}), NEITHER),
        ("tree", nested("data"), BOTH),
        ("tree", nested("daat"), BOTH),
        ("strict", nested("data"), BOTH),
        ("strict", nested("daat"), NEITHER),
    ] {
        let reference = format!("{{ $ref: '#/components/{schema}' }}");
        assert_eq!(judge("3.1.0", &reference, components, &value), expected, "{schema} {value}");
        // On a way through another schema.
        let below = format!("{{ properties: {{ a: {reference} }} }}");
        assert_eq!(judge("3.1.0", &below, components, &json!({ "a": value })), expected, "{schema} {value}");
    }
}

/// F27: a schema that names its draft keeps to it, wherever it is.
#[test]
fn a_schema_that_names_another_draft_is_judged_by_it() {
    let components = "components: { \
        row: { $schema: 'http://json-schema.org/draft-07/schema#', type: array, \
               items: [{ type: integer }, { $ref: '#/definitions/name' }, { $ref: '#/components/id' }], additionalItems: false, \
               definitions: { name: { type: string, dependencies: {} } } }, \
        bound: { $schema: 'http://json-schema.org/draft-04/schema#', type: number, minimum: 1, exclusiveMinimum: true }, \
        alias: { $schema: 'http://json-schema.org/draft-07/schema#', $ref: '#/components/id', maxLength: 1 }, \
        named: { $schema: 'https://json-schema.org/draft/2019-09/schema', $id: 'https://e.example/named', $recursiveAnchor: true, \
                 properties: { next: { $recursiveRef: '#' }, id: { $ref: 'id' } }, additionalProperties: false }, \
        id: { $id: 'https://e.example/id', type: string, minLength: 2, nullable: true } }";
    for (schema, value, expected) in [
        ("row", json!([1, "a", "id"]), BOTH),
        ("row", json!([1, 2]), NEITHER),
        ("row", json!([1, "a", "i"]), NEITHER),
        ("row", json!([1, "a", "id", 1]), NEITHER),
        ("bound", json!(2), BOTH),
        ("bound", json!(1), NEITHER),
        ("alias", json!("long"), BOTH),
        ("alias", json!("a"), NEITHER),
        ("named", json!({"next": {"id": "ab"}}), BOTH),
        ("named", json!({"next": {"id": "a"}}), NEITHER),
        ("named", json!({"next": {"other": 1}}), NEITHER),
    ] {
        let reference = format!("{{ $ref: '#/components/{schema}' }}");
        assert_eq!(judge("3.1.0", &reference, components, &value), expected, "{schema} {value}");
        let below = format!("{{ items: {reference} }}");
        assert_eq!(judge("3.1.0", &below, components, &json!([value])), expected, "{schema} {value}");
    }
    let inline =
        "{ properties: { a: { $schema: 'http://json-schema.org/draft-07/schema#', items: [{ type: integer }] } } }";
    let judged = |value: Value| judge("3.1.0", inline, "", &json!({ "a": value }));
    assert_eq!((judged(json!([1, "a"])), judged(json!(["a"]))), (BOTH, NEITHER));
}
