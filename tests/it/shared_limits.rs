//! Limits that several nodes count together, in a real Redis.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// A Redis server on a socket in a folder.
struct Redis {
    folder: TempDir,
    child: Child,
}

impl Redis {
    fn start() -> Option<Self> {
        if !has("redis-server") {
            skipped("there is no redis-server");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let socket = folder.path().join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket).arg("--dir").arg(folder.path());
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        eventually("redis takes connections", || UnixStream::connect(&socket).ok());
        Some(Self { folder, child })
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Stops it, so that it takes connections and answers nothing, or lets it go on.
    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node with this store. It has as long to answer as a test, unless something else is written.
fn node(socket: &Path, upstream: &Upstream, issuer: &issuer::Issuer, plan: &str, limits: &str) -> Proxy {
    let store = format!(
        "store: {{ redis: \"redis+unix://{}\", timeout: 30s, on_failure: serve, limits: {{ {limits} }} }}",
        socket.display()
    );
    let policy = proxy().before(upstream).trusts(issuer).plan(plan).with(&store);
    policy.route("GET /x", "scopes: [orders:read]").route("GET /few", "scopes: [orders:read], rate: 1/h").start()
}

/// Issue 14: no more than the limit is let through in all, to the call.
#[test]
fn nodes_that_share_a_store_share_each_limit() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let plan = "free: { rate: 5/h, burst: 5 }";
    let nodes = [(); 2].map(|()| node(&redis.socket(), &upstream, &issuer, plan, "timeout: 30s"));
    let token = issuer.token().text();
    let mut clients = nodes.each_ref().map(client);
    let mut ask = |node: usize, path: &str| clients[node].get(path).bearer(&token).send();
    ask(0, "/few").is(200);
    ask(1, "/few").refused(429, "rate_limited");
    for node in [0, 1, 1, 0] {
        ask(node, "/x").is(200);
    }
    for node in [0, 1] {
        let refused = ask(node, "/x");
        assert_eq!(refused.header("ratelimit-policy"), Some(r#""free";q=5;w=3600"#));
        refused.refused(429, "rate_limited");
    }
    for node in nodes {
        node.done();
    }
}

/// A node that starts anew, as after a crash, refills nobody; nor does one that has gone.
#[test]
fn a_node_that_starts_anew_refills_nobody() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let start = || node(&redis.socket(), &upstream, &issuer, "free: { rate: 3/h, burst: 3 }", "timeout: 30s");
    let token = issuer.token().text();
    for _ in 0..3 {
        let one = start();
        client(&one).get("/x").bearer(&token).send().is(200);
        one.done();
    }
    let last = start();
    client(&last).get("/x").bearer(&token).send().refused(429, "rate_limited");
    last.done();
}

/// While the store does not answer, each node does what its policy says; and counts with the others again afterwards.
#[test]
fn a_store_that_does_not_answer_is_given_up_until_it_answers() {
    use rustix::process::Signal;

    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let plan = "free: { rate: 4/h, burst: 4 }";
    let ways = ["refuse", "local", "allow"];
    let nodes =
        ways.map(|way| node(&redis.socket(), &upstream, &issuer, plan, &format!("on_failure: {way}, timeout: 100ms")));
    for node in &nodes {
        eventually("all nodes are known to each", || {
            let page = operator(node).get("/metrics").bearer(ADMIN_TOKEN).send();
            page.text().contains("bartizan_limits_nodes 3").then_some(())
        });
    }
    let token = issuer.token().text();
    let [refuses, serves, allows] = nodes.each_ref().map(client);
    let (mut refuses, mut serves, mut allows) = (refuses, serves, allows);
    redis.signal(Signal::STOP);
    refuses.get("/x").bearer(&token).send().refused(503, "limits_unavailable");
    // The share of one of three nodes is one request.
    serves.get("/x").bearer(&token).send().is(200);
    serves.get("/x").bearer(&token).send().refused(429, "rate_limited");
    for _ in 0..6 {
        allows.get("/x").bearer(&token).send().is(200);
    }
    redis.signal(Signal::CONT);
    let mut let_through = 0;
    eventually("the store answers again, and what nobody used is there again", || {
        let_through += u32::from(refuses.get("/x").bearer(&token).send().status == 200);
        (let_through == 3).then_some(())
    });
    for node in nodes {
        node.done();
    }
}

/// A request that waits for the store of the policy before is neither refused, nor does it keep the store after it from counting.
#[test]
fn a_request_under_way_does_not_wait_for_a_store_that_was_replaced() {
    let (Some(before), Some(after)) = (Redis::start(), Redis::start()) else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let mut proxy = node(&before.socket(), &upstream, &issuer, "free: { rate: 100/s }", "timeout: 1h");
    let token = issuer.token().text();
    let (mut waiting, mut operator, mut client) = (client(&proxy), operator(&proxy), client(&proxy));
    before.signal(rustix::process::Signal::STOP);
    waiting.raw(format!("GET /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"), 1);
    eventually("it is under way", || {
        operator.get("/metrics").send().text().contains("bartizan_requests_in_flight 1\n").then_some(())
    });
    let text = proxy.policy.clone().open("GET /new").yaml();
    let text = text.replace(before.socket().to_str().unwrap(), after.socket().to_str().unwrap());
    proxy.policy = proxy.policy.clone().text(&text);
    proxy.policy.write(proxy.folder.path());
    proxy.signal("HUP");
    eventually("the next policy is in force", || (client.get("/new").send().status == 200).then_some(()));
    client.get("/x").bearer(&token).send().is(200);
    waiting.answer().is(200);
    before.signal(rustix::process::Signal::CONT);
    client.get("/x").bearer(&token).send().is(200);
    proxy.done();
}

/// What a relay does with commands that say that a node counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counting {
    Held,
    /// One waits.
    Holding,
    Released,
}

/// Connects whoever comes to `socket` with this server, and holds what says that a node counts.
fn relay(socket: &Path, server: &Path) -> Arc<(Mutex<Counting>, Condvar)> {
    let (listener, server) = (UnixListener::bind(socket).unwrap(), server.to_owned());
    let counting = Arc::new((Mutex::new(Counting::Held), Condvar::new()));
    let shared = Arc::clone(&counting);
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(mut client), Ok(mut server)) = (client, UnixStream::connect(&server)) else { return };
            let (mut answers, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut answers, &mut to));
            let counting = Arc::clone(&shared);
            thread::spawn(move || {
                let mut bytes = [0; 65536];
                while let Ok(length @ 1..) = client.read(&mut bytes) {
                    if bytes[..length].windows(6).any(|part| part == b":nodes") {
                        let mut now = counting.0.lock().unwrap();
                        while *now != Counting::Released {
                            *now = Counting::Holding;
                            now = counting.1.wait(now).unwrap();
                        }
                    }
                    if server.write_all(&bytes[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    counting
}

/// A request waits for limits shorter than it may take to connect to the store that they are counted in.
#[test]
fn a_policy_is_put_in_force_when_its_store_counts() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer, relayed) = (upstream().start(), issuer(), redis.folder.path().join("relay.sock"));
    let counting = relay(&relayed, &redis.socket());
    let mut proxy = node(&redis.socket(), &upstream, &issuer, "free: { rate: 100000/s }", "timeout: 25ms");
    let (mut client, token) = (client(&proxy), issuer.token().text());
    client.get("/x").bearer(&token).send().is(200);
    let text = proxy.policy.clone().open("GET /new").yaml();
    let text = text.replace(redis.socket().to_str().unwrap(), relayed.to_str().unwrap());
    proxy.policy = proxy.policy.clone().text(&text);
    proxy.policy.write(proxy.folder.path());
    proxy.signal("HUP");
    eventually("the next store is not connected", || (*counting.0.lock().unwrap() == Counting::Holding).then_some(()));
    for _ in 0..50 {
        client.get("/x").bearer(&token).send().is(200);
    }
    *counting.0.lock().unwrap() = Counting::Released;
    counting.1.notify_all();
    eventually("the next policy is in force", || (client.get("/new").send().status == 200).then_some(()));
    client.get("/x").bearer(&token).send().is(200);
    proxy.done();
}
