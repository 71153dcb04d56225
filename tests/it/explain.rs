//! `bartizan explain`: one request, every decision and why, and nothing sent.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::issuer::{Issuer, now};
use crate::support::{Value, issuer, json};

/// A policy whose issuer is a real one.
struct World {
    folder: TempDir,
    issuer: Issuer,
}

/// What the command said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

const KEY: &str = "a-key-that-is-never-printed";

fn world() -> World {
    let (folder, issuer) = (TempDir::new().unwrap(), issuer());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, KEY.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let policy = format!(
        r#"version: 1
listen: [{{ address: "127.0.0.1:0" }}]
store: state/
auth:
  issuers:
    corp: {{ issuer: "https://issuer.test", audience: [orders-api], jwks: "{}", algorithms: [ES256], max_lifetime: 1h }}
roles: {{ clerk: [orders:read, orders:write] }}
plans: {{ gold: {{ rate: 5/s, burst: 400 }} }}
consumers:
  acme: {{ roles: [clerk], plan: gold, identities: [{{ issuer: corp, id: alice }}], keys: [{{ id: acme-1, sha256: "{digest}" }}] }}
apis:
  orders:
    hosts: [api.example.com]
    upstream: {{ servers: ["http://127.0.0.1:9000", "http://127.0.0.1:9001"] }}
    routes:
      GET /v1/orders/{{id}}: {{ scopes: [orders:read] }}
      POST /v1/orders: {{ scopes: [orders:write], request: {{ json: order.json }} }}
      POST /v1/orders/{{id}}/refund: {{ scopes: [orders:refund] }}
audit: none
"#,
        issuer.url()
    );
    std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    std::fs::write(folder.path().join("order.json"), r#"{ "type": "object", "required": ["item"] }"#).unwrap();
    World { folder, issuer }
}

impl World {
    fn explain(&self, arguments: &[&str]) -> Said {
        self.explain_with(arguments, "")
    }

    fn explain_with(&self, arguments: &[&str], input: &str) -> Said {
        explain(self.folder.path(), arguments, input)
    }

    fn reported(&self, arguments: &[&str]) -> Value {
        let said = self.explain(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err))
    }
}

fn explain(folder: &Path, arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.current_dir(folder).args(["explain", "--policy", "policy.yaml"]).args(arguments);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // Whoever does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn a_token_is_verified_with_the_keys_of_its_issuer() {
    let world = world();
    let begun = now();
    let token = world.issuer.token().scope("orders:read orders:admin");
    let token = token.claim("iat", begun).claim("exp", begun + 720).text();
    let at = jiff::Timestamp::from_second(begun).unwrap().to_string();
    let said = world.explain(&["GET", "/v1/orders/7?q=1", "--bearer", &token, "--at", &at]);
    let expected = "\
GET /v1/orders/7?q=1
  path        /v1/orders/7
  route       orders · GET /v1/orders/{id}
  auth        ok: jwt of corp, consumer acme, plan gold, token expires in 12m
  scope       ok: needs orders:read; has orders:read (roles: clerk; ceiling cut: orders:admin)
  rate limit  ok: gold: 399 of 400 left
  schema      not asked: the route has no schema
→ forwarded to http://127.0.0.1:9000 or http://127.0.0.1:9001, with
  X-Consumer-Id: acme
  X-Consumer-Scopes: orders:read
  X-Consumer-Plan: gold
  X-Credential-Id: token-";
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(said.out.starts_with(expected), "{}", said.out);
    assert!(said.out.contains("note: the store is not read"), "{}", said.out);
    assert!(!said.out.contains(token.rsplit('.').next().unwrap()), "the token is not printed");
    assert_eq!(world.issuer.fetches(), 1);
    assert!(!world.folder.path().join("state").exists(), "the store is left alone");
}

