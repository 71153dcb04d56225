//! Names in operators' requests are those of something: a typing mistake in an emergency is reported, not answered "done".

use std::process::Command;

use tempfile::TempDir;

use crate::support::client::{Answer, operator};
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

fn keeping(store: &TempDir, upstream: &Upstream, issuer: &issuer::Issuer) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&format!("store: \"{}\"", store.path().display()))
        .with("roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }")
        .route("GET /x", "scopes: [orders:read]")
}

fn operates(proxy: &Proxy, method: &str, path: &str, body: &Value) -> Answer {
    operator(proxy).request(method, path).bearer(ADMIN_TOKEN).body(body.to_string()).send()
}

/// U3: what does not exist is neither revoked, suspended nor granted, unless that is meant.
#[test]
fn a_name_that_nothing_has_is_refused_with_the_nearest_one_unless_it_is_forced() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(&store, &upstream, &issuer).start();
    assert_eq!(operates(&proxy, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).status, 201);
    let (scopes, wrong) = (json!(["orders:read"]), json!(["orders:raed"]));
    for (method, path, body, status, says) in [
        ("POST", "/v1/revocations", json!({"key": "acme-l"}), 422, "did you mean `acme-1`?"),
        ("POST", "/v1/revocations", json!({"consumer": "amce"}), 422, "did you mean `acme`?"),
        ("POST", "/v1/revocations", json!({"consumer": "nobody:x"}), 422, "no consumer"),
        ("PUT", "/v1/consumers/amce/suspension", json!({}), 404, "did you mean `acme`?"),
        ("POST", "/v1/consumers/amce/grants", json!({"scopes": scopes, "until": "1h"}), 404, "did you mean `acme`?"),
        ("PUT", "/v1/consumers/amce/grants/g", json!({"scopes": scopes, "until": "1h"}), 404, "did you mean `acme`?"),
        (
            "POST",
            "/v1/consumers/acme/grants",
            json!({"scopes": wrong, "until": "1h"}),
            422,
            "did you mean `orders:read`?",
        ),
        ("POST", "/v1/consumers/acme/keys", json!({"scopes": wrong}), 422, "did you mean `orders:read`?"),
        ("PATCH", "/v1/keys/acme-1", json!({"scopes": wrong}), 422, "did you mean `orders:read`?"),
    ] {
        let answer = operates(&proxy, method, path, &body);
        assert!(
            answer.status == status && answer.text().contains(says),
            "{path} {body}: {} {}",
            answer.status,
            answer.text()
        );
        let mut forced = body.clone();
        forced["force"] = json!(true);
        let answer = operates(&proxy, method, path, &forced);
        assert!(matches!(answer.status, 200 | 201), "{path} {forced}: {} {}", answer.status, answer.text());
    }
    // A caller that is not listed is named by its issuer.
    assert_eq!(operates(&proxy, "POST", "/v1/revocations", &json!({"consumer": "corp:alice"})).status, 201);
    proxy.done();
}

/// U3: a revocation says what it ends; a command that hits nothing fails.
#[test]
fn a_revocation_says_what_it_hits_and_a_command_that_hits_nothing_fails() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(&store, &upstream, &issuer).start();
    let made = operates(&proxy, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).json();
    operates(&proxy, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-2"}));
    client(&proxy).get("/x").key(made["key"].as_str().unwrap()).send().is(200);
    let hit = operates(&proxy, "POST", "/v1/revocations", &json!({"consumer": "acme"})).json()["hit"].clone();
    assert!(hit["active_keys"] == 2 && hit["last_used"].is_string(), "{hit}");
    let again = operates(&proxy, "POST", "/v1/revocations", &json!({"key": "acme-1"})).json()["hit"].clone();
    assert_eq!(again["active_keys"], 0, "it was revoked before");
    let admin = format!("http://{}", proxy.admin());
    for (arguments, code, says) in [
        (&["revoke", "key", "acme-2"][..], 0, "0 active keys"),
        (&["revoke", "key", "acme-l"], 1, "did you mean"),
        (&["key", "revoke", "acme-l"], 1, "did you mean"),
        (&["revoke", "consumer", "amce"], 1, "did you mean"),
        (&["revoke", "consumer", "amce", "--force"], 0, "0 active keys"),
        (&["consumer", "suspend", "amce"], 1, "did you mean"),
        (&["consumer", "grant", "acme", "--scope", "orders:raed", "--until", "1h"], 1, "did you mean"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.args(arguments).args(["--admin", &admin, "--admin-token", ADMIN_TOKEN]).env_remove("BARTIZAN_POLICY");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(says), "{arguments:?}: {:?} {said}", output.status);
    }
    proxy.done();
}

