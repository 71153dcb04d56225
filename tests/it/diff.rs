//! `bartizan diff`: every widening of a policy is found, and its opposite is a loss.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A policy that is narrow wherever the language lets it be; each line of [`WIDENINGS`] opens one thing.
const NARROW: &str = r#"
version: 1
listen:
  - { address: "127.0.0.1:8080" }
trusted_proxies: [10.0.0.0/24]
headers: { drop: [x-internal-*] }
admin: { address: "127.0.0.1:9901", tokens: [{ name: ops, token: 0123456789abcdef0123456789abcdef, rights: read }] }
limits: { body_size: 1MiB }
store: { redis: "redis://127.0.0.1:1", on_failure: refuse, limits: { on_failure: refuse } }
auth:
  issuers:
    corp:
      issuer: https://login.example.com
      audience: [orders-api]
      require: { token_use: access }
      jwks: http://127.0.0.1:1/jwks
      algorithms: [ES256]
      type: at+jwt
      max_lifetime: 1h
      clock_skew: 5s
      role_claim: roles
      scopes_and_roles: intersect
  api_keys: { max_key_age: 100d }
  dpop: { max_age: 30s, nonce: true }
  failed_attempts: 10/min
roles: { clerk: [orders:read], lead: [orders:read, orders:write] }
plans:
  free: { rate: 5/s, burst: 5, quota: 100/day, per_user: 1/s, concurrent: 5, classes: { report: 2/s } }
  gold: { rate: 50/s, burst: 50 }
consumers:
  acme:
    roles: [clerk]
    plan: free
    from: [192.0.2.0/24]
    attributes: { tenant: t-17 }
    identities: [{ issuer: corp, id: acme }]
    keys:
      - { id: acme-1, sha256: "7dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10", not_before: 2026-01-01T00:00:00Z, expires: 2026-12-31T00:00:00Z, scopes: [], from: [192.0.2.7] }
  beta: { roles: [lead], plan: gold, keys: [{ id: beta-1, sha256: "8dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10", created: 2026-11-01T00:00:00Z }] }
