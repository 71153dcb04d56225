//! An OpenAPI description guards an API.

use crate::support::upstream::Call;
use crate::support::*;

const FILES: [(&str, &str); 5] = [
    ("orders.openapi.yaml", include_str!("../cases/openapi/orders.openapi.yaml")),
    ("schemas/order.yaml", include_str!("../cases/openapi/schemas/order.yaml")),
    ("schemas/paths.yaml", include_str!("../cases/openapi/schemas/paths.yaml")),
    ("schemas/shared.json", include_str!("../cases/openapi/schemas/shared.json")),
    ("billing.openapi.json", include_str!("../cases/openapi/billing.openapi.json")),
];

/// Knows two orders: one is as described, one has what must not leak.
fn orders() -> Upstream {
    let answers = |call: &mut Call<'_>| {
        let (status, kind, body) = match call.head.word(1).to_owned().as_str() {
            "/v1/orders/o-1" => (200, "application/json", r#"{"id": "o-1", "lines": [{"sku": "ABC", "count": 2}]}"#),
            "/v1/orders/o-2" => (200, "application/json", r#"{"id": "o-2", "lines": [], "card": "4711"}"#),
            "/v1/orders/o-3" => (404, "application/problem+json", r#"{"title": "There is none"}"#),
            "/v1/orders/o-4" => (200, "text/html", "<h1>Oops</h1>"),
            "/v1/healthz" => (200, "text/plain", "yes"),
            _ => (204, "text/plain", ""),
        };
        call.answer(status, &[("content-type", kind)], body)
    };
    upstream().does(answers).start()
}

fn policy(upstream: &Upstream, issuer: &issuer::Issuer, openapi: &str) -> Policy {
    let policy = FILES.iter().fold(proxy(), |policy, (name, text)| policy.file(name, *text));
    policy.before(upstream).trusts(issuer).described(openapi)
}

#[test]
fn a_description_guards_an_api() {
    let (upstream, issuer) = (orders(), issuer());
    let proxy = policy(&upstream, &issuer, "orders.openapi.yaml").open("GET /v1/healthz").start();
    let token = |scope: &str| issuer.token().scope(scope);
    let mut client = client(&proxy);

    // Who may: by scope, by any of several, by the policy's own word.
    client.get("/v1/orders/o-1").send().refused(401, "missing_credentials");
    client.get("/v1/orders/o-1").bearer(token("other")).send().refused(403, "insufficient_scope");
    client.get("/v1/healthz").send().is(200);
    let order = r#"{"lines": [{"sku": "ABC", "count": 2}], "card": "4711"}"#;
    for (scope, status) in [("orders:write", 204), ("orders:admin x", 204), ("orders:read", 403), ("", 403)] {
        client.post("/v1/orders", order).bearer(token(scope)).send().is(status);
    }
    let answer = client.request("DELETE", "/v1/orders/o-9").bearer(token("orders:write")).send();
    answer.refused(403, "insufficient_scope");
    client.request("DELETE", "/v1/orders/o-9").bearer(token("orders:admin")).send().is(204);

    // What there is.
    client.get("/orders/o-1").send().refused(404, "no_route");
    client.get("/v1/orders/o-1/lines").send().refused(404, "no_route");
    client.request("PUT", "/v1/orders/o-1").send().refused(405, "method_not_allowed");

    // What is asked.
    for (target, status) in [
        (
            "/v1/orders?limit=5&state=open,paid&where[total]=1.5&where[customer]=6f1b2a0e-0d5c-4c2e-9e52-b1a5a1c0ffee",
            204,
        ),
        ("/v1/orders?unknown=1", 204),
        ("/v1/orders?limit=0", 422),
        ("/v1/orders?limit=five", 422),
        ("/v1/orders?state=open,lost", 422),
        ("/v1/orders?where[total]=much", 422),
        ("/v1/orders?where[more]=1", 422),
        ("/v1/orders/seven", 422),
    ] {
        let answer = client.get(target).bearer(token("orders:read")).send();
        assert_eq!(answer.status, status, "{target} {}", answer.text());
    }
    let long = "x".repeat(33);
    client
        .get("/v1/orders")
        .header("x-trace", &long)
        .bearer(token("orders:read"))
        .send()
        .refused(422, "schema_violation");
    for (body, pointer) in [
        (r#"{"lines": []}"#, "/lines"),
        (r#"{"lines": [{"sku": "abc", "count": 1}]}"#, "/lines/0/sku"),
        (r#"{"lines": [{"sku": "ABC", "count": 2147483648}]}"#, "/lines/0/count"),
        (r#"{"lines": [{"sku": "ABC", "count": 1}], "replaces": {"lines": 1}}"#, "/replaces/lines"),
    ] {
        let answer = client.post("/v1/orders", body).bearer(token("orders:write")).send();
        let problem = answer.refused(422, "schema_violation").json();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    let answer = client.post("/v1/orders", order).bearer(token("orders:write")).header("content-type", "text/plain");
    answer.send().refused(415, "unsupported_media_type");

    // What is answered.
    client.get("/v1/orders/o-1").bearer(token("orders:read")).send().is(200);
    client.get("/v1/orders/o-3").bearer(token("orders:read")).send().is(404);
    let answer = client.get("/v1/orders/o-2").bearer(token("orders:read")).send();
    let answer = answer.refused(502, "invalid_upstream_response");
    assert!(!answer.text().contains("4711"));
    client.get("/v1/orders/o-4").bearer(token("orders:read")).send().refused(502, "invalid_upstream_response");
    proxy.done();
}

#[test]
fn the_policy_says_what_becomes_of_answers_and_of_unknown_names() {
    let (upstream, issuer) = (orders(), issuer());
    for (openapi, leaks) in [
        ("{ document: orders.openapi.yaml, responses: report, strict: true }", true),
        ("{ document: orders.openapi.yaml, responses: off, strict: true }", true),
        ("{ document: orders.openapi.yaml, responses: block, strict: true }", false),
    ] {
        let proxy = policy(&upstream, &issuer, openapi)
            .open("GET /v1/healthz")
            // Over what the description says: who, and what answers must be.
            .route("DELETE /v1/orders/{id}", "scopes: [own]")
            .route("GET /v1/extra", "scopes: [own]")
            .file("own.json", r#"{"required": ["mine"]}"#)
            .route("POST /v1/orders", "request: { json: own.json }")
            .start();
        let mut client = client(&proxy);
        let token = |scope: &str| issuer.token().scope(scope);
        client.get("/v1/orders?unknown=1").bearer(token("orders:read")).send().refused(422, "schema_violation");
        client.get("/v1/orders?limit=1").bearer(token("orders:read")).send().is(204);
        client.get("/v1/healthz?x=1").send().refused(422, "schema_violation");
        let answer = client.get("/v1/orders/o-2").bearer(token("orders:read")).send();
        assert_eq!(answer.status, if leaks { 200 } else { 502 }, "{openapi}");
        client.request("DELETE", "/v1/orders/o-9").bearer(token("own")).send().is(204);
        client.request("DELETE", "/v1/orders/o-9").bearer(token("orders:admin")).send().is(403);
        client.get("/v1/extra").bearer(token("own")).send().is(204);
        // The rest is still as described: who may, and the query.
        for (target, scope, body, status) in [
            ("/v1/orders", "orders:write", r#"{"mine": 1}"#, 204),
            ("/v1/orders", "orders:write", r#"{"lines": []}"#, 422),
            ("/v1/orders", "orders:read", r#"{"mine": 1}"#, 403),
            ("/v1/orders?unknown=1", "orders:write", r#"{"mine": 1}"#, 422),
        ] {
            client.post(target, body).bearer(token(scope)).send().is(status);
        }
        proxy.done();
    }
}

#[test]
fn forms_parts_and_choices() {
    let (upstream, issuer) = (orders(), issuer());
    let proxy = policy(&upstream, &issuer, "billing.openapi.json").start();
    let mut client = client(&proxy);
    let form = "application/x-www-form-urlencoded";
    let part = |kind: &str, body: &str| format!("--b\r\ncontent-disposition: form-data; {kind}\r\n\r\n{body}\r\n");
    let parts = |parts: &[String]| format!("{}--b--\r\n", parts.concat());
    let scan = part("name=\"scan\"; filename=\"a.png\"", "\u{1}\u{2}");
    for (method, target, kind, body, status) in [
        (
            "POST",
            "/invoices",
            "application/json",
            r#"{"lines": [{"amount": 0.5}], "secret": "s", "due": null}"#.to_owned(),
            204,
        ),
        ("POST", "/invoices", "application/json", r#"{"lines": [{"amount": 0}], "secret": "s"}"#.to_owned(), 422),
        ("POST", "/invoices", "application/json", r#"{"lines": []}"#.to_owned(), 422),
        ("POST", "/invoices", "application/json", r#"{"lines": [], "secret": "s", "due": "soon"}"#.to_owned(), 422),
        ("POST", "/invoices", form, "amount=0.5&count=3&marks=a|b".to_owned(), 204),
        ("POST", "/invoices", form, "amount=0.5&count=many".to_owned(), 422),
        ("POST", "/invoices", form, "amount=0.5&more=1".to_owned(), 422),
        ("POST", "/invoices", "application/xml", "<invoice/>".to_owned(), 204),
        ("POST", "/payments", "application/json", r#"{"kind": "card", "number": "1"}"#.to_owned(), 204),
        ("POST", "/payments", "application/json", r#"{"kind": "Transfer", "iban": "1"}"#.to_owned(), 204),
        ("POST", "/payments", "application/json", r#"{"kind": "card", "iban": "1"}"#.to_owned(), 422),
        ("POST", "/payments", "application/json", r#"{"kind": "cash", "number": "1"}"#.to_owned(), 422),
        ("POST", "/payments", "application/json", r#"{"number": "1"}"#.to_owned(), 422),
        (
            "PUT",
            "/receipts/a",
            "multipart/form-data; boundary=b",
            parts(&[scan.clone(), part("name=\"page\"", "2")]),
            204,
        ),
        ("PUT", "/receipts/a", "multipart/form-data; boundary=b", parts(&[scan, part("name=\"page\"", "two")]), 422),
        ("PUT", "/receipts/a", "multipart/form-data; boundary=b", parts(&[part("name=\"page\"", "2")]), 422),
        ("PUT", "/receipts/a", "application/octet-stream", "anything".to_owned(), 204),
    ] {
        let request = client.request(method, &format!("/billing{target}")).header("content-type", kind).body(&body);
        let answer = request.bearer(issuer.token().scope("billing:write")).send();
        assert_eq!(answer.status, status, "{method} {target} {kind} {body} {}", answer.text());
    }
    client.request("POST", "/billing/payments").bearer(issuer.token().scope("billing:write")).send().is(204);
    proxy.done();
}

/// What `check` tells of a policy with this description: file, line and severity of each problem, and its words.
fn reported(openapi: &str, routes: &str, document: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("api.yaml"), document).unwrap();
    let policy = format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0 }}]\nstore: state/\nconsumers: {{ acme: {{}} }}\n\
         apis:\n  a:\n    upstream: http://127.0.0.1:9\n    openapi: {openapi}\n    routes: {{ {routes} }}\n"
    );
    std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = check.args(["check", "--format", "json", "policy.yaml"]).current_dir(folder.path()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    let line = |problem: &Value| {
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        format!("{}:{} {} {}", text("file"), problem["line"], text("severity"), text("message"))
    };
    problems.iter().map(line).collect()
}

#[test]
fn what_the_policy_must_decide_is_reported() {
    let document = |operation: &str| {
        format!(
            "openapi: 3.1.0\npaths:\n  /a:\n    get: {{ {operation} }}\ncomponents:\n  securitySchemes:\n    \
             key: {{ type: apiKey, in: header, name: X-Own }}\n    query: {{ type: apiKey, in: query, name: k }}\n    \
             login: {{ type: http, scheme: bearer }}\n"
        )
    };
    let login = "security: [{ login: [] }]";
    let open = "this operation has no `security`, and the policy does not open it";
    for (openapi, routes, operation, expected) in [
        ("api.yaml", "", login, vec![]),
        ("api.yaml", "", "", vec![format!("api.yaml:4 error {open}")]),
        ("api.yaml", "", "security: []", vec![format!("api.yaml:4 error {open}")]),
        ("{ document: api.yaml, scopes: [use] }", "", "", vec![]),
        ("api.yaml", "GET /a: { public: true }", "", vec![]),
        ("api.yaml", "GET /a: { public: true }", "x-bartizan: { scopes: [a] }", vec![]),
        ("api.yaml", "GET /a: { scopes: [a] }", "", vec![]),
        ("api.yaml", "GET /a: { rate: 5/s }", "", vec![format!("api.yaml:4 error {open}")]),
        (
            "api.yaml",
            "",
            "security: [{ query: [] }]",
            vec![
                "policy.yaml:8 warning the description expects API keys in the query parameter `k`, this policy in `x-api-key`"
                    .to_owned(),
            ],
        ),
        ("api.yaml", "GET /a: { scopes: [] }", "security: [{ query: [] }]", vec![]),
        (
            "api.yaml",
            "",
            "security: [{ key: [] }]",
            vec![
                "policy.yaml:8 warning the description expects API keys in `X-Own`, this policy in `x-api-key`"
                    .to_owned(),
            ],
        ),
        (
            "api.yaml",
            "",
            "security: [{ login: [] }], x-bartizan: { only: [acme, nobody], proof_of_possession: [iron] }",
            vec![
                "api.yaml:4 error there is no consumer `nobody` in the policy".to_owned(),
                "api.yaml:4 error there is no proof of possession `iron`".to_owned(),
            ],
        ),
        (
            "api.yaml",
            "GET /b: {}",
            login,
            vec!["policy.yaml:9 error this route has neither `scopes` nor `public`".to_owned()],
        ),
        (
            "{ document: api.yaml, responses: maybe }",
            "",
            login,
            vec!["policy.yaml:8 error there is no choice called `maybe`".to_owned()],
        ),
        ("{}", "", login, vec!["policy.yaml:8 error `openapi` names no document".to_owned()]),
        ("b.yaml", "", login, vec!["policy.yaml:8 error there is no file `b.yaml`".to_owned()]),
        (
            "{ document: api.yaml, strict: maybe }",
            "",
            login,
            vec!["policy.yaml:8 error expected `true` or `false`, found `maybe`".to_owned()],
        ),
    ] {
        assert_eq!(reported(openapi, routes, &document(operation)), expected, "{openapi} {routes} {operation}");
    }
    let twice = "openapi: 3.1.0\nsecurity: [{ l: [] }]\npaths:\n  /{a}: { get: {} }\n  /{b}: { get: {} }\ncomponents: { securitySchemes: { l: { type: http, scheme: bearer } } }\n";
    let closed = |line: usize, other: &str| {
        format!("api.yaml:{line} warning this operation is closed: it matches the same requests as `{other}`")
    };
    assert_eq!(reported("api.yaml", "", twice), [closed(4, "GET /{b}"), closed(5, "GET /{a}")]);
    // F8, U11
    assert_eq!(reported("{ document: api.yaml, skip: ['GET /{b}'] }", "", twice), [""; 0]);
    let habits = "'GET /o/*': { public: true }, 'GET /o/:id/x': { public: true }";
    assert_eq!(
        reported("{ document: api.yaml, skip: ['GET /{b}', gone] }", habits, twice),
        [
            "policy.yaml:8 error there is no operation in the description called `gone`".to_owned(),
            "policy.yaml:9 warning `*` is matched as it is written".to_owned(),
            "policy.yaml:9 warning `:id` is matched as it is written".to_owned(),
        ]
    );
}
