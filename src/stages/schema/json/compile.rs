//! Compiles a schema into a graph: each subschema that evaluation can reach becomes one node, in time linear in the
//! size of the documents.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::documents::{DocumentId, Documents};
use super::graph::{Applicator, Condition, Contains, Graph, Items, Members, Node, NodeId};
use super::leaf::{LEAVES, Leaf, Leaves};
use super::metaschemas;
use super::problem::SchemaProblem;
use super::references::{Place, Places, ScopeId};
use super::uri::escaped;

/// Most nodes of all graphs of a policy. Only dynamic references can make many nodes of a small schema.
const MAX_NODES: usize = 4_000_000;
/// Longest chain of schemas that only refer to the next one.
const MAX_ALIASES: usize = 1000;

pub(super) struct Compiler<'r> {
    places: Places<'r>,
    ids: HashMap<Key, NodeId, ahash::RandomState>,
    waiting: Vec<(NodeId, Place<'r>)>,
    nodes: Vec<Option<Node>>,
    shared: &'r mut Shared,
    /// Documents that have been checked against their meta-schema, and those of them that conform.
    checked: HashMap<DocumentId, bool>,
    problems: Vec<SchemaProblem>,
}

/// What graphs that are compiled one after the other have in common.
#[derive(Default)]
pub(crate) struct Shared {
    leaves: Leaves,
    /// How many nodes the graphs before have.
    nodes: usize,
}

/// What a compiler makes.
pub(super) struct Compiled {
    pub(super) graph: Graph,
    /// The closed variants, in the order in which they were asked for.
    pub(super) closed: Vec<NodeId>,
    pub(super) problems: Vec<SchemaProblem>,
}

/// A schema by its address in the documents, and the dynamic scope that it is compiled for.
type Key = (usize, ScopeId);

impl<'r> Compiler<'r> {
    pub(super) fn new(documents: &'r Documents, shared: &'r mut Shared) -> Self {
        Self {
            places: Places::new(documents),
            ids: HashMap::default(),
            waiting: Vec::new(),
            nodes: Vec::new(),
            shared,
            checked: HashMap::new(),
            problems: Vec::new(),
        }
    }

    /// The node of a document's root, or of what it has at a pointer, and the draft. `None` if there is a problem with it, which
    /// [`Self::finish`] returns.
    pub(super) fn root(&mut self, document: DocumentId, pointer: &str) -> Option<(NodeId, Draft)> {
        let root = self.places.root(document)?;
        let draft = root.draft;
        let found = match root.schema.pointer(pointer) {
            Some(_) if pointer.is_empty() => Ok(root),
            Some(schema) => self.places.enter(&root, schema, pointer.to_owned()),
            None => Err(self.places.problem(&root, pointer, "there is no such definition")),
        };
        let node = found.and_then(|place| self.node(place));
        node.map(|node| (node, draft)).map_err(|problem| self.problems.push(problem)).ok()
    }

    /// Compiles what is waiting, and a variant of each node in `closing` that refuses members which it does not name. The
    /// graph is of use only without problems.
    pub(super) fn finish(mut self, closing: &[NodeId]) -> Compiled {
        // A list, not recursion: schemas nest as deeply as they like.
        while let Some((id, place)) = self.waiting.pop() {
            let node = match self.check(&place) {
                true => self.compile(&place),
                false => Ok(self.nothing(&place)),
            };
            let node = node.unwrap_or_else(|problem| {
                self.problems.push(problem);
                self.nothing(&place)
            });
            if let Some(slot) = self.nodes.get_mut(id as usize) {
                *slot = Some(node);
            }
        }
        let Self { places, nodes, mut problems, shared, .. } = self;
        shared.nodes += nodes.len();
        let documents = places.documents.names();
        let mut nodes: Vec<Node> = nodes.into_iter().map(Option::unwrap_or_default).collect();
        nodes.shrink_to_fit();
        let mut graph = Graph { nodes, documents };
        for node in super::order::circles(&graph).into_iter().filter_map(|id| graph.node(id)) {
            let file = places.documents.name(node.document as usize);
            problems.push(SchemaProblem::at(&node.pointer, CIRCLE.to_owned()).in_file(file));
        }
        let closed = closing.iter().filter_map(|node| graph.close(*node)).collect();
        super::order::mark_shared(&mut graph);
        Compiled { graph, closed, problems }
    }

    /// Checks the document of a place against its meta-schema, once. Returns whether it conforms.
    fn check(&mut self, place: &Place<'r>) -> bool {
        let document = self.places.document(place);
        if let Some(known) = self.checked.get(&document) {
            return *known;
        }
        let Some(root) = self.places.root(document) else { return false };
        let named = root.schema.get("$schema").and_then(Value::as_str);
        let problems = match (root.draft, named) {
            (Draft::Unknown, named) => vec![self.places.unknown_draft(&root, named.unwrap_or_default())],
            _ => {
                let file = self.places.documents.name(document);
                let found = self.places.index.by_draft(document).into_iter().flat_map(|part| {
                    let found = metaschemas::problems(&part.schema, part.draft).into_iter();
                    found.map(move |problem| problem.below(&part.pointer))
                });
                found.map(|problem| problem.in_file(file.clone())).collect()
            }
        };
        self.checked.insert(document, problems.is_empty());
        let good = problems.is_empty();
        self.problems.extend(problems);
        good
    }

