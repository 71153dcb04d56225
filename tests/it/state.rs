//! What operators change while it runs: keys that rotate, revocations, grants, suspensions, consumers; and that nothing
//! acknowledged is lost.

use std::path::Path;

use tempfile::TempDir;

use crate::support::client::{Answer, Client, operator};
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

const PEOPLE: &str = "roles: { clerk: [orders:read, orders:write], reader: [orders:read] }
consumers: { acme: { roles: [reader], plan: free, identities: [{ issuer: corp, id: acme-app }] } }";

/// Keeps its store in this folder.
fn keeping(store: &Path, upstream: &Upstream, issuer: &issuer::Issuer) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&format!("store: \"{}\"", store.display()))
        .with(PEOPLE)
        .route("GET /x", "scopes: [orders:read]")
        .route("POST /x", "scopes: [orders:write]")
}

/// An operator with every right.
struct Operator(Client);

impl Operator {
    fn of(proxy: &Proxy) -> Self {
        Self(operator(proxy))
    }

    #[track_caller]
    fn asks(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let request = self.0.request(method, path).bearer(ADMIN_TOKEN);
        if body.is_null() { request.send() } else { request.body(body.to_string()).send() }
    }

    /// What comes back of what must succeed.
    #[track_caller]
    fn does(&mut self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.asks(method, path, body);
        assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {}", answer.status, answer.text());
        answer.json()
    }
}

/// Whether it is of something that an operator changed.
fn is_change(record: &Value) -> bool {
    !["request", "admin_read"].contains(&said(record, "event.action").as_str().unwrap())
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value:#}")).to_owned()
}

#[test]
fn a_key_is_made_used_rotated_and_revoked() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(store.path(), &upstream, &issuer).start();
    let (mut client, mut operator) = (client(&proxy), Operator::of(&proxy));
    let made = operator.does("POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1", "expires": "30d"}));
    let first = text(&made, "key");
    assert!(first.starts_with("bz_acme-1_"), "{first}");
    assert_eq!(client.get("/x").key(&first).send().is(200).echoed("x-credential-id"), ["acme-1"]);
    client.get("/x").key(&first[..first.len() - 1]).send().refused(401, "invalid_key");
    client.post("/x", "{}").key(&first).send().refused(403, "insufficient_scope");

    let rotated = operator.does("POST", "/v1/keys/acme-1/rotate", &json!({"overlap": "7d", "id": "acme-2"}));
    let second = text(&rotated, "key");
    client.get("/x").key(&second).send().is(200);
    client.get("/x").key(&first).send().is(200);
    let listed = operator.does("GET", "/v1/consumers/acme/keys", &Value::Null);
    assert_eq!(listed["items"][0]["replaced_by"], "acme-2", "{listed:#}");
    assert_eq!(listed["items"][0]["last_address"], "127.0.0.1");
    assert!(!listed.to_string().contains(&first), "the key is shown once");

    // The old one ends at once.
    operator.does("PATCH", "/v1/keys/acme-1", &json!({"expires": "2020-01-01T00:00:00Z"}));
    client.get("/x").key(&first).send().refused(401, "expired_key");
    operator.does("POST", "/v1/revocations", &json!({"key": "acme-2", "reason": "leaked"}));
    client.get("/x").key(&second).send().refused(401, "revoked");
    assert_eq!(operator.does("GET", "/v1/keys/acme-2", &Value::Null)["state"], "revoked");
    let records = proxy.done();
    let changes: Vec<_> = records.iter().filter(|record| is_change(record)).collect();
    let actions: Vec<_> = changes.iter().map(|record| said(record, "event.action").as_str().unwrap()).collect();
    assert_eq!(actions, ["key_created", "key_rotated", "key_changed", "revoked"]);
    assert_eq!(said(changes[1], "bartizan.target"), "acme acme-1 -> acme-2");
    assert_eq!(said(changes[1], "user.id"), "admin");
    let record = std::fs::read_to_string(store.path().join("register.redb")).unwrap_or_default();
    assert!(!record.contains(&first), "a store has digests alone");
}

