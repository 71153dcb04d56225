//! Quotas: what may be used in a day or a month, on one node and on several, through crashes, and until an operator resets
//! them. The windows of these tests are months, so that none ends while a test runs.

use std::path::Path;

use tempfile::TempDir;

use crate::support::client::{Answer, Client, operator};
use crate::support::proxy::{ADMIN_TOKEN, of_requests};
use crate::support::redis::Server;
use crate::support::*;

const PEOPLE: &str = "consumers: { alice: { plan: free, identities: [{ issuer: corp, id: alice }] } }";

/// A node on which `alice` has this plan; what is used is kept in this store.
fn node(store: &str, upstream: &Upstream, issuer: &issuer::Issuer, plan: &str) -> Policy {
    let policy = proxy().before(upstream).trusts(issuer).plan(plan).with(PEOPLE).with(store);
    policy.route("GET /x", "scopes: [orders:read]")
}

fn in_folder(folder: &Path) -> String {
    format!("store: \"{}\"", folder.display())
}

#[track_caller]
fn asks(proxy: &Proxy, method: &str, path: &str, status: u16) -> Answer {
    let answer = operator(proxy).request(method, path).bearer(ADMIN_TOKEN).send();
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    answer
}

fn admitted(client: &mut Client, token: &str, most: usize) -> usize {
    (0..most).take_while(|_| client.get("/x").bearer(token).send().status == 200).count()
}

#[test]
fn a_quota_that_is_used_up_says_when_it_begins_anew() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let plan = "free: { rate: 1000/s, quota: 3/month, classes: { report: { quota: 1/month } } }";
    let policy = node("", &upstream, &issuer, plan);
    let proxy = policy.route("GET /report", "scopes: [orders:read], class: report").start();
    let (mut client, token) = (client(&proxy), issuer.token().text());
    let first = client.get("/report").bearer(&token).send().is(200);
    assert_eq!(first.header("ratelimit-policy"), Some(r#""report-month";q=1"#));
    let refused = client.get("/report").bearer(&token).send();
    assert!(
        refused.header("ratelimit").unwrap().starts_with(r#""report-month";r=0;t="#),
        "{:?}",
        refused.header("ratelimit")
    );
    let detail = refused.refused(429, "quota_exceeded").json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("resets at 20") && detail.contains("`report-month` allows 1 per month (UTC)"), "{detail}");
    // What was refused has taken nothing from the plan's quota.
    assert_eq!(admitted(&mut client, &token, 9), 2);
    let refused = client.get("/x").bearer(&token).send();
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=31 * 86_400).contains(&wait), "{wait}");
    refused.refused(429, "quota_exceeded");
    client.get("/x").bearer(issuer.token().sub("bob")).send().is(200);
    proxy.done();
}

/// Issue 14: kept through kill -9, and never given twice.
#[test]
fn a_crash_refills_no_quota() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let start = || node(&in_folder(store.path()), &upstream, &issuer, "free: { rate: 1000/s, quota: 6/month }").start();
    let token = issuer.token().text();
    let mut all = 0;
    for _ in 0..3 {
        let mut node = start();
        all += admitted(&mut client(&node), &token, 2);
        node.signal("KILL");
        node.ended();
    }
    let last = start();
    all += admitted(&mut client(&last), &token, 9);
    assert!((4..=6).contains(&all), "{all}");
    client(&last).get("/x").bearer(&token).send().refused(429, "quota_exceeded");
    last.stop();
    // One that is drained returns what it has taken in advance.
    let again = start();
    client(&again).get("/x").bearer(&token).send().refused(429, "quota_exceeded");
    again.stop();
}

#[test]
fn nodes_that_share_a_store_share_quotas() {
    let Some(redis) = Server::start("save \"\"", &[]) else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let store = format!(
        "store: {{ redis: \"redis://127.0.0.1:{}\", on_failure: serve, limits: {{ timeout: 30s }} }}",
        redis.port
    );
    let nodes = [(); 2].map(|()| node(&store, &upstream, &issuer, "free: { rate: 1000/s, quota: 50/month }").start());
    let token = issuer.token().text();
    let mut clients = nodes.each_ref().map(client);
    let mut let_through = 0;
    for turn in 0..60 {
        let_through += usize::from(clients[turn % 2].get("/x").bearer(&token).send().status == 200);
    }
    // What one node has taken in advance comes back for the other.
    eventually("the rest is used", || {
        let_through += usize::from(clients[0].get("/x").bearer(&token).send().status == 200);
        (let_through == 50).then_some(())
    });
    for client in &mut clients {
        client.get("/x").bearer(&token).send().refused(429, "quota_exceeded");
    }
    let shown = asks(&nodes[1], "GET", "/v1/consumers/alice/usage", 200).json();
    assert_eq!((&shown["limits"][1]["used"], &shown["limits"][1]["remaining"]), (&json!(50), &json!(0)), "{shown:#}");
    // An operator resets the usage on one node, and it holds on all.
    asks(&nodes[1], "DELETE", "/v1/consumers/alice/usage", 200);
    clients[1].get("/x").bearer(&token).send().is(200);
    eventually("the other node has learnt it", || {
        (clients[0].get("/x").bearer(&token).send().status == 200).then_some(())
    });
    for key in redis.asks("KEYS *").lines() {
        let ends: i64 = redis.asks(&format!("PTTL {key}")).trim().parse().unwrap();
        assert!(ends != -1 || !key.contains("{bartizan:"), "{key} never ends");
    }
    for node in nodes {
        node.done();
    }
}

