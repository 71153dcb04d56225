//! How often.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use tempfile::TempDir;

use crate::support::*;

#[test]
fn a_burst_then_429_and_each_consumer_for_itself() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).plan("free: { rate: 1/h, burst: 2 }");
    let proxy = policy.route("GET /x", "scopes: [orders:read]").start();
    let mut client = client(&proxy);
    let alice = issuer.token().text();
    let first = client.get("/x").bearer(&alice).send().is(200);
    assert_eq!(first.header("ratelimit-policy"), Some(r#""free";q=2;w=7200"#));
    assert_eq!(first.header("ratelimit"), Some(r#""free";r=1;t=3600"#));
    client.get("/x").bearer(&alice).send().is(200);
    let refused = client.get("/x").bearer(&alice).send().refused(429, "rate_limited");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait) && refused.json()["retry_after"] == wait, "{wait}");
    assert!(refused.header("ratelimit").unwrap().starts_with(r#""free";r=0;t="#));
    client.get("/x").bearer(issuer.token().sub("bob")).send().is(200);
    proxy.done();
}

#[test]
fn a_routes_own_rate_stands_beside_the_plan() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).plan("free: { rate: 1/h, burst: 3 }");
    let policy = policy.route("GET /x", "scopes: [orders:read], rate: 1/h");
    let proxy = policy.route("GET /y", "scopes: [orders:read]").start();
    let mut client = client(&proxy);
    let token = issuer.token().text();
    let answer = client.get("/x").bearer(&token).send().is(200);
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""route";q=1;w=3600"#), "the nearest limit");
    for _ in 0..5 {
        client.get("/x").bearer(&token).send().refused(429, "rate_limited");
    }
    // What the route refused took nothing from the plan.
    client.get("/y").bearer(&token).send().is(200);
    client.get("/y").bearer(&token).send().is(200);
    client.get("/y").bearer(&token).send().refused(429, "rate_limited");
    proxy.done();
}

/// What the plan refuses takes nothing from the route's own limit, and the wait is that of the limit that takes longest.
#[test]
fn a_request_that_one_limit_refuses_takes_nothing_from_the_others() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).plan("free: { rate: 1/day, burst: 1 }");
    let policy = policy.route("GET /x", "scopes: [orders:read], rate: 1/h");
    let mut proxy = policy.route("GET /y", "scopes: [orders:read]").start();
    let mut client = client(&proxy);
    let token = issuer.token().text();
    client.get("/y").bearer(&token).send().is(200);
    let answer = client.get("/x").bearer(&token).send().refused(429, "rate_limited");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((86_000..=86_400).contains(&wait), "{wait}");
    let raised =
        |policy: Policy| policy.clone().text(&policy.yaml().replace("rate: 1/day, burst: 1", "rate: 100000/s"));
    assert_eq!(proxy.reload_to(raised), proxy::Reloaded::Loaded);
    // What was used up is used up, but refills at the new rate from now on: within 10 µs.
    let answer = client.get("/x").bearer(&token).send().refused(429, "rate_limited");
    assert_eq!(answer.header("retry-after"), Some("1"));
    client.get("/x").bearer(&token).send().is(200);
    client.get("/x").bearer(&token).send().refused(429, "rate_limited");
    proxy.done();
}