#[test]
fn the_request_after_a_revocation_is_refused_and_one_after_its_undoing_is_not() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(store.path(), &upstream, &issuer).start();
    let (mut client, mut operator) = (client(&proxy), Operator::of(&proxy));
    let token = issuer.token().claim("client_id", "acme-app").claim("jti", "t-1").sub("bob").text();
    let other = issuer.token().claim("client_id", "other-app").sub("carol").text();
    let soon = (issuer::now() + 60).to_string();
    let later: jiff::Timestamp = jiff::Timestamp::from_second(soon.parse().unwrap()).unwrap();
    for (revocation, covers_other) in [
        (json!({"token": token}), false),
        (json!({"jti": "t-1"}), false),
        (json!({"subject": "bob", "issuer": "corp"}), false),
        (json!({"subject": "acme-app", "issuer": "corp"}), false),
        (json!({"consumer": "acme"}), false),
        (json!({"consumer": "acme", "issued_before": later.to_string()}), false),
        (json!({"issuer": "corp"}), true),
        (json!({"all": true, "issued_before": later.to_string()}), true),
    ] {
        client.get("/x").bearer(&token).send().is(200);
        let made = operator.does("POST", "/v1/revocations", &revocation);
        client.get("/x").bearer(&token).send().refused(401, "revoked");
        let answer = client.get("/x").bearer(&other).send();
        assert_eq!(answer.status, if covers_other { 401 } else { 200 }, "{revocation}");
        assert!(!made.to_string().contains(&token), "a token is kept as its digest");
        let id = text(&made, "id");
        assert_eq!(text(&operator.does("POST", "/v1/revocations", &revocation), "id"), id, "twice is once");
        assert_eq!(operator.does("GET", "/v1/revocations", &Value::Null)["items"].as_array().unwrap().len(), 1);
        operator.does("DELETE", &format!("/v1/revocations/{id}"), &Value::Null);
        client.get("/x").bearer(&token).send().is(200);
        client.get("/x").bearer(&other).send().is(200);
    }
    // What was issued after the time is not meant.
    let past = "2020-01-01T00:00:00Z";
    operator.does("POST", "/v1/revocations", &json!({"all": true, "issued_before": past}));
    client.get("/x").bearer(&token).send().is(200);
    for (wrong, status) in [
        (json!({}), 422),
        (json!({"jti": "a", "key": "b"}), 422),
        (json!({"all": true}), 422),
        (json!({"subject": "a"}), 422),
        (json!({"subject": "a", "issuer": "nobody"}), 422),
        (json!({"jti": "a", "issued_before": past}), 422),
        (json!({"jtl": "a"}), 422),
        (json!({"sha256": "00"}), 422),
    ] {
        assert_eq!(operator.asks("POST", "/v1/revocations", &wrong).status, status, "{wrong}");
    }
    operator.asks("DELETE", "/v1/revocations/0123", &Value::Null).refused(404, "not_found");
    proxy.done();
}

