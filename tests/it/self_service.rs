//! Invitations, and what callers may see and do for themselves.

use std::process::Command;
use std::sync::Barrier;
use std::thread;

use crate::client_invitations::{command, pasted, shells};
use crate::support::client::{Answer, Client, operator};
use crate::support::proxy::{ADMIN_TOKEN, of_requests};
use crate::support::redis::Server;
use crate::support::*;

pub const CLAIM: &str = "/.bartizan/invitations/claim";

/// An API with two consumers, of which one may refund, and routes of several kinds.
fn serving(upstream: &Upstream) -> Policy {
    proxy()
        .before(upstream)
        .with("store: state/")
        .with("self_service: { path: /.bartizan, rate: 1000/s }")
        .with("roles: { clerk: [\"orders:read\", \"orders:write\"], finance: [\"orders:read\", \"orders:refund\"] }")
        .with(
            "consumers: { acme: { plan: free, roles: [clerk] }, bank: { plan: gold, roles: [finance] }, \
             slow: { plan: slow, roles: [clerk] } }",
        )
        .plan("gold: { rate: 50/s, quota: 1000/day }")
        .plan("slow: { rate: 1/h, burst: 3 }")
        .route("GET /orders", "scopes: [\"orders:read\"], rate: 500/s")
        .route("POST /orders/{id}:refund", "scopes: [\"orders:refund\"]")
        .route("GET /bank", "scopes: [\"orders:read\"], only: [bank]")
        .open("GET /status")
}

/// Asks the operators' listener; the answer must have this status.
#[track_caller]
pub fn operates(proxy: &Proxy, method: &str, path: &str, body: Value, status: u16) -> Value {
    let mut operator = operator(proxy);
    let request = operator.request(method, path).bearer(ADMIN_TOKEN);
    let answer = match body {
        Value::Null => request.send(),
        body => request.body(body.to_string()).send(),
    };
    assert_eq!(answer.status, status, "{}", answer.text());
    answer.json()
}

/// Invites a consumer; returns the id and the code.
#[track_caller]
pub fn invite(proxy: &Proxy, consumer: &str, with: Value) -> (String, String) {
    let made = operates(proxy, "POST", &format!("/v1/consumers/{consumer}/invitations"), with, 201);
    (made["id"].as_str().unwrap().to_owned(), made["code"].as_str().unwrap().to_owned())
}

pub fn claim(client: &mut Client, code: &str) -> Answer {
    client.post(CLAIM, json!({"code": code}).to_string()).send()
}

/// Invites a consumer, and claims its key.
#[track_caller]
fn claimed(proxy: &Proxy, consumer: &str, with: Value) -> (String, String) {
    let (_, code) = invite(proxy, consumer, with);
    let made = claim(&mut client(proxy), &code).is(201).json();
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

/// Issue 19: invited, claimed, called and rotated, with nothing but what the partner was given; and all of it is on record.
#[test]
fn a_partner_claims_a_key_calls_and_rotates_it() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let (invitation, code) = invite(&proxy, "acme", json!({"expires": "1h", "note": "case 7"}));
    let mut partner = client(&proxy);
    let made = claim(&mut partner, &code).is(201);
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let made = made.json();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with(&format!("bz_{id}_")) && made["header"] == "x-api-key" && made["consumer"] == "acme");
    partner.get("/orders").key(key).send().is(200);

    let me = partner.get("/.bartizan/me").key(key).send().is(200).json();
    assert_eq!((&me["consumer"], &me["plan"]), (&json!("acme"), &json!("free")));
    assert_eq!(me["scopes"], json!(["orders:read", "orders:write"]));
    assert_eq!((&me["keys"][0]["id"], &me["keys"][0]["state"]), (&json!(id), &json!("active")));
    let own = me["limits"].as_array().unwrap().iter().find(|limit| limit["route"] == "GET /orders").unwrap();
    assert!(own["allowed"] == 500 && own["remaining"].as_u64().unwrap() >= 499, "{own}");

    let rotated = partner.post(made["rotate"].as_str().unwrap(), r#"{"overlap": "1h"}"#).key(key).send().is(201).json();
    assert_eq!(rotated["replaces"], id);
    let next = rotated["key"].as_str().unwrap();
    for key in [key, next] {
        partner.get("/orders").key(key).send().is(200);
    }
    let me = partner.get("/.bartizan/me").key(next).send().is(200).json();
    let ends: Vec<&str> = me["keys"].as_array().unwrap().iter().filter_map(|key| key["ends"].as_str()).collect();
    assert_eq!(ends.len(), 2, "{me:#}");
    assert!(ends.contains(&rotated["replaced_expires"].as_str().unwrap()));

    let listed = operates(&proxy, "GET", "/v1/consumers/acme/invitations", Value::Null, 200);
    let listed = &listed["items"][0];
    assert_eq!(
        (&listed["state"], &listed["key"], &listed["claimed_from"]),
        (&json!("claimed"), &json!(id), &json!("127.0.0.1"))
    );
    assert!(!listed.to_string().contains(&code));

    let records = proxy.done();
    let of = |action: &str| records.iter().find(|record| said(record, "event.action") == action).unwrap();
    let claim = of("invitation_claimed");
    assert_eq!(said(claim, "bartizan.target"), &json!(format!("acme {invitation} -> {id}")));
    assert_eq!(said(claim, "bartizan.consumer"), "acme");
    assert_eq!(said(claim, "bartizan.credential.kind"), "invitation");
    assert_eq!(said(claim, "bartizan.change.reason"), "case 7");
    assert_eq!(said(of("key_rotated"), "bartizan.credential.id"), id);
    assert_eq!(said(of("invitation_created"), "user.id"), "admin");
    let all = format!("{records:?}");
    for secret in [&code, key, next] {
        assert!(!all.contains(secret), "a secret is on record");
    }
}

