//! Compiles a schema into a graph: each subschema that evaluation can reach becomes one node, in time linear in the
//! size of the documents.

use std::collections::HashMap;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::graph::{Applicator, Condition, Contains, Graph, Items, Members, Node, NodeId};
use super::leaf::{LEAVES, Leaf, Leaves};
use super::problem::SchemaProblem;
use super::references::{Place, escaped};

/// Most nodes of one graph. Only dynamic references can make many nodes of a small schema.
const MAX_NODES: usize = 1_000_000;
/// Longest chain of schemas that only refer to the next one.
const MAX_ALIASES: usize = 1000;
/// Keywords whose target depends on how evaluation came to them.
const DYNAMIC: [&str; 2] = ["$dynamicRef", "$recursiveRef"];

pub(super) struct Compiler<'r> {
    ids: HashMap<Key, NodeId, ahash::RandomState>,
    waiting: Vec<(NodeId, Place<'r>)>,
    nodes: Vec<Option<Node>>,
    leaves: Leaves,
    /// Whether there are dynamic references, so that the way to a schema is part of its identity.
    dynamic: bool,
    scopes: HashMap<Vec<String>, usize>,
}

/// A schema by its address in the documents, and the dynamic scope that it is compiled for.
type Key = (usize, usize);

impl<'r> Compiler<'r> {
    pub(super) fn new(documents: &[&Value]) -> Self {
        Self {
            ids: HashMap::default(),
            waiting: Vec::new(),
            nodes: Vec::new(),
            leaves: Leaves::default(),
            dynamic: documents.iter().any(|document| is_dynamic(document)),
            scopes: HashMap::new(),
        }
    }

    /// Returns the node of a schema, which is compiled by [`Self::finish`] at the latest.
    pub(super) fn node(&mut self, place: Place<'r>) -> Result<NodeId, SchemaProblem> {
        let first = self.key(&place);
        if let Some(known) = self.ids.get(&first) {
            return Ok(*known);
        }
        let place = self.follow_aliases(place)?;
        let key = self.key(&place);
        let known = self.ids.get(&key).copied();
        let id = match known {
            Some(known) => known,
            None => self.add(key, place)?,
        };
        self.ids.insert(first, id);
        Ok(id)
    }

    fn add(&mut self, key: Key, place: Place<'r>) -> Result<NodeId, SchemaProblem> {
        let Some(id) = NodeId::try_from(self.nodes.len()).ok().filter(|_| self.nodes.len() < MAX_NODES) else {
            return Err(SchemaProblem::at(&place.pointer, format!("the schema has more than {MAX_NODES} parts")));
        };
        self.nodes.push(None);
        self.ids.insert(key, id);
        self.waiting.push((id, place));
        Ok(id)
    }

    fn key(&mut self, place: &Place<'r>) -> Key {
        let address = std::ptr::from_ref(place.schema) as usize;
        if !self.dynamic {
            return (address, 0);
        }
        let next = self.scopes.len();
        (address, *self.scopes.entry(place.dynamic_scope()).or_insert(next))
    }

    /// Compiles what is waiting.
    pub(super) fn finish(mut self) -> Result<Graph, SchemaProblem> {
        // A list, not recursion: schemas nest as deeply as they like.
        while let Some((id, place)) = self.waiting.pop() {
            let node = self.compile(&place)?;
            if let Some(slot) = self.nodes.get_mut(id as usize) {
                *slot = Some(node);
            }
        }
        let mut graph = Graph { nodes: self.nodes.into_iter().flatten().collect() };
        super::order::reject_circles(&graph)?;
        super::order::mark_shared(&mut graph);
        Ok(graph)
    }

