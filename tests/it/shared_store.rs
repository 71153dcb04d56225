//! A store that two nodes share: a real Redis, which also goes away and comes back.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::dpop::Holder;
use crate::support::client::{Answer, operator};
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// A Redis server on a socket in a folder, which keeps what it is reported.
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

/// A Redis server on TLS, with this certificate, and its port; `None` where it speaks none.
fn with_tls(folder: &Path, certified: &certificates::Certified) -> Option<(Server, u16)> {
    if !has("redis-server") {
        skipped("there is no redis-server");
        return None;
    }
    std::fs::write(folder.join("server.crt"), &certified.certificate).unwrap();
    std::fs::write(folder.join("server.key"), &certified.key).unwrap();
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--tls-auth-clients", "no", "--tls-cert-file", "server.crt"])
            .args(["--tls-key-file", "server.key", "--tls-ca-cert-file", "server.crt", "--tls-port"])
            .arg(port.to_string())
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let up = eventually("redis takes connections, or ends", || match child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => std::net::TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true),
        });
        if up {
            return Some((Server(child), port));
        }
        let said = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
        // Somebody else may have taken the port meanwhile.
        if !said.contains("Address already in use") {
            skipped(&format!("redis-server speaks no TLS: {said}"));
            return None;
        }
    }
}

/// A process that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_store_over_tls_is_one_that_its_authority_vouches_for() {
    let (folder, authority) = (TempDir::new().unwrap(), authority());
    let Some((_server, port)) = with_tls(folder.path(), &authority.certifies(&["localhost"])) else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let reached = |host: &str, ca: String| {
        let policy = sharing(Path::new("-"), &upstream, &issuer, "refuse");
        let plain = "redis+unix://-\",";
        let text = policy.yaml().replace(plain, &format!("rediss://{host}:{port}\", ca: ca.pem,"));
        assert_ne!(text, policy.yaml());
        policy.text(&text).file("ca.pem", ca).start()
    };
    let [view, there] = [(); 2].map(|()| reached("localhost", authority.pem()));
    let ready = || (operator(&view).get("/readyz").send().status == 200).then_some(());
    eventually("the store has been read", ready);
    let made = operates(&view, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).json();
    let key = made["key"].as_str().unwrap().to_owned();
    let known = || (client(&there).get("/x").key(&key).send().status == 200).then_some(());
    eventually("the key is known there", known);
    // A proof is claimed over TLS, too.
    let holder = Holder::of(&issuer);
    let proof = holder.proof("GET", "http://api.test/x").text();
    proves(&view, &holder, &proof).is(200);
    proves(&there, &holder, &proof).refused(401, "invalid_dpop_proof");

    // Another authority, or another name than the certificate's: nobody comes in.
    for (host, ca) in [("localhost", crate::support::authority().pem()), ("127.0.0.1", authority.pem())] {
        let proxy = reached(host, ca);
        client(&proxy).get("/x").key(&key).send().refused(503, "identity_unavailable");
        proxy.stderr.wait("the store cannot be reached", 1);
        proxy.done();
    }
    for node in [view, there] {
        node.done();
    }
}

