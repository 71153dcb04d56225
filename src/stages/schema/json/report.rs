//! Says why a value does not conform: the first violations, each with its place in the value and in the schema, never
//! with the value.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::evaluate::Evaluation;
use super::graph::{Applicator, Graph, Members, NodeId};
use super::leaf::Leaf;
use crate::budget::Exhausted;
use crate::refusal::Violation;

/// Longest detail and longest pointer of one violation, in bytes.
const MAX_DETAIL: usize = 300;

/// Reports up to `most` violations of a value that does not conform to the root.
pub(super) fn report(
    mut evaluation: Evaluation<'_>,
    root: NodeId,
    value: &Value,
    prefix: &str,
    most: usize,
) -> Vec<Violation> {
    let graph = evaluation.graph;
    // Everything that fails is asked about once more on each level above it.
    evaluation.remember_all = true;
    let own = graph.node(root).map_or(0, |node| node.document);
    let mut report =
        Report { evaluation, own, pointer: prefix.to_owned(), found: Vec::new(), most, passed: HashSet::default() };
    // Without budget, what has been found so far is the report.
    let _ = report.node(root, value);
    report.found
}

struct Report<'g> {
    evaluation: Evaluation<'g>,
    /// The document of the root.
    own: u32,
    pointer: String,
    found: Vec<Violation>,
    most: usize,
    /// What has been reported, by node and address of the value, so that one failure is reported once.
    passed: HashSet<(NodeId, usize), ahash::RandomState>,
}

/// How a branch of `anyOf` or `oneOf` fails, from bad to good: the nearest one is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Distance {
    /// The value itself has the wrong type, or is none of those that are listed.
    itself: bool,
    /// Members that must have one of some listed values, and have another: these most often name the kind of an object.
    kinds: usize,
    others: usize,
}

impl<'g> Report<'g> {
    fn full(&self) -> bool {
        self.found.len() >= self.most
    }

    fn add(&mut self, place: &str, keyword: &str, detail: String) {
        if self.full() {
            return;
        }
        let schema = if keyword.is_empty() { place.to_owned() } else { format!("{place}/{keyword}") };
        self.found.push(Violation {
            pointer: self.pointer.clone(),
            detail: cut(detail),
            keyword: (!keyword.is_empty()).then(|| keyword.into()),
            schema: Some(schema.into()),
        });
    }

    /// Reports what is wrong with a value, if anything is.
    fn node(&mut self, id: NodeId, value: &Value) -> Result<(), Exhausted> {
        if self.full() || self.evaluation.valid(id, value)? {
            return Ok(());
        }
        if !self.passed.insert((id, std::ptr::from_ref(value) as usize)) {
            return Ok(());
        }
        let graph: &'g Graph = self.evaluation.graph;
        let Some(node) = graph.node(id) else { return Ok(()) };
        let place = graph.place(node, self.own);
        if node.never {
            self.add(&place, "", "no value is allowed here".to_owned());
        }
        if let Some(leaf) = &node.leaf
            && !self.evaluation.leaf(node, value)?
        {
            self.leaf(leaf, &place, value)?;
        }
        for applicator in &node.applicators {
            if self.full() {
                break;
            }
            if !self.evaluation.apply(applicator, id, value)? {
                self.applicator(applicator, id, &place, value)?;
            }
        }
        Ok(())
    }

    /// Reports the keywords without subschemas that do not allow a value.
    fn leaf(&mut self, leaf: &Leaf, place: &str, value: &Value) -> Result<(), Exhausted> {
        let (numbers, steps) = (self.evaluation.numbers, &mut self.evaluation.steps);
        let errors = leaf.errors(value, numbers, steps, self.most)?;
        let (text, items) = (leaf.text_is_allowed(value, steps)?, leaf.items_are_allowed(value, numbers, steps)?);
        let (multiple, format) = match value {
            Value::Number(number) => (leaf.is_multiple(number, numbers, steps)?, leaf.has_format(number, numbers)),
            _ => (true, true),
        };
        for (keyword, detail) in errors {
            self.add(place, &keyword, detail);
        }
        if let Some((pattern, _)) = leaf.pattern.as_ref().filter(|_| !text) {
            self.add(place, "pattern", format!("value does not match \"{pattern}\""));
        }
        if !items {
            self.add(place, "uniqueItems", "value has items that are equal".to_owned());
        }
        if let Some((divisor, _)) = leaf.multiple.as_ref().filter(|_| !multiple) {
            self.add(place, "multipleOf", format!("the number is not a multiple of {divisor}"));
        }
        if let Some(format) = leaf.number.as_ref().filter(|_| !format) {
            self.add(place, "format", format!("the number is not in the range of `{}`", format.name()));
        }
        Ok(())
    }

