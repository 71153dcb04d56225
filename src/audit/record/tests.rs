use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::text::TEXT_MAX;
use super::write::{ARRAY_MAX, VIOLATIONS_MAX, without_query};
use super::*;
use crate::audit::chain::Chain;
use crate::exchange::{SpanId, TraceId};
use crate::refusal::Violation;

/// A record with nothing that may be absent.
pub(in crate::audit) fn sample() -> Record<'static> {
    Record {
        duration: Duration::from_micros(1500),
        client: Ipv4Addr::new(203, 0, 113, 255).into(),
        source: Ipv4Addr::new(10, 0, 0, 1).into(),
        ..Record::neutral(REQUEST, "0192f0c1-7a53-7c4e-8f00-000000000001", "1.1", "9f2c")
    }
}

/// The sealed line of a record, the seventh of its stream; fails unless it is exactly one line.
pub(in crate::audit) fn line(record: &Record<'_>) -> Vec<u8> {
    let (mut lines, mut out) = (Vec::new(), Vec::new());
    write(&mut lines, record, "edge-1", &mut Clock::default());
    let mut chain = Chain::new("edge-1/7", Some([b'a'; 64]));
    chain.last.sequence = 6;
    chain.seal(&lines, &mut out);
    assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
    assert_eq!(out.last(), Some(&b'\n'));
    out
}

/// The line as JSON, without its hash.
fn json_of(record: &Record<'_>) -> Value {
    let mut value: Value = serde_json::from_slice(&line(record)).unwrap();
    let hash = value["event"].as_object_mut().unwrap().remove("hash").unwrap();
    assert_eq!(hash.as_str().unwrap().len(), 64);
    value
}

fn strings(texts: &[&str]) -> Vec<Box<str>> {
    texts.iter().map(|text| Box::from(*text)).collect()
}

#[test]
fn a_full_record_has_every_field() {
    let (roles, required, granted) =
        (strings(&["clerk", "auditor"]), strings(&["orders:write"]), strings(&["orders:read"]));
    let violations = [Violation::new("/lines/0/quantity", "\"0\" is less than 1")];
    let record = Record {
        at: "2026-11-23T22:04:05.123987Z".parse().unwrap(),
        outcome: Outcome::Failure,
        reason: Some("schema_violation"),
        client_port: Some(50123),
        source: Ipv6Addr::LOCALHOST.into(),
        user_agent: Some(b"curl/8.5"),
        method: Some("POST"),
        request_bytes: 512,
        status: Some(422),
        response_bytes: u64::MAX,
        path: Some(b"/v1/orders?token=secret"),
        domain: Some(b"api.example.com"),
        consumer: Some("acme"),
        user: Some("alice"),
        request: Some("0192f0c1-7a53-7c4e-8f00-000000000001"),
        scheme: Some("https"),
        cause: Some("upstream said \"no\""),
        target: None,
        roles: &roles,
        tls_version: Some("1.3"),
        trace: Some((TraceId(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736), SpanId(0x00f0_67aa_0ba9_02b7))),
        api: Some("orders"),
        route: Some("POST /v1/orders"),
        stage: Some("schema"),
        organization: Some("acme-corp"),
        plan: Some("gold"),
        credential: Some(CredentialFacts { kind: "jwt", id: Some("jti-1"), issuer: Some("corp") }),
        scopes_required: &required,
        scopes_granted: &granted,
        violations: &violations,
        upstream: Some(UpstreamFields {
            server: "http://10.1.0.7:9000",
            duration: Some(Duration::from_micros(900)),
            attempts: 2,
        }),
        ..sample()
    };
    let expected = json!({
        "@timestamp": "2026-11-23T22:04:05.123Z",
        "ecs": { "version": "8.17.0" },
        "event": {
            "kind": "event", "category": ["api", "web"], "type": ["access", "denied"], "action": "request",
            "outcome": "failure", "reason": "schema_violation", "duration": 1_500_000,
            "id": "0192f0c1-7a53-7c4e-8f00-000000000001", "sequence": 7,
        },
        "client": { "ip": "203.0.113.255", "port": 50123 },
        "source": { "ip": "::1" },
        "related": { "ip": ["203.0.113.255", "::1"], "user": ["acme", "alice"] },
        "observer": { "name": "edge-1", "type": "proxy", "version": env!("CARGO_PKG_VERSION") },
        "http": {
            "version": "1.1",
            "request": { "id": "0192f0c1-7a53-7c4e-8f00-000000000001", "method": "POST", "body": { "bytes": 512 } },
            "response": { "status_code": 422, "body": { "bytes": u64::MAX } },
        },
        "url": { "path": "/v1/orders", "domain": "api.example.com", "scheme": "https" },
        "user_agent": { "original": "curl/8.5" },
        "user": { "id": "alice", "roles": ["clerk", "auditor"] },
        "organization": { "name": "acme-corp" },
        "tls": { "version": "1.3" },
        "trace": { "id": "4bf92f3577b34da6a3ce929d0e0e4736" },
        "span": { "id": "00f067aa0ba902b7" },
        "bartizan": {
            "consumer": "acme", "api": "orders", "route": "POST /v1/orders", "stage": "schema",
            "cause": "upstream said \"no\"", "plan": "gold",
            "credential": { "kind": "jwt", "id": "jti-1", "issuer": "corp" },
            "scopes": { "required": ["orders:write"], "granted": ["orders:read"] },
            "violations": [{ "pointer": "/lines/0/quantity", "detail": "\"0\" is less than 1" }],
            "upstream": { "server": "http://10.1.0.7:9000", "duration": 900_000, "attempts": 2 },
            "policy": "9f2c", "node": "edge-1", "stream": "edge-1/7", "previous": "a".repeat(64),
        },
    });
    assert_eq!(json_of(&record), expected);
}

