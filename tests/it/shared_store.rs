//! A store that two nodes share: a real Redis, which also goes away and comes back.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::client::{Answer, operator};
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// A Redis server on a socket in a folder, which keeps what it is told.
struct Redis {
    folder: TempDir,
    child: Option<Child>,
}

impl Redis {
    fn start() -> Option<Self> {
        if !has("redis-server") {
            skipped("there is no redis-server");
            return None;
        }
        let mut redis = Self { folder: TempDir::new().unwrap(), child: None };
        redis.comes_back();
        Some(redis)
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn comes_back(&mut self) {
        let child = Command::new("redis-server")
            .args(["--port", "0", "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let socket = self.socket();
        eventually("redis takes connections", || std::os::unix::net::UnixStream::connect(&socket).ok());
    }

    fn goes_away(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Forgets everything, as one that keeps nothing does when it is started anew.
    fn forgets(&mut self) {
        self.goes_away();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
        self.comes_back();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.goes_away();
    }
}

fn sharing(socket: &Path, upstream: &Upstream, issuer: &issuer::Issuer, on_failure: &str) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&format!("store: {{ redis: \"redis+unix://{}\", on_failure: {on_failure} }}", socket.display()))
        .with("roles: { reader: [orders:read] }\nconsumers: { acme: { roles: [reader], plan: free } }")
        .route("GET /x", "scopes: [orders:read]")
        .open("GET /open")
}

#[track_caller]
fn operates(proxy: &Proxy, method: &str, path: &str, body: &Value) -> Answer {
    let mut operator = operator(proxy);
    let request = operator.request(method, path).bearer(ADMIN_TOKEN);
    if body.is_null() { request.send() } else { request.body(body.to_string()).send() }
}

#[test]
fn what_one_node_is_told_the_other_knows() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let [here, there] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "refuse").start());
    let made = operates(&here, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).json();
    let key = made["key"].as_str().unwrap().to_owned();
    client(&here).get("/x").key(&key).send().is(200);
    let seen = |node: &Proxy, status| (client(node).get("/x").key(&key).send().status == status).then_some(());
    eventually("the key is known there", || seen(&there, 200));
    let revoked = operates(&there, "POST", "/v1/revocations", &json!({"key": "acme-1"})).json();
    client(&there).get("/x").key(&key).send().refused(401, "revoked");
    eventually("it is revoked here", || seen(&here, 401));
    let id = revoked["id"].as_str().unwrap();
    assert_eq!(operates(&here, "GET", &format!("/v1/revocations/{id}"), &Value::Null).json()["key"], "acme-1");
    operates(&here, "DELETE", &format!("/v1/revocations/{id}"), &Value::Null);
    eventually("it is good again there", || seen(&there, 200));
    // A node that comes later reads it all.
    let late = sharing(&redis.socket(), &upstream, &issuer, "refuse").start();
    client(&late).get("/x").key(&key).send().is(200);
    for node in [here, there, late] {
        node.done();
    }
}

#[test]
fn when_the_store_is_gone_what_is_known_holds_and_nothing_can_be_changed() {
    let Some(mut redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let serves = sharing(&redis.socket(), &upstream, &issuer, "serve").start();
    let refuses = sharing(&redis.socket(), &upstream, &issuer, "refuse").start();
    let (good, bad) = (issuer.token().text(), issuer.token().claim("jti", "stolen").text());
    operates(&serves, "POST", "/v1/revocations", &json!({"jti": "stolen"}));
    redis.goes_away();
    let refused = || (client(&refuses).get("/x").bearer(&good).send().status == 503).then_some(());
    eventually("it does not let anybody in who might be revoked", refused);
    client(&refuses).get("/x").bearer(&good).send().refused(503, "identity_unavailable");
    client(&refuses).get("/open").send().is(200);
    client(&serves).get("/x").bearer(&good).send().is(200);
    client(&serves).get("/x").bearer(&bad).send().refused(401, "revoked");
    operates(&serves, "POST", "/v1/revocations", &json!({"jti": "other"})).refused(503, "store_unavailable");

    redis.comes_back();
    let made = || (operates(&serves, "POST", "/v1/revocations", &json!({"jti": "other"})).status == 201).then_some(());
    eventually("it can be changed again", made);
    let other = issuer.token().claim("jti", "other").text();
    let known = || (client(&refuses).get("/x").bearer(&other).send().status == 401).then_some(());
    eventually("the other node has read what it missed", known);
    client(&refuses).get("/x").bearer(&good).send().is(200);

    // It comes back empty: what was revoked stays so.
    redis.forgets();
    serves.stderr.wait("the store has lost what it had", 1);
    client(&serves).get("/x").bearer(&bad).send().refused(401, "revoked");
    client(&serves).get("/x").bearer(&good).send().is(200);
    serves.done();
    refuses.done();
}

#[test]
fn a_store_that_was_never_there_lets_nobody_in() {
    let folder = TempDir::new().unwrap();
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = sharing(&folder.path().join("none.sock"), &upstream, &issuer, "serve").start();
    client(&proxy).get("/x").bearer(issuer.token()).send().refused(503, "identity_unavailable");
    client(&proxy).get("/open").send().is(200);
    let ready = operator(&proxy).get("/readyz").send();
    assert_eq!((ready.status, &ready.json()["store"]["state"]), (503, &json!("loading")));
    proxy.done();
}

/// Runs a drill on nodes that take `acme`'s keys; returns its exit code and what it printed.
fn drill(nodes: &[&Proxy], more: &[&str]) -> (Option<i32>, String, String) {
    let admin = format!("http://{}", nodes[0].admin());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    command.args(["drill", "revocation", "--format", "json", "--admin", &admin, "--token", ADMIN_TOKEN]).args(more);
    for node in nodes {
        command.args(["--node", &format!("http://{}", node.address())]);
    }
    let output = command.env_remove("BARTIZAN_POLICY").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_drill_shows_that_all_nodes_refuse_what_is_revoked_and_leaves_nothing_behind() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let [here, there] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "refuse").start());
    let made = operates(&here, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).json();
    let key = made["key"].as_str().unwrap().to_owned();
    for (more, expected) in [
        (["--consumer", "acme", "--path", "/x"], "passed"),
        (["--key", &key, "--path", "/x"], "passed"),
        // Nobody is asked for a credential there, so nobody refuses one.
        (["--consumer", "acme", "--path", "/open"], "failed"),
    ] {
        let (code, printed, said) = drill(&[&here, &there], &more);
        let report: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(
            (code, &report["verdict"]),
            (Some(i32::from(expected == "failed")), &expected.into()),
            "{printed}{said}"
        );
        for node in report["nodes"].as_array().unwrap() {
            assert_eq!(node["refused_after_ms"].is_number(), expected == "passed", "{printed}");
            assert_eq!(node["stayed_refused"], expected == "passed", "{printed}");
        }
        assert!(!printed.contains(&key) && !said.contains(&key), "{printed}{said}");
        assert_eq!(operates(&here, "GET", "/v1/revocations", &Value::Null).json()["items"], json!([]));
        let keys = operates(&here, "GET", "/v1/keys", &Value::Null).json();
        assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys}");
    }
    client(&there).get("/x").key(&key).send().is(200);
    // Not `done`: how often a drill asks is not known, so neither is the number of records.
}
