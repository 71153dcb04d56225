//! The admin listener.

use crate::support::client::operator;
use crate::support::*;

#[test]
fn operators_see_and_reload_and_others_do_not() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").start();
    client(&proxy).get("/x").send().is(200);
    client(&proxy).get("/secret-path").send().is(404);
    proxy.recorded(2);
    let mut operator = operator(&proxy);
    assert_eq!(operator.get("/healthz").send().status, 200);
    assert_eq!(operator.get("/readyz").send().json()["ready"], true);
    let metrics = operator.get("/metrics").send().text();
    assert!(metrics.contains(r#"bartizan_requests_total{api="orders",route="GET /x",code="2xx"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"code="no_route"} 1"#) && !metrics.contains("secret-path"), "{metrics}");

    operator.get("/v1/policy").send().refused(401, "missing_credentials");
    operator.get("/v1/policy").bearer("guess").send().refused(401, "invalid_token");
    let policy = operator.get("/v1/policy").bearer(proxy::ADMIN_TOKEN).send().json();
    assert_eq!(policy["apis"][0]["routes"][0], json!({"route": "GET /x", "public": true}), "{policy:#}");
    operator.post("/v1/policy/reload", "").send().refused(401, "missing_credentials");
    let reloaded = operator.post("/v1/policy/reload", "").bearer(proxy::ADMIN_TOKEN).send();
    assert_eq!(reloaded.json()["outcome"], "unchanged", "{}", reloaded.text());
    operator.get("/nothing").send().refused(404, "no_route");
    operator.get("/v1/policy/reload").send().refused(405, "method_not_allowed");
    let records = proxy.recorded(3);
    assert_eq!(said(&records[2], "event.action"), "policy_reload");
    proxy.done();
}

#[test]
fn without_a_token_what_needs_one_is_closed() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x");
    let text = policy.yaml().replace(&format!(", token: {}", proxy::ADMIN_TOKEN), "");
    let proxy = policy.text(&text).start();
    let mut operator = operator(&proxy);
    assert_eq!(operator.get("/healthz").send().status, 200);
    for token in ["", "x", proxy::ADMIN_TOKEN] {
        operator.get("/v1/policy").bearer(token).send().refused(401, "missing_credentials");
        operator.post("/v1/policy/reload", "").bearer(token).send().refused(401, "missing_credentials");
    }
    proxy.done();
}
