//! What the record says of credentials that are refused.

use aws_lc_rs::digest::{SHA256, digest};

use crate::support::client::operator;
use crate::support::issuer::now;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// U18: after a leak, the record tells who still uses what was revoked, suspended or has expired.
#[test]
fn a_refusal_records_whose_credential_it_was() {
    let (store, upstream, issuer) = (tempfile::TempDir::new().unwrap(), upstream().start(), issuer());
    let keys = format!(
        "keys: [{{ id: acme-1, sha256: {} }}, {{ id: acme-0, sha256: {}, expires: 2020-01-01T00:00:00Z }}]",
        sha256("key"),
        sha256("old key")
    );
    let proxy = proxy()
        .before(&upstream)
        .trusts(&issuer)
        .with(&format!("store: \"{}\"", store.path().display()))
        .with(&format!(
            "roles: {{ reader: [orders:read] }}\nconsumers:\n  acme: {{ roles: [reader], plan: free, {keys}, \
             identities: [{{ issuer: corp, id: acme-app }}] }}"
        ))
        .route("GET /x", "scopes: [orders:read]")
        .start();
    let (mut client, mut operator) = (client(&proxy), operator(&proxy));
    let mut asks = |method: &str, path: &str, body: Value| {
        let answer = operator.request(method, path).bearer(ADMIN_TOKEN).body(body.to_string()).send();
        assert!(matches!(answer.status, 200 | 201), "{}", answer.text());
    };
    let token =
        |id: &str, exp: i64| issuer.token().claim("client_id", "acme-app").claim("jti", id).claim("exp", exp).text();
    client.get("/x").key("old key").send().refused(401, "expired_key");
    client.get("/x").bearer(token("t1", now() - 600)).send().refused(401, "expired_token");
    asks("POST", "/v1/revocations", json!({"key": "acme-1"}));
    client.get("/x").key("key").send().refused(401, "revoked");
    asks("POST", "/v1/revocations", json!({"jti": "t2"}));
    client.get("/x").bearer(token("t2", now() + 60)).send().refused(401, "revoked");
    asks("PUT", "/v1/consumers/acme/suspension", json!({}));
    client.get("/x").bearer(token("t3", now() + 60)).send().refused(403, "consumer_suspended");
    // Nothing that was not verified is believed.
    client.get("/x").key("guess").send().refused(401, "invalid_key");
    let forged = issuer.token().claim("client_id", "acme-app").forged_with(issuer::Key::ec("first")).text();
    client.get("/x").bearer(forged).send().refused(401, "invalid_token");
    let records = proxy.done();
    let reported: Vec<_> = proxy::of_requests(&records)
        .map(|record| {
            let word = |name| said(record, name).as_str().unwrap_or_default();
            (word("event.reason"), word("bartizan.consumer"), word("bartizan.credential.id"))
        })
        .collect();
    assert_eq!(
        reported,
        [
            ("expired_key", "acme", "acme-0"),
            ("expired_token", "acme", "t1"),
            ("revoked", "acme", "acme-1"),
            ("revoked", "acme", "t2"),
            ("consumer_suspended", "acme", "t3"),
            ("invalid_key", "", ""),
            ("invalid_token", "", ""),
        ]
    );
}
