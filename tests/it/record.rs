//! The record: one line for every way a request can end.

use std::thread;

use crate::support::*;

#[test]
fn a_line_says_who_what_and_why() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy().before(&upstream).trusts(&issuer).route("GET /x/{id}", "scopes: [orders:read]").start();
    let mut client = client(&proxy);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let token = issuer.token().claim("jti", "token-1").text();
    client
        .get("/x/1?secret=hunter2")
        .bearer(&token)
        .header("user-agent", "story/1")
        .header("traceparent", trace)
        .send()
        .is(200);
    let records = proxy.done();
    let record = &records[0];
    for (name, value) in [
        ("event.kind", json!("event")),
        ("event.action", json!("request")),
        ("event.outcome", json!("success")),
        ("event.sequence", json!(1)),
        ("client.ip", json!("127.0.0.1")),
        ("user_agent.original", json!("story/1")),
        ("http.version", json!("1.1")),
        ("http.request.method", json!("GET")),
        ("http.response.status_code", json!(200)),
        ("url.path", json!("/x/1")),
        ("url.domain", json!("127.0.0.1")),
        ("user.id", json!("corp:alice")),
        ("trace.id", json!("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("bartizan.api", json!("orders")),
        ("bartizan.route", json!("GET /x/{id}")),
        ("bartizan.plan", json!("free")),
        ("bartizan.credential", json!({"kind": "jwt", "id": "token-1", "issuer": "corp"})),
        ("bartizan.scopes", json!({"required": ["orders:read"], "granted": ["orders:read"]})),
        ("bartizan.upstream.server", json!(upstream.url())),
    ] {
        assert_eq!(*said(record, name), value, "{name}: {record:#}");
    }
    let text = record.to_string();
    assert!(!text.contains("hunter2") && !text.contains(&token), "{text}");
}

#[test]
fn whatever_a_caller_writes_stays_one_line() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /{any...}").start();
    let mut client = client(&proxy);
    client.get("/%22%7d%7b").header("user-agent", "a\"}\t{\"b\u{1f600}\u{9b}").send().is(200);
    let records = proxy.done();
    assert_eq!(records.len(), 1);
}

#[test]
fn a_rotated_file_is_opened_anew_and_nothing_is_lost() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    client(&proxy).get("/x").send().is(200);
    proxy.recorded(1);
    std::fs::rename(proxy.file("audit.jsonl"), proxy.file("audit.1")).unwrap();
    proxy.reload();
    client(&proxy).get("/x").send().is(200);
    proxy.recorded(1);
    assert_eq!(proxy::records(&proxy.file("audit.1")).len(), 1);
    proxy.stop();
}

#[test]
fn standard_output_has_records_and_nothing_else() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").audit("[stdout]").start();
    client(&proxy).get("/x").send().is(200);
    client(&proxy).get("/y").send().is(404);
    // Two connections may be with two workers, whose records come in any order.
    proxy.stdout.wait("@timestamp", 2);
    let lines = proxy.stdout.all();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines:?}");
    assert!(proxy.stop().1.is_empty());
}

#[test]
fn as_many_records_as_requests_when_it_stops_under_load() {
    let upstream = upstream().answers(200, "hi").start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = client(&proxy);
                for round in 0..50 {
                    client.get(if round % 5 == 0 { "/nothing" } else { "/x" }).send();
                }
            });
        }
    });
    assert_eq!(proxy.done().len(), 64 * 50);
}

#[test]
fn every_way_to_end_has_its_own_line() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .plan("free: { rate: 1/h, burst: 2 }")
        .file("any.json", "{ \"type\": \"object\" }")
        .route("GET /x", "scopes: [orders:read]")
        .route("POST /x", "scopes: [orders:read], request: { json: any.json }")
        .start();
    let token = issuer.token().text();
    let mut client = client(&proxy);
    client.get("/x").bearer(&token).send().is(200);
    client.post("/x", "[]").bearer(&token).send().is(422);
    client.get("/x").bearer(&token).send().is(429);
    client.get("/x").send().is(401);
    client.get("/x").bearer(issuer.token().scope("else")).send().is(403);
    client.get("/none").send().is(404);
    client.request("PUT", "/x").send().is(405);
    client.get("/x//y").send().is(400);
    client.raw("nonsense\r\n\r\n", 1).answer().is(400);
    let records = proxy.done();
    let lines: Vec<Value> = records
        .iter()
        .map(|record| {
            let names = ["http.response.status_code", "event.outcome", "event.reason", "bartizan.stage"];
            Value::from(names.map(|name| said(record, name).clone()).to_vec())
        })
        .collect();
    assert_eq!(
        lines,
        [
            json!([200, "success", null, null]),
            json!([422, "failure", "schema_violation", "schema"]),
            json!([429, "failure", "rate_limited", "rate_limit"]),
            json!([401, "failure", "missing_credentials", "auth"]),
            json!([403, "failure", "insufficient_scope", "scope"]),
            json!([404, "failure", "no_route", "request"]),
            json!([405, "failure", "method_not_allowed", "request"]),
            json!([400, "failure", "malformed_request", "request"]),
            json!([400, "failure", "malformed_request", "request"]),
        ]
    );
    let sequence: Vec<_> = records.iter().map(|record| said(record, "event.sequence").as_u64().unwrap()).collect();
    assert!(sequence.is_sorted_by(|before, after| before < after), "{sequence:?}");
}

#[test]
fn bytes_that_are_no_text_and_endless_names_stay_one_bounded_line() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /{any...}").start();
    let mut client = client(&proxy);
    let path = format!("/{}", "%0a".repeat(3));
    let agent = [b"GET \xff\xfe\xc0 ".as_slice(), "\u{2028}\u{85}".as_bytes(), "x".repeat(9000).as_bytes()].concat();
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nuser-agent: ").into_bytes();
    request.extend(agent);
    request.extend(b"\r\n\r\n");
    client.raw(request, 1).answer();
    let text = std::fs::read_to_string({
        proxy.recorded(1);
        proxy.file("audit.jsonl")
    })
    .unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.len() < 4096, "{}", text.len());
    proxy.done();
}

#[test]
fn every_record_has_a_trace_that_was_begun_where_the_caller_names_none() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let parent = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    let mut client = client(&proxy);
    client.get("/x").send().is(200);
    client.get("/x").header("traceparent", &format!("00-{parent}-01")).send().is(200);
    client.get("/x").header("traceparent", &format!("00-{parent}-x")).send().is(200);
    client.get("/nowhere").send().is(404);
    client.raw("broken\r\n\r\n", 1).answer().is(400);
    let records = proxy.done();
    let ids = |name: &str, length: usize| -> Vec<String> {
        let ids = records.iter().map(|record| said(record, name).as_str().unwrap().to_owned());
        ids.inspect(|id| assert!(id.len() == length && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}"))
            .collect()
    };
    let (traces, spans) = (ids("trace.id", 32), ids("span.id", 16));
    let continued: Vec<bool> = traces.iter().map(|trace| parent.starts_with(trace)).collect();
    assert_eq!(continued, [false, true, false, false, false]);
    for ids in [traces, spans] {
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 5, "{ids:?}");
    }
    // Without telemetry, the proxy takes no part in traces.
    let seen: Vec<_> = upstream.seen().iter().map(|seen| seen.header("traceparent").map(str::to_owned)).collect();
    assert_eq!(seen, [None, Some(format!("00-{parent}-01")), Some(format!("00-{parent}-x"))]);
}
