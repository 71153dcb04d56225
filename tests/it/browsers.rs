//! Pages of other origins, and what browsers are told of them; and the listener that sends them to https.

use crate::support::client::Request;
use crate::support::*;

const APP: &str = "https://app.example";
const CORS: &str = "cors: { origins: [https://app.example, \"http://localhost:3000\"], headers: [authorization, content-type], \
                    expose: [x-request-id], max_age: 5m }";

/// What a browser asks before a page sends a request.
fn preflight<'c>(client: &'c mut client::Client, path: &str, method: &str, origin: &str) -> Request<'c> {
    client.request("OPTIONS", path).header("origin", origin).header("access-control-request-method", method)
}

#[test]
fn a_preflight_is_answered_without_a_credential() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .api(CORS)
        .route("GET /orders/{id}", "scopes: [orders:read]")
        .route("PUT /orders/{id}", "scopes: [orders:write]")
        .start();
    let mut client = client(&proxy);
    let answer = preflight(&mut client, "/orders/7", "PUT", APP)
        .header("access-control-request-headers", "authorization,content-type")
        .header("access-control-request-private-network", "true")
        .send()
        .is(204);
    for (name, value) in [
        ("access-control-allow-origin", APP),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "authorization, content-type"),
        ("access-control-max-age", "300"),
        ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("access-control-allow-private-network"), None);
    preflight(&mut client, "/orders/7", "GET", "http://localhost:3000").send().is(204);
    // What is refused: another origin, another header, another method, another path; and what is no preflight.
    let refused =
        preflight(&mut client, "/orders/7", "PUT", "https://evil.example").send().refused(403, "cors_refused");
    assert_eq!(refused.header("access-control-allow-origin"), None);
    let header = preflight(&mut client, "/orders/7", "PUT", APP).header("access-control-request-headers", "x-other");
    assert!(header.send().refused(403, "cors_refused").text().contains("`x-other`"));
    preflight(&mut client, "/orders/7", "DELETE", APP).send().refused(405, "method_not_allowed");
    preflight(&mut client, "/nothing", "GET", APP).send().refused(404, "no_route");
    client.request("OPTIONS", "/orders/7").header("origin", APP).send().refused(405, "method_not_allowed");
    upstream.saw_nothing();
    let records = proxy.done();
    assert_eq!(said(&records[0], "http.request.method"), "OPTIONS");
    assert_eq!(said(&records[0], "http.response.status_code"), 204);
    assert_eq!(said(&records[0], "bartizan.route"), "PUT /orders/{id}");
    assert_eq!(said(&records[2], "event.reason"), "cors_refused");
}

