//! The policy text as a tree, in which every node has a place, and a cursor to look places up.
//!
//! It knows neither the policy language nor YAML: [`super::yaml`] builds the tree. A node with a reported mistake is
//! *void*: decoding continues as if it were absent, so that one mistake hides no other.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use secrecy::{ExposeSecret, SecretString};

use super::diagnostic::Problems;
use super::source::{Place, SourceText, quote};
use crate::secrets::vault::VaultReference;
use crate::secrets::{self, Lookup};

/// From this many entries on, a map is searched by a sorted index.
const LARGE: usize = 32;

/// Index of a node in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(pub(super) usize);

/// A scalar.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    /// The text as YAML reads it, references unresolved. Messages quote it.
    pub(super) written: String,
    /// The text with its references resolved, if there are any.
    pub(super) resolved: Option<SecretString>,
    /// Written without quotes.
    pub(crate) plain: bool,
}

impl Scalar {
    /// The text as written, references unresolved.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// The text with references resolved. Never print it: see [`Self::written`].
    pub(crate) fn value(&self) -> &str {
        self.resolved.as_ref().map_or(&self.written, |resolved| resolved.expose_secret())
    }

    /// Whether the value comes from references.
    pub(crate) fn is_reference(&self) -> bool {
        self.resolved.is_some()
    }

    /// Whether it is `~`, `null` or empty, unquoted.
    pub(crate) fn is_null(&self) -> bool {
        self.plain && !self.is_reference() && matches!(self.written.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// Keys and values of a map.
type Entries = Vec<(NodeId, NodeId)>;

/// The kinds of nodes.
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
    /// Which text it was read from: 0 for that of the policy file, from 1 for those that it includes.
    pub(super) source: usize,
    /// Bytes of that text.
    pub(super) span: Range<usize>,
    pub(super) parent: Option<NodeId>,
    /// A problem was reported for this node; decoding skips it.
    pub(super) void: bool,
    /// A problem was reported for this node or one below it.
    pub(super) damaged: bool,
}

/// The tree of one policy.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) source: Arc<SourceText>,
    /// The texts of the files that it includes.
    pub(super) included: Vec<Arc<SourceText>>,
    pub(super) nodes: Vec<Node>,
    pub(super) root: NodeId,
    /// Entries of large maps, sorted by key; built at the first lookup.
    pub(super) large: OnceLock<HashMap<usize, Entries>>,
}

/// Returned for an unknown id, which does not occur, because ids are created with their nodes.
static NOTHING: Kind = Kind::Sequence(Vec::new());

impl Tree {
    /// Resolves the references in every value, except those in which there is one to the vault. Those without a value are
    /// reported, and their nodes become void.
    pub(crate) fn resolve(&mut self, lookup: &mut impl Lookup, problems: &mut Problems) {
        self.resolve_where(|text| !secrets::has_vault_reference(text), lookup, problems);
        for id in self.with_vault_references() {
            // These settings are needed to ask the vault.
            if let [Step::Key(key @ ("secrets" | "egress")), ..] = *self.path(id) {
                let message = format!("`{key}` cannot refer to the vault: it says how the vault is reached");
                problems.error(self.place(id), message).help("use `${env:NAME}` or `${file:PATH}` here");
                self.void(id);
            }
        }
    }

    /// Resolves the references in the values that [`Self::resolve`] left.
    pub(crate) fn resolve_vault(&mut self, lookup: &mut impl Lookup, problems: &mut Problems) {
        self.resolve_where(secrets::has_vault_reference, lookup, problems);
    }

    /// Makes decoding skip the values that [`Self::resolve`] left.
    pub(crate) fn void_vault_references(&mut self) {
        for id in self.with_vault_references() {
            self.void(id);
        }
    }

    /// The references to the vault, with their nodes.
    pub(crate) fn vault_references(&self) -> Vec<(NodeId, VaultReference)> {
        let text = |id| match self.kind(id) {
            Kind::Scalar(scalar) => scalar.written(),
            _ => "",
        };
        let nodes = self.with_vault_references().into_iter();
        nodes.flat_map(|id| secrets::vault_references(text(id)).map(move |reference| (id, reference))).collect()
    }

    /// The references that have values, without `${` and `}`, with their nodes.
    pub(crate) fn references(&self) -> impl Iterator<Item = (NodeId, &str)> {
        let scalars = self.nodes.iter().enumerate().filter_map(move |(index, node)| match &node.kind {
            Kind::Scalar(scalar) if scalar.is_reference() => Some((NodeId(index), scalar)),
            _ => None,
        });
        scalars.flat_map(|(id, scalar)| secrets::references(scalar.written()).map(move |inside| (id, inside)))
    }

