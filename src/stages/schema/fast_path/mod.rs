//! The short way to "valid": a body is read once, as a stream, against the schema's shape, and no tree is built.
//!
//! A [`Shape`] says *surely valid* or nothing. Whatever is not plain (broken JSON, a key that stands twice, a violation, a
//! keyword or a number that only the crate decides for certain) is left to [`super::json`], which parses and judges anew
//! and alone words refusals. So one thing must hold, and the tests compare both ways for it: what a shape accepts,
//! `strict_json` parses and the crate finds valid.
//!
//! Many schemas have no shape: [`compile`] knows the keywords of most request bodies and gives up on the first other one.

mod compile;
mod scalar;
mod stream;

use std::sync::Arc;

use jsonschema::{Draft, Validator};
use serde_json::Value;

use self::scalar::Scalars;

/// A schema as its body is read: nodes that name each other by their place in the list, so that schemas may recurse.
/// Shapes of one document share the list.
#[derive(Debug)]
pub(super) struct Shape {
    nodes: Arc<[Node]>,
    root: usize,
}

impl Shape {
    /// The shape of a schema that the crate has compiled, if every keyword in it is one that is known here.
    pub(super) fn new(schema: &Value, draft: Draft) -> Option<Self> {
        compile::shape(schema, draft)
    }

    /// The shapes of the definitions with these names (`#/$defs/NAME`), each as by [`Self::new`].
    pub(super) fn of_definitions(schema: &Value, draft: Draft, names: &[&str]) -> Vec<Option<Self>> {
        compile::shapes(schema, draft, names)
    }

    /// Whether a body is surely acceptable JSON, and surely valid. False decides nothing.
    pub(super) fn accepts(&self, body: &[u8]) -> bool {
        stream::accepts(self, body)
    }

    /// What a value of one of these types must keep to here; none where such a value is not surely allowed.
    fn rules(&self, node: usize, types: Types) -> Option<&Rules> {
        let rules = match self.nodes.get(node)? {
            Node::Rules(rules) => rules,
            Node::ByType(branches) => {
                let (_, branch) = branches.iter().find(|(allowed, _)| allowed.meet(types))?;
                match self.nodes.get(*branch)? {
                    Node::Rules(rules) => rules,
                    Node::ByType(_) => return None,
                }
            }
        };
        rules.types.meet(types).then_some(rules)
    }
}

/// One schema within the schema.
#[derive(Debug)]
enum Node {
    Rules(Box<Rules>),
    /// `anyOf` or `oneOf` whose branches have no type in common: the value's type says which one counts.
    ByType(Vec<(Types, usize)>),
}

impl Node {
    /// The nodes that a value's parts, or the value itself, may be read against after this one.
    fn below(&self) -> Vec<usize> {
        match self {
            Self::ByType(branches) => branches.iter().map(|(_, node)| *node).collect(),
            Self::Rules(rules) => match &rules.parts {
                None => Vec::new(),
                Some(parts) => {
                    let named = parts.names.names.iter().map(|(_, node)| *node);
                    named.chain(parts.others).chain([parts.items]).collect()
                }
            },
        }
    }
}

/// The keywords that stand together in one schema, sorted by the type that they speak of.
#[derive(Debug)]
struct Rules {
    types: Types,
    /// The type alone decides null and booleans.
    bare: bool,
    numbers: Numbers,
    text: Text,
    /// None where a keyword compares arrays and objects as a whole.
    parts: Option<Parts>,
    /// The keywords about scalars, for values that the other fields leave open.
    scalars: Option<Arc<Validator<Scalars>>>,
}

/// A set of types. `NUMBER` contains `INTEGER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Types(u8);

impl Types {
    const NONE: Self = Self(0);
    const NULL: Self = Self(1);
    const BOOLEAN: Self = Self(2);
    const INTEGER: Self = Self(4);
    const NUMBER: Self = Self(4 | 8);
    const STRING: Self = Self(16);
    const ARRAY: Self = Self(32);
    const OBJECT: Self = Self(64);
    const ALL: Self = Self(127);

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[derive(Debug, Clone, Copy)]
enum Numbers {
    Any,
    /// Integers are compared here, which is exact in so many bits; fractions by the crate.
    Within(i128, i128),
    Ask,
}

#[derive(Debug)]
enum Text {
    Any,
    /// In code points.
    Length(u64, u64),
    OneOf(Vec<Box<str>>),
    Ask,
}

#[derive(Debug)]
struct Parts {
    items: usize,
    item_count: (u64, u64),
    names: Properties,
    required: Names,
    /// What members with other names must be; none where there may be none.
    others: Option<usize>,
    member_count: (u64, u64),
}

/// A set of an object's names: a bit for each place in [`Properties`].
type Names = u64;

/// The names that an object's schema speaks of, each with the node of its value. Found by length first: few names share one.
#[derive(Debug)]
struct Properties {
    /// By length.
    names: Vec<(Box<str>, usize)>,
    /// For each length, the place of the first name that is not shorter.
    starts: Vec<usize>,
}

impl Properties {
    /// None for more names than [`Names`] has bits.
    fn new(mut names: Vec<(Box<str>, usize)>) -> Option<Self> {
        names.sort_by_key(|(name, _)| name.len());
        let longest = names.last().map_or(0, |(name, _)| name.len());
        let starts = (0..=longest + 1).map(|length| names.partition_point(|(name, _)| name.len() < length)).collect();
        (names.len() <= Names::BITS as usize).then_some(Self { names, starts })
    }

    /// The place of a name, and the node of its value.
    fn find(&self, name: &str) -> Option<(usize, usize)> {
        let start = *self.starts.get(name.len())?;
        let end = *self.starts.get(name.len() + 1)?;
        let same = self.names.get(start..end)?;
        let (place, (_, node)) = same.iter().enumerate().find(|(_, (known, _))| **known == *name)?;
        Some((start + place, *node))
    }
}

#[cfg(test)]
mod tests;
