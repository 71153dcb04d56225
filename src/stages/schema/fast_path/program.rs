//! The compiled form of a schema.

use std::sync::Arc;

use jsonschema::Validator;

use crate::stages::schema::cost::Cost;
use crate::stages::schema::formats::NumberFormat;
use crate::stages::schema::multiple::Multiple;
use crate::stages::schema::scalar::Scalars;

/// A schema compiled for streaming validation. Nodes refer to each other by index, so schemas may be recursive.
/// The fast paths of one document share the list.
#[derive(Debug)]
pub(in crate::stages::schema) struct FastPath {
    pub(super) nodes: Arc<[Node]>,
    pub(super) root: usize,
}

impl FastPath {
    /// Returns the rules for a value of one of these types; `None` if such a value is not known to be allowed.
    pub(super) fn rules(&self, node: usize, types: Types) -> Option<&Rules> {
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
pub(super) enum Node {
    Rules(Box<Rules>),
    /// `anyOf` or `oneOf` whose branches have no type in common: the type of the value selects the branch.
    ByType(Vec<(Types, usize)>),
}

impl Node {
    /// The nodes that this one leads to, for the value itself or for its members and items.
    pub(super) fn below(&self) -> Vec<usize> {
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
pub(super) struct Rules {
    pub(super) types: Types,
    /// Only the type decides for null and booleans.
    pub(super) bare: bool,
    pub(super) numbers: Numbers,
    pub(super) text: Text,
    /// `None` if a keyword compares whole arrays and objects.
    pub(super) parts: Option<Parts>,
    /// The keywords for scalars, used when the other fields do not decide.
    pub(super) scalars: Option<ScalarRules>,
}

/// The keywords for scalars, as the crate judges them (but formats of numbers), and what that costs.
#[derive(Debug, Clone)]
pub(super) struct ScalarRules {
    pub(super) validator: Arc<Validator<Scalars>>,
    pub(super) number: Option<NumberFormat>,
    pub(super) multiple: Option<Multiple>,
    /// Whether one of their numbers is so large that binary64 prints as another one.
    pub(super) has_large: bool,
    pub(super) cost: Cost,
}

/// A set of types. `NUMBER` contains `INTEGER`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(pub(super) u8);

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const NULL: Self = Self(1);
    pub(super) const BOOLEAN: Self = Self(2);
    pub(super) const INTEGER: Self = Self(4);
    pub(super) const NUMBER: Self = Self(4 | 8);
    pub(super) const STRING: Self = Self(16);
    pub(super) const ARRAY: Self = Self(32);
    pub(super) const OBJECT: Self = Self(64);
    pub(super) const ALL: Self = Self(127);

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Numbers {
    Any,
    /// Integers are compared here, exactly, in 128 bits; the crate compares fractions.
    Within(i128, i128),
    /// The crate decides.
    Validator,
}

#[derive(Debug)]
pub(super) enum Text {
    Any,
    /// In code points.
    Length(u64, u64),
    OneOf(Vec<Box<str>>),
    /// The crate decides.
    Validator,
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) items: usize,
    pub(super) item_count: (u64, u64),
    pub(super) names: Properties,
    pub(super) required: Names,
    /// The node for members with other names; `None` if they are not allowed.
    pub(super) others: Option<usize>,
    pub(super) member_count: (u64, u64),
}

/// A set of member names: one bit for each index in [`Properties`].
pub(super) type Names = u64;

/// The member names in an object's schema, each with the node of its value. Looked up by length: few names share one.
#[derive(Debug)]
pub(super) struct Properties {
    /// By length.
    pub(super) names: Vec<(Box<str>, usize)>,
    /// For each length, the index of the first name that is not shorter.
    pub(super) starts: Vec<usize>,
}

impl Properties {
    /// Returns `None` if there are more names than bits in [`Names`].
    pub(super) fn new(mut names: Vec<(Box<str>, usize)>) -> Option<Self> {
        names.sort_by_key(|(name, _)| name.len());
        let longest = names.last().map_or(0, |(name, _)| name.len());
        let starts = (0..=longest + 1).map(|length| names.partition_point(|(name, _)| name.len() < length)).collect();
        (names.len() <= Names::BITS as usize).then_some(Self { names, starts })
    }

    /// Returns the index of a name and the node of its value.
    pub(super) fn find(&self, name: &str) -> Option<(usize, usize)> {
        let start = *self.starts.get(name.len())?;
        let end = *self.starts.get(name.len() + 1)?;
        let same = self.names.get(start..end)?;
        let (place, (_, node)) = same.iter().enumerate().find(|(_, (known, _))| **known == *name)?;
        Some((start + place, *node))
    }
}
