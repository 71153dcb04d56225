//! A real issuer: `oidc-provider` from npm, on loopback. What it signs or knows gets through, and nothing that only looks
//! like it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};

use crate::support::issuer::{Key, Token};
use crate::support::*;

/// What its tokens are for (RFC 8707): it signs the ones, and keeps what the others mean to itself.
const SIGNED: &str = "urn%3Aorders";
const OPAQUE: &str = "urn%3Aopaque";

/// The provider; it ends when its standard input does.
struct Provider {
    issuer: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// Keys of its client `bartizan`.
    keys: [Key; 2],
}

/// Installs it, once; `None` where that cannot be done.
fn installed() -> Option<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| npm::install("oidc", &["provider.mjs"])) {
        Ok(folder) => Some(folder),
        Err(why) => {
            skipped(why);
            None
        }
    }
}

impl Provider {
    /// Starts it; `None` where it cannot be installed.
    fn start() -> Option<Self> {
        let folder = installed()?;
        let keys = [Key::rsa("by-rsa"), Key::ec("by-ec")];
        let mut child = Command::new("node")
            .arg("provider.mjs")
            .current_dir(folder)
            .env("CLIENT_JWKS", json!({"keys": keys.each_ref().map(Key::jwk)}).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut provider = Self { issuer: String::new(), child, stdin, stdout, keys };
        provider.issuer = provider.says();
        assert!(provider.issuer.starts_with("http://127.0.0.1:"), "{:?}", provider.issuer);
        Some(provider)
    }

    /// The next line.
    fn says(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Signs with a new key from now on.
    fn rotates(&mut self) {
        writeln!(self.stdin.as_ref().unwrap(), "rotate").unwrap();
        assert_eq!(self.says(), "rotated");
    }

    /// Posts a form as its client, with more header lines; the answer must be good.
    fn post(&self, path: &str, form: &str, headers: &str) -> String {
        let host = self.issuer.strip_prefix("http://").unwrap();
        let form = format!("{form}&client_id=acme&client_secret=a-secret-of-this-test");
        let mut stream = TcpStream::connect(host).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // HTTP/1.0: an answer in one piece, ended by the end of the connection.
        let head = format!("POST {path} HTTP/1.0\r\ncontent-type: application/x-www-form-urlencoded\r\n{headers}");
        write!(stream, "{head}host: {host}\r\ncontent-length: {}\r\n\r\n{form}", form.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some("200"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// What comes back of the client credentials grant (RFC 6749 §4.4).
    fn grants(&self, resource: &str, headers: &str) -> Value {
        let form = format!("grant_type=client_credentials&scope=orders%3Aread&resource={resource}");
        serde_json::from_str(&self.post("/token", &form, headers)).unwrap()
    }

    /// A bearer token.
    fn token(&self, resource: &str) -> String {
        text(&self.grants(resource, ""), "Bearer")
    }

    /// A token bound to this key (RFC 9449 §5).
    fn bound_token(&self, resource: &str, key: &Arc<Key>) -> String {
        let proof = Token::proof(key, "POST", &format!("{}/token", self.issuer)).text();
        text(&self.grants(resource, &format!("dpop: {proof}\r\n")), "DPoP")
    }

    /// A proxy that finds its keys by itself.
    fn believed(&self, upstream: &Upstream) -> Policy {
        let settings =
            format!("issuer: \"{}\", algorithms: [RS256], max_lifetime: 1h, default_plan: free", self.issuer);
        proxy().before(upstream).issuer("oidc", &settings).route("GET /x", "scopes: [orders:read]")
    }

    /// A proxy that asks it about every token, and believes what it says for a second.
    fn asked(&self, upstream: &Upstream) -> Policy {
        self.asked_by(upstream, "client_id: acme, client_secret: a-secret-of-this-test")
    }

    /// The same, as this client.
    fn asked_by(&self, upstream: &Upstream, client: &str) -> Policy {
        let auth = format!(
            "auth: {{ introspection: {{ idp: {{ endpoint: \"{}/token/introspection\", {client}, default_plan: free, \
             cache: 1s }} }} }}",
            self.issuer
        );
        proxy().before(upstream).with(&auth).route("GET /x", "scopes: [orders:read]")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

/// The token of an answer, which must be of this type.
fn text(granted: &Value, kind: &str) -> String {
    assert_eq!(granted["token_type"], kind, "{granted:#}");
    granted["access_token"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_of_a_real_provider_gets_through() {
    let Some(provider) = Provider::start() else { return };
    let upstream = upstream().start();
    let proxy = provider.believed(&upstream).start();
    let mut client = client(&proxy);
    let token = provider.token(SIGNED);
    let answer = client.get("/x").bearer(&token).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["oidc:acme"]);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let tampered: String = signature.chars().rev().collect();
    client.get("/x").bearer(format!("{message}.{tampered}")).send().refused(401, "invalid_token");
    proxy.done();
}

#[test]
fn tokens_of_its_new_key_get_through_without_a_reload() {
    let Some(mut provider) = Provider::start() else { return };
    let upstream = upstream().start();
    let proxy = provider.believed(&upstream).start();
    let mut client = client(&proxy);
    let (first, second) = (provider.token(SIGNED), provider.token(SIGNED));
    client.get("/x").bearer(&first).send().is(200);
    provider.rotates();
    let new = provider.token(SIGNED);
    let header = |token: &str| token.split('.').next().unwrap().to_owned();
    assert_ne!(header(&new), header(&first), "another `kid`");
    client.get("/x").bearer(&new).send().is(200);
    // The key before is published still, so what it signed is good, be it known already or not.
    client.get("/x").bearer(&first).send().is(200);
    client.get("/x").bearer(&second).send().is(200);
    proxy.done();
}

#[test]
fn an_opaque_token_is_good_until_the_provider_has_revoked_it() {
    let Some(provider) = Provider::start() else { return };
    let upstream = upstream().start();
    let proxy = provider.asked(&upstream).start();
    let mut client = client(&proxy);
    let (token, other) = (provider.token(OPAQUE), provider.token(OPAQUE));
    assert!(!token.contains('.'), "{token}");
    let answer = client.get("/x").bearer(&token).send().is(200);
    assert_eq!(answer.echoed("x-consumer-id"), ["idp:acme"]);
    assert_eq!(answer.echoed("x-consumer-scopes"), ["orders:read"]);
    client.get("/x").bearer("made-up").send().refused(401, "invalid_token");

    provider.post("/token/revocation", &format!("token={token}"), "");
    let refused = eventually("the revocation is seen", || {
        let answer = client.get("/x").bearer(&token).send();
        (answer.status != 200).then_some(answer)
    });
    refused.refused(401, "invalid_token");
    client.get("/x").bearer(&other).send().is(200);
    proxy.done();
}

#[test]
fn a_token_bound_to_a_key_is_taken_from_its_holder_alone() {
    let Some(provider) = Provider::start() else { return };
    let (upstream, key) = (upstream().start(), Arc::new(Key::ec("holder")));
    for (policy, resource) in [(provider.believed(&upstream), SIGNED), (provider.asked(&upstream), OPAQUE)] {
        let proxy = policy.start();
        let mut client = client(&proxy);
        let token = provider.bound_token(resource, &key);
        let proof = |key| Token::proof(key, "GET", &proxy.url("/x")).ath(&token).text();
        client.get("/x").dpop(&token, proof(&key)).send().is(200);
        client.get("/x").header("authorization", &format!("DPoP {token}")).send().refused(401, "invalid_dpop_proof");
        client.get("/x").bearer(&token).send().refused(401, "invalid_dpop_proof");
        let thief = Arc::new(Key::ec("thief"));
        client.get("/x").dpop(&token, proof(&thief)).send().refused(401, "invalid_dpop_proof");
        proxy.done();
    }
}

#[test]
fn the_provider_answers_who_proves_with_a_key_that_it_may_ask() {
    let Some(provider) = Provider::start() else { return };
    let upstream = upstream().start();
    let client_of = |key: &str, more: &str| {
        format!("client_id: bartizan, client_auth: private_key_jwt, private_key: {key}, {more}")
    };
    let [by_rsa, by_ec] = provider.keys.each_ref().map(Key::private_pem);
    for (what, pem, settings, status) in [
        ("RSA, and its name", by_rsa.as_str(), "key_id: by-rsa", 200),
        ("RSA with PSS, without a name", by_rsa.as_str(), "algorithm: PS256", 200),
        ("EC", by_ec.as_str(), "key_id: by-ec, algorithm: ES256", 200),
        // Not known there, so whether the token is good cannot be reported: that is never the bearer's fault.
        ("another key", &Key::ec("by-ec").private_pem(), "key_id: by-ec, algorithm: ES256", 503),
    ] {
        let proxy = provider.asked_by(&upstream, &client_of("client.key", settings)).file("client.key", pem).start();
        let mut client = client(&proxy);
        let answer = client.get("/x").bearer(provider.token(OPAQUE)).send();
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        if status == 200 {
            // Each assertion is good once: the second question brings another.
            client.get("/x").bearer(provider.token(OPAQUE)).send().is(200);
            client.get("/x").bearer("made-up").send().refused(401, "invalid_token");
        } else {
            answer.refused(503, "identity_unavailable");
        }
        proxy.done();
    }
}
