//! `bartizan report unused`: what nobody used is found, and the patch takes it out and nothing else.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::*;

const POLICY: &str = r#"version: 1
listen: [{ address: "127.0.0.1:8080" }]
roles:
  # What clerks do.
  clerk: [orders:read, orders:write, orders:refund]
  auditor:
    - orders:read
    - audit:read
auth: { issuers: { corp: { issuer: "https://corp.example", audience: [orders], jwks: "https://corp.example/keys", algorithms: [ES256] } } }
plans: { free: { rate: 5/s } }
consumers:
  acme:
    roles: [clerk]
    plan: free
    keys:
      - { id: acme-1, sha256: "7dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10" }
      - { id: acme-2, sha256: "8dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10" }   # the next one
  beta: { roles: [clerk, auditor], plan: free, keys: [{ id: beta-1, sha256: "9dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10" }] }
  idle: { roles: [auditor], plan: free, keys: [{ id: idle-1, sha256: "6dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10" }] }
apis:
  orders:
    upstream: http://127.0.0.1:2
    routes:
      GET /orders/{id}: { scopes: [orders:read] }
      POST /orders: { scopes: [orders:write] }
      # Money.
      POST /orders/{id}:refund:
        scopes: [orders:refund]
        cost: 2
      GET /audit: { scopes: [audit:read] }
      # Nobody asks for it, but without it the next one would take its requests.
      GET /orders/{id}/secret: { scopes: [orders:read, audit:read] }
      GET /orders/{rest...}: { scopes: [orders:read] }
audit: none
"#;

/// A record of a call, so many days ago.
fn record(days: i64, consumer: &str, key: &str, route: &str, refused: Option<(&str, &str)>) -> String {
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
    let granted: &[&str] = if consumer == "acme" {
        &["orders:read", "orders:refund", "orders:write"]
    } else {
        &["audit:read", "orders:read", "orders:refund", "orders:write"]
    };
    let (stage, reason) = refused.unzip();
    let mut record = json!({
        "@timestamp": format!("{at:.3}"), "client": {"ip": "192.0.2.1"}, "http": {"request": {"method": "GET"}},
        "bartizan": {"consumer": consumer, "api": "orders", "route": route, "credential": {"kind": "api_key", "id": key},
                     "scopes": {"granted": granted}, "policy": "0"},
        "event": {"kind": "event", "action": "request"},
    });
    if let (Some(stage), Some(reason)) = (stage, reason) {
        record["bartizan"]["stage"] = stage.into();
        record["event"]["reason"] = reason.into();
    }
    format!("{record}\n")
}

fn report(folder: &Path, options: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let command = command.current_dir(folder).args(["report", "unused", "--policy", "policy.yaml", "audit.jsonl"]);
    let output = command.args(options).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn records() -> String {
    // What the evidence is about, and that there is some of every day.
    let daily = |days: i64| record(days, "acme", "acme-1", "GET /orders/{id}", None);
    let others: String = (10..20).chain([7, 6, 5, 4, 2]).map(daily).collect();
    [
        others,
        record(20, "beta", "beta-1", "GET /audit", None),
        record(9, "acme", "acme-1", "GET /orders/{id}", None),
        record(8, "acme", "acme-1", "POST /orders/{id}:refund", Some(("auth", "revoked"))),
        record(3, "acme", "acme-1", "POST /orders", Some(("schema", "schema_violation"))),
        record(1, "beta", "beta-1", "GET /orders/{id}", None),
        record(0, "beta", "beta-1", "GET /orders/{rest...}", None),
    ]
    .concat()
}

#[test]
fn what_nobody_used_is_found_and_the_patch_takes_it_out() {
    if !has("patch") {
        return skipped("there is no `patch`");
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("policy.yaml", POLICY);
    write("audit.jsonl", &records());
    let (code, said, errors) = report(folder.path(), &["--format", "json", "--since", "10d"]);
    assert_eq!(code, Some(1), "{errors}");
    let result: Value = serde_json::from_str(&said).unwrap();
    let unused = result["unused"].as_array().unwrap().iter().map(Value::to_string);
    assert_eq!(
        unused.collect::<Vec<_>>(),
        [
            r#"{"kind":"scope","role":"auditor","scope":"audit:read"}"#,
            r#"{"kind":"scope","role":"clerk","scope":"orders:refund"}"#,
            r#"{"consumer":"beta","kind":"consumer_scope","scope":"orders:write"}"#,
            r#"{"api":"orders","kind":"route","route":"GET /audit"}"#,
            r#"{"api":"orders","kind":"route","route":"GET /orders/{id}/secret"}"#,
            r#"{"consumer":"idle","kind":"consumer"}"#,
            r#"{"consumer":"acme","key":"acme-2","kind":"key"}"#,
            r#"{"consumer":"idle","key":"idle-1","kind":"key"}"#,
            r#"{"issuer":"corp","kind":"issuer"}"#,
        ]
    );
    assert_eq!((&result["requests"], &result["not_in_patch"]), (&json!(10), &json!(1)));

    let (code, patch, _) = report(folder.path(), &["--patch", "--since", "10d"]);
    assert_eq!((code, patch.as_str()), (Some(1), result["patch"].as_str().unwrap()));
    let mut tool = Command::new("patch");
    let mut tool =
        tool.current_dir(folder.path()).arg("-p0").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    tool.stdin.take().unwrap().write_all(patch.as_bytes()).unwrap();
    assert!(tool.wait().unwrap().success(), "{patch}");
    let patched = std::fs::read_to_string(folder.path().join("policy.yaml")).unwrap();
    let expected = POLICY
        .replace(", orders:write, orders:refund]\n", ", orders:write]\n")
        .replace("    - audit:read\n", "")
        .replace("      - { id: acme-2, sha256: \"8dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10\" }   # the next one\n", "")
        .replace("keys: [{ id: idle-1, sha256: \"6dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10\" }]", "keys: []")
        .replace("      GET /audit: { scopes: [audit:read] }\n", "");
    assert_eq!(patched, expected);
    let mut check = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    assert!(check.current_dir(folder.path()).args(["check", "policy.yaml"]).output().unwrap().status.success());
    let (_, said, _) = report(folder.path(), &["--since", "10d"]);
    assert!(!said.contains("role ") && !said.contains("---"), "{said}");
}

#[test]
fn a_short_record_is_not_judged_and_a_long_one_says_what_it_covers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("policy.yaml", POLICY);
    write("audit.jsonl", &records());
    let (code, _, errors) = report(folder.path(), &["--since", "5d"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("the records cover 4 d 0 h, which is less than 7 d 0 h"), "{errors}");
    let (code, said, _) = report(folder.path(), &["--since", "5d", "--min-window", "1h"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("evidence: 5 requests from ") && said.contains("none of them by this policy"), "{said}");
    let (_, said, _) = report(folder.path(), &[]);
    assert!(
        said.contains("evidence: 21 requests") && said.contains("X-Consumer-Scopes") && !said.contains("GET /audit"),
        "{said}"
    );
}
