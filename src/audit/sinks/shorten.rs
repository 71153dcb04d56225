//! Makes a record fit a size: its violations go first, then long texts are cut, then all but what identifies it goes.

use serde_json::{Map, Value, json};

use super::super::record::visible_json;

/// Lengths that texts are cut to, in characters, one after the other.
const CUTS: [usize; 4] = [256, 96, 32, 16];
/// Most items of a list, where texts are cut.
const ITEMS: usize = 8;
/// Members of `event` that identify a record.
const EVENT: [&str; 6] = ["id", "sequence", "hash", "kind", "action", "outcome"];
/// Longest text of what identifies a record, in characters.
const IDENTIFYING: usize = 64;

/// Returns the record in at most `most` bytes, on one line and without a line break. One that is shortened says so in
/// `bartizan.shortened`; its hash is that of the whole record.
pub(super) fn shortened(line: &[u8], most: usize) -> Vec<u8> {
    let Ok(Value::Object(mut record)) = serde_json::from_slice(line) else { return marked(Map::new(), most) };
    mark(&mut record);
    if let Some(Value::Object(own)) = record.get_mut("bartizan") {
        own.remove("violations");
    }
    let mut text = written(&record);
    for cut_at in CUTS {
        if text.len() <= most {
            return text;
        }
        for name in ["bartizan", "user_agent", "url", "user", "organization", "related"] {
            if let Some(value) = record.get_mut(name) {
                cut(value, cut_at);
            }
        }
        text = written(&record);
    }
    if text.len() <= most { text } else { marked(record, most) }
}

/// What identifies a record, in at most `most` bytes.
fn marked(mut record: Map<String, Value>, most: usize) -> Vec<u8> {
    let mut kept = Map::new();
    if let Some(time) = record.remove("@timestamp") {
        kept.insert("@timestamp".to_owned(), time);
    }
    if let Some(Value::Object(mut event)) = record.remove("event") {
        event.retain(|name, _| EVENT.contains(&name.as_str()));
        kept.insert("event".to_owned(), Value::Object(event));
    }
    kept.values_mut().for_each(|value| cut(value, IDENTIFYING));
    mark(&mut kept);
    let text = written(&kept);
    if text.len() <= most { text } else { br#"{"bartizan":{"shortened":true}}"#.to_vec() }
}

fn mark(record: &mut Map<String, Value>) {
    let own = record.entry("bartizan").or_insert_with(|| json!({}));
    if let Value::Object(own) = own {
        own.insert("shortened".to_owned(), true.into());
    }
}

/// Cuts the texts and lists in a value.
fn cut(value: &mut Value, most: usize) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(most) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(items) => {
            items.truncate(ITEMS);
            items.iter_mut().for_each(|item| cut(item, most));
        }
        Value::Object(members) => members.values_mut().for_each(|member| cut(member, most)),
        _ => {}
    }
}

/// As one line, in which what is invisible is escaped, as in the record itself.
fn written(record: &Map<String, Value>) -> Vec<u8> {
    visible_json(serde_json::to_string(record).unwrap_or_default()).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(line: &[u8], most: usize) -> Value {
        let text = shortened(line, most);
        assert!(text.len() <= most && !text.contains(&b'\n'), "{} > {most}", text.len());
        let record: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(record.pointer("/bartizan/shortened"), Some(&json!(true)));
        record
    }

    fn sample(path: &str, violations: usize) -> Vec<u8> {
        let violation = json!({"pointer": "/a", "detail": "d".repeat(500)});
        json!({
            "@timestamp": "2026-11-27T10:00:00.000Z",
            "bartizan": {"consumer": "acme", "violations": vec![violation; violations], "scopes": {"granted": vec!["s"; 40]}},
            "event": {"action": "request", "id": "0192f0c1-7a53-7c4e-8f00-000000000001", "sequence": 7, "hash": "0".repeat(64)},
            "url": {"path": path}, "user_agent": {"original": "a".repeat(1000)},
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn violations_go_first_then_long_texts_then_all_but_the_identity() {
        let line = sample("/orders", 8);
        let record = of(&line, 3000);
        assert_eq!(record.pointer("/bartizan/violations"), None);
        assert_eq!(record.pointer("/user_agent/original").unwrap().as_str().unwrap().len(), 1000);
        let record = of(&line, 800);
        assert_eq!(record.pointer("/url/path"), Some(&json!("/orders")));
        assert_eq!(record.pointer("/bartizan/consumer"), Some(&json!("acme")));
        assert!(record.pointer("/user_agent/original").unwrap().as_str().unwrap().ends_with('…'));
        let record = of(&line, 260);
        assert_eq!(record.pointer("/event/sequence"), Some(&json!(7)));
        assert_eq!(record.get("url"), None);
    }

    #[test]
    fn what_is_hidden_stays_escaped() {
        for path in ["/a\u{7f}", "/\u{e4}\u{202e}"] {
            let text = String::from_utf8(shortened(&sample(path, 8), 3000)).unwrap();
            let escaped = text.matches("\\u007f").count() + text.matches("\\u202e").count();
            assert_eq!((escaped, text.contains(['\u{7f}', '\u{202e}'])), (1, false), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_longer_and_everything_is_json(path in ".{0,400}", violations in 0_usize..9, most in 40_usize..4000) {
            let record = of(&sample(&path, violations), most);
            prop_assert!(record.is_object());
        }

        #[test]
        fn what_is_no_record_is_marked(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            of(&bytes, 40);
        }
    }
}
