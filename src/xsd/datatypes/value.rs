//! Values of simple types: equal or ordered as their primitive types say.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use super::date_time::{Moment, MomentKind};
use super::decimal::OwnedDecimal;
use super::duration::Duration;

/// A primitive type (XSD 1.0 Part 2, §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Primitive {
    /// `xs:string`
    String,
    /// `xs:boolean`
    Boolean,
    /// `xs:decimal`
    Decimal,
    /// `xs:float`
    Float,
    /// `xs:double`
    Double,
    /// `xs:duration`
    Duration,
    /// `xs:dateTime`, `xs:time`, `xs:date` and the parts of dates
    Moment(MomentKind),
    /// `xs:hexBinary`
    HexBinary,
    /// `xs:base64Binary`
    Base64Binary,
    /// `xs:anyURI`
    AnyUri,
    /// `xs:QName`
    QName,
    /// `xs:NOTATION`
    Notation,
}

impl Primitive {
    /// Whether `minInclusive` and its kind apply.
    pub(crate) fn is_ordered(self) -> bool {
        matches!(self, Self::Decimal | Self::Float | Self::Double | Self::Duration | Self::Moment(_))
    }

    /// Whether `length` and its kind apply.
    pub(crate) fn has_length(self) -> bool {
        !self.is_ordered() && self != Self::Boolean
    }
}

/// A value. Values of different primitive types are never equal.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// `xs:string`, and what has no type.
    Text(Box<str>),
    /// `xs:anyURI`
    Uri(Box<str>),
    /// `xs:boolean`
    Boolean(bool),
    /// `xs:decimal`
    Decimal(OwnedDecimal),
    /// `xs:float`
    Float(f32),
    /// `xs:double`
    Double(f64),
    /// `xs:duration`
    Duration(Duration),
    /// Dates and times
    Moment(Moment),
    /// `xs:hexBinary`
    Hex(Box<[u8]>),
    /// `xs:base64Binary`
    Base64(Box<[u8]>),
    /// `xs:QName`: namespace and local name
    QName(Box<str>, Box<str>),
    /// `xs:NOTATION`: namespace and local name
    Notation(Box<str>, Box<str>),
    /// The items of a list
    List(Vec<Value>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) | (Self::Uri(one), Self::Uri(other)) => one == other,
            (Self::Boolean(one), Self::Boolean(other)) => one == other,
            (Self::Decimal(one), Self::Decimal(other)) => one == other,
            (Self::Float(one), Self::Float(other)) => one == other || (one.is_nan() && other.is_nan()),
            (Self::Double(one), Self::Double(other)) => one == other || (one.is_nan() && other.is_nan()),
            (Self::Duration(one), Self::Duration(other)) => one == other,
            (Self::Moment(one), Self::Moment(other)) => one == other,
            (Self::Hex(one), Self::Hex(other)) | (Self::Base64(one), Self::Base64(other)) => one == other,
            (Self::QName(ns, local), Self::QName(other_ns, other_local))
            | (Self::Notation(ns, local), Self::Notation(other_ns, other_local)) => {
                ns == other_ns && local == other_local
            }
            (Self::List(one), Self::List(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Text(text) | Self::Uri(text) => text.hash(state),
            Self::Boolean(value) => value.hash(state),
            Self::Decimal(value) => value.hash(state),
            Self::Float(value) if value.is_nan() => 1_u64.hash(state),
            // Both zeros are equal.
            Self::Float(value) => (value + 0.0).to_bits().hash(state),
            Self::Double(value) if value.is_nan() => 1_u64.hash(state),
            Self::Double(value) => (value + 0.0).to_bits().hash(state),
            Self::Duration(value) => value.hash(state),
            Self::Moment(value) => value.hash(state),
            Self::Hex(bytes) | Self::Base64(bytes) => bytes.hash(state),
            Self::QName(ns, local) | Self::Notation(ns, local) => (ns, local).hash(state),
            Self::List(items) => items.hash(state),
        }
    }
}

impl Value {
    /// Compares two values of one ordered primitive type; `None` if they have no order.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Decimal(one), Self::Decimal(other)) => Some(one.borrow().cmp(&other.borrow())),
            (Self::Float(one), Self::Float(other)) if one.is_nan() && other.is_nan() => Some(Ordering::Equal),
            (Self::Float(one), Self::Float(other)) => one.partial_cmp(other),
            (Self::Double(one), Self::Double(other)) if one.is_nan() && other.is_nan() => Some(Ordering::Equal),
            (Self::Double(one), Self::Double(other)) => one.partial_cmp(other),
            (Self::Duration(one), Self::Duration(other)) => one.compare(other),
            (Self::Moment(one), Self::Moment(other)) => one.compare(other),
            _ => None,
        }
    }

    /// Whether a prefix is part of how the value is written.
    pub(crate) fn has_prefix(&self) -> bool {
        match self {
            Self::QName(..) | Self::Notation(..) => true,
            Self::List(items) => items.iter().any(Self::has_prefix),
            _ => false,
        }
    }

    /// How many bytes the value takes, about.
    pub(crate) fn size(&self) -> usize {
        let beside = match self {
            Self::Text(text) | Self::Uri(text) => text.len(),
            Self::Boolean(_) | Self::Float(_) | Self::Double(_) => 0,
            Self::Decimal(value) => value.size(),
            Self::Duration(value) => value.size(),
            Self::Moment(value) => value.size(),
            Self::Hex(bytes) | Self::Base64(bytes) => bytes.len(),
            Self::QName(ns, local) | Self::Notation(ns, local) => ns.len().saturating_add(local.len()),
            // Items are atomic; the list has room for as many again.
            Self::List(items) => {
                let items = items.iter().map(|item| item.size().saturating_add(size_of::<Self>()));
                items.fold(0, usize::saturating_add)
            }
        };
        beside.saturating_add(size_of::<Self>())
    }
}
