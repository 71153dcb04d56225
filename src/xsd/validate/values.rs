//! The values of fields as numbers (XSD 1.0 Part 1, §3.11.4): each value is kept once, whatever constraints it is a key of.

use std::collections::HashMap;

use crate::budget::{Exhausted, Steps};
use crate::xsd::datatypes::value::Value;
use crate::xsd::names::FastMap;

/// A value, or several one after the other: equal ones have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Number(u32);

/// Bytes of a value that are hashed or compared in a step.
const BYTES: usize = 32;
/// Bytes that a table takes for an entry, at most: it doubles when it is seven eighths full, and keeps the old one until all are
/// moved.
const TEXT: usize = 72;
const OTHER: usize = 56;
const SEVERAL: usize = 40;

/// The values of a document that were part of a key.
#[derive(Debug, Default)]
pub(super) struct Values {
    texts: HashMap<Box<str>, Number>,
    others: HashMap<Box<Value>, Number>,
    /// What comes first, and the value after it.
    several: HashMap<(Number, Number), Number>,
    /// By the address of a value in the schema.
    presets: FastMap<usize, Number>,
    count: u32,
}

impl Values {
    /// Returns the number of a value.
    pub(super) fn number(
        &mut self,
        value: Value,
        (steps, memory): (&mut Steps, &mut usize),
    ) -> Result<Number, Exhausted> {
        steps.take(1_u64.saturating_add((value.size() / BYTES) as u64))?;
        let known = match &value {
            Value::Text(text) => self.texts.get(text),
            other => self.others.get(other),
        };
        if let Some(known) = known {
            return Ok(*known);
        }
        let number = self.next()?;
        match value {
            Value::Text(text) => {
                take(memory, text.len().saturating_add(TEXT))?;
                self.texts.insert(text, number);
            }
            other => {
                take(memory, other.size().saturating_add(OTHER))?;
                self.others.insert(Box::new(other), number);
            }
        }
        Ok(number)
    }

    /// Returns the number of a value that the schema has. Only the first time it costs what the value is.
    pub(super) fn of_preset(
        &mut self,
        value: &Value,
        (steps, memory): (&mut Steps, &mut usize),
    ) -> Result<Number, Exhausted> {
        let address = std::ptr::from_ref(value).addr();
        if let Some(known) = self.presets.get(&address) {
            return Ok(*known);
        }
        take(memory, OTHER)?;
        let number = self.number(value.clone(), (steps, memory))?;
        self.presets.insert(address, number);
        Ok(number)
    }

    /// Returns the number of several values; `None` if there are none.
    pub(super) fn together(
        &mut self,
        numbers: impl IntoIterator<Item = Number>,
        (steps, memory): (&mut Steps, &mut usize),
    ) -> Result<Option<Number>, Exhausted> {
        let mut all: Option<Number> = None;
        for number in numbers {
            let Some(before) = all.replace(number) else { continue };
            steps.take(1)?;
            let known = self.several.get(&(before, number)).copied();
            all = Some(match known {
                Some(known) => known,
                None => {
                    take(memory, SEVERAL)?;
                    let new = self.next()?;
                    self.several.insert((before, number), new);
                    new
                }
            });
        }
        Ok(all)
    }

    fn next(&mut self) -> Result<Number, Exhausted> {
        self.count = self.count.checked_add(1).ok_or(Exhausted)?;
        Ok(Number(self.count))
    }
}

/// Takes bytes before they are kept.
pub(super) fn take(memory: &mut usize, bytes: usize) -> Result<(), Exhausted> {
    *memory = memory.checked_sub(bytes).ok_or(Exhausted)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_the_same_number() {
        let mut values = Values::default();
        let (mut steps, mut memory) = (Steps::new(100), 10_000);
        let mut number = |value: Value| values.number(value, (&mut steps, &mut memory)).unwrap();
        let (one, two) = (number(Value::Text("1".into())), number(Value::Double(0.0)));
        assert_eq!((number(Value::Text("1".into())), number(Value::Double(-0.0))), (one, two));
        assert!(one != two && number(Value::Uri("1".into())) != one);
        let mut together =
            |numbers: &[Number]| values.together(numbers.iter().copied(), (&mut steps, &mut memory)).unwrap();
        assert_eq!((together(&[]), together(&[one]), together(&[one, two])), (None, Some(one), together(&[one, two])));
        assert!(together(&[one, two]) != together(&[two, one]) && together(&[one, one]) != Some(one));
    }
}
