//! The token service: tokens for the clients of the policy's consumers, refreshed, exchanged, revoked, with keys that rotate.

use std::sync::Arc;
use std::thread;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::support::client::{Answer, Client, operator};
use crate::support::issuer::{Key, Token, now};
use crate::support::proxy::ADMIN_TOKEN;
use crate::support::*;

/// Host and scheme are those that tests call; nobody compares the port.
pub const ISSUER: &str = "http://127.0.0.1";
const SECRET: &str = "a-secret-of-the-client-acme-1-for-tests";
const NEXT: &str = "another-secret-of-the-same-client-acme";
pub const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS: &str = "urn:ietf:params:oauth:token-type:access_token";

fn sha256(text: impl AsRef<[u8]>) -> String {
    digest(&SHA256, text.as_ref()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An API behind tokens of its own, with these further settings of the service, and these clients of acme.
fn serving(upstream: &Upstream, settings: &str, clients: &str) -> Policy {
    let (secret, next) = (sha256(SECRET), sha256(NEXT));
    proxy()
        .before(upstream)
        .with(&format!("token_service: {{ issuer: \"{ISSUER}\", audience: [orders-api]{settings} }}"))
        .with("store: state/")
        .with("roles: { clerk: [\"orders:read\", \"orders:write\"], auditor: [\"orders:read\"] }")
        .with(&format!(
            "consumers:\n  acme: {{ plan: free, roles: [clerk], clients: [{{ id: acme-1, secret_sha256: \"{secret}\" }}, \
             {{ id: acme-1, secret_sha256: \"{next}\" }}{clients}] }}\n  audit: {{ plan: free, roles: [auditor], clients: \
             [{{ id: audit-1, secret_sha256: \"{secret}\", introspect: true }}] }}"
        ))
        .route("GET /orders", "scopes: [\"orders:read\"]")
        .route("POST /orders", "scopes: [\"orders:write\"]")
}

fn form(parameters: &[(&str, &str)]) -> String {
    let mut form = url_encoded(parameters);
    form.pop();
    form
}

fn url_encoded(parameters: &[(&str, &str)]) -> String {
    let encoded = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    parameters.iter().map(|(name, value)| format!("{}={}&", encoded(name), encoded(value))).collect()
}

/// Sends parameters to an endpoint, with the credential of a client.
fn asks(client: &mut Client, endpoint: &str, id: &str, parameters: &[(&str, &str)]) -> Answer {
    let basic = STANDARD.encode(format!("{id}:{SECRET}"));
    sends(client, endpoint, &[("authorization", &format!("Basic {basic}"))], parameters)
}

pub fn sends(client: &mut Client, endpoint: &str, headers: &[(&str, &str)], parameters: &[(&str, &str)]) -> Answer {
    let mut request =
        client.post(endpoint, form(parameters)).header("content-type", "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.send()
}

/// An operator's request that must succeed.
fn does(operator: &mut Client, method: &str, path: &str, body: &str) -> Value {
    let request = operator.request(method, path).bearer(ADMIN_TOKEN);
    let answer = if body.is_empty() { request.send() } else { request.body(body).send() };
    assert!(matches!(answer.status, 200 | 201), "{method} {path}: {} {}", answer.status, answer.text());
    answer.json()
}

fn credentials(client: &mut Client) -> Value {
    asks(client, "/oauth/token", "acme-1", &[("grant_type", "client_credentials")]).is(200).json()
}

fn refreshed(client: &mut Client, token: &str) -> Answer {
    asks(client, "/oauth/token", "acme-1", &[("grant_type", "refresh_token"), ("refresh_token", token)])
}

fn text<'a>(response: &'a Value, name: &str) -> &'a str {
    response[name].as_str().unwrap_or_else(|| panic!("no `{name}`: {response}"))
}

pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

#[test]
fn a_client_gets_a_token_and_calls_the_api_with_it() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, "", "").start();
    let mut client = client(&proxy);
    let response = credentials(&mut client);
    assert_eq!((text(&response, "token_type"), &response["expires_in"]), ("Bearer", &json!(600)));
    let token = text(&response, "access_token");
    let echoed = client.get("/orders").bearer(token).send().is(200);
    assert_eq!(echoed.echoed("x-consumer-id"), ["acme"]);
    assert_eq!(echoed.echoed("x-consumer-scopes"), ["orders:read orders:write"]);

    let said = claims(token);
    assert_eq!(said["iss"], ISSUER);
    for (name, value) in [("sub", "acme-1"), ("client_id", "acme-1"), ("aud", "orders-api")] {
        assert_eq!(said[name], value, "{said}");
    }
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 600);
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let keys = client.get("/oauth/jwks").send().is(200).json();
    assert_eq!((&header["alg"], &header["typ"]), (&json!("ES256"), &json!("at+jwt")));
    assert_eq!(header["kid"], keys["keys"][0]["kid"]);
    assert!(keys["keys"][0].get("d").is_none(), "{keys}");

    let records = proxy.done();
    let issued = records.iter().find(|record| record["url"]["path"] == "/oauth/token").unwrap();
    assert_eq!(issued["bartizan"]["consumer"], "acme");
    assert_eq!(issued["bartizan"]["credential"], json!({"kind": "client_secret", "id": "acme-1"}));
    assert_eq!(issued["bartizan"]["scopes"]["granted"], json!(["orders:read", "orders:write"]));
    assert!(!format!("{records:?}").contains(SECRET));
}

