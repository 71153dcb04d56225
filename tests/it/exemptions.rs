//! Neither the caller nor the upstream chooses an answer that nothing judges.

use crate::support::upstream::Call;
use crate::support::*;

const GOOD: &str = r#"{"id": 1}"#;
const SECRET: &str = r#"{"id": "hunter2"}"#;

/// An upstream that does as it is asked: streams where streams are accepted, and sends a part where a part is asked for.
fn obedient() -> Upstream {
    let answers = |call: &mut Call<'_>| {
        let asked = |name: &str| call.head.header(name).unwrap_or_default().to_owned();
        let (accept, range, difference) = (asked("accept"), asked("range"), asked("a-im"));
        let path = call.head.word(1).to_owned();
        match path.as_str() {
            _ if accept == "text/event-stream" => call.answer(200, &[("content-type", &accept)], SECRET),
            "/orders" if !range.is_empty() || !difference.is_empty() => {
                let status = if range.is_empty() { 226 } else { 206 };
                call.answer(status, &[("content-type", "application/json")], SECRET)
            }
            "/orders" => call.answer(200, &[("content-type", "application/json")], GOOD),
            "/twice" => {
                call.answer(200, &[("content-type", "application/json"), ("content-type", "text/plain")], SECRET)
            }
            "/none" => call.answer(200, &[], SECRET),
            "/coded" => {
                call.answer(200, &[("content-type", "application/json"), ("content-encoding", "compress")], SECRET)
            }
            status => {
                let status = status.trim_start_matches('/').parse().unwrap();
                let parts = ("content-type", "multipart/byteranges; boundary=b");
                call.answer(status, &[if status == 206 { parts } else { ("content-type", "text/plain") }], SECRET)
            }
        }
    };
    upstream().does(answers).start()
}

/// F22
#[test]
fn an_answer_that_nothing_judges_cannot_be_asked_for() {
    let upstream = obedient();
    let description = "openapi: 3.1.0\npaths:\n  /orders:\n    get: { security: [], responses: { 200: { content: { \
         application/json: { schema: { properties: { id: { type: integer } } } } } } } }\n";
    let policy = proxy().before(&upstream).file("order.json", r#"{"properties": {"id": {"type": "integer"}}}"#);
    for policy in [
        policy.clone().route("GET /orders", "public: true, response: { json: order.json }"),
        policy.clone().route("GET /orders", "public: true, response: { 200: { json: order.json } }"),
        policy
            .file("api.yaml", description)
            .described("{ document: api.yaml, undescribed: allow }")
            .route("GET /orders", "public: true"),
    ] {
        let proxy = policy.start();
        let mut client = client(&proxy);
        let answer = client.get("/orders").header("accept", "text/event-stream").send();
        answer.refused(502, "invalid_upstream_response");
        for (name, value) in [("range", "bytes=0-"), ("a-im", "vcdiff")] {
            let asked = client.get("/orders").header(name, value).header("if-range", "\"a\"").send().is(200);
            assert_eq!(asked.text(), GOOD, "{name}");
        }
        client.get("/orders").header("accept-encoding", "compress, gzip").send().is(200);
        let seen = upstream.seen();
        let seen = seen.last().unwrap();
        assert_eq!((seen.header("accept-encoding"), seen.header("if-range")), (Some("gzip"), None));
        proxy.done();
    }
}

/// F22
#[test]
fn an_answer_that_nothing_judges_cannot_be_chosen_by_the_upstream() {
    let upstream = obedient();
    let policy = proxy().before(&upstream).file("order.json", r#"{"properties": {"id": {"type": "integer"}}}"#);
    for (mode, blocks) in [("block", true), ("report", false)] {
        let response = format!("public: true, response: {{ 200: {{ json: order.json }}, mode: {mode} }}");
        let proxy = policy.clone().route("GET /{what}", &response).start();
        let mut client = client(&proxy);
        for path in ["/twice", "/none", "/coded", "/200", "/201", "/203", "/206", "/226"] {
            eprintln!("{path} {mode}");
            let answer = client.get(path).send();
            assert_eq!(answer.text().contains("hunter2"), !blocks, "{path}");
            assert_eq!(answer.status == 502, blocks, "{path}");
        }
        // Statuses that are no success, and of which the contract says nothing.
        client.get("/404").send().is(404);
        client.get("/302").send().is(302);
        proxy.done();
    }
}

/// F22
#[test]
fn what_passes_unjudged_is_named_in_the_contract_and_reported() {
    let upstream = obedient();
    let policy = proxy().before(&upstream).file("order.json", r#"{"properties": {"id": {"type": "integer"}}}"#);
    let proxy = policy
        .clone()
        .route("GET /orders", "public: true, response: { json: order.json, unchecked: [text/event-stream] }")
        .start();
    let mut client = client(&proxy);
    client.get("/orders").header("accept", "text/event-stream").send().is(200);
    client.get("/orders").send().is(200);
    proxy.done();
    let wrong =
        policy.route("GET /orders", "public: true, response: { json: order.json, unchecked: [events] }").fails();
    assert!(wrong.contains("`events` is not a media type"), "{wrong}");
}

/// F22: a part that is put into what is there is never judged whole.
#[test]
fn a_body_that_is_a_part_is_refused_where_bodies_are_judged() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .file("order.json", r#"{"properties": {"id": {"type": "integer"}}}"#)
        .route("PUT /orders", "public: true, request: { json: order.json }")
        .route("PUT /files", "public: true")
        .start();
    let mut client = client(&proxy);
    for (path, status) in [("/orders", 400), ("/files", 200)] {
        let request = client.request("PUT", path).header("content-type", "application/json").body(GOOD);
        let answer = request.header("content-range", "bytes 0-8/20").send();
        assert_eq!(answer.status, status, "{path} {}", answer.text());
    }
    proxy.done();
}
