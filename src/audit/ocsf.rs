//! Records in the Open Cybersecurity Schema Framework: class 6003, API Activity, of version 1.3.0.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Version of the schema.
const VERSION: &str = "1.3.0";
/// Application Activity.
const CATEGORY: u64 = 6;
/// API Activity.
const CLASS: u64 = 6003;

/// The event of a record. Returns `None` for what is no API call, such as a checkpoint, and what is no record.
pub(crate) fn ocsf(record: &Value) -> Option<Value> {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_u64);
    let is_api = record.pointer("/event/category")?.as_array()?.iter().any(|category| category == "api");
    let time = text("/@timestamp")?.parse::<Timestamp>().ok()?.as_millisecond();
    if !is_api {
        return None;
    }
    let method = text("/http/request/method");
    let (activity, name) = activity(method);
    let (status_id, status) = status(text("/event/outcome"));
    let (action, disposition) = match event_type(record) {
        "denied" => (Some(2), Some(2)),
        "allowed" | "error" => (Some(1), Some(1)),
        _ => (None, None),
    };
    let alert = text("/event/kind") == Some("alert");
    Some(compact(json!({
        "activity_id": activity,
        "activity_name": name,
        "category_uid": CATEGORY,
        "category_name": "Application Activity",
        "class_uid": CLASS,
        "class_name": "API Activity",
        "type_uid": CLASS * 100 + activity,
        "time": time,
        "duration": number("/event/duration").map(|nanoseconds| nanoseconds / 1_000_000),
        "severity_id": severity(record, alert),
        "status_id": status_id,
        "status": status,
        "status_code": number("/http/response/status_code").map(|status| status.to_string()),
        "status_detail": text("/event/reason"),
        "message": text("/bartizan/cause"),
        "action_id": action,
        "disposition_id": disposition,
        "is_alert": alert.then_some(true),
        "policy": {"uid": text("/bartizan/policy")},
        "metadata": metadata(record),
        "actor": actor(record),
        "api": {
            "operation": operation(record),
            "request": {"uid": text("/http/request/id")},
            "response": {
                "code": number("/http/response/status_code"),
                "error": text("/event/reason"),
                "error_message": text("/bartizan/violations/0/detail"),
            },
            "service": {"name": text("/bartizan/api").unwrap_or("bartizan")},
        },
        "src_endpoint": {"ip": text("/client/ip"), "port": number("/client/port")},
        "dst_endpoint": text("/bartizan/upstream/server").map(|server| json!({"name": server})),
        "http_request": http_request(record),
        "http_response": {
            "code": number("/http/response/status_code"),
            "length": number("/http/response/body/bytes"),
        },
        "resources": text("/bartizan/target").map(|target| json!([{"name": target}])),
        "unmapped": unmapped(record),
    })))
}

/// `status_id` and its name.
fn status(outcome: Option<&str>) -> (u64, &'static str) {
    match outcome {
        Some("success") => (1, "Success"),
        Some("unknown") => (0, "Unknown"),
        _ => (2, "Failure"),
    }
}

/// `event.type` beside `access`.
fn event_type(record: &Value) -> &str {
    let types = record.pointer("/event/type").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    types.iter().filter_map(Value::as_str).find(|kind| *kind != "access").unwrap_or_default()
}

/// `activity_id` and its name.
fn activity(method: Option<&str>) -> (u64, &str) {
    match method {
        Some("POST") => (1, "Create"),
        Some("GET" | "HEAD") => (2, "Read"),
        Some("PUT" | "PATCH") => (3, "Update"),
        Some("DELETE") => (4, "Delete"),
        Some(other) => (99, other),
        None => (0, "Unknown"),
    }
}

/// Informational, low or medium.
fn severity(record: &Value, alert: bool) -> u64 {
    match event_type(record) {
        _ if alert => 3,
        "error" => 3,
        "denied" => 2,
        _ => 1,
    }
}

/// What was done: the route, or an operator's action.
fn operation(record: &Value) -> String {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let action = text("/event/action").unwrap_or("request");
    match (text("/bartizan/route"), text("/http/request/method"), text("/url/path")) {
        _ if action != "request" => action.to_owned(),
        (Some(route), ..) => route.to_owned(),
        (None, Some(method), Some(path)) => format!("{method} {path}"),
        _ => action.to_owned(),
    }
}

fn http_request(record: &Value) -> Value {
    let at = |pointer: &str| record.pointer(pointer);
    json!({
        "http_method": at("/http/request/method"),
        "length": at("/http/request/body/bytes"),
        "uid": at("/http/request/id"),
        "user_agent": at("/user_agent/original"),
        "version": at("/http/version"),
        "url": {"scheme": at("/url/scheme"), "hostname": at("/url/domain"), "path": at("/url/path")},
    })
}

fn metadata(record: &Value) -> Value {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    json!({
        "version": VERSION,
        "profiles": ["security_control"],
        "uid": text("/event/id"),
        "sequence": record.pointer("/event/sequence"),
        "log_name": text("/bartizan/stream"),
        "log_provider": text("/observer/name"),
        "original_time": text("/@timestamp"),
        "correlation_uid": text("/trace/id"),
        "product": {"name": "Bartizan", "vendor_name": "Bartizan", "version": text("/observer/version")},
    })
}

fn actor(record: &Value) -> Value {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str);
    let names = |pointer: &str| {
        let names = record.pointer(pointer).and_then(Value::as_array)?;
        Some(names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>())
    };
    json!({
        "app_uid": text("/bartizan/consumer"),
        "user": {
            "uid": text("/user/id").unwrap_or("unknown"),
            "groups": names("/user/roles"),
            "org": {"name": text("/organization/name")},
            "credential_uid": text("/bartizan/credential/id"),
        },
    })
}