/// Nodes with this store. It has as long to answer as a test: none of them depends on how busy the machine is.
fn sharing(socket: &Path, upstream: &Upstream, issuer: &issuer::Issuer, on_failure: &str) -> Policy {
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&format!(
            "store: {{ redis: \"redis+unix://{}\", timeout: 30s, on_failure: {on_failure}, limits: {{ on_failure: local, timeout: 30s }} }}",
            socket.display()
        ))
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
fn what_one_node_stores_the_other_knows() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let [view, there] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "refuse").start());
    let made = operates(&view, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).json();
    let key = made["key"].as_str().unwrap().to_owned();
    client(&view).get("/x").key(&key).send().is(200);
    let seen = |node: &Proxy, status| (client(node).get("/x").key(&key).send().status == status).then_some(());
    eventually("the key is known there", || seen(&there, 200));
    let revoked = operates(&there, "POST", "/v1/revocations", &json!({"key": "acme-1"})).json();
    client(&there).get("/x").key(&key).send().refused(401, "revoked");
    eventually("it is revoked here", || seen(&view, 401));
    let id = revoked["id"].as_str().unwrap();
    assert_eq!(operates(&view, "GET", &format!("/v1/revocations/{id}"), &Value::Null).json()["key"], "acme-1");
    operates(&view, "DELETE", &format!("/v1/revocations/{id}"), &Value::Null);
    eventually("it is good again there", || seen(&there, 200));
    // A node that comes later reads it all.
    let late = sharing(&redis.socket(), &upstream, &issuer, "refuse").start();
    client(&late).get("/x").key(&key).send().is(200);
    for node in [view, there, late] {
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
    serves.stderr.wait("the store has lost data", 1);
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
    command
        .args(["drill", "revocation", "--format", "json", "--admin", &admin, "--admin-token", ADMIN_TOKEN])
        .args(more);
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
    let [view, there] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "refuse").start());
    let made = operates(&view, "POST", "/v1/consumers/acme/keys", &json!({"id": "acme-1"})).json();
    let key = made["key"].as_str().unwrap().to_owned();
    for (more, expected) in [
        (["--consumer", "acme", "--path", "/x"], "passed"),
        (["--key", &key, "--path", "/x"], "passed"),
        // Nobody is asked for a credential there, so nobody refuses one.
        (["--consumer", "acme", "--path", "/open"], "failed"),
    ] {
        let (code, printed, said) = drill(&[&view, &there], &more);
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
        assert_eq!(operates(&view, "GET", "/v1/revocations", &Value::Null).json()["items"], json!([]));
        let keys = operates(&view, "GET", "/v1/keys", &Value::Null).json();
        assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys}");
    }
    client(&there).get("/x").key(&key).send().is(200);
    // Not `done`: how often a drill asks is not known, so neither is the number of records.
}

/// Sends a proof for a host that is every node, and returns the answer.
#[track_caller]
fn proves(node: &Proxy, holder: &Holder, proof: &str) -> Answer {
    client(node).get("/x").host("api.test").dpop(&holder.token, proof).send()
}

#[test]
fn a_proof_of_possession_is_good_on_one_node_alone() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let [view, there] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "refuse").start());
    let (holder, other) = (Holder::of(&issuer), Holder::of(&issuer));
    let proof = |holder: &Holder| holder.proof("GET", "http://api.test/x").claim("jti", "one").text();
    let used = proof(&holder);
    proves(&view, &holder, &used).is(200);
    for node in [&view, &there, &view] {
        let answer = proves(node, &holder, &used).refused(401, "invalid_dpop_proof");
        assert!(answer.json()["detail"].as_str().unwrap().contains("used before"), "{}", answer.text());
        // Signed anew it is the same.
        proves(node, &holder, &proof(&holder)).refused(401, "invalid_dpop_proof");
    }
    // To another key it is another one; and the next one is good on either.
    proves(&there, &other, &proof(&other)).is(200);
    for node in [&there, &view] {
        proves(node, &holder, &holder.proof("GET", "http://api.test/x").text()).is(200);
    }
    // What is not good is claimed nowhere.
    let bad = holder.proof("POST", "http://api.test/x").claim("jti", "two").text();
    proves(&view, &holder, &bad).refused(401, "invalid_dpop_proof");
    proves(&there, &holder, &holder.proof("GET", "http://api.test/x").claim("jti", "two").text()).is(200);
    // A node that comes later, or that was started anew, has no gap.
    let late = sharing(&redis.socket(), &upstream, &issuer, "refuse").start();
    proves(&late, &holder, &used).refused(401, "invalid_dpop_proof");
    for node in [view, there, late] {
        node.done();
    }
}

