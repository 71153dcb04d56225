//! Parses unambiguous JSON only: serde_json, with duplicate keys and deep nesting rejected.
//!
//! Parsers disagree on which of two duplicate keys counts, and attackers use that to bypass checks.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::decimal::{self, Lost, Written};
use crate::budget::{Exhausted, Steps};

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
    /// To find its numbers would take more steps than are left.
    TooLong,
}

/// What the values of one message take, and what is lost when they are read.
#[derive(Debug)]
pub(crate) struct Intake {
    /// Memory in bytes that values may still take. Once there was too little, nothing is left.
    left: Cell<usize>,
    /// Steps that are left for rounded numbers, and for judging the values.
    steps: Cell<Result<Steps, Exhausted>>,
    /// The numbers in them that are rounded.
    numbers: RefCell<Vec<Written>>,
    /// What is put in the place of each `-0`, which some encoders write often.
    minus_zero: OnceCell<Option<Number>>,
}

impl Intake {
    pub(crate) fn new(memory: usize, steps: Steps) -> Self {
        let (left, steps) = (Cell::new(memory), Cell::new(Ok(steps)));
        Self { left, steps, numbers: RefCell::default(), minus_zero: OnceCell::new() }
    }

    /// Whether the message must be refused, because its values take too much memory: what could not be read might have another
    /// value.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.left.get() == 0
    }

    /// The numbers that [`decimal::find`] finds by what is in their place, and the steps that are left. Fails if reading them
    /// took too many.
    pub(crate) fn finish(self) -> Result<(Vec<Written>, Steps), Exhausted> {
        Ok((self.numbers.into_inner(), self.steps.get()?))
    }

    /// Reads a number that is all of a text.
    pub(crate) fn number(&self, text: &str) -> Option<Number> {
        let number = text.parse().ok()?;
        match Written::lost(text, &number) {
            None => Some(number),
            Some(written) => self.list(written),
        }
    }

    fn list(&self, written: Written) -> Option<Number> {
        let (is_zero, steps) = (written.is_zero(), written.steps());
        self.take(if is_zero { PLACE } else { PLACE + LISTED + 2 * written.decimal.parts().0.len() });
        self.steps.update(|left| left.and_then(|mut left| left.take(steps).map(|()| left)));
        let list = || decimal::list(&mut self.numbers.borrow_mut(), written);
        if is_zero { self.minus_zero.get_or_init(list).clone() } else { list() }
    }

    fn take(&self, bytes: usize) {
        self.left.set(self.left.get().saturating_sub(bytes));
    }
}

/// What a number that is rounded takes, without its digits: a growing list has room for twice as many, and is copied once, to
/// be judged as it is rounded. Digits are allocated.
const LISTED: usize = 3 * size_of::<Written>() + 32;
/// What its place in the text takes.
const PLACE: usize = 2 * size_of::<(usize, Number)>();

/// Like [`parse`], with a bound on the memory of the value, in bytes: a text can be a hundred times smaller. Numbers that are
/// rounded are listed, and the value has in their place what finds them.
pub(crate) fn parse_in(intake: &Intake, text: &[u8]) -> Result<Value, Unparsed> {
    let unparsed = |error| if intake.is_exhausted() { Unparsed::TooLarge } else { Unparsed::Malformed(error) };
    let (before, numbers) = (intake.left.get(), Numbers::default());
    let strict = Strict { depth: MAX_DEPTH, most: MAX_DEPTH, left: &intake.left, numbers: &numbers, repeats: false };
    let value = read(&strict, text).map_err(unparsed)?;
    if !numbers.has_binary.get() || !decimal::has_lost(text, numbers.has_zero.get()) {
        return Ok(value);
    }
    drop(value);
    intake.left.set(before);
    let mut places = Vec::new();
    for Lost { position, written, .. } in decimal::lost(text) {
        places.extend(intake.list(written).map(|number| (position, number)));
        if intake.is_exhausted() {
            return Err(Unparsed::TooLarge);
        }
        intake.steps.get().map_err(|Exhausted| Unparsed::TooLong)?;
    }
    let numbers = Numbers { places, ..Numbers::default() };
    read(&Strict { numbers: &numbers, ..strict }, text).map_err(unparsed)
}

/// Like [`parse`], with another bound on nesting. serde_json itself rejects more than 127 levels.
pub(crate) fn parse_within(depth: usize, text: &[u8]) -> Result<Value, serde_json::Error> {
    read_rounded(depth, false, text)
}

/// Like [`parse_within`], for the operator's own files: of members with one name, the last one counts.
pub(crate) fn parse_repeating(depth: usize, text: &[u8]) -> Result<Value, serde_json::Error> {
    read_rounded(depth, true, text)
}

fn read_rounded(depth: usize, repeats: bool, text: &[u8]) -> Result<Value, serde_json::Error> {
    let (left, numbers) = (Cell::new(usize::MAX), Numbers::default());
    read(&Strict { depth, most: depth, left: &left, numbers: &numbers, repeats }, text)
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
    numbers: &'c Numbers,
    /// Whether a name may occur twice in an object.
    repeats: bool,
}

