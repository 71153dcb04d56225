//! How much memory bodies may take that are held to be checked: `limits.memory`, all requests together (S9).

use std::io::Write;

use crate::support::client::operator;
use crate::support::*;

/// A JSON text of so many bytes, which no coding makes much smaller than half.
fn text(size: usize) -> String {
    let mut state = 1_u64;
    let digit = |_| {
        // xorshift (Marsaglia, 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"0123456789abcdef"[(state >> 32) as usize % 16])
    };
    format!("\"{}\"", (0..size - 2).map(digit).collect::<String>())
}

fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Holds 1 MiB in all, but each body of `POST /orders` may have 900 KiB.
fn tight(upstream: &Upstream) -> Policy {
    proxy()
        .before(upstream)
        .file("any.json", "{\"type\": \"string\"}")
        .with("limits: { memory: 1MiB }")
        .route("POST /orders", "public: true, request: { json: any.json, max_size: 900KiB }")
}

/// The value of a metric.
fn metric(proxy: &Proxy, name: &str) -> u64 {
    let page = operator(proxy).get("/metrics").send().text();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

#[test]
fn bodies_share_one_budget_and_return_it() {
    let upstream = upstream().answers(200, "ok").start();
    let proxy = tight(&upstream).start();
    let (mut slow, mut other) = (client(&proxy), client(&proxy));
    let body = text(700 << 10);
    let head = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    slow.raw(format!("POST /orders HTTP/1.1\r\nhost: a\r\n{head}\r\n{}", &body[..body.len() - 1]), 1);
    eventually("most of it is held", || (metric(&proxy, "bartizan_body_memory_bytes") > 600 << 10).then_some(()));
    let answer = other.post("/orders", &body).send().refused(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("1"));
    slow.more(&body[body.len() - 1..]).answer().is(200);
    other.post("/orders", &body).send().is(200);
    eventually("all of it is returned", || (metric(&proxy, "bartizan_body_memory_bytes") == 0).then_some(()));
    assert_eq!(metric(&proxy, "bartizan_body_memory_refusals_total"), 1);
    assert_eq!(metric(&proxy, "bartizan_body_memory_limit_bytes"), 1 << 20);
    let refused: Vec<_> =
        proxy.done().into_iter().filter(|record| said(record, "event.reason") == "overloaded").collect();
    assert_eq!((refused.len(), said(&refused[0], "bartizan.stage")), (1, &json!("schema")));
}

#[test]
fn what_a_body_decodes_to_counts_too() {
    let upstream = upstream().answers(200, "ok").start();
    let proxy = tight(&upstream).start();
    let mut client = client(&proxy);
    let (fits, too_much) = (gzip(&text(300 << 10)), gzip(&text(850 << 10)));
    client.post("/orders", &too_much).header("content-encoding", "gzip").send().refused(503, "overloaded");
    client.post("/orders", &fits).header("content-encoding", "gzip").send().is(200);
    upstream.only();
    proxy.done();
}

#[test]
fn a_route_that_only_reports_lets_through_what_does_not_fit() {
    let upstream = upstream().start();
    let reports = "public: true, mode: { schema: report }, request: { json: any.json, max_size: 4MiB }";
    let proxy = tight(&upstream).route("POST /reports", reports).start();
    proxy.stderr.wait("`POST /reports` of `orders` may have a body of 4194304 bytes", 1);
    let body = text(3 << 20);
    let answer = client(&proxy).post("/reports", &body).send().is(200);
    assert_eq!(answer.json()["body"], body);
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.would_refuse"), &json!(["overloaded"]));
}

#[test]
fn answers_draw_from_the_same_budget() {
    let upstream =
        upstream().does(|call| call.answer(200, &[("content-type", "application/json")], text(3 << 20))).start();
    let response = |more: &str| format!("public: true, response: {{ json: any.json, max_size: 4MiB }}{more}");
    let proxy = tight(&upstream)
        .route("GET /blocked", &response(""))
        .route("GET /reported", &response(", mode: { response: report }"))
        .start();
    let mut client = client(&proxy);
    client.get("/blocked").send().refused(503, "overloaded");
    assert_eq!(client.get("/reported").send().is(200).text(), text(3 << 20));
    let records = proxy.done();
    assert_eq!(said(&records[0], "bartizan.stage"), "response");
    assert_eq!(said(&records[1], "bartizan.would_refuse"), &json!(["overloaded"]));
}
