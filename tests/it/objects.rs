//! Object-level authorization: a caller gets its own objects and nobody else's, however it asks.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};

use crate::http2::over_http2;
use crate::support::client::Client;
use crate::support::proxy::Reloaded;
use crate::support::websocket::{closed, hears, open, sockets};
use crate::support::*;

const ORDERS: &str = "scopes: [orders:read], where: { path.tenant: caller.tenant }";

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn consumers() -> String {
    let key = |text: &str| hexadecimal(digest(&SHA256, text.as_bytes()).as_ref());
    format!(
        "roles: {{ reader: [orders:read] }}
consumers:
  acme: {{ roles: [reader], plan: free, attributes: {{ tenant: t-17 }}, keys: [{{ id: acme-1, sha256: \"{}\" }}] }}
  group: {{ roles: [reader], plan: free, attributes: {{ tenant: [t-17, 18] }}, keys: [{{ id: group-1, sha256: \"{}\" }}] }}
  none: {{ roles: [reader], plan: free, keys: [{{ id: none-1, sha256: \"{}\" }}] }}
  app: {{ plan: free, attributes: {{ tenant: [t-17, t-18] }}, identities: [{{ issuer: corp, id: app }}] }}",
        key("acme-key"),
        key("group-key"),
        key("none-key"),
    )
}

/// An API of several tenants. Tokens say theirs in `org`, and `area` in a claim within another.
fn guarded(upstream: &Upstream, issuer: &issuer::Issuer) -> Policy {
    let claims = "max_lifetime: 1h, attributes: { tenant: org, area: [/geo/area, area] }";
    let keys = format!("jwks: \"{}\", algorithms: [ES256], default_plan: free, {claims}", issuer.url());
    proxy()
        .before(upstream)
        .issuer("corp", &keys)
        .with(&consumers())
        .route("GET /tenants/{tenant}/orders", ORDERS)
        .route("GET /files/{tenant...}", &format!("{ORDERS}, encoded_slash: keep"))
        .route("GET /reports/{tenant}.csv", ORDERS)
        .route("GET /pairs/{tenant}-{day}", ORDERS)
        .route("GET /mapped/{tenant}/{id}", &format!("{ORDERS}, rewrite: \"/internal/{{id}}/of/{{tenant}}\""))
        .route("GET /query", "scopes: [orders:read], where: { query.tenant: caller.tenant }")
        .route("GET /header", "scopes: [orders:read], where: { header.X-Tenant: caller.tenant }")
        .route("GET /users/{user}", "scopes: [orders:read], where: { path.user: caller.user }")
        .route("GET /consumers/{name}", "scopes: [orders:read], where: { path.name: caller.consumer }")
        .route(
            "GET /areas/{tenant}/{area}",
            "scopes: [orders:read], where: { path.tenant: caller.tenant, path.area: caller.area }",
        )
}

/// A token of alice, who uses `app`, with these claims.
fn token(issuer: &issuer::Issuer, claims: Value) -> String {
    let token = issuer.token().claim("client_id", "app");
    let Value::Object(claims) = claims else { panic!("{claims}") };
    claims.into_iter().fold(token, |token, (name, value)| token.claim(&name, value)).text()
}

#[track_caller]
fn asks(client: &mut Client, target: &str, token: &str, good: bool) {
    let answer = client.get(target).bearer(token).send();
    if good { drop(answer.is(200)) } else { drop(answer.refused(403, "not_yours")) }
}

#[test]
fn a_caller_gets_its_own_objects_and_nobody_elses() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let own = token(&issuer, json!({"org": "t-17"}));
    for (target, good) in [
        ("/tenants/t-17/orders", true),
        ("/tenants/t%2D17/orders", true),
        ("/tenants/%74%2d1%37/orders", true),
        ("/tenants/x/../t-17/orders", true),
        ("/tenants/t-18/orders", false),
        ("/tenants/%74%2d18/orders", false),
        ("/tenants/T-17/orders", false),
        ("/tenants/t-17%20/orders", false),
        ("/tenants/t-17;t-18/orders", false),
        ("/tenants/t-17%3Bt-18/orders", false),
        ("/tenants/t-17,t-18/orders", false),
        ("/tenants/t-1/orders", false),
        ("/tenants/t-170/orders", false),
        ("/tenants/*/orders", false),
        // Full width, and a hyphen of another kind.
        ("/tenants/t-%EF%BC%91%EF%BC%97/orders", false),
        ("/tenants/t%E2%80%9017/orders", false),
        ("/tenants/t-17/../t-18/orders", false),
        ("/files/t-17", true),
        ("/files/t-17/../t-18", false),
        ("/files/t-17/7", false),
        ("/files/t-17%2F7", false),
        ("/reports/t-17.csv", true),
        ("/reports/t-18.csv", false),
        ("/reports/t-17.csv.csv", false),
        // `t-17` and `1`, or `t` and `17-1`.
        ("/pairs/t-17-1", false),
        ("/mapped/t-17/t-18", true),
        ("/mapped/t-18/t-17", false),
        ("/query?tenant=t-17", true),
        ("/query?x=1&tenant=t%2D17", true),
        ("/query", false),
        ("/query?tenant=t-18", false),
        ("/query?tenant=t-17&tenant=t-18", false),
        ("/query?tenant=t-18&tenant=t-17", false),
        ("/query?tenant=t-17&tenant=t-17", false),
        ("/query?tenant=t-17&Tenant=t-18", false),
        ("/query?tenant=t-17&tenant[]=t-18", false),
        ("/query?tenant=t-17&tenan%74=t-18", false),
        ("/query?tenant=t-17;tenant=t-18", false),
        ("/query?tenant[$ne]=t-17", false),
        ("/query?tenant=t-17%00", false),
        ("/header", false),
        ("/users/alice", true),
        ("/users/bob", false),
        ("/consumers/app", true),
        ("/consumers/acme", false),
        ("/areas/t-17/north", false),
    ] {
        asks(&mut client, target, &own, good);
    }
    assert_eq!(client.get("/mapped/t-17/7").bearer(&own).send().is(200).json()["target"], "/internal/7/of/t-17");
    // What could be another path for the upstream is refused before.
    client.get("/tenants/t-17%2Forders").bearer(&own).send().refused(400, "malformed_request");
    client.get("/tenants/t-17%252F/orders").bearer(&own).send().refused(400, "malformed_request");
    let records = proxy.done();
    let refused: Vec<_> = records.iter().filter(|record| said(record, "event.reason") == "not_yours").collect();
    assert!(refused.len() >= 30 && refused.iter().all(|record| said(record, "bartizan.stage") == "scope"));
    assert!(refused.iter().all(|record| said(record, "bartizan.consumer") == "app"));
}

#[test]
fn what_belongs_to_a_caller_comes_of_its_token_and_its_consumer() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let mut client = client(&proxy);
    for (claims, target, good) in [
        (json!({"org": ["t-17", "t-18"]}), "/tenants/t-18/orders", true),
        (json!({"org": ["t-17", "t-18"]}), "/tenants/t-19/orders", false),
        // A token says no more than its consumer has, and nothing if it says nothing.
        (json!({"org": "t-19"}), "/tenants/t-19/orders", false),
        (json!({}), "/tenants/t-17/orders", false),
        (json!({"org": null}), "/tenants/t-17/orders", false),
        (json!({"org": ""}), "/tenants/t-17/orders", false),
        (json!({"org": {"t-17": true}}), "/tenants/t-17/orders", false),
        (json!({"org": ["t-17", 5, null]}), "/tenants/t-17/orders", false),
        // Consumers that the policy does not list have what their tokens say.
        (json!({"client_id": "other", "org": "t-20"}), "/tenants/t-20/orders", true),
        (json!({"client_id": "other", "org": 20}), "/tenants/20/orders", true),
        (json!({"client_id": "other", "org": "t-20"}), "/tenants/t-17/orders", false),
        (json!({"client_id": "other"}), "/tenants/t-17/orders", false),
        (json!({"org": "t-17", "geo": {"area": "north"}}), "/areas/t-17/north", true),
        (json!({"org": "t-17", "area": "north"}), "/areas/t-17/north", true),
        (json!({"org": "t-17", "area": "north"}), "/areas/t-17/south", false),
        (json!({"org": "t-18", "area": "north"}), "/areas/t-17/north", false),
        (json!({"org": "t-17", "geo": "north"}), "/areas/t-17/north", false),
    ] {
        asks(&mut client, target, &token(&issuer, claims), good);
    }
    for (key, target, good) in [
        ("acme-key", "/tenants/t-17/orders", true),
        ("acme-key", "/tenants/t-18/orders", false),
        ("group-key", "/tenants/t-17/orders", true),
        ("group-key", "/tenants/18/orders", true),
        ("group-key", "/tenants/t-18/orders", false),
        ("none-key", "/tenants/t-17/orders", false),
        ("acme-key", "/users/acme", false),
        ("acme-key", "/consumers/acme", true),
    ] {
        let answer = client.get(target).key(key).send();
        if good { drop(answer.is(200)) } else { drop(answer.refused(403, "not_yours")) }
    }
    proxy.done();
}

#[test]
fn a_header_names_one_object_in_one_spelling() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let own = token(&issuer, json!({"org": "t-17"}));
    let mut asks = |fields: &[(&str, &str)]| {
        let request = client.get("/header").bearer(&own);
        fields.iter().fold(request, |request, (name, value)| request.header(name, value)).send()
    };
    assert_eq!(asks(&[("x-tenant", "t-17")]).is(200).echoed("x-tenant"), ["t-17"]);
    for fields in [
        &[("x-tenant", "t-18")][..],
        &[("x-tenant", "")],
        &[("x-tenant", "t-17"), ("X-Tenant", "t-18")],
        &[("x-tenant", "t-17"), ("x-tenant", "t-17")],
        &[("x-tenant", "t-17, t-18")],
    ] {
        asks(fields).refused(403, "not_yours");
    }
    // Neither taken away after it was compared, nor sent in another spelling.
    asks(&[("x-tenant", "t-17"), ("connection", "x-tenant")]).refused(400, "malformed_request");
    asks(&[("x-tenant", "t-17"), ("x_tenant", "t-18")]).refused(400, "malformed_request");
    proxy.done();
}

#[test]
fn every_door_compares() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let own = token(&issuer, json!({"org": "t-17"}));
    let mut client = client(&proxy);
    assert_eq!(client.request("HEAD", "/tenants/t-17/orders").bearer(&own).send().status, 200);
    assert_eq!(client.request("HEAD", "/tenants/t-18/orders").bearer(&own).send().status, 403);
    client.get("http://a.example/tenants/t-18/orders").host("a.example").bearer(&own).send().refused(403, "not_yours");
    proxy.owes(4);
    over_http2(&proxy, async |mut sender| {
        for (target, status) in [
            ("/tenants/t-17/orders", 200),
            ("/tenants/t-18/orders", 403),
            ("/tenants/%74-18/orders", 403),
            ("/query?tenant=t-17&tenant=t-18", 403),
        ] {
            let request = Request::get(format!("http://a.example{target}"));
            let request = request.header("authorization", format!("Bearer {own}")).body(Full::<Bytes>::default());
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            assert_eq!(answer.status(), status, "{target}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(String::from_utf8_lossy(&body).contains("not_yours"), status == 403);
        }
    });
    proxy.done();
}

#[test]
fn a_certificate_has_the_objects_of_its_consumer() {
    let (upstream, authority) = (upstream().start(), authority());
    let (server, acme) = (authority.certifies(&["localhost"]), authority.vouches_for(1, &["acme.example"]));
    let proxy = proxy()
        .before(&upstream)
        .listen("{ address: \"127.0.0.1:0\", tls: { certificate: c.pem, key: k.pem, client_ca: ca.pem } }")
        .file("c.pem", server.certificate)
        .file("k.pem", server.key)
        .file("ca.pem", authority.pem())
        .with(
            "roles: { reader: [orders:read] }
consumers:
  acme: { roles: [reader], plan: free, attributes: { tenant: t-17 }, identities: [{ certificate_san: acme.example }] }",
        )
        .route("GET /tenants/{tenant}/orders", ORDERS)
        .start();
    let mut client = client(&proxy).tls(authority.client_showing(&acme));
    client.get("/tenants/t-17/orders").send().is(200);
    client.get("/tenants/t-18/orders").send().refused(403, "not_yours");
    proxy.done();
}

#[test]
fn a_route_that_only_reports_counts_what_is_not_the_callers() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer)
        .route("GET /tried/{tenant}", &format!("{ORDERS}, mode: {{ scope: report }}"))
        .start();
    let own = token(&issuer, json!({"org": "t-17"}));
    let mut client = client(&proxy);
    client.get("/tried/t-17").bearer(&own).send().is(200);
    client.get("/tried/t-18").bearer(&own).send().is(200);
    let records = proxy.done();
    let would: Vec<_> = records.iter().map(|record| said(record, "bartizan.would_refuse").to_string()).collect();
    assert_eq!(would, ["null", r#"["not_yours"]"#]);
}

#[test]
fn a_websocket_ends_when_its_object_is_taken_from_the_caller() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let feed = "scopes: [orders:read], upgrade: { websocket: {} }, where: { header.x-tenant: caller.tenant }";
    let policy = |tenant: &str| {
        proxy()
            .before(&upstream)
            .trusts(&issuer)
            .with(&format!(
                "consumers: {{ app: {{ plan: free, attributes: {{ tenant: {tenant} }}, identities: [{{ issuer: corp, id: app }}] }} }}"
            ))
            .route("GET /feed", feed)
    };
    let mut proxy = policy("t-17").start();
    let mut client = client(&proxy);
    let bearer = format!("authorization: Bearer {}\r\nx-tenant: t-17\r\n", token(&issuer, json!({})));
    assert_eq!(open(&mut client, "/feed", &bearer).word(1), "101");
    assert_eq!(hears(&mut client), "welcome");
    assert_eq!(proxy.reload_to(|_| policy("[t-17, t-18]")), Reloaded::Loaded);
    assert_eq!(proxy.reload_to(|_| policy("t-18")), Reloaded::Loaded);
    assert_eq!(closed(&mut client), (1008, "not_yours".to_owned()));
    drop(client);
    proxy.stop();
}

#[test]
fn check_reports_what_cannot_be_compared() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = || guarded(&upstream, &issuer);
    assert_eq!(policy().checked(), "");
    for (route, asks, expected) in [
        ("GET /a/{tenant}", "where: { path.tenent: caller.tenant }", "did you mean `tenant`?"),
        ("GET /a", "where: { path.tenant: caller.tenant }", "the path of the route has no names"),
        ("GET /a/{tenant}", "where: { path.tenant: caller.tenent }", "did you mean `tenant`?"),
        (
            "GET /a/{tenant}",
            "where: { path.tenant: caller.region }",
            "no consumer and no issuer has the attribute `region`",
        ),
        ("GET /a/{tenant}", "where: { path.tenant: t-17 }", "`t-17` is nothing that a caller has"),
        ("GET /a/{tenant}", "where: { tenant: caller.tenant }", "`tenant` is not a part of a request"),
        ("GET /a", "where: { header.authorization: caller.tenant }", "cannot be compared"),
        ("GET /a", "where: { header.x-consumer-id: caller.tenant }", "cannot be compared"),
        (
            "GET /a/{tenant}/{id}",
            "where: { path.tenant: caller.tenant }, rewrite: \"/{tenant}{id}\"",
            "`{tenant}` shares a segment with another name",
        ),
        ("GET /a/{tenant}", "", "write `where: { path.tenant: caller.tenant }`, or `where: {}`"),
        ("GET /a/{tenant_id}", "", "write `where: { path.tenant_id: caller.tenant }`"),
        ("GET /a/{tenant}", "where: {}", ""),
        ("GET /a/{name}", "", ""),
        ("GET /a/{id}", "", ""),
    ] {
        let separator = if asks.is_empty() { "" } else { ", " };
        let said = policy().route(route, &format!("scopes: [orders:read]{separator}{asks}")).checked();
        assert_eq!((said.contains(expected), said.is_empty()), (true, expected.is_empty()), "{route} {asks}: {said}");
    }
    // Consumers of the store may have other attributes, but hardly one that is called almost the same.
    let stored = |name: &str| {
        let asks = format!("scopes: [orders:read], where: {{ path.region: caller.{name} }}");
        policy().with("store: state/").route("GET /a/{region}", &asks).checked()
    };
    assert_eq!(stored("region"), "");
    assert!(stored("tenent").contains("did you mean `tenant`?"));
    let public = policy().route("GET /a/{tenant}", "public: true, where: { path.tenant: caller.tenant }").checked();
    assert!(public.contains("`where` cannot apply"), "{public}");
    let compares = |header: &str| {
        let asks = format!("scopes: [orders:read], where: {{ header.{header}: caller.tenant }}");
        policy().with("headers: { drop: [x-debug-*, X-Org] }").route("GET /a", &asks)
    };
    for (header, expected) in [
        ("x-debug-tenant", "`headers.drop` has `x-debug-*`"),
        ("x-org", "keep it at this API"),
        ("x-api-key", "the header of API keys"),
        ("x-real-ip", "only proxies say that"),
        ("x-forwarded-client", "only proxies say that"),
        ("remote-user", "only proxies say that"),
        ("x-consumer-id", "does not get the caller's `x-consumer-id` as it came"),
        ("x-other", ""),
    ] {
        let said = compares(header).checked();
        assert_eq!((said.contains(expected), said.is_empty()), (true, expected.is_empty()), "{header}: {said}");
    }
    assert_eq!(compares("x-org").api("headers: { request: { keep: [x-org] } }").checked(), "");
    let set = policy().api("headers: { request: { set: { x_tenant: t-1 } } }");
    assert!(set.checked().contains("so the upstream must get it as it came"));
    for (attributes, expected) in [
        ("{ user: alice }", "every caller has `caller.user` already"),
        ("{ \"a b\": c }", "this cannot be the name of an attribute"),
        ("{ tenant: [] }", "this attribute has no value"),
        ("{ tenant: [a, a] }", "this value occurs twice"),
    ] {
        let consumers = format!("consumers: {{ acme: {{ plan: free, attributes: {attributes} }} }}");
        let said = proxy().before(&upstream).with(&consumers).open("GET /a").checked();
        assert!(said.contains(expected), "{attributes}: {said}");
    }
}

#[test]
fn a_description_says_what_must_be_the_callers() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let document = |condition: &str| {
        format!(
            "openapi: 3.1.0
security: [{{ login: [orders:read] }}]
paths:
  /tenants/{{tenant}}/orders:
    get:
      x-bartizan: {{ where: {{ {condition} }} }}
      parameters: [{{ name: tenant, in: path, required: true, schema: {{ type: string }} }}]
      responses: {{ default: {{ description: any }} }}
components: {{ securitySchemes: {{ login: {{ type: http, scheme: bearer }} }} }}
"
        )
    };
    let policy = |condition: &str| {
        let keys = format!(
            "jwks: \"{}\", algorithms: [ES256], default_plan: free, attributes: {{ tenant: org }}",
            issuer.url()
        );
        let policy = proxy().before(&upstream).issuer("corp", &keys).file("api.yaml", document(condition));
        policy.described("{ document: api.yaml, responses: off }")
    };
    let wrong = policy("path.tenent: caller.tenant").checked();
    assert!(wrong.contains("api.yaml:6") && wrong.contains("did you mean `tenant`?"), "{wrong}");
    let proxy = policy("path.tenant: caller.tenant").start();
    let own = token(&issuer, json!({"org": "t-17"}));
    asks(&mut client(&proxy), "/tenants/t-17/orders", &own, true);
    asks(&mut client(&proxy), "/tenants/t-18/orders", &own, false);
    proxy.done();
}

#[test]
fn explain_and_test_show_what_was_compared() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let tests = "policy: policy.yaml
tests:
  - name: its own
    as: { issuer: corp, id: app, scopes: [orders:read], claims: { org: t-17 } }
    request: GET /tenants/t-17/orders
    expect: allow
  - name: and not those of others
    as: { issuer: corp, id: app, scopes: [orders:read], claims: { org: t-17 } }
    request: GET /tenants/t-18/orders
    expect: { status: 403, code: not_yours, stage: scope }
  - name: with a key
    as: { consumer: group }
    request: GET /tenants/18/orders
    expect: allow
";
    let folder = tempfile::TempDir::new().unwrap();
    guarded(&upstream, &issuer).file("t.yaml", tests).write(folder.path());
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").current_dir(folder.path()).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let explain = |target: &str| {
        let who = "{ issuer: corp, id: app, scopes: [orders:read], claims: { org: [t-17, t-19] } }";
        run(&["explain", "--policy", "policy.yaml", "GET", target, "--as", who]).1
    };
    let allowed = explain("/tenants/t-17/orders");
    assert!(allowed.contains("path.tenant must be caller.tenant (t-17)"), "{allowed}");
    let refused = explain("/tenants/t-19/orders");
    assert!(refused.contains("403 not_yours") && refused.contains("`path.tenant` is not the caller's"), "{refused}");
    let (code, said) = run(&["test", "t.yaml"]);
    assert_eq!(code, Some(0), "{said}");
}