    fn with_vault_references(&self) -> Vec<NodeId> {
        let has = |id: &NodeId| matches!(self.kind(*id), Kind::Scalar(scalar) if secrets::has_vault_reference(&scalar.written));
        (0..self.nodes.len()).map(NodeId).filter(|id| has(id) && !self.is_void(*id)).collect()
    }

    fn resolve_where(&mut self, is: fn(&str) -> bool, lookup: &mut impl Lookup, problems: &mut Problems) {
        for index in 0..self.nodes.len() {
            let id = NodeId(index);
            let Kind::Scalar(scalar) = self.kind(id) else { continue };
            if !secrets::has_reference(&scalar.written) || !is(&scalar.written) || self.is_void(id) {
                continue;
            }
            if self.is_key(id) {
                problems
                    .error(self.place(id), format!("the key {} contains a reference", quote(&scalar.written)))
                    .help("use references only in values");
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
                            Some(offset) => self.place_at(id, offset + problem.range.start..offset + problem.range.end),
                            None => self.place(id),
                        };
                        problems.error(place, problem.message).help = problem.help;
                    }
                    self.void(id);
                }
            }
        }
    }

    /// Where the text of a scalar begins in the file, if the file contains it literally (no escapes, no folding).
    fn offset_of_text(&self, id: NodeId) -> Option<usize> {
        let node = self.nodes.get(id.0)?;
        let Kind::Scalar(scalar) = &node.kind else { return None };
        let start = node.span.start;
        [start, start + 1]
            .into_iter()
            .find(|from| self.source(id).text.get(*from..).is_some_and(|text| text.starts_with(&scalar.written)))
    }

    /// Returns a cursor at the root.
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

    /// The place of a node.
    pub(crate) fn place(&self, id: NodeId) -> Place {
        self.place_at(id, self.span(id))
    }

    /// A place in the text of a node.
    fn place_at(&self, id: NodeId, span: Range<usize>) -> Place {
        Place::new(self.source(id), span)
    }

    /// The text of a node.
    fn source(&self, id: NodeId) -> &Arc<SourceText> {
        let position = self.nodes.get(id.0).and_then(|node| node.source.checked_sub(1));
        position.and_then(|position| self.included.get(position)).unwrap_or(&self.source)
    }

    /// Whether a node is of a file that the policy includes.
    pub(crate) fn is_included(&self, id: NodeId) -> bool {
        self.nodes.get(id.0).is_some_and(|node| node.source > 0)
    }

    /// The texts of the policy file that are the value of several nodes: those of anchors, which stand where their aliases are,
    /// too.
    pub(crate) fn shared(&self) -> HashSet<Range<usize>> {
        let mut seen = HashSet::new();
        let spans = self.nodes.iter().filter(|node| node.source == 0).map(|node| &node.span);
        spans.filter(|span| !seen.insert(*span)).cloned().collect()
    }

    /// The bytes of a node.
    pub(super) fn span(&self, id: NodeId) -> Range<usize> {
        self.nodes.get(id.0).map_or(0..0, |node| node.span.clone())
    }

    /// Adds entries of a map of another text to this map.
    pub(super) fn adopt(&mut self, map: NodeId, entries: &[(NodeId, NodeId)]) {
        for id in entries.iter().flat_map(|(key, value)| [*key, *value]) {
            let damaged = self.nodes.get_mut(id.0).is_some_and(|node| {
                node.parent = Some(map);
                node.damaged
            });
            if damaged {
                self.damage(Some(map));
            }
        }
        if let Some(Node { kind: Kind::Mapping(all), .. }) = self.nodes.get_mut(map.0) {
            all.extend_from_slice(entries);
        }
        // Its index is of what was there before.
        self.large = OnceLock::new();
    }

    /// Whether decoding skips a node.
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

    /// Marks a node and all its ancestors.
    pub(super) fn damage(&mut self, id: Option<NodeId>) {
        let mut next = id;
        while let Some(node) = next.and_then(|id| self.nodes.get_mut(id.0)) {
            // Stops at a marked ancestor: all above it are marked, too.
            if std::mem::replace(&mut node.damaged, true) {
                break;
            }
            next = node.parent;
        }
    }

    /// The path from the root to a node; the node's own key or position comes last.
    pub(crate) fn path(&self, id: NodeId) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        let mut current = id;
        while let Some(parent) = self.nodes.get(current.0).and_then(|node| node.parent) {
            match self.kind(parent) {
                Kind::Sequence(items) => {
                    steps.push(Step::Index(items.binary_search_by_key(&current.0, |item| item.0).unwrap_or(0)));
                }
                Kind::Mapping(entries) => {
                    // The path of a key is that of its map; the path of a value includes its key.
                    if let Some(key) = key_of_value(entries, current) {
                        steps.push(Step::Key(self.key_text(key)));
                    }
                }
                Kind::Scalar(_) => {}
            }
            current = parent;
        }
        steps.reverse();
        steps
    }

    /// The key of a value.
    pub(crate) fn key_of(&self, id: NodeId) -> Option<NodeId> {
        match self.kind(self.nodes.get(id.0)?.parent?) {
            Kind::Mapping(entries) => key_of_value(entries, id),
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

    /// The first entry of a map with this key. Not linear in large maps: every consumer is looked up after decoding.
    pub(super) fn entry(&self, map: NodeId, name: &str) -> Option<(NodeId, NodeId)> {
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
                // Stable, so that the first of two equal keys stays first.
                entries.sort_by_key(|(key, _)| self.key_text(*key));
                (id, entries)
            })
            .collect()
    }

    fn is_key(&self, id: NodeId) -> bool {
        let parent = self.nodes.get(id.0).and_then(|node| node.parent);
        parent.is_some_and(|parent| match self.kind(parent) {
            // A key is created just before its value.
            Kind::Mapping(entries) => entries.binary_search_by_key(&id.0, |(key, _)| key.0).is_ok(),
            _ => false,
        })
    }
}

