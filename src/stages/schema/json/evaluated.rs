//! Which members and items a schema has evaluated, for `unevaluatedProperties` and `unevaluatedItems`
//! (2020-12 core, §11).

use serde_json::{Map, Value};

use super::evaluate::Evaluation;
use super::graph::{Applicator, NodeId};
use crate::budget::Exhausted;

/// The members or items of one value that were evaluated, by index.
struct Evaluated {
    marks: Vec<bool>,
    left: usize,
    /// Nodes that have been looked at. Once is enough: marks only add up.
    passed: Vec<NodeId>,
}

impl Evaluated {
    fn new(count: usize) -> Self {
        Self { marks: vec![false; count], left: count, passed: Vec::new() }
    }

    fn mark(&mut self, index: usize) {
        if let Some(mark) = self.marks.get_mut(index)
            && !std::mem::replace(mark, true)
        {
            self.left -= 1;
        }
    }

    fn mark_all(&mut self) {
        self.marks.fill(true);
        self.left = 0;
    }
}

impl Evaluation<'_> {
    /// The first member that no other keyword of node `id` evaluates, and that `node` does not allow.
    pub(super) fn unevaluated_member<'v>(
        &mut self,
        node: NodeId,
        id: NodeId,
        value: &Value,
        map: &'v Map<String, Value>,
    ) -> Result<Option<&'v str>, Exhausted> {
        let evaluated = self.evaluated(id, value, map.len())?;
        for ((name, member), _) in map.iter().zip(&evaluated.marks).filter(|(_, mark)| !**mark) {
            if !self.valid(node, member)? {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The first item that no other keyword of node `id` evaluates, and that `node` does not allow.
    pub(super) fn unevaluated_item(
        &mut self,
        node: NodeId,
        id: NodeId,
        value: &Value,
        array: &[Value],
    ) -> Result<Option<usize>, Exhausted> {
        let evaluated = self.evaluated(id, value, array.len())?;
        for (index, item) in array.iter().enumerate() {
            if evaluated.marks.get(index) == Some(&false) && !self.valid(node, item)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// What the keywords of a node but `unevaluated…` itself evaluate.
    fn evaluated(&mut self, id: NodeId, value: &Value, count: usize) -> Result<Evaluated, Exhausted> {
        self.steps.take(1 + count as u64 / 4)?;
        let mut evaluated = Evaluated::new(count);
        self.mark_keywords(id, value, &mut evaluated)?;
        Ok(evaluated)
    }

    /// Adds what a node evaluates that is known to allow the value.
    fn mark_node(&mut self, id: NodeId, value: &Value, evaluated: &mut Evaluated) -> Result<(), Exhausted> {
        self.steps.take(1 + evaluated.passed.len() as u64 / 16)?;
        if evaluated.left == 0 || evaluated.passed.contains(&id) {
            return Ok(());
        }
        evaluated.passed.push(id);
        let unevaluated = |applicator: &Applicator| {
            matches!(
                (applicator, value),
                (Applicator::UnevaluatedProperties(_), Value::Object(_))
                    | (Applicator::UnevaluatedItems(_), Value::Array(_))
            )
        };
        // It has judged whatever was left.
        if self.graph.node(id).is_some_and(|node| node.applicators.iter().any(unevaluated)) {
            evaluated.mark_all();
            return Ok(());
        }
        self.mark_keywords(id, value, evaluated)
    }

    fn mark_keywords(&mut self, id: NodeId, value: &Value, evaluated: &mut Evaluated) -> Result<(), Exhausted> {
        let Some(node) = self.graph.node(id) else { return Ok(()) };
        for applicator in &node.applicators {
            if evaluated.left == 0 {
                break;
            }
            self.mark_keyword(applicator, value, evaluated)?;
        }
        Ok(())
    }

    fn mark_keyword(
        &mut self,
        applicator: &Applicator,
        value: &Value,
        evaluated: &mut Evaluated,
    ) -> Result<(), Exhausted> {
        match (applicator, value) {
            (Applicator::Reference(node), _) => self.mark_node(*node, value, evaluated)?,
            (Applicator::AllOf(nodes), _) => {
                for node in nodes {
                    self.mark_node(*node, value, evaluated)?;
                }
            }
            (Applicator::AnyOf(nodes) | Applicator::OneOf(nodes), _) => {
                for node in nodes {
                    self.mark_if_valid(*node, value, evaluated)?;
                }
            }
            (Applicator::If(condition), _) => {
                let branch = if self.valid(condition.condition, value)? {
                    self.mark_node(condition.condition, value, evaluated)?;
                    condition.then
                } else {
                    condition.otherwise
                };
                if let Some(branch) = branch {
                    self.mark_node(branch, value, evaluated)?;
                }
            }
            (Applicator::Dependent(dependent), Value::Object(map)) => {
                for (_, node) in dependent.iter().filter(|(name, _)| map.contains_key(&**name)) {
                    self.mark_node(*node, value, evaluated)?;
                }
            }
            (Applicator::Members(members), Value::Object(map)) => {
                for (index, name) in map.keys().enumerate() {
                    self.steps.take(1)?;
                    if self.nodes_of(members, name)?.into_iter().next().is_some() {
                        evaluated.mark(index);
                    }
                }
            }
            (Applicator::Items(items), Value::Array(array)) => match items.rest {
                Some(_) => evaluated.mark_all(),
                None => (0..items.prefix.len().min(array.len())).for_each(|index| evaluated.mark(index)),
            },
            (Applicator::Contains(contains), Value::Array(array)) if contains.evaluates => {
                for (index, item) in array.iter().enumerate() {
                    if self.valid(contains.node, item)? {
                        evaluated.mark(index);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn mark_if_valid(&mut self, id: NodeId, value: &Value, evaluated: &mut Evaluated) -> Result<(), Exhausted> {
        if self.valid(id, value)? {
            self.mark_node(id, value, evaluated)?;
        }
        Ok(())
    }
}
