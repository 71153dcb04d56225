//! Claims that the upstream gets in headers, and nobody else can send.

use http_body_util::{BodyExt, Empty};

use crate::http2::over_http2;
use crate::support::*;

/// An issuer whose tokens say the email and the groups of users.
fn with_claims(upstream: &Upstream, issuer: &issuer::Issuer, headers: &str) -> Policy {
    let keys = format!("jwks: \"{}\", algorithms: [ES256], max_lifetime: 1h, default_plan: free", issuer.url());
    proxy()
        .before(upstream)
        .issuer("corp", &format!("{keys}, forward_claims: {{ {headers} }}"))
        .route("GET /x", "scopes: [orders:read]")
        .open("GET /open")
}

const HEADERS: &str = "X-User-Email: email, X-User-Groups: [/realm/groups, groups]";

#[test]
fn the_upstream_gets_claims_and_never_those_of_the_caller() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = with_claims(&upstream, &issuer, HEADERS).start();
    let mut client = client(&proxy);
    let token = issuer.token().claim("email", "jo@example.com").claim("groups", json!(["staff", "a,b", "Büro"])).text();
    // The second time it is known.
    for _ in 0..2 {
        let forged = client.get("/x").bearer(&token).header("x-user-email", "root@example.com");
        let answer = forged.header("X-User-Groups", "admin").send().is(200);
        assert_eq!(answer.echoed("x-user-email"), ["jo@example.com"]);
        assert_eq!(answer.echoed("x-user-groups"), ["staff,a%2Cb,B%C3%BCro"]);
    }
    let without = client.get("/x").bearer(issuer.token()).header("x-user-email", "root@example.com").send().is(200);
    assert_eq!(without.echoed("x-user-email"), [""; 0]);
    let open = client.get("/open").header("x-user-email", "root@example.com").send().is(200);
    assert_eq!(open.echoed("x-user-email"), [""; 0]);
    client.get("/open").header("x_user_email", "root@example.com").send().refused(400, "malformed_request");
    let named = client.get("/x").bearer(&token).header("connection", "x-user-email").send().is(200);
    assert_eq!(named.echoed("x-user-email"), ["jo@example.com"]);
    let records = proxy.done();
    assert!(!Value::from(records).to_string().contains("jo@example.com"));
}

#[test]
fn a_token_whose_claim_cannot_be_forwarded_is_refused() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = with_claims(&upstream, &issuer, HEADERS).start();
    let mut client = client(&proxy);
    for claim in [json!(null), json!({"a": 1}), json!(1.5), json!("x".repeat(5000))] {
        let answer = client.get("/x").bearer(issuer.token().claim("email", claim)).send().refused(401, "invalid_token");
        assert!(answer.text().contains("the claim for the header `x-user-email`"), "{}", answer.text());
    }
    let elsewhere = issuer.token().claim("realm", "not an object");
    client.get("/x").bearer(elsewhere).send().refused(401, "invalid_token");
    upstream.saw_nothing();
    proxy.done();
}

#[test]
fn claims_go_on_from_http_2_too() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let proxy = with_claims(&upstream, &issuer, HEADERS).start();
    let token = issuer.token().claim("email", "jo@example.com").text();
    proxy.owes(1);
    over_http2(&proxy, async |mut sender| {
        let request = http::Request::get("http://a.example/x").header("authorization", format!("Bearer {token}"));
        let request = request.header("x-user-email", "root@example.com").body(Empty::<bytes::Bytes>::new());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    });
    assert_eq!(upstream.only().header("x-user-email"), Some("jo@example.com"));
    proxy.done();
}

#[test]
fn headers_that_have_another_meaning_cannot_have_claims() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = |headers: &str| with_claims(&upstream, &issuer, headers);
    for (headers, expected) in [
        ("X-Consumer-Id: sub", "the proxy says with it who calls"),
        ("Transfer-Encoding: sub", "it frames the message"),
        ("Host: sub", "`upstream.host` is for that"),
        ("X-Api-Key: sub", "it carries credentials"),
        ("Authorization: sub", "it carries credentials"),
        ("Cookie: sub", "it carries credentials"),
        ("X-User: sub, x_user: name", "servers read this header and another one here as the same"),
        ("\"a b\": sub", "this is not the name of a header"),
        ("X-User: []", "this list names no claim"),
    ] {
        let said = policy(headers).checked();
        assert!(said.contains(expected), "{headers}: {said}");
    }
    let set = policy("X-User: sub").api("headers: { request: { set: { x-user: me } } }").checked();
    assert!(set.contains("`headers.request` of the API `orders` names it"), "{set}");
    let kept = policy("X-User: sub").api("headers: { request: { keep: [x-user] } }").checked();
    assert!(kept.contains("`headers.request` of the API `orders` names it"), "{kept}");
    let compares = "scopes: [a], where: { header.x-user: caller.user }";
    let compared = policy("X-User: sub").route("GET /compared", compares).checked();
    assert!(compared.contains("validates or compares what callers send in it"), "{compared}");
    assert_eq!(policy(HEADERS).checked(), "");
}