/// The key of a value. Nodes are numbered as they are created, so that those of a map grow.
fn key_of_value(entries: &[(NodeId, NodeId)], value: NodeId) -> Option<NodeId> {
    let at = entries.binary_search_by_key(&value.0, |(_, value)| value.0).ok()?;
    entries.get(at).map(|(key, _)| *key)
}

/// One step of the path to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The value of this key of a map.
    Key(&'a str),
    /// The element at this position of a list, from 0.
    Index(usize),
}

/// A cursor that looks up places, for problems that are found after decoding.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    tree: &'a Tree,
    id: NodeId,
    key: Option<NodeId>,
    /// The requested node does not exist; `id` is its nearest ancestor that does.
    absent: bool,
}

impl<'a> At<'a> {
    /// Moves to the value of a key of this map. If there is no such key, stays here and becomes absent.
    pub(crate) fn key(self, name: &str) -> Self {
        let found = if self.absent { None } else { self.tree.entry(self.id, name) };
        match found {
            Some((key, value)) => Self { id: value, key: Some(key), ..self },
            None => Self { absent: true, ..self },
        }
    }

    /// Moves to the element at position `index` of the decoded list, which has no void elements.
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

    /// Moves to another node of the tree: the value of `key`, or an element of a list.
    pub(super) fn to(self, id: NodeId, key: Option<NodeId>) -> Self {
        Self { id, key, absent: false, ..self }
    }

    /// Follows a JSON pointer (RFC 6901) from here; absent if it leads nowhere.
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

    /// The position of a key among the entries of this map, in the order of the file.
    pub(crate) fn position_of_key(self, name: &str) -> Option<usize> {
        match self.tree.kind(self.id) {
            Kind::Mapping(entries) if !self.absent => {
                entries.iter().position(|(key, _)| self.tree.key_text(*key) == name)
            }
            _ => None,
        }
    }

    /// Place of the value. If absent: the key (or the start) of the nearest ancestor that exists.
    pub(crate) fn place(self) -> Place {
        if self.absent { self.key_place() } else { self.tree.place(self.id) }
    }

    /// Place of the key, or of the value if there is no key.
    pub(crate) fn key_place(self) -> Place {
        self.tree.place(self.key.unwrap_or(self.id))
    }

    /// The node, if it is in the file.
    pub(crate) fn node(self) -> Option<(&'a Tree, NodeId)> {
        (!self.absent).then_some((self.tree, self.id))
    }

    /// Whether it is in the file.
    pub(crate) fn present(self) -> bool {
        !self.absent
    }

    /// Whether a problem was reported here or below, so that something missing may only be misspelt. If absent: whether
    /// this is true of the nearest ancestor that exists, or of a key directly in it.
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

    /// The text of a scalar as written, references unresolved. Messages quote it.
    pub(crate) fn written(self) -> Option<&'a str> {
        match self.tree.kind(self.id) {
            Kind::Scalar(scalar) if !self.absent => Some(scalar.written()),
            _ => None,
        }
    }
}