#[test]
fn a_token_has_what_was_asked_for_and_never_more_than_the_consumer() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, "", "").start();
    let mut client = client(&proxy);
    for (who, scope, granted) in [
        ("acme-1", "orders:read", Some("orders:read")),
        ("acme-1", "orders:write  orders:read orders:read", Some("orders:read orders:write")),
        ("acme-1", "orders:refund", None),
        ("audit-1", "orders:read", Some("orders:read")),
        ("audit-1", "orders:read orders:write", None),
    ] {
        let answer = asks(&mut client, "/oauth/token", who, &[("grant_type", "client_credentials"), ("scope", scope)]);
        match granted {
            Some(granted) => assert_eq!(text(&answer.is(200).json(), "scope"), granted),
            None => assert_eq!(text(&answer.is(400).json(), "error"), "invalid_scope"),
        }
    }
    let narrow = asks(&mut client, "/oauth/token", "audit-1", &[("grant_type", "client_credentials")]).is(200).json();
    client.post("/orders", "").bearer(text(&narrow, "access_token")).send().refused(403, "insufficient_scope");
}

/// RFC 6749 §5.2.
#[test]
fn errors_are_those_of_oauth_and_are_on_record() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, ", refresh_token: {}", "").start();
    let mut client = client(&proxy);
    let good = format!("Basic {}", STANDARD.encode(format!("acme-1:{SECRET}")));
    let wrong = format!("Basic {}", STANDARD.encode("acme-1:wrong"));
    let unknown = format!("Basic {}", STANDARD.encode(format!("nobody:{SECRET}")));
    let grant = ("grant_type", "client_credentials");
    for (authorization, parameters, status, error) in [
        (Some(&wrong), vec![grant], 401, "invalid_client"),
        (Some(&unknown), vec![grant], 401, "invalid_client"),
        (Some(&"Bearer x".to_owned()), vec![grant], 401, "invalid_client"),
        (None, vec![grant], 401, "invalid_client"),
        (None, vec![grant, ("client_id", "acme-1")], 401, "invalid_client"),
        (None, vec![grant, ("client_id", "acme-1"), ("client_secret", "x")], 401, "invalid_client"),
        (Some(&good), vec![grant, ("client_secret", SECRET)], 400, "invalid_request"),
        (Some(&good), vec![grant, ("client_id", "audit-1")], 400, "invalid_request"),
        (Some(&good), vec![], 400, "invalid_request"),
        (Some(&good), vec![grant, grant], 400, "invalid_request"),
        (Some(&good), vec![("grant_type", "password")], 400, "unsupported_grant_type"),
        (Some(&good), vec![("grant_type", "refresh_token"), ("refresh_token", "x")], 400, "invalid_grant"),
        (Some(&good), vec![("grant_type", "refresh_token")], 400, "invalid_request"),
        (Some(&good), vec![grant, ("resource", "https://other.example")], 400, "invalid_target"),
        (Some(&good), vec![("grant_type", EXCHANGE)], 400, "unauthorized_client"),
    ] {
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        let answer = sends(&mut client, "/oauth/token", &headers, &parameters).is(status);
        let body = answer.json();
        assert_eq!(body["error"], error, "{parameters:?} {body}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{parameters:?}");
    }
    let json = client.post("/oauth/token", "{}").header("content-type", "application/json").send().is(415).json();
    assert_eq!(json["error"], "invalid_request");
    client.get("/oauth/token").send().is(405);
    let codes: Vec<_> =
        proxy.done().iter().filter_map(|record| record["event"]["reason"].as_str().map(str::to_owned)).collect();
    for code in ["invalid_client", "malformed_request", "unsupported_grant_type", "invalid_grant", "invalid_target"] {
        assert!(codes.iter().any(|known| known == code), "{code}: {codes:?}");
    }
}

#[test]
fn two_secrets_overlap_and_guesses_are_throttled() {
    let upstream = upstream().start();
    let policy = serving(&upstream, "", "").with("auth: { failed_attempts: 3/min }");
    let proxy = policy.start();
    let mut client = client(&proxy);
    let with = |client: &mut Client, secret: &str| {
        let parameters = [("grant_type", "client_credentials"), ("client_id", "acme-1"), ("client_secret", secret)];
        sends(client, "/oauth/token", &[], &parameters)
    };
    with(&mut client, SECRET).is(200);
    with(&mut client, NEXT).is(200);
    for _ in 0..3 {
        with(&mut client, "guess").is(401);
    }
    // The right one learns nothing either.
    assert_eq!(with(&mut client, SECRET).is(429).json()["error"], "temporarily_unavailable");
}

