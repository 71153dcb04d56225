//! Files are resources of one whole (F26, F27).

use serde_json::{Value, json};

use super::super::*;

/// Files, read as the policy's compiler reads them: what is beside a file is found there, and meta-schemas are built in.
fn documents(files: &[(&str, Value)]) -> Documents {
    let mut documents = Documents::default();
    let ids: Vec<(String, DocumentId)> = files
        .iter()
        .map(|(path, value)| ((*path).to_owned(), documents.add(path, Arc::new(value.clone()), Draft::default())))
        .collect();
    for (path, id) in &ids {
        for wanted in documents.outline(*id).wanted {
            let beside = wanted.beside().into_iter().map(|beside| uri::resolve(&uri::of_file(path), &beside));
            let paths = wanted.file().into_iter().chain(beside.filter_map(|beside| uri::file_of(&beside)));
            let found = paths.flat_map(|path| ids.iter().find(|(known, _)| *known == path)).map(|(_, id)| *id).next();
            if let Some(target) = found {
                documents.locate(*id, &wanted.uri, target);
            }
        }
    }
    documents.add_all_built_in();
    documents
}

fn first(files: &[(&str, Value)]) -> Result<JsonSchema, SchemaProblem> {
    let (mut schemas, problems) =
        JsonSchema::all(&documents(files), &[Root { document: 0, closed: false }], &mut Shared::default());
    problems.into_iter().next().map_or_else(|| Ok(schemas.pop().flatten().unwrap()), Err)
}

#[track_caller]
fn judges(files: &[(&str, Value)], verdicts: &[(Value, bool)]) {
    let schema = first(files).unwrap_or_else(|problem| panic!("{files:?}: {problem:?}"));
    for (value, valid) in verdicts {
        let found = schema.violations(value, "");
        assert_eq!(found.is_empty(), *valid, "{files:?} {value}: {found:?}");
    }
}

/// F27
#[test]
fn a_reference_finds_a_file_by_its_id_or_beside() {
    let text = json!({"type": "string"});
    let a = |id: &str, reference: &str| json!({"$id": id, "properties": {"x": {"$ref": reference}}});
    for files in [
        vec![("s/a.json", a("https://e.example/s.json", "b.json")), ("s/b.json", text.clone())],
        vec![
            ("s/a.json", a("https://e.example/s.json", "b.json")),
            ("s/b.json", json!({"$id": "https://e.example/b.json", "type": "string"})),
        ],
        vec![("s/a.json", a("https://e.example/x/s.json", "https://e.example/y/b.json")), ("y/b.json", text.clone())],
        vec![
            ("s/a.json", a("https://e.example/x/s.json", "urn:example:b")),
            ("z.json", json!({"$id": "urn:example:b", "type": "string"})),
        ],
        vec![("s/a.json", a("urn:example:a", "b.json")), ("s/b.json", text.clone())],
        vec![("s/a.json", json!({"properties": {"x": {"$ref": "..\\t\\a%20b.json"}}})), ("t/a b.json", text.clone())],
        vec![(
            "a.json",
            json!({"properties": {"x": {"$ref": "#/definitions/A<B>"}}, "definitions": {"A<B>": {"type": "string"}}}),
        )],
        vec![(
            "a.json",
            json!({"properties": {"x": {"$ref": "#/definitions/A%3CB%3E"}}, "definitions": {"A<B>": {"type": "string"}}}),
        )],
        vec![
            ("a.json", json!({"properties": {"x": {"$ref": "b.json#text"}}})),
            ("b.json", json!({"$defs": {"t": {"$anchor": "text", "type": "string"}}})),
        ],
        vec![
            ("a.json", json!({"properties": {"x": {"$ref": "b.json#/components/schemas/T"}}})),
            (
                "b.json",
                json!({"components": {"schemas": {"T": {"$ref": "#/components/schemas/U"}, "U": {"type": "string"}}}}),
            ),
        ],
    ] {
        let good = vec![(json!({"x": "a"}), true), (json!({"x": 1}), false)];
        judges(&files, &good);
    }
}

