//! Forms: which fields they have, and what each may be.

use crate::support::*;

fn multipart(parts: &[(&str, &str)]) -> String {
    let part =
        |(head, value): &(&str, &str)| format!("--b\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n");
    format!("{}--b--\r\n", parts.iter().map(part).collect::<String>())
}

/// F25: a label does not decide whether a field is judged.
#[test]
fn what_the_schema_calls_text_is_judged_as_text() {
    let upstream = upstream().start();
    let schema = r#"{"properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}, "photo": {"type": "string", "maxLength": 5}}}"#;
    let proxy = proxy()
        .before(&upstream)
        .file("form.json", schema)
        .route("POST /x", "public: true, request: { form: form.json, multipart: form.json }")
        .start();
    let mut client = client(&proxy);
    for (parts, status) in [
        (&[("name=name", "abc"), ("name=photo; filename=a.png\r\nContent-Type: image/png", "12345")][..], 200),
        (&[("name=photo; filename=a.png\r\nContent-Type: image/png", "123456")], 422),
        (&[("name=name", "../../etc")], 422),
        (&[("name=name\r\nContent-Type: text/html", "../../etc")], 422),
        (&[("name=name; filename=\"\"", "../../etc")], 422),
        (&[("name=note; name=name", "../../etc")], 400),
        (&[("name=name\r\nContent-Transfer-Encoding: base64", "YWJj")], 400),
        (&[("name=name\r\nContent-Type: text/plain; charset=utf-7", "abc")], 422),
    ] {
        let request = client.request("POST", "/x").header("content-type", "multipart/form-data; boundary=b");
        let answer = request.body(multipart(parts)).send();
        assert_eq!(answer.status, status, "{parts:?} {}", answer.text());
    }
    let request = client.request("POST", "/x").header("content-type", "multipart/form-data; boundary=\"\\b\"");
    request.body(multipart(&[("name=name", "abc")])).send().refused(400, "malformed_body");
    for (form, status) in [("name=abc", 200), ("name=%zz", 400), ("name=ab;c=d", 400)] {
        let request = client.request("POST", "/x").header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(request.body(form).send().status, status, "{form}");
    }
    proxy.done();
}

/// F34, F37: OpenAPI's own example, and the names of an object that are also those of the form.
#[test]
fn objects_in_forms_are_json_unless_a_style_is_given() {
    let upstream = upstream().start();
    let schema = "type: object\n            additionalProperties: { type: string }\n            properties:\n              \
                  name: { type: string }\n              \
                  address: { type: object, required: [name], properties: { name: { type: integer } } }\n              \
                  lines: { type: array, items: { type: object, required: [n] } }\n";
    let body = |media: &str, encoding: &str| {
        format!(
            "      requestBody:\n        content:\n         {media}:\n          schema:\n            {schema}          {encoding}\n"
        )
    };
    let operation = |path: &str, body: &str| format!("  {path}:\n    post:\n      security: []\n{body}");
    let (form, parts) = ("application/x-www-form-urlencoded", "multipart/form-data");
    let document = format!(
        "openapi: 3.0.4\npaths:\n{}{}{}",
        operation("/form", &body(form, "encoding: {}")),
        operation("/parts", &body(parts, "encoding: {}")),
        operation("/deep", &body(form, "encoding: { address: { style: deepObject, explode: true } }")),
    );
    let open = "public: true";
    let proxy = proxy()
        .before(&upstream)
        .file("api.yaml", document)
        .described("api.yaml")
        .route("POST /form", open)
        .route("POST /parts", open)
        .route("POST /deep", open)
        .start();
    let mut client = client(&proxy);
    for (path, text, status) in [
        ("/form", "name=a&address=%7B%22name%22:5%7D&lines=%7B%22n%22:1%7D&lines=%7B%22n%22:2%7D", 200),
        ("/form", "name=a&address=%7B%22name%22:%22b%22%7D", 422),
        ("/form", "name=a&address=b", 422),
        ("/form", "name=a&lines=%7B%7D", 422),
        ("/form", "other=a&name=b", 200),
        ("/deep", "name=a&address%5Bname%5D=5", 200),
        ("/deep", "name=a&address%5Bname%5D=b", 422),
        ("/deep", "name=a&address=%7B%22name%22:5%7D", 422),
    ] {
        let answer = client.request("POST", path).header("content-type", form).body(text).send();
        assert_eq!(answer.status, status, "{path} {text} {}", answer.text());
    }
    for (sent, status) in [
        (&[("name=name", "a"), ("name=address", r#"{"name": 5}"#), ("name=lines", r#"{"n": 1}"#)][..], 200),
        (&[("name=address", r#"{"name": "b"}"#)], 422),
        (&[("name=address\r\nContent-Type: application/json", r#"{"name": 5}"#)], 200),
        (&[("name=address\r\nContent-Type: text/plain", r#"{"name": "b"}"#)], 422),
        (&[("name=lines", r#"{"n": 1}"#), ("name=lines", "{}")], 422),
    ] {
        let request = client.request("POST", "/parts").header("content-type", "multipart/form-data; boundary=b");
        let answer = request.body(multipart(sent)).send();
        assert_eq!(answer.status, status, "{sent:?} {}", answer.text());
    }
    proxy.done();
}

/// F38, F39
#[test]
fn a_query_is_read_as_its_schemas_allow_and_collisions_are_reported() {
    let upstream = upstream().start();
    let parameter = |name: &str, schema: &str| format!("      - {{ name: {name}, in: query, schema: {schema} }}\n");
    let document = format!(
        "openapi: 3.1.0\npaths:\n  /x:\n    get:\n      security: []\n      parameters:\n{}{}{}{}",
        parameter("v", "{ oneOf: [{ type: string, pattern: '^[a-z]+$' }, { type: array, items: { type: integer } }] }"),
        parameter("e", "{ enum: ['1', 3] }"),
        parameter("name", "{ type: string, maxLength: 3 }"),
        parameter(
            "open",
            "{ type: object, properties: { name: { type: integer } }, additionalProperties: { type: integer } }"
        ),
    );
    let policy = proxy()
        .before(&upstream)
        .file("api.yaml", document)
        .described("{ document: api.yaml, strict: true }")
        .route("GET /x", "public: true");
    let folder = tempfile::tempdir().unwrap();
    let checked = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let reported = { checked }.arg("check").arg(policy.write(folder.path())).output().unwrap();
    let reported = String::from_utf8_lossy(&reported.stderr).into_owned() + &String::from_utf8_lossy(&reported.stdout);
    assert!(reported.contains("`name` is also a member of `open`: it is read as the parameter"), "{reported}");
    let proxy = policy.start();
    let mut client = client(&proxy);
    for (query, status) in [
        ("v=abc", 200),
        ("v=1&v=2", 200),
        ("v=1&v=b", 422),
        ("e=1", 200),
        ("e=3", 200),
        ("e=2", 422),
        ("name=abc", 200),
        ("name=abcd", 422),
        ("z=3", 200),
        ("z=x", 422),
        ("z=%zz", 400),
    ] {
        let answer = client.get(&format!("/x?{query}")).send();
        assert_eq!(answer.status, status, "{query} {}", answer.text());
    }
    proxy.done();
}