/// An assertion that another server takes as well would let that server impersonate the client (CVE-2025-27370).
#[test]
fn an_assertion_is_for_this_issuer_alone_and_good_once() {
    let (upstream, key) = (upstream().start(), Arc::new(Key::ec("first")));
    let jwks = json!({"keys": [key.jwk()]}).to_string();
    let proxy = serving(&upstream, "", ", { id: acme-2, jwks: acme.jwks.json }").file("acme.jwks.json", jwks).start();
    let mut client = client(&proxy);
    let good = |jti: &str| {
        Token::signed_by(Arc::clone(&key))
            .claim("iss", "acme-2")
            .claim("sub", "acme-2")
            .claim("aud", ISSUER)
            .claim("exp", now() + 60)
            .claim("jti", jti)
            .header("typ", "JWT")
    };
    let send = |client: &mut Client, assertion: &str| {
        let parameters = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", assertion),
        ];
        sends(client, "/oauth/token", &[], &parameters)
    };
    let first = good("1").text();
    let token = send(&mut client, &first).is(200).json();
    client.get("/orders").bearer(text(&token, "access_token")).send().is(200);
    for (what, assertion) in [
        ("the same again", first),
        ("the token endpoint", good("2").claim("aud", format!("{ISSUER}/oauth/token")).text()),
        ("several audiences", good("3").claim("aud", json!([ISSUER, "https://other.example"])).text()),
        ("no audience", good("4").without("aud").text()),
        ("of another client", good("5").claim("iss", "acme-1").claim("sub", "acme-1").text()),
        ("issued for another", good("6").claim("sub", "acme-1").text()),
        ("expired", good("7").claim("exp", now() - 60).text()),
        ("for days", good("8").claim("exp", now() + 100_000).text()),
        ("for ever", good("9").without("exp").text()),
        ("not yet", good("10").claim("nbf", now() + 600).text()),
        ("without a jti", good("11").without("jti").text()),
        ("an access token", good("12").header("typ", "at+jwt").text()),
        ("signed by another", good("13").forged_with(Key::ec("first")).text()),
        ("with an extension", good("14").header("crit", json!(["x"])).text()),
        ("no JWT", "a.b.c".to_owned()),
    ] {
        assert_eq!(send(&mut client, &assertion).is(401).json()["error"], "invalid_client", "{what}");
    }
    send(&mut client, &good("15").claim("aud", json!([ISSUER])).header("typ", "client-authentication+jwt").text())
        .is(200);
}

#[test]
fn a_refresh_token_is_used_once_and_reuse_ends_the_grant() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, ", refresh_token: { grace: 5m }", "").start();
    let mut client = client(&proxy);
    let first = credentials(&mut client);
    let first_token = text(&first, "refresh_token").to_owned();
    let second = refreshed(&mut client, &first_token).is(200).json();
    // A client that did not get the response sends it again: the same successor.
    assert_eq!(refreshed(&mut client, &first_token).is(200).json()["refresh_token"], second["refresh_token"]);
    let third = refreshed(&mut client, text(&second, "refresh_token")).is(200).json();
    for response in [&first, &second, &third] {
        client.get("/orders").bearer(text(response, "access_token")).send().is(200);
    }
    // Two generations later it was stolen.
    assert_eq!(refreshed(&mut client, &first_token).is(400).json()["error"], "invalid_grant");
    assert_eq!(refreshed(&mut client, text(&third, "refresh_token")).is(400).json()["error"], "invalid_grant");
    for response in [&first, &second, &third] {
        client.get("/orders").bearer(text(response, "access_token")).send().refused(401, "revoked");
    }
    // Other grants of the client are not concerned.
    let other = credentials(&mut client);
    refreshed(&mut client, text(&other, "refresh_token")).is(200);
}

#[test]
fn a_refresh_token_that_was_made_up_ends_nothing() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, ", refresh_token: {}", "").start();
    let mut client = client(&proxy);
    let response = credentials(&mut client);
    let token = text(&response, "refresh_token");
    let parts: Vec<&str> = token.split('.').collect();
    for made_up in [
        format!("{}.{}.{}.{}", parts[0], parts[1], "7", parts[3]),
        format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], "A".repeat(43)),
        format!("{}.{}.0{}.{}", parts[0], parts[1], parts[2], parts[3]),
        format!("{token}."),
        token[1..].to_owned(),
    ] {
        assert_eq!(refreshed(&mut client, &made_up).is(400).json()["error"], "invalid_grant", "{made_up}");
    }
    // It belongs to its client.
    let parameters = [("grant_type", "refresh_token"), ("refresh_token", token)];
    asks(&mut client, "/oauth/token", "audit-1", &parameters).is(400);
    refreshed(&mut client, token).is(200);
}