    /// Follows schemas that are nothing but references to other ones.
    fn follow_aliases(&self, mut place: Place<'r>) -> Result<Place<'r>, SchemaProblem> {
        for _ in 0..MAX_ALIASES {
            let Value::Object(map) = place.schema else { return Ok(place) };
            let Some(Value::String(reference)) = map.get("$ref") else { return Ok(place) };
            if !replaces_siblings(place.draft) && !map.keys().all(|key| !judges(key) || key == "$ref") {
                return Ok(place);
            }
            place = place.follow(reference, "/$ref")?;
        }
        Err(SchemaProblem::circle(&place.pointer))
    }

    fn compile(&mut self, place: &Place<'r>) -> Result<Node, SchemaProblem> {
        let mut node = Node {
            place: place.pointer.as_str().into(),
            never: false,
            leaf: None,
            applicators: Box::default(),
            shared: false,
        };
        match place.schema {
            Value::Bool(verdict) => node.never = !verdict,
            Value::Object(map) => {
                node.leaf = self.leaf(place, map)?;
                node.applicators = self.applicators(place, map)?.into();
            }
            _ => return Err(SchemaProblem::at(&place.pointer, "a schema is an object, `true` or `false`".to_owned())),
        }
        Ok(node)
    }

    fn leaf(&mut self, place: &Place<'r>, map: &'r Map<String, Value>) -> Result<Option<Leaf>, SchemaProblem> {
        let mut keywords = Map::new();
        for (key, value) in map {
            if LEAVES.contains(&key.as_str()) {
                keywords.insert(key.clone(), value.clone());
            }
        }
        let names = map.get("dependencies").and_then(Value::as_object).into_iter().flatten();
        let names: Map<String, Value> =
            names.filter(|(_, names)| names.is_array()).map(|(key, names)| (key.clone(), names.clone())).collect();
        if !names.is_empty() {
            keywords.insert("dependencies".to_owned(), Value::Object(names));
        }
        if keywords.is_empty() {
            return Ok(None);
        }
        self.leaves.leaf(place.draft, keywords).map(Some).map_err(|problem| problem.below(&place.pointer))
    }

    fn applicators(
        &mut self,
        place: &Place<'r>,
        map: &'r Map<String, Value>,
    ) -> Result<Vec<Applicator>, SchemaProblem> {
        let mut keywords = Keywords { compiler: self, place, map };
        let modern = place.draft >= Draft::Draft201909;
        let mut found = keywords.references()?;
        found.extend(keywords.list("allOf")?.map(Applicator::AllOf));
        found.extend(keywords.members()?);
        if place.draft >= Draft::Draft6 {
            found.extend(keywords.schema("propertyNames")?.map(Applicator::PropertyNames));
        }
        found.extend(keywords.items()?);
        if place.draft >= Draft::Draft6 {
            found.extend(keywords.contains()?);
        }
        found.extend(keywords.dependent("dependencies")?);
        if modern {
            found.extend(keywords.dependent("dependentSchemas")?);
        }
        if place.draft >= Draft::Draft7 {
            found.extend(keywords.condition()?);
        }
        found.extend(keywords.list("anyOf")?.map(Applicator::AnyOf));
        found.extend(keywords.list("oneOf")?.map(Applicator::OneOf));
        found.extend(keywords.schema("not")?.map(Applicator::Not));
        if modern {
            found.extend(keywords.schema("unevaluatedItems")?.map(Applicator::UnevaluatedItems));
            found.extend(keywords.schema("unevaluatedProperties")?.map(Applicator::UnevaluatedProperties));
        }
        Ok(found)
    }
}

/// The keywords of one schema.
struct Keywords<'c, 'r> {
    compiler: &'c mut Compiler<'r>,
    place: &'c Place<'r>,
    map: &'r Map<String, Value>,
}

impl<'r> Keywords<'_, 'r> {
    fn wrong(&self, key: &str, message: &str) -> SchemaProblem {
        SchemaProblem::at(&format!("{}/{}", self.place.pointer, escaped(key)), message.to_owned())
    }

    /// The node of a subschema at these steps below this schema.
    fn enter(&mut self, schema: &'r Value, steps: &[&str]) -> Result<NodeId, SchemaProblem> {
        let step: String = steps.iter().map(|step| format!("/{}", escaped(step))).collect();
        let place = self.place.enter(schema, &step)?;
        self.compiler.node(place)
    }

    fn schema(&mut self, key: &str) -> Result<Option<NodeId>, SchemaProblem> {
        self.map.get(key).map(|schema| self.enter(schema, &[key])).transpose()
    }

    fn list(&mut self, key: &str) -> Result<Option<Box<[NodeId]>>, SchemaProblem> {
        let Some(listed) = self.map.get(key) else { return Ok(None) };
        let Value::Array(listed) = listed else { return Err(self.wrong(key, "must be a list of schemas")) };
        let entered = listed.iter().enumerate().map(|(index, schema)| self.enter(schema, &[key, &index.to_string()]));
        entered.collect::<Result<_, _>>().map(Some)
    }

    fn named(&mut self, key: &str) -> Result<Vec<(&'r str, NodeId)>, SchemaProblem> {
        let Some(named) = self.map.get(key) else { return Ok(Vec::new()) };
        let Value::Object(named) = named else { return Err(self.wrong(key, "must be an object of schemas")) };
        named.iter().map(|(name, schema)| Ok((name.as_str(), self.enter(schema, &[key, name])?))).collect()
    }