/// The numbers of one text.
#[derive(Default)]
struct Numbers {
    /// Whether one was read as binary64.
    has_binary: Cell<bool>,
    /// Whether one of these is zero, or subnormal.
    has_zero: Cell<bool>,
    /// What is put in the place of some of them, by their position among all.
    places: Vec<(usize, Number)>,
    /// The position of the next one.
    position: Cell<usize>,
    /// How many have been replaced.
    replaced: Cell<usize>,
}

impl Numbers {
    /// What is put in the place of the next number.
    fn place(&self) -> Option<Number> {
        let (_, number) =
            self.places.get(self.replaced.get()).filter(|(position, _)| *position == self.position.get())?;
        self.replaced.update(|replaced| replaced + 1);
        Some(number.clone())
    }

    fn value(&self, number: impl FnOnce() -> Option<Number>) -> Option<Value> {
        let number = self.place().map_or_else(number, Some).map(Value::Number);
        self.position.update(|position| position + 1);
        number
    }
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

    fn number<E: serde::de::Error>(self, number: impl FnOnce() -> Option<Number>) -> Result<Value, E> {
        self.numbers.value(number).ok_or_else(|| E::custom("a number is out of range"))
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

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.number(|| Some(value.into()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.number(|| Some(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.numbers.has_binary.set(true);
        self.numbers.has_zero.update(|has_zero| has_zero || !value.is_normal());
        self.number(|| Number::from_f64(value))
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

    /// F40
    #[test]
    fn numbers_that_are_rounded_are_listed_in_their_places() {
        let text =
            br#"{"b": [1, 0.3, 0.3000000000000000000001, "2e-400"], "a": [2e-400, 7], "c": 18446744073709551616}"#;
        let intake = Intake::new(10_000, Steps::new(1000));
        let first = parse_in(&intake, text).unwrap();
        let second = parse_in(&intake, b"[0.5, 5e-324]").unwrap();
        let alone = intake.number("-1.00000000000000000001").unwrap();
        assert_eq!(intake.number("1.5"), Some(Number::from_f64(1.5).unwrap()));
        assert_eq!(intake.number("x"), None);
        let (numbers, _) = intake.finish().unwrap();
        let written =
            |value: &Value| decimal::find(&numbers, value.as_number().unwrap()).map(|found| found.decimal.clone());
        for (value, expected) in [
            (&first["b"][1], None),
            (&first["b"][2], Some("0.3000000000000000000001")),
            (&first["a"][0], Some("2e-400")),
            (&first["a"][1], None),
            (&first["c"], Some("18446744073709551616")),
            (&second[0], None),
            (&second[1], Some("5e-324")),
            (&Value::Number(alone), Some("-1.00000000000000000001")),
        ] {
            assert_eq!(written(value), expected.map(decimal::Decimal::parse), "{value}");
        }
    }

    /// F40: rounded numbers take memory, too: room for twice as many in each list, and a copy.
    #[test]
    fn numbers_that_are_rounded_are_within_the_bound_on_memory() {
        let text = format!("[{}1]", "0.30000000000000000001,".repeat(100));
        assert!(parse_in(&Intake::new(100_000, Steps::new(10_000)), text.as_bytes()).is_ok());
        for each in [0, 3 * size_of::<Written>() + 2 * 20] {
            let small = Intake::new(101 * 2 * size_of::<Value>() + 100 * each + 100, Steps::new(10_000));
            assert!(matches!(parse_in(&small, text.as_bytes()), Err(Unparsed::TooLarge)));
            assert!(small.is_exhausted());
        }
    }

    /// S1: so do the steps of one decision.
    #[test]
    fn numbers_that_are_rounded_are_within_the_bound_on_steps() {
        let text = format!("[{}1]", "0.30000000000000000001,".repeat(100));
        let left = |steps: u64| {
            let intake = Intake::new(1 << 20, Steps::new(steps));
            let read = parse_in(&intake, text.as_bytes());
            (read.is_ok(), matches!(read, Err(Unparsed::TooLong)), intake.finish().map(|(_, left)| left).ok())
        };
        assert_eq!(left(1100), (false, true, None));
        assert!(matches!(left(1300), (true, false, Some(_))));
        let intake = Intake::new(1 << 20, Steps::new(30));
        assert!((0..2).all(|_| intake.number("0.30000000000000000001").is_some()) && intake.finish().is_ok());
        let intake = Intake::new(1 << 20, Steps::new(20));
        assert!((0..2).all(|_| intake.number("0.30000000000000000001").is_some()) && intake.finish().is_err());
    }

    #[test]
    fn errors_never_quote_the_value() {
        let error = parse(br#"{"secret": "hunter2", "secret": 1}"#).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("line 1"), "{error}");
    }
}