#[test]
fn many_refreshes_of_one_token_have_one_successor_even_after_a_crash() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, ", refresh_token: { grace: 5m }", "").start();
    let first = text(&credentials(&mut client(&proxy)), "refresh_token").to_owned();
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (mut client, first) = (client(&proxy), first.clone());
            thread::spawn(move || {
                let mut successors = Vec::new();
                for _ in 0..63 {
                    successors.push(text(&refreshed(&mut client, &first).is(200).json(), "refresh_token").to_owned());
                }
                successors
            })
        })
        .collect();
    let mut successors: Vec<_> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    assert_eq!(successors.len(), 1008);
    successors.dedup();
    assert_eq!(successors.len(), 1, "{successors:?}");
    // The process is gone between the rotation and the answer: the retry of the client works.
    let proxy = proxy.again("KILL");
    let mut client = client(&proxy);
    assert_eq!(text(&refreshed(&mut client, &first).is(200).json(), "refresh_token"), successors[0]);
    let next = refreshed(&mut client, &successors[0]).is(200).json();
    client.get("/orders").bearer(text(&next, "access_token")).send().is(200);
}

#[test]
fn a_stolen_token_is_dead_on_both_nodes() {
    let Some(redis) = redis::Server::start("", &[]) else { return };
    let upstream = upstream().start();
    let policy = serving(&upstream, ", keys: { seal: \"${env:SEAL}\" }, refresh_token: { grace: 5m }", "");
    let text_of =
        policy.yaml().replace("store: state/", &format!("store: {{ redis: \"redis://127.0.0.1:{}\" }}", redis.port));
    let policy = policy.text(&text_of).env("SEAL", "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0");
    let (one, two) = (policy.clone().start(), policy.start());
    let (mut one, mut two) = (client(&one), client(&two));
    let first = credentials(&mut one);
    let second = refreshed(&mut two, text(&first, "refresh_token")).is(200).json();
    let third = refreshed(&mut one, text(&second, "refresh_token")).is(200).json();
    two.get("/orders").bearer(text(&third, "access_token")).send().is(200);
    refreshed(&mut two, text(&first, "refresh_token")).is(400);
    two.get("/orders").bearer(text(&third, "access_token")).send().refused(401, "revoked");
    eventually("the other node refuses it", || {
        let answer = one.get("/orders").bearer(text(&third, "access_token")).send();
        (answer.status == 401).then_some(())
    });
    refreshed(&mut one, text(&third, "refresh_token")).is(400);
    // Both sign with the same keys.
    assert_eq!(one.get("/oauth/jwks").send().json(), two.get("/oauth/jwks").send().json());
}

/// What a rejected policy would have sealed, the one in force could not open.
#[test]
fn a_reload_that_is_rejected_leaves_no_signing_key_behind() {
    const SEAL: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
    const NEXT: &str = "1f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f1";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = upstream().start();
    let proxy = serving(&upstream, &format!(", keys: {{ seal: \"{SEAL}\" }}"), "").start();
    let policy = proxy.file("policy.yaml");
    let text = std::fs::read_to_string(&policy).unwrap();
    let resealed = text.replace(&format!("seal: \"{SEAL}\""), &format!("seal: \"{NEXT}\", seal_before: [\"{SEAL}\"]"));
    assert_ne!(resealed, text);
    let listen = format!("listen:\n  - {{ address: \"{}\" }}\n", taken.local_addr().unwrap());
    std::fs::write(&policy, resealed.replacen("listen:\n", &listen, 1)).unwrap();
    let keys = |proxy: &Proxy| does(&mut operator(proxy), "GET", "/v1/signing-keys", "")["items"].clone();
    let before = keys(&proxy);
    assert_eq!(before.as_array().unwrap().len(), 1);
    assert_eq!(proxy.reload(), proxy::Reloaded::Failed);
    assert_eq!(keys(&proxy), before);
    // The same, with a listener that can be had.
    std::fs::write(&policy, resealed).unwrap();
    assert_eq!(proxy.reload(), proxy::Reloaded::Loaded);
    assert_eq!(keys(&proxy).as_array().unwrap().len(), 2);
    proxy.done();
}

#[test]
fn signing_keys_rotate_and_a_leaked_one_is_worthless_at_once() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, "", "").start();
    let (mut client, mut operator) = (client(&proxy), operator(&proxy));
    let first = text(&credentials(&mut client), "access_token").to_owned();
    let next = does(&mut operator, "POST", "/v1/signing-keys/rotate", "");
    assert_eq!(next["state"], "published");
    let keys = client.get("/oauth/jwks").send().is(200);
    assert_eq!(keys.header("cache-control"), Some("public, max-age=300"));
    let kids = |answer: &Value| -> Vec<String> {
        answer["keys"].as_array().unwrap().iter().map(|key| text(key, "kid").to_owned()).collect()
    };
    assert_eq!(kids(&keys.json()).len(), 2);
    let kid = |token: &str| -> Value {
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap()["kid"].clone()
    };
    // It is published, and the first signs.
    let second = text(&credentials(&mut client), "access_token").to_owned();
    assert_eq!(kid(&second), kid(&first));
    client.get("/orders").bearer(&first).send().is(200);

    let leaked = does(&mut operator, "POST", "/v1/signing-keys/rotate", r#"{"now": true, "reason": "leaked"}"#);
    assert_eq!((&leaked["state"], &leaked["created_by"]), (&json!("active"), &json!("admin")));
    for token in [&first, &second] {
        client.get("/orders").bearer(token).send().refused(401, "invalid_token");
    }
    let third = text(&credentials(&mut client), "access_token").to_owned();
    assert_eq!(kid(&third), leaked["kid"]);
    client.get("/orders").bearer(&third).send().is(200);
    let listed = does(&mut operator, "GET", "/v1/signing-keys", "");
    let states: Vec<_> = listed["items"].as_array().unwrap().iter().map(|key| text(key, "state").to_owned()).collect();
    assert_eq!(states, ["ended", "ended", "active"]);
    assert!(!listed.to_string().contains("sealed"), "{listed}");
    let record = proxy.done().into_iter().rfind(|record| record["event"]["action"] == "signing_key_rotated").unwrap();
    assert_eq!(record["bartizan"]["change"]["reason"], "leaked", "{record}");
}