/// It is made all the same, and no operator is left to wonder.
#[test]
fn a_change_is_on_record_as_what_became_of_it_though_its_caller_has_left() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let mut claimed = 0;
    // Some claims begin before it is noticed that their caller has left, and others do not.
    for number in 1..=100 {
        let (id, code) = invite(&proxy, "acme", Value::Null);
        let body = json!({"code": code}).to_string();
        let head = format!(
            "POST {CLAIM} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        client(&proxy).raw(head + &body, 1).leaves();
        eventually("it has left", || (of_requests(&proxy.records()).count() == number).then_some(()));
        let withdrawn = operator(&proxy).request("DELETE", &format!("/v1/invitations/{id}")).bearer(ADMIN_TOKEN).send();
        claimed += usize::from(withdrawn.status == 409);
        if claimed == 3 {
            break;
        }
    }
    let records = proxy.done();
    let outcomes: Vec<_> = records
        .iter()
        .filter(|record| said(record, "event.action") == "invitation_claimed")
        .map(|record| said(record, "event.outcome").clone())
        .collect();
    assert_eq!(outcomes, vec![json!("success"); 3]);
}

/// Every way in which a claim ends without a key, what the partner reads, and what operators see of it.
#[test]
fn a_code_that_is_not_good_gives_nothing() {
    let upstream = upstream().start();
    let mut proxy = serving(&upstream).start();
    let mut partner = client(&proxy);
    let (_, used) = invite(&proxy, "acme", Value::Null);
    claim(&mut partner, &used).is(201);
    let again = claim(&mut partner, &used).refused(410, "invitation_ended");
    for part in ["claimed before", "the answer got lost", "that was not you"] {
        assert!(again.text().contains(part), "{}", again.text());
    }

    let (withdrawn, code) = invite(&proxy, "acme", Value::Null);
    operates(&proxy, "DELETE", &format!("/v1/invitations/{withdrawn}"), Value::Null, 200);
    assert!(claim(&mut partner, &code).refused(410, "invitation_ended").text().contains("withdrawn"));
    operates(&proxy, "DELETE", "/v1/invitations/none", Value::Null, 404);
    let claimed = operates(&proxy, "GET", "/v1/invitations", Value::Null, 200);
    let claimed = claimed["items"].as_array().unwrap().iter().find(|one| one["state"] == "claimed").unwrap().clone();
    operates(&proxy, "DELETE", &format!("/v1/invitations/{}", claimed["id"].as_str().unwrap()), Value::Null, 409);

    let (_, elsewhere) = invite(&proxy, "acme", json!({"from": ["203.0.113.0/24"]}));
    claim(&mut partner, &elsewhere).refused(403, "network_not_allowed");
    let (_, suspended) = invite(&proxy, "acme", Value::Null);
    operates(&proxy, "PUT", "/v1/consumers/acme/suspension", json!({"until": "1h"}), 200);
    claim(&mut partner, &suspended).refused(403, "consumer_suspended");
    operates(&proxy, "DELETE", "/v1/consumers/acme/suspension", Value::Null, 200);
    let (_, revoked) = invite(&proxy, "bank", Value::Null);
    operates(&proxy, "POST", "/v1/revocations", json!({"consumer": "bank"}), 201);
    claim(&mut partner, &revoked).refused(401, "revoked");

    // The invitation was to another plan, and to a consumer that is gone.
    let (_, planned) = invite(&proxy, "slow", Value::Null);
    proxy.reload_to(|policy| {
        let text = proxy_text(&policy, "slow: { plan: slow,", "slow: { plan: gold,");
        policy.text(&text)
    });
    assert!(claim(&mut partner, &planned).refused(410, "invitation_ended").text().contains("another plan"));
    operates(&proxy, "POST", "/v1/consumers", json!({"name": "gone", "roles": ["clerk"]}), 201);
    let (_, gone) = invite(&proxy, "gone", Value::Null);
    operates(&proxy, "DELETE", "/v1/consumers/gone", Value::Null, 200);
    claim(&mut partner, &gone).refused(401, "invalid_invitation");

    let records = proxy.done();
    let refused: Vec<&Value> =
        records.iter().filter(|record| said(record, "event.reason") == "invitation_ended").collect();
    assert!(refused.iter().all(|record| said(record, "bartizan.credential.kind") == "invitation"), "{refused:#?}");
    assert_eq!(said(refused[0], "bartizan.consumer"), "acme");
}

pub fn proxy_text(policy: &Policy, from: &str, to: &str) -> String {
    let text = policy.yaml();
    assert!(text.contains(from), "{text}");
    text.replace(from, to)
}

