//! `bartizan init --from kong`: from Kong's declarative configuration to a policy that is no more open.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::*;

const SECRET: (&str, &str) = ("KONG_JWT_PARTNER_TOKENS", "pArTnEr-secret-of-32-bytes-or-more");

fn bartizan(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bartizan"))
        .current_dir(folder)
        .env(SECRET.0, SECRET.1)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A file as decK writes it, with everything that is taken over.
fn realistic(upstream: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/kong/kong.yaml");
    std::fs::read_to_string(path).unwrap().replace("127.0.0.1:9000", upstream)
}

/// Makes a policy from this file; returns the folder and what was said.
fn made(kong: &str) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("kong.yaml"), kong).unwrap();
    let made = bartizan(folder.path(), &["init", "--from", "kong", "kong.yaml", "--out", "policy.yaml"]);
    (folder, made)
}

fn read(folder: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(folder.path().join(name)).unwrap()
}

/// The policy is good, and does what its tests say.
fn holds(folder: &tempfile::TempDir) {
    let checked = bartizan(folder.path(), &["check", "policy.yaml"]);
    assert!(checked.status.success(), "{}\n{}", text(&checked.stderr), read(folder, "policy.yaml"));
    let tested = bartizan(folder.path(), &["test", "policy.test.yaml"]);
    assert!(tested.status.success(), "{}{}", text(&tested.stdout), text(&tested.stderr));
}

#[test]
fn a_whole_file_becomes_a_good_policy_with_tests_that_pass() {
    let (folder, made) = made(&realistic("127.0.0.1:9000"));
    assert!(made.status.success(), "{}", text(&made.stderr));
    holds(&folder);
    let policy = read(&folder, "policy.yaml");
    for part in [
        "header: x-shop-key",
        "partners: [for-partners-or-staff]",
        "partner: { rate: 2/s, burst: 2, quota: [5000/day] }",
        "rate: 600/min",
        "origins: [https://shop.example.com]",
        "max_size: 256KiB",
        "GET /shop/orders/{id}/lines",
        "balance: least_requests",
        "host: preserve",
    ] {
        assert!(policy.contains(part), "{part}\n{policy}");
    }
    // Neither written nor shown; nothing but the secret that is expected is read from the environment.
    let all = policy.clone() + &read(&folder, "policy.test.yaml") + &text(&made.stderr) + &text(&made.stdout);
    assert!(!all.contains("0123456789-kong-key") && !all.contains(SECRET.1), "{all}");
    let values = policy.lines().filter(|line| !line.trim_start().starts_with('#') && line.contains("${"));
    assert_eq!(values.collect::<Vec<_>>(), ["      secret: \"${env:KONG_JWT_PARTNER_TOKENS}\""]);
    // Neither the route that nothing replaces, nor the one that had another credential.
    assert!(["/export", "/legacy", "/beta", "/moving"].iter().all(|path| !policy.contains(&format!(" {path}"))));
    let again = bartizan(folder.path(), &["init", "--from", "kong", "kong.yaml", "--out", "policy.yaml"]);
    assert!(again.status.code() == Some(1) && read(&folder, "policy.yaml") == policy);
}

#[test]
fn consumers_keep_the_keys_that_kong_gave_them() {
    let upstream = upstream().start();
    let (folder, made) = made(&realistic(upstream.url().trim_start_matches("http://")));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let policy = read(&folder, "policy.yaml")
        .replace("address: 127.0.0.1:8080", "address: 127.0.0.1:0")
        .replace("audit: [stdout]", "audit: [{ file: { path: audit.jsonl } }]")
        .replace("store: state/", "store: .")
        + &format!("admin: {{ address: \"127.0.0.1:0\", token: {} }}\n", proxy::ADMIN_TOKEN);
    let pem = "policy.warehouse-tokens.pem";
    let proxy = proxy().text(&policy).file(pem, read(&folder, pem)).env(SECRET.0, SECRET.1).start();
    let mut client = client(&proxy);
    let mut get = |path: &str, key: &str| client.get(path).header("x-shop-key", key).send();
    get("/orders/7", "wArEhOuSe-0123456789-kong-key").is(200);
    get("/orders/7", "gUeSt-0123456789-kong-key").refused(403, "insufficient_scope");
    get("/orders/7", "nobody-0123456789-kong-key").refused(401, "invalid_key");
    client.get("/orders/7").send().refused(401, "missing_credentials");
    proxy.done();
}

#[test]
fn an_issuer_of_several_consumers_needs_a_claim_that_tells_them_apart() {
    let (folder, _made) = made(&realistic("127.0.0.1:9000"));
    let policy = read(&folder, "policy.yaml");
    for (from, to) in [
        ("id: https://login.warehouse.example", "id: another"),
        ("consumer_claim: iss", "consumer_claim: [client_id, iss]"),
    ] {
        std::fs::write(folder.path().join("policy.yaml"), policy.replace(from, to)).unwrap();
        let checked = bartizan(folder.path(), &["check", "policy.yaml"]);
        let said = text(&checked.stderr);
        assert!(checked.status.code() == Some(2) && said.contains("is the same in all tokens"), "{to}: {said}");
    }
}

/// A service with this in its route, and what follows it.
fn kong(route: &str, rest: &str) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: a\n  url: http://127.0.0.1:9\n  routes:\n  - {{ name: open, paths: [/open], \
         methods: [GET] }}\n  - {{ name: r, {route} }}\n{rest}"
    )
}

