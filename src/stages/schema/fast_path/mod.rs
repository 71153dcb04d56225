//! A fast path for valid bodies: validates a body in one streaming pass, without building a tree.
//!
//! A [`FastPath`] either reports a body as valid or leaves the decision open. Everything else (broken JSON, a duplicate
//! key, a violation, a keyword or a number that only the `jsonschema` crate can decide) falls back to [`super::json`],
//! which parses and validates from scratch and is the only source of refusals. One invariant must hold, and the tests
//! compare both paths for it: if a fast path accepts a body, `strict_json` parses it and the crate finds it valid.
//!
//! Many schemas have no fast path: [`compile`] supports the keywords of most request bodies and gives up on any other.

mod compile;
mod scalar;
mod stream;

use std::sync::Arc;

use jsonschema::{Draft, Validator};
use serde_json::Value;

use self::scalar::Scalars;

/// A schema compiled for streaming validation. Nodes refer to each other by index, so schemas may be recursive.
/// The fast paths of one document share the list.
#[derive(Debug)]
pub(super) struct FastPath {
    nodes: Arc<[Node]>,
    root: usize,
}

impl FastPath {
    /// Compiles a schema that the crate has already compiled. Returns `None` if it contains an unsupported keyword.
    pub(super) fn new(schema: &Value, draft: Draft) -> Option<Self> {
        compile::compile(schema, draft)
    }

    /// Compiles the definitions with these names (`#/$defs/NAME`), each like [`Self::new`].
    pub(super) fn of_definitions(schema: &Value, draft: Draft, names: &[&str]) -> Vec<Option<Self>> {
        compile::compile_definitions(schema, draft, names)
    }

    /// Whether a body is known to be acceptable JSON and valid. `false` decides nothing.
    pub(super) fn accepts(&self, body: &[u8]) -> bool {
        stream::accepts(self, body)
    }

    /// Returns the rules for a value of one of these types; `None` if such a value is not known to be allowed.
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

/// A compiled subschema.
#[derive(Debug)]
enum Node {
    Rules(Box<Rules>),
    /// `anyOf` or `oneOf` whose branches have no type in common: the type of the value selects the branch.
    ByType(Vec<(Types, usize)>),
}

impl Node {
    /// The nodes that this one leads to, for the value itself or for its members and items.
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

/// The keywords of one schema, grouped by the type that they apply to.
#[derive(Debug)]
struct Rules {
    types: Types,
    /// Only the type decides for null and booleans.
    bare: bool,
    numbers: Numbers,
    text: Text,
    /// `None` if a keyword compares whole arrays and objects.
    parts: Option<Parts>,
    /// The keywords for scalars, used when the other fields do not decide.
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
    /// Integers are compared here, exactly, in 128 bits; the crate compares fractions.
    Within(i128, i128),
    /// The crate decides.
    Validator,
}

#[derive(Debug)]
enum Text {
    Any,
    /// In code points.
    Length(u64, u64),
    OneOf(Vec<Box<str>>),
    /// The crate decides.
    Validator,
}

#[derive(Debug)]
struct Parts {
    items: usize,
    item_count: (u64, u64),
    names: Properties,
    required: Names,
    /// The node for members with other names; `None` if they are not allowed.
    others: Option<usize>,
    member_count: (u64, u64),
}

/// A set of member names: one bit for each index in [`Properties`].
type Names = u64;

/// The member names in an object's schema, each with the node of its value. Looked up by length: few names share one.
#[derive(Debug)]
struct Properties {
    /// By length.
    names: Vec<(Box<str>, usize)>,
    /// For each length, the index of the first name that is not shorter.
    starts: Vec<usize>,
}

impl Properties {
    /// Returns `None` if there are more names than bits in [`Names`].
    fn new(mut names: Vec<(Box<str>, usize)>) -> Option<Self> {
        names.sort_by_key(|(name, _)| name.len());
        let longest = names.last().map_or(0, |(name, _)| name.len());
        let starts = (0..=longest + 1).map(|length| names.partition_point(|(name, _)| name.len() < length)).collect();
        (names.len() <= Names::BITS as usize).then_some(Self { names, starts })
    }

    /// Returns the index of a name and the node of its value.
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
