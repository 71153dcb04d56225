//! Parses unambiguous JSON only: serde_json, with duplicate keys and deep nesting rejected.
//!
//! Parsers disagree on which of two duplicate keys counts, and attackers use that to bypass checks.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting of objects and arrays.
pub(crate) const MAX_DEPTH: usize = 64;

/// Parses one JSON text (RFC 8259) to its end. The error gives the problem and its location, and never quotes a value.
pub(crate) fn parse(text: &[u8]) -> Result<Value, serde_json::Error> {
    parse_within(MAX_DEPTH, text)
}

/// Why a text has no value here.
#[derive(Debug)]
pub(crate) enum Unparsed {
    Malformed(serde_json::Error),
    /// The value would take more memory than it may.
    TooLarge,
}

/// Like [`parse`], with a bound on the memory of the value, in bytes: a text can be a hundred times smaller. What the value
/// takes is taken off; nothing is left when it was too little.
pub(crate) fn parse_in(left: &Cell<usize>, text: &[u8]) -> Result<Value, Unparsed> {
    read(&Strict { depth: MAX_DEPTH, most: MAX_DEPTH, left, repeats: false }, text).map_err(|error| match left.get() {
        0 => Unparsed::TooLarge,
        _ => Unparsed::Malformed(error),
    })
}

/// Like [`parse`], with another bound on nesting. serde_json itself rejects more than 127 levels.
pub(crate) fn parse_within(depth: usize, text: &[u8]) -> Result<Value, serde_json::Error> {
    read(&Strict { depth, most: depth, left: &Cell::new(usize::MAX), repeats: false }, text)
}

/// Like [`parse_within`], for the operator's own files: of members with one name, the last one counts.
pub(crate) fn parse_repeating(depth: usize, text: &[u8]) -> Result<Value, serde_json::Error> {
    read(&Strict { depth, most: depth, left: &Cell::new(usize::MAX), repeats: true }, text)
}

fn read(strict: &Strict<'_>, text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Deserializes a value with at most `depth` more levels of nesting.
#[derive(Clone, Copy)]
struct Strict<'c> {
    depth: usize,
    most: usize,
    /// Memory that values may still take.
    left: &'c Cell<usize>,
    /// Whether a name may occur twice in an object.
    repeats: bool,
}

/// What an object takes with its first member: a node of a B-tree has room for eleven.
const FIRST_MEMBER: usize = 11 * (size_of::<String>() + size_of::<Value>());
/// What another member takes at most, without the text of its name: nodes are at least half full.
const MEMBER: usize = 2 * (size_of::<String>() + size_of::<Value>());

impl Strict<'_> {
    fn take<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().saturating_sub(bytes);
        self.left.set(left);
        if left == 0 { Err(E::custom("the value takes too much memory")) } else { Ok(()) }
    }

    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(E::custom(format_args!("nesting is deeper than {}", self.most))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.take(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            // A growing list has room for twice as many.
            self.take(2 * size_of::<Value>())?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take(key.len() + if members.is_empty() { FIRST_MEMBER } else { MEMBER })?;
            if members.insert(key, map.next_value_seed(inner)?).is_some() && !self.repeats {
                return Err(A::Error::custom("a member name occurs twice in one object"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_means_one_thing_parses() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        for (text, good) in [
            (r#"{"a": [1, -2, 3.5, "x", true, null, {"b": {}}]}"#.to_owned(), true),
            (r#"{"a": 1, "a": 1}"#.to_owned(), false),
            (r#"{"a": {"b": 1, "\u0062": 2}}"#.to_owned(), false),
            (r#"{"a": 1} {"#.to_owned(), false),
            (r#"{"a": 1e999}"#.to_owned(), false),
            (r#"{"a": 1,}"#.to_owned(), false),
            ("NaN".to_owned(), false),
            (String::new(), false),
            (deep(MAX_DEPTH), true),
            (deep(MAX_DEPTH + 1), false),
            (deep(100_000), false),
        ] {
            assert_eq!(parse(text.as_bytes()).is_ok(), good, "{}", &text[..text.len().min(60)]);
        }
        assert!(parse(b"\"\xff\"").is_err(), "not UTF-8");
    }

    #[test]
    fn a_value_is_the_one_serde_json_reads() {
        let text = r#"{"a":[1,-2,3.5,18446744073709551615,"\u00e9",true,null],"b":{"c":{}}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn errors_never_quote_the_value() {
        let error = parse(br#"{"secret": "hunter2", "secret": 1}"#).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("line 1"), "{error}");
    }
}