#[test]
fn a_consumer_comes_is_changed_elevated_suspended_and_goes() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let policy = keeping(store.path(), &upstream, &issuer);
    let text = policy.yaml().replace(", default_plan: free", "");
    let proxy = policy.text(&text).start();
    let (mut client, mut operator) = (client(&proxy), Operator::of(&proxy));
    let token = issuer.token().claim("client_id", "partner-app").scope("orders:read orders:write").text();
    client.get("/x").bearer(&token).send().refused(403, "unknown_consumer");
    let partner = json!({
        "name": "partner", "roles": ["reader"], "plan": "free", "identities": [{"issuer": "corp", "id": "partner-app"}],
    });
    operator.does("POST", "/v1/consumers", &partner);
    operator.asks("POST", "/v1/consumers", &partner).refused(409, "conflict");
    assert_eq!(client.get("/x").bearer(&token).send().is(200).echoed("x-consumer-id"), ["partner"]);
    client.post("/x", "{}").bearer(&token).send().refused(403, "insufficient_scope");

    operator.does("PATCH", "/v1/consumers/partner", &json!({"roles": ["clerk"]}));
    client.post("/x", "{}").bearer(&token).send().is(200);
    operator.does("PATCH", "/v1/consumers/partner", &json!({"roles": ["reader"]}));
    client.post("/x", "{}").bearer(&token).send().refused(403, "insufficient_scope");

    let grant = json!({"scopes": ["orders:write"], "until": "1h", "reason": "month end"});
    let granted = operator.does("POST", "/v1/consumers/partner/grants", &grant);
    let answer = client.post("/x", "{}").bearer(&token).send().is(200);
    assert_eq!(answer.echoed("x-consumer-scopes"), ["orders:read orders:write"]);
    let id = granted["id"].as_str().unwrap();
    operator.does("DELETE", &format!("/v1/consumers/partner/grants/{id}"), &Value::Null);
    client.post("/x", "{}").bearer(&token).send().refused(403, "insufficient_scope");

    operator.does("PUT", "/v1/consumers/partner/suspension", &json!({"reason": "unpaid"}));
    client.get("/x").bearer(&token).send().refused(403, "consumer_suspended");
    operator.does("DELETE", "/v1/consumers/partner/suspension", &Value::Null);
    client.get("/x").bearer(&token).send().is(200);

    for (method, path, body, status, code) in [
        ("PUT", "/v1/consumers/acme", json!({"roles": []}), 409, "conflict"),
        ("DELETE", "/v1/consumers/acme", Value::Null, 409, "conflict"),
        ("PATCH", "/v1/consumers/nobody", json!({}), 404, "not_found"),
        ("POST", "/v1/consumers", json!({"name": "a:b"}), 422, "schema_violation"),
        ("POST", "/v1/consumers", json!({"name": "a", "roles": ["none"]}), 422, "schema_violation"),
        ("POST", "/v1/consumers", json!({"name": "a", "plan": "none"}), 422, "schema_violation"),
        ("POST", "/v1/consumers", json!({"name": "a", "identities": partner["identities"]}), 409, "conflict"),
        ("POST", "/v1/consumers/nobody/keys", json!({}), 404, "not_found"),
        ("POST", "/v1/consumers/acme/grants", json!({"scopes": ["a"]}), 422, "schema_violation"),
        ("GET", "/v1/consumers?limit=0", Value::Null, 422, "schema_violation"),
    ] {
        operator.asks(method, path, &body).refused(status, code);
    }
    let first = operator.does("GET", "/v1/consumers?limit=1", &Value::Null);
    assert_eq!((first["items"][0]["name"].as_str(), first["next"].as_str()), (Some("acme"), Some("acme")));
    let second = operator.does("GET", "/v1/consumers?limit=1&after=acme", &Value::Null);
    assert_eq!((second["items"][0]["name"].as_str(), &second["next"]), (Some("partner"), &Value::Null));
    operator.does("DELETE", "/v1/consumers/partner", &Value::Null);
    client.get("/x").bearer(&token).send().refused(403, "unknown_consumer");
    proxy.done();
}

/// All items of a list, two on each page.
fn paged(operator: &mut Operator, path: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let page = operator.does("GET", &format!("{path}?limit=2{after}"), &Value::Null);
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        let next: String = next.bytes().map(|byte| format!("%{byte:02x}")).collect();
        after = format!("&after={next}");
    }
}

#[test]
fn pages_have_each_entry_once() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(store.path(), &upstream, &issuer).start();
    let mut operator = Operator::of(&proxy);
    for number in 0..5 {
        operator.does("POST", "/v1/consumers", &json!({"name": format!("c{number}")}));
        let grant = json!({"scopes": ["orders:read"], "until": "1h"});
        operator.does("PUT", &format!("/v1/consumers/c{number}/grants/incident"), &grant);
        operator.does("PUT", &format!("/v1/consumers/c{number}/keys/k{number}"), &json!({}));
    }
    let of: Vec<String> = paged(&mut operator, "/v1/grants").iter().map(|one| text(one, "consumer")).collect();
    assert_eq!(of, ["c0", "c1", "c2", "c3", "c4"]);

    let ids: Vec<String> = paged(&mut operator, "/v1/keys").iter().map(|one| text(one, "id")).collect();
    assert_eq!(ids, ["k0", "k1", "k2", "k3", "k4"]);
    proxy.done();
}

