//! What operators leave in the record, and what they may not do for ever.

use crate::support::client::{Client, operator};
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

const PEOPLE: &str = "roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }";

fn keeping(upstream: &Upstream, store: &std::path::Path) -> Policy {
    proxy().before(upstream).with(&format!("store: \"{}\"\n{PEOPLE}", store.display())).open("GET /x")
}

/// The records of operators' requests, once there are so many.
#[track_caller]
fn reported(proxy: &Proxy, count: usize) -> Vec<Value> {
    let records = proxy.recorded(count);
    assert_eq!(records.len(), count, "{records:#?}");
    records
}

/// Some fields of a record as one line.
fn line(record: &Value, names: &[&str]) -> String {
    let word = |name: &&str| match said(record, name) {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    names.iter().map(word).collect::<Vec<_>>().join(" | ")
}

/// U7: the record says what was answered, how large it was, and for people what was changed, how, until when and why.
#[test]
fn a_change_is_recorded_as_it_was_made_and_answered() {
    let (store, upstream) = (tempfile::TempDir::new().unwrap(), upstream().start());
    let proxy = keeping(&upstream, store.path()).start();
    let mut operator = operator(&proxy);
    let mut asks = |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = operator.request(method, path).bearer(ADMIN_TOKEN).body(&body).send();
        (answer.status, body.len() as u64, answer.body.len() as u64)
    };
    let until = "2999-01-01T00:00:00Z";
    let answers = [
        asks("POST", "/v1/consumers/acme/keys", json!({"id": "k1", "scopes": ["orders:read"], "expires": until})),
        asks(
            "PUT",
            "/v1/consumers/acme/grants/g1",
            json!({"scopes": ["a", "b"], "until": until, "reason": "audit", "force": true}),
        ),
        asks("PUT", "/v1/consumers/acme/suspension", json!({"until": until, "reason": "unpaid"})),
        asks("POST", "/v1/revocations", json!({"key": "k1", "reason": "leaked"})),
        asks("POST", "/v1/revocations", json!({"nonsense": 1})),
        asks("GET", "/v1/keys/none", Value::Null),
        asks("GET", "/v1/keys", Value::Null),
    ];
    let records = reported(&proxy, answers.len());
    for (record, (status, sent, received)) in records.iter().zip(answers) {
        assert_eq!(said(record, "http.response.status_code"), status, "{record:#}");
        assert_eq!(said(record, "http.request.body.bytes"), sent, "{record:#}");
        assert_eq!(said(record, "http.response.body.bytes"), received, "{record:#}");
        assert_eq!(said(record, "user.id"), "admin");
    }
    let names = ["event.action", "event.outcome", "event.reason", "bartizan.target"];
    let changes = ["bartizan.change.scopes", "bartizan.change.until", "bartizan.change.reason"];
    let lines: Vec<_> = records.iter().map(|record| line(record, &[&names[..], &changes].concat())).collect();
    assert_eq!(
        lines,
        [
            format!(r#"key_created | success | - | acme k1 | ["orders:read"] | {until} | -"#),
            format!(r#"grant_made | success | - | acme g1 | ["a","b"] | {until} | audit"#),
            format!("consumer_suspended | success | - | acme | - | {until} | unpaid"),
            "revoked | success | - | key k1 | - | - | leaked".to_owned(),
            "change_refused | failure | schema_violation | - | - | - | -".to_owned(),
            "admin_read | failure | not_found | - | - | - | -".to_owned(),
            "admin_read | success | - | - | - | - | -".to_owned(),
        ]
    );
    assert_eq!(said(&records[0], "http.response.status_code"), 201);
    proxy.done();
}

/// U7: reloads leave a record, good and failed, whoever asks for them.
#[test]
fn reloads_are_recorded_whether_they_succeed_or_not() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").start();
    let before = operator(&proxy).get("/v1/policy").bearer(ADMIN_TOKEN).send().json()["digest"].clone();
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    assert_eq!(proxy.reload(), proxy::Reloaded::Unchanged);
    assert_eq!(proxy.reload_to(|policy| policy.with("nonsense: 1")), proxy::Reloaded::Failed);
    let refused = operator(&proxy).post("/v1/policy/reload", "").bearer(ADMIN_TOKEN).send();
    refused.refused(422, "schema_violation");
    let records = proxy.recorded(5).split_off(1);
    let names = ["event.action", "user.id", "event.outcome", "event.reason", "http.response.status_code"];
    let lines: Vec<_> = records.iter().map(|record| line(record, &names)).collect();
    assert_eq!(
        lines,
        [
            "policy_reload | signal | success | - | 200",
            "policy_reload | signal | success | - | 200",
            "policy_reload | signal | failure | schema_violation | 422",
            "policy_reload | admin | failure | schema_violation | 422",
        ]
    );
    assert_ne!(said(&records[0], "bartizan.policy"), &before, "the policy that is in force now");
    assert!(said(&records[2], "bartizan.violations").to_string().contains("nonsense"), "{:#}", records[2]);
    proxy.done();
}

/// S15: whoever is refused leaves a record, and may not guess for ever.
#[test]
fn refused_operators_are_recorded_and_have_to_wait() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x");
    let tokens = "tokens: [{ name: board, token: a-token-that-only-looks, rights: read }], token:";
    let text = policy.yaml().replace("token:", tokens);
    let proxy = policy.text(&text).start();
    let mut operator = operator(&proxy);
    operator.get("/v1/policy").send().refused(401, "missing_credentials");
    operator.post("/v1/policy/reload", "").bearer("a-token-that-only-looks").send().refused(403, "insufficient_right");
    operator.get("/v1/nothing").bearer("guess").send().refused(401, "invalid_token");
    let guesses = (0..100).take_while(|guess| {
        let status = operator.get("/v1/policy").bearer(format!("guess {guess}")).send().status;
        assert!(matches!(status, 401 | 429), "{status}");
        status == 401
    });
    let allowed = guesses.count();
    assert!((15..25).contains(&allowed), "{allowed}");
    // Not even the right one tells anything now.
    let refused = operator.get("/v1/policy").bearer(ADMIN_TOKEN).send().refused(429, "too_many_failures");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(operator.get("/healthz").send().status, 200, "what needs no token goes on");
    // U24: somebody who guesses is seen on the dashboard.
    let page = operator.get("/metrics").send().text();
    for (code, count) in [
        ("missing_credentials", 1),
        ("insufficient_right", 1),
        ("invalid_token", 1 + allowed),
        ("too_many_failures", 2),
    ] {
        let line = format!("bartizan_admin_refusals_total{{code=\"{code}\"}} {count}");
        assert!(page.lines().any(|found| found == line), "no {line} in {page}");
    }
    let records = reported(&proxy, 3 + allowed + 2);
    let names = ["event.action", "event.outcome", "event.reason", "user.id", "url.path", "client.ip"];
    let lines: Vec<_> = records.iter().map(|record| line(record, &names)).collect();
    assert_eq!(lines[0], "operator_refused | failure | missing_credentials | - | /v1/policy | 127.0.0.1");
    assert_eq!(lines[1], "operator_refused | failure | insufficient_right | - | /v1/policy/reload | 127.0.0.1");
    assert_eq!(lines[2], "operator_refused | failure | invalid_token | - | /v1/nothing | 127.0.0.1");
    let last = lines.last().unwrap();
    assert_eq!(last, "operator_refused | failure | too_many_failures | - | /v1/policy | 127.0.0.1");
    proxy.done();
}

