//! Secrets from variables and files: what operators see of them, and how they change while the proxy serves.

use serde_json::Value;

use crate::support::client::operator;
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// What operators see of a reference.
#[track_caller]
fn secret(proxy: &proxy::Proxy, reference: &str) -> Value {
    let answer = operator(proxy).get("/v1/secrets").bearer(ADMIN_TOKEN).send().json();
    let items = answer["items"].as_array().unwrap();
    let found = items.iter().find(|item| item["reference"].as_str().unwrap().ends_with(reference));
    found.unwrap_or_else(|| panic!("no {reference} in {answer:#}")).clone()
}

#[test]
fn operators_see_where_a_secret_comes_from_and_never_its_value() {
    let (upstream, certified) = (upstream().start(), authority().certifies(&["localhost"]));
    let proxy = proxy()
        .before(&upstream)
        .open("GET /x")
        .listen("{ address: \"127.0.0.1:0\", tls: { certificate: c.pem, key: k.pem } }")
        .with("telemetry: { otlp: { endpoint: \"http://127.0.0.1:9\", headers: { x-one: \"a ${env:SEEDED}\", x-two: \"${file:two}${env:SEEDED}\" } } }")
        .env("SEEDED", "in-the-environment")
        .file("two", "in-a-file\n")
        .file("c.pem", certified.certificate.as_str())
        .file("k.pem", certified.key.as_str())
        .start();
    let variable = secret(&proxy, "${env:SEEDED}");
    assert_eq!((&variable["source"], &variable["version"]), (&"env".into(), &Value::Null), "{variable}");
    let places = variable["used_at"].as_array().unwrap();
    assert!(places.len() == 2 && places[0].as_str().unwrap().contains("policy.yaml:"), "{variable}");
    let file = secret(&proxy, "${file:two}");
    assert!(file["source"] == "file" && file["version"].as_str().unwrap().ends_with('Z'), "{file}");
    assert!(file["age"].is_number() && file["error"].is_null(), "{file}");
    assert_eq!(secret(&proxy, "k.pem")["kind"], "secret");
    let certificates = secret(&proxy, "c.pem");
    assert!(certificates["version"].as_str().unwrap().starts_with("sha256:"), "{certificates}");
    let whole = operator(&proxy).get("/v1/secrets").bearer(ADMIN_TOKEN).send().text();
    assert!(!whole.contains("in-the-env") && !whole.contains("in-a-file") && !whole.contains("BEGIN"), "{whole}");
    let page = operator(&proxy).get("/metrics").send().text();
    assert!(page.contains("bartizan_secret_up{source=\"env\",reference=\"${env:SEEDED}\"} 1"), "{page}");
    proxy.done();
}

#[test]
fn the_age_of_a_secret_is_that_of_its_value() {
    let upstream = upstream().start();
    let mut proxy = proxy()
        .before(&upstream)
        .with("telemetry: { otlp: { endpoint: \"http://127.0.0.1:9\", headers: { x-one: \"${file:one}\", x-two: \"${file:two}\" } } }")
        .open("GET /x")
        .file("one", "1")
        .file("two", "2")
        .start();
    let before = (secret(&proxy, "${file:one}"), secret(&proxy, "${file:two}"));
    assert_eq!(proxy.reload_to(|policy| policy.file("two", "another")), proxy::Reloaded::Loaded);
    assert_eq!(secret(&proxy, "${file:one}")["since"], before.0["since"]);
    assert_ne!(secret(&proxy, "${file:two}")["since"], before.1["since"]);
    proxy.done();
}