#[test]
fn tokens_are_introspected_and_revoked_by_those_they_concern() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, ", refresh_token: {}", ", { id: acme-3, secret_sha256: \"SECRET\" }");
    let proxy = proxy.clone().text(&proxy.yaml().replace("\"SECRET\"", &format!("\"{}\"", sha256(SECRET)))).start();
    let mut client = client(&proxy);
    let response = credentials(&mut client);
    let (access, refresh) = (text(&response, "access_token"), text(&response, "refresh_token"));
    let active = |client: &mut Client, who: &str, token: &str| {
        asks(client, "/oauth/introspect", who, &[("token", token)]).is(200).json()
    };
    for token in [access, refresh] {
        for (who, expected) in [("acme-1", true), ("audit-1", true), ("acme-3", false)] {
            assert_eq!(active(&mut client, who, token)["active"], expected, "{who}");
        }
    }
    let facts = active(&mut client, "audit-1", access);
    for (name, value) in
        [("client_id", json!("acme-1")), ("scope", json!("orders:read orders:write")), ("iss", json!(ISSUER))]
    {
        assert_eq!(facts[name], value, "{facts}");
    }
    assert_eq!(active(&mut client, "acme-1", "nonsense"), json!({"active": false}));

    // Of another client: no error, and no effect.
    asks(&mut client, "/oauth/revoke", "acme-3", &[("token", access)]).is(200);
    asks(&mut client, "/oauth/revoke", "acme-3", &[("token", refresh)]).is(200);
    client.get("/orders").bearer(access).send().is(200);
    asks(&mut client, "/oauth/revoke", "acme-1", &[("token", access)]).is(200);
    client.get("/orders").bearer(access).send().refused(401, "revoked");
    assert_eq!(active(&mut client, "acme-1", access)["active"], false);
    let next = refreshed(&mut client, refresh).is(200).json();
    asks(&mut client, "/oauth/revoke", "acme-1", &[("token", text(&next, "refresh_token"))]).is(200);
    client.get("/orders").bearer(text(&next, "access_token")).send().refused(401, "revoked");
    refreshed(&mut client, text(&next, "refresh_token")).is(400);
}

#[test]
fn a_suspended_or_revoked_consumer_gets_no_tokens() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, ", refresh_token: {}", "").start();
    let (mut client, mut operator) = (client(&proxy), operator(&proxy));
    let refresh = text(&credentials(&mut client), "refresh_token").to_owned();
    does(&mut operator, "PUT", "/v1/consumers/acme/suspension", "{}");
    let refused = asks(&mut client, "/oauth/token", "acme-1", &[("grant_type", "client_credentials")]).is(400);
    assert_eq!(refused.json()["error"], "unauthorized_client");
    refreshed(&mut client, &refresh).is(400);
    let seen = asks(&mut client, "/oauth/introspect", "audit-1", &[("token", &refresh)]).is(200).json();
    assert_eq!(seen["active"], false, "{seen}");
    does(&mut operator, "DELETE", "/v1/consumers/acme/suspension", "");
    refreshed(&mut client, &refresh).is(200);
    does(&mut operator, "POST", "/v1/revocations", r#"{"consumer": "acme"}"#);
    let refused = asks(&mut client, "/oauth/token", "acme-1", &[("grant_type", "client_credentials")]).is(401);
    assert_eq!(refused.json()["error"], "invalid_client");
}

