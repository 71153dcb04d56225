//! `from`: credentials and routes that are good from some networks only, whatever the credential and the door.

use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::http2::over_http2;
use crate::support::client::{Answer, Client, operator};
use crate::support::proxy::{ADMIN_TOKEN, Reloaded};
use crate::support::websocket::{closed, hears, open, sockets};
use crate::support::*;

const OFFICE: &str = "203.0.113.7";
const BRANCH: &str = "203.0.113.200";
const ELSEWHERE: &str = "198.51.100.1";

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Behind a proxy of ours. `acme` calls from its network alone, with its narrow key from its office alone.
fn guarded(upstream: &Upstream, issuer: &issuer::Issuer) -> Policy {
    let consumers = format!(
        "trusted_proxies: [127.0.0.0/8]
store: state/
token_service: {{ issuer: \"http://127.0.0.1\", audience: [orders-api] }}
roles: {{ reader: [orders:read] }}
consumers:
  acme:
    roles: [reader]
    plan: free
    from: [203.0.113.0/24, \"2001:db8::/32\"]
    identities: [{{ issuer: corp, id: acme-app }}]
    keys: [{{ id: wide, sha256: \"{}\" }}, {{ id: narrow, sha256: \"{}\", from: [{OFFICE}] }}]
    clients: [{{ id: acme-1, secret_sha256: \"{}\" }}]",
        sha256("wide-key"),
        sha256("narrow-key"),
        sha256("secret"),
    );
    proxy()
        .before(upstream)
        .trusts(issuer)
        .with(&consumers)
        .route("GET /x", "scopes: [orders:read]")
        .route("GET /inside", "scopes: [orders:read], from: [10.0.0.0/8]")
        .route("GET /open", "public: true, from: [\"::ffff:10.0.0.0/104\"]")
        .route("GET /tried", "public: true, from: [10.0.0.0/8], mode: { scope: report }")
}

#[track_caller]
fn is(answer: Answer, code: &str) {
    match code {
        "" => drop(answer.is(200)),
        "invalid_key" => drop(answer.refused(401, code)),
        _ => drop(answer.refused(403, code)),
    }
}

const REFUSED: &str = "network_not_allowed";

#[test]
fn every_credential_of_a_consumer_is_good_from_its_networks_alone() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let (token, mut client) = (issuer.token().claim("client_id", "acme-app").text(), client(&proxy));
    let others = issuer.token().claim("client_id", "other").text();
    for (from, with_token, with_key, with_narrow_key) in [
        (OFFICE, "", "", ""),
        (BRANCH, "", "", REFUSED),
        (ELSEWHERE, REFUSED, REFUSED, REFUSED),
        ("::ffff:203.0.113.7", "", "", ""),
        ("::ffff:198.51.100.1", REFUSED, REFUSED, REFUSED),
        ("2001:db8:7::9", "", "", REFUSED),
        ("2001:db9::9", REFUSED, REFUSED, REFUSED),
        // Only the last address that a trusted proxy writes is the client's.
        ("203.0.113.7, 198.51.100.1", REFUSED, REFUSED, REFUSED),
        ("198.51.100.1, 203.0.113.7", "", "", ""),
        // No address at all: the proxy of ours itself.
        ("unknown", REFUSED, REFUSED, REFUSED),
    ] {
        is(client.get("/x").bearer(&token).header("x-forwarded-for", from).send(), with_token);
        is(client.get("/x").key("wide-key").header("x-forwarded-for", from).send(), with_key);
        is(client.get("/x").key("narrow-key").header("x-forwarded-for", from).send(), with_narrow_key);
        client.get("/x").bearer(&others).header("x-forwarded-for", from).send().is(200);
    }
    proxy.owes(2);
    over_http2(&proxy, async |mut sender| {
        for (from, status) in [(OFFICE, 200), (ELSEWHERE, 403)] {
            let request = Request::get("http://a.example/x").header("authorization", format!("Bearer {token}"));
            let request = request.header("x-forwarded-for", from).body(Full::<Bytes>::default()).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), status, "{from}");
        }
    });
    let records = proxy.done();
    let refused = |record: &&Value| said(record, "event.reason") == REFUSED;
    assert!(
        records
            .iter()
            .filter(refused)
            .all(|record| { said(record, "bartizan.stage") == "auth" && said(record, "bartizan.consumer") == "acme" })
    );
}

#[test]
fn a_client_gets_tokens_in_the_networks_of_its_consumer_alone() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let mut client = client(&proxy);
    let basic = format!("Basic {}", STANDARD.encode("acme-1:secret"));
    let mut asks = |from: &str| {
        let form = "grant_type=client_credentials";
        let request = client.post("/oauth/token", form).header("content-type", "application/x-www-form-urlencoded");
        request.host("127.0.0.1").header("authorization", &basic).header("x-forwarded-for", from).send()
    };
    assert_eq!(asks(ELSEWHERE).status, 403);
    let token = asks(OFFICE).is(200).json()["access_token"].as_str().unwrap().to_owned();
    let mut calls = |from| is_from(&mut client, &token, from);
    assert_eq!((calls(OFFICE), calls(ELSEWHERE)), (200, 403));
    proxy.done();
}

/// A trusted proxy is in its own networks; who is before it need not be.
#[test]
fn a_client_that_a_proxy_does_not_name_is_in_no_network() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = guarded(&upstream, &issuer).route("GET /here", "public: true, from: [127.0.0.0/8]");
    let proxy = policy.route("GET /anywhere", "public: true").start();
    let mut client = client(&proxy);
    for from in [None, Some("unknown"), Some(""), Some("127.0.0.9, unknown")] {
        let request = client.get("/here");
        let request = if let Some(from) = from { request.header("x-forwarded-for", from) } else { request };
        let answer = request.send().refused(403, REFUSED);
        assert!(answer.text().contains("does not say which client sent the request"), "{}", answer.text());
    }
    client.get("/here").header("x-forwarded-for", "127.0.0.9").send().is(200);
    client.get("/anywhere").send().is(200);
    proxy.done();
}

fn is_from(client: &mut Client, token: &str, from: &str) -> u16 {
    client.get("/x").bearer(token).header("x-forwarded-for", from).send().status
}

#[test]
fn a_route_may_be_open_to_some_networks_only() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = guarded(&upstream, &issuer).start();
    let (token, mut client) = (issuer.token().claim("client_id", "other").text(), client(&proxy));
    for (from, expected) in [("10.1.2.3", ""), ("::ffff:10.1.2.3", ""), (ELSEWHERE, REFUSED), ("::10.1.2.3", REFUSED)] {
        is(client.get("/inside").bearer(&token).header("x-forwarded-for", from).send(), expected);
        is(client.get("/open").header("x-forwarded-for", from).send(), expected);
        client.get("/tried").header("x-forwarded-for", from).send().is(200);
    }
    let records = proxy.done();
    let refused = |record: &&Value| said(record, "event.reason") == REFUSED;
    assert!(records.iter().filter(refused).all(|record| said(record, "bartizan.stage") == "scope"));
    let tried = records.iter().filter(|record| said(record, "url.path") == "/tried");
    let would: Vec<_> = tried.map(|record| said(record, "bartizan.would_refuse").to_string()).collect();
    assert_eq!(would, ["null", "null", r#"["network_not_allowed"]"#, r#"["network_not_allowed"]"#]);
}

#[test]
fn a_websocket_ends_when_its_network_is_not_allowed_any_more() {
    let (upstream, issuer) = (sockets().start(), issuer());
    let feed = "scopes: [orders:read], upgrade: { websocket: {} }";
    let policy = |of_consumer: &str, of_route: &str| {
        let consumers = "plan: free, identities: [{ issuer: corp, id: acme-app }]";
        proxy()
            .before(&upstream)
            .trusts(&issuer)
            .with(&format!("consumers: {{ acme: {{ {consumers}, from: [{of_consumer}] }} }}"))
            .route("GET /feed", &format!("{feed}, from: [{of_route}]"))
    };
    let mut proxy = policy("127.0.0.1", "127.0.0.1").start();
    let bearer = format!("authorization: Bearer {}\r\n", issuer.token().claim("client_id", "acme-app").text());
    for (of_consumer, of_route) in [("10.0.0.0/8", "127.0.0.1"), ("127.0.0.1", "10.0.0.0/8")] {
        let mut client = client(&proxy);
        assert_eq!(open(&mut client, "/feed", &bearer).word(1), "101");
        assert_eq!(hears(&mut client), "welcome");
        assert_eq!(proxy.reload_to(|_| policy(of_consumer, of_route)), Reloaded::Loaded);
        assert_eq!(closed(&mut client), (1008, REFUSED.to_owned()));
        assert_eq!(proxy.reload_to(|_| policy("127.0.0.1", "127.0.0.1")), Reloaded::Loaded);
    }
    proxy.stop();
}

#[test]
fn keys_and_consumers_of_the_store_have_networks_and_attributes() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let attributes = "attributes: { tenant: org }";
    let url = issuer.url();
    let proxy = guarded(&upstream, &issuer)
        .issuer("more", &format!("issuer: \"https://more.test\", jwks: \"{url}\", algorithms: [ES256], {attributes}"))
        .route("GET /of/{tenant}", "scopes: [orders:read], where: { path.tenant: caller.tenant }")
        .route("GET /for/{user}", "scopes: [orders:read], where: { path.user: caller.user }")
        .start();
    let admin = format!("http://{}", proxy.admin());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let command = command.env_remove("BARTIZAN_POLICY").args(arguments).args([
            "--admin",
            &admin,
            "--admin-token",
            ADMIN_TOKEN,
        ]);
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, key, said) = run(&["key", "new", "--consumer", "acme", "--from", OFFICE]);
    assert_eq!(code, Some(0), "{said}");
    let (code, _, said) = run(&[
        "consumer",
        "add",
        "new",
        "--role",
        "reader",
        "--from",
        "203.0.113.128/25",
        "--attribute",
        "tenant=t-1",
        "--attribute",
        "tenant=t-2",
    ]);
    assert_eq!(code, Some(0), "{said}");
    let (_, new_key, _) = run(&["key", "new", "--consumer", "new"]);
    let (code, _, said) = run(&["consumer", "add", "wrong", "--attribute", "tenent=t-1"]);
    assert_eq!((code, said.contains("did you mean `tenant`?")), (Some(1), true), "{said}");
    let (code, _, said) = run(&["key", "new", "--consumer", "acme", "--from", "everywhere"]);
    assert_eq!((code, said.contains("not a list of networks")), (Some(1), true), "{said}");
    let mut client = client(&proxy);
    for (key, target, from, expected) in [
        (&key, "/x", OFFICE, ""),
        (&key, "/x", BRANCH, REFUSED),
        (&new_key, "/x", BRANCH, ""),
        (&new_key, "/x", OFFICE, REFUSED),
        (&new_key, "/of/t-2", BRANCH, ""),
        (&new_key, "/of/t-3", BRANCH, "not_yours"),
    ] {
        is(client.get(target).key(key.trim()).header("x-forwarded-for", from).send(), expected);
    }
    let mut operator = operator(&proxy);
    let mut asks = |method: &str, path: &str, body: &str| {
        let answer = operator.request(method, path).bearer(ADMIN_TOKEN).body(body).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let shown = asks("GET", "/v1/consumers/new", "");
    assert_eq!(
        (&shown["from"], &shown["attributes"]),
        (&json!(["203.0.113.128/25"]), &json!({"tenant": ["t-1", "t-2"]}))
    );
    asks("PATCH", "/v1/consumers/new", r#"{"from": null, "attributes": {"tenant": ["t-3"]}}"#);
    is(client.get("/of/t-3").key(new_key.trim()).header("x-forwarded-for", ELSEWHERE).send(), "");
    is(client.get("/of/t-2").key(new_key.trim()).header("x-forwarded-for", ELSEWHERE).send(), "not_yours");
    // Null takes it away, as of every other member.
    asks("PATCH", "/v1/consumers/new", r#"{"identities": [{"issuer": "more", "id": "new-app"}]}"#);
    let shown = asks("PATCH", "/v1/consumers/new", r#"{"attributes": null, "identities": null}"#);
    assert_eq!((&shown["attributes"], &shown["identities"]), (&json!({}), &json!([])));
    is(client.get("/of/t-3").key(new_key.trim()).header("x-forwarded-for", ELSEWHERE).send(), "not_yours");
    // What every caller has is no attribute.
    let answer =
        operator.request("PATCH", "/v1/consumers/new").bearer(ADMIN_TOKEN).body(r#"{"attributes": {"user": ["x"]}}"#);
    assert!(answer.send().text().contains("no route of the policy compares this attribute"));
    proxy.stop();
}

#[test]
fn check_reports_networks_that_are_none() {
    let checked = |consumer: &str, route: &str| {
        let folder = tempfile::TempDir::new().unwrap();
        let policy = proxy().server("http://127.0.0.1:9");
        let policy = policy.with(&format!("consumers: {{ acme: {{ plan: free, roles: [], identities: [{{ certificate_san: a.example }}], {consumer} }} }}"));
        let path = policy.route("GET /x", &format!("public: true, {route}")).write(folder.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.env_remove("BARTIZAN_POLICY").arg("check").arg(path).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let key = format!("keys: [{{ id: k, sha256: \"{}\", from: [10.0.0.1] }}]", "00".repeat(32));
    for (consumer, route, expected) in [
        ("from: [10.0.0.0/8]", "from: [192.0.2.0/24, \"fd00::/8\"]", ""),
        ("from: [10.0.0.0/40]", "from: [10.0.0.0/8]", "write it with its prefix length"),
        ("from: [10.0.0.0/8]", "from: [example.com]", "this is not a network"),
        ("from: []", "from: [10.0.0.0/8]", "an empty list lets nobody in"),
        ("from: [0.0.0.0/0]", "from: [10.0.0.0/8]", "every IPv4 address is in this network"),
        (&format!("from: [192.0.2.0/24], {key}"), "from: [10.0.0.0/8]", "this key cannot be used from anywhere"),
        (&format!("from: [10.0.0.0/24], {key}"), "from: [10.0.0.0/8]", ""),
    ] {
        let said = checked(consumer, route);
        assert_eq!(
            (said.contains(expected), said.is_empty()),
            (true, expected.is_empty()),
            "{consumer} {route}: {said}"
        );
    }
    let folder = tempfile::TempDir::new().unwrap();
    let policy = proxy().server("http://127.0.0.1:9").with("trusted_proxies: [10.1.0.0/16]");
    let path = policy.route("GET /x", "public: true, from: [10.0.0.0/8]").write(folder.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
    let output = command.env_remove("BARTIZAN_POLICY").arg("check").arg(path).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("it has addresses of `trusted_proxies`"));
}
