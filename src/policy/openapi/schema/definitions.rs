//! The schemas of one direction as definitions: each has one name, however many refer to it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::scopes::{ScopeId, Scopes};
use crate::policy::openapi::files::Node;
use crate::policy::openapi::version::Version;

/// The direction of a message: some properties are for one direction only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// `readOnly` properties are not required, and may be refused.
    Request,
    /// The same for `writeOnly` properties.
    Response,
}

/// Identifies the document of all definitions.
pub(super) const MAIN: &str = "policy:";

/// The name of a definition.
pub(crate) type Name = Arc<str>;

/// Identifies a definition: a part of the description, and which form of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) file: usize,
    pub(super) pointer: String,
    /// Without its discriminator's alternatives: only what the branches have in common.
    pub(super) base: bool,
    /// How evaluation comes to it, as far as dynamic references depend on it.
    pub(super) scope: ScopeId,
}

impl Key {
    pub(super) fn of(node: &Node<'_>, scope: ScopeId) -> Self {
        Self { file: node.file, pointer: node.pointer.clone(), base: false, scope }
    }
}

/// The schemas of one direction.
#[derive(Debug, Clone)]
pub(in crate::policy::openapi) struct Schemas<'d> {
    pub(super) direction: Direction,
    /// Whether members of the other direction are refused.
    pub(super) one_way: bool,
    pub(super) version: Version,
    pub(super) names: HashMap<Key, Name>,
    pub(super) scopes: Scopes,
    /// Schemas made by this program, by their text.
    pub(super) made: HashMap<String, Name>,
    pub(super) taken: HashSet<Name>,
    /// Not translated yet.
    pub(super) waiting: Vec<(Node<'d>, Key, Name)>,
    /// Where each definition comes from.
    pub(super) origins: HashMap<Name, Node<'d>>,
    pub(super) defs: Map<String, Value>,
    /// By pattern: why it cannot be checked, if it cannot.
    pub(super) patterns: HashMap<String, Option<String>>,
    /// By definition: why it cannot be enforced.
    pub(super) broken: HashMap<Name, String>,
}

impl<'d> Schemas<'d> {
    pub(in crate::policy::openapi) fn new(direction: Direction, one_way: bool, version: Version) -> Self {
        Self {
            direction,
            one_way,
            version,
            names: HashMap::new(),
            scopes: Scopes::default(),
            made: HashMap::new(),
            taken: HashSet::new(),
            waiting: Vec::new(),
            origins: HashMap::new(),
            defs: Map::new(),
            patterns: HashMap::new(),
            broken: HashMap::new(),
        }
    }

    /// The same schemas, with members of the other direction accepted.
    pub(in crate::policy::openapi) fn lenient(&self) -> Self {
        Self { one_way: false, ..self.clone() }
    }

    /// The definition of a schema. For a schema that is only a reference, that of its target.
    pub(in crate::policy::openapi) fn define(&mut self, node: &Node<'d>) -> Name {
        self.define_in(0, node)
    }

    /// The same for a schema that evaluation comes to in a dynamic scope.
    pub(super) fn define_in(&mut self, scope: ScopeId, node: &Node<'d>) -> Name {
        let mut node = node.clone();
        let mut scope = self.scopes.passing(scope, &node);
        // `circles` reports cycles.
        for _ in 0..32 {
            let alone = self.version == Version::V3_0 || node.value.as_object().is_some_and(|map| map.len() == 1);
            let alone = alone && node.in_schema_file().is_none();
            match node.reference().filter(|_| alone).and_then(|reference| node.follow(reference).ok()) {
                Some(target) => node = target,
                None => break,
            }
            scope = self.scopes.passing(scope, &node);
        }
        let key = Key::of(&node, scope);
        self.named(&node, key)
    }

    pub(super) fn named(&mut self, node: &Node<'d>, key: Key) -> Name {
        if let Some(name) = self.names.get(&key) {
            return Arc::clone(name);
        }
        let name = self.fresh(&key.pointer, node);
        self.names.insert(key.clone(), Arc::clone(&name));
        self.waiting.push((node.clone(), key, Arc::clone(&name)));
        name
    }

    /// The definition of a schema that this program made for `node`.
    pub(in crate::policy::openapi) fn define_made(&mut self, schema: Value, node: &Node<'d>) -> Name {
        let text = schema.to_string();
        if let Some(name) = self.made.get(&text) {
            return Arc::clone(name);
        }
        let name = self.fresh(&node.pointer, node);
        self.made.insert(text, Arc::clone(&name));
        self.defs.insert(name.to_string(), schema);
        name
    }

    /// A unique name, from the last segment of the pointer that is a name.
    fn fresh(&mut self, pointer: &str, node: &Node<'d>) -> Name {
        let last = pointer.rsplit('/').find(|part| part.starts_with(|c: char| c.is_ascii_alphabetic()));
        let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '_' };
        let stem: String = last.unwrap_or("schema").chars().take(60).map(plain).collect();
        let mut name: Name = stem.as_str().into();
        let mut number = self.taken.len();
        while !self.taken.insert(Arc::clone(&name)) {
            name = format!("{stem}.{number}").into();
            number += 1;
        }
        self.origins.insert(Arc::clone(&name), node.clone());
        name
    }
}

/// The name of the definition that a reference leads to.
pub(super) fn named(reference: &str) -> Option<&str> {
    reference.strip_prefix(MAIN).unwrap_or(reference).strip_prefix("#/$defs/")
}

/// A reference to a definition.
pub(in crate::policy::openapi) fn reference(name: &str) -> Value {
    Value::Object(Map::from_iter([("$ref".to_owned(), Value::String(format!("#/$defs/{name}")))]))
}
