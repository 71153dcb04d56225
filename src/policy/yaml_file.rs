//! Other YAML files, such as test files: read and decoded like a policy, with every mistake reported at its place.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use super::decode::decode;
use super::diagnostic::Problems;
use super::source::{self, Place, SourceText};
use super::tree::{At, Kind, NodeId, Tree};
use super::yaml;

/// A text that was read.
#[derive(Debug)]
pub(crate) struct Written<T> {
    /// The value, without the parts that are wrong.
    pub(crate) document: T,
    /// The problems found so far.
    pub(crate) problems: Problems,
    tree: Tree,
}

impl<T> Written<T> {
    /// Returns a cursor, for the places of problems that are found later.
    pub(crate) fn at(&self) -> At<'_> {
        self.tree.at()
    }
}

/// Reads a file. Fails if there is no file or no YAML.
pub(crate) fn file<T: DeserializeOwned + Default>(path: &Path) -> Result<Written<T>, Problems> {
    match source::read_like_a_policy(path) {
        Ok(source) => read(source),
        Err(error) => {
            let mut problems = Problems::new();
            problems.error(None, error.to_string());
            Err(problems)
        }
    }
}

/// Reads a text; messages show `name` as its file name.
pub(crate) fn text<T: DeserializeOwned + Default>(name: &str, text: String) -> Result<Written<T>, Problems> {
    read(SourceText::new(name.to_owned(), text, 0))
}

fn read<T: DeserializeOwned + Default>(source: SourceText) -> Result<Written<T>, Problems> {
    let mut problems = Problems::new();
    let source = Arc::new(source);
    // Checked here, because the parser's message is about a policy.
    if source.text.lines().all(|line| matches!(line.trim_start().chars().next(), None | Some('#'))) {
        problems.error(Place::new(&source, 0..0), "the text is empty");
        return Err(problems);
    }
    let Some(mut tree) = yaml::parse(&source, &mut problems) else { return Err(problems) };
    let document = decode(&mut tree, &mut problems);
    Ok(Written { document, problems, tree })
}

/// A part of any type; [`At::json`] returns it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Anything;

impl<'de> serde::Deserialize<'de> for Anything {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl At<'_> {
    /// Returns this value as JSON. An unquoted JSON number, `true`, `false` or `null` becomes that; everything else
    /// becomes text.
    pub(crate) fn json(self) -> Value {
        match self.node() {
            Some((tree, id)) => json(tree, id),
            None => Value::Null,
        }
    }

    /// Returns the text of the same JSON, in which numbers are as they are written: a [`Value`] rounds them.
    pub(crate) fn json_text(self) -> String {
        let mut text = String::new();
        match self.node() {
            Some((tree, id)) => write_json(tree, id, &mut text),
            None => text.push_str("null"),
        }
        text
    }
}

fn write_json(tree: &Tree, id: NodeId, text: &mut String) {
    let separate = |position: usize, text: &mut String| text.push_str(if position > 0 { "," } else { "" });
    match (tree.kind(id), json_of_scalar(tree, id)) {
        (Kind::Scalar(scalar), Some(Value::Number(_))) => text.push_str(scalar.written()),
        (_, Some(value)) => text.push_str(&value.to_string()),
        (Kind::Scalar(_), None) => {}
        (Kind::Sequence(items), None) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                separate(position, text);
                write_json(tree, *item, text);
            }
            text.push(']');
        }
        (Kind::Mapping(entries), None) => {
            text.push('{');
            for (position, (key, value)) in entries.iter().enumerate() {
                separate(position, text);
                text.push_str(&Value::from(tree.key_text(*key)).to_string());
                text.push(':');
                write_json(tree, *value, text);
            }
            text.push('}');
        }
    }
}

fn json(tree: &Tree, id: NodeId) -> Value {
    match tree.kind(id) {
        Kind::Scalar(_) => json_of_scalar(tree, id).unwrap_or_default(),
        Kind::Sequence(items) => items.iter().map(|item| json(tree, *item)).collect(),
        Kind::Mapping(entries) => {
            let member = |(key, value): &(NodeId, NodeId)| (tree.key_text(*key).to_owned(), json(tree, *value));
            Value::Object(entries.iter().map(member).collect::<Map<_, _>>())
        }
    }
}

fn json_of_scalar(tree: &Tree, id: NodeId) -> Option<Value> {
    let Kind::Scalar(scalar) = tree.kind(id) else { return None };
    Some(match scalar.written() {
        _ if scalar.is_null() => Value::Null,
        text if !scalar.plain => Value::String(text.to_owned()),
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text.parse::<Number>().map_or_else(|_| Value::String(text.to_owned()), Value::Number),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn anything_is_json() {
        let text = "a: { n: [1, -2.5, 1e3, \"1\", 01, +1], t: true, q: 'true', z: null, e: , s: a b, h: 2026-11-24 }\n";
        let written = super::text::<BTreeMap<String, Anything>>("x", text.to_owned()).unwrap();
        assert!(written.problems.is_empty(), "{}", written.problems.text(false));
        assert_eq!(
            written.at().key("a").json(),
            json!({"n": [1, -2.5, 1e3, "1", "01", "+1"], "t": true, "q": "true", "z": null, "e": null, "s": "a b",
                "h": "2026-11-24"})
        );
        assert_eq!(
            written.at().key("a").json_text(),
            r#"{"n":[1,-2.5,1e3,"1","01","+1"],"t":true,"q":"true","z":null,"e":null,"s":"a b","h":"2026-11-24"}"#
        );
        let missing = written.at().key("b");
        assert_eq!((missing.json(), &*missing.json_text()), (Value::Null, "null"));
    }

    /// F40: a test sends the number that its file has.
    #[test]
    fn the_text_of_json_has_numbers_as_they_are_written() {
        let text = "a: [0.3000000000000000000001, 18446744073709551616, {\"x\\\"\\n\": -0}, 1.50, 1e-400, []]\n";
        let written = super::text::<BTreeMap<String, Anything>>("x", text.to_owned()).unwrap();
        let expected = r#"[0.3000000000000000000001,18446744073709551616,{"x\"\n":-0},1.50,1e-400,[]]"#;
        assert_eq!(written.at().key("a").json_text(), expected);
    }
}
