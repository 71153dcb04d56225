//! A store of several servers that replace each other: a primary that Sentinels name, and a cluster.

use crate::support::client::operator;
use crate::support::issuer::Issuer;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::redis::Server;
use crate::support::*;

/// A node with these servers, which goes on without them: with what it knows, and its share of the limits.
fn node(servers: &str, plan: &str, upstream: &Upstream, issuer: &Issuer) -> Proxy {
    let limits = "{ on_failure: local, timeout: 100ms }";
    let store = format!("store: {{ redis: {{ {servers} }}, on_failure: serve, limits: {limits} }}");
    let policy = proxy().before(upstream).trusts(issuer).plan(plan).with(&store);
    let policy = policy.with("roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }");
    policy.route("GET /x", "scopes: [orders:read]").start()
}

/// Revokes on one node what both let in, and waits until both refuse it. While the servers change, requests are let in.
fn revokes(one: &Proxy, other: &Proxy, issuer: &Issuer, jti: &str) {
    let token = issuer.token().claim("jti", jti).text();
    let still = issuer.token().claim("jti", "still good").text();
    let mut asks = operator(one);
    eventually("the change is stored", || {
        for node in [one, other] {
            client(node).get("/x").bearer(&still).send().is(200);
        }
        let body = json!({"jti": jti}).to_string();
        let answer = asks.request("POST", "/v1/revocations").bearer(ADMIN_TOKEN).body(body).send();
        matches!(answer.status, 200 | 201).then_some(())
    });
    for node in [one, other] {
        eventually("the node refuses it", || {
            (client(node).get("/x").bearer(&token).send().status == 401).then_some(())
        });
    }
}

/// Fetches on the nodes in turn until one refuses, and returns how often they did not.
fn until_limited(nodes: [&Proxy; 2], issuer: &Issuer) -> usize {
    let token = issuer.token().text();
    let mut clients = nodes.map(client);
    (0..100).take_while(|turn| clients[turn % 2].get("/x").bearer(&token).send().status == 200).count()
}

#[test]
fn a_primary_that_sentinels_name_is_followed_when_it_fails() {
    let Some((primary, replica, sentinel)) = Server::watched() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let servers = format!("sentinel: [\"redis://127.0.0.1:{}\"], master: main", sentinel.port);
    let [one, other] = [(); 2].map(|()| node(&servers, "free: { rate: 100000/h, burst: 100000 }", &upstream, &issuer));
    revokes(&one, &other, &issuer, "before");
    drop(primary);
    revokes(&one, &other, &issuer, "after");
    assert!(replica.asks("ROLE").starts_with("master"));
    for node in [one, other] {
        node.done();
    }
}

#[test]
fn a_cluster_is_followed_when_a_primary_fails() {
    let Some(mut servers) = Server::cluster() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let urls: Vec<String> = servers.iter().map(|server| format!("\"redis://127.0.0.1:{}\"", server.port)).collect();
    let named = format!("cluster: [{}]", urls.join(", "));
    let [one, other] = [(); 2].map(|()| node(&named, "free: { rate: 100000/h, burst: 100000 }", &upstream, &issuer));
    revokes(&one, &other, &issuer, "before");
    let slot = servers[0].asks("CLUSTER KEYSLOT {bartizan}").trim().to_owned();
    let has_store = |server: &Server| {
        let keys = server.asks(&format!("CLUSTER COUNTKEYSINSLOT {slot}"));
        server.asks("ROLE").starts_with("master") && keys.trim() != "0"
    };
    let position = servers.iter().position(has_store).unwrap();
    drop(servers.remove(position));
    revokes(&one, &other, &issuer, "after");
    for node in [one, other] {
        node.done();
    }
}

/// Limits that are removed are limits that are refilled.
#[test]
fn a_server_that_removes_what_it_counts_is_warned_of() {
    let Some(server) = Server::start("maxmemory 100mb\nmaxmemory-policy allkeys-lru", &[]) else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = proxy().before(&upstream).trusts(&issuer).open("GET /x");
    let node = policy.with(&format!("store: {{ redis: \"redis://127.0.0.1:{}\" }}", server.port)).start();
    node.stderr.wait("`maxmemory-policy noeviction`", 1);
    node.done();
}

#[test]
fn nodes_share_limits_in_a_cluster() {
    let Some(servers) = Server::cluster() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let named = format!("cluster: [\"redis://127.0.0.1:{}\"]", servers[0].port);
    let nodes = [(); 2].map(|()| node(&named, "free: { rate: 7/h, burst: 7 }", &upstream, &issuer));
    for node in &nodes {
        eventually("the nodes know each other", || {
            let page = operator(node).get("/metrics").bearer(ADMIN_TOKEN).send();
            page.text().contains("bartizan_limits_nodes 2").then_some(())
        });
    }
    assert_eq!(until_limited(nodes.each_ref(), &issuer), 7);
    for node in nodes {
        node.done();
    }
}