#[test]
fn pages_can_read_answers_and_refusals() {
    let up = upstream()
        .does(|call| {
            let theirs = [
                ("access-control-allow-origin", "*"),
                ("access-control-allow-credentials", "true"),
                ("access-control-allow-private-network", "true"),
                ("vary", "accept"),
            ];
            call.answer(200, &theirs, "ok")
        })
        .start();
    let issuer = issuer();
    let proxy = proxy()
        .before(&up)
        .trusts(&issuer)
        .api(CORS)
        .plan("free: { rate: 1/h }")
        .open("GET /open")
        .route("GET /closed", "scopes: [a]")
        .start();
    let mut client = client(&proxy);
    let readable = |answer: &client::Answer| {
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert_eq!(answer.header("access-control-allow-private-network"), None);
        let varies = answer.head.headers.iter().any(|(name, value)| name == "vary" && value == "Origin");
        assert!(varies, "{:?}", answer.head);
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    let open = client.get("/open").header("origin", APP).send().is(200);
    assert_eq!(readable(&open).as_deref(), Some(APP));
    assert_eq!(open.header("access-control-expose-headers"), Some("x-request-id"));
    assert_eq!(readable(&client.get("/open").header("origin", "https://evil.example").send().is(200)), None);
    assert_eq!(readable(&client.get("/open").send().is(200)), None, "a cache may keep it for pages");
    // 401, 403, 200, 429, 404, 405, 400.
    let token = |scope: &str| issuer.token().scope(scope);
    let refusals = [
        client.get("/closed").header("origin", APP).send().refused(401, "missing_credentials"),
        client.get("/closed").header("origin", APP).bearer(token("b")).send().refused(403, "insufficient_scope"),
        client.get("/closed").header("origin", APP).bearer(token("a")).send().is(200),
        client.get("/closed").header("origin", APP).bearer(token("a")).send().refused(429, "rate_limited"),
        client.get("/nothing").header("origin", APP).send().refused(404, "no_route"),
        client.post("/open", "{}").header("origin", APP).send().refused(405, "method_not_allowed"),
    ];
    for refusal in &refusals {
        assert_eq!(readable(refusal).as_deref(), Some(APP), "{}", refusal.text());
    }
    proxy.done();
    // And what the upstream does not answer.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let proxy = crate::support::proxy().server(&format!("http://{address}")).api(CORS).open("GET /open").start();
    let mut client = crate::support::client(&proxy);
    let refused = client.get("/open").header("origin", APP).send().refused(502, "upstream_unreachable");
    assert_eq!(readable(&refused).as_deref(), Some(APP));
    proxy.done();
}

#[test]
fn preflights_have_a_limit_of_their_own() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .api("cors: { origins: [\"*\"], preflights: 2/h }")
        .with("trusted_proxies: [127.0.0.0/8]")
        .open("GET /x")
        .start();
    let mut client = client(&proxy);
    let mut ask = |from: &str| preflight(&mut client, "/x", "GET", APP).header("x-forwarded-for", from).send();
    assert_eq!(ask("192.0.2.1").is(204).header("access-control-allow-origin"), Some("*"));
    let refused = ask("192.0.2.1").refused(429, "rate_limited");
    assert_eq!(refused.header("access-control-allow-origin"), Some("*"));
    ask("192.0.2.2").is(204);
    client.get("/x").header("x-forwarded-for", "192.0.2.1").send().is(200);
    proxy.done();
}

#[test]
fn options_goes_on_where_it_is_no_preflight_or_cors_is_not_set() {
    let (with, without) = (upstream().start(), upstream().start());
    let policy = |upstream: &Upstream| proxy().before(upstream).open("OPTIONS /x").open("GET /x");
    for (proxy, upstream, forwarded) in
        [(policy(&with).api(CORS).start(), &with, 1), (policy(&without).start(), &without, 2)]
    {
        let mut client = client(&proxy);
        client.request("OPTIONS", "/x").send().is(200);
        preflight(&mut client, "/x", "GET", APP).send();
        assert_eq!(upstream.seen().len(), forwarded);
        proxy.done();
    }
}

#[test]
fn what_cors_cannot_mean_is_an_error_at_load() {
    for (cors, reported) in [
        ("{ origins: [\"*\"] }", None),
        ("{ origins: [\"*\"], credentials: true }", Some("every page could act for the people who visit it")),
        ("{ origins: [\"*\", \"https://a.example\"] }", Some("it goes alone")),
        ("{ origins: [] }", Some("there is no origin")),
        ("{ origins: [\"null\"] }", Some("any page can have the origin `null`")),
        ("{ origins: [\"https://a.example/\"] }", Some("this is not an origin")),
        ("{ origins: [\"https://a.example\", \"https://A.example:443\"] }", Some("listed twice")),
        ("{ origins: [\"https://a.example\"], headers: [\"*\"] }", Some("write each name")),
        ("{ origins: [\"https://a.example\"], max_age: 1500ms }", Some("whole number of seconds")),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let policy = proxy().server("http://127.0.0.1:9").api(&format!("cors: {cors}")).open("GET /x");
        let path = policy.write(folder.path());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").arg("check").arg(path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), reported.is_none(), "{cors}: {said}");
        assert!(said.contains(reported.unwrap_or_default()), "{cors}: {said}");
    }
}