#[test]
fn what_a_route_becomes() {
    for (route, rest, policy, note) in [
        (
            "paths: [/x], methods: [GET]",
            "",
            "GET /x/{rest...}: { public: true, rewrite: \"/{rest...}\" }",
            "OPEN TO EVERYONE",
        ),
        ("paths: [/x], methods: [GET], strip_path: false", "", "GET /x: { public: true }", ""),
        ("paths: [/x], methods: [GET], plugins: [{ name: key-auth }]", "", "GET /x: { scopes: []", "hide_credentials"),
        (
            "paths: [/x], methods: [GET], plugins: [{ name: key-auth, enabled: false }]",
            "",
            "GET /x: { public: true",
            "",
        ),
        ("paths: [/x], plugins: [{ name: key-auth }, { name: jwt }]", "", "!/x", "took both credentials"),
        ("paths: [/x], plugins: [{ name: jwt }]", "", "!/x", "takes tokens"),
        ("paths: [/x], plugins: [{ name: acl, config: { allow: [a] } }]", "", "!/x", "nothing says who"),
        ("paths: [/x], plugins: [{ name: acl, config: { allow: ['${{ env \"DECK_G\" }}'] } }]", "", "!/x", "left out"),
        ("paths: [/x], plugins: [{ name: its-own }]", "", "!/x", "`its-own`"),
        ("paths: [/x], hosts: ['${{ env \"DECK_H\" }}']", "", "!/x", "only decK or Kong"),
        ("paths: [/x], hosts: ['a\\nb: c']", "", "!/x", "only hosts"),
        ("paths: ['/x: { public: true }']", "", "!/x", "characters"),
        ("paths: [/x], protocols: [tcp]", "", "!/x", "other protocols"),
        ("paths: [/open], methods: [GET]", "", "GET /open: ", "another route has the same"),
        ("paths: [/x]", "plugins: [{ name: key-auth }]", "header: apikey", "every method"),
        ("paths: [/x]", "plugins: [{ name: key-auth, route: r }]", "GET /x: { scopes: []", ""),
        ("paths: [/x]", "plugins: [{ name: opa, service: a, route: r }]", "!/x", "`opa`"),
        (
            "paths: [/x], plugins: [{ name: cors, config: { origins: ['*'], credentials: true } }]",
            "",
            "!cors:",
            "every page",
        ),
    ] {
        let (folder, made) = made(&kong(route, rest));
        let said = text(&made.stderr);
        assert!(made.status.success() && said.contains(note), "{route}: {said}");
        holds(&folder);
        let written = read(&folder, "policy.yaml");
        let values: Vec<&str> = written.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        let values = values.join("\n");
        match policy.strip_prefix('!') {
            Some(absent) => assert!(!values.contains(absent), "{route}: {values}"),
            None => assert!(values.contains(policy), "{route}: {values}"),
        }
    }
}

#[test]
fn names_are_text_and_never_yaml_or_references() {
    let consumers = "consumers:\n\
        - { username: \"a\\nadmin: x\", keyauth_credentials: [{ key: k-0123456789-0123456789 }], acls: [{ group: \"g]\\n# \" }] }\n\
        - { username: \"${env:HOME}\", keyauth_credentials: [{ key: l-0123456789-0123456789 }] }\n\
        - { username: same, keyauth_credentials: [{ key: m-0123456789-0123456789 }] }\n\
        - { username: same, keyauth_credentials: [{ key: n-0123456789-0123456789 }] }\n";
    let route = "paths: [/x], methods: [GET], plugins: [{ name: key-auth, config: { key_names: [\"a: ${env:HOME}\"] } }, \
                 { name: acl, config: { allow: [\"g]\\n# \", \"${env:X}\"] } }]";
    for route in [
        route,
        "paths: [/x], methods: [GET], plugins: [{ name: key-auth }, { name: acl, config: { allow: [\"g]\\n# \"] } }]",
    ] {
        let (folder, made) = made(&kong(route, consumers));
        assert!(made.status.success(), "{}", text(&made.stderr));
        holds(&folder);
        let all = read(&folder, "policy.yaml") + &read(&folder, "policy.test.yaml") + &text(&made.stderr);
        assert!(!all.contains("0123456789-0123456789") && !all.contains("\nadmin"), "{all}");
        let values = all.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(values.into_iter().all(|line| !line.contains("${")), "{all}");
    }
}

#[test]
fn what_is_no_file_of_kong_is_reported_without_its_lines() {
    let bomb: String = (1..40).map(|n| format!("b{n}: &b{n} [*b{}, *b{}]\n", n - 1, n - 1)).collect();
    let deep = "[".repeat(100_000);
    for (file, words) in [
        ("_format_version: '3.0'\n", "no route"),
        (
            "_format_version: '3.0'\nconsumer_groups: [{ name: g, plugins: [{ name: request-termination }] }]\n",
            "kong.yaml:2:40",
        ),
        ("services: []\n", "not a declarative configuration"),
        ("_format_version: '3.0'\nservices: []\nservices: []\n", "twice"),
        ("_format_version: '3.0'\nkey: { a: sEcReT, a: }}\n", "kong.yaml:2"),
        (&format!("_format_version: '3.0'\nb0: &b0 [x]\n{bomb}"), "more than 100000 values"),
        (&deep, "kong.yaml:1"),
        ("", "empty"),
    ] {
        let (folder, made) = made(file);
        let said = text(&made.stderr);
        assert!(made.status.code() == Some(2) && said.contains(words) && !said.contains("sEcReT"), "{words}: {said}");
        assert!(!folder.path().join("policy.yaml").exists());
    }
}
