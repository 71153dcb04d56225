//! Validates a body against a fast path while reading it. Anything undecided ends the reading with an empty error.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::program::{FastPath, Names, Numbers, Parts, Rules, ScalarRules, Text, Types};
use crate::budget::Steps;
use crate::stages::decimal;
use crate::stages::schema::multiple::Multiple;
use crate::stages::schema::scalar::Scalar;
use crate::stages::strict_json::MAX_DEPTH;

pub(super) fn accepts(fast_path: &FastPath, body: &[u8], steps: Steps) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let (steps, binary) = (Cell::new(steps), Cell::new(Binary::None));
    let reading = Reading { fast_path, node: fast_path.root, depth: MAX_DEPTH, steps: &steps, binary: &binary };
    reading.deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok() && binary.get().is_exact(body)
}

/// Which numbers were judged as binary64, and may be others as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binary {
    None,
    Some,
    /// One of them is zero or subnormal.
    NearZero,
}

impl Binary {
    /// Whether all numbers of a body are as they were judged.
    fn is_exact(self, body: &[u8]) -> bool {
        self == Self::None || !decimal::has_lost(body, self == Self::NearZero)
    }
}

/// The value to read next: its node, and how many levels of nesting it may contain.
#[derive(Clone, Copy)]
struct Reading<'s> {
    fast_path: &'s FastPath,
    node: usize,
    depth: usize,
    /// What is left for everything that costs more than to read it.
    steps: &'s Cell<Steps>,
    binary: &'s Cell<Binary>,
}

#[cold]
fn undecided<E: Error>() -> E {
    E::custom("")
}

/// Ends the reading unless the condition holds.
fn ensure<E: Error>(holds: bool) -> Result<(), E> {
    if holds { Ok(()) } else { Err(undecided()) }
}

impl<'s> Reading<'s> {
    fn rules<E: Error>(self, types: Types) -> Result<&'s Rules, E> {
        self.fast_path.rules(self.node, types).ok_or_else(undecided)
    }

    /// Returns the rules for the members or items of a value, and the depth left for them.
    fn parts<E: Error>(self, types: Types) -> Result<(&'s Parts, usize), E> {
        let parts = self.rules(types)?.parts.as_ref().ok_or_else(undecided)?;
        let depth = self.depth.checked_sub(1).ok_or_else(undecided)?;
        Ok((parts, depth))
    }

    fn integer<E: Error>(self, value: i128, number: Number) -> Result<(), E> {
        let rules = self.rules(Types::INTEGER)?;
        ensure(match rules.numbers {
            Numbers::Any => true,
            Numbers::Within(least, most) => least <= value && value <= most,
            Numbers::Validator => self.validates(rules, Scalar::Number(number)),
        })
    }

    /// Whether the crate finds a scalar valid, within the budget.
    fn validates(self, rules: &Rules, scalar: Scalar<'_>) -> bool {
        let Some(scalars) = &rules.scalars else { return false };
        let text = if let Scalar::Text(text) = &scalar { text } else { "" };
        let number = match &scalar {
            Scalar::Number(number) => {
                self.is_comparable(scalars, number)
                    && scalars.number.as_ref().is_none_or(|format| format.allows(number))
                    && scalars.multiple.is_none_or(|multiple| self.affords(Multiple::STEPS) && multiple.allows(number))
            }
            _ => true,
        };
        number && self.affords(scalars.cost.of_text(text)) && scalars.validator.is_valid(scalar)
    }

    /// Whether a number may be judged as it was read, if nothing of it was lost then.
    fn is_comparable(self, scalars: &ScalarRules, number: &Number) -> bool {
        let Some(value) = number.as_f64().filter(|_| number.is_f64()) else {
            return !(scalars.has_large && decimal::is_large(number));
        };
        let binary = if value.is_normal() { Binary::Some } else { Binary::NearZero };
        self.binary.update(|before| before.max(binary));
        !decimal::is_large(number)
    }

    fn affords(self, steps: u64) -> bool {
        let mut left = self.steps.get();
        let affords = left.take(steps).is_ok();
        self.steps.set(left);
        affords
    }
}

impl<'de> DeserializeSeed<'de> for Reading<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reading<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        let rules = self.rules(Types::NULL)?;
        ensure(rules.bare || self.validates(rules, Scalar::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let rules = self.rules(Types::BOOLEAN)?;
        ensure(rules.bare || self.validates(rules, Scalar::Bool(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value), value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value), value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let number = Number::from_f64(value).ok_or_else(undecided)?;
        // The crate decides whether it counts as an integer.
        let rules = self.rules(Types::NUMBER)?;
        let free = matches!(rules.numbers, Numbers::Any) && rules.types.contain(Types::NUMBER);
        ensure(free || self.validates(rules, Scalar::Number(number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let rules = self.rules(Types::STRING)?;
        ensure(match &rules.text {
            Text::Any => true,
            Text::Length(least, most) => length_is_within(value, *least, *most),
            Text::OneOf(allowed) => {
                self.affords(allowed.len() as u64 / 16) && allowed.iter().any(|allowed| **allowed == *value)
            }
            Text::Validator => self.validates(rules, Scalar::Text(value)),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (parts, depth) = self.parts(Types::ARRAY)?;
        let mut count = 0;
        while seq.next_element_seed(Reading { node: parts.items, depth, ..self })?.is_some() {
            count += 1;
        }
        let (least, most) = parts.item_count;
        ensure(least <= count && count <= most)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (parts, depth) = self.parts(Types::OBJECT)?;
        let mut count = 0;
        let mut seen: Names = 0;
        let mut others: Vec<&'de str> = Vec::new();
        while let Some(key) = map.next_key_seed(Key(parts))? {
            count += 1;
            let node = match key {
                Named::Known(place, node) => {
                    let bit = 1 << place;
                    ensure(seen & bit == 0)?;
                    seen |= bit;
                    node
                }
                Named::Other(name, node) => {
                    others.push(name);
                    node
                }
            };
            map.next_value_seed(Reading { node, depth, ..self })?;
        }
        let (least, most) = parts.member_count;
        ensure(seen & parts.required == parts.required && least <= count && count <= most && distinct(others))
    }
}

/// Reads a key of an object.
struct Key<'s>(&'s Parts);

/// A key, and the node of its value.
enum Named<'de> {
    /// The index of the name in the object's [`super::program::Properties`], and the node.
    Known(usize, usize),
    Other(&'de str, usize),
}

impl Key<'_> {
    fn known<'de>(&self, name: &str) -> Option<Named<'de>> {
        self.0.names.find(name).map(|(place, node)| Named::Known(place, node))
    }
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Named<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Named<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_> {
    type Value = Named<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Named<'de>, E> {
        match (self.known(name), self.0.others) {
            (Some(known), _) => Ok(known),
            (None, Some(node)) => Ok(Named::Other(name, node)),
            (None, None) => Err(undecided()),
        }
    }

    /// A key with escapes is decoded into a temporary buffer: it can be compared, but not kept.
    fn visit_str<E: Error>(self, name: &str) -> Result<Named<'de>, E> {
        self.known(name).ok_or_else(undecided)
    }
}

/// Counts code points only if the byte length does not decide: each takes one to four bytes.
fn length_is_within(text: &str, least: u64, most: u64) -> bool {
    let bytes = text.len() as u64;
    if least <= bytes.div_ceil(4) && bytes <= most {
        return true;
    }
    (least..=most).contains(&(text.chars().count() as u64))
}

/// Whether no two names are equal.
fn distinct(mut names: Vec<&str>) -> bool {
    names.sort_unstable();
    names.is_sorted_by(|one, next| one != next)
}
