//! What it costs to judge a value by keywords that the `jsonschema` crate decides, in steps of a budget.

use jsonschema::PatternOptions;
use serde_json::{Value, json};

/// Steps to divide by a fraction, which the crate does with numbers of any size.
const FRACTION: u64 = 64;
/// Sizes that a compiled pattern may have, in bytes, and what a step of it costs then. Its size bounds the work for each
/// byte of a text.
const PATTERN_SIZES: [(usize, u64); 4] = [(16 << 10, 1), (128 << 10, 4), (1 << 20, 32), (10 << 20, 256)];
/// The value of a text in the format `regex` is compiled as a pattern.
const REGEX: u64 = 256;
/// Bytes of a text that a simple pattern passes in a step.
const BYTES: u64 = 32;

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

    /// Returns the cost of a pattern alone.
    pub(super) fn of_pattern(pattern: &str) -> Self {
        Self { flat: 1, each: pattern_cost(pattern) }
    }

    fn add(&mut self, key: &str, value: &Value) {
        match (key, value) {
            ("pattern", Value::String(pattern)) => self.each = self.each.saturating_add(pattern_cost(pattern)),
            ("format", Value::String(format)) if format == "regex" => self.each += REGEX,
            ("multipleOf", Value::Number(divisor)) if !divisor.is_u64() => self.flat += FRACTION,
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

/// What each step of a pattern costs, by the size that it has when it is compiled.
fn pattern_cost(pattern: &str) -> u64 {
    let schema = json!({ "pattern": pattern });
    let fits = |size: usize| {
        let options = jsonschema::options().offline().with_pattern_options(PatternOptions::regex().size_limit(size));
        options.build(&schema).is_ok()
    };
    PATTERN_SIZES.iter().find(|(size, _)| fits(*size)).map_or(1024, |(_, cost)| *cost)
}
