//! What can be wrong with one node of the policy, and the message for each mistake.
//!
//! Messages only; the decoder finds the mistakes. The keys of the language that this version does not support yet are
//! listed here, so that they are not reported as misspelt. They are errors, because nothing in a policy is ignored.

use std::fmt;

use super::diagnostic::{Problems, did_you_mean};
use super::source::quote;
use super::tree::{Kind, NodeId, Scalar, Step, Tree};

/// Keys of the policy language that are not built yet, by the path of their map: keys from the root, `*` for any key
/// or position.
const PLANNED: &[(&str, &[&str])] =
    &[("auth.issuers.*", &["on_failure"]), ("audit.*.file", &["on_failure"]), ("audit.to.*.file", &["on_failure"])];

/// Former names of keys, their new names, and a further sentence. A path names a key inside another.
const RENAMED: &[(&str, &[&str], &str)] = &[
    ("failures", &["failed_attempts"], ""),
    ("strong", &["proof_of_possession"], ""),
    ("max_body", &["request.max_size"], ""),
    ("timeout", &["request.timeout"], ""),
    ("on_invalid", &["mode"], ""),
    ("body", &["body_size"], ""),
    ("ca", &["tls.ca"], ""),
    ("keys", &["jwks", "public_key"], " Without either, the keys are discovered."),
];

/// What a node should have been.
#[derive(Debug)]
pub(super) enum Expectation {
    /// Any text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A list.
    List,
    /// A map from names.
    Map,
    /// A map with some of these keys.
    Keys(&'static [&'static str]),
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// Described by this text.
    Other(String),
}

impl Expectation {
    /// Translates what a visitor says it expects.
    pub(super) fn of(expected: &dyn serde::de::Expected) -> Self {
        match expected.to_string() {
            text if text == "a string" => Self::Text,
            text if text == "a sequence" => Self::List,
            text if text == "a map" => Self::Map,
            text if text == "a boolean" => Self::Flag,
            text => Self::Other(text),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("text"),
            Self::Flag => f.write_str("`true` or `false`"),
            Self::List => f.write_str("a list"),
            Self::Map | Self::Keys(_) => f.write_str("a map"),
            Self::OneOf(names) => write!(f, "one of {}", list(names)),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// What is wrong.
#[derive(Debug)]
pub(super) enum What {
    /// A key that is not allowed here; these are.
    UnknownField(&'static [&'static str]),
    /// A name that is not allowed here; these are.
    UnknownVariant(&'static [&'static str]),
    /// Something else was expected.
    Expected(Expectation),
    /// The right value, but in quotes.
    Quoted(Expectation),
    /// The key has no value.
    NoValue(Expectation),
    /// The type's own message and, after a line break, its help.
    Custom(String),
    /// A part of it was reported before, and the rest is useless without that part.
    Void,
}

/// A mistake, and its node.
#[derive(Debug)]
pub(super) struct DecodeError {
    what: What,
    node: Option<NodeId>,
}

impl DecodeError {
    /// Returns an error whose node is not known yet.
    pub(super) fn new(what: What) -> Self {
        Self { what, node: None }
    }

    /// Sets the node, unless one is set: the innermost comes first.
    pub(super) fn at(self, node: NodeId) -> Self {
        Self { node: self.node.or(Some(node)), ..self }
    }

