//! Keywords that judge a value without applying other schemas: the `jsonschema` crate decides them.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator};
use serde_json::{Map, Value};

use super::problem::SchemaProblem;
use crate::stages::schema::cost::Cost;
use crate::stages::schema::formats::{self, NumberFormat};
use crate::stages::schema::scalar::{Scalar, Scalars};

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

/// The keywords of one node that have no subschemas. The crate judges all but the formats of numbers.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) validator: Arc<Validator>,
    pub(super) number: Option<NumberFormat>,
    pub(super) cost: Cost,
}

impl Leaf {
    pub(super) fn allows(&self, value: &Value) -> bool {
        self.number_is_allowed(value) && self.validator.is_valid(value)
    }

    /// Whether the format of numbers allows a value.
    pub(super) fn number_is_allowed(&self, value: &Value) -> bool {
        self.number.as_ref().zip(value.as_number()).is_none_or(|(format, number)| format.allows(number))
    }
}

/// Compiles leaves, each text of keywords once: most schemas repeat a few of them everywhere.
#[derive(Default)]
pub(super) struct Leaves {
    known: HashMap<(Draft, String), Leaf>,
    patterns: HashMap<String, Pattern>,
}

impl Leaves {
    /// Compiles the keywords. The problem's pointer begins at the schema that has them.
    pub(super) fn leaf(&mut self, draft: Draft, keywords: Map<String, Value>) -> Result<Leaf, SchemaProblem> {
        let keywords = Value::Object(keywords);
        let key = (draft, keywords.to_string());
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let validator =
            formats::options(draft, &keywords).build(&keywords).map_err(|error| SchemaProblem::of(&error))?;
        let number = keywords.as_object().and_then(NumberFormat::of);
        let leaf = Leaf { validator: Arc::new(validator), number, cost: Cost::of(&keywords) };
        self.known.insert(key, leaf.clone());
        Ok(leaf)
    }

    /// Compiles a pattern for names (`patternProperties`).
    pub(super) fn pattern(&mut self, pattern: &str) -> Result<Pattern, SchemaProblem> {
        if let Some(known) = self.patterns.get(pattern) {
            return Ok(known.clone());
        }
        let schema = serde_json::json!({ "pattern": pattern });
        let validator = jsonschema::options_for::<Scalars>()
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| SchemaProblem::at("", error.to_string()))?;
        let compiled = Pattern { validator: Arc::new(validator), cost: Cost::of_pattern(pattern) };
        self.patterns.insert(pattern.to_owned(), compiled.clone());
        Ok(compiled)
    }
}

/// A pattern that judges names of members.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    validator: Arc<Validator<Scalars>>,
    cost: Cost,
}

impl Pattern {
    pub(super) fn matches(&self, name: &str) -> bool {
        self.validator.is_valid(Scalar::Text(name))
    }

    /// How many steps it takes to judge a name, at most.
    pub(super) fn steps(&self, name: &str) -> u64 {
        self.cost.of_text(name)
    }
}

/// Options for a pattern alone, and for tests.
pub(super) fn options() -> ValidationOptions<'static> {
    formats::options(Draft::default(), &Value::Null)
}
