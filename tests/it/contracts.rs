//! Both directions: what answers must be, and what of a request is not its body.

use std::io::Write;

use crate::support::upstream::Call;
use crate::support::*;

const ORDER: &str = r#"{
  "type": "object", "required": ["id"], "additionalProperties": false,
  "properties": {"id": {"type": "integer"}, "note": {"type": "string"}}
}"#;

/// An upstream whose answer the request asks for by its path: `/STATUS/KIND/BODY…`, percent-decoded by nobody.
fn obliging() -> Upstream {
    let answers = |call: &mut Call<'_>| {
        let target = call.head.word(1).to_owned();
        let mut words = target.splitn(4, '/').skip(1);
        let status = words.next().unwrap().parse().unwrap();
        let kind = words.next().unwrap().replace('.', "/");
        let body = match words.next().unwrap() {
            "good" => r#"{"id": 1, "note": "fine"}"#.to_owned(),
            "bad" => r#"{"id": "secret-value"}"#.to_owned(),
            "empty" => String::new(),
            "problem" => r#"{"title": "no"}"#.to_owned(),
            "large" => format!(r#"{{"id": 1, "note": "{}"}}"#, "x".repeat(3000)),
            other => other.to_owned(),
        };
        if kind.ends_with("gzip") {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body.as_bytes()).unwrap();
            let headers = [("content-type", "application/json"), ("content-encoding", "gzip")];
            return call.answer(status, &headers, encoder.finish().unwrap());
        }
        call.answer(status, &[("content-type", &kind), ("etag", "secret-value")], body)
    };
    upstream().does(answers).start()
}