/// What the schema has no place for.
fn unmapped(record: &Value) -> Value {
    const NAMES: [&str; 10] =
        ["stage", "mode", "would_refuse", "plan", "limit", "scopes", "violations", "upstream", "change", "drill"];
    let ours = record.get("bartizan");
    NAMES.iter().filter_map(|name| Some(((*name).to_owned(), ours?.get(name)?.clone()))).collect::<Map<_, _>>().into()
}

/// Without members that are absent or have none themselves.
fn compact(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| (name, compact(value)))
            .filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|members| !members.is_empty()))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(compact).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::record::tests::{line, sample};
    use super::super::record::{CredentialFacts, Outcome, QUOTA_USED, Record};
    use super::*;

    fn of(record: &Record<'_>) -> Value {
        ocsf(&serde_json::from_slice(&line(record)).unwrap()).unwrap()
    }

    #[test]
    fn a_refused_call_says_who_what_and_why() {
        let roles = [Box::from("clerk")];
        let event = of(&Record {
            at: "2026-11-23T22:04:05.123Z".parse().unwrap(),
            duration: Duration::from_millis(3),
            outcome: Outcome::Failure,
            reason: Some("insufficient_scope"),
            request: Some("0192f0c1"),
            user_agent: Some(b"curl/8.5"),
            method: Some("POST"),
            request_bytes: 12,
            status: Some(403),
            path: Some(b"/v1/orders"),
            domain: Some(b"api.example.com"),
            scheme: Some("https"),
            consumer: Some("acme"),
            roles: &roles,
            api: Some("orders"),
            route: Some("POST /v1/orders"),
            stage: Some("scope"),
            credential: Some(CredentialFacts { kind: "jwt", id: Some("jti-1"), issuer: Some("corp") }),
            ..sample()
        });
        let expected = json!({
            "activity_id": 1, "activity_name": "Create", "category_uid": 6, "category_name": "Application Activity",
            "class_uid": 6003, "class_name": "API Activity", "type_uid": 600_301, "time": 1_795_471_445_123_u64,
            "duration": 3, "severity_id": 2, "status_id": 2, "status": "Failure", "status_code": "403",
            "status_detail": "insufficient_scope", "action_id": 2, "disposition_id": 2, "policy": {"uid": "9f2c"},
            "metadata": {
                "version": "1.3.0", "profiles": ["security_control"], "uid": "0192f0c1-7a53-7c4e-8f00-000000000001",
                "sequence": 7, "log_name": "edge-1/7", "log_provider": "edge-1",
                "original_time": "2026-11-23T22:04:05.123Z",
                "product": {"name": "Bartizan", "vendor_name": "Bartizan", "version": env!("CARGO_PKG_VERSION")},
            },
            "actor": {
                "app_uid": "acme",
                "user": {"uid": "acme", "groups": [{"name": "clerk"}], "credential_uid": "jti-1"},
            },
            "api": {
                "operation": "POST /v1/orders", "request": {"uid": "0192f0c1"},
                "response": {"code": 403, "error": "insufficient_scope"}, "service": {"name": "orders"},
            },
            "src_endpoint": {"ip": "203.0.113.255"},
            "http_request": {
                "http_method": "POST", "length": 12, "uid": "0192f0c1", "user_agent": "curl/8.5", "version": "1.1",
                "url": {"scheme": "https", "hostname": "api.example.com", "path": "/v1/orders"},
            },
            "http_response": {"code": 403, "length": 0},
            "unmapped": {"stage": "scope"},
        });
        assert_eq!(event, expected);
    }

    #[test]
    fn a_change_that_was_not_confirmed_has_no_known_status() {
        let event = of(&Record { action: "key_rotated", outcome: Outcome::Unknown, ..sample() });
        assert_eq!((&event["status_id"], &event["status"]), (&json!(0), &json!("Unknown")));
        assert_eq!((&event["action_id"], &event["disposition_id"]), (&Value::Null, &Value::Null));
    }

    #[test]
    fn every_event_has_what_the_class_requires() {
        for (record, kind, severity) in [
            (sample(), 600_300, 1),
            (Record { method: Some("PATCH"), ..sample() }, 600_303, 1),
            (Record { method: Some("PURGE"), ..sample() }, 600_399, 1),
            (Record { action: "key_created", method: Some("POST"), target: Some("acme-1"), ..sample() }, 600_301, 1),
            (Record { action: QUOTA_USED, method: Some("GET"), consumer: Some("acme"), ..sample() }, 600_302, 3),
            (Record { stage: Some("forward"), reason: Some("upstream_timeout"), ..sample() }, 600_300, 3),
        ] {
            let event = of(&record);
            assert_eq!((&event["type_uid"], &event["severity_id"]), (&json!(kind), &json!(severity)), "{event:#}");
            let required = [
                "/activity_id",
                "/category_uid",
                "/class_uid",
                "/type_uid",
                "/time",
                "/severity_id",
                "/metadata/version",
                "/metadata/product/vendor_name",
                "/actor/user/uid",
                "/api/operation",
                "/src_endpoint/ip",
            ];
            for pointer in required {
                assert!(event.pointer(pointer).is_some(), "{pointer}: {event:#}");
            }
        }
        assert_eq!(ocsf(&json!({"@timestamp": "2026-11-23T22:04:05.123Z", "event": {"category": ["process"]}})), None);
        assert_eq!(ocsf(&json!([])), None);
    }
}
