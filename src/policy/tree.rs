//! The policy text as a tree with places, and the cursor that finds them again.
//!
//! Knows nothing of the policy language, nor of YAML: [`super::yaml`] builds the tree. What is wrong with one node is
//! reported and the node is *void*: decoding goes on as if it were not there, so that one mistake hides no other.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use secrecy::{ExposeSecret, SecretString};

use super::diagnostic::Problems;
use super::source::{Place, SourceText, quote};
use crate::secrets::{self, Lookup};

/// From so many entries on, a map is searched in order of its keys.
const LARGE: usize = 32;

/// Index of a node in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(pub(super) usize);

/// A scalar.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// The text as YAML reads it, references as written: what messages quote.
    pub(super) written: String,
    /// The text with its references resolved, when there are any.
    pub(super) resolved: Option<SecretString>,
    /// Written without quotes.
    pub(crate) plain: bool,
}

impl Scalar {
    /// The text as written, references unresolved.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// The text that counts. Never for printing: see [`Self::written`].
    pub(crate) fn value(&self) -> &str {
        self.resolved.as_ref().map_or(&self.written, |resolved| resolved.expose_secret())
    }

    /// Whether the value came out of references.
    pub(crate) fn is_reference(&self) -> bool {
        self.resolved.is_some()
    }

    /// `~`, `null` or nothing at all, unquoted.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && !self.is_reference() && matches!(self.written.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// Keys and values of a map.
type Entries = Vec<(NodeId, NodeId)>;

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// One value.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<NodeId>),
    /// Keys (always scalars, unless void) and values, in the order of the file.
    Mapping(Entries),
}

/// One node, with its place and its parent.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    pub(super) parent: Option<NodeId>,
    /// A problem was reported for this very node; decoding skips it.
    pub(super) void: bool,
    /// A problem was reported for this node or one beneath it.
    pub(super) damaged: bool,
}

/// The tree of one policy file.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) source: Arc<SourceText>,
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
    /// Entries of large maps, sorted by key; made when a cursor first asks.
    pub(super) large: OnceLock<HashMap<usize, Entries>>,
}

/// Stands in for a node that is not there; ids are made with their nodes, so it is never seen.
static NOTHING: Kind = Kind::Sequence(Vec::new());

impl Tree {
    /// Replaces the references in every value by what they stand for; those without a value are reported, and their
    /// nodes void.
    pub(crate) fn resolve(&mut self, lookup: &mut impl Lookup, problems: &mut Problems) {
        for index in 0..self.nodes.len() {
            let id = NodeId(index);
            let Kind::Scalar(scalar) = self.kind(id) else { continue };
            if !secrets::has_reference(&scalar.written) || self.is_void(id) {
                continue;
            }
            if self.is_key(id) {
                problems
                    .error(self.place(id), format!("the key {} holds a reference", quote(&scalar.written)))
                    .help("references stand in values only");
                self.void(id);
                continue;
            }
            match secrets::resolve(&scalar.written, lookup) {
                Ok(value) => {
                    if let Some(Node { kind: Kind::Scalar(scalar), .. }) = self.nodes.get_mut(index) {
                        scalar.resolved = Some(value);
                    }
                }
                Err(unresolved) => {
                    let offset = self.offset_of_text(id);
                    for problem in unresolved {
                        let place = match offset {
                            Some(offset) => {
                                Place::new(&self.source, offset + problem.range.start..offset + problem.range.end)
                            }
                            None => self.place(id),
                        };
                        problems.error(place, problem.message).help = problem.help;
                    }
                    self.void(id);
                }
            }
        }
    }

    /// Where the text of a scalar begins in the file, when the file has it letter by letter (no escapes, no folding).
    fn offset_of_text(&self, id: NodeId) -> Option<usize> {
        let node = self.nodes.get(id.0)?;
        let Kind::Scalar(scalar) = &node.kind else { return None };
        let start = node.span.start;
        [start, start + 1]
            .into_iter()
            .find(|from| self.source.text.get(*from..).is_some_and(|text| text.starts_with(&scalar.written)))
    }