/// U9: HEAD is answered wherever GET is, and metrics come in the format that was asked for.
#[test]
fn pages_are_had_with_head_and_metrics_in_two_formats() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    client(&proxy).get("/x").send().is(200);
    proxy.recorded(1);
    let mut operator = operator(&proxy);
    for path in ["/healthz", "/readyz", "/metrics", "/v1/policy", "/v1/consumers"] {
        let answer = operator.request("HEAD", path).bearer(ADMIN_TOKEN).send();
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
        assert_eq!(answer.header("content-type"), operator.get(path).bearer(ADMIN_TOKEN).send().header("content-type"));
    }
    assert_eq!(operator.request("HEAD", "/v1/policy").send().status, 401);
    let page = |operator: &mut Client, accept: &str| {
        let answer = operator.get("/metrics").header("accept", accept).send();
        (answer.header("content-type").unwrap().to_owned(), answer.text())
    };
    let (kind, text) = page(&mut operator, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(kind.starts_with("application/openmetrics-text") && text.ends_with("# EOF\n"), "{kind}");
    let (kind, text) = page(&mut operator, "text/plain");
    assert!(kind.starts_with("text/plain; version=0.0.4") && !text.contains("# EOF"), "{kind}");
    assert!(text.contains("# TYPE bartizan_requests_total counter"), "{text}");
    proxy.done();
}

/// U20: a mistyped time does not revoke what does not exist yet.
#[test]
fn revoking_what_is_issued_in_the_future_has_to_be_meant() {
    let (store, upstream) = (tempfile::TempDir::new().unwrap(), upstream().start());
    let proxy = keeping(&upstream, store.path()).start();
    let mut operator = operator(&proxy);
    let mut revokes = |body: Value| operator.post("/v1/revocations", body.to_string()).bearer(ADMIN_TOKEN).send();
    for target in [json!({"all": true}), json!({"consumer": "acme"})] {
        let with = |more: Value| {
            let mut body = target.clone();
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let future = json!({"issued_before": "2999-01-01T00:00:00Z"});
        revokes(with(future)).refused(422, "schema_violation");
        assert_eq!(revokes(with(json!({"issued_before": "0s"}))).status, 201);
        let meant = json!({"issued_before": "2999-01-01T00:00:00Z", "allow_future": true});
        assert_eq!(revokes(with(meant)).status, 201);
    }
    proxy.done();
}
