//! `bartizan test`: tables of requests, asked of a policy through the real chain, without sockets and without a network.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use quick_xml::Reader;
use quick_xml::events::Event;
use tempfile::TempDir;

use crate::support::{Value, authority, json};

/// A folder with a policy, its schema, and tests.
struct Folder(TempDir);

/// What a command said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

const POLICY: &str = r#"version: 1
listen: [{ address: "127.0.0.1:0" }]
auth:
  issuers:
    corp: { issuer: "https://corp.example", audience: [orders-api], jwks: jwks.json, algorithms: [ES256], max_lifetime: 1h, role_claim: [/realm_access/roles, roles], scopes_and_roles: union }
roles: { clerk: [orders:read, orders:write], auditor: [orders:read] }
plans: { slow: { rate: 5/s }, free: { rate: 1/s }, day: { rate: 9/s, quota: 2/day } }
consumers:
  acme: { roles: [clerk], plan: slow, identities: [{ issuer: corp, id: acme }], keys: [{ id: acme-1, sha256: "KEY", expires: 2027-01-01T00:00:00Z }] }
  daily: { roles: [auditor], plan: day }
  idle: { roles: [auditor], plan: slow, identities: [{ issuer: corp, id: idle }] }
apis:
  orders:
    upstream: http://127.0.0.1:9
    routes:
      GET /orders/{id}: { scopes: [orders:read] }
      POST /orders: { scopes: [orders:write], request: { json: order.json } }
      DELETE /orders/{id}: { scopes: [orders:write], only: [acme] }
      GET /open: { public: true, rate: 2/s }
audit: none
"#;

const SCHEMA: &str = r#"{ "type": "object", "required": ["lines"], "properties": { "lines": { "type": "array", "items": { "type": "integer" } } } }"#;

fn folder(tests: &str) -> Folder {
    let folder = Folder(TempDir::new().unwrap());
    folder.write("policy.yaml", &POLICY.replace("KEY", &"00".repeat(32)));
    folder.write("order.json", SCHEMA);
    folder.write("jwks.json", &crate::support::issuer().jwks());
    folder.write("t.yaml", tests);
    folder
}

impl Folder {
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn test(&self, arguments: &[&str]) -> Said {
        test(self.0.path(), arguments)
    }

    /// What is reported as JSON.
    fn reported(&self) -> (Option<i32>, Value) {
        let said = self.test(&["t.yaml", "--format", "json"]);
        (said.code, serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err)))
    }
}

