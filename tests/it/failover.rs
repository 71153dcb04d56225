//! A store that fails over: real Redis servers behind one address, where a replica that lagged takes over.
//!
//! S5: Redis replicates asynchronously, so the promoted replica may lack changes that a node has acknowledged, and
//! later changes hide the gap. What this node has seen restricted stays so.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::client::{Answer, operator};
use crate::support::issuer::Issuer;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::redis::Server;
use crate::support::*;

/// The one address of the store, which leads to the server that is the primary.
struct Address {
    port: u16,
    inner: Arc<Mutex<(u16, Vec<TcpStream>)>>,
}

impl Address {
    fn of(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, inner) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new((server.port, Vec::new()))));
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut inner = shared.lock().unwrap();
                // Where nobody is, the connection ends at once.
                let Ok(server) = TcpStream::connect(("127.0.0.1", inner.0)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || copy(from, to));
                }
                inner.1.extend([client, server]);
            }
        });
        Self { port, inner }
    }

    /// Leads to this server from now on; open connections end.
    fn leads_to(&self, server: &Server) {
        let mut inner = self.inner.lock().unwrap();
        inner.0 = server.port;
        for stream in inner.1.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn sharing(port: u16, upstream: &Upstream, issuer: &Issuer) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&format!(
            "store: {{ redis: \"redis://127.0.0.1:{port}\", on_failure: serve, limits: {{ on_failure: local }} }}"
        ))
        .with("roles: { reader: [orders:read] }")
        .with("consumers: { acme: { roles: [reader], plan: free }, globex: { roles: [reader], plan: free } }")
        .route("GET /x", "scopes: [orders:read]")
}

#[track_caller]
fn operates(proxy: &Proxy, method: &str, path: &str, body: &Value) -> Answer {
    let mut operator = operator(proxy);
    let request = operator.request(method, path).bearer(ADMIN_TOKEN);
    let answer = if body.is_null() { request.send() } else { request.body(body.to_string()).send() };
    assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {}", answer.status, answer.text());
    answer
}

/// What is restricted on a node, and known to no server but the first.
struct Restricted {
    token: String,
    revocation: String,
    suspended: String,
    removed: String,
}

impl Restricted {
    /// Keys are made while the replica follows; then it is cut off, and the restrictions are made.
    fn on(node: &Proxy, issuer: &Issuer, primary: &Server, replica: &Server) -> Self {
        let key = |consumer: &str, id: &str| {
            let made = operates(node, "POST", &format!("/v1/consumers/{consumer}/keys"), &json!({"id": id}));
            made.json()["key"].as_str().unwrap().to_owned()
        };
        let (suspended, removed) = (key("acme", "acme-1"), key("globex", "globex-1"));
        let count = || (replica.asks("HLEN {bartizan}:key").trim() == "2").then_some(());
        eventually("the replica has the keys", count);
        primary.loses(replica);
        let token = issuer.token().claim("jti", "stolen").text();
        let revoked = operates(node, "POST", "/v1/revocations", &json!({"jti": "stolen"})).json();
        operates(node, "PUT", "/v1/consumers/acme/suspension", &json!({"reason": "unpaid"}));
        operates(node, "DELETE", "/v1/keys/globex-1", &Value::Null);
        Self { token, revocation: revoked["id"].as_str().unwrap().to_owned(), suspended, removed }
    }

    #[track_caller]
    fn holds(&self, node: &Proxy) {
        client(node).get("/x").bearer(&self.token).send().refused(401, "revoked");
        client(node).get("/x").key(&self.suspended).send().refused(403, "consumer_suspended");
        client(node).get("/x").key(&self.removed).send().refused(401, "invalid_key");
    }
}

/// Waits until a node has seen this revocation, which another node made.
#[track_caller]
fn sees(node: &Proxy, issuer: &Issuer, jti: &str) {
    let token = issuer.token().claim("jti", jti).text();
    eventually("the node follows the new primary", || {
        (client(node).get("/x").bearer(&token).send().status == 401).then_some(())
    });
}

