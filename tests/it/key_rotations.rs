//! API keys that are made on schedule and delivered to a vault: a real OpenBao, and consumers that read their key there.
//!
//! The schedule itself is tested with a clock of its own, beside its source; here an operator asks for the next key.

use std::path::Path;

use tempfile::TempDir;

use crate::support::client::{Answer, operator};
use crate::support::proxy::{ADMIN_TOKEN, Reloaded};
use crate::support::redis::Server;
use crate::support::vault::{Vault, vault};
use crate::support::*;

/// A policy whose consumer reads its key from this place of a vault.
fn policy(upstream: &Upstream, vault: &Vault, token: &str, store: &str, place: &str) -> Policy {
    let rotate = format!("{{ every: 30d, overlap: 7d, deliver: \"vault:{place}#key\" }}");
    proxy()
        .before(upstream)
        .route("GET /x", "scopes: [orders:read]")
        .with("roles: { reader: [orders:read] }")
        .with(&format!(
            "consumers: {{ acme: {{ roles: [reader], plan: free, keys: [{{ id: acme, rotate: {rotate} }}] }} }}"
        ))
        .with(&format!("secrets: {{ vault: {{ address: \"{}\", login: {{ token: \"{token}\" }} }} }}", vault.url()))
        .with(&format!("store: {store}"))
}

/// What a consumer finds in the vault.
fn found(vault: &Vault, place: &str) -> Value {
    match place.strip_prefix("secret/") {
        Some(rest) => vault.ask("GET", &format!("secret/data/{rest}"), &Value::Null)["data"]["data"].clone(),
        None => vault.ask("GET", place, &Value::Null)["data"].clone(),
    }
}

/// Waits until the consumer finds a key there that is not this one.
#[track_caller]
fn finds(vault: &Vault, place: &str, before: &str) -> String {
    eventually("there is another key in the vault", || {
        let key = found(vault, place)["key"].as_str()?.to_owned();
        (key != before).then_some(key)
    })
}

fn rotates(proxy: &Proxy, key: &str, body: &Value) -> Answer {
    let path = format!("/v1/keys/{key}/rotate");
    operator(proxy).post(&path, body.to_string()).header("content-type", "application/json").bearer(ADMIN_TOKEN).send()
}

/// The keys of the store as operators see them: id, state and when the next one is due.
fn keys(proxy: &Proxy) -> Vec<Value> {
    operator(proxy).get("/v1/keys").bearer(ADMIN_TOKEN).send().json()["items"].as_array().unwrap().clone()
}

fn metric(proxy: &Proxy, name: &str) -> String {
    let page = operator(proxy).get("/metrics").send().text();
    let series = format!("bartizan_key_rotation_{name}{{consumer=\"acme\",key=\"acme\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("{name} in {page}")).to_owned()
}

/// Whether the record says so, by `event.action`.
fn recorded(proxy: &Proxy, action: &str) -> Value {
    eventually(action, || proxy.records().into_iter().find(|record| record["event"]["action"] == action))
}

#[test]
fn a_consumer_finds_its_key_in_the_vault_and_the_one_before_ends_by_itself() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    for place in ["secret/partners/acme", "kv1/partners/acme"] {
        // What else is in the secret stays, whatever it is.
        let others = json!({"endpoint": "https://api.example.com", "limits": {"rate": 5}});
        match place.strip_prefix("secret/") {
            Some(rest) => drop(vault.puts(rest, &others)),
            None => drop(vault.does("POST", place, &others)),
        }
        let proxy = policy(&upstream, &vault, vault.root(), "state/", place).start();
        let first = finds(&vault, place, "");
        client(&proxy).get("/x").key(&first).send().is(200);
        recorded(&proxy, "key_created");
        assert_eq!(metric(&proxy, "up"), "1");
        let listed = &keys(&proxy)[0];
        assert_eq!(
            (&listed["id"], &listed["state"], &listed["expires"]),
            (&json!("acme-1"), &json!("active"), &Value::Null)
        );
        let rotation = &listed["rotation"];
        assert_eq!((&rotation["id"], &rotation["deliver"]), (&json!("acme"), &json!(format!("vault:{place}#key"))));
        let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let next = time(&rotation["delivered"]) + jiff::SignedDuration::from_hours(30 * 24);
        assert_eq!(
            (time(&rotation["next"]), metric(&proxy, "next_timestamp_seconds")),
            (next, next.as_second().to_string())
        );

        let asked = rotates(&proxy, "acme", &json!({}));
        assert_eq!(asked.status, 202);
        assert!(!asked.text().contains("bz_"), "only the consumer sees the key: {}", asked.text());
        let second = finds(&vault, place, &first);
        for key in [&first, &second] {
            client(&proxy).get("/x").key(key).send().is(200);
        }
        assert_eq!(
            found(&vault, place),
            json!({"endpoint": others["endpoint"], "limits": others["limits"], "key": second})
        );
        rotates(&proxy, "acme-1", &json!({})).refused(409, "conflict");
        rotates(&proxy, "acme", &json!({"id": "mine"})).refused(422, "schema_violation");
        let record = recorded(&proxy, "key_rotated");
        assert_eq!(record["bartizan"]["target"], "acme acme-1 -> acme-2");
        let until = time(&record["bartizan"]["change"]["until"]);
        assert_eq!(time(&keys(&proxy)[0]["expires"]), until);
        let left = until.duration_since(time(&keys(&proxy)[1]["rotation"]["delivered"]));
        assert_eq!(left, jiff::SignedDuration::from_hours(7 * 24));
        // Nobody waits that long here.
        let body = json!({"expires": "1s"}).to_string();
        let sooner = operator(&proxy).request("PATCH", "/v1/keys/acme-1").bearer(ADMIN_TOKEN).body(body).send();
        assert_eq!(sooner.status, 200);
        let ended = recorded(&proxy, "key_ended");
        assert_eq!((&ended["bartizan"]["target"], &ended["user"]["id"]), (&json!("acme acme-1"), &json!("schedule")));
        client(&proxy).get("/x").key(&first).send().refused(401, "expired_key");
        client(&proxy).get("/x").key(&second).send().is(200);
        let said = proxy.stderr.all().join("\n");
        let records = format!("{:?}", proxy.done());
        for key in [&first, &second] {
            assert!(!said.contains(key.as_str()) && !records.contains(key.as_str()), "{said}");
        }
    }
}

