//! Compiles a schema into a fast path, if every keyword in it is supported.
//!
//! References must point to `$defs`, `definitions` or the root of the same document. A schema that changes how
//! references resolve (a nested `$id`, an anchor, a dynamic reference) has no fast path.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::Draft;
use serde_json::{Map, Value};

use super::program::{FastPath, Node, Numbers, Parts, Properties, Rules, ScalarRules, Text, Types};
use crate::stages::decimal;
use crate::stages::schema::cost::Cost;
use crate::stages::schema::formats::{self, NumberFormat};
use crate::stages::schema::multiple::Multiple;

/// Keywords that do not constrain a value.
const ANNOTATIONS: &[&str] = &[
    "$comment",
    "$defs",
    "definitions",
    "default",
    "deprecated",
    "description",
    "example",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// Keywords that the crate decides for scalars; the fast path never accepts arrays and objects under them.
const WHOLE: &[&str] = &["allOf", "anyOf", "const", "else", "enum", "if", "not", "oneOf", "then"];
/// Keywords that identify or reference a schema by something else than its location.
const IDENTITIES: &[&str] = &["$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$recursiveRef", "$schema"];
const NUMERIC: &[&str] = &["exclusiveMaximum", "exclusiveMinimum", "maximum", "minimum", "multipleOf"];
const TEXTUAL: &[&str] = &["contentEncoding", "contentMediaType", "format", "maxLength", "minLength", "pattern"];
const PARTS: &[&str] = &[
    "additionalProperties",
    "items",
    "maxItems",
    "maxProperties",
    "minItems",
    "minProperties",
    "properties",
    "required",
];
/// Longest chain of references to other references.
const MAX_HOPS: usize = 32;

pub(super) fn compile(schema: &Value, draft: Draft) -> Option<FastPath> {
    if !pointers_are_unambiguous(schema, draft) {
        return None;
    }
    let mut compiler = Compiler::new(schema, draft);
    let root = compiler.place(schema)?;
    // A list, not recursion: references chain as long as a schema likes.
    while let Some((place, schema)) = compiler.waiting.pop() {
        let node = compiler.node(schema)?;
        *compiler.nodes.get_mut(place)? = Some(node);
    }
    let nodes = compiler.nodes.into_iter().collect::<Option<Vec<_>>>()?;
    Some(FastPath { nodes: nodes.into(), root })
}

/// Compiles some definitions into one list of nodes. An unsupported node only affects the definitions that lead to it.
pub(super) fn compile_definitions(schema: &Value, draft: Draft, names: &[&str]) -> Vec<Option<FastPath>> {
    let mut compiler = Compiler::new(schema, draft);
    if !pointers_are_unambiguous(schema, draft) {
        return names.iter().map(|_| None).collect();
    }
    let definitions = schema.get("$defs");
    let mut root = |name: &&str| compiler.place(definitions?.get(*name)?);
    let roots: Vec<Option<usize>> = names.iter().map(&mut root).collect();
    while let Some((place, schema)) = compiler.waiting.pop() {
        let node = compiler.node(schema);
        if let Some(known) = compiler.nodes.get_mut(place) {
            *known = node;
        }
    }
    let incomplete = incomplete(&compiler.nodes);
    // An unsupported node accepts nothing, and no fast path leads to it.
    let nodes = compiler.nodes.into_iter().map(|node| node.unwrap_or(Node::ByType(Vec::new())));
    let nodes: Arc<[Node]> = nodes.collect();
    let good = |root: usize| !incomplete.get(root).copied().unwrap_or(true);
    let fast_path = |root: usize| FastPath { nodes: Arc::clone(&nodes), root };
    roots.into_iter().map(|root| root.filter(|root| good(*root)).map(fast_path)).collect()
}

/// Marks the nodes that are unsupported or lead to one that is.
fn incomplete(nodes: &[Option<Node>]) -> Vec<bool> {
    let mut above: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (place, node) in nodes.iter().enumerate() {
        for below in node.iter().flat_map(Node::below) {
            if let Some(above) = above.get_mut(below) {
                above.push(place);
            }
        }
    }
    let mut incomplete: Vec<bool> = nodes.iter().map(Option::is_none).collect();
    let mut left: Vec<usize> = (0..nodes.len()).filter(|place| incomplete.get(*place) == Some(&true)).collect();
    while let Some(place) = left.pop() {
        for above in above.get(place).into_iter().flatten() {
            if let Some(mark) = incomplete.get_mut(*above)
                && !std::mem::replace(mark, true)
            {
                left.push(*above);
            }
        }
    }
    incomplete
}

/// Whether JSON pointers from the root resolve the same way here and in the crate, everywhere in the document.
fn pointers_are_unambiguous(schema: &Value, draft: Draft) -> bool {
    let mut left = Vec::new();
    if let Value::Object(root) = schema {
        // The crate resolves the identifiers of the meta-schemas itself.
        let strange = |id: &str| id.contains('#') || id.contains("json-schema.org");
        if root.get(id_keyword(draft)).is_some_and(|id| id.as_str().is_none_or(strange)) {
            return false;
        }
        left.extend(root.iter().filter(|(key, _)| *key != "$schema" && *key != id_keyword(draft)));
    }
    while let Some((key, value)) = left.pop() {
        match value {
            // A property may be named "$id"; its value is a schema then.
            Value::String(_) if IDENTITIES.contains(&key.as_str()) || key == id_keyword(draft) => return false,
            Value::Array(items) => left.extend(items.iter().map(|item| (key, item))),
            Value::Object(members) => left.extend(members),
            _ => {}
        }
    }
    true
}

fn id_keyword(draft: Draft) -> &'static str {
    if draft == Draft::Draft4 { "id" } else { "$id" }
}