#[test]
fn absent_facts_are_left_out() {
    let expected = json!({
        "@timestamp": "1970-01-01T00:00:00.000Z",
        "ecs": { "version": "8.17.0" },
        "event": {
            "kind": "event", "category": ["api", "web"], "type": ["access", "allowed"], "action": "request",
            "outcome": "success", "duration": 1_500_000, "id": "0192f0c1-7a53-7c4e-8f00-000000000001", "sequence": 7,
        },
        "client": { "ip": "203.0.113.255" },
        "source": { "ip": "10.0.0.1" },
        "related": { "ip": ["203.0.113.255", "10.0.0.1"] },
        "observer": { "name": "edge-1", "type": "proxy", "version": env!("CARGO_PKG_VERSION") },
        "http": {
            "version": "1.1", "request": { "body": { "bytes": 0 } }, "response": { "body": { "bytes": 0 } },
        },
        "bartizan": { "policy": "9f2c", "node": "edge-1", "stream": "edge-1/7", "previous": "a".repeat(64) },
    });
    assert_eq!(json_of(&sample()), expected);
    let one = Record {
        domain: Some(b"a"),
        credential: Some(CredentialFacts { kind: "none", id: None, issuer: None }),
        upstream: Some(UpstreamFields { server: "u", duration: None, attempts: 1 }),
        ..sample()
    };
    let value = json_of(&one);
    assert_eq!(value["url"], json!({ "domain": "a" }));
    assert_eq!(value["bartizan"]["credential"], json!({ "kind": "none" }));
    assert_eq!(value["bartizan"]["upstream"], json!({ "server": "u" }));
}

#[test]
fn category_and_type_say_what_kind_of_event_it_was() {
    for (action, stage, reason, category, kind) in [
        (REQUEST, None, None, json!(["api", "web"]), "allowed"),
        (REQUEST, Some("auth"), Some("revoked"), json!(["api", "web", "authentication"]), "denied"),
        (REQUEST, Some("scope"), Some("insufficient_scope"), json!(["api", "web"]), "denied"),
        (REQUEST, Some("forward"), Some("upstream_timeout"), json!(["api", "web"]), "error"),
        (REQUEST, None, Some(CLIENT_DISCONNECTED), json!(["api", "web"]), "error"),
        (REQUEST, None, Some(CLIENT_STALLED), json!(["api", "web"]), "error"),
        ("key revoked", None, None, json!(["api", "web", "configuration"]), "allowed"),
        ("key revoked", Some("auth"), None, json!(["api", "web", "configuration", "authentication"]), "denied"),
    ] {
        let event = &json_of(&Record { action, stage, reason, ..sample() })["event"];
        assert_eq!((&event["category"], &event["type"][1]), (&category, &json!(kind)), "{action} {stage:?}");
    }
}