#[test]
fn an_operator_may_do_what_the_token_says() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let policy = keeping(store.path(), &upstream, &issuer);
    let tokens = "tokens: [{ name: board, token: a-token-that-only-looks, rights: read }], token:";
    let text = policy.yaml().replace("token:", tokens);
    let proxy = policy.text(&text).start();
    let mut board = operator(&proxy);
    assert_eq!(board.get("/v1/keys").bearer("a-token-that-only-looks").send().status, 200);
    for (method, path) in [("POST", "/v1/revocations"), ("POST", "/v1/policy/reload"), ("DELETE", "/v1/keys/a")] {
        let request = board.request(method, path).bearer("a-token-that-only-looks");
        request.send().refused(403, "insufficient_right");
        board.request(method, path).send().refused(401, "missing_credentials");
    }
    proxy.done();
}

#[test]
fn the_openapi_document_describes_endpoints_that_are_there() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(store.path(), &upstream, &issuer).start();
    let mut operator = Operator::of(&proxy);
    let document = operator.does("GET", "/v1/openapi.json", &Value::Null);
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 20, "{}", paths.len());
    for (path, methods) in paths {
        let mut target = path.replace("{name}", "acme").replace("{id}", "none");
        if path == "/v1/audit" {
            // Otherwise it never ends.
            target.push_str("?unknown=parameter");
        }
        for method in methods.as_object().unwrap().keys().filter(|method| *method != "parameters") {
            let answer = operator.asks(&method.to_uppercase(), &target, &json!({"nothing": "known"}));
            let code = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["code"].clone();
            assert!(code != "no_route" && code != "method_not_allowed", "{method} {path}: {code}");
        }
    }
    proxy.done();
}

