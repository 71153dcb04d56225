//! `bartizan replay`: under its own policy a record decides as it did; under another one exactly what changed flips.

use std::path::Path;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};

use crate::support::client::{Client, operator};
use crate::support::proxy::{ADMIN_TOKEN, of_requests};
use crate::support::*;

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An API that refuses for every reason that a caller can give it.
fn guarded(upstream: &Upstream, issuer: &issuer::Issuer, store: &Path) -> Policy {
    let people = format!(
        "trusted_proxies: [127.0.0.0/8]
store: \"{}\"
roles: {{ reader: [orders:read], writer: [orders:read, orders:write] }}
consumers:
  acme:
    roles: [writer]
    plan: free
    attributes: {{ tenant: t-17 }}
    identities: [{{ issuer: corp, id: acme-app }}]
    keys: [{{ id: acme-1, sha256: \"{}\" }}, {{ id: narrow, sha256: \"{}\", scopes: [orders:read] }}, {{ id: old, sha256: \"{}\", expires: 2026-01-01T00:00:00Z }}]
  beta: {{ roles: [reader], plan: free, keys: [{{ id: beta-1, sha256: \"{}\" }}] }}
  gamma: {{ roles: [reader], plan: free, from: [203.0.113.0/24], keys: [{{ id: gamma-1, sha256: \"{}\" }}] }}",
        store.display(),
        sha256("acme-key"),
        sha256("narrow-key"),
        sha256("old-key"),
        sha256("beta-key"),
        sha256("gamma-key"),
    );
    let claims = "algorithms: [ES256], max_lifetime: 1h";
    proxy()
        .before(upstream)
        .issuer("corp", &format!("jwks: \"{}\", {claims}", issuer.url()))
        .with(&people)
        .file("order.json", r#"{"type": "object", "required": ["id"]}"#)
        .api("cors: { origins: [https://app.example.com] }")
        .route("GET /orders", "scopes: [orders:read]")
        .route("GET /orders/{id}", "scopes: [orders:read]")
        .route("POST /orders", "scopes: [orders:write], request: { json: order.json, max_size: 64B }")
        .route("GET /orders/{id}/lines", "scopes: [orders:read], only: [beta]")
        .route("GET /tenants/{tenant}", "scopes: [orders:read], where: { path.tenant: caller.tenant }")
        .route("GET /search", "scopes: [orders:read], where: { query.tenant: caller.tenant }")
        .route("GET /inside", "scopes: [orders:read], from: [10.0.0.0/8]")
        .route("GET /strong", "scopes: [orders:read], max_age: 1m")
        .route("GET /seldom", "scopes: [orders:read], rate: 1/day")
        .route("GET /tried", "scopes: [orders:admin], mode: report")
        .route("GET /open", "public: true")
}

/// Calls for every reason to be refused, and some that pass.
fn call_for_every_reason(client: &mut Client, proxy: &Proxy, issuer: &issuer::Issuer) {
    let token = |scope: &str| issuer.token().claim("client_id", "acme-app").scope(scope).text();
    let (reads, more) = (token("orders:read"), token("orders:read orders:refund"));
    client.get("/orders/1").bearer(&reads).send().is(200);
    client.get("/orders/%31").bearer(&more).send().is(200);
    client.get("/orders/1").key("acme-key").send().is(200);
    client.get("/orders").key("beta-key").send().is(200);
    client.post("/orders", r#"{"id": 1}"#).key("acme-key").send().is(200);
    client.post("/orders", "{}").key("acme-key").send().refused(422, "schema_violation");
    client.post("/orders", "{").key("acme-key").send().refused(400, "malformed_body");
    client.post("/orders", "x".repeat(100)).key("acme-key").send().refused(413, "body_too_large");
    client
        .post("/orders", "x")
        .header("content-type", "text/plain")
        .key("acme-key")
        .send()
        .refused(415, "unsupported_media_type");
    client.post("/orders", "{}").bearer(&reads).send().refused(403, "insufficient_scope");
    client.post("/orders", "{}").key("narrow-key").send().refused(403, "insufficient_scope");
    client.get("/orders").send().refused(401, "missing_credentials");
    client.get("/orders").bearer("forged").send().refused(401, "invalid_token");
    client.get("/orders").bearer(issuer.token().claim("exp", 1).text()).send().refused(401, "expired_token");
    client
        .get("/orders")
        .bearer(issuer.token().claim("client_id", "other").text())
        .send()
        .refused(403, "unknown_consumer");
    client.get("/orders").key("no-key").send().refused(401, "invalid_key");
    client.get("/orders").key("old-key").send().refused(401, "expired_key");
    client.get("/nowhere").send().refused(404, "no_route");
    client.request("DELETE", "/orders").send().refused(405, "method_not_allowed");
    client.get("//orders").send().refused(400, "malformed_request");
    client.get("/orders/1/lines").key("acme-key").send().refused(403, "consumer_not_approved");
    client.get("/orders/1/lines").key("beta-key").send().is(200);
    client.get("/tenants/t-17").key("acme-key").send().is(200);
    client.get("/tenants/t-18").key("acme-key").send().refused(403, "not_yours");
    client.get("/search?tenant=t-17").key("acme-key").send().is(200);
    client.get("/search?tenant=t-18").key("acme-key").send().refused(403, "not_yours");
    client.get("/inside").key("acme-key").send().refused(403, "network_not_allowed");
    client
        .get("/inside")
        .header("x-forwarded-for", "172.16.0.1")
        .key("acme-key")
        .send()
        .refused(403, "network_not_allowed");
    client.get("/inside").header("x-forwarded-for", "10.1.2.3").key("beta-key").send().is(200);
    client
        .get("/orders")
        .header("x-forwarded-for", "198.51.100.1")
        .key("gamma-key")
        .send()
        .refused(403, "network_not_allowed");
    client.get("/strong").key("acme-key").send().refused(403, "stronger_credential_required");
    client.get("/strong").bearer(&reads).send().is(200);
    client.get("/seldom").key("acme-key").send().is(200);
    client.get("/seldom").key("acme-key").send().refused(429, "rate_limited");
    client.get("/tried").key("acme-key").send().is(200);
    client.get("/tried").send().is(200);
    client.get("/open").send().is(200);
    client
        .request("OPTIONS", "/orders")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "GET")
        .send();
    let operate = |path: &str, body: Value| {
        let answer = operator(proxy).request("POST", path).bearer(ADMIN_TOKEN).body(body.to_string()).send();
        assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text());
    };
    operate("/v1/consumers/beta/grants", json!({"scopes": ["orders:write"], "until": "1h"}));
    client.post("/orders", r#"{"id": 2}"#).key("beta-key").send().is(200);
    operate("/v1/revocations", json!({"key": "narrow"}));
    client.get("/orders").key("narrow-key").send().refused(401, "revoked");
}

/// What `replay` says of the record of this folder, and its exit code.
fn replay(folder: &Path, policy: &str) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let command =
        command.current_dir(folder).args(["replay", "--policy", policy, "--min-window", "0s", "--format", "json"]);
    let output = command.arg("audit.jsonl").output().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    (output.status.code(), said.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))))
}

/// `COUNT CONSUMER ROUTE: OLD → NEW`, sorted.
fn flips(result: &Value) -> Vec<String> {
    let flips = result["flips"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut flips: Vec<_> = flips
        .map(|flip| {
            let [consumer, route, old, new] = ["consumer", "route", "old", "new"].map(|key| text(&flip[key]));
            format!("{} {consumer} {route}: {old} → {new}", flip["records"])
        })
        .collect();
    flips.sort();
    flips
}

#[test]
fn a_record_decides_as_it_did_and_only_what_changed_flips() {
    let (upstream, issuer, store) = (upstream().start(), issuer(), tempfile::tempdir().unwrap());
    let proxy = guarded(&upstream, &issuer, store.path()).start();
    let mut client = client(&proxy);
    call_for_every_reason(&mut client, &proxy, &issuer);
    let (folder, kept) = (proxy.file("audit.jsonl"), tempfile::tempdir().unwrap());
    let policy = std::fs::read_to_string(proxy.file("policy.yaml")).unwrap();
    let records = proxy_ends(proxy, &folder, kept.path());
    std::fs::write(kept.path().join("order.json"), "{}").unwrap();
    let write = |name: &str, text: &str| std::fs::write(kept.path().join(name), text).unwrap();

    write("same.yaml", &policy);
    let (code, same) = replay(kept.path(), "same.yaml");
    assert_eq!((code, flips(&same)), (Some(0), Vec::<String>::new()));
    assert_eq!(same["requests"], records);

    for (from, to, expected) in [
        (
            "GET /open: { public: true }",
            "GET /open: { scopes: [] }",
            // Whether its callers have credentials is not known.
            &["1 - GET /open: allowed → -"][..],
        ),
        (
            "writer: [orders:read, orders:write]",
            "writer: [orders:read]",
            &[
                "1 acme POST /orders: allowed → insufficient_scope",
                "1 acme POST /orders: body_too_large → insufficient_scope",
                "1 acme POST /orders: malformed_body → insufficient_scope",
                "1 acme POST /orders: schema_violation → insufficient_scope",
                "1 acme POST /orders: unsupported_media_type → insufficient_scope",
            ],
        ),
        (
            "only: [beta]",
            "only: [acme]",
            &[
                "1 acme GET /orders/{id}/lines: consumer_not_approved → allowed",
                "1 beta GET /orders/{id}/lines: allowed → consumer_not_approved",
            ],
        ),
        (
            "tenant: t-17",
            "tenant: t-18",
            &["1 acme GET /tenants/{tenant}: allowed → not_yours", "1 acme GET /tenants/{tenant}: not_yours → allowed"],
        ),
        ("expires: 2026-01-01", "expires: 2099-01-01", &["1 acme GET /orders: expired_key → allowed"]),
        (
            "from: [10.0.0.0/8]",
            "from: [172.16.0.0/12, 127.0.0.0/8]",
            // The client that no proxy has named is in no network.
            &["1 acme GET /inside: network_not_allowed → allowed", "1 beta GET /inside: allowed → network_not_allowed"],
        ),
        (
            "[orders:admin], mode: report",
            "[orders:admin]",
            &["1 - GET /tried: allowed → missing_credentials", "1 acme GET /tried: allowed → insufficient_scope"],
        ),
        (
            "      GET /orders/{id}/lines: { scopes: [orders:read], only: [beta] }\n",
            "",
            &[
                "1 acme GET /orders/{id}/lines: consumer_not_approved → no_route",
                "1 beta GET /orders/{id}/lines: allowed → no_route",
            ],
        ),
        ("rate: 1/day", "rate: 2/day", &[]),
        (
            "[{ issuer: corp, id: acme-app }]",
            "[]",
            // Whatever the store has: operators add no identities to a consumer of the policy.
            &[
                "1 acme GET /strong: allowed → unknown_consumer",
                "1 acme POST /orders: insufficient_scope → unknown_consumer",
                "2 acme GET /orders/{id}: allowed → unknown_consumer",
            ],
        ),
    ] {
        assert_eq!(policy.matches(from).count(), 1, "{from}\n{policy}");
        write("new.yaml", &policy.replace(from, to));
        let (code, result) = replay(kept.path(), "new.yaml");
        assert_eq!(flips(&result), expected, "{from} → {to}");
        assert_eq!(code, Some(i32::from(!expected.is_empty())));
    }

    write("new.yaml", &policy.replace("    cors: {", "    authenticate_by: [token]\n    cors: {"));
    let (_, result) = replay(kept.path(), "new.yaml");
    let all = flips(&result);
    assert!(all.contains(&"1 beta GET /orders: allowed → missing_credentials".to_owned()), "{all:?}");
    assert!(all.iter().all(|flip| flip.ends_with(" → missing_credentials")), "{all:?}");

    // An issuer that is gone: its tokens are of nobody known, whatever the consumer has of another one.
    write("new.yaml", &policy.replace("corp", "partners"));
    let (_, result) = replay(kept.path(), "new.yaml");
    assert_eq!(
        flips(&result),
        [
            "1 acme GET /strong: allowed → invalid_token",
            "1 acme POST /orders: insufficient_scope → invalid_token",
            "2 acme GET /orders/{id}: allowed → invalid_token",
        ]
    );

    // A key that is gone from the policy may be in the store: nothing flips, but that is said.
    write("new.yaml", &policy.replace("id: beta-1", "id: beta-2"));
    let (code, result) = replay(kept.path(), "new.yaml");
    assert_eq!((code, flips(&result)), (Some(0), Vec::<String>::new()));
    assert!(of_the_store(&result) >= of_the_store(&same) + 4, "{result} {same}");
}

#[test]
fn callers_that_no_policy_lists_are_known_by_their_ids() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let keys = format!("jwks: \"{}\", algorithms: [ES256], max_lifetime: 1h, default_plan: free", issuer.url());
    let proxy = proxy()
        .before(&upstream)
        .issuer("corp", &keys)
        .with("roles: { reader: [orders:read] }\nconsumers: { other: { roles: [reader], plan: free } }")
        .route("GET /orders", "scopes: [orders:read]")
        .route("GET /closed", "scopes: [orders:read], only: [other]")
        .start();
    let mut client = client(&proxy);
    let token = issuer.token().claim("client_id", "app").scope("orders:read orders:write").text();
    client.get("/orders").bearer(&token).send().is(200);
    client.get("/closed").bearer(&token).send().refused(403, "consumer_not_approved");
    let kept = tempfile::tempdir().unwrap();
    let policy = std::fs::read_to_string(proxy.file("policy.yaml")).unwrap();
    eventually("both are recorded", || (of_requests(&proxy.records()).count() == 2).then_some(()));
    std::fs::copy(proxy.file("audit.jsonl"), kept.path().join("audit.jsonl")).unwrap();
    proxy.done();
    let listed =
        |roles: &str| format!("other: {{ roles: {roles}, identities: [{{ issuer: corp, id: app }}], plan: free }}");
    let other = "other: { roles: [reader], plan: free }";
    for (from, to, expected) in [
        ("unchanged", "unchanged", &[][..]),
        (
            ", default_plan: free",
            "",
            &[
                "1 corp:app GET /closed: consumer_not_approved → unknown_consumer",
                "1 corp:app GET /orders: allowed → unknown_consumer",
            ],
        ),
        // It has a name now, and with it a ceiling.
        (other, &listed("[reader]"), &["1 corp:app GET /closed: consumer_not_approved → allowed"]),
        (
            other,
            &listed("[]"),
            &[
                "1 corp:app GET /closed: consumer_not_approved → insufficient_scope",
                "1 corp:app GET /orders: allowed → insufficient_scope",
            ],
        ),
    ] {
        assert!(from == to || policy.matches(from).count() == 1, "{from}\n{policy}");
        std::fs::write(kept.path().join("new.yaml"), policy.replace(from, to)).unwrap();
        let (_, result) = replay(kept.path(), "new.yaml");
        assert_eq!(flips(&result), expected, "{from} → {to}");
    }
}

/// Of how many requests only the store may know the credential.
fn of_the_store(result: &Value) -> u64 {
    let gaps = result["not_decided_again"].as_array().unwrap();
    let is_of = |gap: &&Value| gap["what"].as_str().unwrap().contains("the store may know");
    gaps.iter().find(is_of).map_or(0, |gap| gap["records"].as_u64().unwrap())
}

/// Ends the proxy, and keeps its record in a folder. Returns how many requests it is of.
fn proxy_ends(proxy: Proxy, record: &Path, folder: &Path) -> usize {
    let requests = of_requests_of_callers(&proxy);
    std::fs::copy(record, folder.join("audit.jsonl")).unwrap();
    drop(proxy);
    requests
}

/// How many requests are recorded, once the last one is.
fn of_requests_of_callers(proxy: &Proxy) -> usize {
    let is_last = |record: &Value| said(record, "event.reason") == "revoked";
    let records = eventually("the last request is recorded", || {
        let records = proxy.records();
        records.iter().any(is_last).then_some(records)
    });
    of_requests(&records).count()
}

#[test]
fn too_little_of_a_record_is_not_judged_and_damage_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("policy.yaml", &proxy().server("http://127.0.0.1:1").open("GET /").yaml());
    let line = |day: u32| {
        json!({"@timestamp": format!("2026-11-{day:02}T10:00:00.000Z"), "client": {"ip": "192.0.2.1"},
               "http": {"request": {"method": "GET"}}, "url": {"path": "/", "domain": "a"},
               "bartizan": {"api": "orders", "route": "GET /"}, "event": {"kind": "event", "action": "request"}})
    };
    let run = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let command = command.current_dir(folder.path()).args(["replay", "--policy", "policy.yaml", "audit.jsonl"]);
        let output = command.args(options).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    write("audit.jsonl", "");
    let (code, said) = run(&["--min-window", "0s"]);
    assert!(code == Some(2) && said.contains("there is no record of a request here"), "{said}");
    write("audit.jsonl", &(1..=7).map(|day| format!("{}\n", line(day))).collect::<String>());
    let (code, said) = run(&[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("the records cover 6 d 0 h, which is less than 7 d 0 h"), "{said}");
    assert_eq!(run(&["--min-window", "6d"]).0, Some(0));
    write("audit.jsonl", &format!("{}\n{}\n", line(1), line(8)));
    let (code, said) = run(&[]);
    assert_eq!(code, Some(2));
    assert!(said.contains("the records cover 1 h 0 min without the days that have none"), "{said}");
    let week = (1..=7).map(|day| format!("{}\n", line(day))).collect::<String>();
    let dropped = line(8).to_string().replace("\"api\":", "\"dropped\":3,\"api\":");
    write("audit.jsonl", &format!("{week}not a record\n{dropped}\n{{\"@times"));
    let (code, said) = run(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("0 of 8 requests flip") && said.contains("2 lines could not be read"), "{said}");
    assert!(said.contains("at most 23 h 0 min without a record") && said.contains("3 records dropped"), "{said}");
}