#[test]
fn hostile_text_stays_inside_its_string() {
    let long = "é".repeat(512 * 1024);
    let cases: [(&[u8], &str, String); 12] = [
        (b"a\r\nb\t", "a\\r\\nb\\t", "a\r\nb\t".to_owned()),
        (b"\"},{\"x\":\"", "\\\"},{\\\"x\\\":\\\"", "\"},{\"x\":\"".to_owned()),
        (b"\\", "\\\\", "\\".to_owned()),
        (b"\x1b[2J\x07\0", "\\u001b[2J\\u0007\\u0000", "\u{1b}[2J\u{7}\0".to_owned()),
        (b"\x7f", "\\u007f", "\u{7f}".to_owned()),
        ("\u{2028}\u{2029}".as_bytes(), "\\u2028\\u2029", "\u{2028}\u{2029}".to_owned()),
        ("\u{9b}31m\u{202e}".as_bytes(), "\\u009b31m\\u202e", "\u{9b}31m\u{202e}".to_owned()),
        (b"a\xffb\xc3", "a\u{fffd}b\u{fffd}", "a\u{fffd}b\u{fffd}".to_owned()),
        ("żółw 🐢".as_bytes(), "żółw 🐢", "żółw 🐢".to_owned()),
        (b"", "", String::new()),
        (long.as_bytes(), &long[..1024], long[..1024].to_owned()),
        (&[0xff; 1 << 20], &"\u{fffd}".repeat(341), "\u{fffd}".repeat(341)),
    ];
    for (text, written, value) in cases {
        let line = line(&Record { user_agent: Some(text), ..sample() });
        let parsed: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(parsed["user_agent"]["original"], value, "{written}");
        let expected = format!("\"original\":\"{written}\"");
        assert!(String::from_utf8(line).unwrap().contains(&expected), "{expected}");
    }
}

#[test]
fn text_is_cut_between_characters() {
    for (text, kept) in [
        ("a".repeat(1024), 1024),
        ("a".repeat(1025), 1024),
        (format!("{}é", "a".repeat(1022)), 1024),
        (format!("{}é", "a".repeat(1023)), 1023),
        (format!("{}🐢", "a".repeat(1021)), 1021),
        (format!("{}🐢!", "a".repeat(1020)), 1024),
        (format!("{}🐢", "\n".repeat(1021)), 1021),
    ] {
        let value = json_of(&Record { consumer: Some(&text), ..sample() });
        assert_eq!(value["user"]["id"], text[..kept]);
    }
}

#[test]
fn lists_are_cut() {
    let many: Vec<Box<str>> = (0..100).map(|index| index.to_string().into()).collect();
    let violation = Violation::new("/a", "b");
    let violations = vec![violation; 100];
    let record = Record { roles: &many, scopes_granted: &many, violations: &violations, ..sample() };
    let value = json_of(&record);
    assert_eq!(value["user"]["roles"].as_array().unwrap().len(), ARRAY_MAX);
    assert_eq!(value["bartizan"]["scopes"]["granted"][31], "31");
    assert_eq!(value["bartizan"]["violations"].as_array().unwrap().len(), VIOLATIONS_MAX);
}

#[test]
fn instants_are_utc_to_the_millisecond() {
    let mut clock = Clock::default();
    for text in [
        "2026-11-23T22:04:05.000Z",
        "2026-11-23T22:04:05.999Z",
        "2026-11-23T22:04:06.010Z",
        "2026-11-23T22:04:05.100Z",
        "1969-12-31T23:59:59.001Z",
    ] {
        let mut out = Vec::new();
        clock.write(&mut out, text.parse().unwrap());
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}

proptest! {
    #[test]
    fn any_bytes_give_one_line_of_json(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        characters in proptest::collection::vec(any::<char>(), 0..1200),
    ) {
        let text = String::from_iter(characters);
        let roles = [Box::from(text.as_str())];
        let violations = [Violation::new(text.as_str(), text.as_str())];
        let record = Record {
            user_agent: Some(&bytes), path: Some(&bytes), domain: Some(text.as_bytes()), consumer: Some(&text),
            roles: &roles, violations: &violations, method: Some(&text), ..sample()
        };
        let value = json_of(&record);
        let kept = &text[..text.floor_char_boundary(TEXT_MAX)];
        for pointer in ["/url/domain", "/user/id", "/user/roles/0", "/http/request/method", "/bartizan/violations/0/detail"] {
            prop_assert_eq!(value.pointer(pointer).unwrap(), kept);
        }
        for (pointer, bytes) in [("/user_agent/original", bytes.as_slice()), ("/url/path", without_query(&bytes))] {
            let written = value.pointer(pointer).unwrap().as_str().unwrap();
            prop_assert!(written.len() <= TEXT_MAX);
            prop_assert!(String::from_utf8_lossy(bytes).starts_with(written) || bytes.len() > TEXT_MAX);
            prop_assert!(!(pointer == "/url/path" && written.contains('?')));
        }
    }
}
