//! The schemas of a description, gathered into one document of JSON Schema 2020-12 for each direction.
//!
//! Whatever an operation needs becomes a definition with a name, once, however many refer to it; references lead to
//! `#/$defs/NAME`. So a description is compiled twice (for requests and for answers), not once for each operation.
//! [`lower`] says what the keywords of OpenAPI mean there.

mod circles;
mod discriminator;
mod keywords;
mod lower;
mod nullable;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::diagnostics::Diagnostics;
use super::files::Node;
use super::{Spot, Version};

/// Which way a message goes: some properties are for one way only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// `readOnly` properties are not required.
    Request,
    /// `writeOnly` properties are not there.
    Response,
}

/// The name of a definition.
pub(crate) type Name = Arc<str>;

/// A part of the description, as one definition or another of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    file: usize,
    pointer: String,
    /// Without the choice that its discriminator makes: what its branches have in common.
    base: bool,
}

impl Key {
    fn of(node: &Node<'_>) -> Self {
        Self { file: node.file, pointer: node.pointer.clone(), base: false }
    }
}

/// The schemas of one direction.
#[derive(Debug)]
pub(super) struct Schemas<'d> {
    direction: Direction,
    version: Version,
    names: HashMap<Key, Name>,
    /// Those that were made up, by their text.
    made: HashMap<String, Name>,
    taken: HashSet<Name>,
    /// What waits to be lowered.
    waiting: Vec<(Node<'d>, Key, Name)>,
    /// Where each came from.
    origins: HashMap<Name, Node<'d>>,
    defs: Map<String, Value>,
    /// Whether a pattern can be kept, by its text.
    patterns: HashMap<String, Option<String>>,
}

impl<'d> Schemas<'d> {
    pub(super) fn new(direction: Direction, version: Version) -> Self {
        Self {
            direction,
            version,
            names: HashMap::new(),
            made: HashMap::new(),
            taken: HashSet::new(),
            waiting: Vec::new(),
            origins: HashMap::new(),
            defs: Map::new(),
            patterns: HashMap::new(),
        }
    }

    /// The definition of a schema. A schema that is but a reference is what it refers to.
    pub(super) fn define(&mut self, node: &Node<'d>) -> Name {
        let mut node = node.clone();
        // A circle is for `circles` to tell.
        for _ in 0..32 {
            let alone = self.version == Version::V3_0 || node.value.as_object().is_some_and(|map| map.len() == 1);
            match node.reference().filter(|_| alone).and_then(|reference| node.follow(reference).ok()) {
                Some(target) => node = target,
                None => break,
            }
        }
        let key = Key::of(&node);
        self.named(&node, key)
    }

    fn named(&mut self, node: &Node<'d>, key: Key) -> Name {
        if let Some(name) = self.names.get(&key) {
            return Arc::clone(name);
        }
        let name = self.fresh(&key.pointer, node);
        self.names.insert(key.clone(), Arc::clone(&name));
        self.waiting.push((node.clone(), key, Arc::clone(&name)));
        name
    }

    /// The definition of a schema that was made up for what stands at `node`.
    pub(super) fn define_made(&mut self, schema: Value, node: &Node<'d>) -> Name {
        let text = schema.to_string();
        if let Some(name) = self.made.get(&text) {
            return Arc::clone(name);
        }
        let name = self.fresh(&node.pointer, node);
        self.made.insert(text, Arc::clone(&name));
        self.defs.insert(name.to_string(), schema);
        name
    }

    /// A name that no other has, after the last part of the pointer that is one.
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

    /// Lowers all that was asked for, and what that refers to. Returns `{"$defs": …}`; adds where each is from.
    pub(super) fn finish(mut self, diagnostics: &mut Diagnostics, origins: &mut HashMap<Name, Spot>) -> Value {
        self.drain(diagnostics);
        circles::tell(&self.defs, &self.origins, diagnostics);
        origins.extend(self.origins.iter().map(|(name, node)| (Arc::clone(name), Spot::of(node))));
        Value::Object(Map::from_iter([("$defs".to_owned(), Value::Object(self.defs))]))
    }

    fn drain(&mut self, diagnostics: &mut Diagnostics) {
        // A list, not recursion: references chain as long as a description likes.
        while let Some((node, key, name)) = self.waiting.pop() {
            let schema = lower::Lowering { schemas: self, diagnostics, within: &key }.whole(&node);
            self.defs.insert(name.to_string(), schema);
        }
    }
}

/// A reference to a definition.
pub(super) fn reference(name: &str) -> Value {
    Value::Object(Map::from_iter([("$ref".to_owned(), Value::String(format!("#/$defs/{name}")))]))
}