#[test]
fn while_the_vault_is_sealed_the_key_before_stays_and_somebody_is_told() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    let place = "secret/partners/acme";
    // It does not keep the proxy from starting: nobody else needs it.
    vault.seal();
    let proxy = policy(&upstream, &vault, vault.root(), "state/", place).start();
    proxy.stderr.wait("an API key cannot be delivered; the consumer has none yet", 1);
    assert_eq!(keys(&proxy), [] as [Value; 0], "no key is made that nobody could have");
    rotates(&proxy, "acme", &json!({})).refused(409, "conflict");
    vault.unseal();
    let first = finds(&vault, place, "");
    client(&proxy).get("/x").key(&first).send().is(200);

    vault.seal();
    assert_eq!(rotates(&proxy, "acme", &json!({"overlap": "1s"})).status, 202);
    proxy.stderr.wait("an API key cannot be rotated; the one before stays, beyond its time", 1);
    client(&proxy).get("/x").key(&first).send().is(200);
    assert_eq!((metric(&proxy, "up"), keys(&proxy).len()), ("0".to_owned(), 1));
    assert_ne!(metric(&proxy, "failures_total"), "0");
    let is_alert = |record: &Value| record["event"]["kind"] == "alert" && record["bartizan"]["consumer"] == "acme";
    let told = eventually("both alerts are on record", || {
        let told: Vec<Value> = proxy.records().into_iter().filter(is_alert).collect();
        (told.len() >= 2).then_some(told)
    });
    assert_eq!(told.len(), 2, "one for each time: {told:#?}");
    assert!(told[1]["bartizan"]["cause"].as_str().unwrap().contains("the vault is sealed"), "{told:#?}");
    assert_eq!(told[1]["bartizan"]["credential"]["id"], "acme-1");

    vault.unseal();
    let second = finds(&vault, place, &first);
    client(&proxy).get("/x").key(&second).send().is(200);
    recorded(&proxy, "key_ended");
    client(&proxy).get("/x").key(&first).send().refused(401, "expired_key");
    assert_eq!(metric(&proxy, "up"), "1");
    proxy.done();
}