    /// A cursor at the root.
    pub(crate) fn at(&self) -> At<'_> {
        At { tree: self, id: self.root, key: None, absent: false }
    }

    /// The root node.
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    /// What a node is.
    pub(crate) fn kind(&self, id: NodeId) -> &Kind {
        self.nodes.get(id.0).map_or(&NOTHING, |node| &node.kind)
    }

    /// Where a node is.
    pub(crate) fn place(&self, id: NodeId) -> Place {
        Place::new(&self.source, self.span(id))
    }

    /// Where a node is, in bytes.
    pub(super) fn span(&self, id: NodeId) -> Range<usize> {
        self.nodes.get(id.0).map_or(0..0, |node| node.span.clone())
    }

    /// Whether a node is to be skipped.
    pub(crate) fn is_void(&self, id: NodeId) -> bool {
        self.nodes.get(id.0).is_some_and(|node| node.void)
    }

    /// Makes decoding skip a node.
    pub(crate) fn void(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(id.0) {
            node.void = true;
        }
        self.damage(Some(id));
    }

    /// Marks a node and all above it.
    pub(super) fn damage(&mut self, id: Option<NodeId>) {
        let mut next = id;
        while let Some(node) = next.and_then(|id| self.nodes.get_mut(id.0)) {
            // Also stops at a parent that is marked: so are all above it.
            if std::mem::replace(&mut node.damaged, true) {
                break;
            }
            next = node.parent;
        }
    }

    /// What stands between a node and the root, the node's own key or position last.
    pub(crate) fn path(&self, id: NodeId) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let mut current = id;
        while let Some(parent) = self.nodes.get(current.0).and_then(|node| node.parent) {
            match self.kind(parent) {
                Kind::Sequence(items) => {
                    steps.push(Step::Index(items.iter().position(|item| *item == current).unwrap_or(0)));
                }
                Kind::Mapping(entries) => {
                    // A key is on the path of its map, a value on that of its key.
                    if let Some((key, _)) = entries.iter().find(|(_, value)| *value == current) {
                        steps.push(Step::Key(self.key_text(*key)));
                    }
                }
                Kind::Scalar(_) => {}
            }
            current = parent;
        }
        steps.reverse();
        steps
    }

    /// The key that a value stands behind.
    pub(crate) fn key_of(&self, id: NodeId) -> Option<NodeId> {
        match self.kind(self.nodes.get(id.0)?.parent?) {
            Kind::Mapping(entries) => entries.iter().find(|(_, value)| *value == id).map(|(key, _)| *key),
            _ => None,
        }
    }

    /// Text of a key.
    pub(crate) fn key_text(&self, key: NodeId) -> &str {
        match self.kind(key) {
            Kind::Scalar(scalar) => scalar.written(),
            _ => "",
        }
    }

    /// The first entry of a map under a name. Not linear in large maps: every consumer is looked up after decoding.
    fn entry(&self, map: NodeId, name: &str) -> Option<(NodeId, NodeId)> {
        let Kind::Mapping(entries) = self.kind(map) else { return None };
        if entries.len() < LARGE {
            return entries.iter().find(|(key, _)| self.key_text(*key) == name).copied();
        }
        let sorted = self.large.get_or_init(|| self.sort_large()).get(&map.0)?;
        let at = sorted.partition_point(|(key, _)| self.key_text(*key) < name);
        sorted.get(at).filter(|(key, _)| self.key_text(*key) == name).copied()
    }

    fn sort_large(&self) -> HashMap<usize, Entries> {
        let large = self.nodes.iter().enumerate().filter_map(|(id, node)| match &node.kind {
            Kind::Mapping(entries) if entries.len() >= LARGE => Some((id, entries.clone())),
            _ => None,
        });
        large
            .map(|(id, mut entries)| {
                // Stable, so that of two equal keys the first stays first.
                entries.sort_by_key(|(key, _)| self.key_text(*key));
                (id, entries)
            })
            .collect()
    }

    fn is_key(&self, id: NodeId) -> bool {
        let parent = self.nodes.get(id.0).and_then(|node| node.parent);
        parent.is_some_and(|parent| match self.kind(parent) {
            // Keys are made just before their values.
            Kind::Mapping(entries) => entries.binary_search_by_key(&id.0, |(key, _)| key.0).is_ok(),
            _ => false,
        })
    }
}