apis:
  orders:
    hosts: [api.example.com]
    upstream: { servers: ["https://127.0.0.1:2"], forward_credentials: false, tls: { pin: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" } }
    cors: { origins: [https://app.example.com], headers: [content-type] }
    mode: enforce
    routes:
      GET /tenants/{tenant}/orders: { scopes: [orders:read], where: { path.tenant: caller.tenant }, from: [192.0.2.0/24], max_age: 5m, class: report, cost: 2, rate: 2/s }
      POST /orders: { scopes: [orders:write], only: [beta], request: { json: order.json, query: query.json, max_size: 64KiB, strict: true } }
      PUT /orders/{id}: { scopes: [orders:read, orders:write], proof_of_possession: [dpop] }
      GET /orders/{id}: { scopes: [orders:read], response: { json: order.json, mask: { /iban: { visible_to: [orders:pii] } } } }
      GET /orders/{id}/lines: { scopes: [orders:read, orders:admin] }
      GET /orders/{rest...}: { scopes: [orders:read] }
audit: none
"#;

/// What opens something: the text of [`NARROW`] and what takes its place, and the setting that is named.
const WIDENINGS: &[(&str, &str, &str)] = &[
    (
        "  - { address: \"127.0.0.1:8080\" }",
        "  - { address: \"127.0.0.1:8080\" }\n  - { address: \"127.0.0.1:8081\" }",
        "listen",
    ),
    ("drop: [x-internal-*]", "drop: []", "headers.drop"),
    ("rights: read", "rights: operate", "rights"),
    ("rights: read }]", "rights: read }, { name: two, token: abcdef0123456789abcdef0123456789 }]", "admin.tokens.two"),
    ("body_size: 1MiB", "body_size: 2MiB", "limits.body_size"),
    ("on_failure: refuse, limits", "on_failure: serve, limits", "store.on_failure"),
    ("limits: { on_failure: refuse }", "limits: { on_failure: allow }", "store.limits.on_failure"),
    ("audience: [orders-api]", "audience: [orders-api, other-api]", "audience"),
    ("      require: { token_use: access }\n", "", "require"),
    ("token_use: access", "token_use: [access, id]", "require.token_use"),
    ("[ES256]", "[ES256, RS256]", "algorithms"),
    ("      type: at+jwt\n", "", "type"),
    ("max_lifetime: 1h", "max_lifetime: 2h", "max_lifetime"),
    ("      max_lifetime: 1h\n", "", "max_lifetime"),
    ("clock_skew: 5s", "clock_skew: 1m", "clock_skew"),
    ("      clock_skew: 5s\n", "", "clock_skew"),
    ("intersect", "union", "scopes_and_roles"),
    ("scopes_and_roles: intersect", "scopes_and_roles: intersect\n      default_plan: free", "default_plan"),
    (
        "    corp:\n",
        "    more: { issuer: https://more.example, audience: [orders-api], jwks: http://127.0.0.1:1/more, algorithms: [ES256], type: at+jwt, max_lifetime: 1h }\n    corp:\n",
        "issuers.more",
    ),
    ("max_key_age: 100d", "max_key_age: 200d", "max_key_age"),
    ("max_age: 30s, nonce", "max_age: 90s, nonce", "dpop.max_age"),
    ("nonce: true", "nonce: false", "dpop.nonce"),
    ("  failed_attempts: 10/min\n", "", "failed_attempts"),
    ("failed_attempts: 10/min", "failed_attempts: 600/h", "failed_attempts"),
    ("failed_attempts: 10/min", "failed_attempts: 20/min", "failed_attempts"),
    ("clerk: [orders:read]", "clerk: [orders:read, orders:admin]", "roles.clerk"),
    ("rate: 5/s, burst: 5,", "rate: 6/s, burst: 5,", "plans.free.rate"),
    ("burst: 5,", "burst: 6,", "plans.free.burst"),
    ("quota: 100/day", "quota: 101/day", "quota"),
    ("quota: 100/day, ", "", "quota"),
    ("per_user: 1/s, ", "", "per_user"),
    ("concurrent: 5", "concurrent: 6", "concurrent"),
    ("classes: { report: 2/s }", "classes: { report: 3/s }", "report.rate"),
    ("plan: free\n", "plan: gold\n", "plan"),
    ("    plan: free\n", "", "plan"),
    ("    roles: [clerk]\n", "    roles: [clerk, lead]\n", "roles"),
    ("    from: [192.0.2.0/24]\n", "    from: [192.0.2.0/24, 198.51.100.0/24]\n", "from"),
    ("    from: [192.0.2.0/24]\n", "", "from"),
    ("tenant: t-17", "tenant: [t-17, t-18]", "tenant"),
    ("[{ issuer: corp, id: acme }]", "[{ issuer: corp, id: acme }, { issuer: corp, id: acme-2 }]", "identities"),
    ("expires: 2026-12-31", "expires: 2027-12-31", "expires"),
    (", expires: 2026-12-31T00:00:00Z", "", "expires"),
    ("not_before: 2026-01-01", "not_before: 2025-01-01", "not_before"),
    ("scopes: [], from", "scopes: [orders:read], from", "keys.acme-1.scopes"),
    ("from: [192.0.2.7]", "from: [192.0.2.0/28]", "keys.acme-1.from"),
    (
        "  beta: {",
        "  gamma: { roles: [clerk], plan: free, keys: [{ id: gamma-1, sha256: \"9dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10\", created: 2026-11-01T00:00:00Z }] }\n  beta: {",
        "consumers.gamma",
    ),
    (
        "keys: [{ id: beta-1,",
        "keys: [{ id: beta-2, sha256: \"9dfa5cb0d4b7f2a07fcb5ab6f7b6d3a2f2d7bd9aa55d8d1b4ea5eaaf9e4b5d10\", created: 2026-11-01T00:00:00Z }, { id: beta-1,",
        "keys.beta-2",
    ),
    ("hosts: [api.example.com]", "hosts: [api.example.com, \"*.shop.example\"]", ""),
    ("    hosts: [api.example.com]\n", "", ""),
    ("forward_credentials: false", "forward_credentials: true", "forward_credentials"),
    (", tls: { pin: \"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\" }", "", "pin"),
    ("origins: [https://app.example.com]", "origins: [https://app.example.com, https://b.example.com]", "origins"),
    ("headers: [content-type]", "headers: [content-type], credentials: true", "credentials"),
    ("mode: enforce", "mode: report", "mode"),
    ("mode: enforce", "mode: { schema: report }", "mode"),
    ("where: { path.tenant: caller.tenant }", "where: {}", "where"),
    ("from: [192.0.2.0/24], max_age", "from: [192.0.0.0/16], max_age", "from"),
    ("from: [192.0.2.0/24], max_age", "max_age", "from"),
    ("max_age: 5m", "max_age: 10m", "max_age"),
    ("max_age: 5m, ", "", "max_age"),
    ("class: report, ", "", "class"),
    ("cost: 2", "cost: 1", "cost"),
    ("cost: 2, rate: 2/s", "cost: 2, rate: 3/s", "rate"),
    ("scopes: [orders:write], only: [beta]", "scopes: [], only: [beta]", "scopes"),
    ("only: [beta]", "only: [beta, acme]", "only"),
    ("only: [beta], ", "", "only"),
    ("json: order.json, query", "query", "request"),
    ("json: order.json, query", "json: order.json, form: order.json, query", "request"),
    ("query: query.json, max_size: 64KiB, strict: true", "max_size: 64KiB", "request.query"),
    ("max_size: 64KiB", "max_size: 65KiB", "max_size"),
    (", strict: true", "", "strict"),
    ("[orders:read, orders:write], proof", "[orders:write], proof", "scopes"),
    ("proof_of_possession: [dpop]", "proof_of_possession: [dpop, certificate]", "proof_of_possession"),
    (", proof_of_possession: [dpop]", "", "proof_of_possession"),
    ("scopes: [orders:read, orders:write], proof_of_possession: [dpop]", "public: true", "scopes"),
    ("response: { json: order.json, mask", "response: { mask", "response"),
    ("response: { json: order.json, mask", "response: { json: order.json, mode: report, mask", "mode"),
    (", mask: { /iban: { visible_to: [orders:pii] } }", "", "mask./iban"),
    ("visible_to: [orders:pii]", "visible_to: [orders:pii, orders:read]", "visible_to"),
    ("visible_to: [orders:pii]", "visible_to: [orders:pii], else: keep_last 4", "else"),
    ("      GET /orders/{id}/lines: { scopes: [orders:read, orders:admin] }\n", "", "scopes"),
    (
        "GET /orders/{rest...}: { scopes: [orders:read] }",
        "GET /orders/{rest...}: { scopes: [orders:read], encoded_slash: keep }",
        "encoded_slash",
    ),
    (
        "GET /orders/{rest...}: { scopes: [orders:read] }",
        "GET /orders/{rest...}: { scopes: [orders:read] }\n      DELETE /orders/{id}: { scopes: [orders:write] }",
        "route",
    ),
];

/// What cannot be ordered counts as a gain both ways.
const UNORDERED: &[(&str, &str)] = &[
    ("login.example.com", "login.example.net"),
    // A proxy that is not trusted any more is taken for the client.
    ("[10.0.0.0/24]", "[10.0.0.0/16]"),
    // Without it, what the upstream says goes on to pages.
    ("    cors: { origins: [https://app.example.com], headers: [content-type] }\n", ""),
    ("127.0.0.1:1/jwks", "127.0.0.1:1/other"),
    ("role_claim: roles", "role_claim: groups"),
    ("127.0.0.1:8080", "127.0.0.1:8089"),
    ("\"7dfa", "\"6dfa"),
    ("path.tenant: caller.tenant", "path.tenant: caller.consumer"),
    ("json: order.json, query", "json: query.json, query"),
    ("GET /orders/{id}: { ", "GET /orders/{id}: { rewrite: \"/internal/{id}\", "),
    // More at once, but fewer in the long run; and the other way round.
    ("failed_attempts: 10/min", "failed_attempts: 300/h"),
    ("failed_attempts: 10/min", "failed_attempts: 1/s"),
    // Where the upstream is decides what a caller reaches.
    ("https://127.0.0.1:2", "https://127.0.0.1:2/internal"),
    ("forward_credentials: false", "forward_credentials: false, host: preserve"),
    ("redis://127.0.0.1:1\"", "redis://127.0.0.1:2\""),
    ("0123456789abcdef0123456789abcdef", "1123456789abcdef0123456789abcdef"),
];

/// What changes nobody's permissions.
const HARMLESS: &[(&str, &str)] = &[
    ("https://127.0.0.1:2", "https://127.0.0.1:3"),
    ("audit: none", "audit: [stdout]"),
    ("version: 1", "version: 1\nworkers: 2"),
    ("version: 1", "version: 1\ntimeouts: { idle: 20s }"),
];

/// What only looks different.
const SAME: &[(&str, &str)] = &[
    ("version: 1", "# a comment\nversion: 1"),
    ("max_lifetime: 1h", "max_lifetime: 60m"),
    ("[10.0.0.0/24]", "[10.0.0.0/25, 10.0.0.128/25]"),
    ("audience: [orders-api]", "audience: [&name orders-api]"),
    ("[orders:read, orders:write] }", "[orders:write, orders:read] }"),
    ("report: 2/s", "report: { rate: 2/s }"),
    ("quota: 100/day", "quota: [{ count: 100/day }]"),
    ("token_use: access", "token_use: [\"access\"]"),
    ("visible_to: [orders:pii]", "else: remove, visible_to: [orders:pii]"),
    ("max_age: 30s, nonce: true", "nonce: true, max_age: 30s, algorithms: [ES256, ES384, EdDSA, PS256, RS256]"),
    ("GET /orders/{id}: {", "GET /orders/{name}: {"),
];

fn bartizan(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).current_dir(folder).args(arguments).output().unwrap();
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|_| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

/// Compares [`NARROW`] with a text of it replaced, and the other way round.
fn compare(from: &str, to: &str) -> [(Option<i32>, Value); 2] {
    assert_eq!(NARROW.matches(from).count(), 1, "{from:?} is not there once");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("order.json", r#"{"type": "object"}"#);
    write("query.json", r#"{"type": "object", "properties": {"page": {"type": "integer"}}}"#);
    write("old.yaml", NARROW);
    write("new.yaml", &NARROW.replace(from, to));
    let diff = |old: &str, new: &str| bartizan(folder.path(), &["diff", old, new, "--format", "json"]);
    [diff("old.yaml", "new.yaml"), diff("new.yaml", "old.yaml")]
}

#[test]
fn nothing_of_a_policy_acts_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("order.json", "{}");
    write("query.json", "{}");
    write("old.yaml", NARROW);
    write("new.yaml", &NARROW.replace("tenant: t-17", r#"tenant: "t\e[2J""#));
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.current_dir(folder.path()).args(["diff", "old.yaml", "new.yaml"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("t\\u{1b}[2J"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
}

/// Compares the routes of two policies.
fn compare_routes(old: &str, new: &str) -> (Option<i32>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let policy = |routes: &str| {
        format!(
            "version: 1\nlisten: [{{ address: \"127.0.0.1:8080\" }}]\naudit: none\n{CORP}apis:\n  orders:\n    upstream: http://127.0.0.1:1\n{routes}"
        )
    };
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("api.yaml", DESCRIPTION);
    write("old.yaml", &policy(old));
    write("new.yaml", &policy(new));
    bartizan(folder.path(), &["diff", "old.yaml", "new.yaml", "--format", "json"])
}

/// What routes of descriptions ask for.
const CORP: &str = "auth: { issuers: { corp: { issuer: https://login.example.com, audience: [orders], jwks: http://127.0.0.1:1/jwks, algorithms: [ES256], max_lifetime: 1h, default_plan: free, attributes: { tenant: tenant } } } }
plans: { free: { rate: 5/s, classes: { report: 10/s, cheap: 20/s } } }
";

/// A description that narrows its operation by everything that it may.
const DESCRIPTION: &str = r#"
openapi: 3.1.0
info: { title: Orders, version: "1" }
components: { securitySchemes: { corp: { type: http, scheme: bearer } } }
paths:
  /tenants/{tenant}:
    parameters: [{ name: tenant, in: path, required: true, schema: { type: string } }]
    get:
      security: [{ corp: [orders:read] }]
      responses: { "200": { description: Good } }
      x-bartizan:
        where: { path.tenant: caller.tenant }
        from: [192.0.2.0/24]
        max_age: 1m
        proof_of_possession: [dpop]
        rate: 10/s
        cost: 2
        class: report
"#;

#[test]
fn what_takes_the_place_of_a_description_is_no_loss() {
    let described = "    openapi: api.yaml\n";
    for written in [
        "where: {}",
        "from: [0.0.0.0/0]",
        "max_age: 1h",
        "proof_of_possession: [dpop, certificate]",
        "rate: 100/s",
        "cost: 3",
        "class: cheap",
    ] {
        let own = format!("{described}    routes:\n      GET /tenants/{{tenant}}: {{ {written} }}\n");
        for (old, new) in [(described, &*own), (&*own, described)] {
            let (code, result) = compare_routes(old, new);
            assert_eq!((code, count(&result, "unjudged")), (Some(1), 1), "{written} {result}");
        }
    }
}

#[test]
fn what_a_route_leaves_to_one_that_it_crosses_is_a_gain() {
    for (kept, gone) in [
        ("GET /{section}/status: { public: true }", "GET /internal/{page}: { scopes: [admin] }"),
        ("GET /users/{id}: { public: true }", "POST /users/export: { scopes: [admin] }"),
        ("GET /{area}/{rest...}: { public: true }", "GET /internal/{page}/lines: { scopes: [admin] }"),
    ] {
        let one = format!("    routes:\n      {kept}\n");
        let (code, result) = compare_routes(&format!("{one}      {gone}\n"), &one);
        assert!(code == Some(1) && count(&result, "gains") > 0, "{gone} {result}");
    }
}

fn count(result: &Value, kind: &str) -> usize {
    result[kind].as_array().unwrap().len()
}

#[test]
fn every_widening_is_found_and_its_opposite_is_a_loss() {
    assert!(WIDENINGS.len() >= 40);
    let mut missed = Vec::new();
    for (from, to, setting) in WIDENINGS {
        let [(code, wider), (back_code, narrower)] = compare(from, to);
        let names = |change: &Value| change["setting"].as_str().unwrap().contains(setting);
        let is_found = code == Some(1) && wider["gains"].as_array().unwrap().iter().any(names);
        let is_loss = back_code == Some(0) && narrower["losses"].as_array().unwrap().iter().any(names);
        if !is_found || !is_loss {
            missed.push(format!("{from:?} → {to:?}\n{wider}\n{narrower}\n"));
        }
    }
    assert!(missed.is_empty(), "{} of {} are not found:\n{}", missed.len(), WIDENINGS.len(), missed.concat());
}

#[test]
fn what_cannot_be_ordered_counts_as_a_gain() {
    for (from, to) in UNORDERED {
        for (code, result) in compare(from, to) {
            assert_eq!(code, Some(1), "{from} {result}");
            assert!(count(&result, "unjudged") + count(&result, "gains") > 0, "{from} {result}");
        }
    }
}

#[test]
fn what_changes_no_permission_is_only_told() {
    for (from, to) in HARMLESS {
        for (code, result) in compare(from, to) {
            let counts = ["gains", "unjudged", "losses", "other"].map(|kind| count(&result, kind));
            assert_eq!((code, counts), (Some(0), [0, 0, 0, 1]), "{from} {result}");
        }
    }
}

#[test]
fn what_is_only_written_differently_is_no_change() {
    for (from, to) in SAME {
        for (code, result) in compare(from, to) {
            let counts = ["gains", "unjudged", "losses", "other"].map(|kind| count(&result, kind));
            assert_eq!((code, counts), (Some(0), [0; 4]), "{from} {result}");
        }
    }
}