    /// Reports the error. Returns the node to make void.
    pub(super) fn report(self, tree: &Tree, problems: &mut Problems) -> NodeId {
        let id = self.node.unwrap_or(tree.root());
        let scalar = match tree.kind(id) {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        };
        let written = scalar.map_or("", Scalar::written);
        let mut place = id;
        let (message, help) = match self.what {
            What::Void => return id,
            What::UnknownField(known) => planned(tree, id, written).unwrap_or_else(|| {
                (format!("unknown key {} {}", quote(written), container(tree, id)), Some(meant(written, known, "keys")))
            }),
            What::UnknownVariant(known) => {
                let key = if tree.key_text(id).is_empty() { "" } else { written };
                planned(tree, id, key).unwrap_or_else(|| {
                    (
                        format!("{} is not known {}", quote(written), container(tree, id)),
                        Some(meant(written, known, "names")),
                    )
                })
            }
            What::Expected(expectation) => {
                let help = help_for(&expectation, tree, id);
                (format!("expected {expectation}, found {}", found(tree, id)), help)
            }
            What::Quoted(expectation) => (
                format!("expected {expectation}, found text in quotes"),
                Some(format!("remove the quotes: {}", quote(written))),
            ),
            What::NoValue(expectation) => {
                let key = tree.key_of(id);
                place = key.unwrap_or(id);
                let subject = key.map_or_else(|| "this entry".to_owned(), |key| quote(tree.key_text(key)));
                let help = match expectation {
                    Expectation::List => "write its entries, `[]` for none, or remove the key".to_owned(),
                    Expectation::Map => "write its entries, `{}` for none, or remove the key".to_owned(),
                    Expectation::Keys(known) => {
                        format!("write some of the keys {}, `{{}}` for none of them, or remove it", list(known))
                    }
                    Expectation::Text if !written.is_empty() => {
                        format!("put {} in quotes if text is meant, or remove it", quote(written))
                    }
                    expectation => format!("write {expectation}, or remove it"),
                };
                (format!("{subject} has no value"), Some(help))
            }
            What::Custom(_) if scalar.is_some_and(Scalar::is_reference) => {
                (format!("the value of {} does not fit here", quote(written)), None)
            }
            What::Custom(text) => match text.split_once('\n') {
                Some((message, help)) => (message.to_owned(), Some(help.to_owned())),
                None => (text, None),
            },
        };
        problems.error(tree.place(place), message).help = help;
        id
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for DecodeError {}

/// Returns the message for a key that is part of the language but not built yet.
fn planned(tree: &Tree, id: NodeId, key: &str) -> Option<(String, Option<String>)> {
    let path = tree.path(id);
    let fits = |pattern: &str| {
        let mut steps = path.iter();
        pattern.split('.').filter(|part| !part.is_empty()).all(|part| match steps.next() {
            Some(Step::Key(name)) => part == "*" || part == *name,
            Some(Step::Index(_)) => part == "*",
            None => false,
        }) && steps.next().is_none()
    };
    let known = PLANNED.iter().any(|(pattern, keys)| keys.contains(&key) && fits(pattern));
    known.then(|| {
        let message = format!("{} is part of the policy language, but not supported yet", quote(key));
        (message, Some("remove it; a policy cannot have keys without effect".to_owned()))
    })
}

/// Describes where a key or name is.
fn container(tree: &Tree, id: NodeId) -> String {
    let path = tree.path(id);
    match path.iter().rev().find_map(|step| match step {
        Step::Key(name) => Some(*name),
        Step::Index(_) => None,
    }) {
        Some(name) => format!("in {}", quote(name)),
        None => "at the top level".to_owned(),
    }
}

fn meant(wrong: &str, known: &[&str], what: &str) -> String {
    renamed(wrong, known)
        .or_else(|| did_you_mean(wrong, known.iter().copied()))
        .unwrap_or_else(|| format!("the {what} here are {}", list(known)))
}

/// Suggests the new name of a renamed key, if one of the known keys is or contains it.
pub(super) fn renamed(wrong: &str, known: &[&str]) -> Option<String> {
    let is_known = |new: &&str| known.contains(&new.split_once('.').map_or(*new, |(outer, _)| outer));
    let (_, new, more) = RENAMED.iter().find(|(old, new, _)| *old == wrong && new.iter().all(is_known))?;
    Some(format!("did you mean `{}`?{more}", new.join("` or `")))
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Describes a node.
fn found(tree: &Tree, id: NodeId) -> String {
    match tree.kind(id) {
        Kind::Scalar(scalar) if scalar.is_reference() => format!("the value of {}", quote(scalar.written())),
        Kind::Scalar(scalar) if scalar.written().is_empty() => "empty text".to_owned(),
        Kind::Scalar(scalar) => quote(scalar.written()),
        Kind::Sequence(_) => "a list".to_owned(),
        Kind::Mapping(_) => "a map".to_owned(),
    }
}

fn help_for(expectation: &Expectation, tree: &Tree, id: NodeId) -> Option<String> {
    let text = match (expectation, tree.kind(id)) {
        (Expectation::List, Kind::Scalar(scalar)) => {
            let written = scalar.written();
            let bare = !written.is_empty()
                && !written.contains([',', '[', ']', '{', '}', '#', '\n'])
                && !written.contains(": ");
            if bare {
                format!("write `[{written}]`")
            } else {
                "write it as a list: `[…]`, or each entry after a `- `".to_owned()
            }
        }
        (Expectation::List, Kind::Mapping(_)) => "begin every entry with `- `".to_owned(),
        (Expectation::Map, Kind::Sequence(_)) => "write `name: …` for every entry, without `- `".to_owned(),
        (Expectation::Keys(known), _) => format!("the keys here are {}", list(known)),
        (Expectation::Flag, Kind::Scalar(scalar)) => {
            let truth = match scalar.written().to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" | "1" | "true" => "true",
                "no" | "off" | "n" | "0" | "false" => "false",
                _ => return None,
            };
            format!("write `{truth}`")
        }
        (Expectation::Text, Kind::Sequence(items)) if items.len() == 1 => {
            let only = items.first().map(|item| tree.kind(*item));
            let Some(Kind::Scalar(scalar)) = only else { return None };
            format!("write it without the brackets: {}", quote(scalar.written()))
        }
        (Expectation::Text, Kind::Mapping(_) | Kind::Sequence(_)) => {
            "put text that begins with `{` or `[` in quotes; only one value is allowed here".to_owned()
        }
        _ => return None,
    };
    Some(text)
}