#[test]
fn when_the_store_is_gone_proofs_are_refused_or_known_to_each_node_alone() {
    let Some(mut redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let [one, two] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "serve").start());
    let refuses = sharing(&redis.socket(), &upstream, &issuer, "refuse").start();
    let holder = Holder::of(&issuer);
    let fresh = || holder.proof("GET", "http://api.test/x").text();
    for node in [&one, &two, &refuses] {
        proves(node, &holder, &fresh()).is(200);
    }
    redis.goes_away();
    // Whether it is known already that the store is away, or is found out by the claim.
    proves(&refuses, &holder, &fresh()).refused(503, "identity_unavailable");
    let used = fresh();
    proves(&one, &holder, &used).is(200);
    proves(&one, &holder, &used).refused(401, "invalid_dpop_proof");
    proves(&two, &holder, &used).is(200);
    proves(&two, &holder, &used).refused(401, "invalid_dpop_proof");
    redis.comes_back();
    let answers = || (proves(&refuses, &holder, &fresh()).status == 200).then_some(());
    eventually("proofs are taken again", answers);
    let used = fresh();
    let shared = || {
        let used = fresh();
        let [first, second] = [&one, &two].map(|node| proves(node, &holder, &used).status);
        ((first, second) == (200, 401)).then_some(())
    };
    eventually("what one node has taken the other refuses again", shared);
    proves(&one, &holder, &used).is(200);
    proves(&two, &holder, &used).refused(401, "invalid_dpop_proof");
    for node in [one, two, refuses] {
        node.done();
    }
}

#[test]
fn a_revocation_is_pushed_to_the_other_node_and_enforced_there_at_once_when_it_is_known() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let [view, there] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "refuse").start());
    let (mut asked, mut reported) = (client(&there), operator(&there));
    for round in 0..20 {
        let jti = format!("round-{round}");
        let token = issuer.token().claim("jti", jti.as_str()).text();
        asked.get("/x").bearer(&token).send().is(200);
        operates(&view, "POST", "/v1/revocations", &json!({"jti": jti}));
        // The numbers are those of the working set, which requests are judged by: once it has the revocation, not a
        // single request more gets through.
        let line = format!("bartizan_store_entries{{kind=\"revocation\"}} {}", round + 1);
        eventually("the other node has it", || {
            let page = reported.get("/metrics").send().text();
            page.lines().any(|known| known == line).then_some(())
        });
        asked.get("/x").bearer(&token).send().refused(401, "revoked");
        // The node that was asked had it when it answered.
        client(&view).get("/x").bearer(&token).send().refused(401, "revoked");
    }
    // Nothing had to be read anew for that.
    for node in [&view, &there] {
        assert_eq!(node.stderr.count("the store was read"), 1, "{:#?}", node.stderr.all());
    }
    for node in [view, there] {
        node.done();
    }
}

#[test]
fn what_two_operators_make_at_the_same_time_is_made_once() {
    let Some(redis) = Redis::start() else { return };
    let (upstream, issuer) = (upstream().start(), issuer());
    let [view, there] = [(); 2].map(|()| sharing(&redis.socket(), &upstream, &issuer, "refuse").start());
    let folder = TempDir::new().unwrap();
    let alone = sharing(&redis.socket(), &upstream, &issuer, "refuse");
    let redis_line = alone.yaml().lines().find(|line| line.starts_with("store:")).unwrap().to_owned();
    let text = alone.yaml().replace(&redis_line, &format!("store: \"{}\"", folder.path().join("state").display()));
    let alone = alone.text(&text).start();
    for nodes in [[&view, &there], [&alone, &alone]] {
        for round in 0..15 {
            let (id, name) = (format!("raced-{round}"), format!("consumer-{round}"));
            for (path, body) in
                [("/v1/consumers/acme/keys", json!({"id": id})), ("/v1/consumers", json!({"name": name}))]
            {
                let barrier = std::sync::Barrier::new(4);
                let asked = |node: &Proxy| {
                    let mut operator = operator(node);
                    // Connected before, so that nothing but the request itself is raced.
                    operator.get("/healthz").send();
                    barrier.wait();
                    operator.post(path, body.to_string()).bearer(ADMIN_TOKEN).send()
                };
                let answers: Vec<Answer> = std::thread::scope(|scope| {
                    let asking = [nodes[0], nodes[1], nodes[0], nodes[1]].map(|node| scope.spawn(|| asked(node)));
                    asking.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
                statuses.sort_unstable();
                assert_eq!(statuses, [201, 409, 409, 409], "{path} {body}");
                let made = answers.iter().find(|answer| answer.status == 201).unwrap().json();
                if let Some(key) = made["key"].as_str() {
                    // The one that was made is the one that is good, on both.
                    for node in nodes {
                        let good = || (client(node).get("/x").key(key).send().status == 200).then_some(());
                        eventually("the key is known", good);
                    }
                }
            }
        }
    }
    for node in [view, there, alone] {
        node.done();
    }
}
