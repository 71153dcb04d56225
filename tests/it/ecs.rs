//! Records are valid by the Elastic Common Schema: judged by the field definitions that Elastic publishes.
//!
//! They come with `@elastic/ecs` of npm, in the folder that the environment variable `ECS_FIELDS` names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;

use crate::support::client::operator;
use crate::support::proxy::Reloaded;
use crate::support::*;

/// The definition of a field.
struct Field {
    kind: String,
    is_array: bool,
    /// The values that are allowed, each with the values of `event.type` that go with it; any if empty.
    allowed: BTreeMap<String, Vec<String>>,
}

/// The published fields by name, or `None` with a message.
fn published() -> Option<BTreeMap<String, Field>> {
    let Some(folder) = std::env::var_os("ECS_FIELDS") else {
        skipped("ECS_FIELDS names no folder");
        return None;
    };
    let script =
        "const { EcsFlat } = require(process.argv[1] + '/generated/ecs_flat.js'); console.log(JSON.stringify(EcsFlat))";
    let output = Command::new("node").args(["-e", script]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let flat: BTreeMap<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let field = |(name, field): (String, Value)| {
        let allowed = field["allowed_values"].as_array().into_iter().flatten();
        let allowed =
            allowed.map(|one| (one["name"].as_str().unwrap().to_owned(), texts(&one["expected_event_types"])));
        let is_array = texts(&field["normalize"]).contains(&"array".to_owned());
        (name, Field { kind: field["type"].as_str().unwrap().to_owned(), is_array, allowed: allowed.collect() })
    };
    Some(flat.into_iter().map(field).collect())
}

/// Every value that is no object, by the dotted name of its field.
fn fields(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            fields(value, &path, found);
        }),
        other => found.push((path.to_owned(), other.clone())),
    }
}

/// What is wrong with a record.
fn problems(record: &Value, published: &BTreeMap<String, Field>) -> Vec<String> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    fields(record, "", &mut found);
    for (name, value) in found.iter().filter(|(name, _)| !name.starts_with("bartizan.")) {
        let Some(field) = published.get(name) else {
            problems.push(format!("{name} is no field"));
            continue;
        };
        if value.is_array() != field.is_array {
            problems.push(format!("{name} is a list, or none: {value}"));
        }
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        for value in values {
            let text = value.as_str();
            let fits = match field.kind.as_str() {
                "keyword" | "wildcard" | "match_only_text" | "constant_keyword" => text.is_some(),
                "long" => value.is_i64() || value.is_u64(),
                "ip" => text.is_some_and(|text| text.parse::<IpAddr>().is_ok()),
                "date" => text.is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
                other => panic!("{name} is of the type {other}, which no record had before"),
            };
            if !fits || (!field.allowed.is_empty() && !text.is_some_and(|text| field.allowed.contains_key(text))) {
                problems.push(format!("{name} cannot be {value}"));
            }
        }
    }
    for name in ["@timestamp", "ecs.version", "event.kind", "event.category", "event.type", "event.outcome"] {
        if !found.iter().any(|(field, _)| field == name) {
            problems.push(format!("{name} is missing"));
        }
    }
    // Each type is expected of at least one of the categories.
    let list = |name| said(record, name).as_array().cloned().unwrap_or_default();
    let categories = &published["event.category"].allowed;
    let expected: BTreeSet<&String> =
        list("event.category").iter().filter_map(|category| categories.get(category.as_str()?)).flatten().collect();
    for kind in list("event.type") {
        if !kind.as_str().is_some_and(|kind| expected.contains(&kind.to_owned())) {
            problems.push(format!("event.type {kind} does not go with {}", said(record, "event.category")));
        }
    }
    problems
}

#[test]
fn records_of_all_kinds_are_valid() {
    let Some(published) = published() else { return };
    let (upstream, issuer, folder) = (upstream().start(), issuer(), tempfile::tempdir().unwrap());
    let key = folder.path().join("audit.pem");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).status().unwrap();
    assert!(made.success());
    let mut proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .plan("free: { rate: 1000/s, quota: 5/day }")
        .route("GET /x", "scopes: [orders:read]")
        .route("POST /x", "scopes: [orders:write], request: { json: order.json }")
        .open("GET /open")
        .file("order.json", r#"{"type":"object","required":["a"]}"#)
        .audit(&format!("{{ chain: {{ key: \"${{file:{}}}\" }}, to: [file: {{ path: audit.jsonl }}] }}", key.display()))
        .start();
    let token = issuer.token().claim("scope", "orders:read orders:write").claim("roles", json!(["clerk"])).text();
    let mut client = client(&proxy);
    client.get("/x").send().is(401);
    client.get("/none").send().is(404);
    client.get("/x").bearer("a.b.c").send().is(401);
    client.get("/open").header("user-agent", "a\"b\u{1f422}").send().is(200);
    client.post("/x", "{}").bearer(&token).header("content-type", "application/json").send().is(422);
    for status in [200, 200, 200, 200, 429] {
        client.get("/x").bearer(&token).send().is(status);
    }
    let mut admin = operator(&proxy);
    assert_eq!(admin.get("/v1/policy").bearer(proxy::ADMIN_TOKEN).send().status, 200);
    assert_eq!(admin.get("/v1/policy").bearer("wrong").send().status, 401);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /more")), Reloaded::Loaded);
    let proxy = proxy.again("TERM");
    let mut again = self::client(&proxy);
    again.get("/open").send().is(200);
    let records = eventually("the restart is on record", || {
        let records = proxy.records();
        (records.iter().filter(|record| said(record, "event.sequence") == 2).count() == 2).then_some(records)
    });
    let actions: BTreeSet<_> = records.iter().map(|record| said(record, "event.action").as_str().unwrap()).collect();
    let all =
        ["admin_read", "chain_started", "checkpoint", "operator_refused", "policy_reload", "quota_used", "request"];
    assert_eq!(actions, BTreeSet::from(all));
    for record in &records {
        let problems = problems(record, &published);
        assert!(problems.is_empty(), "{problems:#?} in {record:#}");
    }
    drop(proxy);
    // The judge finds what is wrong.
    let mut wrong = records[0].clone();
    wrong["event"]["category"] = json!(["traffic"]);
    wrong["client"]["ip"] = json!("nowhere");
    wrong["http"]["verb"] = json!("GET");
    wrong["event"]["duration"] = json!("long");
    let mut found = problems(&wrong, &published);
    found.retain(|problem| !problem.starts_with("event.type"));
    assert_eq!(
        found,
        [
            "client.ip cannot be \"nowhere\"",
            "event.category cannot be \"traffic\"",
            "event.duration cannot be \"long\"",
            "http.verb is no field"
        ]
    );
}
