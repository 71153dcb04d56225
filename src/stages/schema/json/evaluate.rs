//! Evaluates a graph against a value, within a budget.
//!
//! The verdict of a node on a value depends on nothing else, so it is remembered where it can be asked for again. That
//! bounds the work by the size of the schema times the size of the value, whatever way the schema branches.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::graph::{Applicator, Condition, Contains, Graph, Items, Members, Node, NodeId};
use crate::budget::{Exhausted, Steps};
use crate::stages::decimal::Written;

/// Most nodes that may be open at once: evaluation is recursive, and the stack is finite.
const MAX_DEPTH: u32 = 512;
/// Steps to remember a verdict, which takes memory.
const REMEMBER: u64 = 4;

/// One evaluation of one value.
pub(super) struct Evaluation<'g> {
    pub(super) graph: &'g Graph,
    /// The numbers in the value that were rounded.
    pub(super) numbers: &'g [Written],
    pub(super) steps: Steps,
    /// Verdicts, by node and by the address of the value.
    verdicts: HashMap<(NodeId, usize), bool, ahash::RandomState>,
    /// Whether every verdict is remembered.
    pub(super) remember_all: bool,
    /// How many values above are not part of the body: their addresses are used again.
    temporary: u32,
    depth: u32,
}

type Verdict = Result<bool, Exhausted>;

impl<'g> Evaluation<'g> {
    pub(super) fn new(graph: &'g Graph, numbers: &'g [Written], steps: Steps) -> Self {
        Self { graph, numbers, steps, verdicts: HashMap::default(), remember_all: false, temporary: 0, depth: 0 }
    }

    /// Whether a value conforms to a node.
    pub(super) fn valid(&mut self, id: NodeId, value: &Value) -> Verdict {
        let Some(node) = self.graph.node(id) else { return Err(Exhausted) };
        self.steps.take(1)?;
        let remembers = self.temporary == 0 && (node.shared || (self.remember_all && !node.applicators.is_empty()));
        if !remembers {
            return self.judge(node, id, value);
        }
        let key = (id, std::ptr::from_ref(value) as usize);
        if let Some(known) = self.verdicts.get(&key) {
            return Ok(*known);
        }
        let verdict = self.judge(node, id, value)?;
        self.steps.take(REMEMBER)?;
        self.verdicts.insert(key, verdict);
        Ok(verdict)
    }

    fn judge(&mut self, node: &'g Node, id: NodeId, value: &Value) -> Verdict {
        if node.never || !self.leaf(node, value)? {
            return Ok(false);
        }
        if node.applicators.is_empty() {
            return Ok(true);
        }
        if self.depth >= MAX_DEPTH {
            return Err(Exhausted);
        }
        self.depth += 1;
        let mut verdict = Ok(true);
        for applicator in &node.applicators {
            verdict = self.apply(applicator, id, value);
            if verdict != Ok(true) {
                break;
            }
        }
        self.depth -= 1;
        verdict
    }

    /// Whether the keywords without subschemas allow a value.
    pub(super) fn leaf(&mut self, node: &Node, value: &Value) -> Verdict {
        let Some(leaf) = &node.leaf else { return Ok(true) };
        leaf.allows(value, self.numbers, &mut self.steps)
    }

    /// Whether one keyword of a node allows a value.
    pub(super) fn apply(&mut self, applicator: &'g Applicator, id: NodeId, value: &Value) -> Verdict {
        match (applicator, value) {
            (Applicator::Reference(node), _) => self.valid(*node, value),
            (Applicator::AllOf(nodes), _) => self.all(nodes, value),
            (Applicator::AnyOf(nodes), _) => self.any(nodes, value),
            (Applicator::OneOf(nodes), _) => Ok(self.count(nodes, value)? == 1),
            (Applicator::Not(node), _) => Ok(!self.valid(*node, value)?),
            (Applicator::If(condition), _) => self.condition(condition, value),
            (Applicator::Members(members), Value::Object(map)) => self.members(members, map),
            (Applicator::PropertyNames(node), Value::Object(map)) => self.names(*node, map),
            (Applicator::Dependent(dependent), Value::Object(map)) => self.dependent(dependent, map, value),
            (Applicator::Items(items), Value::Array(array)) => self.items(items, array),
            (Applicator::Contains(contains), Value::Array(array)) => self.contains(contains, array),
            (Applicator::UnevaluatedProperties(node), Value::Object(map)) => {
                Ok(self.unevaluated_member(*node, id, value, map)?.is_none())
            }
            (Applicator::UnevaluatedItems(node), Value::Array(array)) => {
                Ok(self.unevaluated_item(*node, id, value, array)?.is_none())
            }
            _ => Ok(true),
        }
    }