/// RFC 9449 §5: a client with credentials of its own may go on with another key, but not without one.
#[test]
fn a_proof_binds_the_token_to_its_key() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, ", refresh_token: {}", "").start();
    let (mut client, key) = (client(&proxy), Arc::new(Key::ec("holder")));
    let basic = format!("Basic {}", STANDARD.encode(format!("acme-1:{SECRET}")));
    let proof = |key: &Arc<Key>| Token::proof(key, "POST", &proxy.url("/oauth/token")).text();
    let grant = [("grant_type", "client_credentials")];
    let used = proof(&key);
    let response =
        sends(&mut client, "/oauth/token", &[("authorization", &basic), ("dpop", &used)], &grant).is(200).json();
    assert_eq!(text(&response, "token_type"), "DPoP");
    let token = text(&response, "access_token");
    assert_eq!(claims(token)["cnf"]["jkt"], key.thumbprint());
    client.get("/orders").bearer(token).send().refused(401, "invalid_dpop_proof");
    let shown = Token::proof(&key, "GET", &proxy.url("/orders")).ath(token).text();
    client.get("/orders").dpop(token, shown).send().is(200);

    let refused = sends(&mut client, "/oauth/token", &[("authorization", &basic), ("dpop", &used)], &grant).is(400);
    assert_eq!(refused.json()["error"], "invalid_dpop_proof", "a proof is good once");
    let again = [("grant_type", "refresh_token"), ("refresh_token", text(&response, "refresh_token"))];
    let refused = sends(&mut client, "/oauth/token", &[("authorization", &basic)], &again).is(400);
    assert_eq!(refused.json()["error"], "invalid_grant");
    let other = Arc::new(Key::ec("other"));
    let response = sends(&mut client, "/oauth/token", &[("authorization", &basic), ("dpop", &proof(&other))], &again)
        .is(200)
        .json();
    assert_eq!(claims(text(&response, "access_token"))["cnf"]["jkt"], other.thumbprint());
}

/// RFC 8705: the client is known by its certificate, and its token is bound to that.
#[test]
fn a_certificate_is_the_credential_of_a_client() {
    let (upstream, authority) = (upstream().start(), authority());
    let server = authority.certifies(&["localhost"]);
    let (own, other) = (authority.certifies(&["acme.test"]), authority.certifies(&["other.test"]));
    let thumbprint: String = own.thumbprint().iter().map(|byte| format!("{byte:02x}")).collect();
    let proxy = serving(&upstream, "", &format!(", {{ id: acme-4, certificate: \"sha256:{thumbprint}\" }}"))
        .listen("{ address: \"127.0.0.1:0\", tls: { certificate: server.crt, key: server.key, client_ca: ca.pem } }")
        .file("server.crt", &*server.certificate)
        .file("server.key", &*server.key)
        .file("ca.pem", authority.pem())
        .start();
    let showing = |certified: &certificates::Certified| client(&proxy).tls(authority.client_showing(certified));
    let parameters = [("grant_type", "client_credentials"), ("client_id", "acme-4")];
    let response = sends(&mut showing(&own), "/oauth/token", &[], &parameters).is(200).json();
    let token = text(&response, "access_token");
    assert_eq!(claims(token)["cnf"]["x5t#S256"], URL_SAFE_NO_PAD.encode(own.thumbprint()));
    showing(&own).get("/orders").bearer(token).send().is(200);
    showing(&other).get("/orders").bearer(token).send().refused(401, "invalid_token");
    sends(&mut showing(&other), "/oauth/token", &[], &parameters).is(401);
    sends(&mut client(&proxy).tls(authority.client(&[])), "/oauth/token", &[], &parameters).is(401);
    let mut operator = operator(&proxy);
    does(&mut operator, "POST", "/v1/revocations", &json!({"certificate": format!("sha256:{thumbprint}")}).to_string());
    showing(&own).get("/orders").bearer(token).send().refused(401, "revoked");
    sends(&mut showing(&own), "/oauth/token", &[], &parameters).is(401);
    let metadata = showing(&own).get("/.well-known/oauth-authorization-server").send().is(200).json();
    assert_eq!(metadata["tls_client_certificate_bound_access_tokens"], true);
}

