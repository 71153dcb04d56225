//! JSON Schema files as people have them: in several files that refer to each other, by URL too, in any draft; and what
//! they say that nothing enforces.

use std::path::Path;

use crate::support::*;

/// Checks a policy with these files; returns the exit status, and `file:line:column severity message (help)` of each problem.
fn check(top: &str, routes: &str, files: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let policy = format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:1 }}]\n{top}\napis: {{ a: {{ upstream: http://127.0.0.1:2, routes: {{ {routes} }} }} }}\naudit: none\n"
    );
    let inside = folder.path().join("policy");
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write(&inside.join("policy.yaml"), &policy);
    files.iter().for_each(|(name, text)| write(&inside.join(name), text));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"))
        .current_dir(&inside)
        .args(["check", "--format", "json", "policy.yaml"])
        .output()
        .unwrap();
    let reported: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |problem: &Value, key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let line = |problem: &Value| {
        let place = format!("{}:{}:{}", text(problem, "file"), problem["line"], problem["column"]);
        format!("{place} {} {} ({})", text(problem, "severity"), text(problem, "message"), text(problem, "help"))
    };
    (output.status.code(), reported["problems"].as_array().unwrap().iter().map(line).collect())
}

const ROUTE: &str = "POST /o: { public: true, request: { json: schemas/order.json } }";

/// F27
#[test]
fn schemas_are_found_by_id_by_catalog_and_beside_each_other() {
    let upstream = upstream().start();
    let order = r#"{"$id": "https://e.example/s/order.json", "$schema": "http://json-schema.org/draft-07/schema#", "properties": {
        "beside": {"$ref": "line.json"},
        "listed": {"$ref": "https://shared.example/v1/sum#/definitions/Sum<int>"},
        "named": {"$ref": "https://e.example/ids/sku"},
        "meta": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}}"#;
    let proxy = proxy()
        .before(&upstream)
        .with("catalog: { \"https://shared.example/v1/\": vendor/ }")
        .file("schemas/order.json", format!("\u{feff}{order}"))
        .file("schemas/line.json", r#"{"required": ["sku"]}"#)
        .file("vendor/sum.json", r#"{"definitions": {"Sum<int>": {"format": "int64"}}}"#)
        .file("other/sku.json", r#"{"$id": "https://e.example/ids/sku", "maxLength": 3}"#)
        .file(
            "query.yaml",
            "type: object\nproperties: { q: { $ref: 'https://e.example/s/order.json#/properties/named' } }\n",
        )
        .route("POST /o", "public: true, request: { json: schemas/order.json, query: query.yaml, strict: true }")
        .route("POST /sku", "public: true, request: { json: other/sku.json }")
        .start();
    let mut client = client(&proxy);
    client
        .post("/o?q=abc", r#"{"beside": {"sku": 1}, "listed": 1, "named": "abc", "meta": {"type": "null"}}"#)
        .send()
        .is(200);
    for (body, pointer) in [
        (r#"{"beside": {}}"#, "/beside"),
        (r#"{"listed": -9223372036854775809}"#, "/listed"),
        (r#"{"named": "abcd"}"#, "/named"),
        (r#"{"meta": {"type": "nul"}}"#, "/meta/type"),
    ] {
        let answer = client.post("/o", body).send().refused(422, "schema_violation");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    client.post("/o?q=abcd", "{}").send().refused(422, "schema_violation");
    client.post("/o?other=1", "{}").send().refused(422, "schema_violation");
    proxy.done();
}

/// F27
#[test]
fn what_is_not_found_says_what_to_write() {
    let url = r#"{"$id": "https://e.example/s/order.json",
"items": {"$ref": "line.json"}}"#;
    for (top, order, expected) in [
        (
            "",
            url,
            "schemas/order.json:2:19 error this JSON Schema cannot be used: `line.json` is not known: no schema has the `$id` https://e.example/s/line.json, no entry of `catalog` leads to it, and no file beside this one (say where it is: `catalog: { \"https://e.example/s/\": FOLDER/ }` at the policy's top; nothing is fetched)",
        ),
        (
            "catalog: { \"https://e.example/\": other/ }",
            url,
            "schemas/order.json:2:19 error this JSON Schema cannot be used: `line.json` cannot be read: `catalog` leads to `other/s/line.json`, and there is no such file",
        ),
        (
            "",
            r#"{"items": {"$ref": "line.json"}}"#,
            "schemas/order.json:1:20 error this JSON Schema cannot be used: `line.json` leads to `schemas/line.json`, and there is no such file",
        ),
        (
            "",
            r#"{"items": {"$ref": "../../secret.json"}}"#,
            "`../../secret.json` cannot be read: `../secret.json` is outside the folder that files are read from",
        ),
        (
            "",
            r#"{"items": {"$ref": "/etc/passwd"}}"#,
            "`/etc/passwd` cannot be read: `/etc/passwd` is outside the folder that files are read from",
        ),
        ("", r#"{"items": {"$ref": "file:///etc/passwd"}}"#, "`file:///etc/passwd` is not known"),
        ("", r#"{"items": {"$ref": "broken.json"}}"#, "schemas/broken.json:1:2 error not acceptable JSON"),
        (
            "catalog: { \"https://e.example/\": none/ }",
            "{}",
            "policy.yaml:3:34 error there is no folder `none/` (a URL that ends with `/` stands for all that begin with it, and has a folder)",
        ),
        (
            "catalog: { \"https://e.example/a\": other/ }",
            "{}",
            "error there is no file `other/` (a URL has a file; to name a folder, end the URL with `/`)",
        ),
        ("catalog: { schemas: other/x.json }", "{}", "policy.yaml:3:12 error this is not a URL"),
    ] {
        let files = [
            ("schemas/order.json", order),
            ("other/x.json", "{}"),
            ("../secret.json", "{}"),
            ("schemas/broken.json", "{x"),
        ];
        let (code, reported) = check(top, ROUTE, &files);
        assert_eq!(code, Some(2), "{order}: {reported:?}");
        assert!(reported.iter().any(|problem| problem.contains(expected)), "{expected}: {reported:#?}");
        for foreign in ["Adjust configuration", "No base URI", "is not a \"regex\""] {
            assert!(!reported.iter().any(|problem| problem.contains(foreign)), "{reported:?}");
        }
    }
}

/// F27
#[test]
fn a_link_does_not_lead_out_of_the_folder_of_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret.json"), "{}").unwrap();
    let policy = proxy().with("").file("a.json", r#"{"$ref": "link.json"}"#).server("http://127.0.0.1:2");
    let inside = folder.path().join("policy");
    std::fs::create_dir(&inside).unwrap();
    let path = policy.route("POST /o", "public: true, request: { json: a.json }").write(&inside);
    std::os::unix::fs::symlink(folder.path().join("secret.json"), inside.join("link.json")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.arg("check").arg(&path).output().unwrap();
    let reported = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{reported}");
    assert!(reported.contains("`link.json` is outside the folder that files are read from"), "{reported}");
}

/// F24, F30
#[test]
fn what_is_written_and_not_enforced_is_reported_and_strict_makes_it_an_error() {
    let order = "{\"$schema\": \"http://json-schema.org/draft-07/schema#\", \"type\": \"object\",\n\
        \"requred\": [\"a\"],\n\
        \"properties\": {\"a\": {\"$ref\": \"line.json#/definitions/a\", \"maxLength\": 5}, \"b\": {\"type\": \"string\", \"minimum\": 1, \"units\": \"m\"},\n\
        \"c\": {\"format\": \"colour\"}, \"d\": {\"format\": \"uuid\"}}}";
    let files =
        [("schemas/order.json", order), ("schemas/line.json", r#"{"definitions": {"a": {"prefixItems": [true]}}}"#)];
    let expected = [
        ("1:1", "note", "`units` is no keyword, and is taken for an annotation ()"),
        ("2:1", "warning", "`requred` is not a keyword, so it is not checked (did you mean `required`?)"),
        ("3:58", "warning", "`maxLength` beside `$ref` is not checked in draft-07"),
        ("3:99", "warning", "`minimum` is for numbers, so it has no effect beside `type: string`"),
        ("4:7", "warning", "the format `colour` is not known, so it is not checked"),
    ];
    for (top, severity, status) in [("strict: false", "warning", 0), ("strict: true", "error", 2)] {
        let (code, reported) = check(top, ROUTE, &files);
        assert_eq!(code, Some(status), "{reported:#?}");
        let of_order: Vec<&String> =
            reported.iter().filter(|problem| problem.starts_with("schemas/order.json")).collect();
        assert_eq!(of_order.len(), expected.len(), "{reported:#?}");
        for (place, kind, message) in expected {
            let kind = if kind == "warning" { severity } else { kind };
            let start = format!("schemas/order.json:{place} {kind} {message}");
            assert!(of_order.iter().any(|problem| problem.starts_with(&start)), "{start}: {reported:#?}");
        }
        // A file without `$schema` has the draft of the one that refers to it.
        let other = "`prefixItems` is a keyword of 2020-12, but not of draft-07: it is not checked";
        assert!(
            reported.iter().any(|problem| problem.starts_with("schemas/line.json:1:24") && problem.contains(other)),
            "{reported:#?}"
        );
    }
}

/// F24: in descriptions as in schemas.
#[test]
fn a_description_says_what_is_not_enforced_too() {
    let document = |version: &str, schema: &str| {
        format!(
            "openapi: {version}\ninfo: {{ title: t, version: '1' }}\npaths: {{ /o: {{ post: {{ security: [], responses: {{}}, requestBody: {{ content: {{ application/json: {{ schema: {schema} }} }} }} }} }} }}\n"
        )
    };
    for (version, schema, expected) in [
        (
            "3.1.0",
            "{ type: object, requried: [a] }",
            Some("`requried` is not a keyword, so it is not checked (did you mean `required`?)"),
        ),
        (
            "3.1.0",
            "{ type: string, nullable: true }",
            Some("`nullable` is a keyword of OpenAPI 3.0, but not of OpenAPI 3.1: it is not checked"),
        ),
        ("3.0.3", "{ type: string, nullable: true }", None),
        (
            "3.0.3",
            "{ type: string, minimum: 1 }",
            Some("`minimum` is for numbers, so it has no effect beside `type: string`"),
        ),
        (
            "3.1.0",
            "{ type: string, format: datetime }",
            Some("the format `datetime` is not known, so it is not checked (did you mean `date-time`?)"),
        ),
        ("3.1.0", "{ type: integer, format: int64, example: 1, x-order: 2 }", None),
    ] {
        let text = document(version, schema);
        let (_, reported) = check("", "}, openapi: { document: api.yaml, scopes: [] ", &[("api.yaml", &text)]);
        let of_schema: Vec<&String> = reported.iter().filter(|problem| problem.contains(":3:")).collect();
        assert_eq!(of_schema.len(), usize::from(expected.is_some()), "{schema}: {reported:#?}");
        assert!(expected.is_none_or(|expected| of_schema[0].contains(expected)), "{schema}: {reported:#?}");
    }
}

/// F27: descriptions find their files as schemas do.
#[test]
fn a_description_refers_to_schemas_by_url_and_by_anchor() {
    let upstream = upstream().start();
    let description = "openapi: 3.1.0\ninfo: { title: t, version: '1' }\npaths: { /o: { post: { security: [], responses: { 200: {} }, requestBody: { content: { application/json: { schema: { $ref: 'https://shared.example/order.json#order' } } } } } } }\n";
    let proxy = proxy()
        .before(&upstream)
        .with("catalog: { \"https://shared.example/\": vendor/ }")
        .file("api.yaml", description)
        .file("vendor/order.json", r#"{"$id": "https://shared.example/order.json", "$defs": {"o": {"$anchor": "order", "properties": {"sum": {"$ref": "https://shared.example/sum.json"}}}}}"#)
        .file("vendor/sum.json", r#"{"type": "integer", "format": "int64"}"#)
        .described("api.yaml")
        .open("POST /o")
        .start();
    let mut client = client(&proxy);
    client.post("/o", r#"{"sum": 1}"#).send().is(200);
    client.post("/o", r#"{"sum": 1.5}"#).send().refused(422, "schema_violation");
    client.post("/o", r#"{"sum": -9223372036854775809}"#).send().refused(422, "schema_violation");
    proxy.done();
}

/// F27: once, what another file says of a type was not seen, and every text was a text.
#[test]
fn parameters_are_decoded_by_types_in_other_files() {
    let upstream = upstream().start();
    let query = "properties:\n  n: { $ref: 'common/types.json#/definitions/Count%20of' }\n  l: { $ref: 'common/types.json#list' }\n  f: { $ref: 'https://e.example/flag' }\n";
    let types = r##"{"$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"Count of": {"type": "integer", "minimum": 1}, "L": {"$id": "#list", "type": "array", "items": {"$ref": "#/definitions/Count%20of"}}}}"##;
    let proxy = proxy()
        .before(&upstream)
        .with("catalog: { \"https://e.example/\": vendor/ }")
        .file("query.yaml", query)
        .file("common/types.json", types)
        .file("vendor/flag.json", r#"{"type": "boolean"}"#)
        .route("GET /q", "public: true, request: { query: query.yaml }")
        .start();
    let mut client = client(&proxy);
    for good in ["n=5", "l=1", "l=1&l=2", "f=true&n=1"] {
        client.get(&format!("/q?{good}")).send().is(200);
    }
    for bad in ["n=0", "n=x", "l=1&l=x", "f=1"] {
        client.get(&format!("/q?{bad}")).send().refused(422, "schema_violation");
    }
    proxy.done();
}

/// F27: descriptions keep to what their files say of themselves: draft, identifiers, anchors, dynamic references.
#[test]
fn a_schema_file_of_a_description_keeps_to_its_own_draft() {
    let upstream = upstream().start();
    let body = |schema: &str| format!("requestBody: {{ content: {{ application/json: {{ schema: {schema} }} }} }}");
    let operation = |path: &str, inner: &str| {
        format!("  {path}: {{ post: {{ security: [], responses: {{ 200: {{}} }}, {inner} }} }}\n")
    };
    let description = format!(
        "openapi: 3.1.0\ninfo: {{ title: t, version: '1' }}\npaths:\n{}{}{}{}",
        operation("/sum", &body("{ type: object, properties: { sum: { $ref: schemas/sum.json } } }")),
        operation("/tree", &body("{ $ref: schemas/strict.json }")),
        operation("/beside", &body("{ $ref: 'schemas/old.json#/definitions/Name' }")),
        operation(
            "/q",
            "parameters: [{ in: query, name: n, schema: { $ref: 'schemas/old.json#/definitions/Count' } }]"
        ),
    );
    let proxy = proxy()
        .before(&upstream)
        .file("api.yaml", description)
        .file(
            "schemas/sum.json",
            r#"{"$schema": "http://json-schema.org/draft-04/schema#", "id": "https://e.example/sum", "minimum": 0, "exclusiveMinimum": true}"#,
        )
        .file(
            "schemas/strict.json",
            r##"{"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://e.example/strict", "$dynamicAnchor": "node", "$ref": "tree", "unevaluatedProperties": false}"##,
        )
        .file(
            "schemas/tree.json",
            r##"{"$id": "https://e.example/tree", "$dynamicAnchor": "node", "type": "object",
                "properties": {"data": true, "children": {"type": "array", "items": {"$dynamicRef": "#node"}}}}"##,
        )
        .file(
            "schemas/old.json",
            r##"{"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {
                "Name": {"$ref": "#/definitions/Text", "maxLength": 1}, "Text": {"type": "string"}, "Count": {"type": "integer"}}}"##,
        )
        .described("api.yaml")
        .open("POST /sum")
        .open("POST /tree")
        .open("POST /beside")
        .open("POST /q")
        .start();
    let mut client = client(&proxy);
    for (path, good, bad) in [
        ("/sum", r#"{"sum": 1}"#, r#"{"sum": 0}"#),
        ("/tree", r#"{"children": [{"data": 1}]}"#, r#"{"children": [{"daat": 1}]}"#),
        // What is beside `$ref` does not count in draft-07.
        ("/beside", r#""two""#, "2"),
    ] {
        client.post(path, good).send().is(200);
        client.post(path, bad).send().refused(422, "schema_violation");
    }
    client.post("/q?n=5", "").send().is(200);
    client.post("/q?n=x", "").send().refused(422, "schema_violation");
    proxy.done();
}

/// F27: and what is wrong with such a file is said at its place.
#[test]
fn a_schema_file_of_a_description_is_reported_at_its_place() {
    let description = "openapi: 3.1.0\ninfo: { title: t, version: '1' }\npaths: { /o: { post: { security: [], responses: {}, requestBody: { content: { application/json: { schema: { $ref: old.json } } } } } } }\n";
    let old = "{\"$schema\": \"http://json-schema.org/draft-07/schema#\",\n\"requred\": [\"a\"],\n\"items\": {\"$ref\": \"no.json\"}}\n";
    let (code, reported) =
        check("", "}, openapi: { document: api.yaml, scopes: [] ", &[("api.yaml", description), ("old.json", old)]);
    assert_eq!(code, Some(2), "{reported:#?}");
    for expected in [
        "old.json:2:1 warning `requred` is not a keyword",
        "old.json:3:19 error this JSON Schema cannot be used: `no.json` leads to `no.json`, and there is no such file",
    ] {
        assert!(reported.iter().any(|line| line.starts_with(expected)), "{expected}: {reported:#?}");
    }
}