fn is_annotation(key: &str) -> bool {
    ANNOTATIONS.contains(&key) || key.starts_with("x-")
}

struct Compiler<'s> {
    schema: &'s Value,
    draft: Draft,
    /// The index of each schema's node, by address. The node may still be waiting to be compiled.
    places: HashMap<*const Value, usize>,
    waiting: Vec<(usize, &'s Value)>,
    nodes: Vec<Option<Node>>,
    /// By the text of the schema: many properties have the same constraints.
    scalars: HashMap<String, ScalarRules>,
}

impl<'s> Compiler<'s> {
    fn new(schema: &'s Value, draft: Draft) -> Self {
        Self { schema, draft, places: HashMap::new(), waiting: Vec::new(), nodes: Vec::new(), scalars: HashMap::new() }
    }

    /// Returns the index of a schema's node. Follows references.
    fn place(&mut self, schema: &'s Value) -> Option<usize> {
        let schema = self.resolve(schema)?;
        if let Some(place) = self.places.get(&std::ptr::from_ref(schema)) {
            return Some(*place);
        }
        let place = self.nodes.len();
        self.nodes.push(None);
        self.places.insert(schema, place);
        self.waiting.push((place, schema));
        Some(place)
    }

    /// Returns the index of a node that accepts every value.
    fn anything(&mut self) -> Option<usize> {
        const ANYTHING: &Value = &Value::Bool(true);
        self.place(ANYTHING)
    }

    /// Follows a schema that only refers to another one: `$ref`, or `allOf` with one branch.
    fn resolve(&self, mut schema: &'s Value) -> Option<&'s Value> {
        for _ in 0..MAX_HOPS {
            let Value::Object(map) = schema else { return Some(schema) };
            let mut keys = self.assertions(schema, map);
            let only = (keys.next(), keys.next());
            schema = match only {
                (Some(("$ref", reference)), None) => self.target(reference.as_str()?)?,
                // With siblings, the draft decides whether `$ref` adds to them or replaces them.
                _ if map.contains_key("$ref") => return None,
                (Some(("allOf", Value::Array(all))), None) if all.len() == 1 => all.first()?,
                _ => return Some(schema),
            };
        }
        None
    }

    /// The keywords that are not annotations.
    fn assertions(
        &self,
        schema: &'s Value,
        map: &'s Map<String, Value>,
    ) -> impl Iterator<Item = (&'s str, &'s Value)> + use<'s> {
        let root = std::ptr::eq(schema, self.schema);
        let id = id_keyword(self.draft);
        map.iter()
            .map(|(key, value)| (key.as_str(), value))
            .filter(move |(key, _)| !is_annotation(key) && !(root && (*key == "$schema" || *key == id)))
    }