#[test]
fn a_costly_request_takes_more_of_each_limit() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).plan("free: { rate: 1/h, burst: 12 }");
    let policy = policy.route("GET /x", "scopes: [orders:read], cost: 5").route("GET /y", "scopes: [orders:read]");
    let proxy = policy.start();
    let mut client = client(&proxy);
    let token = issuer.token().text();
    let answer = client.get("/x").bearer(&token).send().is(200);
    assert!(answer.header("ratelimit").unwrap().starts_with(r#""free";r=7;"#), "{:?}", answer.header("ratelimit"));
    client.get("/x").bearer(&token).send().is(200);
    let answer = client.get("/x").bearer(&token).send().refused(429, "rate_limited");
    assert!(answer.header("ratelimit").unwrap().starts_with(r#""free";r=2;"#), "{:?}", answer.header("ratelimit"));
    client.get("/y").bearer(&token).send().is(200);
    client.get("/y").bearer(&token).send().is(200);
    client.get("/y").bearer(&token).send().refused(429, "rate_limited");
    proxy.done();
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").with("limits: { per_client: 1 }").start();
    let (mut first, mut second) = (client(&proxy), client(&proxy));
    first.get("/x").send().is(200);
    second.connection();
    second.closes();
    first.get("/x").send().is(200);
    proxy.done();
}

#[test]
fn a_connection_too_many_waits_while_all_others_are_busy() {
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    let upstream = upstream()
        .does(move |call| {
            may_go.lock().unwrap().recv().unwrap();
            call.answer(200, &[], "")
        })
        .start();
    let proxy = proxy().before(&upstream).open("GET /x").with("limits: { connections: 1 }").start();
    let (mut first, mut second) = (client(&proxy), client(&proxy));
    first.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    eventually("the upstream is asked", || (upstream.seen().len() == 1).then_some(()));
    second.raw("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", 1);
    go.send(()).unwrap();
    first.answer().is(200);
    go.send(()).unwrap();
    second.answer().is(200);
    proxy.done();
}

/// S6: a client that does nothing keeps nobody out.
#[test]
fn the_longest_idle_connection_makes_room_for_a_new_one() {
    let upstream = upstream().start();
    let policy = proxy().before(&upstream).open("GET /x").with("limits: { connections: 2 }");
    // One worker: of two, the one that answered first may be the last to note that its connection is idle.
    let proxy = proxy().text(&policy.yaml().replace("workers: 2", "workers: 1")).start();
    let (mut longest, mut recent, mut new) = (client(&proxy), client(&proxy), client(&proxy));
    longest.get("/x").send().is(200);
    recent.get("/x").send().is(200);
    new.get("/x").send().is(200);
    longest.closes();
    recent.get("/x").send().is(200);
    proxy.done();
}

/// S6: idle clients take neither the descriptors of other clients, nor those of upstreams and operators.
#[test]
fn more_idle_connections_than_the_process_can_open_stop_nothing() {
    let upstream = upstream().start();
    let mut proxy = proxy().before(&upstream).open("GET /x").descriptors(300).start();
    let warning = "`limits.connections` is more than the process may open";
    proxy.stderr.wait(warning, 1);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /y")), proxy::Reloaded::Loaded);
    assert_eq!(proxy.stderr.count(warning), 1, "a reload that does not change it says nothing again");
    assert_eq!(proxy.reload_to(|policy| policy.with("limits: { connections: 9000 }")), proxy::Reloaded::Loaded);
    assert_eq!(proxy.stderr.count(warning), 2);
    let mut idle: Vec<_> = (0..400).map(|_| client(&proxy)).collect();
    for client in &mut idle {
        client.connection();
    }
    client(&proxy).get("/x").send().is(200);
    assert_eq!(client::operator(&proxy).get("/healthz").send().status, 200);
    proxy.done();
}

/// S6: whoever reaches the admin port takes no descriptors from clients and upstreams, nor the port from operators.
#[test]
fn idle_connections_to_the_admin_listener_stop_nothing() {
    let upstream = upstream().start();
    let proxy = proxy().before(&upstream).open("GET /x").descriptors(300).start();
    let mut idle: Vec<_> = (0..400).map(|_| client::operator(&proxy)).collect();
    for operator in &mut idle {
        operator.connection();
    }
    assert_eq!(client::operator(&proxy).get("/healthz").send().status, 200);
    client(&proxy).get("/x").send().is(200);
    let metrics = client::operator(&proxy).get("/metrics").send().text();
    let open = metrics.lines().find_map(|line| line.strip_prefix("process_open_fds ")).unwrap().parse::<f64>().unwrap();
    assert!(open < 128.0, "{open} descriptors are open");
    proxy.done();
}

/// S6.
#[test]
fn a_process_that_may_open_too_few_files_does_not_start() {
    let policy = proxy().server("http://127.0.0.1:9").open("GET /x");
    let output = policy.clone().descriptors(200).fails();
    assert!(output.contains("may open only 200 files"), "{output}");
    let many = policy.yaml().replace("workers: 2", "workers: 64");
    let output = policy.text(&many).descriptors(700).fails();
    assert!(output.contains("with 64 workers, allow it at least 768"), "{output}");
}

#[test]
fn a_public_route_counts_by_address() {
    let upstream = upstream().start();
    let proxy = proxy()
        .before(&upstream)
        .with("trusted_proxies: [127.0.0.0/8]")
        .route("GET /open", "public: true, rate: 1/h")
        .start();
    let mut client = client(&proxy);
    client.get("/open").header("x-forwarded-for", "192.0.2.1").send().is(200);
    client.get("/open").header("x-forwarded-for", "192.0.2.1").send().refused(429, "rate_limited");
    client.get("/open").header("x-forwarded-for", "192.0.2.2").send().is(200);
    client.get("/open").send().is(200);
    client.get("/open").send().refused(429, "rate_limited");
    proxy.done();
}

#[test]
fn a_request_that_is_refused_before_takes_nothing() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .plan("free: { rate: 1/h, burst: 1 }")
        .route("GET /x", "scopes: [orders:read]")
        .route("GET /y", "scopes: [orders:write]")
        .start();
    let mut client = client(&proxy);
    client.get("/y").bearer(issuer.token()).send().refused(403, "insufficient_scope");
    client.get("/none").bearer(issuer.token()).send().refused(404, "no_route");
    client.get("/x").bearer(issuer.token()).send().is(200);
    client.get("/x").bearer(issuer.token()).send().refused(429, "rate_limited");
    proxy.done();
}

#[test]
fn a_reload_refills_no_consumer() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).plan("free: { rate: 1/h, burst: 1 }");
    let mut proxy = policy.route("GET /x", "scopes: [orders:read]").start();
    let mut client = client(&proxy);
    client.get("/x").bearer(issuer.token()).send().is(200);
    assert_eq!(proxy.reload_to(|policy| policy.open("GET /more")), proxy::Reloaded::Loaded);
    client.get("/x").bearer(issuer.token()).send().refused(429, "rate_limited");
    client.get("/x").bearer(issuer.token().sub("bob")).send().is(200);
    proxy.done();
}