    fn applicator(
        &mut self,
        applicator: &'g Applicator,
        id: NodeId,
        place: &str,
        value: &Value,
    ) -> Result<(), Exhausted> {
        match (applicator, value) {
            (Applicator::Reference(node), _) => self.node(*node, value),
            (Applicator::AllOf(nodes), _) => nodes.iter().try_for_each(|node| self.node(*node, value)),
            (Applicator::AnyOf(nodes), _) => self.alternatives(nodes, place, "anyOf", value),
            (Applicator::OneOf(nodes), _) => self.alternatives(nodes, place, "oneOf", value),
            (Applicator::Not(_), _) => {
                self.add(place, "not", "the value conforms to a schema that is excluded by `not`".to_owned());
                Ok(())
            }
            (Applicator::If(condition), _) => {
                let holds = self.evaluation.valid(condition.condition, value)?;
                let branch = if holds { condition.then } else { condition.otherwise };
                branch.map_or(Ok(()), |branch| self.node(branch, value))
            }
            (_, Value::Object(map)) => self.object(applicator, id, place, value, map),
            (_, Value::Array(array)) => self.array(applicator, id, place, value, array),
            _ => Ok(()),
        }
    }

    fn object(
        &mut self,
        applicator: &'g Applicator,
        id: NodeId,
        place: &str,
        value: &Value,
        map: &Map<String, Value>,
    ) -> Result<(), Exhausted> {
        match applicator {
            Applicator::Members(members) => self.members(members, place, map)?,
            Applicator::PropertyNames(node) => {
                for name in map.keys() {
                    if !self.evaluation.valid_name(*node, name)? {
                        self.add(place, "propertyNames", "the name of a property is not allowed".to_owned());
                        break;
                    }
                }
            }
            Applicator::Dependent(dependent) => {
                for (_, node) in dependent.iter().filter(|(name, _)| map.contains_key(&**name)) {
                    self.node(*node, value)?;
                }
            }
            Applicator::UnevaluatedProperties(node) => {
                let unevaluated = self.evaluation.unevaluated_member(*node, id, value, map)?;
                if unevaluated.is_some() {
                    let detail = "a property is not allowed here: no part of the schema names it".to_owned();
                    self.add(place, "unevaluatedProperties", detail);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn array(
        &mut self,
        applicator: &'g Applicator,
        id: NodeId,
        place: &str,
        value: &Value,
        array: &[Value],
    ) -> Result<(), Exhausted> {
        match applicator {
            Applicator::Items(items) => {
                for (index, item) in array.iter().enumerate() {
                    let Some(node) = items.prefix.get(index).copied().or(items.rest) else { break };
                    self.below(&index.to_string(), node, item)?;
                }
            }
            Applicator::Contains(contains) => {
                let detail = match (contains.least, contains.most) {
                    (1, u64::MAX) => "no item conforms to the schema of `contains`".to_owned(),
                    (least, u64::MAX) => format!("fewer than {least} items conform to the schema of `contains`"),
                    (least, most) => {
                        format!(
                            "the number of items that conform to the schema of `contains` must be {least} to {most}"
                        )
                    }
                };
                self.add(place, "contains", detail);
            }
            Applicator::UnevaluatedItems(node) => {
                if let Some(index) = self.evaluation.unevaluated_item(*node, id, value, array)? {
                    let detail = "an item is not allowed here: no part of the schema describes it".to_owned();
                    self.at(&index.to_string(), |report| {
                        report.add(place, "unevaluatedItems", detail);
                        Ok(())
                    })?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn members(&mut self, members: &'g Members, place: &str, map: &Map<String, Value>) -> Result<(), Exhausted> {
        let mut unexpected = false;
        for (name, member) in map {
            if self.full() {
                break;
            }
            for node in self.evaluation.nodes_of(members, name)? {
                let forbids = self.evaluation.graph.node(node).is_some_and(|node| node.never);
                if forbids && members.others == Some(node) {
                    unexpected = true;
                } else {
                    self.below(name, node, member)?;
                }
            }
        }
        if unexpected {
            self.add(
                place,
                "additionalProperties",
                "properties that the schema does not name are not allowed".to_owned(),
            );
        }
        Ok(())
    }

    fn below(&mut self, step: &str, node: NodeId, value: &Value) -> Result<(), Exhausted> {
        if self.full() || self.evaluation.valid(node, value)? {
            return Ok(());
        }
        self.at(step, |report| report.node(node, value))
    }

    /// Reports at a place below the current one.
    fn at(&mut self, step: &str, report: impl FnOnce(&mut Self) -> Result<(), Exhausted>) -> Result<(), Exhausted> {
        let length = self.pointer.len();
        self.pointer.push('/');
        for character in step.chars() {
            match character {
                '~' => self.pointer.push_str("~0"),
                '/' => self.pointer.push_str("~1"),
                other => self.pointer.push(other),
            }
        }
        let reported = report(self);
        self.pointer.truncate(length);
        reported
    }

    /// `anyOf` or `oneOf`: says that none fits, and what is wrong with the one that comes nearest.
    fn alternatives(
        &mut self,
        nodes: &'g [NodeId],
        place: &str,
        keyword: &str,
        value: &Value,
    ) -> Result<(), Exhausted> {
        if self.evaluation.count(nodes, value)? > 1 {
            self.add(place, keyword, "the value conforms to more than one schema of `oneOf`".to_owned());
            return Ok(());
        }
        let mut nearest: Option<(Distance, NodeId)> = None;
        for node in nodes {
            let distance = self.distance(*node, value, 0)?;
            if nearest.is_none_or(|(least, _)| distance < least) {
                nearest = Some((distance, *node));
            }
        }
        let Some((distance, node)) = nearest else { return Ok(()) };
        if distance.itself {
            self.add(place, keyword, format!("the value conforms to no schema of `{keyword}`"));
            return Ok(());
        }
        self.add(
            place,
            keyword,
            format!("the value conforms to no schema of `{keyword}`; why the nearest one does not fit follows"),
        );
        self.node(node, value)
    }

    fn distance(&mut self, id: NodeId, value: &Value, hops: u32) -> Result<Distance, Exhausted> {
        let graph: &'g Graph = self.evaluation.graph;
        let mut distance = Distance { itself: false, kinds: 0, others: 0 };
        let Some(node) = graph.node(id) else { return Ok(distance) };
        distance.itself = node.never;
        if let Some(leaf) = &node.leaf
            && !self.evaluation.leaf(node, value)?
        {
            distance.itself |= self.breaks(leaf, value, &["type", "const", "enum"])?;
            distance.others += 1;
        }
        for applicator in &node.applicators {
            match (applicator, value) {
                (Applicator::Reference(node), _) if hops < 8 => distance.add(self.distance(*node, value, hops + 1)?),
                (Applicator::AllOf(nodes), _) if hops < 8 => {
                    for node in nodes {
                        let other = self.distance(*node, value, hops + 1)?;
                        distance.add(other);
                    }
                }
                (Applicator::Members(members), Value::Object(map)) => {
                    for (name, member) in map {
                        for node in self.evaluation.nodes_of(members, name)? {
                            if !self.evaluation.valid(node, member)? {
                                let kind = self.distance_of_member(node, member)?;
                                distance.kinds += usize::from(kind);
                                distance.others += usize::from(!kind);
                            }
                        }
                    }
                }
                _ => distance.others += usize::from(!self.evaluation.apply(applicator, id, value)?),
            }
        }
        Ok(distance)
    }

    /// Whether a member names another kind of object.
    fn distance_of_member(&mut self, id: NodeId, member: &Value) -> Result<bool, Exhausted> {
        let Some(node) = self.evaluation.graph.node(id) else { return Ok(false) };
        let Some(leaf) = node.leaf.as_ref().filter(|_| member.is_string()) else { return Ok(false) };
        self.evaluation.steps.take(leaf.cost.steps(member))?;
        self.breaks(leaf, member, &["const", "enum"])
    }

    /// Whether one of these keywords does not allow a value.
    fn breaks(&mut self, leaf: &Leaf, value: &Value, keywords: &[&str]) -> Result<bool, Exhausted> {
        leaf.breaks(value, self.evaluation.numbers, &mut self.evaluation.steps, keywords)
    }
}

impl Distance {
    fn add(&mut self, other: Self) {
        self.itself |= other.itself;
        self.kinds += other.kinds;
        self.others += other.others;
    }
}

/// Cuts a text that names what a caller has chosen.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