#[test]
fn a_process_that_is_killed_before_it_delivers_leaves_no_key_behind() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    let lets = |capabilities: &str| {
        let policy = format!("path \"secret/data/partners/*\" {{ capabilities = [{capabilities}] }}");
        vault.does("PUT", "sys/policies/acl/partner", &json!({"policy": policy}));
    };
    lets("\"read\"");
    let token = vault.does("POST", "auth/token/create", &json!({"policies": ["partner"]}));
    let token = token["auth"]["client_token"].as_str().unwrap();
    let mut proxy = policy(&upstream, &vault, token, "state/", "secret/partners/acme").start();
    for _ in 0..3 {
        // It is in the store, and nobody but this process knows it.
        proxy.stderr.wait("an API key was not rotated or delivered", 1);
        let said = proxy.stderr.all().join("\n");
        assert!(said.contains("capabilities = [\\\"create\\\", \\\"read\\\", \\\"update\\\"]"), "{said}");
        assert_eq!(keys(&proxy).len(), 1);
        proxy = proxy.again("KILL");
    }
    lets("\"create\", \"read\", \"update\"");
    let key = finds(&vault, "secret/partners/acme", "");
    client(&proxy).get("/x").key(&key).send().is(200);
    let listed = keys(&proxy);
    assert_eq!(listed.len(), 1, "{listed:#?}");
    assert!(key.starts_with(&format!("bz_{}_", listed[0]["id"].as_str().unwrap())), "{listed:#?}");
    // Once it is delivered, another start changes nothing.
    recorded(&proxy, "key_created");
    let proxy = proxy.again("KILL");
    client(&proxy).get("/x").key(&key).send().is(200);
    assert_eq!((keys(&proxy).len(), finds(&vault, "secret/partners/acme", "")), (1, key));
}

#[test]
fn of_two_nodes_one_makes_the_key_and_both_accept_it() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    let Some(redis) = Server::start("save \"\"", &[]) else { return };
    let place = "secret/partners/acme";
    let store = format!("{{ redis: \"redis://127.0.0.1:{}\", timeout: 30s }}", redis.port);
    let nodes = [(); 2].map(|()| policy(&upstream, &vault, vault.root(), &store, place).start());
    let mut last = String::new();
    for version in 1..=3 {
        let key = finds(&vault, place, &last);
        for node in &nodes {
            client(node).get("/x").key(&key).send().is(200);
        }
        eventually("it is on record", || {
            let records = nodes.iter().flat_map(Proxy::records);
            let made = |record: &Value| {
                let action = &record["event"]["action"];
                (action == "key_created" || action == "key_rotated")
                    && record["bartizan"]["target"].as_str().unwrap().ends_with(&format!("acme-{version}"))
            };
            (records.filter(made).count() == 1).then_some(())
        });
        let newest = vault.ask("GET", "secret/metadata/partners/acme", &Value::Null)["data"]["current_version"].clone();
        assert_eq!(newest, json!(version), "it was written once");
        for node in &nodes {
            let ids: Vec<Value> = keys(node).iter().map(|key| key["id"].clone()).collect();
            let expected: Vec<Value> = (1..=version).map(|number| json!(format!("acme-{number}"))).collect();
            assert_eq!(ids, expected);
        }
        last = key;
        assert_eq!(rotates(&nodes[version % 2], "acme", &json!({})).status, 202);
    }
    finds(&vault, place, &last);
    for node in nodes {
        node.done();
    }
}

/// What only the policy says of such a key is not an operator's to change, and a key that nobody rotates any more is reported.
#[test]
fn the_policy_says_what_the_keys_may_do_and_whether_there_are_more() {
    let (upstream, Some(vault)) = (upstream().start(), vault(None)) else { return };
    let place = "secret/partners/acme";
    let policy = policy(&upstream, &vault, vault.root(), "state/", place);
    let (good, rotate) = (policy.yaml(), "{ id: acme, rotate:");
    let mut proxy = policy.start();
    let key = finds(&vault, place, "");
    recorded(&proxy, "key_created");
    client(&proxy).get("/x").key(&key).send().is(200);
    let body = json!({"scopes": ["orders:read"]}).to_string();
    let narrowed = operator(&proxy).request("PATCH", "/v1/keys/acme-1").bearer(ADMIN_TOKEN).body(body).send();
    narrowed.refused(409, "conflict");
    let narrow = good.replace(rotate, "{ id: acme, scopes: [orders:list], rotate:");
    let narrow = narrow.replace("reader: [orders:read]", "reader: [orders:read, orders:list]");
    assert_eq!(proxy.reload_to(|policy| policy.text(&narrow)), Reloaded::Loaded);
    client(&proxy).get("/x").key(&key).send().refused(403, "insufficient_scope");
    assert_eq!(keys(&proxy)[0]["scopes"], json!(["orders:list"]));

    let (start, end) = (good.find("keys: [").unwrap(), good.find("] } }").unwrap());
    let without = format!("{}keys: [{}", &good[..start], &good[end..]);
    assert_eq!(proxy.reload_to(|policy| policy.text(&without)), Reloaded::Loaded);
    proxy.stderr.wait("the key `acme-1` is no longer rotated: `acme` has no key `acme` with `rotate`", 1);
    client(&proxy).get("/x").key(&key).send().is(200);
    proxy.done();
}

