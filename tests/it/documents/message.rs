//! How examples are written in a message: by their style in the path, the query and headers, by media type in a body.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::example;

/// All but the unreserved characters (RFC 3986 §2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A value that is neither a list nor an object, as text.
fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `style: simple`.
pub fn simple(value: &Value, explode: bool, write: impl Fn(&str) -> String) -> String {
    let parts: Vec<String> = match value {
        Value::Array(items) => items.iter().map(|item| write(&scalar(item))).collect(),
        Value::Object(members) => {
            let between = if explode { "=" } else { "," };
            members.iter().map(|(name, value)| format!("{}{between}{}", write(name), write(&scalar(value)))).collect()
        }
        value => vec![write(&scalar(value))],
    };
    parts.join(",")
}

/// The pairs of a parameter in the query, or of a field in a form; `None` where its style gives no one way.
pub fn query(node: &Value, name: &str, value: &Value) -> Option<Vec<String>> {
    let style = node["style"].as_str().unwrap_or("form");
    let explode = node["explode"].as_bool().unwrap_or(style == "form");
    let pair = |name: &str, value: &str| format!("{}={value}", escaped(name));
    let flat = |items: &[Value]| items.iter().all(|item| !item.is_object() && !item.is_array());
    let between = match style {
        "form" => ",",
        "spaceDelimited" => "%20",
        "pipeDelimited" => "%7C",
        "deepObject" => {
            let members = value.as_object()?;
            let known = members.values().all(|member| !member.is_object() && !member.is_array());
            let written = members.iter().map(|(key, value)| pair(&format!("{name}[{key}]"), &escaped(&scalar(value))));
            return known.then(|| written.collect());
        }
        _ => return None,
    };
    match value {
        Value::Array(items) if !flat(items) => None,
        Value::Array(items) if explode => Some(items.iter().map(|item| pair(name, &escaped(&scalar(item)))).collect()),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| escaped(&scalar(item))).collect();
            Some(vec![pair(name, &items.join(between))])
        }
        Value::Object(_) => None,
        value => Some(vec![pair(name, &escaped(&scalar(value)))]),
    }
}

/// Whether bodies of a media type are JSON.
pub fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

/// An example as JSON. Some descriptions have their examples as the text of a JSON document.
pub fn json(root: &Value, node: &Value, example: &Value) -> String {
    let schema = example::resolved(root, &node["schema"]);
    let structured =
        ["array", "object"].iter().any(|kind| schema["type"] == *kind) || schema.get("properties").is_some();
    match example.as_str().filter(|_| structured) {
        Some(text) => text.to_owned(),
        None => example.to_string(),
    }
}

/// The body that an example makes; `None` where its media type is neither JSON nor a form, or no one way leads to it.
pub fn body(root: &Value, media: &str, node: &Value, value: &Value) -> Option<String> {
    if is_json(media) {
        return Some(json(root, node, value));
    }
    let mut pairs = Vec::new();
    for (name, value) in value.as_object().filter(|_| media == "application/x-www-form-urlencoded")? {
        pairs.extend(query(&node["encoding"][name], name, value)?);
    }
    Some(pairs.join("&"))
}