    fn references(&mut self) -> Result<Vec<Applicator>, SchemaProblem> {
        let mut found = Vec::new();
        for key in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let known = match key {
                "$dynamicRef" => self.place.draft >= Draft::Draft202012,
                "$recursiveRef" => self.place.draft == Draft::Draft201909,
                _ => true,
            };
            let Some(reference) = self.map.get(key).filter(|_| known) else { continue };
            let Value::String(reference) = reference else { return Err(self.wrong(key, "must be a URI reference")) };
            let step = format!("/{key}");
            let target = match key {
                "$recursiveRef" => self.place.recurse(&step)?,
                _ => self.place.follow(reference, &step)?,
            };
            found.push(Applicator::Reference(self.compiler.node(target)?));
        }
        Ok(found)
    }

    fn members(&mut self) -> Result<Option<Applicator>, SchemaProblem> {
        let mut members = Members::default();
        members.named.extend(self.named("properties")?.into_iter().map(|(name, node)| (name.into(), node)));
        for (pattern, node) in self.named("patternProperties")? {
            let compiled = self.compiler.leaves.pattern(pattern);
            let place = format!("{}/patternProperties/{}", self.place.pointer, escaped(pattern));
            members.patterns.push((compiled.map_err(|problem| problem.below(&place))?, node));
        }
        members.others = self.schema("additionalProperties")?;
        let some = !members.named.is_empty() || !members.patterns.is_empty() || members.others.is_some();
        Ok(some.then(|| Applicator::Members(Box::new(members))))
    }

    fn items(&mut self) -> Result<Option<Applicator>, SchemaProblem> {
        let mut items = Items::default();
        if self.place.draft >= Draft::Draft202012 {
            items.prefix = self.list("prefixItems")?.map_or_else(Vec::new, <[NodeId]>::into_vec);
            items.rest = self.schema("items")?;
        } else if self.map.get("items").is_some_and(Value::is_array) {
            items.prefix = self.list("items")?.map_or_else(Vec::new, <[NodeId]>::into_vec);
            items.rest = self.schema("additionalItems")?;
        } else {
            items.rest = self.schema("items")?;
        }
        let some = !items.prefix.is_empty() || items.rest.is_some();
        Ok(some.then(|| Applicator::Items(Box::new(items))))
    }

    fn contains(&mut self) -> Result<Option<Applicator>, SchemaProblem> {
        let Some(node) = self.schema("contains")? else { return Ok(None) };
        let (mut least, mut most) = (1, u64::MAX);
        if self.place.draft >= Draft::Draft201909 {
            least = self.count("minContains")?.unwrap_or(1);
            most = self.count("maxContains")?.unwrap_or(u64::MAX);
        }
        let evaluates = self.place.draft >= Draft::Draft202012;
        Ok(Some(Applicator::Contains(Box::new(Contains { node, least, most, evaluates }))))
    }

    fn count(&self, key: &str) -> Result<Option<u64>, SchemaProblem> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        // A whole number may be written `2.0`.
        let whole = |value: f64| (value >= 0.0 && value.fract() == 0.0).then_some(value as u64);
        let count = value.as_u64().or_else(|| value.as_f64().and_then(whole));
        count.map(Some).ok_or_else(|| self.wrong(key, "must be a whole number, 0 or more"))
    }

    fn dependent(&mut self, key: &str) -> Result<Option<Applicator>, SchemaProblem> {
        let Some(named) = self.map.get(key) else { return Ok(None) };
        let Value::Object(named) = named else { return Err(self.wrong(key, "must be an object")) };
        let schemas = named.iter().filter(|(_, value)| key != "dependencies" || !value.is_array());
        let schemas: Vec<(Box<str>, NodeId)> = schemas
            .map(|(name, schema)| Ok((name.as_str().into(), self.enter(schema, &[key, name])?)))
            .collect::<Result<_, SchemaProblem>>()?;
        Ok((!schemas.is_empty()).then(|| Applicator::Dependent(schemas.into())))
    }

    fn condition(&mut self) -> Result<Option<Applicator>, SchemaProblem> {
        let Some(condition) = self.schema("if")? else { return Ok(None) };
        let (then, otherwise) = (self.schema("then")?, self.schema("else")?);
        Ok(Some(Applicator::If(Box::new(Condition { condition, then, otherwise }))))
    }
}

/// Whether `$ref` makes the keywords beside it void (draft-07 core, §8.3).
fn replaces_siblings(draft: Draft) -> bool {
    draft < Draft::Draft201909
}

/// Whether a keyword can change a verdict, in some draft.
fn judges(key: &str) -> bool {
    const APPLICATORS: [&str; 24] = [
        "$dynamicRef",
        "$id",
        "$recursiveRef",
        "$ref",
        "$schema",
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "contains",
        "dependencies",
        "dependentSchemas",
        "else",
        "if",
        "items",
        "not",
        "oneOf",
        "patternProperties",
        "prefixItems",
        "properties",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    ];
    APPLICATORS.contains(&key) || LEAVES.contains(&key)
}

fn is_dynamic(document: &Value) -> bool {
    let mut left = vec![document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(map) => {
                if DYNAMIC.iter().any(|key| map.contains_key(*key)) {
                    return true;
                }
                left.extend(map.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    false
}
