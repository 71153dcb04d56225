//! What it costs to judge a value by keywords that the `jsonschema` crate decides, in steps of a budget.

use serde_json::Value;

use super::ecma_regex::BYTES;

/// The value of a text in the format `regex` is parsed, and each property of Unicode in it looked up.
const REGEX: u64 = 2048;

/// What some keywords cost for each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    flat: u64,
    /// For each [`BYTES`] of a text.
    each: u64,
}

impl Cost {
    /// Returns the cost of these keywords.
    pub(super) fn of(keywords: &Value) -> Self {
        let mut cost = Self { flat: 1, each: 1 };
        let mut values = 0;
        let mut left = vec![keywords];
        while let Some(value) = left.pop() {
            values += 1;
            match value {
                Value::Array(items) => left.extend(items),
                Value::Object(members) => {
                    for (key, value) in members {
                        cost.add(key, value);
                        left.push(value);
                    }
                }
                _ => {}
            }
        }
        cost.flat += values / 8;
        cost
    }

    fn add(&mut self, key: &str, value: &Value) {
        match (key, value) {
            // One that costs more has no part in what the crate judges.
            ("pattern", Value::String(_)) => self.each += 1,
            ("format", Value::String(format)) if format == "regex" => self.each += REGEX,
            _ => {}
        }
    }

    /// How many steps it takes to judge a text, at most.
    pub(super) fn of_text(self, text: &str) -> u64 {
        self.flat + (text.len() as u64).saturating_mul(self.each) / BYTES
    }

    /// How many steps it takes to judge a value, at most.
    pub(super) fn steps(self, value: &Value) -> u64 {
        match value {
            Value::String(text) => self.of_text(text),
            Value::Array(items) => self.flat + items.len() as u64 / 4,
            Value::Object(members) => self.flat + members.len() as u64 / 4,
            _ => self.flat,
        }
    }
}
