//! A real issuer: `oidc-provider` from npm, on loopback. What it signs gets through, and nothing that only looks like it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::support::*;

/// The provider; it ends when its standard input does.
struct Provider {
    issuer: String,
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Provider {
    /// Installs it beside the build's other files, and starts it; `None` where npm reaches no registry.
    fn start() -> Option<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/oidc");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc");
        std::fs::create_dir_all(&folder).unwrap();
        for name in ["package.json", "package-lock.json", "provider.mjs"] {
            std::fs::copy(source.join(name), folder.join(name)).unwrap();
        }
        let installed =
            Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).output().unwrap();
        if !installed.status.success() {
            skipped(&format!("npm ci failed: {}", String::from_utf8_lossy(&installed.stderr)));
            return None;
        }
        let mut child = Command::new("node")
            .arg("provider.mjs")
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut issuer = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut issuer).unwrap();
        assert!(issuer.starts_with("http://127.0.0.1:"), "{issuer:?}");
        Some(Self { issuer: issuer.trim().to_owned(), stdin: child.stdin.take(), child })
    }

    /// A token by the client credentials grant (RFC 6749 §4.4), for our API (RFC 8707).
    fn token(&self) -> String {
        let host = self.issuer.strip_prefix("http://").unwrap();
        let form = "grant_type=client_credentials&scope=orders%3Aread&resource=urn%3Aorders\
                    &client_id=acme&client_secret=a-secret-of-this-test";
        let mut stream = TcpStream::connect(host).unwrap();
        // HTTP/1.0: an answer in one piece, ended by the end of the connection.
        let head = "POST /token HTTP/1.0\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        write!(stream, "{head}host: {host}\r\ncontent-length: {}\r\n\r\n{form}", form.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        body["access_token"].as_str().unwrap_or_else(|| panic!("{body:#}")).to_owned()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn a_token_of_a_real_provider_gets_through() {
    if !has("node") || !has("npm") {
        return skipped("there is no node with npm");
    }
    let Some(provider) = Provider::start() else { return };
    let upstream = upstream().start();
    let settings = format!(
        "issuer: \"{0}\", keys: \"{0}/jwks\", algorithms: [RS256], max_lifetime: 1h, default_plan: free",
        provider.issuer
    );
    let proxy = proxy().before(&upstream).issuer("oidc", &settings).route("GET /x", "scopes: [orders:read]").start();
    let mut client = client(&proxy);
    let token = provider.token();
    let answer = client.get("/x").bearer(&token).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["oidc:acme"]);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let tampered: String = signature.chars().rev().collect();
    client.get("/x").bearer(format!("{message}.{tampered}")).send().refused(401, "invalid_token");
    proxy.done();
}