#[test]
fn it_says_which_server_would_get_it_and_what_would_be_tried_again() {
    const TWO: &str = "\"http://127.0.0.1:9000\", \"http://127.0.0.1:9001\"";
    const KEPT: &str = "always once if a kept connection turns out to be closed";
    let full = "balance: least_requests, health: { path: /healthz }, eject: { after: 3, for: 10s }, none_left: refuse, \
                retries: { most: 2, on: [connect, 503] }";
    let full_choice = "of two addresses at random, the one with fewer requests; none that is unhealthy; none for 10s that has \
                       failed 3 times in a row; 503 if none is left";
    let full_retries = format!(
        "2 at most, if no connection could be opened or if the connection broke before a response or after 503; {KEPT}"
    );
    for (servers, settings, method, choice, retries) in [
        ("\"http://127.0.0.1:9000\"", "", "GET", None, format!("none; {KEPT}")),
        ("\"http://127.0.0.1:9000\"", "", "POST", None, "none".to_owned()),
        (TWO, "", "GET", Some("one address after the other"), format!("none; {KEPT}")),
        ("\"http://orders.test\"", "", "GET", Some("one address after the other"), format!("none; {KEPT}")),
        (TWO, full, "GET", Some(full_choice), full_retries),
        (
            TWO,
            "retries: 1",
            "POST",
            Some("one address after the other"),
            "1 at most, only if no connection could be opened, because it is not idempotent".to_owned(),
        ),
        (
            TWO,
            "retries: { on: [503] }, eject: {}",
            "POST",
            Some("one address after the other; none for 30s that has failed 5 times in a row; any if none is left"),
            "none: POST is not idempotent".to_owned(),
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let policy = format!(
            "version: 1\nlisten: [{{ address: \"127.0.0.1:0\" }}]\napis: {{ a: {{ upstream: {{ servers: [{servers}], {settings} }}, \
             routes: {{ GET /x: {{ public: true }}, POST /x: {{ public: true }} }} }} }}\naudit: none\n"
        );
        std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        let world = World { folder, issuer: issuer() };
        let said = world.explain(&[method, "/x"]).out;
        let fact = |name: &str| {
            let line = said.lines().find_map(|line| line.trim_start().strip_prefix(name));
            line.map(|fact| fact.trim_start().to_owned())
        };
        assert_eq!(fact("server  "), choice.map(str::to_owned), "{said}");
        assert_eq!(fact("retries  "), Some(retries), "{said}");
    }
    let world = world();
    let json: Value =
        serde_json::from_str(&world.explain(&["GET", "/v1/orders/7", "--key", KEY, "--format", "json"]).out).unwrap();
    let delivery =
        json!({"balance": "round_robin", "ejects": false, "none_left": "try", "retries": 0, "retries_on": []});
    assert_eq!(json["delivery"], delivery, "{json}");
}

/// F36
#[test]
fn a_request_to_the_proxy_itself_goes_nowhere() {
    let said = world().explain(&["OPTIONS", "*"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(
        said.out.starts_with("OPTIONS *\n  path        *\n  route       not asked: the proxy itself answers"),
        "{}",
        said.out
    );
    assert!(said.out.contains("\n→ 204: the proxy itself answers, and asks no upstream\n"), "{}", said.out);
}

/// U3: a path or a host with a typing mistake is reported with the nearest one.
#[test]
fn a_route_or_a_host_that_does_not_exist_is_reported_with_the_nearest_one() {
    let world = world();
    for (request, meant) in [
        (&["GET", "/v1/order/7"][..], Some("did you mean `GET /v1/orders/{id}`?")),
        (&["POST", "/v1/ordres"], Some("did you mean `POST /v1/orders`?")),
        (&["GET", "/elsewhere/and/further"], None),
        (&["GET", "/v1/orders/7", "--host", "api.exmaple.com"], Some("did you mean `api.example.com`?")),
    ] {
        let said = world.explain(request);
        assert!(said.out.contains("404 no_route"), "{request:?} {}", said.out);
        match meant {
            Some(meant) => assert!(said.out.contains(meant), "{request:?} {}", said.out),
            None => assert!(!said.out.contains("did you mean"), "{request:?} {}", said.out),
        }
    }
}

#[test]
fn each_stage_says_why_it_refuses_and_the_rest_is_not_reached() {
    let world = world();
    let token = world.issuer.token().text();
    let bearer = ["--bearer", token.as_str()];
    for (request, refused, why, end) in [
        (&["GET", "/v1/%2e%2e/orders"][..], "path", "Remove the encoded dot segment", "400 malformed_request: "),
        (&["GET", "/v2"], "route", "no API here has this path", "404 no_route: "),
        (&["GET", "/v1/orders"], "route", "(allowed: POST)", "405 method_not_allowed: "),
        (&["GET", "/v1/orders/7", "--key", "k"], "auth", "more than one credential", "400 malformed_request: "),
        (
            &["POST", "/v1/orders/7/refund"],
            "scope",
            "needs orders:refund; has orders:read (roles: clerk)",
            "403 insufficient_scope: the credential lacks orders:refund",
        ),
        (&["GET", "/v1/orders/7", "--host", "other.example"], "route", "no API", "404 no_route: "),
        (&["GET", "/v1/orders/7", "--header", "X_Y: 1"], "path", "hyphens", "400 malformed_request: "),
    ] {
        let said = world.explain(&[request, &bearer].concat());
        assert_eq!(said.code, Some(1), "{request:?} {}", said.err);
        let stages = ["path", "route", "auth", "scope", "rate limit", "schema"];
        let at = stages.iter().position(|stage| *stage == refused).unwrap();
        for (position, stage) in stages.iter().enumerate() {
            let line = said.out.lines().find(|line| line.starts_with(&format!("  {stage:<12}"))).unwrap();
            assert_eq!(line.contains(" refused: "), position == at, "{request:?}\n{}", said.out);
            assert_eq!(line.contains(" not reached"), position > at, "{request:?}\n{}", said.out);
            assert!(position != at || line.contains(why), "{request:?}\n{}", said.out);
        }
        assert!(said.out.contains(&format!("→ {end}")), "{request:?}\n{}", said.out);
    }
}

#[test]
fn it_says_which_claims_were_looked_for_and_not_found() {
    let world = world();
    let path = world.folder.path().join("policy.yaml");
    let policy = std::fs::read_to_string(&path).unwrap();
    let claims = "consumer_claim: [azp, /act/client], user_claim: upn, role_claim: /realm_access/roles, scopes_and_roles: union, \
                  attributes: { tenant: [org_id, /org/id] }, default_plan: gold";
    std::fs::write(&path, policy.replace("max_lifetime: 1h", &format!("max_lifetime: 1h, {claims}"))).unwrap();
    let begun = now();
    let at = jiff::Timestamp::from_second(begun).unwrap().to_string();
    let token = || world.issuer.token().claim("azp", "app").claim("iat", begun).claim("exp", begun + 300);
    let full = || token().claim("upn", "ann").claim("org_id", "t-1").claim("realm_access", json!({"roles": ["clerk"]}));
    for (token, said) in [
        (full().text(), "plan gold, token expires in 5m\n"),
        (
            token().without("scope").claim("org", json!({})).text(),
            "; the token has no scopes (`scope`, `scp`), no roles (`/realm_access/roles`), no user (`upn`), no attribute tenant \
             (`org_id`, `/org/id`)\n",
        ),
        (
            full().without("azp").text(),
            "refused: the token does not identify its consumer (the token has no `azp`, `/act/client`)\n",
        ),
    ] {
        let out = world.explain(&["GET", "/v1/orders/7", "--bearer", &token, "--at", &at]).out;
        let auth = out.split_inclusive('\n').find(|line| line.starts_with("  auth ")).unwrap();
        assert!(auth.ends_with(said), "{out}");
    }
}

#[test]
fn bodies_come_from_files_and_from_standard_input() {
    let world = world();
    std::fs::write(world.folder.path().join("good.json"), r#"{"item": "rope"}"#).unwrap();
    let request = ["POST", "/v1/orders", "--key", KEY, "--body"];
    let said = world.explain(&[&request[..], &["good.json"]].concat());
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("auth        ok: API key acme-1, consumer acme, plan gold\n"), "{}", said.out);
    assert!(!said.out.contains(KEY), "the key is not printed");
    let said = world.explain_with(&["GET", "/v1/orders/7", "--key", "-"], &format!("{KEY}\n"));
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert_eq!(world.explain(&["GET", "/v1/orders/7", "--key", "-", "--body", "-"]).code, Some(2));

    let said = world.explain_with(&[&request[..], &["-"]].concat(), "{}");
    assert!(said.out.contains("→ 415 unsupported_media_type"), "nobody said what it is: {}", said.out);
    let typed = [&request[..], &["-", "--header", "Content-Type: application/json"]].concat();
    let said = world.explain_with(&typed, "{}");
    let expected = "\n              (the whole body): \"item\" is a required property\n→ 422 schema_violation";
    assert!(said.out.contains(expected), "{}", said.out);
    assert_eq!(world.explain(&[&request[..], &["missing.json"]].concat()).code, Some(2));
    let said = world.explain(&[&request[..], &["/dev/null"]].concat());
    assert!(said.code == Some(2) && said.err.contains("/dev/null is not a regular file"), "{}", said.err);
}

#[test]
fn somebody_else_can_be_tried_on() {
    let world = world();
    let who = "{ issuer: corp, id: alice, scopes: [orders:read, orders:write] }";
    let reported = world.reported(&["POST", "/v1/orders", "--as", who, "--at", "2030-01-01T00:00:00Z"]);
    assert_eq!(
        (&reported["allowed"], &reported["status"], &reported["code"]),
        (&json!(false), &json!(415), &json!("unsupported_media_type"))
    );
    assert_eq!(reported["steps"][2]["why"], "jwt of corp, consumer acme, plan gold, token expires in 5m");
    let outcomes: Vec<&str> =
        reported["steps"].as_array().unwrap().iter().map(|step| step["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["passed", "passed", "passed", "passed", "passed", "refused"]);
    assert_eq!(world.issuer.fetches(), 0, "no issuer is asked about tokens of our own");

    let reported = world.reported(&["GET", "/v1/orders/7", "--as", "{ key: acme-1 }"]);
    assert_eq!(reported["upstream"]["servers"], json!(["http://127.0.0.1:9000", "http://127.0.0.1:9001"]));
    assert_eq!(reported["upstream"]["headers"]["X-Consumer-Id"], "acme");
    assert_eq!(reported["request"]["host"], "api.example.com", "a host that has this route");

    let said = world.explain(&["GET", "/v1/orders/7", "--as", "{ issuer: crop, id: x }"]);
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("--as:1:11") && said.err.contains("did you mean `corp`?"), "{}", said.err);
}

#[test]
fn the_clock_can_be_moved() {
    let world = world();
    let begun = now();
    let token = world.issuer.token().claim("iat", begun).claim("exp", begun + 300).text();
    for (moved, end) in [
        (0, "→ forwarded to"),
        (329, "→ forwarded to"),
        (330, "→ 401 expired_token"),
        (-31, "→ 401 invalid_token"),
        // Keys do not get old by looking ahead.
        (100 * 24 * 3600, "→ 401 expired_token"),
    ] {
        let at = jiff::Timestamp::from_second(begun + moved).unwrap().to_string();
        let said = world.explain(&["GET", "/v1/orders/7", "--bearer", &token, "--at", &at]);
        assert!(said.out.contains(end), "{moved} {}{}", said.out, said.err);
    }
}

#[test]
fn an_issuer_that_is_down_is_no_401() {
    let world = world();
    world.issuer.goes_down();
    let said = world.explain(&["GET", "/v1/orders/7", "--bearer", &world.issuer.token().text()]);
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("→ 503 identity_unavailable"), "{}", said.out);
    assert!(said.err.contains("a key set could not be fetched"), "{}", said.err);
}

#[test]
fn a_policy_with_errors_explains_nothing() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("policy.yaml"), "version: 2\n").unwrap();
    let said = explain(folder.path(), &["GET", "/"], "");
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("this version of the policy language is unknown"), "{}", said.err);
    assert_eq!(explain(folder.path(), &["GET"], "").code, Some(2));
    assert_eq!(explain(folder.path(), &["GET", "/", "--as", "x", "--key", "y"], "").code, Some(2));
}
