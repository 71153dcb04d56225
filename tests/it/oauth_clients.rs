//! The token service before clients that others wrote, unmodified: `openid-client` and `oauth4webapi` of npm, and Authlib of PyPI.
//!
//! `AUTHLIB` names the folder that has Authlib, in `python`. `.ci/run` puts it there.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};

use crate::support::certificates::{Authority, Certified};
use crate::support::issuer::Key;
use crate::support::proxy::Reloaded;
use crate::support::*;

/// With all that libraries encode in different ways.
const SECRET: &str = "s3cret/with+what%25is=encoded:in different~ways&";

/// A token service on a TLS port, whose issuer carries that port, and its clients.
struct Service {
    proxy: Proxy,
    upstream: Upstream,
    signer: Key,
    shown: Certified,
}

impl Service {
    fn start() -> Self {
        let (upstream, authority, signer) = (upstream().start(), authority(), Key::ec("signer"));
        let shown = authority.vouches_for(7, &["acme.test"]);
        let policy = policy(&upstream, &authority, &shown, &signer);
        // The port is known once it listens; nobody else can have it then.
        let mut proxy = policy.start();
        let issuer = format!("https://{}", proxy.address());
        let loaded = proxy.reload_to(|policy| {
            policy.clone().text(&policy.yaml().replace("https://127.0.0.1\"", &format!("{issuer}\"")))
        });
        assert_eq!(loaded, Reloaded::Loaded);
        Self { proxy, upstream, signer, shown }
    }

    fn issuer(&self) -> String {
        format!("https://{}", self.proxy.address())
    }

    /// Runs a script of a client with these credentials beside those that all have; returns what it says as JSON.
    fn before(&self, mut command: Command, credentials: &Value) -> Value {
        let mut clients = json!({"id": "acme-1", "secret": SECRET, "reader": "audit-1", "signer": "acme-2"});
        clients.as_object_mut().unwrap().extend(credentials.as_object().unwrap().clone());
        let trusts = self.proxy.file("ca.pem");
        command.args([self.issuer(), format!("{}/orders", self.issuer()), clients.to_string()]);
        command.env("NODE_EXTRA_CA_CERTS", &trusts).env("REQUESTS_CA_BUNDLE", &trusts);
        let output = command.output().unwrap();
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{failed}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Whoever got through is known upstream, and no credential is on record.
    fn done(self) {
        assert!(!self.upstream.seen().is_empty());
        assert!(self.upstream.seen().iter().all(|seen| seen.header("x-consumer-id") == Some("acme")));
        let (code, records) = self.proxy.stop();
        assert_eq!(code, Some(0));
        assert!(!format!("{records:?}").contains("s3cret"));
    }
}

fn policy(upstream: &Upstream, authority: &Authority, shown: &Certified, signer: &Key) -> Policy {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let (secret, thumbprint) = (hex(digest(&SHA256, SECRET.as_bytes()).as_ref()), hex(&shown.thumbprint()));
    let server = authority.certifies(&["127.0.0.1"]);
    proxy()
        .before(upstream)
        .listen("{ address: \"127.0.0.1:0\", tls: { certificate: server.crt, key: server.key, client_ca: ca.pem } }")
        .with("token_service: { issuer: \"https://127.0.0.1\", audience: [orders-api], refresh_token: { grace: 1m } }")
        .with("store: state/")
        .with("roles: { clerk: [\"orders:read\"], auditor: [\"orders:read\"] }")
        .with(&format!(
            "consumers:\n  acme: {{ plan: free, roles: [clerk], clients: [{{ id: acme-1, secret_sha256: \"{secret}\" }}, \
             {{ id: acme-2, jwks: acme.jwks.json }}, {{ id: acme-tls, certificate: \"sha256:{thumbprint}\" }}] }}\n  \
             audit: {{ plan: free, roles: [auditor], clients: [{{ id: audit-1, secret_sha256: \"{secret}\", introspect: true }}] }}"
        ))
        .route("GET /orders", "scopes: [\"orders:read\"]")
        .file("server.crt", server.certificate)
        .file("server.key", server.key)
        .file("ca.pem", authority.pem())
        .file("acme.jwks.json", json!({"keys": [signer.jwk()]}).to_string())
        .file("shown.crt", &*shown.certificate)
        .file("shown.key", &*shown.key)
}

#[test]
fn clients_of_npm_work_unmodified() {
    let folder = match npm::install("oauth_clients", &["clients.mjs"]) {
        Ok(folder) => folder,
        Err(why) => return skipped(&why),
    };
    let service = Service::start();
    let mut node = Command::new("node");
    node.arg("clients.mjs").current_dir(folder);
    let shown = json!({"cert": service.shown.certificate, "key": service.shown.key});
    let said = service.before(node, &json!({"jwk": service.signer.private_jwk(), "shown": shown}));
    for method in ["basic", "post"] {
        let expected = json!({
            "scope": "orders:read",
            "calls": [200, 200],
            "retry": true,
            "introspection": [true, true, "acme-1", "orders:read"],
            "revoked": [false, 401],
            "refresh_of_revoked": ["invalid_grant", 400],
            "scope_of_others": ["invalid_scope", 400],
        });
        assert_eq!(said[method], expected, "{method}: {said:#}");
    }
    for (what, expected) in [
        ("private_key_jwt", json!(["orders:read", 200])),
        ("dpop", json!(["dpop", 200, 200, 401])),
        ("certificate", json!([200, 401])),
        ("validated", json!(["acme-1", "orders:read", 200])),
        // How these clients report a 401 with a challenge (RFC 9110 §11.6.1), as they do before any other server.
        ("wrong_secret", json!(["OAUTH_WWW_AUTHENTICATE_CHALLENGE", 401])),
        ("without_certificate", json!(["OAUTH_WWW_AUTHENTICATE_CHALLENGE", 401])),
        ("refused", json!(["OAUTH_WWW_AUTHENTICATE_CHALLENGE", 401])),
    ] {
        assert_eq!(said[what], expected, "{what}: {said:#}");
    }
    service.done();
}

#[test]
fn authlib_works_unmodified() {
    let Some(folder) = std::env::var_os("AUTHLIB") else {
        return skipped("there is no Authlib: set AUTHLIB to the folder that `.ci/run` fills");
    };
    let service = Service::start();
    let mut python = Command::new("python3");
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/oauth_clients/clients.py"));
    python.env("PYTHONPATH", Path::new(&folder).join("python")).env("PYTHONDONTWRITEBYTECODE", OsStr::new("1"));
    let file = |name: &str| service.proxy.file(name).display().to_string();
    let credentials =
        json!({"pem": service.signer.private_pem(), "certificate": file("shown.crt"), "key": file("shown.key")});
    let said = service.before(python, &credentials);
    for method in ["client_secret_basic", "client_secret_post"] {
        let expected = json!({
            "scope": "orders:read",
            "calls": [200, 200],
            "validated": ["acme-1", "orders:read"],
            "active": true,
            "revoked": 401,
            "rotated": true,
            "refresh_of_revoked": "invalid_grant",
            "scope_of_others": "invalid_scope",
        });
        assert_eq!(said[method], expected, "{method}: {said:#}");
    }
    for (what, expected) in [
        ("private_key_jwt", json!(["orders:read", 200])),
        ("certificate", json!([200, 401])),
        ("wrong_secret", json!("invalid_client")),
        ("without_certificate", json!("invalid_client")),
        // Required by RFC 8414 §2; there is none to list, as no user is redirected anywhere.
        ("objections", json!(["response_types_supported"])),
    ] {
        assert_eq!(said[what], expected, "{what}: {said:#}");
    }
    service.done();
}