#[test]
fn a_plan_may_hold_a_class_of_endpoints_tighter() {
    let (issuer, upstream) = (issuer(), upstream().start());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .plan("free: { rate: 100/s, classes: { report: 2/day } }")
        .route("GET /reports/{kind}", "scopes: [read], class: report")
        .route("GET /summaries", "scopes: [read], class: report")
        .route("GET /orders", "scopes: [read]")
        .start();
    let mut client = client(&proxy);
    let (one, other) =
        (issuer.token().scope("read").sub("one").text(), issuer.token().scope("read").sub("other").text());
    let answer = client.get("/reports/sales").bearer(&one).send().is(200);
    assert_eq!(answer.header("ratelimit-policy"), Some(r#""report";q=1;w=43200"#), "the nearest limit");
    // One class is one limit, whichever of its routes is asked; other routes and other consumers are not in it.
    let answer = client.get("/summaries").bearer(&one).send().refused(429, "rate_limited");
    assert!(answer.json()["detail"].as_str().unwrap().contains("`report`"), "{}", answer.text());
    client.get("/orders").bearer(&one).send().is(200);
    client.get("/reports/sales").bearer(&other).send().is(200);
    proxy.done();
}

/// In the policy and in the store alike; the record names the organization.
#[test]
fn the_consumers_of_an_organization_share_the_limits_of_a_plan_that_says_so() {
    let (issuer, upstream, store) = (issuer(), upstream().start(), TempDir::new().unwrap());
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .with(&format!("store: \"{}\"", store.path().display()))
        .plan("shared: { rate: 1/h, burst: 3, count_by: organization }")
        .with(
            "consumers:\n  one: { plan: shared, organization: acme-corp, identities: [{ issuer: corp, id: one }] }\n  \
             other: { plan: shared, organization: globex, identities: [{ issuer: corp, id: other }] }\n  \
             alone: { plan: shared, identities: [{ issuer: corp, id: alone }] }",
        )
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let added = json!({"name": "two", "plan": "shared", "organization": "acme-corp", "identities": [{"issuer": "corp", "id": "two"}]});
    let answer = client::operator(&proxy).post("/v1/consumers", added.to_string()).bearer(proxy::ADMIN_TOKEN).send();
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.json()["organization"], "acme-corp");
    let mut client = client(&proxy);
    let mut left = |name: &str| {
        let answer = client.get("/x").bearer(issuer.token().sub(name)).send();
        answer.header("ratelimit").and_then(|text| text.split(';').nth(1)).map(str::to_owned)
    };
    for (name, expected) in
        [("one", "r=2"), ("two", "r=1"), ("other", "r=2"), ("alone", "r=2"), ("one", "r=0"), ("two", "r=0")]
    {
        assert_eq!(left(name).as_deref(), Some(expected), "{name}");
    }
    let records = proxy.done();
    let organizations: Vec<_> =
        proxy::of_requests(&records).map(|record| said(record, "organization.name").clone()).collect();
    let (acme, globex) = (json!("acme-corp"), json!("globex"));
    assert_eq!(organizations, [&acme, &acme, &globex, &Value::Null, &acme, &acme].map(Clone::clone));
}

#[test]
fn a_description_may_name_the_class_of_an_operation() {
    let (issuer, upstream) = (issuer(), upstream().start());
    let described = r#"openapi: 3.1.0
info: { title: reports, version: "1" }
x-bartizan: { scopes: [read] }
paths: { /reports: { get: { x-bartizan: { class: report }, responses: { default: { description: any } } } } }
"#;
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .plan("free: { rate: 100/s, classes: { report: 1/day } }")
        .file("api.yaml", described)
        .described("api.yaml")
        .start();
    let (mut client, token) = (client(&proxy), issuer.token().scope("read").text());
    client.get("/reports").bearer(&token).send().is(200);
    client.get("/reports").bearer(&token).send().refused(429, "rate_limited");
    proxy.done();
}
