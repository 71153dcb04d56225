//! A cursor in Kong's file, and the notes about what the policy does not take over.
//!
//! Notes have a place and never an excerpt: the lines of the file have keys and secrets in them.

use std::collections::HashSet;

use crate::cli::init::yaml;
use crate::policy::At;
use crate::policy::tree::{Kind, NodeId, Tree};

/// Most notes that are kept; further ones are counted.
const MOST: usize = 1000;

/// What the policy does not take over, or takes over in another way.
#[derive(Default)]
pub(super) struct Notes {
    all: Vec<(usize, usize, String)>,
    more: usize,
}

impl Notes {
    /// Adds what was found at this node, what the policy does about it, and what to write.
    pub(super) fn add(&mut self, node: Node<'_>, text: impl Into<String>) {
        if self.all.len() >= MOST {
            self.more += 1;
            return;
        }
        let (line, column) = node.place();
        self.all.push((line, column, text.into()));
    }

    /// The notes in the order of the file, as `FILE:LINE:COLUMN: TEXT`.
    pub(super) fn lines(&mut self, file: &str) -> Vec<String> {
        self.all.sort();
        self.all.dedup();
        let mut lines: Vec<String> =
            self.all.iter().map(|(line, column, text)| format!("{file}:{line}:{column}: {text}")).collect();
        if self.more > 0 {
            lines.push(format!("and {} more; correct these first, then run it again", self.more));
        }
        lines
    }
}

/// A value in the file.
#[derive(Clone, Copy)]
pub(super) struct Node<'t> {
    tree: &'t Tree,
    id: NodeId,
}

impl<'t> Node<'t> {
    /// The root of a file.
    pub(super) fn root(at: At<'t>) -> Option<Self> {
        at.node().map(|(tree, id)| Self { tree, id })
    }

    /// The value of a key; `None` if it is absent or null.
    pub(super) fn get(self, key: &str) -> Option<Self> {
        self.entries().find(|(name, _)| *name == key).map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// Line and column, from 1.
    pub(super) fn place(self) -> (usize, usize) {
        self.tree.place(self.id).start()
    }

    fn is_null(self) -> bool {
        matches!(self.tree.kind(self.id), Kind::Scalar(scalar) if scalar.is_null())
    }

    /// Keys and values of a map; none of anything else.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'t str, Self)> {
        let entries: &'t [(NodeId, NodeId)] = match self.tree.kind(self.id) {
            Kind::Mapping(entries) => entries,
            _ => &[],
        };
        entries.iter().map(move |(key, value)| (self.tree.key_text(*key), Self { id: *value, ..self }))
    }

    /// The elements of the list at a key; a single value counts as a list of one.
    pub(super) fn items(self, key: &str) -> Vec<Self> {
        let Some(node) = self.get(key) else { return Vec::new() };
        match self.tree.kind(node.id) {
            Kind::Sequence(items) => items.iter().map(|id| Self { id: *id, ..self }).collect(),
            _ => vec![node],
        }
    }

    /// The text of a scalar, as it is written.
    pub(super) fn scalar(self) -> Option<&'t str> {
        match self.tree.kind(self.id) {
            Kind::Scalar(scalar) if !scalar.is_null() => Some(scalar.written()),
            _ => None,
        }
    }

    /// The text at a key.
    pub(super) fn text(self, key: &str) -> Option<&'t str> {
        self.get(key).and_then(Self::scalar)
    }

    /// The texts of the list at a key. What is not text is left out.
    pub(super) fn texts(self, key: &str) -> Vec<&'t str> {
        self.items(key).into_iter().filter_map(Self::scalar).collect()
    }

    /// Whether the value of a key is this word.
    pub(super) fn is(self, key: &str, word: &str) -> bool {
        self.text(key) == Some(word)
    }

    /// A whole number at a key.
    pub(super) fn number(self, key: &str) -> Option<u32> {
        self.text(key)?.parse().ok()
    }

    /// What names an entity: its name and its id.
    pub(super) fn names(self) -> Vec<&'t str> {
        ["name", "username", "custom_id", "id"].into_iter().filter_map(|key| self.text(key)).collect()
    }

    /// The entity that a key refers to, as `service: NAME` or `service: { name: NAME }`.
    pub(super) fn reference(self, key: &str) -> Option<&'t str> {
        let node = self.get(key)?;
        node.scalar().or_else(|| node.names().first().copied())
    }

    /// A value in this entity, without the entities in it, that only decK or Kong can resolve: `${{ env "DECK_X" }}` or
    /// `{vault://…}`. Nothing that contains one may be read as if it were the value.
    pub(super) fn placeholder(self) -> Option<Self> {
        const ENTITIES: [&str; 9] = [
            "routes",
            "plugins",
            "targets",
            "keyauth_credentials",
            "jwt_secrets",
            "acls",
            "tags",
            "basicauth_credentials",
            "hmacauth_credentials",
        ];
        let below = |node: Self| node.placeholder();
        match self.tree.kind(self.id) {
            Kind::Scalar(scalar) => {
                let text = scalar.written();
                (yaml::is_reference(text) || text.trim_start().starts_with("{vault://")).then_some(self)
            }
            Kind::Sequence(items) => items.iter().map(|id| Self { id: *id, ..self }).find_map(below),
            Kind::Mapping(_) => {
                self.entries().filter(|(key, _)| !ENTITIES.contains(key)).find_map(|(_, node)| node.placeholder())
            }
        }
    }

    /// Reports the keys that are none of these.
    pub(super) fn only(self, known: &[&str], what: &str, notes: &mut Notes) {
        const METADATA: [&str; 5] = ["id", "tags", "created_at", "updated_at", "_comment"];
        for (key, node) in self.entries() {
            if !known.contains(&key) && !METADATA.contains(&key) && !node.is_null() {
                notes.add(node, format!("`{}` of {what} is not taken over", yaml::comment(key)));
            }
        }
    }

    /// The first key that occurs twice in a map here or below: which one counts depends on the reader.
    pub(super) fn repeated_key(self) -> Option<Self> {
        let mut seen = HashSet::new();
        let of_map =
            self.entries().find_map(|(key, node)| if seen.insert(key) { node.repeated_key() } else { Some(node) });
        of_map.or_else(|| match self.tree.kind(self.id) {
            Kind::Sequence(items) => items.iter().find_map(|id| Self { id: *id, ..self }.repeated_key()),
            _ => None,
        })
    }
}