#[test]
fn a_replica_that_missed_a_revocation_lifts_nothing_when_it_is_promoted() {
    let Some((primary, replica)) = Server::pair() else { return };
    let (upstream, issuer, address) = (upstream().start(), issuer(), Address::of(&primary));
    let node = sharing(address.port, &upstream, &issuer).start();
    let restricted = Restricted::on(&node, &issuer, &primary, &replica);
    restricted.holds(&node);
    drop(primary);
    replica.asks("REPLICAOF NO ONE");
    // Others change something before this node is back, so the stream goes on beyond what it has read.
    let other = sharing(replica.port, &upstream, &issuer).start();
    operates(&other, "POST", "/v1/revocations", &json!({"jti": "later"}));
    address.leads_to(&replica);
    sees(&node, &issuer, "later");
    restricted.holds(&node);
    assert_eq!(node.stderr.count("the store has lost data"), 1, "{:#?}", node.stderr.all());
    // Nor does another connection.
    address.leads_to(&replica);
    operates(&other, "POST", "/v1/revocations", &json!({"jti": "latest"}));
    sees(&node, &issuer, "latest");
    restricted.holds(&node);
    // What is undone is undone, once the connection for commands is a new one, too.
    let undone = format!("/v1/revocations/{}", restricted.revocation);
    let mut asks = operator(&node);
    let undo = || (asks.request("DELETE", &undone).bearer(ADMIN_TOKEN).send().status == 200).then_some(());
    eventually("the revocation is undone, though the store does not have it", undo);
    operates(&node, "DELETE", "/v1/consumers/acme/suspension", &Value::Null);
    client(&node).get("/x").bearer(&restricted.token).send().is(200);
    client(&node).get("/x").key(&restricted.suspended).send().is(200);
    for node in [node, other] {
        node.done();
    }
}

#[test]
fn a_primary_that_comes_back_with_what_a_replica_that_lagged_has_lifts_nothing() {
    let Some((primary, replica)) = Server::pair() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let node = sharing(primary.port, &upstream, &issuer).start();
    let restricted = Restricted::on(&node, &issuer, &primary, &replica);
    replica.asks("REPLICAOF NO ONE");
    let other = sharing(replica.port, &upstream, &issuer).start();
    operates(&other, "POST", "/v1/revocations", &json!({"jti": "later"}));
    // The same server, with another history; meanwhile it cannot be written, so it is not the store.
    primary.asks(&format!("REPLICAOF 127.0.0.1 {}", replica.port));
    node.stderr.wait("the store cannot be reached", 1);
    restricted.holds(&node);
    let copied = || primary.asks("INFO replication").contains("master_link_status:up").then_some(());
    eventually("it has what the replica has", copied);
    primary.asks("REPLICAOF NO ONE");
    sees(&node, &issuer, "later");
    restricted.holds(&node);
    assert_eq!(node.stderr.count("the store has lost data"), 1, "{:#?}", node.stderr.all());
    for node in [node, other] {
        node.done();
    }
}

#[test]
fn a_failover_by_sentinel_to_a_replica_that_lagged_lifts_nothing() {
    let Some((primary, replica, sentinel)) = Server::watched() else { return };
    let (upstream, issuer, address) = (upstream().start(), issuer(), Address::of(&primary));
    let node = sharing(address.port, &upstream, &issuer).start();
    let restricted = Restricted::on(&node, &issuer, &primary, &replica);
    drop(primary);
    let promoted = || sentinel.asks("SENTINEL GET-MASTER-ADDR-BY-NAME main").contains(&replica.port.to_string());
    eventually("sentinel promotes the replica", || promoted().then_some(()));
    let writable = || replica.asks("ROLE").starts_with("master").then_some(());
    eventually("the replica is the primary", writable);
    let other = sharing(replica.port, &upstream, &issuer).start();
    operates(&other, "POST", "/v1/revocations", &json!({"jti": "later"}));
    address.leads_to(&replica);
    sees(&node, &issuer, "later");
    restricted.holds(&node);
    for node in [node, other] {
        node.done();
    }
}
