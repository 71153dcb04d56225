//! Keywords that judge a value without applying other schemas: the `jsonschema` crate decides them.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, Validator};
use serde_json::{Map, Number, Value};

use super::problem::SchemaProblem;
use super::unique::are_unique;
use crate::budget::{Exhausted, Steps};
use crate::stages::schema::cost::Cost;
use crate::stages::schema::ecma_regex::Pattern;
use crate::stages::schema::formats::{self, NumberFormat};
use crate::stages::schema::multiple::Multiple;

/// Keywords without subschemas, in all drafts. The crate knows in which of them each has a meaning.
pub(super) const LEAVES: [&str; 21] = [
    "const",
    "contentEncoding",
    "contentMediaType",
    "dependentRequired",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "required",
    "type",
    "uniqueItems",
];

/// The keywords of one node that have no subschemas. The crate judges all but the formats of numbers, multiples, patterns, and
/// whether items are unique.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) validator: Validator,
    pub(super) number: Option<NumberFormat>,
    /// With its text.
    pub(super) pattern: Option<(Arc<str>, Arc<Pattern>)>,
    unique: bool,
    /// With the divisor as it is written.
    pub(super) multiple: Option<(Number, Multiple)>,
    pub(super) cost: Cost,
}

impl Leaf {
    pub(super) fn allows(&self, value: &Value, steps: &mut Steps) -> Result<bool, Exhausted> {
        steps.take(self.cost.steps(value))?;
        if self.multiple.is_some() && value.is_number() {
            steps.take(Multiple::STEPS)?;
        }
        Ok(self.number_is_allowed(value)
            && self.is_multiple(value)
            && self.validator.is_valid(value)
            && self.text_is_allowed(value, steps)?
            && self.items_are_allowed(value, steps)?)
    }

    /// Whether the format of numbers allows a value.
    pub(super) fn number_is_allowed(&self, value: &Value) -> bool {
        self.number.as_ref().zip(value.as_number()).is_none_or(|(format, number)| format.allows(number))
    }

    /// Whether `multipleOf` allows a value.
    pub(super) fn is_multiple(&self, value: &Value) -> bool {
        self.multiple.as_ref().zip(value.as_number()).is_none_or(|((_, multiple), number)| multiple.allows(number))
    }

    /// Whether the pattern allows a value.
    pub(super) fn text_is_allowed(&self, value: &Value, steps: &mut Steps) -> Result<bool, Exhausted> {
        match (&self.pattern, value) {
            (Some((_, pattern)), Value::String(text)) => pattern.matches(text, steps),
            _ => Ok(true),
        }
    }

    /// Whether items may be equal, or are not.
    pub(super) fn items_are_allowed(&self, value: &Value, steps: &mut Steps) -> Result<bool, Exhausted> {
        match value {
            Value::Array(items) if self.unique => are_unique(items, steps),
            _ => Ok(true),
        }
    }
}

/// Compiles leaves, each text of keywords once: most schemas repeat a few of them everywhere.
#[derive(Default)]
pub(super) struct Leaves {
    known: HashMap<(Draft, String), Arc<Leaf>>,
    patterns: HashMap<String, Arc<Pattern>>,
}

impl Leaves {
    /// Compiles the keywords. The problem's pointer begins at the schema that has them.
    pub(super) fn leaf(&mut self, draft: Draft, keywords: Map<String, Value>) -> Result<Arc<Leaf>, SchemaProblem> {
        let mut keywords = Value::Object(keywords);
        let key = (draft, keywords.to_string());
        if let Some(known) = self.known.get(&key) {
            return Ok(Arc::clone(known));
        }
        let divisor = keywords.get("multipleOf").and_then(Value::as_number);
        let multiple = divisor.and_then(|divisor| Some((divisor.clone(), Multiple::new(divisor)?)));
        let mut take = |key| keywords.as_object_mut().and_then(|keywords| keywords.remove(key));
        if multiple.is_some() {
            take("multipleOf");
        }
        let unique = take("uniqueItems") == Some(Value::Bool(true));
        let pattern = match take("pattern") {
            Some(Value::String(text)) => {
                let compiled = self.pattern(&text).map_err(|message| SchemaProblem::at("/pattern", message))?;
                Some((text.into(), compiled))
            }
            _ => None,
        };
        let validator =
            formats::options(draft, &keywords).build(&keywords).map_err(|error| SchemaProblem::of(&error))?;
        let number = keywords.as_object().and_then(NumberFormat::of);
        let leaf = Arc::new(Leaf { validator, number, pattern, unique, multiple, cost: Cost::of(&keywords) });
        self.known.insert(key, Arc::clone(&leaf));
        Ok(leaf)
    }

    /// Compiles a pattern, or says why it cannot be.
    pub(super) fn pattern(&mut self, pattern: &str) -> Result<Arc<Pattern>, String> {
        if let Some(known) = self.patterns.get(pattern) {
            return Ok(Arc::clone(known));
        }
        let compiled = Arc::new(Pattern::new(pattern).map_err(|problem| problem.to_string())?);
        self.patterns.insert(pattern.to_owned(), Arc::clone(&compiled));
        Ok(compiled)
    }
}