#[test]
fn explain_and_test_show_what_pages_may_do() {
    let folder = tempfile::TempDir::new().unwrap();
    let policy = proxy().server("http://127.0.0.1:9").api(CORS).open("GET /x").write(folder.path());
    let case = |name: &str, request: &str, expect: &str| {
        format!("  - {{ name: {name}, request: {{ {request} }}, expect: {{ {expect} }} }}\n")
    };
    let asks = |origin: &str| {
        format!("method: OPTIONS, path: /x, headers: {{ origin: \"{origin}\", access-control-request-method: GET }}")
    };
    let tests = [
        case("read", "method: GET, path: /x, headers: { origin: \"https://app.example\" }", "status: 200, cors: allow"),
        case(
            "unread",
            "method: GET, path: /x, headers: { origin: \"https://evil.example\" }",
            "status: 200, cors: refuse",
        ),
        case("none", "method: GET, path: /x", "cors: none"),
        case("preflight", &asks(APP), "status: 204, cors: allow, route: GET /x, upstream_path: none"),
        case("refused", &asks("https://evil.example"), "status: 403, code: cors_refused"),
    ];
    std::fs::write(folder.path().join("t.test.yaml"), format!("policy: policy.yaml\ntests:\n{}", tests.concat()))
        .unwrap();
    let bartizan = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").args(arguments).current_dir(folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = bartizan(&["test", "t.test.yaml"]);
    assert_eq!(code, Some(0), "{said}");
    let policy = policy.to_str().unwrap();
    let (code, said) =
        bartizan(&["explain", "--policy", policy, "GET", "/x", "--header", "Origin: https://evil.example"]);
    assert!(code == Some(0) && said.contains("pages of https://evil.example may not read the response"), "{said}");
    let asked = ["--header", "Origin: https://app.example", "--header", "Access-Control-Request-Method: GET"];
    let (code, said) = bartizan(&[&["explain", "--policy", policy, "OPTIONS", "/x"], &asked[..]].concat());
    assert!(
        code == Some(0) && said.contains("the proxy itself answers the preflight") && said.contains("→ 204"),
        "{said}"
    );
}

#[test]
fn a_listener_redirects_to_https_and_does_nothing_else() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .listen("{ address: \"127.0.0.1:0\", redirect: https }")
        .listen("{ address: \"127.0.0.2:0\", redirect: \"https:8443\" }")
        .listen("{ address: \"127.0.0.3:0\" }")
        .api("hosts: [api.example, \"*.shop.example\"]")
        .open("GET /x")
        // Its paths are on every host, but that makes none a host of this policy.
        .with("self_service: { path: /.bartizan }")
        .with("store: state/")
        .start();
    let at = |listener: usize| client::Client::new(proxy.addresses()[listener], std::sync::Arc::clone(&proxy.requests));
    for (listener, host, target, expected) in [
        (0, "api.example", "/x?a=b%20c", "https://api.example/x?a=b%20c"),
        (0, "API.example:8080", "/a/../nothing", "https://api.example/nothing"),
        (0, "a.shop.example", "/", "https://a.shop.example/"),
        (1, "api.example", "/x", "https://api.example:8443/x"),
    ] {
        let answer = at(listener).get(target).host(host).send().is(308);
        assert_eq!((answer.header("location"), answer.body.len()), (Some(expected), 0));
    }
    at(0).post("/x", "{}").host("api.example").send().is(308);
    at(0).get("/x").host("evil.example").send().refused(404, "no_route");
    at(0).request("OPTIONS", "*").host("api.example").send().is(308);
    at(0).get("/x%00").host("api.example").send().refused(400, "malformed_request");
    upstream.saw_nothing();
    at(2).get("/x").host("api.example").send().is(200);
    let records = proxy.done();
    assert_eq!(said(&records[0], "http.response.status_code"), 308);
}

#[test]
fn what_cannot_be_redirected_is_an_error_at_load() {
    let other = "{ address: \"127.0.0.1:0\" }";
    for (listeners, reported) in [
        (&["{ address: \"127.0.0.2:0\", redirect: https }", other][..], None),
        (&["{ address: \"127.0.0.2:0\", redirect: http }", other], Some("only be redirected to https")),
        (&["{ address: \"127.0.0.2:0\", redirect: \"https:0\" }", other], Some("only be redirected to https")),
        (&["{ address: \"127.0.0.2:0\", redirect: https }"], Some("none takes requests")),
        (&["{ address: \"127.0.0.2:0\", proxy_protocol: true }"], Some("no proxy is trusted")),
    ] {
        let folder = tempfile::TempDir::new().unwrap();
        let policy = proxy().server("http://127.0.0.1:9").open("GET /x");
        let policy = listeners.iter().fold(policy, |policy, listener| policy.listen(listener));
        let path = policy.write(folder.path());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").arg("check").arg(path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), reported.is_none(), "{listeners:?}: {said}");
        assert!(said.contains(reported.unwrap_or_default()), "{listeners:?}: {said}");
    }
}
