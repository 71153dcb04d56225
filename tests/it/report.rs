//! Report mode: the decision is made and recorded, and the call goes through.

use crate::support::client::operator;
use crate::support::*;

fn would(record: &serde_json::Value) -> String {
    said(record, "bartizan.would_refuse").to_string()
}

#[test]
fn every_stage_decides_and_nobody_is_refused() {
    let (issuer, upstream) = (issuer(), upstream().start());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .file("order.json", r#"{"type": "object"}"#)
        .route("POST /orders", "scopes: [orders:write], rate: 1/day, mode: report, request: { json: order.json }")
        .start();
    let mut client = client(&proxy);
    let (reads, writes) = (issuer.token().scope("orders:read").text(), issuer.token().scope("orders:write").text());
    client.post("/orders", "{}").bearer(&writes).send().is(200);
    client.post("/orders", "[]").bearer(&writes).send().is(200);
    client.post("/orders", "{").bearer(&reads).send().is(200);
    assert_eq!(client.post("/orders", "{}").send().is(200).echoed("x-consumer-id"), [""; 0], "nobody is known");
    client.post("/orders", "{}").bearer("forged").send().is(200);
    let records = proxy.done();
    let expected = [
        "null",
        r#"["rate_limited","schema_violation"]"#,
        r#"["insufficient_scope","rate_limited","malformed_body"]"#,
        r#"["missing_credentials"]"#,
        r#"["invalid_token","rate_limited"]"#,
    ];
    assert_eq!(records.iter().map(would).collect::<Vec<_>>(), expected);
    for record in &records {
        assert_eq!(said(record, "bartizan.mode"), "report");
        assert_eq!(said(record, "event.outcome"), "success");
    }
}

#[test]
fn one_stage_may_report_while_the_others_enforce() {
    let (issuer, upstream) = (issuer(), upstream().start());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .file("order.json", r#"{"type": "object"}"#)
        .route(
            "POST /orders",
            "scopes: [orders:write], mode: { schema: report }, request: { json: order.json, max_size: 64B }",
        )
        .start();
    let mut client = client(&proxy);
    let writes = issuer.token().scope("orders:write").text();
    client.post("/orders", "{}").send().refused(401, "missing_credentials");
    client
        .post("/orders", "{}")
        .bearer(issuer.token().scope("orders:read").text())
        .send()
        .refused(403, "insufficient_scope");
    let large = format!("[\"{}\"]", "x".repeat(100));
    for (body, kind) in
        [("[]", "application/json"), ("{}", "text/plain"), ("{", "application/json"), (&large, "application/json")]
    {
        let answer = client.post("/orders", body).header("content-type", kind).bearer(&writes).send().is(200);
        assert_eq!(answer.json()["body"], body);
    }
    // In pieces, so that its size shows late.
    let head = format!(
        "POST /orders HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {writes}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("40\r\n{}\r\n", "y".repeat(0x40));
    client.raw(head, 1).more(&chunk).more(&chunk).more("0\r\n\r\n");
    assert_eq!(client.answer_to("POST").is(200).json()["body"], "y".repeat(0x80));
    let records = proxy.done();
    let codes: Vec<_> = records.iter().skip(2).map(would).collect();
    let expected = ["schema_violation", "unsupported_media_type", "malformed_body", "body_too_large", "body_too_large"];
    assert_eq!(codes, expected.map(|code| format!("[\"{code}\"]")));
}

#[test]
fn an_api_reports_but_for_routes_that_enforce_and_metrics_count_both() {
    let upstream = upstream().start();
    let text = proxy()
        .before(&upstream)
        .route("GET /a", "scopes: [a]")
        .route("GET /b", "scopes: [b], mode: enforce")
        .yaml()
        .replace("    routes:", "    mode: report\n    routes:");
    let proxy = proxy().before(&upstream).text(&text).start();
    let mut client = client(&proxy);
    client.get("/a").send().is(200);
    client.get("/b").send().refused(401, "missing_credentials");
    let page = operator(&proxy).get("/metrics").send().text();
    assert!(page.contains(r#"code="missing_credentials"} 1"#), "{page}");
    assert!(
        page.contains(r#"bartizan_would_refuse_total{api="orders",route="GET /a",code="missing_credentials"} 1"#),
        "{page}"
    );
    proxy.done();
}

#[test]
fn explain_and_test_show_what_is_only_reported() {
    let upstream = upstream().start();
    let policy = proxy()
        .before(&upstream)
        .file("order.json", r#"{"required": ["id"]}"#)
        .file("body.json", "{}")
        .file(
            "t.yaml",
            "policy: policy.yaml\ntests:\n  - name: nothing is said yet\n    request: { method: POST, path: /orders, body: {} }\n    \
             expect: { status: 200, would_refuse: [missing_credentials, schema_violation], violations: [\"\"] }\n",
        )
        .route("POST /orders", "scopes: [orders:write], mode: report, request: { json: order.json }");
    let folder = tempfile::tempdir().unwrap();
    policy.write(folder.path());
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = run(&["explain", "--policy", "policy.yaml", "POST", "/orders", "--body", "body.json"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("auth        would be refused, and is only reported: "), "{said}");
    assert!(said.contains("schema      would be refused, and is only reported: "), "{said}");
    assert!(said.contains("→ forwarded to http://127.0.0.1"), "{said}");
    let (code, said) = run(&["test", "t.yaml"]);
    assert_eq!(code, Some(0), "{said}");
    let text = std::fs::read_to_string(folder.path().join("t.yaml")).unwrap();
    std::fs::write(folder.path().join("t.yaml"), text.replace("[missing_credentials, schema_violation]", "[]"))
        .unwrap();
    let (code, said) = run(&["test", "t.yaml"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("- would_refuse none") && said.contains("+ would_refuse missing_credentials, schema_violation"),
        "{said}"
    );
}
