//! WebSockets between a server and clients that others wrote, unmodified: `ws` of npm, and `websockets` of PyPI.
//!
//! `WEBSOCKETS` names the folder that has the latter. `.ci/run` puts it there.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::proxy::of_requests;
use crate::support::*;

/// A WebSocket server of npm, which ends with the test.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new("node");
        command.arg("server.mjs").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, url: format!("http://127.0.0.1:{}", port.trim()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a client says that this command runs with the URL and a token, before an API with WebSockets.
fn says(server: &Server, mut client: Command) -> (Value, Vec<Value>) {
    let issuer = issuer();
    let proxy = proxy()
        .server(&server.url)
        .trusts(&issuer)
        .route("GET /feed", "scopes: [feed:read], upgrade: { websocket: {} }")
        .start();
    let token = issuer.token().scope("feed:read").text();
    let url = format!("ws://{}/feed", proxy.address());
    let output = client.args([url, token]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (code, records) = proxy.stop();
    assert_eq!(code, Some(0));
    (serde_json::from_slice(&output.stdout).unwrap(), records)
}

/// The records of the WebSockets, which all have their end.
fn ended(records: &[Value]) -> usize {
    let opened = records.iter().filter(|record| said(record, "event.action") == "websocket_opened").count();
    let ended = of_requests(records).filter(|record| said(record, "http.response.status_code") == 101);
    assert_eq!(ended.filter(|record| said(record, "event.outcome") == "success").count(), opened);
    opened
}

#[test]
fn a_client_of_npm_works_unmodified() {
    let folder = match npm::install("websocket_clients", &["server.mjs", "client.mjs"]) {
        Ok(folder) => folder,
        Err(why) => return skipped(&why),
    };
    let server = Server::start(&folder);
    let mut node = Command::new("node");
    node.arg("client.mjs").current_dir(&folder);
    let (said, records) = says(&server, node);
    for (name, extensions) in [("plain", ""), ("compressed", "permessage-deflate")] {
        let expected = json!({
            "protocol": "chat", "extensions": extensions, "echoed": 16, "joined": "abc", "pieces": "one two three",
            "pong": "from the client", "ping": "pong from the server", "closed": 4001,
        });
        assert_eq!(said[name], expected, "{name}");
    }
    assert_eq!(said["closed_by_server"], json!([4002, "good bye"]));
    assert_eq!(said["many"], 400);
    assert_eq!(said["refused"], json!([401, "application/problem+json"]));
    assert_eq!(ended(&records), 23);
}

#[test]
fn a_client_of_pypi_works_unmodified() {
    let Some(packages) = std::env::var_os("WEBSOCKETS") else {
        return skipped("there is no `websockets`: set WEBSOCKETS to the folder that `.ci/run` fills");
    };
    let folder = match npm::install("websocket_clients", &["server.mjs", "client.mjs"]) {
        Ok(folder) => folder,
        Err(why) => return skipped(&why),
    };
    let server = Server::start(&folder);
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/websocket_clients/client.py"));
    python.env("PYTHONPATH", Path::new(&packages).join("python")).env("PYTHONDONTWRITEBYTECODE", "1");
    let (said, records) = says(&server, python);
    for name in ["plain", "compressed"] {
        let expected = json!({
            "protocol": "chat", "echoed": 16, "joined": "abc", "pieces": "one two three", "pong": true,
            "ping": "pong from the server",
        });
        assert_eq!(said[name], expected, "{name}");
    }
    assert_eq!(said["closed_by_server"], json!([4002, "good bye"]));
    assert_eq!(said["refused"], json!([401, "application/problem+json"]));
    assert_eq!(ended(&records), 3);
}