#[test]
fn what_is_wrong_with_a_rotation_is_reported_at_its_place() {
    let upstream = upstream().start();
    let text = |key: &str, more: &str| {
        let policy = proxy().before(&upstream).open("GET /x").with("roles: { reader: [orders:read] }");
        let policy =
            policy.with(&format!("consumers:\n  acme:\n    roles: [reader]\n    plan: free\n    keys:\n      - {key}"));
        policy.with(more).fails()
    };
    let vault = "secrets: { vault: { address: \"http://127.0.0.1:1\", login: { token: t } } }\nstore: state/";
    let rotate = |settings: &str| format!("{{ id: acme, rotate: {{ {settings} }} }}");
    let good = "every: 30d, deliver: \"vault:kv/acme#key\"";
    for (key, more, said) in [
        (rotate("deliver: \"vault:kv/acme#key\""), vault, "`every` is missing"),
        (rotate("every: 30d"), vault, "`deliver` is missing"),
        (rotate("every: 10m, overlap: 5m, deliver: \"vault:kv/acme#key\""), vault, "a key is used for 1h to 400d"),
        (rotate("every: 500d, deliver: \"vault:kv/acme#key\""), vault, "a key is used for 1h to 400d"),
        (
            rotate("every: 7d, deliver: \"vault:kv/acme#key\""),
            vault,
            "would be made before the key before it has ended",
        ),
        (rotate("every: 7d, overlap: 10s, deliver: \"vault:kv/acme#key\""), vault, "no time to read the next key"),
        (rotate("every: 30d, deliver: \"vault:kv/acme\""), vault, "this is not the field of a secret"),
        (rotate("every: 30d, deliver: \"kv/acme#key\""), vault, "this is not the field of a secret"),
        (rotate("every: 30d, deliver: \"vault:kv/../acme#key\""), vault, "this is not the field of a secret"),
        (rotate("every: 30d, deliver: \"vault:kv/acme@3#key\""), vault, "a version of a secret cannot be changed"),
        (rotate(good), "store: state/", "the policy does not say where the vault is"),
        (rotate(good), vault.lines().next().unwrap(), "keys that rotate need a store"),
        (format!("{{ rotate: {{ {good} }} }}"), vault, "keys that rotate need an `id`"),
        (format!("{{ id: Acme_1, rotate: {{ {good} }} }}"), vault, "is part of the keys"),
        (format!("{{ id: acme, sha256: \"00\", rotate: {{ {good} }} }}"), vault, "`sha256` is of a key that you make"),
        (format!("{}\n      - {}", rotate(good), rotate(good)), vault, "another key has this id"),
        (
            format!("{}\n      - {{ id: other, rotate: {{ {good} }} }}", rotate(good)),
            vault,
            "other keys are delivered there",
        ),
        (
            rotate(good),
            &format!("{vault}\nauth: {{ api_keys: {{ max_key_age: 30d }} }}"),
            "`auth.api_keys.max_key_age` is shorter",
        ),
    ] {
        let problems = text(&key, more);
        let place = problems
            .split("\n\n")
            .find(|block| block.contains(said))
            .is_some_and(|block| block.contains("policy.yaml:"));
        assert!(place, "{key}: {said} in {problems}");
    }
}

#[test]
fn a_rehearsal_calls_with_a_key_that_the_vault_will_have() {
    let upstream = upstream().start();
    let folder = TempDir::new().unwrap();
    let policy = proxy()
        .before(&upstream)
        .route("GET /x", "scopes: [orders:read]")
        .with("roles: { reader: [orders:read] }")
        .with("consumers: { acme: { roles: [reader], plan: free, keys: [{ id: acme, rotate: { every: 30d, deliver: \"vault:kv/acme#key\" } }] } }")
        .with("secrets: { vault: { address: \"http://127.0.0.1:1\", login: { token: t } } }\nstore: state/");
    let file = policy.write(folder.path());
    let explain = |file: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command
            .args(["explain", "--policy"])
            .arg(file)
            .args(["GET", "/x", "--as", "{ key: acme }"])
            .output()
            .unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let said = explain(&file);
    assert!(said.contains("API key acme") && said.contains("→ forwarded"), "{said}");
}