fn answering(upstream: &Upstream, response: &str) -> Proxy {
    proxy()
        .before(upstream)
        .file("order.json", ORDER)
        .file("problem.json", r#"{"required": ["title"]}"#)
        .route("GET /{status}/{kind}/{body}", &format!("public: true, response: {response}"))
        .start()
}

#[test]
fn an_answer_that_keeps_to_its_schema_goes_through_as_it_came() {
    let upstream = obliging();
    let proxy = answering(&upstream, "{ json: order.json, max_size: 1KiB }");
    let mut client = client(&proxy);
    let answer = client.get("/200/application.json/good").send().is(200);
    assert_eq!(answer.text(), r#"{"id": 1, "note": "fine"}"#);
    assert_eq!(answer.header("content-length"), Some("25"));
    let answer = client.get("/200/gzip/good").send().is(200);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    // Statuses that nothing is said of, and answers without a body.
    client.get("/404/text.plain/anything").send().is(404);
    client.get("/204/text.plain/empty").send().is(204);
    client.request("HEAD", "/200/application.json/good").send().is(200);
    assert_eq!(upstream.connections(), 1, "the connection is kept");
    proxy.done();
}

#[test]
fn one_that_does_not_is_502_and_its_violations_are_on_record() {
    let upstream = obliging();
    let proxy = answering(&upstream, "{ json: order.json, max_size: 1KiB }");
    let mut client = client(&proxy);
    for path in
        ["application.json/bad", "gzip/bad", "application.json/broken", "text.html/good", "application.json/large"]
    {
        eprintln!("{path}");
        let answer = client.get(&format!("/200/{path}")).send().refused(502, "invalid_upstream_response");
        assert!(!answer.text().contains("secret-value") && answer.header("etag").is_none(), "{}", answer.text());
        assert!(answer.json().get("errors").is_none());
    }
    let records = proxy.done();
    for record in &records {
        assert_eq!(said(record, "bartizan.stage"), "response");
        assert_eq!(said(record, "http.response.status_code"), 502);
        assert_eq!(said(record, "event.type"), &serde_json::json!(["access", "error"]));
    }
    assert_eq!(said(&records[0], "bartizan.violations")[0]["pointer"], "/id");
    assert_eq!(said(&records[0], "bartizan.violations")[0]["keyword"], "type");
    assert_eq!(said(&records[1], "bartizan.violations")[0]["pointer"], "/id");
}

#[test]
fn one_that_is_only_reported_goes_through() {
    let upstream = obliging();
    let proxy = answering(&upstream, "{ json: order.json, max_size: 1KiB, mode: report }");
    let mut client = client(&proxy);
    let answer = client.get("/200/application.json/bad").send().is(200);
    assert_eq!(answer.text(), r#"{"id": "secret-value"}"#);
    assert_eq!(client.get("/200/application.json/large").send().is(200).text().len(), 3021, "in part from memory");
    assert_eq!(client.get("/200/text.html/x").send().is(200).text(), "x");
    client.get("/200/application.json/good").send().is(200);
    let records = proxy.done();
    let would: Vec<_> = records.iter().map(|record| said(record, "bartizan.would_refuse").to_string()).collect();
    let invalid = r#"["invalid_upstream_response"]"#;
    assert_eq!(would, [invalid, invalid, invalid, "null"]);
    assert_eq!(said(&records[0], "event.outcome"), "success");
    assert_eq!(said(&records[0], "bartizan.violations")[0]["pointer"], "/id");
}

#[test]
fn answers_are_judged_by_status() {
    let upstream = obliging();
    let statuses = "{ 200: { json: order.json }, 4XX: { json: problem.json }, default: { json: order.json } }";
    let proxy = answering(&upstream, statuses);
    let mut client = client(&proxy);
    client.get("/200/application.json/good").send().is(200);
    client.get("/404/application.problem+json/good").send().refused(502, "invalid_upstream_response");
    client.get("/404/application.problem+json/problem").send().is(404);
    client.get("/500/application.json/bad").send().refused(502, "invalid_upstream_response");
    proxy.done();
}

#[test]
fn query_path_headers_and_cookies_have_schemas() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("path.json", r#"{"properties": {"id": {"type": "integer", "minimum": 1}}}"#)
        .file("query.json", r#"{"properties": {"limit": {"type": "integer", "maximum": 100}, "tag": {"type": "array", "items": {"enum": ["a", "b"]}}}}"#)
        .file("headers.json", r#"{"properties": {"X-Mode": {"enum": ["fast", "slow"]}}, "required": ["X-Mode"]}"#)
        .file("cookies.json", r#"{"properties": {"seen": {"type": "boolean"}}}"#)
        .route(
            "GET /orders/{id}",
            "public: true, request: { path: path.json, query: query.json, strict: true, headers: headers.json, cookies: cookies.json }",
        )
        .start();
    let mut client = client(&proxy);
    let target = "/orders/7?limit=5&tag=a&tag=b";
    let answer = client.get(target).header("x-mode", "fast").header("cookie", "a=b; seen=true").send().is(200);
    assert_eq!(answer.json()["target"], target, "the query goes on as it came");
    for (target, mode, cookie, pointer) in [
        ("/orders/x", "fast", "", "/path/id"),
        ("/orders/0", "fast", "", "/path/id"),
        ("/orders/7?limit=101", "fast", "", "/query/limit"),
        ("/orders/7?limit=5&limit=6", "fast", "", "/query/limit"),
        ("/orders/7?tag=c", "fast", "", "/query/tag/0"),
        ("/orders/7?unknown=1", "fast", "", "/query"),
        ("/orders/7", "secret-value", "", "/header/X-Mode"),
        ("/orders/7", "fast", "seen=secret-value", "/cookie/seen"),
    ] {
        let request = client.get(target).header("x-mode", mode).header("cookie", cookie);
        let answer = request.send().refused(422, "schema_violation");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{target}");
        assert!(!answer.text().contains("secret-value"));
    }
    proxy.done();
}

#[test]
fn forms_are_checked_and_go_on_as_they_came() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("form.json", r#"{"required": ["count"], "properties": {"count": {"type": "integer"}, "photo": {"type": "string", "maxLength": 5}}}"#)
        .route("POST /form", "public: true, request: { form: form.json, multipart: form.json }")
        .start();
    let mut client = client(&proxy);
    let form = "application/x-www-form-urlencoded";
    let answer = client.post("/form", "count=%35&x=y").header("content-type", form).send().is(200);
    assert_eq!(answer.json()["body"], "count=%35&x=y");
    client.post("/form", "count=five").header("content-type", form).send().refused(422, "schema_violation");
    let part = |head: &str, body: &str| format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let multipart = "multipart/form-data; boundary=b";
    for (photo, status) in [("12345", 200), ("123456", 422)] {
        let body = format!("{}{}--b--\r\n", part("name=count", "5"), part("name=photo; filename=p", photo));
        client.post("/form", body).header("content-type", multipart).send().is(status);
    }
    client.post("/form", "{}").send().refused(415, "unsupported_media_type");
    proxy.done();
}

#[test]
fn schemas_refer_to_files_beside_them() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("order.json", r#"{"properties": {"line": {"$ref": "parts/line.json"}, "sum": {"$ref": "parts/line.json#/$defs/sum"}}}"#)
        .file("parts/line.json", r#"{"required": ["sku"], "properties": {"sku": {"$ref": "../sku.json"}}, "$defs": {"sum": {"minimum": 1}}}"#)
        .file("sku.json", r#"{"pattern": "^[A-Z]{3}$"}"#)
        .route("POST /orders", "public: true, request: { json: order.json }")
        .start();
    let mut client = client(&proxy);
    client.post("/orders", r#"{"line": {"sku": "ABC"}, "sum": 1}"#).send().is(200);
    for (body, pointer) in
        [(r#"{"line": {}}"#, "/line"), (r#"{"line": {"sku": "abc"}}"#, "/line/sku"), (r#"{"sum": 0}"#, "/sum")]
    {
        let answer = client.post("/orders", body).send().refused(422, "schema_violation");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{body}");
    }
    proxy.done();
}

#[test]
fn large_bodies_are_judged_like_small_ones() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("list.json", r#"{"items": {"type": "integer"}, "uniqueItems": false}"#)
        .route("POST /list", "public: true, request: { json: list.json, max_size: 2MiB }")
        .start();
    let mut client = client(&proxy);
    let many = |last: &str| format!("[{}{last}]", "1234567,".repeat(100_000));
    client.post("/list", many("1")).send().is(200);
    let answer = client.post("/list", many("\"x\"")).send().refused(422, "schema_violation");
    assert_eq!(answer.json()["errors"][0]["pointer"], "/100000");
    client.post("/list", many("")).send().refused(400, "malformed_body");
    proxy.done();
}