#[test]
fn operators_see_what_is_used_and_reset_it_on_record() {
    let (store, upstream, issuer) = (TempDir::new().unwrap(), upstream().start(), issuer());
    let plan = "free: { rate: 5/h, burst: 5, quota: [4/month, 9/day], classes: { report: 1/h } }";
    let policy = node(&in_folder(store.path()), &upstream, &issuer, plan);
    let policy = policy.route("GET /report", "scopes: [orders:read], class: report");
    let proxy = policy.route("GET /few", "scopes: [orders:read], rate: 1/h").start();
    let (mut client, token) = (client(&proxy), issuer.token().text());
    client.get("/few").bearer(&token).send().is(200);
    client.get("/report").bearer(&token).send().is(200);
    let shown = asks(&proxy, "GET", "/v1/consumers/alice/usage", 200).json();
    let limits: Vec<_> = shown["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| {
            let text = |name: &str| limit[name].as_str().unwrap_or("-").to_owned();
            (
                text("name"),
                text("kind"),
                text("route"),
                limit["used"].as_u64().unwrap(),
                limit["allowed"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("free", "rate", "-", 2, 5),
        ("free-month", "quota", "-", 2, 4),
        ("free-day", "quota", "-", 2, 9),
        ("report", "rate", "-", 1, 1),
        ("route", "rate", "GET /few", 1, 1),
    ];
    let expected = expected.map(|(name, kind, route, used, all)| (name.into(), kind.into(), route.into(), used, all));
    assert_eq!(limits, expected, "{shown:#}");
    let month = shown["limits"][1]["resets"].as_str().unwrap();
    assert!(month.ends_with("-01T00:00:00Z"), "{month}");

    client.get("/few").bearer(&token).send().refused(429, "rate_limited");
    let reset = asks(&proxy, "DELETE", "/v1/consumers/alice/usage", 200).json();
    assert!(reset["limits"].as_array().unwrap().iter().all(|limit| limit["used"] == 0), "{reset:#}");
    client.get("/few").bearer(&token).send().is(200);
    let listed = asks(&proxy, "GET", "/v1/usage", 200).json();
    assert_eq!(listed["items"][0]["limits"][1]["used"], 1, "{listed:#}");
    let nobody = asks(&proxy, "GET", "/v1/consumers/alic/usage", 404);
    assert!(nobody.text().contains("alice"), "{}", nobody.text());
    let records = proxy.stop().1;
    let of_reset = records.iter().find(|record| said(record, "event.action") == "usage_reset").unwrap();
    assert_eq!(said(of_reset, "bartizan.target"), "alice");
}

/// Whoever is known by a token alone has limits, too.
#[test]
fn callers_that_only_a_token_names_are_shown_by_issuer_and_id() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).plan("free: { rate: 1000/s, quota: 10/month }");
    let proxy = policy.route("GET /x", "scopes: [orders:read]").start();
    client(&proxy).get("/x").bearer(issuer.token().sub("mallory")).send().is(200);
    let shown = asks(&proxy, "GET", "/v1/consumers/corp%3Amallory/usage", 200).json();
    assert_eq!((&shown["plan"], &shown["limits"][1]["used"]), (&json!("free"), &json!(1)), "{shown:#}");
    asks(&proxy, "GET", "/v1/consumers/none%3Amallory/usage", 404);
    proxy.done();
}

/// Each share is reported once, wherever what is used is counted.
#[test]
fn alerts_are_on_record_at_80_and_100_percent() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let folder = TempDir::new().unwrap();
    for store in [String::new(), in_folder(folder.path())] {
        let proxy = node(&store, &upstream, &issuer, "free: { rate: 1000/s, quota: 10/month }").start();
        let (mut client, token) = (client(&proxy), issuer.token().text());
        assert_eq!(admitted(&mut client, &token, 12), 10);
        client.get("/x").bearer(&token).send().refused(429, "quota_exceeded");
        let counted = r#"bartizan_limit_refusals_total{plan="free",limit="free-month"} 2"#;
        eventually("both refusals are counted", || {
            asks(&proxy, "GET", "/metrics", 200).text().contains(counted).then_some(())
        });
        let records = proxy.done();
        let alerts: Vec<_> = records.iter().filter(|record| said(record, "event.kind") == "alert").collect();
        let shares: Vec<_> = alerts.iter().map(|alert| said(alert, "bartizan.limit.used_percent")).collect();
        assert_eq!(shares, [80, 100], "{alerts:#?}");
        assert_eq!(said(alerts[0], "event.action"), "quota_used");
        assert_eq!(said(alerts[0], "bartizan.consumer"), "alice");
        assert_eq!(said(alerts[0], "bartizan.limit.name"), "free-month");
        assert!(said(alerts[0], "bartizan.limit.resets").as_str().unwrap().ends_with("-01T00:00:00Z"));
        let refused = of_requests(&records).find(|record| said(record, "http.response.status_code") == 429).unwrap();
        assert_eq!(said(refused, "bartizan.limit.name"), "free-month");
    }
}
