//! The facets of a simple type (XSD 1.0 Part 2, §4.3), inherited ones included.

use std::sync::Arc;

use super::value::Value;
use crate::xsd::names::TextMap;
use crate::xsd::pattern::Pattern;

/// A kind of facet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facet {
    Length,
    MinLength,
    MaxLength,
    Pattern,
    Enumeration,
    WhiteSpace,
    MaxInclusive,
    MaxExclusive,
    MinInclusive,
    MinExclusive,
    TotalDigits,
    FractionDigits,
}

impl Facet {
    /// Returns the facet with this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "length" => Self::Length,
            "minLength" => Self::MinLength,
            "maxLength" => Self::MaxLength,
            "pattern" => Self::Pattern,
            "enumeration" => Self::Enumeration,
            "whiteSpace" => Self::WhiteSpace,
            "maxInclusive" => Self::MaxInclusive,
            "maxExclusive" => Self::MaxExclusive,
            "minInclusive" => Self::MinInclusive,
            "minExclusive" => Self::MinExclusive,
            "totalDigits" => Self::TotalDigits,
            "fractionDigits" => Self::FractionDigits,
            _ => return None,
        })
    }

    /// Its name in a schema.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::MinLength => "minLength",
            Self::MaxLength => "maxLength",
            Self::Pattern => "pattern",
            Self::Enumeration => "enumeration",
            Self::WhiteSpace => "whiteSpace",
            Self::MaxInclusive => "maxInclusive",
            Self::MaxExclusive => "maxExclusive",
            Self::MinInclusive => "minInclusive",
            Self::MinExclusive => "minExclusive",
            Self::TotalDigits => "totalDigits",
            Self::FractionDigits => "fractionDigits",
        }
    }

    /// Its bit in [`Facets::fixed`].
    pub(crate) fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A bound of an ordered type.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// The value.
    pub(crate) value: Value,
    /// As written, for messages.
    pub(crate) text: Box<str>,
    /// Whether the value itself is allowed.
    pub(crate) inclusive: bool,
}

/// The values of an enumeration.
#[derive(Debug, Default)]
pub(crate) struct Enumeration {
    /// Those that are texts.
    texts: TextMap<Box<str>, ()>,
    /// All others.
    others: TextMap<Value, ()>,
    /// How many items the longest list has that is one of them.
    longest: usize,
    /// The first ones as written, for messages.
    pub(crate) shown: String,
}

impl Enumeration {
    /// Adds a value.
    pub(crate) fn add(&mut self, value: Value, written: &str) {
        match value {
            Value::Text(text) => drop(self.texts.insert(text, ())),
            value => {
                if let Value::List(items) = &value {
                    self.longest = self.longest.max(items.len());
                }
                self.others.insert(value, ());
            }
        }
        if self.shown.len() < 100 {
            let separator = if self.shown.is_empty() { "" } else { ", " };
            self.shown.extend([separator, "`", written, "`"]);
        } else if !self.shown.ends_with('…') {
            self.shown.push_str(", …");
        }
    }

    /// The first one as written, unless that has a backtick.
    pub(crate) fn first(&self) -> Option<&str> {
        self.shown.strip_prefix('`')?.split('`').next()
    }

    /// Whether a value is one of them.
    pub(crate) fn contains(&self, value: &Value) -> bool {
        match value {
            Value::Text(text) => self.contains_text(text),
            value => self.others.contains_key(value),
        }
    }

    /// Whether a text is one of them.
    pub(crate) fn contains_text(&self, text: &str) -> bool {
        self.texts.contains_key(text)
    }

    /// Whether a list of so many items may be one of them.
    pub(crate) fn may_have(&self, items: usize) -> bool {
        items <= self.longest
    }
}

/// All facets of a type.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facets {
    /// In characters, bytes or items.
    pub(crate) length: Option<u64>,
    pub(crate) min_length: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) total_digits: Option<u64>,
    pub(crate) fraction_digits: Option<u64>,
    pub(crate) min: Option<Arc<Bound>>,
    pub(crate) max: Option<Arc<Bound>>,
    pub(crate) enumeration: Option<Arc<Enumeration>>,
    /// One set for each derivation: a value has to match one pattern of each. Types without a pattern of their own share those of
    /// their base.
    pub(crate) patterns: Arc<Vec<Arc<[Pattern]>>>,
    /// Facets that derived types cannot change, as [`Facet::bit`]s.
    pub(crate) fixed: u16,
}

impl Facets {
    /// Whether there is a facet beside the white space.
    pub(crate) fn any(&self) -> bool {
        self.has_length()
            || self.total_digits.is_some()
            || self.fraction_digits.is_some()
            || self.min.is_some()
            || self.max.is_some()
            || self.enumeration.is_some()
            || !self.patterns.is_empty()
    }

    /// Whether there is a facet on the length.
    pub(crate) fn has_length(&self) -> bool {
        self.length.is_some() || self.min_length.is_some() || self.max_length.is_some()
    }
}