#[test]
fn without_a_store_nothing_is_kept_and_that_is_said() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    let answer = Operator::of(&proxy).asks("POST", "/v1/revocations", &json!({"jti": "a"})).refused(409, "conflict");
    assert!(answer.json()["detail"].as_str().unwrap().contains("store: state/"));
    proxy.done();
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_the_process_is_killed() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let mut acknowledged = Vec::new();
    for round in 0..5 {
        let proxy = keeping(store.path(), &upstream, &issuer).start();
        let mut operator = Operator::of(&proxy);
        let mut kept = std::collections::BTreeSet::new();
        let mut next = String::new();
        loop {
            let page = operator.does("GET", &format!("/v1/revocations?limit=1000{next}"), &Value::Null);
            kept.extend(page["items"].as_array().unwrap().iter().map(|item| item["jti"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(after) => next = format!("&after={after}"),
                None => break,
            }
        }
        for jti in &acknowledged {
            assert!(kept.contains(jti), "{jti} was acknowledged, and is lost in round {round}");
        }
        // It is killed while changes are on their way; what was answered before that counts.
        let pid = proxy.id();
        for number in 0..40 {
            let jti = format!("r{round}-{number}");
            if number == 20 + round {
                std::thread::spawn(move || {
                    std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
                });
            }
            match revoked(&proxy, &jti) {
                true => acknowledged.push(jti),
                false => break,
            }
        }
        drop(proxy);
    }
    assert!(acknowledged.len() >= 100, "{}", acknowledged.len());
    let proxy = keeping(store.path(), &upstream, &issuer).start();
    let token = issuer.token().claim("jti", &*acknowledged[0]).text();
    client(&proxy).get("/x").bearer(&token).send().refused(401, "revoked");
    proxy.done();
}

/// Whether a revocation was acknowledged; the other end may be gone at any moment.
fn revoked(proxy: &Proxy, jti: &str) -> bool {
    use std::io::{Read, Write};
    let body = json!({"jti": jti}).to_string();
    let ask = || -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(proxy.admin())?;
        write!(
            stream,
            "POST /v1/revocations HTTP/1.0\r\nhost: a\r\nauthorization: Bearer {ADMIN_TOKEN}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(" 201 ") && answer.ends_with('}'))
}

/// Runs a command on a policy, with this on its standard input; returns its exit code and what it printed.
fn commands(proxy_policy: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.args(arguments).arg("--policy").arg(proxy_policy);
    for name in ["BARTIZAN_ADMIN", "BARTIZAN_ADMIN_TOKEN", "BARTIZAN_POLICY"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn commands_do_it_on_a_store_that_nobody_has_open_and_say_so_where_somebody_has() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let folder = TempDir::new().unwrap();
    let file = keeping(store.path(), &upstream, &issuer).write(folder.path());
    let (code, key, said) =
        commands(&file, &["key", "new", "--consumer", "acme", "--id", "acme-1", "--expires", "30d"]);
    assert_eq!((code, key.starts_with("bz_acme-1_")), (Some(0), true), "{said}");
    assert!(said.contains("shown only once"), "{said}");
    let (code, replaced, said) = commands(&file, &["key", "rotate", "acme-1", "--overlap", "1d", "--id", "acme-2"]);
    assert_eq!((code, replaced.starts_with("bz_acme-2_")), (Some(0), true), "{said}");
    let (_, listed, _) = commands(&file, &["key", "list"]);
    assert!(listed.contains("acme-1") && listed.contains("acme-2") && !listed.contains(&key), "{listed}");
    let (code, id, _) = commands(&file, &["revoke", "key", "acme-2", "--reason", "a drill"]);
    assert_eq!((code, id.len()), (Some(0), 32));
    let (code, _, said) = commands(&file, &["key", "new", "--consumer", "nobody"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no consumer"), "{said}");
    // Each change is on record, and so is that each command goes on with the chain of the one before.
    let records = proxy::records(&folder.path().join("audit.jsonl"));
    let started = records.iter().filter(|record| said_of(record) == "chain_started").count();
    assert_eq!(started + 1, records.iter().filter(|record| record["event"]["sequence"] == 1).count());
    let others = |action: &&str| !["admin_read", "chain_started"].contains(action);
    let actions: Vec<_> = records.iter().map(said_of).filter(others).collect();
    assert_eq!(actions, ["key_created", "key_rotated", "revoked", "change_refused"]);

    let proxy = keeping(store.path(), &upstream, &issuer).start();
    client(&proxy).get("/x").key(&key).send().is(200);
    client(&proxy).get("/x").key(&replaced).send().refused(401, "revoked");
    let (code, _, said) = commands(&file, &["revoke", "undo", &id]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    let admin = format!("http://{}", proxy.admin());
    let (code, _, said) = commands(&file, &["revoke", "undo", &id, "--admin", &admin, "--admin-token", ADMIN_TOKEN]);
    assert_eq!(code, Some(0), "{said}");
    client(&proxy).get("/x").key(&replaced).send().is(200);
    let consumer = ["consumer", "suspend", "acme", "--until", "1h", "--admin", &admin, "--admin-token", ADMIN_TOKEN];
    assert_eq!(commands(&file, &consumer).0, Some(0));
    client(&proxy).get("/x").key(&replaced).send().refused(403, "consumer_suspended");
    proxy.done();
}

fn said_of(record: &Value) -> &str {
    said(record, "event.action").as_str().unwrap()
}

#[test]
fn what_an_operator_asked_for_is_in_force_and_on_record_though_nobody_waits_for_the_answer() {
    use std::io::Write;
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(store.path(), &upstream, &issuer).start();
    for number in 0..20 {
        let body = json!({"jti": format!("hasty-{number}")}).to_string();
        let mut stream = std::net::TcpStream::connect(proxy.admin()).unwrap();
        let head = format!("POST /v1/revocations HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
    let mut operator = Operator::of(&proxy);
    let kept = eventually("as many records as revocations", || {
        let page = operator.does("GET", "/v1/revocations", &Value::Null);
        let kept = page["items"].as_array().unwrap().clone();
        let recorded = proxy.records().iter().filter(|record| said_of(record) == "revoked").count();
        (!kept.is_empty() && kept.len() == recorded).then_some(kept)
    });
    for revocation in kept {
        let token = issuer.token().claim("jti", revocation["jti"].clone()).text();
        client(&proxy).get("/x").bearer(&token).send().refused(401, "revoked");
    }
    proxy.done();
}
