//! Templates for Elasticsearch and OpenSearch: the types of the fields of records, and how long records are kept.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::record::FIELDS;

/// Name of the lifecycle policy and of the component template, which all data streams share.
pub(crate) const NAME: &str = "bartizan-record";

/// Fields that are numbers; those that end with `.bytes` are as well.
const NUMBERS: [&str; 12] = [
    "client.port",
    "http.response.status_code",
    "event.duration",
    "event.sequence",
    "bartizan.limit.used_percent",
    "bartizan.drill.nodes",
    "bartizan.drill.within",
    "bartizan.drill.refused_after",
    "bartizan.upstream.duration",
    "bartizan.dropped",
    "bartizan.chain.after",
    "bartizan.chain.torn",
];
/// Fields that are points in time.
const DATES: [&str; 3] = ["@timestamp", "bartizan.limit.resets", "bartizan.change.until"];
/// The type of a field.
fn kind(name: &str) -> Value {
    match name {
        _ if NUMBERS.contains(&name) || name.ends_with(".bytes") => {
            json!({"type": "long"})
        }
        _ if DATES.contains(&name) => json!({"type": "date"}),
        _ if name.ends_with(".ip") => json!({"type": "ip"}),
        // No text of a record is longer.
        _ => json!({"type": "keyword", "ignore_above": 1024}),
    }
}

/// The mapping of records: every field of the reference. Others are kept and not indexed, so that no record can add fields.
pub(crate) fn mapping() -> Value {
    let mut properties = Map::new();
    for (name, _) in FIELDS {
        insert(&mut properties, name, kind(name));
    }
    json!({"dynamic": false, "properties": properties})
}

/// Adds a field with dots in its name.
fn insert(properties: &mut Map<String, Value>, name: &str, kind: Value) {
    let Some((object, rest)) = name.split_once('.') else {
        properties.insert(name.to_owned(), kind);
        return;
    };
    let object = properties.entry(object).or_insert_with(|| json!({"properties": {}}));
    if let Some(Value::Object(inner)) = object.get_mut("properties") {
        insert(inner, rest, kind);
    }
}

/// The component template: the mapping.
pub(crate) fn component() -> Value {
    json!({"template": {"mappings": mapping()}, "_meta": meta()})
}

/// The index template of a data stream. `lifecycle`: whether it names the policy, as Elasticsearch asks for.
pub(crate) fn index(data_stream: &str, lifecycle: bool) -> Value {
    let mut settings = json!({"index.codec": "best_compression"});
    if let (true, Some(settings)) = (lifecycle, settings.as_object_mut()) {
        settings.insert("index.lifecycle.name".to_owned(), NAME.into());
    }
    json!({
        "index_patterns": [data_stream],
        "data_stream": {},
        "composed_of": [NAME],
        // More than that of the templates that come with the cluster (100).
        "priority": 500,
        "template": {"settings": settings},
        "_meta": meta(),
    })
}

/// The lifecycle policy of Elasticsearch: a new index each month or 50 GB, and its end after `keep`, if that is given.
pub(crate) fn ilm(keep: Option<Duration>) -> Value {
    let rollover = json!({"rollover": {"max_age": "30d", "max_primary_shard_size": "50gb"}});
    let mut phases = json!({"hot": {"actions": rollover}});
    if let (Some(keep), Some(phases)) = (keep, phases.as_object_mut()) {
        phases.insert("delete".to_owned(), json!({"min_age": days(keep), "actions": {"delete": {}}}));
    }
    json!({"policy": {"phases": phases, "_meta": meta()}})
}

/// The same for OpenSearch, which attaches it to these data streams.
pub(crate) fn ism(data_streams: &[&str], keep: Option<Duration>) -> Value {
    let hot = |transitions: Value| {
        let rollover = json!({"rollover": {"min_index_age": "30d", "min_primary_shard_size": "50gb"}});
        json!({"name": "hot", "actions": [rollover], "transitions": transitions})
    };
    let states = match keep {
        None => json!([hot(json!([]))]),
        Some(keep) => json!([
            hot(json!([{"state_name": "delete", "conditions": {"min_rollover_age": days(keep)}}])),
            {"name": "delete", "actions": [{"delete": {}}], "transitions": []},
        ]),
    };
    json!({"policy": {
        "description": "Records of Bartizan",
        "default_state": "hot",
        "states": states,
        "ism_template": [{"index_patterns": data_streams, "priority": 500}],
    }})
}

/// Whole days, at least one.
fn days(keep: Duration) -> String {
    format!("{}d", (keep.as_secs() / 86_400).max(1))
}

fn meta() -> Value {
    json!({"description": "Records of Bartizan", "version": env!("CARGO_PKG_VERSION")})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mapping of each field, by its name with dots.
    fn flat(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
        for (name, inner) in value["properties"].as_object().unwrap() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match inner.get("type") {
                Some(kind) => found.push((path, kind.as_str().unwrap().to_owned())),
                None => flat(inner, &path, found),
            }
        }
    }

    #[test]
    fn every_field_of_the_reference_is_mapped_once() {
        let mut found = Vec::new();
        flat(&mapping(), "", &mut found);
        found.sort();
        let mut expected: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        expected.sort_unstable();
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
        let kind = |name: &str| found.iter().find(|(known, _)| known == name).unwrap().1.as_str();
        for (name, expected) in [
            ("@timestamp", "date"),
            ("client.ip", "ip"),
            ("http.request.body.bytes", "long"),
            ("event.duration", "long"),
            ("url.path", "keyword"),
            ("bartizan.violations.pointer", "keyword"),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
        for name in NUMBERS.iter().chain(&DATES) {
            assert!(expected.contains(name), "{name} is no field of a record");
        }
    }

    /// A number that is mapped as a keyword cannot be summed, and a text that is mapped as a number is rejected.
    #[test]
    fn numbers_are_numbers() {
        fn check(value: &Value, mapping: &Value, path: &str) {
            let kind = mapping["type"].as_str();
            match value {
                Value::Object(members) => {
                    members.iter().for_each(|(name, inner)| {
                        check(inner, &mapping["properties"][name], &format!("{path}.{name}"));
                    });
                }
                Value::Array(items) => items.iter().for_each(|item| check(item, mapping, path)),
                Value::Number(_) => assert_eq!(kind, Some("long"), "{path}"),
                Value::String(_) => assert!(matches!(kind, Some("keyword" | "date" | "ip")), "{path}: {kind:?}"),
                _ => panic!("{path}"),
            }
        }
        let line = crate::audit::record::tests::line(&crate::audit::record::tests::sample());
        check(&serde_json::from_slice(&line).unwrap(), &mapping(), "");
    }

    #[test]
    fn records_are_kept_for_ever_unless_somebody_says_so() {
        let year = Some(Duration::from_secs(400 * 86_400));
        assert_eq!(ilm(None)["policy"]["phases"].as_object().unwrap().len(), 1);
        assert_eq!(ilm(year)["policy"]["phases"]["delete"]["min_age"], "400d");
        assert_eq!(ism(&["a"], None)["policy"]["states"].as_array().unwrap().len(), 1);
        assert_eq!(ism(&["a"], year)["policy"]["states"][1]["name"], "delete");
        assert_eq!(index("a", true)["template"]["settings"]["index.lifecycle.name"], NAME);
        assert_eq!(index("a", false)["template"]["settings"].get("index.lifecycle.name"), None);
    }
}