/// What a claim must look like, and that guesses have an end.
#[test]
fn claims_are_strict_and_guesses_are_throttled() {
    let upstream = upstream().start();
    let policy = serving(&upstream).with("auth: { failed_attempts: 6/h }");
    let proxy = policy.start();
    let (_, code) = invite(&proxy, "acme", Value::Null);
    let body = json!({"code": code}).to_string();
    let mut partner = client(&proxy);
    let form = partner.request("POST", CLAIM).header("content-type", "text/plain").body(&body);
    form.send().refused(415, "unsupported_media_type");
    for (name, value) in [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
        partner.post(CLAIM, &body).header(name, value).send().refused(403, "cors_refused");
    }
    partner.post(CLAIM, "{}").send().refused(422, "schema_violation");
    partner.post(CLAIM, json!({"code": code, "more": 1}).to_string()).send().refused(422, "schema_violation");
    let broken = partner.post(CLAIM, format!("{{\"code\": \"{code}\"")).send().refused(400, "malformed_body");
    assert!(!broken.text().contains(&code));
    partner.post(CLAIM, " ".repeat(5000)).send().refused(413, "body_too_large");
    partner.get(CLAIM).send().refused(405, "method_not_allowed");
    partner.request("OPTIONS", CLAIM).send().refused(405, "method_not_allowed");

    // With another letter in one place, and not by chance the same.
    let (start, rest) = code.split_at(code.len() - 20);
    let guess = format!("{start}{}{}", if rest.starts_with('x') { "y" } else { "x" }, &rest[1..]);
    let mut refused = 0;
    while claim(&mut partner, &guess).status == 401 {
        refused += 1;
    }
    assert_eq!(refused, 6);
    claim(&mut partner, &code).refused(429, "too_many_failures");
    proxy.done();
}

/// Of many who claim one code at once, one gets a key.
#[test]
fn a_code_is_claimed_once_however_many_try() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let (_, code) = invite(&proxy, "acme", Value::Null);
    races(&[&proxy], &code);
    let keys = operates(&proxy, "GET", "/v1/consumers/acme/keys", Value::Null, 200);
    assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys:#}");
    proxy.done();
}

/// The same on two nodes, which know of it through Redis alone.
#[test]
fn a_code_is_claimed_once_on_whatever_node() {
    let Some(redis) = Server::start("save \"\"", &[]) else { return };
    let upstream = upstream().start();
    // It has as long to answer as a test: none depends on how busy the machine is.
    let limits = "limits: { on_failure: local, timeout: 30s }";
    let store = format!("store: {{ redis: \"redis://127.0.0.1:{}\", timeout: 30s, {limits} }}", redis.port);
    let policy = serving(&upstream);
    let text = proxy_text(&policy, "store: state/", &store);
    let [view, there] = [(); 2].map(|()| policy.clone().text(&text).start());
    let (id, code) = invite(&view, "acme", Value::Null);
    let known = || {
        let listed = operates(&there, "GET", "/v1/invitations", Value::Null, 200);
        (listed["items"][0]["id"] == json!(id)).then_some(())
    };
    eventually("the invitation is known there", known);
    let key = races(&[&view, &there], &code);
    for node in [view, there] {
        let works = || (client(&node).get("/orders").key(&key).send().status == 200).then_some(());
        eventually("the key is known", works);
        let keys = operates(&node, "GET", "/v1/consumers/acme/keys", Value::Null, 200);
        assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys:#}");
        node.done();
    }
}

/// Claims a code on all of these at the same time, several times each. Returns the one key that was given.
fn races(nodes: &[&Proxy], code: &str) -> String {
    const TIMES: usize = 4;
    let together = Barrier::new(nodes.len() * TIMES);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let tries = nodes.iter().flat_map(|node| [*node; TIMES]).map(|node| {
            let together = &together;
            scope.spawn(move || {
                let mut client = client(node);
                client.connection();
                together.wait();
                claim(&mut client, code)
            })
        });
        let tries: Vec<_> = tries.collect();
        tries.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut keys = Vec::new();
    for answer in answers {
        match answer.status {
            201 => keys.push(answer.json()["key"].as_str().unwrap().to_owned()),
            _ => drop(answer.refused(410, "invitation_ended")),
        }
    }
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.remove(0)
}

