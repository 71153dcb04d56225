//! The compiled form of a schema: a graph of nodes, one for each subschema that judges.
//!
//! References are edges, so a recursive schema is a graph with cycles and never a tree without end. Keywords without
//! subschemas are judged by the `jsonschema` crate ([`Leaf`]); the keywords that lead to other nodes are [`Applicator`]s.

use std::collections::HashMap;
use std::sync::Arc;

use super::leaf::Leaf;
use crate::stages::schema::ecma_regex::Pattern;

/// The index of a node in its graph.
pub(super) type NodeId = u32;

/// All nodes that were compiled together. Definitions of one document share them.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    /// The names of the documents.
    pub(super) documents: Vec<Arc<str>>,
}

/// One subschema.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    /// The document that it is in, and a JSON pointer there.
    pub(super) document: u32,
    pub(super) pointer: Box<str>,
    /// Whether it is the schema `false`.
    pub(super) never: bool,
    pub(super) leaf: Option<Arc<Leaf>>,
    pub(super) applicators: Box<[Applicator]>,
    /// Whether its verdict on a value may be asked for more than once, and is therefore remembered.
    pub(super) shared: bool,
}

// Large schemas have a hundred thousand of them.
const _: () = assert!(size_of::<Node>() <= 64);

/// A keyword that applies other schemas (2020-12 core, §10).
#[derive(Debug, Clone)]
pub(super) enum Applicator {
    /// `$ref`, `$dynamicRef` and `$recursiveRef`.
    Reference(NodeId),
    AllOf(Box<[NodeId]>),
    AnyOf(Box<[NodeId]>),
    OneOf(Box<[NodeId]>),
    Not(NodeId),
    If(Box<Condition>),
    Members(Box<Members>),
    PropertyNames(NodeId),
    /// `dependentSchemas`, and `dependencies` that are schemas.
    Dependent(Box<[(Box<str>, NodeId)]>),
    Items(Box<Items>),
    Contains(Box<Contains>),
    UnevaluatedProperties(NodeId),
    UnevaluatedItems(NodeId),
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) condition: NodeId,
    pub(super) then: Option<NodeId>,
    pub(super) otherwise: Option<NodeId>,
}

/// `properties`, `patternProperties` and `additionalProperties`, which depend on each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Members {
    pub(super) named: HashMap<Box<str>, NodeId, ahash::RandomState>,
    pub(super) patterns: Vec<(Arc<Pattern>, NodeId)>,
    pub(super) others: Option<NodeId>,
}

/// `prefixItems` and `items`, or in older drafts `items` and `additionalItems`.
#[derive(Debug, Clone, Default)]
pub(super) struct Items {
    pub(super) prefix: Vec<NodeId>,
    pub(super) rest: Option<NodeId>,
}

#[derive(Debug, Clone)]
pub(super) struct Contains {
    pub(super) node: NodeId,
    pub(super) least: u64,
    pub(super) most: u64,
    /// Whether the items that match are evaluated ones (since 2020-12).
    pub(super) evaluates: bool,
}

impl Graph {
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// Adds a variant of a node that refuses members which no part of the node names.
    pub(super) fn close(&mut self, id: NodeId) -> Option<NodeId> {
        let mut node = self.node(id)?.clone();
        let never = NodeId::try_from(self.nodes.len()).ok()?;
        let nothing = Node { never: true, leaf: None, applicators: Box::default(), ..node.clone() };
        let mut applicators = node.applicators.into_vec();
        if applicators.iter().any(|applicator| !applicator.in_place().is_empty()) {
            applicators.push(Applicator::UnevaluatedProperties(never));
        } else if let Some(members) = applicators.iter_mut().find_map(Applicator::members) {
            members.others.get_or_insert(never);
        } else {
            applicators.push(Applicator::Members(Box::new(Members { others: Some(never), ..Members::default() })));
        }
        node.applicators = applicators.into();
        self.nodes.extend([nothing, node]);
        never.checked_add(1)
    }

    /// Where a node is, for a schema whose root is in the document `own`: a pointer, after the file's path if it is in
    /// another one.
    pub(super) fn place(&self, node: &Node, own: u32) -> String {
        match self.documents.get(node.document as usize).filter(|_| node.document != own) {
            Some(file) => format!("{file}#{}", node.pointer),
            None => node.pointer.to_string(),
        }
    }
}

impl Applicator {
    fn members(&mut self) -> Option<&mut Members> {
        match self {
            Self::Members(members) => Some(members),
            _ => None,
        }
    }

    /// The nodes that judge the same value as the node itself.
    pub(super) fn in_place(&self) -> Vec<NodeId> {
        match self {
            Self::Reference(node) | Self::Not(node) => vec![*node],
            Self::AllOf(nodes) | Self::AnyOf(nodes) | Self::OneOf(nodes) => nodes.to_vec(),
            Self::If(condition) => {
                [Some(condition.condition), condition.then, condition.otherwise].into_iter().flatten().collect()
            }
            Self::Dependent(dependent) => dependent.iter().map(|(_, node)| *node).collect(),
            _ => Vec::new(),
        }
    }

    /// The nodes that judge members, names or items of the value.
    pub(super) fn below(&self) -> Vec<NodeId> {
        match self {
            Self::Members(members) => {
                let named = members.named.values().chain(members.patterns.iter().map(|(_, node)| node));
                named.chain(&members.others).copied().collect()
            }
            Self::Items(items) => items.prefix.iter().chain(&items.rest).copied().collect(),
            Self::Contains(contains) => vec![contains.node],
            Self::PropertyNames(node) | Self::UnevaluatedProperties(node) | Self::UnevaluatedItems(node) => vec![*node],
            _ => Vec::new(),
        }
    }
}
