//! With what body.

use std::io::Write;

use crate::support::*;

const SCHEMA: &str = r#"{
  "type": "object", "required": ["id"], "additionalProperties": false,
  "properties": { "id": { "type": "integer", "minimum": 1 }, "note": { "type": "string", "maxLength": 5 } }
}"#;

fn checked(upstream: &Upstream) -> Policy {
    let policy = proxy().before(upstream).file("order.json", SCHEMA);
    policy.route("POST /x", "public: true, request: { json: order.json, max_size: 1KiB }")
}

#[test]
fn a_good_body_arrives_byte_for_byte() {
    let upstream = upstream().start();
    let proxy = checked(&upstream).start();
    let body = "{ \"note\" : \"\\u0061\",\n  \"id\": 1.0e0 }";
    client(&proxy).post("/x", body).send().is(200);
    assert_eq!(String::from_utf8(upstream.only().body).unwrap(), body);
    proxy.done();
}

#[test]
fn an_encoded_body_arrives_decoded() {
    let upstream = upstream().start();
    let proxy = checked(&upstream).start();
    let body = br#"{"id": 7}"#;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    client(&proxy).post("/x", encoder.finish().unwrap()).header("content-encoding", "gzip").send().is(200);
    let seen = upstream.only();
    assert_eq!((seen.body.as_slice(), seen.header("content-encoding")), (body.as_slice(), None));
    assert_eq!(seen.header("content-length"), Some("9"));
    proxy.done();
}

#[test]
fn a_bad_body_is_told_what_is_wrong_and_never_arrives() {
    let upstream = upstream().start();
    let proxy = checked(&upstream).start();
    let mut client = client(&proxy);
    let answer = client.post("/x", r#"{"id": 0, "note": "hunter2"}"#).send().refused(422, "schema_violation");
    let errors = answer.json()["errors"].clone();
    let pointers: Vec<_> = errors.as_array().unwrap().iter().map(|error| error["pointer"].clone()).collect();
    assert_eq!(pointers, ["/id", "/note"]);
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
    let large = format!(r#"{{"id": 1, "note": "{}"}}"#, "x".repeat(2000));
    for (body, status, code) in [
        ("{", 400, "malformed_body"),
        ("", 400, "malformed_body"),
        (r#"{"id": 1, "id": 1}"#, 400, "malformed_body"),
        (large.as_str(), 413, "body_too_large"),
    ] {
        client.post("/x", body).send().refused(status, code);
        client.leaves();
    }
    client.post("/x", "{}").header("content-type", "text/plain").send().refused(415, "unsupported_media_type");
    upstream.saw_nothing();
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.violations").as_array().unwrap().len(), 2);
}
