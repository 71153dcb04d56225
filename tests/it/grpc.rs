//! gRPC through the proxy: clients and servers of grpcio (PyPI), unmodified.
//!
//! `GRPCIO` names the folder that has grpcio, in `python`. `.ci/run` puts it there.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// Python with grpcio, and a script. `None`: there is no grpcio, which is told.
#[track_caller]
fn python(script: &Path) -> Option<Command> {
    let Some(folder) = std::env::var_os("GRPCIO") else {
        skipped("there is no grpcio: set GRPCIO to the folder that `.ci/run` fills");
        return None;
    };
    let mut python = Command::new("python3");
    python.arg(script);
    python.env("PYTHONPATH", Path::new(&folder).join("python")).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(python)
}

/// A file of the repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A server of grpcio, which ends with it.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// `None`: there is no grpcio. `tls`: the files of a certificate and its key.
    fn start(tls: &[&Path]) -> Option<Self> {
        let mut python = python(&file("tests/it/grpc/server.py"))?;
        let mut process = python.args(tls).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Some(Self { process, port: line.trim().parse().unwrap() })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Makes calls to this address; returns what came of them.
fn calls(target: &str, what: &str, change: impl FnOnce(&mut Command)) -> Value {
    let mut python = python(&file("tests/it/grpc/client.py")).unwrap();
    python.args([target, what]);
    change(&mut python);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An API before a server, with all of its methods.
fn before(server: &Server) -> Policy {
    proxy().server(&server.url()).upstream("protocol: h2c")
}

const METHOD: &str = "POST /test.Echo/{method}";

/// How many calls `interop` makes that get a record: those that the client refuses itself do not.
const INTEROP: usize = 25;

#[track_caller]
fn same(through: &Value, direct: &Value) {
    for (what, expected) in direct.as_object().unwrap() {
        assert!(
            &through[what] == expected,
            "{what}: {:.2000}\n{:.2000}",
            through[what].to_string(),
            expected.to_string()
        );
    }
}

/// Unary and streaming calls, all statuses, metadata of all kinds: as if there were no proxy.
#[test]
fn grpcio_gets_the_same_as_without_a_proxy() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = before(&server).open(METHOD).start();
    let direct = calls(&format!("127.0.0.1:{}", server.port), "interop", |_| ());
    let through = calls(&proxy.address().to_string(), "interop", |_| ());
    same(&through, &direct);
    assert_eq!(through["unary"]["received"], json!(["hello"]));
    assert_eq!(through["unary"]["trailing"].as_array().unwrap().len(), 4);
    assert_eq!(through["INVALID_ARGUMENT"]["details"], "100 % of é\nand more");
    proxy.owes(INTEROP);
    let records = proxy.done();
    assert!(records.iter().all(|record| said(record, "http.response.status_code") == 200));
}

#[test]
fn grpcio_gets_the_same_over_tls_on_both_sides() {
    let authority = authority();
    let certified = authority.certifies(&["127.0.0.1"]);
    let folder = tempfile::TempDir::new().unwrap();
    let [certificate, key, ca] = ["tls.crt", "tls.key", "ca.pem"].map(|name| folder.path().join(name));
    std::fs::write(&certificate, &certified.certificate).unwrap();
    std::fs::write(&key, &certified.key).unwrap();
    std::fs::write(&ca, authority.pem()).unwrap();
    let Some(server) = Server::start(&[&certificate, &key]) else { return };
    let proxy = proxy()
        .listen("{ address: \"127.0.0.1:0\", tls: { certificate: tls.crt, key: tls.key } }")
        .server(&format!("https://127.0.0.1:{}", server.port))
        .upstream("protocol: h2")
        .upstream("tls: { ca: ca.pem }")
        .file("tls.crt", certified.certificate)
        .file("tls.key", certified.key)
        .file("ca.pem", authority.pem())
        .open(METHOD)
        .start();
    let with_ca = |command: &mut Command| {
        command.arg(&ca);
    };
    let direct = calls(&format!("127.0.0.1:{}", server.port), "interop", with_ca);
    same(&calls(&proxy.address().to_string(), "interop", with_ca), &direct);
    proxy.owes(INTEROP);
    proxy.done();
}

/// A client of gRPC sees the statuses that it knows, with the message, and the code as metadata.
#[test]
fn refusals_are_statuses_of_grpc() {
    let Some(server) = Server::start(&[]) else { return };
    let issuer = issuer();
    let token = |scope: &str| issuer.token().scope(scope).text();
    let proxy = before(&server)
        .trusts(&issuer)
        .route("POST /test.Echo/Unary", "scopes: [\"echo:call\"], rate: 1/min")
        .route("POST /test.Echo/Seen", "scopes: [\"echo:call\"]")
        .start();
    let address = proxy.address().to_string();
    let made = |what: &str, token: Option<String>| {
        calls(&address, what, |command| {
            command.envs(token.map(|token| ("TOKEN", token)));
        })
    };
    let refused = |call: &Value, status: &str, code: &str| {
        assert_eq!(call["code"], status, "{call:#}");
        assert!(!call["details"].as_str().unwrap().is_empty(), "{call:#}");
        let metadata: Vec<_> =
            [&call["initial"], &call["trailing"]].into_iter().flat_map(|all| all.as_array().unwrap()).collect();
        assert!(metadata.contains(&&json!(["x-refusal-code", code])), "{call:#}");
    };
    refused(&made("one", None)["one"], "UNAUTHENTICATED", "missing_credentials");
    refused(&made("one", Some("nonsense".to_owned()))["one"], "UNAUTHENTICATED", "invalid_token");
    refused(&made("one", Some(token("other")))["one"], "PERMISSION_DENIED", "insufficient_scope");
    let three = made("three", Some(token("echo:call")));
    assert_eq!(three["0"]["code"], "OK");
    for call in ["1", "2"] {
        refused(&three[call], "RESOURCE_EXHAUSTED", "rate_limited");
    }
    // The server knows who calls, and gets no token.
    let seen = made("seen", Some(token("echo:call")));
    let seen = seen["seen"]["received"][0].as_str().unwrap_or_else(|| panic!("{seen:#}")).to_owned();
    assert!(seen.contains("x-consumer-id") && !seen.contains("authorization"), "{seen}");
    proxy.owes(7);
    let records = proxy.done();
    assert_eq!(records.iter().filter(|record| said(record, "http.response.status_code") == 200).count(), 7);
    let reasons: Vec<_> = records.iter().filter_map(|record| record["event"]["reason"].as_str()).collect();
    assert_eq!(reasons, ["missing_credentials", "invalid_token", "insufficient_scope", "rate_limited", "rate_limited"]);
}

#[test]
fn a_server_that_is_away_or_silent_is_told_as_such() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = before(&server).open(METHOD).upstream("response_timeout: 1s").start();
    let silent = calls(&proxy.address().to_string(), "silent", |_| ());
    assert_eq!(silent["own"], "DEADLINE_EXCEEDED");
    assert_eq!(silent["proxy"]["code"], "DEADLINE_EXCEEDED");
    assert!(silent["proxy"]["details"].as_str().unwrap().contains("upstream"), "{silent:#}");
    proxy.owes(2);
    drop(server);
    let away = calls(&proxy.address().to_string(), "one", |_| ());
    assert_eq!(away["one"]["code"], "UNAVAILABLE", "{away:#}");
    proxy.owes(1);
    proxy.done();
}

