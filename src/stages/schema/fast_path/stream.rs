//! Reading a body against a shape. Every doubt ends the reading as an error that nobody reads.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::scalar::Scalar;
use super::{Names, Numbers, Parts, Rules, Shape, Text, Types};
use crate::stages::strict_json::MAX_DEPTH;

pub(super) fn accepts(shape: &Shape, body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let reading = Reading { shape, node: shape.root, depth: MAX_DEPTH };
    reading.deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok()
}

/// A value that is to be read: what it must be, and how many levels it may hold.
#[derive(Clone, Copy)]
struct Reading<'s> {
    shape: &'s Shape,
    node: usize,
    depth: usize,
}

#[cold]
fn doubt<E: Error>() -> E {
    E::custom("")
}

/// Ends the reading unless.
fn sure<E: Error>(sure: bool) -> Result<(), E> {
    if sure { Ok(()) } else { Err(doubt()) }
}

impl<'s> Reading<'s> {
    fn rules<E: Error>(self, types: Types) -> Result<&'s Rules, E> {
        self.shape.rules(self.node, types).ok_or_else(doubt)
    }

    /// What the members or items of a value must be, and the depth that is left to them.
    fn parts<E: Error>(self, types: Types) -> Result<(&'s Parts, usize), E> {
        let parts = self.rules(types)?.parts.as_ref().ok_or_else(doubt)?;
        let depth = self.depth.checked_sub(1).ok_or_else(doubt)?;
        Ok((parts, depth))
    }

    fn integer<E: Error>(self, value: i128, number: Number) -> Result<(), E> {
        let rules = self.rules(Types::INTEGER)?;
        sure(match rules.numbers {
            Numbers::Any => true,
            Numbers::Within(least, most) => least <= value && value <= most,
            Numbers::Ask => rules.ask(Scalar::Number(number)),
        })
    }
}

impl Rules {
    /// Whether the crate finds a scalar valid.
    fn ask(&self, scalar: Scalar<'_>) -> bool {
        self.scalars.as_ref().is_some_and(|scalars| scalars.is_valid(scalar))
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
        sure(rules.bare || rules.ask(Scalar::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let rules = self.rules(Types::BOOLEAN)?;
        sure(rules.bare || rules.ask(Scalar::Bool(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(i128::from(value), value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(i128::from(value), value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let number = Number::from_f64(value).ok_or_else(doubt)?;
        // Whether it counts as an integer, the crate knows.
        let rules = self.rules(Types::NUMBER)?;
        let free = matches!(rules.numbers, Numbers::Any) && rules.types.contain(Types::NUMBER);
        sure(free || rules.ask(Scalar::Number(number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let rules = self.rules(Types::STRING)?;
        sure(match &rules.text {
            Text::Any => true,
            Text::Length(least, most) => length_is_within(value, *least, *most),
            Text::OneOf(allowed) => allowed.iter().any(|allowed| **allowed == *value),
            Text::Ask => rules.ask(Scalar::Text(value)),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (parts, depth) = self.parts(Types::ARRAY)?;
        let mut count = 0;
        while seq.next_element_seed(Reading { node: parts.items, depth, ..self })?.is_some() {
            count += 1;
        }
        let (least, most) = parts.item_count;
        sure(least <= count && count <= most)
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
                    sure(seen & bit == 0)?;
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
        sure(seen & parts.required == parts.required && least <= count && count <= most && distinct(others))
    }
}

/// An object's key that is to be read.
struct Key<'s>(&'s Parts);

/// A key, and what its value must be.
enum Named<'de> {
    /// The name at this place in the object's [`super::Properties`].
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
            (None, None) => Err(doubt()),
        }
    }

    /// A key with escapes is decoded elsewhere: compared, but not kept.
    fn visit_str<E: Error>(self, name: &str) -> Result<Named<'de>, E> {
        self.known(name).ok_or_else(doubt)
    }
}

/// Counts code points only where the bytes leave it open: each takes one to four.
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
