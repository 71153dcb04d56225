//! Names in operators' requests are those of something: a typing mistake in an emergency is told, not answered "done".

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

/// U21: a policy that drops what the store uses, or has a name of the store, is told of it by name when it is loaded.
#[test]
fn a_reload_tells_of_what_the_store_uses_and_the_policy_no_longer_has() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let policy = keeping(&store, &upstream, &issuer).plan("gold: { rate: 1/s }");
    let mut proxy = policy.start();
    let partner = json!({"name": "partner", "roles": ["reader"], "plan": "gold"});
    assert_eq!(operates(&proxy, "POST", "/v1/consumers", &partner).status, 201);
    assert_eq!(operates(&proxy, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).status, 201);
    let reloaded = proxy.reload_to(|policy| {
        let text = policy.yaml().replace("  gold: { rate: 1/s }\n", "");
        let text = text.replace("reader: [orders:read]", "clerk: [orders:read]");
        let text = text.replace("acme: { roles: [reader]", "globex: { roles: [clerk]");
        policy.text(&text)
    });
    assert_eq!(reloaded, proxy::Reloaded::Loaded);
    for told in [
        "partner of the store has the plan gold",
        "partner of the store has the role reader",
        "key acme-1 is of the consumer acme",
    ] {
        proxy.stderr.wait(told, 1);
    }
    proxy.done();
}