/// RFC 8693: a token of a known issuer becomes a short one of our own, with no more than both may have.
#[test]
fn a_token_of_another_issuer_is_exchanged_for_less() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy =
        serving(&upstream, "", ", { id: acme-5, secret_sha256: \"SECRET\", exchange: [corp] }").trusts(&issuer);
    let proxy = policy.clone().text(&policy.yaml().replace("\"SECRET\"", &format!("\"{}\"", sha256(SECRET)))).start();
    let mut client = client(&proxy);
    let exchange = |client: &mut Client, who: &str, token: &str, more: &[(&str, &str)]| {
        let parameters = [("grant_type", EXCHANGE), ("subject_token", token), ("subject_token_type", ACCESS)];
        asks(client, "/oauth/token", who, &[&parameters[..], more].concat())
    };
    let subject = issuer.token().sub("alice").scope("orders:read payroll").claim("exp", now() + 100).text();
    let response = exchange(&mut client, "acme-5", &subject, &[]).is(200).json();
    assert_eq!((text(&response, "scope"), text(&response, "issued_token_type")), ("orders:read", ACCESS));
    assert!(response["expires_in"].as_i64().unwrap() <= 100 && response.get("refresh_token").is_none(), "{response}");
    let said = claims(text(&response, "access_token"));
    assert_eq!((&said["client_id"], &said["act"]["sub"]), (&json!("acme-5"), &json!("acme-5")));
    assert_eq!(said["sub"], "corp:alice");
    let echoed = client.get("/orders").bearer(text(&response, "access_token")).send().is(200);
    assert_eq!(echoed.echoed("x-consumer-id"), ["acme"]);
    client.post("/orders", "").bearer(text(&response, "access_token")).send().refused(403, "insufficient_scope");

    for (who, token, more, error) in [
        ("acme-5", subject.as_str(), vec![("scope", "orders:write")], "invalid_scope"),
        ("acme-5", subject.as_str(), vec![("scope", "payroll")], "invalid_scope"),
        ("acme-1", subject.as_str(), vec![], "unauthorized_client"),
        ("acme-5", &issuer.token().claim("exp", now() - 600).text(), vec![], "invalid_grant"),
        ("acme-5", &issuer.token().forged_with(Key::ec("first")).text(), vec![], "invalid_grant"),
        ("acme-5", text(&credentials(&mut client), "access_token"), vec![], "invalid_grant"),
        ("acme-5", "opaque", vec![], "invalid_grant"),
        ("acme-5", subject.as_str(), vec![("actor_token", "x")], "invalid_request"),
    ] {
        assert_eq!(exchange(&mut client, who, token, &more).is(400).json()["error"], error, "{who} {more:?}");
    }
    // What ends the token ends what it was exchanged for.
    let mut operator = operator(&proxy);
    does(&mut operator, "POST", "/v1/revocations", r#"{"subject": "alice", "issuer": "corp"}"#);
    client.get("/orders").bearer(text(&response, "access_token")).send().refused(401, "revoked");
    exchange(&mut client, "acme-5", &subject, &[]).is(400);
}

/// A token that is exchanged is of no more tenants than it was, and the new one neither.
#[test]
fn an_exchanged_token_keeps_the_attributes_of_the_one_before() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = serving(&upstream, "", ", { id: acme-5, secret_sha256: \"SECRET\", exchange: [corp] }")
        .issuer(
            "corp",
            &format!(
                "jwks: \"{}\", algorithms: [ES256], default_plan: free, attributes: {{ tenant: org }}",
                issuer.url()
            ),
        )
        .route("GET /of/{tenant}", "scopes: [\"orders:read\"], where: { path.tenant: caller.tenant }");
    let yaml = policy.yaml().replace("\"SECRET\"", &format!("\"{}\"", sha256(SECRET)));
    let proxy = policy
        .clone()
        .text(&yaml.replace("acme: { plan: free,", "acme: { plan: free, attributes: { tenant: [a, b] },"))
        .start();
    let mut client = client(&proxy);
    let own = credentials(&mut client);
    for (tenant, status) in [("a", 200), ("b", 200), ("c", 403)] {
        let asked = client.get(&format!("/of/{tenant}")).bearer(text(&own, "access_token"));
        assert_eq!(asked.send().status, status, "{tenant}");
    }
    for (org, allowed) in [(json!("a"), "a"), (json!(["b", "c"]), "b"), (json!("c"), ""), (json!(null), "")] {
        let subject = issuer.token().claim("org", org).text();
        let parameters = [("grant_type", EXCHANGE), ("subject_token", &subject), ("subject_token_type", ACCESS)];
        let token = asks(&mut client, "/oauth/token", "acme-5", &parameters).is(200).json();
        for tenant in ["a", "b", "c"] {
            let status = client.get(&format!("/of/{tenant}")).bearer(text(&token, "access_token")).send().status;
            assert_eq!(status, if tenant == allowed { 200 } else { 403 }, "{tenant} {allowed}");
        }
    }
}

#[test]
fn metadata_says_where_everything_is() {
    let upstream = upstream().start();
    let policy = serving(&upstream, ", refresh_token: {}", "");
    let policy = policy
        .clone()
        .text(&policy.yaml().replace(&format!("issuer: \"{ISSUER}\""), "issuer: \"http://127.0.0.1:8080/tenant\""));
    let proxy = policy.start();
    let mut client = client(&proxy);
    client.get("/.well-known/oauth-authorization-server").send().is(404);
    let metadata = client.get("/.well-known/oauth-authorization-server/tenant").send().is(200).json();
    assert_eq!(metadata["issuer"], "http://127.0.0.1:8080/tenant");
    assert_eq!(metadata["token_endpoint"], "http://127.0.0.1:8080/tenant/oauth/token");
    assert_eq!(metadata["grant_types_supported"], json!(["client_credentials", "refresh_token", EXCHANGE]));
    asks(&mut client, "/tenant/oauth/token", "acme-1", &[("grant_type", "client_credentials")]).is(200);
}