/// One step on the way from the root to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Behind this key of a map.
    Key(&'a str),
    /// At this position of a list, from 0.
    Index(usize),
}

/// A cursor that finds places, for problems that are found after decoding. Copy it freely.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    tree: &'a Tree,
    id: NodeId,
    key: Option<NodeId>,
    /// What was asked for is not there; `id` is the last that was.
    absent: bool,
}

impl<'a> At<'a> {
    /// What stands behind a key of this map; stays here, absent, when there is no such key.
    pub(crate) fn key(self, name: &str) -> Self {
        let found = if self.absent { None } else { self.tree.entry(self.id, name) };
        match found {
            Some((key, value)) => Self { id: value, key: Some(key), ..self },
            None => Self { absent: true, ..self },
        }
    }

    /// The element that decoding put at position `index`; void ones were skipped there and do not count here either.
    pub(crate) fn index(self, index: usize) -> Self {
        let found = match self.tree.kind(self.id) {
            Kind::Sequence(items) if !self.absent => items.iter().filter(|item| !self.tree.is_void(**item)).nth(index),
            _ => None,
        };
        match found {
            Some(item) => Self { id: *item, key: None, ..self },
            None => Self { absent: true, ..self },
        }
    }

    /// What a JSON pointer (RFC 6901) leads to from here; absent where it leads nowhere.
    pub(crate) fn pointer(self, pointer: &str) -> Self {
        pointer.split('/').skip(1).fold(self, |at, step| {
            let step = step.replace("~1", "/").replace("~0", "~");
            let by_key = at.key(&step);
            match step.parse() {
                Ok(index) if !by_key.present() => at.index(index),
                _ => by_key,
            }
        })
    }

    /// Place of the value. When absent: the key (or the start) of the nearest that is there.
    pub(crate) fn place(self) -> Place {
        if self.absent { self.key_place() } else { self.tree.place(self.id) }
    }

    /// Place of the key; of the value where there is no key.
    pub(crate) fn key_place(self) -> Place {
        self.tree.place(self.key.unwrap_or(self.id))
    }

    /// The node itself, where it is in the file.
    pub(super) fn node(self) -> Option<(&'a Tree, NodeId)> {
        (!self.absent).then_some((self.tree, self.id))
    }

    /// Whether it is in the file.
    pub(crate) fn present(self) -> bool {
        !self.absent
    }

    /// Whether a problem was reported here or beneath, so that what seems to be missing may only be misspelt. When
    /// absent: whether that holds for the nearest that is there, or for a key directly in it.
    pub(crate) fn damaged(self) -> bool {
        let Some(node) = self.tree.nodes.get(self.id.0) else { return false };
        if !self.absent {
            return node.damaged || self.key.is_some_and(|key| self.tree.is_void(key));
        }
        let misspelt = match &node.kind {
            Kind::Mapping(entries) => entries.iter().any(|(key, _)| self.tree.is_void(*key)),
            _ => false,
        };
        misspelt || node.void || self.key.is_some_and(|key| self.tree.is_void(key))
    }

    /// The text of a scalar as written, references unresolved: what messages quote.
    pub(crate) fn written(self) -> Option<&'a str> {
        match self.tree.kind(self.id) {
            Kind::Scalar(scalar) if !self.absent => Some(scalar.written()),
            _ => None,
        }
    }
}