fn test(folder: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.current_dir(folder).arg("test").args(arguments).env_remove("ORDERS_KEY").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// That all of these tests pass.
#[track_caller]
fn pass(folder: &Folder, count: usize) {
    let said = folder.test(&["t.yaml"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.ends_with(&format!("\n{count} passed, 0 failed\n")), "{}", said.out);
}

#[test]
fn tests_that_are_shipped_pass() {
    for file in [
        "tests/cases/demo.test.yaml",
        "examples/browser/policy.test.yaml",
        "examples/grpc/policy.test.yaml",
        "examples/oauth-issuer/policy.test.yaml",
        "examples/sidecar/policy.test.yaml",
        "examples/vault/policy.test.yaml",
    ] {
        let said = test(Path::new(env!("CARGO_MANIFEST_DIR")), &[file]);
        assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
        assert!(said.out.contains("every route, scope, schema and consumer is covered"), "{}", said.out);
    }
}

#[test]
fn every_kind_of_credential_is_verified_as_it_is() {
    pass(
        &folder(
            r#"policy: policy.yaml
now: 2026-11-24T12:00:00Z
callers:
  clerk: { issuer: corp, id: acme, scopes: [orders:read, orders:write] }
tests:
  - { name: token, as: clerk, request: GET /orders/7, expect: { status: 200, consumer: acme, granted: [orders:write, orders:read] } }
  - { name: roles, as: { issuer: corp, id: acme, roles: [auditor] }, request: GET /orders/7, expect: { status: 200, granted: [orders:read] } }
  - { name: ceiling, as: { issuer: corp, id: idle, scopes: [orders:read, orders:write] }, request: DELETE /orders/7, expect: { status: 403, granted: [orders:read] } }
  - { name: stranger, as: { issuer: corp, id: eve, scopes: [orders:read] }, request: GET /orders/7, expect: { status: 403, code: unknown_consumer, stage: auth } }
  - { name: ended, as: { issuer: corp, id: acme, expired: 31s }, request: GET /orders/7, expect: { status: 401, code: expired_token } }
  - { name: within the tolerance, as: { issuer: corp, id: acme, scopes: [orders:read], expired: 29s }, request: GET /orders/7, expect: allow }
  - { name: too long, as: { issuer: corp, id: acme, issued: 30m, expires: 31m }, request: GET /orders/7, expect: { code: token_lifetime_too_long } }
  - { name: as long as it may, as: { issuer: corp, id: acme, scopes: [orders:read], issued: 30m, expires: 30m }, request: GET /orders/7, expect: allow }
  - { name: not ours, as: { issuer: corp, id: acme, claims: { aud: [other] } }, request: GET /orders/7, expect: { code: invalid_token } }
  - { name: claimed, as: { issuer: corp, id: x, claims: { client_id: acme, scope: orders:read } }, request: GET /orders/7, expect: { status: 200, consumer: acme } }
  - { name: left out, as: { issuer: corp, id: acme, claims: { exp: null } }, request: GET /orders/7, expect: { code: invalid_token } }
  - { name: key, as: { key: acme-1 }, request: GET /orders/7, expect: { status: 200, consumer: acme } }
  - { name: made, as: { consumer: idle }, request: GET /orders/7, expect: { status: 200, consumer: idle } }
  - { name: narrowed, as: { consumer: acme, scopes: [orders:write] }, request: GET /orders/7, expect: { code: insufficient_scope, granted: [orders:write] } }
  - { name: forged, request: { method: GET, path: /orders/7, headers: { authorization: Bearer a.b.c } }, expect: { code: invalid_token } }
  - { name: two, as: clerk, request: { method: GET, path: /orders/7, headers: { x-api-key: k } }, expect: { status: 400, code: malformed_request, stage: auth } }
  - { name: not mine, as: { issuer: corp, id: idle, scopes: [orders:read] }, request: "GET /orders/7?all=1", expect: { route: "GET /orders/{id}", scopes: [orders:read] } }
"#,
        ),
        17,
    );
}

#[test]
fn the_clock_is_that_of_the_test() {
    pass(
        &folder(
            r#"policy: policy.yaml
now: 2026-12-31T23:59:50Z
callers: { key: { key: acme-1 } }
tests:
  - name: the last seconds of a key
    as: key
    sequence:
      - { request: GET /orders/7, expect: allow }
      - { after: 9s, request: GET /orders/7, expect: allow }
      - { after: 1s, request: GET /orders/7, expect: { status: 401, code: expired_key } }
  - name: limits fill up as time goes by
    as: key
    sequence:
      - { request: GET /orders/7, repeat: 5, expect: allow }
      - { request: GET /orders/7, expect: { status: 429, code: rate_limited, consumer: acme } }
      - { after: 199ms, request: GET /orders/7, expect: { status: 429 } }
      - { after: 1ms, request: GET /orders/7, expect: allow }
  - name: quotas reset at midnight
    as: { consumer: daily }
    sequence:
      - { request: GET /orders/7, repeat: 2, expect: allow }
      - { request: GET /orders/7, expect: { status: 429, code: quota_exceeded, consumer: daily } }
      - { after: 9s, request: GET /orders/7, expect: { code: quota_exceeded } }
      - { after: 1s, request: GET /orders/7, expect: allow }
  - { name: every test has fresh limits, as: key, request: GET /orders/7, repeat: 5, expect: allow }
  - { name: addresses too, request: GET /open, repeat: 3, expect: { status: 429, stage: rate_limit } }
  - { name: of their own, request: { method: GET, path: /open, from: "2001:db8::1" }, repeat: 2, expect: allow }
"#,
        ),
        14,
    );
}

#[test]
fn heads_and_bodies_are_judged_as_they_would_be() {
    let folder = folder(
        r#"policy: policy.yaml
callers: { clerk: { issuer: corp, id: acme, scopes: [orders:write, orders:read] } }
tests:
  - { name: json, as: clerk, request: { method: POST, path: /orders, body: { lines: [1, 2] } }, expect: allow }
  - { name: file, as: clerk, request: { method: POST, path: /orders, body_file: good.json }, expect: allow }
  - { name: text, as: clerk, request: { method: POST, path: /orders, body_text: '{"lines":[]}', headers: { Content-Type: application/json } }, expect: allow }
  - { name: no type, as: clerk, request: { method: POST, path: /orders, body_text: "{}" }, expect: { code: unsupported_media_type, stage: schema } }
  - { name: broken, as: clerk, request: { method: POST, path: /orders, body: { lines: [1, "2", x] } }, expect: { code: schema_violation, violations: [/lines/2, /lines/1] } }
  - { name: nothing, as: clerk, request: { method: POST, path: /orders, body: {} }, expect: { violations: [""] } }
  - { name: twice encoded, as: clerk, request: GET /orders/%252e, expect: { status: 400, stage: request } }
  - { name: normalised, as: clerk, request: GET /a/../orders/7, expect: { status: 200, route: "GET /orders/{id}" } }
  - { name: two readings, as: clerk, request: { method: GET, path: /orders/7, headers: { x_api_key: k } }, expect: { code: malformed_request } }
  - { name: another request within, as: clerk, request: { method: GET, path: /open, headers: { x: "1\r\n\r\nGET /orders/7 HTTP/1.1" } }, expect: { code: malformed_request } }
  - { name: trace, request: TRACE /open, expect: { status: 405, code: method_not_allowed } }
  - { name: about the proxy, request: OPTIONS *, expect: { status: 204 } }
  - { name: method, request: PATCH /open, expect: { status: 405, code: method_not_allowed } }
  - { name: nowhere, request: GET /, expect: { status: 404, code: no_route } }
"#,
    );
    folder.write("good.json", "{\"lines\": [3]}");
    pass(&folder, 14);
}

const PARTNER: &str = r#"version: 1
listen:
  - address: "127.0.0.1:0"
    tls: { certificate: server.crt, key: server.key, client_ca: ca.crt }
trusted_proxies: [10.0.0.0/8]
store: state/
auth:
  issuers:
    far: { issuer: "http://SILENT", audience: [a], consumer_claim: [/act/client, sub], algorithms: [RS256, PS256], default_plan: free, max_lifetime: 1m }
    shared: { issuer: shared, audience: [a], secret: "${env:ORDERS_KEY}", algorithms: [HS512], default_plan: free }
  dpop: { nonce: true }
  introspection:
    opaque: { endpoint: "http://SILENT/introspect", client_id: me, client_secret: s, default_plan: free }
plans: { free: { rate: 10/s } }
roles: { reader: [r] }
consumers:
  device: { roles: [reader], plan: free, identities: [{ certificate_san: device-7.example }] }
  pinned: { roles: [reader], plan: free, identities: [{ certificate: "sha256:THUMB" }] }
apis:
  a: { hosts: [api.example], upstream: "http://127.0.0.1:9", routes: { GET /r: { scopes: [r] }, GET /strong: { scopes: [r], proof_of_possession: [certificate, bound_token, dpop] } } }
audit: none
"#;

#[test]
fn nobody_is_asked() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let (authority, thumb) = (authority(), "ab".repeat(32));
    let folder = folder(&format!(
        r#"policy: policy.yaml
env: {{ ORDERS_KEY: {secret} }}
callers:
  far: {{ issuer: far, id: f, scopes: [r] }}
  device: {{ certificate: Device-7.example }}
tests:
  - {{ name: discovered keys, as: far, request: GET /r, expect: {{ status: 200, consumer: "far:f" }} }}
  - {{ name: shared secret, as: {{ issuer: shared, id: s, scopes: [r] }}, request: GET /r, expect: {{ status: 200, consumer: "shared:s" }} }}
  - {{ name: introspected, as: {{ introspected: opaque, id: o, scopes: [r] }}, request: GET /r, expect: {{ status: 200, consumer: "opaque:o" }} }}
  - {{ name: introspected with less, as: {{ introspected: opaque, id: o, scopes: [] }}, request: GET /r, expect: {{ code: insufficient_scope }} }}
  - {{ name: not active, request: {{ method: GET, path: /r, headers: {{ authorization: Bearer unknown }} }}, expect: {{ code: invalid_token }} }}
  - {{ name: certificate by name, as: device, request: GET /strong, expect: {{ status: 200, consumer: device }} }}
  - {{ name: certificate by thumbprint, as: {{ certificate: "sha256:{thumb}" }}, request: GET /strong, expect: {{ status: 200, consumer: pinned }} }}
  - {{ name: nobody's certificate, as: {{ certificate: other.example }}, request: GET /r, expect: {{ code: unknown_consumer }} }}
  - {{ name: token alone, as: far, request: GET /strong, expect: {{ code: stronger_credential_required, stage: scope }} }}
  - {{ name: bound token, as: {{ issuer: far, id: f, scopes: [r], certificate: x.example, bound: true }}, request: GET /strong, expect: allow }}
  - {{ name: proven, as: {{ issuer: far, id: f, scopes: [r], dpop: true }}, request: "GET /strong?a=b", repeat: 2, expect: allow }}
  - {{ name: proven over TLS, as: {{ introspected: opaque, id: o, scopes: [r], dpop: true, certificate: x.example, bound: true }}, request: GET /strong, expect: allow }}
  - {{ name: proof left out, as: {{ issuer: far, id: f, scopes: [r], claims: {{ cnf: {{ jkt: abc }} }} }}, request: GET /strong, expect: {{ code: invalid_dpop_proof }} }}
  - {{ name: host, as: far, request: {{ method: GET, path: /r, host: other.example }}, expect: {{ code: no_route }} }}
  - {{ name: address behind a proxy, as: far, request: {{ method: GET, path: /r, from: 10.0.0.1, headers: {{ x-forwarded-for: 203.0.113.7 }} }}, expect: allow }}
"#,
        secret = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_",
    ));
    let policy = PARTNER.replace("SILENT", &silent.local_addr().unwrap().to_string()).replace("THUMB", &thumb);
    folder.write("policy.yaml", &policy);
    folder.write("ca.crt", &authority.pem());
    let certified = authority.certifies(&["localhost"]);
    folder.write("server.crt", &certified.certificate);
    folder.write("server.key", &certified.key);
    pass(&folder, 15);
    assert!(silent.accept().is_err(), "somebody was asked");
    assert!(!folder.0.path().join("state").exists(), "the store was opened");
}

const MIXED: &str = r#"policy: policy.yaml
callers: { clerk: { issuer: corp, id: acme, scopes: [orders:read, orders:write] } }
tests:
  - { name: good, as: clerk, request: GET /orders/7, expect: allow }
  - { name: "<not> good", as: clerk, request: { method: POST, path: /orders, body: { lines: [x] } }, expect: allow }
  - { name: too good, as: clerk, request: GET /orders/7, expect: { status: 403, code: insufficient_scope, consumer: idle } }
"#;

#[test]
fn what_is_not_as_expected_is_shown_and_counted() {
    let folder = folder(MIXED);
    let said = folder.test(&["t.yaml", "--junit", "report.xml"]);
    assert_eq!((said.code, said.err.as_str()), (Some(1), ""));
    for expected in [
        "  ok    good\n",
        "  FAIL  <not> good  t.yaml:5\n        - status 200\n        + status 422\n          schema_violation: ",
        "          /lines/0: ",
        "  FAIL  too good  t.yaml:6\n        - status 403\n        + status 200\n        - code insufficient_scope\n        \
         + code none\n        - consumer idle\n        + consumer acme\n",
        "\n1 passed, 2 failed\n",
    ] {
        assert!(said.out.contains(expected), "{expected}\n{}", said.out);
    }
    assert!(!said.out.contains("\u{1b}["), "no colour where it is not a terminal");

    let (code, reported) = folder.reported();
    assert_eq!(
        (code, &reported["ok"], &reported["passed"], &reported["failed"]),
        (Some(1), &json!(false), &json!(1), &json!(2))
    );
    let test = &reported["files"][0]["tests"][1];
    assert_eq!((&test["name"], &test["line"], &test["ok"]), (&json!("<not> good"), &json!(5), &json!(false)));
    assert_eq!(test["differences"], json!([{"fact": "status", "expected": "200", "got": "422"}]));
    assert_eq!(test["got"]["violations"][0]["pointer"], "/lines/0");

    let (mut names, mut failures) = (Vec::new(), Vec::new());
    let xml = folder.read("report.xml");
    let mut reader = Reader::from_str(&xml);
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => break,
            Event::Start(tag) | Event::Empty(tag) => {
                let attribute = |name| {
                    tag.try_get_attribute(name)
                        .unwrap()
                        .unwrap()
                        .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                        .unwrap()
                        .into_owned()
                };
                match tag.name().as_ref() {
                    "testsuite" => assert_eq!((attribute("tests"), attribute("failures")), ("3".into(), "2".into())),
                    "testcase" => names.push(attribute("name")),
                    "failure" => failures.push(attribute("message")),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    assert_eq!(names, ["good", "<not> good", "too good"]);
    assert_eq!(failures, ["not as expected: status", "not as expected: status, code, consumer"]);
}

#[test]
fn what_no_test_has_shown_is_reported() {
    let (_, reported) = folder(MIXED).reported();
    assert_eq!(
        reported["files"][0]["coverage"],
        json!({
            "routes_without_a_test": ["orders · DELETE /orders/{id}", "orders · GET /open"],
            "scopes_never_lacking": [
                {"route": "orders · DELETE /orders/{id}", "scopes": ["orders:write"]},
                {"route": "orders · GET /orders/{id}", "scopes": ["orders:read"]},
                {"route": "orders · POST /orders", "scopes": ["orders:write"]},
            ],
            "schemas_never_broken": [],
            "schemas_never_satisfied": ["orders · POST /orders"],
            "consumers_never_used": ["daily", "idle"],
        })
    );
    let said = folder(MIXED).test(&["t.yaml"]);
    assert!(said.out.contains("  routes without a test\n    orders · DELETE /orders/{id}\n"), "{}", said.out);
}

#[test]
fn a_filter_picks_by_name() {
    let said = folder(MIXED).test(&["t.yaml", "--filter", "too"]);
    assert!(said.out.ends_with("\n0 passed, 1 failed\n") && !said.out.contains("without a test"), "{}", said.out);
}

/// "0 passed, 0 failed" reads like a success (U25).
#[test]
fn tests_that_did_not_run_have_not_passed() {
    let folder = folder("policy: policy.yaml\ntests: [{ name: a, reqest: GET /open, expect: allow }]\n");
    let said = folder.test(&["t.yaml"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{}", said.err);
    assert!(said.err.contains("did you mean `request`?"), "{}", said.err);
    assert!(said.err.ends_with("\nerror: 1 file cannot be tested; see above\n"), "{}", said.err);
    let (code, reported) = folder.reported();
    assert_eq!((code, &reported["ok"], &reported["invalid"]), (Some(2), &json!(false), &json!(1)));

    // Another file beside it is tested all the same.
    folder.write("good.yaml", "policy: policy.yaml\ntests: [{ name: a, request: GET /open, expect: allow }]\n");
    let said = folder.test(&["t.yaml", "good.yaml"]);
    assert_eq!((said.code, said.out.ends_with("\n1 passed, 0 failed\n")), (Some(2), true), "{}", said.out);

    let said = folder.test(&["good.yaml", "--filter", "nothing"]);
    assert_eq!((said.code, said.out.contains("passed")), (Some(2), false), "{}", said.out);
    assert_eq!(said.err, "error: no test has a name that contains \"nothing\"\n");
}

/// `file:line:column message / help` of every problem.
fn problems(reported: &Value) -> Vec<String> {
    let line = |problem: &Value| {
        let text = |key: &str| problem[key].as_str().unwrap_or("").to_owned();
        let (line, column) = (&problem["line"], &problem["column"]);
        format!("{}:{line}:{column} {} / {}", text("file"), text("message"), text("help"))
    };
    reported["files"][0]["problems"].as_array().unwrap().iter().map(line).collect()
}

#[test]
fn every_mistake_is_reported_at_its_place() {
    let (code, reported) = folder(
        r#"policy: policy.yaml
now: today
colour: red
callers:
  clerk: { issuer: crop, id: acme }
  both: { issuer: corp, id: acme, key: acme-1 }
  none: { issuer: corp }
  key: { key: acme-1, scopes: [x] }
  seen: { certificate: a.example }
tests:
  - { as: clark, request: GET /, expect: allow }
  - { name: a, request: GET, expect: refuse }
  - { name: b, request: { method: GET }, expect: { status: none } }
  - { name: c, request: GET /, expect: { code: insufficient_scpe, grpc_status: DENIED } }
  - { name: d, request: GET /, repeat: 0, after: 1s, expect: { stage: scop, route: GET /orders } }
  - { name: e, expect: {} }
  - { name: f, request: { method: GET, path: /, from: here, body: 1, body_text: x } }
  - { name: g, sequence: [{ request: GET /, expect: allow, sequence: [] }], request: GET / }
"#,
    )
    .reported();
    assert_eq!(code, Some(2));
    let found = problems(&reported);
    let expected = [
        (2, "this is not a time"),
        (3, "unknown key `colour`"),
        (5, "did you mean `corp`?"),
        (6, "a request has one credential"),
        (7, "`id` is missing"),
        (8, "`scopes` needs a token"),
        (9, "no listener of the policy requests client certificates"),
        (11, "`name` is missing"),
        (11, "there is no caller `clark` / did you mean `clerk`?"),
        (12, "this is not a request"),
        (12, "this is not a valid expectation"),
        (13, "a request needs `method` and `path`"),
        (13, "found `none`"),
        (14, "did you mean `insufficient_scope`?"),
        (14, "there is no gRPC status `DENIED` / write one of ABORTED, "),
        (15, "repeated 1 to"),
        (15, "`after` needs a previous step"),
        (15, "did you mean `scope`?"),
        (15, "there is no route `GET /orders`"),
        (16, "this test has no request"),
        (16, "this expectation is empty"),
        (17, "this is not an IP address"),
        (17, "a request can have only one body"),
        (17, "this test has no expectation"),
        (18, "a step cannot be a sequence"),
        (18, "`request` belongs to a step of the sequence"),
    ];
    for (line, words) in expected {
        let at = format!("t.yaml:{line}:");
        assert!(
            found.iter().any(|reported| reported.starts_with(&at) && reported.contains(words)),
            "{line} {words}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn what_is_wrong_with_the_policy_is_reported_as_by_check() {
    let folder = folder("policy: policy.yaml\ntests: [{ name: a, request: GET /, expect: allow }]\n");
    folder.write("policy.yaml", &POLICY.replace("KEY", "${env:ORDERS_KEY}").replace("plan: slow", "plan: slaw"));
    let (code, reported) = folder.reported();
    assert_eq!(code, Some(2));
    let found = problems(&reported);
    assert!(found.iter().any(|reported| reported.contains("`ORDERS_KEY` is not set")), "{found:#?}");
    assert!(
        found.iter().any(|reported| reported.starts_with("policy.yaml:") && reported.contains("did you mean `slow`?"))
    );
    let said = folder.test(&["t.yaml", "missing.yaml", "--junit", "r.xml"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("there is no file `missing.yaml`") && said.err.contains("plan: slaw"), "{}", said.err);
    assert_eq!(folder.read("r.xml").matches("<error>").count(), 2);
}