    /// A node that allows nothing, in the place of one that has a problem.
    fn nothing(&self, place: &Place<'r>) -> Node {
        Node {
            document: self.places.document(place) as u32,
            pointer: place.pointer.as_str().into(),
            never: true,
            leaf: None,
            applicators: Box::default(),
            shared: false,
        }
    }

    /// Returns the node of a schema, which is compiled by [`Self::finish`] at the latest.
    fn node(&mut self, place: Place<'r>) -> Result<NodeId, SchemaProblem> {
        let first = key(&place);
        if let Some(known) = self.ids.get(&first) {
            return Ok(*known);
        }
        let place = self.follow_aliases(place)?;
        let key = key(&place);
        let known = self.ids.get(&key).copied();
        let id = match known {
            Some(known) => known,
            None => self.add(key, place)?,
        };
        self.ids.insert(first, id);
        Ok(id)
    }

    fn add(&mut self, key: Key, place: Place<'r>) -> Result<NodeId, SchemaProblem> {
        let room = self.shared.nodes + self.nodes.len() < MAX_NODES;
        let Some(id) = NodeId::try_from(self.nodes.len()).ok().filter(|_| room) else {
            return Err(self.places.problem(&place, "", format!("the schemas have more than {MAX_NODES} parts")));
        };
        self.nodes.push(None);
        self.ids.insert(key, id);
        self.waiting.push((id, place));
        Ok(id)
    }

    /// Follows schemas that are nothing but references to other ones.
    fn follow_aliases(&mut self, mut place: Place<'r>) -> Result<Place<'r>, SchemaProblem> {
        for _ in 0..MAX_ALIASES {
            let Value::Object(map) = place.schema else { return Ok(place) };
            let Some(Value::String(reference)) = map.get("$ref") else { return Ok(place) };
            if !replaces_siblings(place.draft) && !map.keys().all(|key| !judges(key) || key == "$ref") {
                return Ok(place);
            }
            place = self.places.follow(&place, "$ref", reference)?;
        }
        Err(self.places.problem(&place, "", CIRCLE))
    }

    fn compile(&mut self, place: &Place<'r>) -> Result<Node, SchemaProblem> {
        let mut node = Node { never: false, ..self.nothing(place) };
        match place.schema {
            Value::Bool(verdict) => node.never = !verdict,
            Value::Object(map) => {
                node.leaf = self.leaf(place, map)?;
                node.applicators = self.applicators(place, map)?.into();
            }
            _ => return Err(self.places.problem(place, "", "a schema is an object, `true` or `false`")),
        }
        Ok(node)
    }

    fn leaf(&mut self, place: &Place<'r>, map: &'r Map<String, Value>) -> Result<Option<Arc<Leaf>>, SchemaProblem> {
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
        let leaf = self.shared.leaves.leaf(place.draft, keywords).map(Some);
        leaf.map_err(|problem| self.places.problem(place, &problem.pointer, problem.message))
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
        self.compiler.places.problem(self.place, &format!("/{}", escaped(key)), message)
    }

    /// The node of a subschema at these steps below this schema.
    fn enter(&mut self, schema: &'r Value, steps: &[&str]) -> Result<NodeId, SchemaProblem> {
        let length = steps.iter().map(|step| 1 + step.len()).sum::<usize>();
        let mut pointer = String::with_capacity(self.place.pointer.len() + length);
        pointer.push_str(&self.place.pointer);
        for step in steps {
            pointer.push('/');
            pointer.push_str(&escaped(step));
        }
        let place = self.compiler.places.enter(self.place, schema, pointer)?;
        self.compiler.node(place)
    }

    fn schema(&mut self, key: &str) -> Result<Option<NodeId>, SchemaProblem> {
        self.map.get(key).map(|schema| self.enter(schema, &[key])).transpose()
    }

    fn list(&mut self, key: &str) -> Result<Option<Box<[NodeId]>>, SchemaProblem> {
        let Some(listed) = self.map.get(key) else { return Ok(None) };
        let Value::Array(listed) = listed else { return Err(self.wrong(key, "must be a list of schemas")) };
        let entered = listed
            .iter()
            .enumerate()
            .map(|(index, schema)| self.enter(schema, &[key, itoa::Buffer::new().format(index)]));
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
            let target = match key {
                "$recursiveRef" => self.compiler.places.recurse(self.place, reference)?,
                _ => self.compiler.places.follow(self.place, key, reference)?,
            };
            found.push(Applicator::Reference(self.compiler.node(target)?));
        }
        Ok(found)
    }

    fn members(&mut self) -> Result<Option<Applicator>, SchemaProblem> {
        let mut members = Members::default();
        members.named.extend(self.named("properties")?.into_iter().map(|(name, node)| (name.into(), node)));
        for (pattern, node) in self.named("patternProperties")? {
            let compiled = self.compiler.shared.leaves.pattern(pattern);
            let below = format!("/patternProperties/{}", escaped(pattern));
            let compiled = compiled.map_err(|message| self.compiler.places.problem(self.place, &below, message))?;
            members.patterns.push((compiled, node));
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

/// A schema that applies itself to the value that it judges.
const CIRCLE: &str =
    "this schema leads back to itself for the same value, so it can never be judged; remove the reference";

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

fn key(place: &Place<'_>) -> Key {
    (std::ptr::from_ref(place.schema) as usize, place.scope)
}
