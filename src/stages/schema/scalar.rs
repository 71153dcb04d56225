//! Scalars in a representation that the `jsonschema` crate can validate, for what [`super`] does not decide itself.
//!
//! `jsonschema` validates any representation of a value. This one has no arrays or objects and borrows its strings, so
//! it does not allocate. The crate evaluates patterns, formats, fractions and the rest, so they mean the same on both
//! paths.

use std::borrow::Cow;
use std::convert::Infallible;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, cmp};
use serde_json::{Number, Value};

/// A scalar value, borrowed from the body.
#[derive(Debug, Clone)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(&'a str),
}

/// Marks validators of [`Scalar`]s.
#[derive(Debug)]
pub(super) struct Scalars;

/// An array or an object, which cannot exist here.
#[derive(Debug, Clone)]
pub(super) struct Never(Infallible);

impl Json for Scalars {
    type Node<'a> = Scalar<'a>;
    type PreparedKey = ();
    type StringBuffer = ();

    fn prepare_key(_: &str) {}

    fn with_string_node<T>((): &mut (), string: &str, f: impl FnOnce(Scalar<'_>) -> T) -> T {
        f(Scalar::Text(string))
    }
}

impl<'a> Node<'a, Scalars> for Scalar<'a> {
    type Object = Never;
    type Array = Never;
    type Number = Number;

    fn as_object(&self) -> Option<Never> {
        None
    }

    fn as_array(&self) -> Option<Never> {
        None
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(Cow::Borrowed(text)),
            _ => None,
        }
    }

    fn as_number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(number.clone()),
            _ => None,
        }
    }

    fn as_boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn json_type(&self) -> JsonType {
        match self {
            Self::Null => JsonType::Null,
            Self::Bool(_) => JsonType::Boolean,
            Self::Number(_) => JsonType::Number,
            Self::Text(_) => JsonType::String,
        }
    }

    fn equals_value(&self, expected: &Value) -> bool {
        match self {
            Self::Text(text) => expected.as_str() == Some(text),
            _ => cmp::equal(&self.to_value(), expected),
        }
    }

    fn to_value(&self) -> Cow<'a, Value> {
        Cow::Owned(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String((*text).to_owned()),
        })
    }

    /// Always `None`: only containers and references need an identity, and there are neither.
    fn identity(&self) -> Option<NodeIdentity> {
        None
    }
}

impl<'a> Object<'a, Scalars> for Never {
    type Node = Scalar<'a>;
    type MemberName = &'a str;
    type MembersIter = std::iter::Empty<(&'a str, Scalar<'a>)>;

    fn len(&self) -> usize {
        match self.0 {}
    }

    fn get(&self, (): &()) -> Option<Scalar<'a>> {
        match self.0 {}
    }

    fn members(&self) -> Self::MembersIter {
        match self.0 {}
    }
}

impl<'a> Array<'a, Scalars> for Never {
    type Node = Scalar<'a>;
    type ElementsIter = std::iter::Empty<Scalar<'a>>;

    fn len(&self) -> usize {
        match self.0 {}
    }

    fn elements(&self) -> Self::ElementsIter {
        match self.0 {}
    }
}
