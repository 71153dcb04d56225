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
}

fn json(tree: &Tree, id: NodeId) -> Value {
    match tree.kind(id) {
        Kind::Scalar(scalar) if scalar.is_null() => Value::Null,
        Kind::Scalar(scalar) if scalar.plain => match scalar.written() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => text.parse::<Number>().map_or_else(|_| Value::String(text.to_owned()), Value::Number),
        },
        Kind::Scalar(scalar) => Value::String(scalar.written().to_owned()),
        Kind::Sequence(items) => items.iter().map(|item| json(tree, *item)).collect(),
        Kind::Mapping(entries) => {
            let member = |(key, value): &(NodeId, NodeId)| (tree.key_text(*key).to_owned(), json(tree, *value));
            Value::Object(entries.iter().map(member).collect::<Map<_, _>>())
        }
    }
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
        assert_eq!(written.at().key("b").json(), Value::Null);
    }
}