    fn all(&mut self, nodes: &[NodeId], value: &Value) -> Verdict {
        for node in nodes {
            if !self.valid(*node, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn any(&mut self, nodes: &[NodeId], value: &Value) -> Verdict {
        for node in nodes {
            if self.valid(*node, value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many of the nodes allow a value; no more than two are counted.
    pub(super) fn count(&mut self, nodes: &[NodeId], value: &Value) -> Result<usize, Exhausted> {
        let mut count = 0;
        for node in nodes {
            count += usize::from(self.valid(*node, value)?);
            if count > 1 {
                break;
            }
        }
        Ok(count)
    }

    fn condition(&mut self, condition: &Condition, value: &Value) -> Verdict {
        let branch = if self.valid(condition.condition, value)? { condition.then } else { condition.otherwise };
        branch.map_or(Ok(true), |branch| self.valid(branch, value))
    }

    fn members(&mut self, members: &'g Members, map: &Map<String, Value>) -> Verdict {
        for (name, member) in map {
            self.steps.take(1)?;
            for node in self.nodes_of(members, name)? {
                if !self.valid(node, member)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The nodes that judge the member with this name.
    pub(super) fn nodes_of(&mut self, members: &Members, name: &str) -> Result<Nodes, Exhausted> {
        let named = members.named.get(name).copied();
        let mut nodes = Nodes { first: named, others: Vec::new() };
        for (pattern, node) in &members.patterns {
            if pattern.matches(name, &mut self.steps)? {
                nodes.others.push(*node);
            }
        }
        if nodes.first.is_none() && nodes.others.is_empty() {
            nodes.first = members.others;
        }
        Ok(nodes)
    }

    fn names(&mut self, node: NodeId, map: &Map<String, Value>) -> Verdict {
        for name in map.keys() {
            if !self.valid_name(node, name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a member may have this name.
    pub(super) fn valid_name(&mut self, node: NodeId, name: &str) -> Verdict {
        self.steps.take(1 + name.len() as u64 / 32)?;
        self.temporary += 1;
        let verdict = self.valid(node, &Value::String(name.to_owned()));
        self.temporary -= 1;
        verdict
    }

    fn dependent(&mut self, dependent: &[(Box<str>, NodeId)], map: &Map<String, Value>, value: &Value) -> Verdict {
        for (name, node) in dependent {
            self.steps.take(1)?;
            if map.contains_key(&**name) && !self.valid(*node, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn items(&mut self, items: &Items, array: &[Value]) -> Verdict {
        for (index, item) in array.iter().enumerate() {
            let Some(node) = items.prefix.get(index).copied().or(items.rest) else { break };
            if !self.valid(node, item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn contains(&mut self, contains: &Contains, array: &[Value]) -> Verdict {
        let mut count = 0;
        for item in array {
            count += u64::from(self.valid(contains.node, item)?);
            if count > contains.most || (count >= contains.least && contains.most == u64::MAX) {
                break;
            }
        }
        Ok((contains.least..=contains.most).contains(&count))
    }
}

/// Some nodes, most often one.
pub(super) struct Nodes {
    first: Option<NodeId>,
    others: Vec<NodeId>,
}

impl IntoIterator for Nodes {
    type Item = NodeId;
    type IntoIter = std::iter::Chain<std::option::IntoIter<NodeId>, std::vec::IntoIter<NodeId>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
}
