//! With what body.

use std::io::Write;

use crate::support::*;

const SCHEMA: &str = r#"{
  "type": "object", "required": ["sku", "count"], "additionalProperties": false,
  "properties": {
    "sku": {"type": "string", "pattern": "^[A-Z]{3}$"},
    "count": {"type": "integer", "minimum": 1},
    "lines": {"type": "array", "items": {"type": "object", "required": ["id"]}},
    "deep": {}
  }
}"#;

fn checked(upstream: &Upstream) -> Proxy {
    proxy()
        .before(upstream)
        .file("order.json", SCHEMA)
        .route("POST /orders", "public: true, request: { json: order.json, max_size: 1KiB }")
        .route("POST /any", "public: true, request: { max_size: 1KiB }")
        .start()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn the_very_bytes_that_were_checked_go_on() {
    let upstream = upstream().start();
    let proxy = checked(&upstream);
    let body = " {\n \"count\" :1.0e0,\t\"sku\":\"\\u0041BC\" } ";
    let answer = client(&proxy).post("/orders", body).send().is(200);
    assert_eq!(answer.json()["body"], body);
    assert_eq!(answer.echoed("content-length"), [body.len().to_string()]);
    assert_eq!(answer.echoed("content-type"), ["application/json"]);
    let records = proxy.done();
    assert_eq!(said(&records[0], "http.request.body.bytes"), body.len());
}

#[test]
fn violations_are_listed_with_their_pointers() {
    let upstream = upstream().start();
    let proxy = checked(&upstream);
    let body = r#"{"sku": "secret-value", "count": 0, "lines": [{"id": 1}, {}], "extra": true}"#;
    let answer = client(&proxy).post("/orders", body).send().refused(422, "schema_violation");
    let problem = answer.json();
    let mut pointers: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["", "/count", "/lines/1", "/sku"]);
    assert!(!answer.text().contains("secret-value"), "values are not told back");
    upstream.saw_nothing();
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.stage"), "schema");
    assert_eq!(said(&records[0], "bartizan.violations").as_array().unwrap().len(), 4);
    assert!(!Value::from(records).to_string().contains("secret-value"));
}

#[test]
fn bodies_that_do_not_parse_are_400() {
    let upstream = upstream().start();
    let proxy = checked(&upstream);
    let deep = format!("{{\"sku\":\"ABC\",\"count\":1,\"deep\":{}1{}}}", "[".repeat(64), "]".repeat(64));
    let mut client = client(&proxy);
    for body in [
        "",
        "{",
        "{\"sku\":\"ABC\",\"count\":1} trailing",
        "{\"sku\":\"ABC\",\"count\":1,\"count\":2}",
        "{\"sku\":\"ABC\",\"count\":1,\"\\u0063ount\":2}",
        "{\"sku\":\"ABC\",\"count\":1,\"deep\":{\"a\":{\"b\":1,\"b\":1}}}",
        "{'sku':'ABC'}",
        "{\"sku\":\"ABC\",\"count\":NaN}",
        "{\"sku\":\"ABC\",\"count\":1,}",
        // One byte order mark is accepted (F17), and is no part of the text.
        "\u{feff}\u{feff}{\"sku\":\"ABC\",\"count\":1}",
        &deep,
    ] {
        eprintln!("body: {body}");
        client.post("/orders", body).send().refused(400, "malformed_body");
    }
    client.post("/orders", b"{\"sku\":\"\xff\",\"count\":1}").send().refused(400, "malformed_body");
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn other_content_types_are_415() {
    let upstream = upstream().start();
    let proxy = checked(&upstream);
    let good = "{\"sku\":\"ABC\",\"count\":1}";
    let mut client = client(&proxy);
    for kind in
        ["text/plain", "application/xml", "application/jsonx", "text/json", "application/json; charset=utf-16", ""]
    {
        client.post("/orders", good).header("content-type", kind).send().refused(415, "unsupported_media_type");
    }
    client.request("POST", "/orders").body(good).send().refused(415, "unsupported_media_type");
    for kind in ["application/json", "Application/JSON;charset=UTF-8", "application/merge-patch+json"] {
        client.post("/orders", good).header("content-type", kind).send().is(200);
    }
    client.post("/orders", good).header("content-encoding", "pack200").send().refused(415, "unsupported_media_type");
    proxy.done();
}

#[test]
fn an_encoded_body_is_decoded_to_be_checked_and_goes_on_as_it_came() {
    let upstream = upstream().start();
    let proxy = checked(&upstream);
    let good = "{\"sku\":\"ABC\",\"count\":1}";
    let mut client = client(&proxy);
    let encoded = gzip(good.as_bytes());
    let answer = client.post("/orders", &encoded).header("content-encoding", "gzip").send().is(200);
    assert_eq!(upstream.only().body, encoded);
    assert_eq!(answer.echoed("content-encoding"), ["gzip"]);
    assert_eq!(answer.echoed("content-length"), [encoded.len().to_string()]);
    // What it says it is, it must be; and the limit holds after decoding.
    client.post("/orders", good).header("content-encoding", "gzip").send().refused(400, "malformed_body");
    let bomb = gzip(format!("{{\"sku\":\"ABC\",\"count\":1{}}}", " ".repeat(100_000)).as_bytes());
    assert!(bomb.len() < 1024);
    client.post("/orders", bomb).header("content-encoding", "gzip").send().refused(413, "body_too_large");
    let answer = client.post("/any", gzip(b"x")).header("content-encoding", "gzip").send().is(200);
    assert_eq!(answer.echoed("content-encoding"), ["gzip"], "a body that is not checked goes through untouched");
    proxy.done();
}

#[test]
fn too_large_by_its_own_word_is_refused_before_anything_is_dialled() {
    let upstream = upstream().start();
    let proxy = checked(&upstream);
    for path in ["/orders", "/any"] {
        // The body is never sent: the answer must not wait for it.
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1025\r\n\r\n"
        );
        client(&proxy).raw(head, 1).answer_to("POST").refused(413, "body_too_large");
    }
    upstream.saw_nothing();
    client(&proxy).post("/any", "x".repeat(1024)).send().is(200);
    proxy.done();
}

#[test]
fn too_large_in_chunks_is_refused_when_it_is_seen() {
    let upstream = upstream().start();
    let proxy = checked(&upstream);
    let head = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
    };
    let chunk = format!("200\r\n{}\r\n", "x".repeat(0x200));
    for path in ["/orders", "/any"] {
        let mut client = client(&proxy);
        client.raw(head(path), 1).more(&chunk).more(&chunk).more("1\r\nx\r\n");
        client.answer_to("POST").refused(413, "body_too_large");
    }
    // The upstream never got a whole request.
    assert!(upstream.seen().iter().all(|seen| seen.body.len() <= 1024));
    proxy.done();
}