/// A message as gRPC frames it.
fn message(text: &str) -> Vec<u8> {
    [&[0, 0, 0, 0, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

/// A response that ends early ends with a status that says so, whatever was sent of it.
#[test]
fn a_stream_that_breaks_ends_with_a_status() {
    if python(&file("tests/it/grpc/client.py")).is_none() {
        return;
    }
    let upstream = http2_upstream().goes_away().start(async |mut call: Http2Call| {
        let mut body = call.head(200, &[("content-type", "application/grpc")]);
        body.send_data(message("first").into(), false).unwrap();
        // The call itself is whole: its one message came, though the first connection went away with it.
        let (request, _) = call.all().await;
        assert_eq!(request, message("2"));
        // The proxy has sent on what it has before the rest fails.
        let _ = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
    });
    let proxy =
        proxy().server(&upstream.url()).upstream("protocol: h2c").upstream("idle_timeout: 500ms").open(METHOD).start();
    let stream = &calls(&proxy.address().to_string(), "stream", |_| ())["stream"];
    assert_eq!((&stream["received"], &stream["code"]), (&json!(["first"]), &json!("DEADLINE_EXCEEDED")), "{stream:#}");
    assert!(
        stream["trailing"].as_array().unwrap().contains(&json!(["x-refusal-code", "upstream_timeout"])),
        "{stream:#}"
    );
    proxy.owes(1);
    let records = proxy.done();
    assert_eq!(said(&records[0], "event.reason"), "upstream_timeout");
}

/// The status of HTTP is that of gRPC, also on record.
#[test]
fn a_response_that_breaks_at_once_is_replaced() {
    if python(&file("tests/it/grpc/client.py")).is_none() {
        return;
    }
    let upstream = http2_upstream().start(async |mut call: Http2Call| {
        call.head(200, &[("content-type", "application/grpc")]).send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let proxy = proxy().server(&upstream.url()).upstream("protocol: h2c").open(METHOD).start();
    let one = &calls(&proxy.address().to_string(), "one", |_| ())["one"];
    assert_eq!(one["code"], "INTERNAL", "{one:#}");
    proxy.owes(1);
    let records = proxy.done();
    assert_eq!(said(&records[0], "http.response.status_code"), 200);
    assert_eq!(said(&records[0], "event.reason"), "invalid_upstream_response");
    assert_eq!(said(&records[0], "event.outcome"), "failure");
}

/// `explain` says what the client sees.
#[test]
fn explain_tells_the_status_of_grpc() {
    let folder = tempfile::TempDir::new().unwrap();
    let policy = proxy().server("http://127.0.0.1:9").upstream("protocol: h2c").trusts(&issuer());
    let policy = policy.route("POST /test.Echo/Unary", "scopes: []").write(folder.path());
    let explain = |format: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.args(["explain", "--format", format, "--policy"]).arg(&policy);
        let asked = ["--header", "content-type: application/grpc+proto", "POST", "/test.Echo/Unary"];
        String::from_utf8(command.args(asked).output().unwrap().stdout).unwrap()
    };
    assert!(explain("text").contains("→ UNAUTHENTICATED missing_credentials: "), "{}", explain("text"));
    let json: Value = serde_json::from_str(&explain("json")).unwrap();
    assert_eq!((&json["status"], &json["grpc_status"]), (&json!(401), &json!("UNAUTHENTICATED")));
}

/// What the README of the example shows, with other ports.
#[test]
fn the_example_works() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let read = |name: &str| {
        std::fs::read_to_string(file("examples/grpc").join(name)).unwrap().replace("9000", &port.to_string())
    };
    let digest = |key: &str| -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let text = read("policy.yaml")
        .replace("127.0.0.1:8080", "127.0.0.1:0")
        .replace("[stdout]", "[{ file: { path: audit.jsonl } }]");
    let text = text + "admin: { address: \"127.0.0.1:0\" }\n";
    let (shop, warehouse) = ("s".repeat(64), "w".repeat(64));
    let policy = proxy().text(&text).file("orders.py", read("orders.py"));
    let proxy = policy.env("SHOP_KEY_SHA256", &digest(&shop)).env("WAREHOUSE_KEY_SHA256", &digest(&warehouse)).start();
    let script = proxy.file("orders.py");
    let Some(mut serves) = python(&script) else { return drop(proxy.stop()) };
    let _server = Server { process: serves.arg("serve").spawn().unwrap(), port };
    eventually("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    for (method, key, expected) in [
        ("Get", None, "UNAUTHENTICATED: "),
        ("Get", Some(&shop), "order 7 for shop\n"),
        ("Watch", Some(&shop), "order 0\norder 1\norder 2\n"),
        ("Import", Some(&shop), "PERMISSION_DENIED: "),
        ("Import", Some(&warehouse), "2 orders\n"),
    ] {
        let mut call = python(&script).unwrap();
        let output = call.arg(proxy.address().to_string()).arg(method).args(key).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with(expected), "{method}: {said} {}", String::from_utf8_lossy(&output.stderr));
    }
    proxy.owes(5);
    proxy.done();
}

/// What bounds the body of a request as a whole bounds each pause of a stream, and none once the server has answered.
#[test]
fn a_stream_may_pause() {
    let Some(server) = Server::start(&[]) else { return };
    let proxy = before(&server).route(METHOD, "public: true, request: { timeout: 1s }").start();
    let waits = calls(&proxy.address().to_string(), "waits", |_| ());
    assert_eq!(waits["after"], json!([["re: 1", "re: 2"], "OK"]));
    assert_eq!(waits["before"]["code"], "DEADLINE_EXCEEDED", "{waits:#}");
    proxy.owes(2);
    proxy.done();
}
