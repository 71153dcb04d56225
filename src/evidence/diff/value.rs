//! The policy as written, as a value that can be compared: aliases and references resolved, keys in order, each with its place.

use std::collections::BTreeMap;

use crate::policy::source::Place;
use crate::policy::tree::{Kind as Node, NodeId, Scalar, Tree};

/// A part of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// Where it is.
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

/// The kinds of values.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// One value. References in it are resolved, so it may be a secret: what is printed is [`Value::shown`].
    Text(Scalar),
    /// A list.
    List(Vec<Value>),
    /// A map, or the entries of a list by their identities.
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// Reads a whole policy.
    pub(crate) fn of(tree: &Tree) -> Self {
        Self::node(tree, tree.root())
    }

    fn node(tree: &Tree, id: NodeId) -> Self {
        let kind = match tree.kind(id) {
            Node::Scalar(scalar) => Kind::Text(scalar.clone()),
            Node::Sequence(items) => Kind::List(items.iter().map(|item| Self::node(tree, *item)).collect()),
            Node::Mapping(entries) => {
                let entry =
                    |(key, value): &(NodeId, NodeId)| (tree.key_text(*key).to_owned(), Self::node(tree, *value));
                Kind::Map(entries.iter().map(entry).collect())
            }
        };
        Self { place: tree.place(id), kind }
    }

    /// A map with this value alone.
    pub(crate) fn in_map(self, key: &str) -> Self {
        Self { place: self.place.clone(), kind: Kind::Map(BTreeMap::from([(key.to_owned(), self)])) }
    }

    /// The value of a key; `None` if it is absent, or this is no map.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(entries) => entries.get(key),
            _ => None,
        }
    }

    /// The value at the end of these keys.
    pub(crate) fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |value, key| value.get(key))
    }

    /// The entries of a map.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let entries = match &self.kind {
            Kind::Map(entries) => Some(entries),
            _ => None,
        };
        entries.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// The text of a scalar, references resolved.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(scalar) => Some(scalar.value()),
            _ => None,
        }
    }

    /// The texts of a list, or the only text.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.items().iter().filter_map(Self::text).collect()
    }

    /// Whether one of all texts in it is this one.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Text(scalar) => scalar.value() == text,
            Kind::List(items) => items.iter().any(|item| item.mentions(text)),
            Kind::Map(entries) => entries.values().any(|value| value.mentions(text)),
        }
    }

    /// The items of a list, or the value itself: many keys take one or a list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// Whether both mean the same, however they are written.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Text(one), Kind::Text(other)) => one.value() == other.value(),
            (Kind::Map(one), Kind::Map(other)) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .zip(other)
                        .all(|((key, one), (other_key, other))| key == other_key && one.is_same(other))
            }
            (Kind::Map(_), _) | (_, Kind::Map(_)) => false,
            _ => {
                let (one, other) = (self.items(), other.items());
                one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.is_same(other))
            }
        }
    }

    /// Whether, in a whole policy, tokens or operators may give roles to callers.
    pub(crate) fn gives_roles(&self) -> bool {
        let parts = ["issuers", "introspection"].into_iter().filter_map(|part| self.at(&["auth", part]));
        let mut issuers = parts.flat_map(Self::entries);
        self.get("store").is_some() || issuers.any(|(_, issuer)| issuer.get("role_claim").is_some())
    }

    /// The value for people, references as they are written. Only for settings that are no secrets.
    pub(crate) fn shown(&self) -> String {
        match &self.kind {
            Kind::Text(scalar) => scalar.written().to_owned(),
            Kind::List(items) => {
                let items: Vec<_> = items.iter().map(Self::shown).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key}: {}", value.shown())).collect();
                format!("{{ {} }}", entries.join(", "))
            }
        }
    }
}

/// Whether both are absent or mean the same.
pub(crate) fn are_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => one.is_same(other),
        _ => false,
    }
}