#[test]
fn what_cannot_work_is_told_when_the_policy_is_checked() {
    let upstream = upstream().start();
    let good = serving(&upstream, "", "").yaml();
    for (from, to, problem) in [
        ("store: state/\n", "", "needs a store"),
        ("store: state/", "store: { redis: \"redis://127.0.0.1:1\" }", "`seal` is missing"),
        (ISSUER, "http://api.example.com", "an https URL"),
        ("audience: [orders-api]", "audience: [orders-api], keys: { seal: short }", "can be guessed"),
        ("audience: [orders-api]", "audience: [orders-api], keys: { seal_before: [short] }", "can be guessed"),
        ("audience: [orders-api]", "audience: [orders-api], access_token: { lifetime: 2d }", "1m to 24h"),
        (
            "audience: [orders-api]",
            "audience: [orders-api], access_token: { algorithm: RS256 }",
            "no algorithm `RS256`",
        ),
        ("audience: [orders-api]", "audience: [orders-api], refresh_token: { grace: 10m }", "at most 5m"),
        ("audience: [orders-api]", "audience: []", "`audience` is missing"),
        ("id: audit-1", "id: acme-1", "another client has this id"),
        ("introspect: true", "jwks: x.json", "one of them only"),
        ("GET /orders:", "POST /oauth/token:", "matches the same requests"),
        ("  orders:\n    upstream:", "  token_service:\n    upstream:", "taken by the token service"),
    ] {
        let mut text = good.replacen(from, to, 1);
        if problem.starts_with("matches") {
            text = text.replace("  orders:\n    upstream:", "  orders:\n    hosts: [127.0.0.1]\n    upstream:");
        }
        assert_ne!(text, good, "{from}");
        let said = proxy().text(&text).fails();
        assert!(said.contains(problem), "{problem}: {said}");
    }
}

#[test]
fn it_is_explained_and_tested_without_a_store() {
    let (upstream, folder) = (upstream().start(), tempfile::tempdir().unwrap());
    let policy = serving(&upstream, "", "").write(folder.path());
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_bartizan")).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let policy = policy.to_str().unwrap();
    let (code, said) = run(&["explain", "--policy", policy, "--host", "127.0.0.1", "POST", "/oauth/token"]);
    assert!(code == Some(0) && said.contains("answered by the token service"), "{said}");
    let (_, said) = run(&["check", policy]);
    assert!(said.contains("token_service → this proxy"), "{said}");
    let tests = folder.path().join("policy.test.yaml");
    let text = "policy: policy.yaml\ncallers: { acme: { issuer: token_service, id: acme-1, scopes: [\"orders:read\"] } }\ntests:\n  \
        - { name: reads, as: acme, request: GET /orders, expect: { status: 200, consumer: acme } }\n";
    std::fs::write(&tests, text).unwrap();
    let (code, said) = run(&["test", tests.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!folder.path().join("state").exists());
}

/// A token that is bound to a certificate is not exchanged for one that is bound to nothing.
#[test]
fn an_exchanged_token_keeps_its_binding() {
    let (upstream, issuer, authority) = (upstream().start(), issuer(), authority());
    let (server, shown) = (authority.certifies(&["localhost"]), authority.certifies(&["app.test"]));
    let policy =
        serving(&upstream, "", ", { id: acme-5, secret_sha256: \"SECRET\", exchange: [corp] }").trusts(&issuer);
    let policy = policy
        .listen("{ address: \"127.0.0.1:0\", tls: { certificate: server.crt, key: server.key, client_ca: ca.pem } }")
        .file("server.crt", &*server.certificate)
        .file("server.key", &*server.key)
        .file("ca.pem", authority.pem());
    let proxy = policy.clone().text(&policy.yaml().replace("\"SECRET\"", &format!("\"{}\"", sha256(SECRET)))).start();
    let thumbprint = URL_SAFE_NO_PAD.encode(shown.thumbprint());
    let subject = issuer.token().scope("orders:read").claim("cnf", json!({"x5t#S256": thumbprint})).text();
    let parameters = [("grant_type", EXCHANGE), ("subject_token", subject.as_str()), ("subject_token_type", ACCESS)];
    let mut with = client(&proxy).tls(authority.client_showing(&shown));
    let mut without = client(&proxy).tls(authority.client(&[]));
    let response = asks(&mut with, "/oauth/token", "acme-5", &parameters).is(200).json();
    let token = text(&response, "access_token");
    assert_eq!(claims(token)["cnf"]["x5t#S256"], thumbprint);
    with.get("/orders").bearer(token).send().is(200);
    without.get("/orders").bearer(token).send().refused(401, "invalid_token");
    asks(&mut without, "/oauth/token", "acme-5", &parameters).is(400);
}

/// Guesses that come at once are not all tried: none is let through before its secret can be looked at.
#[test]
fn guesses_at_the_same_time_are_throttled_as_well() {
    let upstream = upstream().start();
    let proxy = serving(&upstream, "", "").with("auth: { failed_attempts: 3/min }").start();
    let body = form(&[("grant_type", "client_credentials"), ("client_id", "acme-1"), ("client_secret", "guess")]);
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (first, last) = body.split_at(body.len() - 1);
    let mut clients: Vec<_> = (0..10).map(|_| client(&proxy)).collect();
    for client in &mut clients {
        client.raw(format!("{head}{first}"), 1);
    }
    let answers = clients.iter_mut().map(|client| client.more(last).answer().status);
    assert_eq!(answers.filter(|status| *status == 401).count(), 3);
}