    /// Resolves a reference; only names that need no unescaping are supported.
    fn target(&self, reference: &str) -> Option<&'s Value> {
        if reference == "#" {
            return Some(self.schema);
        }
        let (folder, name) = reference.strip_prefix("#/")?.split_once('/')?;
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !plain || !["$defs", "definitions"].contains(&folder) {
            return None;
        }
        self.schema.get(folder)?.as_object()?.get(name)
    }

    fn node(&mut self, schema: &'s Value) -> Option<Node> {
        let empty = Map::new();
        let (types, map) = match schema {
            Value::Bool(true) => (Types::ALL, &empty),
            Value::Bool(false) => (Types::NONE, &empty),
            Value::Object(map) => {
                if let Some(branches) = self.by_type(schema, map) {
                    return Some(Node::ByType(branches));
                }
                let known = |key| [&["type"], WHOLE, NUMERIC, TEXTUAL, PARTS].iter().any(|keys| keys.contains(&key));
                if !self.assertions(schema, map).all(|(key, _)| known(key)) {
                    return None;
                }
                (types(map)?, map)
            }
            _ => return None,
        };
        let whole = has(map, WHOLE);
        let numbers = if types.meet(Types::NUMBER) { self.numbers(map) } else { Numbers::Any };
        let text = if types.meet(Types::STRING) { text(map) } else { Text::Any };
        let asks = whole
            || !matches!(numbers, Numbers::Any)
            || matches!(text, Text::Validator)
            || (types.meet(Types::INTEGER) && !types.contain(Types::NUMBER));
        Some(Node::Rules(Box::new(Rules {
            types,
            bare: !whole,
            numbers,
            text,
            parts: if whole { None } else { Some(self.parts(schema)?) },
            scalars: if asks { Some(self.scalars(map)?) } else { None },
        })))
    }

    /// The branches of an `anyOf` or `oneOf` without sibling keywords, if no two branches have a type in common.
    fn by_type(&mut self, schema: &'s Value, map: &'s Map<String, Value>) -> Option<Vec<(Types, usize)>> {
        let mut keys = self.assertions(schema, map);
        let (Some(("anyOf" | "oneOf", Value::Array(all))), None) = (keys.next(), keys.next()) else { return None };
        let mut found = Types::NONE;
        let mut branches = Vec::with_capacity(all.len());
        for branch in all {
            let branch = self.resolve(branch)?;
            let map = branch.as_object().filter(|map| map.contains_key("type"))?;
            let types = types(map)?;
            if types.meet(found) {
                return None;
            }
            found = found.and(types);
            branches.push((types, branch));
        }
        branches.into_iter().map(|(types, branch)| Some((types, self.place(branch)?))).collect()
    }

    fn numbers(&self, map: &Map<String, Value>) -> Numbers {
        let format = NumberFormat::of(map);
        if !has(map, WHOLE) && !has(map, NUMERIC) && format.is_none() {
            return Numbers::Any;
        }
        let exclusive = ["exclusiveMinimum", "exclusiveMaximum"];
        if has(map, WHOLE) || map.contains_key("multipleOf") || (self.draft == Draft::Draft4 && has(map, &exclusive)) {
            return Numbers::Validator;
        }
        let bound = |key, otherwise: i128, excluded: i128| match map.get(key) {
            None => Some(otherwise),
            Some(value) => {
                value.as_u64().map(i128::from).or(value.as_i64().map(i128::from)).map(|value| value + excluded)
            }
        };
        let bounds = (
            bound("minimum", i128::MIN, 0),
            bound("exclusiveMinimum", i128::MIN, 1),
            bound("maximum", i128::MAX, 0),
            bound("exclusiveMaximum", i128::MAX, -1),
        );
        match bounds {
            (Some(least), Some(above), Some(most), Some(below)) => {
                let range = format.as_ref().map_or(i128::MIN..=i128::MAX, NumberFormat::range);
                Numbers::Within(least.max(above).max(*range.start()), most.min(below).min(*range.end()))
            }
            _ => Numbers::Validator,
        }
    }

    /// Compiles the scalar keywords with the crate, in the same draft and with the same options.
    fn scalars(&mut self, map: &Map<String, Value>) -> Option<ScalarRules> {
        let known = |key: &str| key == "type" || [WHOLE, NUMERIC, TEXTUAL].iter().any(|keys| keys.contains(&key));
        let asked: Map<String, Value> =
            map.iter().filter(|(key, _)| known(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
        let number = NumberFormat::of(&asked);
        if formats::has_nested_number_format(&asked) {
            return None;
        }
        let mut asked = Value::Object(asked);
        let text = asked.to_string();
        // Outside its document a reference would not resolve, or resolve elsewhere. (A property named `$ref` also
        // ends up here, which is rare.)
        if text.contains("\"$ref\"") {
            return None;
        }
        if let Some(known) = self.scalars.get(&text) {
            return Some(known.clone());
        }
        let multiple = asked.get("multipleOf").and_then(Value::as_number).and_then(Multiple::new);
        if let Some(keywords) = asked.as_object_mut().filter(|_| multiple.is_some()) {
            keywords.remove("multipleOf");
        }
        // The crate divides in binary64.
        if asked.to_string().contains("\"multipleOf\"") {
            return None;
        }
        let validator = formats::options(self.draft, &asked).build(&asked).ok()?;
        let has_large = decimal::has_large_binary(&asked);
        let rules = ScalarRules { validator: Arc::new(validator), number, multiple, has_large, cost: Cost::of(&asked) };
        self.scalars.insert(text, rules.clone());
        Some(rules)
    }

    fn parts(&mut self, schema: &'s Value) -> Option<Parts> {
        let get = |key| schema.get(key);
        let items = match get("items") {
            None => self.anything()?,
            Some(Value::Array(_)) => return None,
            Some(items) => self.place(items)?,
        };
        let others = match get("additionalProperties") {
            None => Some(self.anything()?),
            Some(Value::Bool(false)) => None,
            Some(others) => Some(self.place(others)?),
        };
        let mut names: Vec<(Box<str>, usize)> = Vec::new();
        let properties = match get("properties") {
            None => None,
            Some(properties) => Some(properties.as_object()?),
        };
        for (name, property) in properties.into_iter().flatten() {
            names.push((name.as_str().into(), self.place(property)?));
        }
        let required = match get("required") {
            None => Vec::new(),
            Some(required) => required.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
        };
        for name in &required {
            if !names.iter().any(|(known, _)| **known == **name) {
                // Required but not allowed: no object is valid, and the crate reports that.
                names.push(((*name).into(), others?));
            }
        }
        let names = Properties::new(names)?;
        let required =
            required.into_iter().filter_map(|name| names.find(name)).fold(0, |set, (place, _)| set | (1 << place));
        Some(Parts {
            items,
            item_count: count(get("minItems"), get("maxItems"))?,
            names,
            required,
            others,
            member_count: count(get("minProperties"), get("maxProperties"))?,
        })
    }
}

fn has(map: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().any(|key| map.contains_key(*key))
}

fn types(map: &Map<String, Value>) -> Option<Types> {
    let one = |name: &Value| {
        Some(match name.as_str()? {
            "null" => Types::NULL,
            "boolean" => Types::BOOLEAN,
            "integer" => Types::INTEGER,
            "number" => Types::NUMBER,
            "string" => Types::STRING,
            "array" => Types::ARRAY,
            "object" => Types::OBJECT,
            _ => return None,
        })
    };
    match map.get("type") {
        None => Some(Types::ALL),
        Some(Value::Array(names)) => names.iter().try_fold(Types::NONE, |types, name| Some(types.and(one(name)?))),
        Some(name) => one(name),
    }
}

fn text(map: &Map<String, Value>) -> Text {
    let present: Vec<&str> = WHOLE.iter().chain(TEXTUAL).copied().filter(|key| map.contains_key(*key)).collect();
    let strings = |values: &[Value]| values.iter().filter_map(Value::as_str).map(Into::into).collect();
    match (present.as_slice(), map.get("enum"), map.get("const")) {
        ([], ..) => Text::Any,
        (["enum"], Some(Value::Array(values)), _) => Text::OneOf(strings(values)),
        (["const"], _, Some(value)) => Text::OneOf(strings(std::slice::from_ref(value))),
        (keys, ..) if keys.iter().all(|key| ["minLength", "maxLength"].contains(key)) => {
            count(map.get("minLength"), map.get("maxLength"))
                .map_or(Text::Validator, |(least, most)| Text::Length(least, most))
        }
        _ => Text::Validator,
    }
}

/// Bounds of a count. Returns `None` for notations that drafts treat differently, such as `1.0`.
fn count(least: Option<&Value>, most: Option<&Value>) -> Option<(u64, u64)> {
    let bound = |value: Option<&Value>, otherwise| value.map_or(Some(otherwise), Value::as_u64);
    Some((bound(least, 0)?, bound(most, u64::MAX)?))
}
