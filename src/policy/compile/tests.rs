//! What a compiled policy shows of itself.

use rcgen::{CertificateParams, KeyPair};

use super::compile;

/// A policy with a secret in each place that takes one. The secrets begin with `hunter2`.
const POLICY: &str = r#"
version: 1
listen:
  - address: 127.0.0.1:0
    tls: { certificate: c.pem, key: "${file:k.pem}" }
admin: { address: 127.0.0.1:0, token: hunter2-admin-01234567, tokens: [{ name: ops, token: hunter2-ops-0123456789 }] }
egress: { proxy: "http://user:hunter2-proxy@127.0.0.1:1" }
secrets: { vault: { address: "http://127.0.0.1:1", login: { approle: { role_id: r, secret_id: hunter2-approle } } } }
store: { redis: "redis://user:hunter2-redis@127.0.0.1:1" }
token_service: { issuer: "http://127.0.0.1", audience: [a], keys: { seal: hunter2-seal-0123456789012345678901234567 } }
auth:
  issuers:
    hmac: { issuer: "https://a.example", audience: [a], secret: hunter2-hmac-0123456789012345678901234567, algorithms: [HS256] }
  introspection:
    basic: { endpoint: "http://127.0.0.1:1", client_id: me, client_secret: hunter2-basic }
    post: { endpoint: "http://127.0.0.1:1/post", client_id: me, client_secret: hunter2-post, client_auth: post }
apis: { a: { upstream: "http://127.0.0.1:9", routes: { GET /x: { public: true } } } }
telemetry: { otlp: { endpoint: "http://127.0.0.1:1", headers: { authorization: hunter2-trace } } }
audit:
  spool: { path: spool/ }
  to:
    - elasticsearch: { url: "http://127.0.0.1:1", username: u, password: hunter2-elastic }
    - otlp: { endpoint: "http://127.0.0.1:1", headers: { authorization: hunter2-otlp } }
    - http: { url: "http://127.0.0.1:1/hunter2-path", headers: { x-token: hunter2-http } }
"#;

#[test]
fn a_policy_shows_no_secret_for_debugging() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(path("c.pem"), certificate.pem()).unwrap();
    std::fs::write(path("k.pem"), key.serialize_pem()).unwrap();
    std::fs::write(path("policy.yaml"), POLICY).unwrap();
    let (policy, problems) = compile(&path("policy.yaml"));
    let policy = policy.unwrap_or_else(|| panic!("{problems:?}"));
    let shown = format!("{policy:?}\n{policy:#?}\n{problems:?}");
    assert!(shown.contains("127.0.0.1"), "{shown}");
    let line = key.serialize_pem().lines().nth(1).unwrap().to_owned();
    // Base64 of `user:hunter2-proxy`, `me:hunter2-basic` and `u:hunter2-elastic`, without their ends.
    for secret in ["hunter2", &line, "dXNlcjpodW50ZXIyLXByb3h5", "bWU6aHVudGVyMi1iYXNpY", "dTpodW50ZXIyLWVsYXN0aW"] {
        let found = shown.find(secret).map(|at| shown.get(at.saturating_sub(200)..(at + 50).min(shown.len())));
        assert_eq!(found, None, "{secret}");
    }
}