/// U22: a rotation that is repeated, at once or later, makes no second successor; what is not accepted is not rotated.
#[test]
fn a_key_has_one_successor_and_one_that_has_ended_has_none() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(&store, &upstream, &issuer).start();
    for id in ["twice", "revoked", "ended", "raced"] {
        assert_eq!(operates(&proxy, "POST", "/v1/consumers/acme/keys", &json!({"id": id})).status, 201);
    }
    operates(&proxy, "POST", "/v1/revocations", &json!({"key": "revoked"}));
    operates(&proxy, "PATCH", "/v1/keys/ended", &json!({"expires": "2020-01-01T00:00:00Z"}));
    assert_eq!(operates(&proxy, "POST", "/v1/keys/twice/rotate", &json!({"id": "next"})).status, 201);
    for (id, says) in [("twice", "rotated to `next` already"), ("revoked", "is revoked"), ("ended", "has expired")] {
        let answer = operates(&proxy, "POST", &format!("/v1/keys/{id}/rotate"), &json!({})).refused(409, "conflict");
        assert!(answer.json()["detail"].as_str().unwrap().contains(says), "{}", answer.text());
    }
    // Whoever lost the secret of the successor removes it first.
    operates(&proxy, "DELETE", "/v1/keys/next", &Value::Null);
    assert_eq!(operates(&proxy, "POST", "/v1/keys/twice/rotate", &json!({})).status, 201);

    let barrier = std::sync::Barrier::new(4);
    let rotates = || {
        barrier.wait();
        operates(&proxy, "POST", "/v1/keys/raced/rotate", &json!({})).status
    };
    let mut statuses: Vec<u16> = std::thread::scope(|scope| {
        let rotating = [(); 4].map(|()| scope.spawn(rotates));
        rotating.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409]);
    proxy.done();
}

/// U3: a role, plan, issuer, consumer or key that does not exist is reported with the nearest one, by the admin API and by
/// commands.
#[test]
fn a_name_that_does_not_exist_is_reported_with_the_nearest_one_by_the_admin_api_and_by_commands() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let proxy = keeping(&store, &upstream, &issuer).start();
    assert_eq!(operates(&proxy, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).status, 201);
    let identity = |issuer: &str| json!({"name": "p", "identities": [{"issuer": issuer, "id": "x"}]});
    for (method, path, body, status, says) in [
        ("POST", "/v1/consumers", json!({"name": "p", "roles": ["raeder"]}), 422, "did you mean `reader`?"),
        ("PUT", "/v1/consumers/p", json!({"plan": "fere"}), 422, "did you mean `free`?"),
        ("PUT", "/v1/consumers/p", json!({"plan": "unlimited"}), 422, "it has free"),
        ("POST", "/v1/consumers", identity("crop"), 422, "did you mean `corp`?"),
        ("POST", "/v1/revocations", json!({"issuer": "crop"}), 422, "did you mean `corp`?"),
        ("POST", "/v1/revocations", json!({"issuer": "crop", "subject": "x"}), 422, "did you mean `corp`?"),
        ("GET", "/v1/consumers/amce", Value::Null, 404, "did you mean `acme`?"),
        ("DELETE", "/v1/consumers/amce", Value::Null, 404, "did you mean `acme`?"),
        ("POST", "/v1/consumers/amce/keys", json!({}), 404, "did you mean `acme`?"),
        ("GET", "/v1/keys/acme-l", Value::Null, 404, "did you mean `acme-1`?"),
        ("POST", "/v1/keys/acme-l/rotate", json!({}), 404, "did you mean `acme-1`?"),
        ("DELETE", "/v1/keys/acme-l", Value::Null, 404, "did you mean `acme-1`?"),
    ] {
        let answer = operates(&proxy, method, path, &body);
        let reported = answer.status == status && answer.text().contains(says);
        assert!(reported, "{method} {path} {body}: {} {}", answer.status, answer.text());
    }
    let admin = format!("http://{}", proxy.admin());
    for (arguments, says) in [
        (&["consumer", "add", "p", "--role", "raeder"][..], "did you mean `reader`?"),
        (&["consumer", "add", "p", "--plan", "fere"], "did you mean `free`?"),
        (&["consumer", "add", "p", "--identity", "crop:x"], "did you mean `corp`?"),
        (&["key", "new", "--consumer", "amce"], "did you mean `acme`?"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.args(arguments).args(["--admin", &admin, "--admin-token", ADMIN_TOKEN]).env_remove("BARTIZAN_POLICY");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
    }
    proxy.done();
}

/// U3: the policy, its descriptions and commands that name something suggest the nearest name, too.
#[test]
fn a_name_that_does_not_exist_is_reported_with_the_nearest_one_in_a_policy() {
    let folder = TempDir::new().unwrap();
    let api = "openapi: 3.1.0\npaths: { /a: { get: { x-bartizan: { scopes: [a], only: [amce], class: reprot } } } }\n";
    let policy = "version: 1
listen: [{ address: \"127.0.0.1:0\" }]
roles: { reader: [a] }
plans: { gold: { rate: 1/s, classes: { report: 1/h } } }
auth: { issuers: { corp: { issuer: i, secret: 9f86d081884c7d659a2feaa0c55ad015, audience: [a], algorithms: [HS256],
  max_lifetime: 1h, default_plan: glod } } }
consumers: { acme: { roles: [raeder], plan: godl, identities: [{ issuer: crop, id: x }] } }
apis:
  a: { mode: { shcema: report }, upstream: \"http://127.0.0.1:9\", routes: { GET /x: { scopes: [a], only: [acmee], class: repor } } }
  b: { hosts: [b.example], upstream: \"http://127.0.0.1:9\", openapi: api.yaml }
";
    std::fs::write(folder.path().join("api.yaml"), api).unwrap();
    std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let bartizan = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let said = bartizan(&["check", "policy.yaml"]);
    for (meant, times) in [("gold", 2), ("reader", 1), ("corp", 1), ("schema", 1), ("acme", 2), ("report", 2)] {
        let found = said.matches(&format!("did you mean `{meant}`?")).count();
        assert_eq!(found, times, "{meant}: {said}");
    }
    assert!(bartizan(&["man", "consmer"]).contains("did you mean `consumer`?"));
}