/// F27
#[test]
fn each_file_is_judged_by_its_own_draft() {
    let old = json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}], "additionalItems": false});
    let oldest = json!({"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "minimum": 1, "exclusiveMinimum": true});
    let verdicts = [
        (json!([["a"], 2]), true),
        (json!([["a", "b"], 2]), false),
        (json!([[1], 2]), false),
        (json!([["a"], 1]), false),
    ];
    let list = json!([{"$ref": "old.json"}, {"$ref": "oldest.json"}]);
    judges(
        &[("a.json", json!({"prefixItems": list})), ("old.json", old.clone()), ("oldest.json", oldest.clone())],
        &verdicts,
    );
    // And so is each that is bundled into a file.
    let bundled = |mut schema: Value, key: &str, id: &str| {
        schema[key] = id.into();
        schema
    };
    let bundle = json!({"prefixItems": list, "$defs": {
        "old": bundled(old, "$id", "old.json"), "oldest": bundled(oldest, "id", "oldest.json")}});
    judges(&[("a.json", bundle)], &verdicts);
    let problem = first(&[(
        "a.json",
        json!({"$defs": {"old": {"$schema": "http://json-schema.org/draft-07/schema#",
        "$id": "b", "prefixItems": [], "required": "a"}}}),
    )]);
    assert_eq!(problem.unwrap_err().pointer, "/$defs/old/required");
    // A dialect of one's own is what it is written in, and so are OpenAPI's.
    let own = json!({"$schema": "https://json-schema.org/draft/2019-09/schema", "$id": "https://e.example/own"});
    for dialect in ["https://e.example/own", "https://spec.openapis.org/oas/3.1/dialect/base"] {
        let schema = json!({"$schema": dialect, "dependentRequired": {"a": ["b"]}});
        judges(
            &[("a.json", schema), ("own.json", own.clone())],
            &[(json!({"a": 1, "b": 1}), true), (json!({"a": 1}), false)],
        );
    }
    let problem = first(&[("a.json", json!({"$schema": "https://e.example/none"}))]).unwrap_err();
    assert!(problem.help.unwrap().contains("catalog: { \"https://e.example/\": FOLDER/ }"));
}

/// F27
#[test]
fn meta_schemas_of_all_drafts_and_of_openapi_are_built_in() {
    for (reference, good, bad) in [
        ("http://json-schema.org/draft-04/schema#", json!({"required": ["a"]}), json!({"required": []})),
        ("http://json-schema.org/draft-06/schema#", json!({"const": 1}), json!({"minLength": -1})),
        ("http://json-schema.org/draft-07/schema", json!({"if": true}), json!({"type": "strin"})),
        ("https://json-schema.org/draft-07/schema#", json!({"if": true}), json!({"type": "strin"})),
        (
            "https://json-schema.org/draft/2019-09/schema",
            json!({"properties": {"a": {"type": "null"}}}),
            json!({"properties": {"a": {"type": "nul"}}}),
        ),
        (
            "https://json-schema.org/draft/2020-12/schema",
            json!({"properties": {"a": {"type": "null"}}}),
            json!({"properties": {"a": {"type": "nul"}}}),
        ),
        ("http://json-schema.org/draft-07/schema#/definitions/nonNegativeInteger", json!(1), json!(-1)),
        (
            "https://spec.openapis.org/oas/3.1/dialect/base",
            json!({"discriminator": {"propertyName": "a"}}),
            json!({"discriminator": {}}),
        ),
        (
            "https://spec.openapis.org/oas/3.1/dialect/2024-10-25",
            json!({"discriminator": {"propertyName": "a"}}),
            json!({"discriminator": {}}),
        ),
        (
            "https://spec.openapis.org/oas/3.2/dialect/2025-09-17",
            json!({"discriminator": {"propertyName": "a"}}),
            json!({"discriminator": {"mapping": {"a": 1}}}),
        ),
        (
            "https://spec.openapis.org/oas/3.0/schema/2021-09-28",
            json!({"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": {}}),
            json!({"openapi": "3.1.0"}),
        ),
        (
            "https://spec.openapis.org/oas/3.1/schema/2022-10-07",
            json!({"openapi": "3.1.0", "info": {"title": "", "version": ""}, "paths": {}}),
            json!({"openapi": "3.1.0"}),
        ),
    ] {
        for dialect in [
            "http://json-schema.org/draft-07/schema#",
            "https://json-schema.org/draft/2020-12/schema",
            "https://spec.openapis.org/oas/3.2/dialect/2025-09-17",
        ] {
            let schema = json!({"$schema": dialect, "allOf": [{"$ref": reference}]});
            let schema = JsonSchema::new(&schema).unwrap_or_else(|problem| panic!("{reference}: {problem:?}"));
            assert!(schema.violations(&good, "").is_empty(), "{reference} {good}");
            assert!(!schema.violations(&bad, "").is_empty(), "{reference} {bad}");
        }
    }
}

/// F26: once compiled anew along every path.
#[test]
fn files_that_all_refer_to_each_other_are_compiled_once() {
    let file = |number: usize| {
        let properties: serde_json::Map<String, Value> =
            (0..60).map(|other| (format!("p{other}"), json!({"$ref": format!("f{other}.json")}))).collect();
        (format!("f{number}.json"), json!({"type": "object", "properties": properties, "title": number.to_string()}))
    };
    let files: Vec<(String, Value)> = (0..60).map(file).collect();
    let files: Vec<(&str, Value)> = files.iter().map(|(path, value)| (path.as_str(), value.clone())).collect();
    let documents = documents(&files);
    let roots: Vec<Root> = (0..files.len()).map(|document| Root { document, closed: false }).collect();
    let (schemas, problems) = JsonSchema::all(&documents, &roots, &mut Shared::default());
    assert_eq!(problems, []);
    let graph = &schemas[0].as_ref().unwrap().graph;
    assert_eq!(graph.nodes.len(), files.len(), "one node for each file, however many refer to it");
    assert!(schemas.iter().flatten().all(|schema| Arc::ptr_eq(&schema.graph, graph)));
    let schema = schemas[7].as_ref().unwrap();
    let found = schema.violations(&json!({"p1": {"p2": 5}}), "");
    assert_eq!((found[0].pointer.as_str(), found[0].schema.as_deref()), ("/p1/p2", Some("f2.json#/type")));
}

/// The dynamic scope is part of what is compiled only where it matters.
#[test]
fn dynamic_references_take_the_outermost_anchor_in_any_file() {
    let tree = json!({
        "$id": "https://e.example/tree", "$dynamicAnchor": "node", "type": "object",
        "properties": {"data": true, "children": {"type": "array", "items": {"$dynamicRef": "#node"}}},
    });
    let strict = json!({"$id": "https://e.example/strict", "$dynamicAnchor": "node", "$ref": "tree", "unevaluatedProperties": false});
    judges(
        &[("strict", strict), ("tree", tree)],
        &[
            (json!({"children": [{"data": 1}]}), true),
            (json!({"children": [{"daat": 1}]}), false),
            (json!({"daat": 1}), false),
        ],
    );
}

/// F27
#[test]
fn a_reference_that_leads_nowhere_says_what_to_write() {
    for (files, pointer, message, help) in [
        (
            vec![("a.json", json!({"$id": "https://e.example/s/a.json", "items": {"$ref": "b.json#/x"}}))],
            "/items/$ref",
            "`b.json#/x` is not known: no schema has the `$id` https://e.example/s/b.json",
            "say where it is: `catalog: { \"https://e.example/s/\": FOLDER/ }` at the policy's top; nothing is fetched",
        ),
        (
            vec![("a.json", json!({"items": {"$ref": "urn:example:b"}}))],
            "/items/$ref",
            "`urn:example:b` is not known",
            "say where it is: `catalog: { \"urn:example:b\": FILE }` at the policy's top; nothing is fetched",
        ),
        (
            vec![("s/a.json", json!({"items": {"$ref": "b.json"}}))],
            "/items/$ref",
            "`b.json` leads to `s/b.json`, and there is no such file",
            "a path is relative to the file that has the reference; it stays in the policy's folder",
        ),
        (
            vec![("a.json", json!({"$ref": "#/$defs/b"}))],
            "/$ref",
            "`#/$defs/b` leads nowhere: this file has no `#/$defs/b`",
            "correct the part after `#`",
        ),
        (
            vec![("a.json", json!({"$ref": "b.json#b"})), ("b.json", json!({"$anchor": "c"}))],
            "/$ref",
            "`b.json#b` leads nowhere: `b.json` has no `#b`",
            "correct the part after `#`",
        ),
        (
            vec![
                ("a.json", json!({"$ref": "https://e.example/b"})),
                ("b.json", json!({"$id": "https://e.example/b"})),
                ("c.json", json!({"$id": "https://e.example/b", "type": "string"})),
            ],
            "/$ref",
            "`b.json` and `c.json` both have the `$id` https://e.example/b",
            "say where it is: `catalog: { \"https://e.example/\": FOLDER/ }` at the policy's top; nothing is fetched",
        ),
    ] {
        let problem = first(&files).unwrap_err();
        let SchemaProblem { file, pointer: at, message: reported, help: helped } = problem;
        assert_eq!((&*file, at.as_str(), helped.as_deref()), (files[0].0, pointer, Some(help)), "{reported}");
        assert!(reported.starts_with(message), "{reported}");
    }
}