/// A key gives no more than its caller has, and nothing of others.
#[test]
fn callers_replace_their_own_keys_and_no_wider_ones() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = serving(&upstream).trusts(&issuer);
    let listed = "bank: { plan: gold, roles: [finance], identities: [{ issuer: corp, id: app }],";
    let digest =
        "keys: [{ id: listed-1, sha256: \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" }]";
    let with = format!("{listed} {digest}");
    let text = proxy_text(&policy, "bank: { plan: gold, roles: [finance]", with.trim_end_matches(','));
    let proxy = policy.text(&text).start();
    let (acme, acme_key) = claimed(&proxy, "acme", Value::Null);
    let (bank, bank_key) = claimed(&proxy, "bank", json!({"key_lifetime": "48h"}));
    let (narrow, narrow_key) = claimed(&proxy, "bank", json!({"scopes": ["orders:read"]}));
    let (local, local_key) = claimed(&proxy, "bank", json!({"from": ["127.0.0.0/8"]}));
    let mut caller = client(&proxy);
    let mut rotate =
        |id: &str, key: &str, body: &str| caller.post(&format!("/.bartizan/keys/{id}/rotate"), body).key(key).send();
    rotate(&acme, &bank_key, "").refused(404, "not_found");
    rotate("none", &bank_key, "").refused(404, "not_found");
    rotate("listed-1", &bank_key, "").refused(409, "conflict");
    rotate("listed-1", &acme_key, "").refused(404, "not_found");
    rotate(&bank, &narrow_key, "").refused(403, "stronger_credential_required");
    rotate(&bank, &local_key, "").refused(403, "stronger_credential_required");
    // Not even one that may do less: it may live longer, and whoever has this key would have it, too.
    rotate(&local, &bank_key, "").refused(403, "stronger_credential_required");
    rotate(&local, &local_key, "").is(201);
    for overlap in ["31d", "-1s", "x"] {
        rotate(&bank, &bank_key, &json!({"overlap": overlap}).to_string()).refused(422, "schema_violation");
    }
    let made = rotate(&narrow, &narrow_key, "").is(201).json();
    assert_eq!(made["scopes"], json!(["orders:read"]), "what the old one could not do, the new one cannot");
    rotate(&narrow, &narrow_key, "").refused(409, "conflict");
    let next = rotate(&bank, &bank_key, r#"{"overlap": "0s"}"#).is(201).json();
    rotate(&bank, &bank_key, "").refused(401, "expired_key");
    let next_key = next["key"].as_str().unwrap();
    let lives = |made: &Value| made["expires"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let hours = lives(&next).duration_since(jiff::Timestamp::now()).as_hours();
    assert!((46..=48).contains(&hours), "as long as the operator said: {hours}");

    // A token ends soon, and may be that of one user among many.
    let token = || issuer.token().claim("client_id", "app").sub("alice").scope("orders:read orders:refund");
    let id = next["id"].as_str().unwrap();
    let path = format!("/.bartizan/keys/{id}/rotate");
    let mut user = client(&proxy);
    user.post(&path, "").bearer(token()).send().refused(403, "stronger_credential_required");
    let me = user.get("/.bartizan/me").bearer(token()).send().is(200).json();
    assert!(me["user"] == "alice" && me.get("keys").is_none(), "{me:#}");
    operates(&proxy, "PUT", "/v1/consumers/bank/suspension", json!({"until": "1h"}), 200);
    user.post(&path, "").key(next_key).send().refused(403, "consumer_suspended");
    proxy.done();
}

/// What a caller may call is shown to that caller, and nothing else is.
#[test]
fn documentation_has_what_this_caller_may_call() {
    let upstream = upstream().start();
    let policy = serving(&upstream).route("GET /files/{path...}", "scopes: [\"orders:read\"], from: [127.0.0.0/8]");
    let proxy = policy.start();
    let (_, acme) = claimed(&proxy, "acme", Value::Null);
    let (_, bank) = claimed(&proxy, "bank", Value::Null);
    let mut caller = client(&proxy);
    let mut document = |key: &str| caller.get("/.bartizan/openapi.json").key(key).send().is(200).json();
    let (of_acme, of_bank) = (document(&acme), document(&bank));
    let paths = |document: &Value| document["paths"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let own = ["/.bartizan/docs", "/.bartizan/keys/{id}/rotate", "/.bartizan/me", "/.bartizan/openapi.json"];
    assert_eq!(paths(&of_acme), [&own[..], &["/files/{path}", "/orders", "/status"]].concat());
    assert_eq!(
        paths(&of_bank),
        [&own[..], &["/bank", "/files/{path}", "/orders", "/orders/{id}:refund", "/status"]].concat()
    );
    assert_eq!(of_acme["servers"][0]["url"], proxy.url(""));

    let page = caller.get("/.bartizan/docs").key(&acme).send().is(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("frame-ancestors 'none'"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    let text = page.text();
    assert!(text.contains("GET /orders</code>"), "{text}");
    assert!(!text.contains("refund") && !text.contains("/bank") && !text.contains("<script"));
    assert!(text.len() < 20_000);
    let name = "<script>alert(1)</script>";
    operates(&proxy, "POST", "/v1/consumers", json!({"name": name, "roles": ["clerk"]}), 201);
    let (_, evil) = claimed(&proxy, "%3Cscript%3Ealert%281%29%3C%2Fscript%3E", Value::Null);
    let text = caller.get("/.bartizan/docs").key(&evil).send().is(200).text();
    assert!(text.contains("&lt;script&gt;alert") && !text.contains("<script"), "{text}");

    // What is kept is kept for those who may do the same: a grant is seen at once, and its end, too.
    operates(&proxy, "PUT", "/v1/consumers/acme/grants/g1", json!({"scopes": ["orders:refund"], "until": "1h"}), 201);
    assert!(
        paths(&caller.get("/.bartizan/openapi.json").key(&acme).send().json())
            .contains(&"/orders/{id}:refund".to_owned())
    );
    assert!(caller.get("/.bartizan/docs").key(&acme).send().is(200).text().contains("refund"));
    operates(&proxy, "DELETE", "/v1/consumers/acme/grants/g1", Value::Null, 200);
    for _ in 0..2 {
        let again = caller.get("/.bartizan/openapi.json").key(&acme).send().is(200);
        assert_eq!((again.header("cache-control"), again.json()), (Some("no-store"), of_acme.clone()));
        assert!(!caller.get("/.bartizan/docs").key(&acme).send().is(200).text().contains("refund"));
    }
    let elsewhere = caller.get("/.bartizan/openapi.json").host("other.test").key(&acme).send().is(200).json();
    assert_eq!(elsewhere["servers"][0]["url"], "http://other.test");
    for path in ["/.bartizan/docs", "/.bartizan/openapi.json", "/.bartizan/me"] {
        caller.get(path).send().refused(401, "missing_credentials");
        let head = caller.request("HEAD", path).key(&acme).send().is(200);
        assert_eq!((head.header("cache-control"), head.body.len()), (Some("no-store"), 0));
    }
    caller.get("/.bartizan/other").key(&acme).send().refused(404, "no_route");
    proxy.done();
}

/// What is kept for one credential and one address of a consumer is not given to its others.
#[test]
fn documentation_is_that_of_the_credential_and_of_where_it_is_read() {
    let (upstream, issuer) = (upstream().start(), issuer());
    let policy = serving(&upstream)
        .trusts(&issuer)
        .with("trusted_proxies: [127.0.0.1/32]")
        .route("GET /inside", "scopes: [\"orders:read\"], from: [203.0.113.0/24]");
    let identity = "bank: { plan: gold, roles: [finance], identities: [{ issuer: corp, id: app }]";
    let text = proxy_text(&policy, "bank: { plan: gold, roles: [finance]", identity);
    let proxy = policy.text(&text).start();
    let (_, key) = claimed(&proxy, "bank", Value::Null);
    let token = issuer.token().claim("client_id", "app").sub("app").scope("orders:read").text();
    let mut caller = client(&proxy);
    // Twice: made, and kept.
    for round in 0..2 {
        for by_key in [true, false] {
            for (from, inside) in [("203.0.113.7", true), ("198.51.100.1", false)] {
                let request = caller.get("/.bartizan/openapi.json").header("x-forwarded-for", from);
                let request = if by_key { request.key(&key) } else { request.bearer(&*token) };
                let document = request.send().is(200).json();
                let has = |path: &str| document["paths"].get(path).is_some();
                let found = (has("/orders"), has("/orders/{id}:refund"), has("/inside"));
                assert_eq!(found, (true, by_key, inside), "{round} {by_key} {from}: {document:#}");
            }
        }
    }
    proxy.done();
}

/// Schemas are those that are enforced, from the description or the policy's own files, without what a mask hides from the caller.
#[test]
fn documentation_has_the_schemas_without_what_is_hidden() {
    let upstream = upstream().start();
    let orders = json!({
        "openapi": "3.0.3", "info": {"title": "Orders", "version": "1"},
        "paths": {
            "/described/{id}": {"get": {
                "summary": "<img src=x onerror=alert(1)>", "x-bartizan": {"scopes": ["orders:read"]},
                "parameters": [
                    {"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}},
                    {"name": "page", "in": "query", "schema": {"$ref": "#/components/schemas/Page"}},
                ],
                "responses": {"200": {"description": "One", "content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Order"}}}}},
            }},
            "/secret": {"get": {
                "summary": "Nobody sees this", "x-bartizan": {"scopes": ["orders:secret"]},
                "responses": {"200": {"description": "One", "content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Secret"}}}}},
            }},
        },
        "components": {"schemas": {
            "Page": {"type": "integer", "minimum": 1},
            "Secret": {"type": "object", "properties": {"plan": {"type": "string"}}},
            "Order": {"type": "object", "required": ["id", "iban"], "properties": {
                "id": {"type": "integer"}, "pages": {"type": "array", "items": {"$ref": "#/components/schemas/Page"}},
                "iban": {"type": "string", "pattern": "^DE", "x-bartizan": {"visible_to": ["orders:refund"]}},
            }},
        }},
    });
    let policy = serving(&upstream)
        .described("orders.json")
        .file("orders.json", orders.to_string())
        .file("new.json", r#"{"type": "object", "properties": {"item": {"$ref": "part.json"}}}"#)
        .file("part.json", r#"{"type": "string", "maxLength": 77}"#)
        .route("POST /orders", "scopes: [\"orders:write\"], request: { json: new.json }");
    let proxy = policy.start();
    let (_, acme) = claimed(&proxy, "acme", Value::Null);
    let (_, bank) = claimed(&proxy, "bank", Value::Null);
    let mut caller = client(&proxy);
    let mut document = |key: &str| caller.get("/.bartizan/openapi.json").key(key).send().is(200).json();
    let (of_acme, of_bank) = (document(&acme), document(&bank));
    let operation = |document: &Value| document["paths"]["/described/{id}"]["get"].clone();
    let parameters = operation(&of_acme)["parameters"].clone();
    assert_eq!((&parameters[1]["name"], &parameters[1]["in"]), (&json!("page"), &json!("query")), "{parameters:#}");
    let schema = |document: &Value, reference: &Value| {
        let pointer = reference["$ref"].as_str().unwrap_or_else(|| panic!("{reference}")).trim_start_matches('#');
        document.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone()
    };
    let page = schema(&of_acme, &parameters[1]["schema"]);
    assert_eq!(page["minimum"].as_i64().or_else(|| schema(&of_acme, &page)["minimum"].as_i64()), Some(1), "{page}");
    let answer =
        |document: &Value| operation(document)["responses"]["200"]["content"]["application/json"]["schema"].clone();
    // With the scope: as it is enforced. Without: neither the field nor what it must be.
    assert!(schema(&of_bank, &answer(&of_bank))["properties"]["iban"]["pattern"] == "^DE");
    let masked = of_acme.to_string();
    assert!(answer(&of_acme).to_string().contains("Hidden from you") && !answer(&of_acme).to_string().contains("^DE"));
    assert!(operation(&of_acme)["description"].as_str().unwrap().contains("/iban"), "{masked}");
    for document in [&of_acme, &of_bank] {
        let text = document.to_string();
        assert!(
            !text.contains("Nobody sees this") && !text.contains("Secret") && !text.contains("x-bartizan"),
            "{text}"
        );
    }
    let body = &of_acme["paths"]["/orders"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let body = schema(&of_acme, body);
    assert_eq!(schema(&of_acme, &body["properties"]["item"])["maxLength"], 77, "{body}");
    assert!(of_bank["paths"]["/orders"].get("post").is_none());
    let text = caller.get("/.bartizan/docs").key(&acme).send().is(200).text();
    assert!(
        text.contains("&lt;img src=x") && !text.contains("<img") && text.contains("page, in query, optional"),
        "{text}"
    );
    let records = proxy.done();
    assert!(!format!("{records:?}").contains(&acme));
}

/// Its requests count like all others, and have a limit of their own.
#[test]
fn limits_hold_for_self_service() {
    let upstream = upstream().start();
    let policy = serving(&upstream);
    let text = proxy_text(&policy, "rate: 1000/s }", "rate: 2/h }");
    let proxy = policy.text(&text).start();
    let (_, key) = claimed(&proxy, "slow", Value::Null);
    let mut caller = client(&proxy);
    let me = caller.get("/.bartizan/me").key(&key).send().is(200).json();
    let plan = me["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == "slow").unwrap();
    assert_eq!((&plan["allowed"], &plan["remaining"]), (&json!(3), &json!(2)), "{me:#}");
    caller.get("/.bartizan/me").key(&key).send().is(200);
    caller.get("/.bartizan/me").key(&key).send().refused(429, "rate_limited");
    caller.get("/orders").key(&key).send().is(200);
    caller.get("/orders").key(&key).send().refused(429, "rate_limited");
    claim(&mut caller, "bzi_x").refused(401, "invalid_invitation");
    claim(&mut caller, "bzi_x").refused(429, "rate_limited");
    proxy.done();
}

/// A store that is away takes with it what is left of limits, and nothing else that a caller asks of itself.
#[test]
fn a_caller_sees_what_is_known_while_the_store_is_away() {
    let Some(redis) = Server::start("save \"\"", &[]) else { return };
    let upstream = upstream().start();
    let limits = "limits: { on_failure: local, timeout: 30s }";
    let store =
        format!("store: {{ redis: \"redis://127.0.0.1:{}\", timeout: 30s, on_failure: serve, {limits} }}", redis.port);
    let policy = serving(&upstream);
    let text = proxy_text(&policy, "store: state/", &store);
    let proxy = policy.text(&text).start();
    let (id, key) = claimed(&proxy, "acme", Value::Null);
    let mut caller = client(&proxy);
    let me = caller.get("/.bartizan/me").key(&key).send().is(200).json();
    assert!(me.get("unknown").is_none() && me["limits"][0]["remaining"].is_u64(), "{me:#}");
    drop(redis);
    let me = eventually("what is left is not known", || {
        let me = caller.get("/.bartizan/me").key(&key).send().is(200).json();
        me.get("unknown").is_some().then_some(me)
    });
    assert_eq!((&me["limits"][0]["remaining"], &me["limits"][0]["resets"]), (&Value::Null, &Value::Null), "{me:#}");
    assert!(me["limits"][0]["allowed"].is_u64() && me["unknown"][0].as_str().unwrap().contains("limits"), "{me:#}");
    assert_eq!((&me["keys"][0]["id"], &me["consumer"]), (&json!(id), &json!("acme")));
    // What was not changed is not on record as a change.
    let path = format!("/.bartizan/keys/{id}/rotate");
    let refused = caller.post(&path, "").key(&key).send().refused(503, "store_unavailable");
    assert!(refused.text().contains("nothing was changed"), "{}", refused.text());
    let records = proxy.records();
    assert!(records.iter().all(|record| said(record, "event.action") != "key_rotated"), "{records:#?}");
    proxy.stop();
}

/// On a host that an API names, its routes do not take what is for self-service; and HTTP/2 is no other door.
#[test]
fn every_host_has_it() {
    let upstream = upstream().start();
    let policy = serving(&upstream).api("hosts: [api.test, \"*.wild.test\"]").route("GET /{path...}", "public: true");
    let proxy = policy.start();
    let (_, key) = claimed(&proxy, "acme", Value::Null);
    for host in ["api.test", "a.wild.test", "other.test"] {
        let me = client(&proxy).get("/.bartizan/me").host(host).key(&key).send().is(200).json();
        assert_eq!(me["consumer"], "acme");
        client(&proxy).get("/.bartizan/me").host(host).send().refused(401, "missing_credentials");
    }
    crate::http2::over_http2(&proxy, async |mut sender| {
        let request = http::Request::get("http://api.test/.bartizan/me").header("x-api-key", &key);
        let answer = sender.send_request(request.body(http_body_util::Empty::<hyper::body::Bytes>::new()).unwrap());
        assert_eq!(answer.await.unwrap().status(), 200);
    });
    proxy.owes(1);
    proxy.done();
}

#[test]
fn what_is_written_wrong_is_found_when_the_policy_is_checked() {
    let upstream = upstream().start();
    let written = |service: &str| {
        let policy = serving(&upstream);
        let text = proxy_text(&policy, "self_service: { path: /.bartizan, rate: 1000/s }", service);
        policy.text(&text).checked()
    };
    for (service, problem) in [
        ("self_service: { }", "`path` is missing"),
        ("self_service: { path: \"\" }", "belongs to the APIs"),
        ("self_service: { path: / }", "empty segment"),
        ("self_service: { path: /a/ }", "empty segment"),
        ("self_service: { path: \"/{a}\" }", "cannot have names"),
        ("self_service: { path: x }", "the path begins with `/`"),
        ("self_service: { path: /orders }", "`GET /orders` of `orders` is below this path"),
        ("self_service: { path: /orders, more: 1 }", "more"),
    ] {
        let said = written(service);
        assert!(said.contains("error") && said.contains(problem) && said.contains("policy.yaml:"), "{service}: {said}");
    }
    assert!(!written("self_service: { path: /me }").contains("error"));
    let policy = serving(&upstream);
    let text = proxy_text(&policy, "store: state/", "");
    assert!(policy.text(&text).checked().contains("self-service needs a store"));
    let policy = serving(&upstream).route("GET /.bartizan/{x}", "public: true");
    assert!(policy.checked().contains("is below this path"));
}

/// `consumer invite` prints the code and a sheet; both are enough for `curl` alone.
#[test]
fn the_sheet_is_all_that_a_partner_needs() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let admin = format!("http://{}", proxy.admin());
    let consumer = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        command.args(["consumer", "--admin", &admin, "--admin-token", ADMIN_TOKEN]).args(arguments);
        let output = command.env_remove("BARTIZAN_POLICY").current_dir(proxy.folder.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let url = proxy.url("");
    let (code, printed, said) = consumer(&["invite", "bank", "--url", &url, "--scope", "orders:read"]);
    assert_eq!(code, Some(0), "{said}");
    let (invitation, sheet) = printed.split_once("\n\n").unwrap();
    assert!(invitation.starts_with("bzi_bank-") && !sheet.contains(invitation), "{printed}");
    assert!(
        sheet.contains("| GET | `/bank` |") && !sheet.contains("refund") && sheet.contains("1000 per day"),
        "{sheet}"
    );
    assert!(sheet.contains("| GET | `/orders` | At most 500 per 1s, 500 at once. |"), "{sheet}");
    let (code, alone, said) = consumer(&["invite", "acme", "--sheet", "acme.md", "--expires", "2h"]);
    assert!(code == Some(0) && alone.trim().starts_with("bzi_acme-") && alone.lines().count() == 1, "{said}");
    assert!(std::fs::read_to_string(proxy.file("acme.md")).unwrap().starts_with("# Access for `acme`"));
    let wrong = [
        ["invite", "acme", "--expires", "31d"],
        ["invite", "nobody", "--expires", "1h"],
        ["invite", "acme", "--scope", "orders:reed"],
        ["invite", "acme", "--url", "https://a.example/$(id)"],
    ];
    for wrong in wrong {
        assert_eq!(consumer(&wrong).0, Some(1), "{wrong:?}");
    }
    let (_, listed, _) = consumer(&["invitations"]);
    assert!(listed.contains("open") && listed.contains("bank"), "{listed}");

    let shells = shells();
    if shells.is_empty() {
        return skipped("there is no shell with curl and setsid");
    }
    let folder = proxy.folder.path();
    for shell in &shells {
        let (code, printed, said) = consumer(&["invite", "bank", "--url", &url]);
        assert_eq!(code, Some(0), "{said}");
        let (invitation, sheet) = printed.split_once("\n\n").unwrap();
        std::fs::write(proxy.file("code.txt"), invitation).unwrap();
        let made = pasted(shell, folder, &command(sheet, "/invitations/claim"), "");
        let made: Value = serde_json::from_str(&made).unwrap_or_else(|_| panic!("{made}\n{sheet}"));
        let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
        let runs = |part: &str| {
            let command = command(sheet, part).replace("YOUR_KEY", key).replace("KEY_ID", id);
            pasted(shell, folder, &command, "")
        };
        assert!(runs("/bank").starts_with("HTTP/1.1 200"), "{sheet}");
        assert!(runs("/.bartizan/me").contains("\"consumer\":\"bank\""), "{sheet}");
        assert!(runs("/rotate").contains("\"replaces\""), "{sheet}");
        runs("/.bartizan/docs");
        assert!(std::fs::read_to_string(proxy.file("docs.html")).unwrap().contains("What bank may call"));
        std::fs::remove_file(proxy.file("docs.html")).unwrap();
    }
    proxy.owes(shells.len() * 5);
    proxy.done();
}

/// `explain` and `test` know what is answered by the proxy itself.
#[test]
fn explain_and_test_know_the_endpoints() {
    let upstream = upstream().start();
    let folder = tempfile::TempDir::new().unwrap();
    serving(&upstream).write(folder.path());
    let tests = "policy: policy.yaml\ncallers: { acme: { consumer: acme } }\ntests:\n\
                 - { name: me, as: acme, request: GET /.bartizan/me, expect: { status: 200 } }\n\
                 - { name: nobody, request: GET /.bartizan/me, expect: { status: 401, code: missing_credentials } }\n\
                 - { name: claim, request: POST /.bartizan/invitations/claim, expect: { status: 200 } }\n";
    std::fs::write(folder.path().join("policy.test.yaml"), tests).unwrap();
    let bartizan = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.args(arguments).env("BARTIZAN_POLICY", "policy.yaml").current_dir(folder.path()).output();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, _) = bartizan(&["explain", "POST", CLAIM, "--format", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &said["answered_by"], &said["api"]), (Some(0), &json!("self_service"), &json!("self_service")));
    let (code, said, _) = bartizan(&["explain", "GET", "/.bartizan/me"]);
    assert!(code == Some(1) && said.contains("missing_credentials"), "{said}");
    let (code, said, problems) = bartizan(&["test", "policy.test.yaml"]);
    assert_eq!(code, Some(0), "{said}\n{problems}");
}

/// Invitations are bounded, and belong to their consumer.
#[test]
fn invitations_are_bounded() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    let path = "/v1/consumers/acme/invitations";
    for _ in 0..20 {
        invite(&proxy, "acme", Value::Null);
    }
    operates(&proxy, "POST", path, Value::Null, 409);
    let (_, code) = invite(&proxy, "bank", json!({"expires": "30d"}));
    claim(&mut client(&proxy), &code).is(201);
    operates(&proxy, "POST", "/v1/consumers/bank/invitations", json!({"expires": "2999-01-01T00:00:00Z"}), 422);
    operates(&proxy, "POST", "/v1/consumers/bank/invitations", json!({"key_lifetime": "0s"}), 422);
    let forever = operates(&proxy, "POST", "/v1/consumers/bank/invitations", json!({"key_lifetime": null}), 201);
    assert_eq!(forever["key_lifetime"], Value::Null);
    // After a restart, what was claimed stays so.
    let proxy = proxy.again("TERM");
    claim(&mut client(&proxy), &code).refused(410, "invitation_ended");
    proxy.done();
}

/// Of invitations that are made at the same moment, each counts for the next.
#[test]
fn invitations_are_bounded_when_all_are_asked_for_at_once() {
    const TIMES: usize = 20;
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    for _ in 0..15 {
        invite(&proxy, "acme", Value::Null);
    }
    let together = Barrier::new(TIMES);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let asks = || {
            scope.spawn(|| {
                let mut operator = operator(&proxy);
                operator.connection();
                together.wait();
                operator.post("/v1/consumers/acme/invitations", "").bearer(ADMIN_TOKEN).send().status
            })
        };
        let asking: Vec<_> = (0..TIMES).map(|_| asks()).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = |status: u16| statuses.iter().filter(|one| **one == status).count();
    assert_eq!((count(201), count(409)), (5, TIMES - 5), "{statuses:?}");
    proxy.done();
}

/// A consumer that replaces its keys while it is removed leaves none to the next one with its name.
#[test]
fn a_later_consumer_inherits_nothing_that_was_made_during_a_removal() {
    let upstream = upstream().start();
    let proxy = serving(&upstream).start();
    for name in ["one", "two", "three", "four", "five"] {
        let consumer = json!({"name": name, "roles": ["clerk"], "plan": "free"});
        operates(&proxy, "POST", "/v1/consumers", consumer.clone(), 201);
        let (id, key) = claimed(&proxy, name, Value::Null);
        let together = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut client, mut id, mut key) = (client(&proxy), id, key);
                together.wait();
                loop {
                    let answer = client.post(&format!("/.bartizan/keys/{id}/rotate"), "").key(&key).send();
                    if answer.status != 201 {
                        break;
                    }
                    let made = answer.json();
                    let text = |member: &str| made[member].as_str().unwrap().to_owned();
                    (id, key) = (text("id"), text("key"));
                }
            });
            together.wait();
            operates(&proxy, "DELETE", &format!("/v1/consumers/{name}"), Value::Null, 200);
        });
        operates(&proxy, "POST", "/v1/consumers", consumer, 201);
        let keys = operates(&proxy, "GET", &format!("/v1/consumers/{name}/keys"), Value::Null, 200);
        assert_eq!(keys["items"], json!([]), "{name}");
    }
    proxy.done();
}
