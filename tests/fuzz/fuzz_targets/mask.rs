//! Masks: a text that is read stays JSON, and nothing of what is hidden is left in it, in whatever shape it is sent.
#![no_main]

use bartizan::rehearsal::parsers;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use world::oracle::{Bounds, bounded};

const MASK: &[(&str, &str)] = &[("/iban", "remove"), ("/addresses/*/street", "null"), ("/card", "keep_last 4")];

fuzz_target!(|text: &[u8]| {
    let masked = bounded(Bounds::USUAL, text.len(), || parsers::mask(MASK, text));
    for size in [1, 7] {
        assert_eq!(parsers::mask_in_pieces(MASK, text, size), masked, "in pieces of {size}");
    }
    let Some(masked) = masked else { return };
    // Where nothing is hidden, nothing is changed.
    if !text.windows(4).any(|name| name == b"none") {
        assert_eq!(parsers::mask(&[("/\u{1}none", "remove")], text).as_deref(), Some(text));
    }
    let mark = |text: &[u8]| text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text).to_vec();
    // Numbers beyond binary64, lone surrogates in what is not looked at: JSON for us, and not for serde_json.
    let Ok(before) = serde_json::from_slice::<Value>(&mark(text)) else { return };
    let after: Value = serde_json::from_slice(&mark(&masked)).expect("JSON");
    assert!(!shows(&after), "{before} {after}");
});

/// Whether a value has, behind lists, what is hidden.
fn shows(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(shows),
        Value::Object(members) => {
            members.contains_key("iban")
                || members.get("card").is_some_and(|card| !card.as_str().is_some_and(|text| text.starts_with("***")))
                || members.get("addresses").is_some_and(|addresses| has_street(addresses, 1))
        }
        _ => false,
    }
}

/// Whether there is a street behind lists and at most so many objects.
fn has_street(value: &Value, objects: usize) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| has_street(item, objects)),
        Value::Object(members) => {
            members.get("street").is_some_and(|street| !street.is_null())
                || objects > 0 && members.values().any(|member| has_street(member, objects - 1))
        }
        _ => false,
    }
}
