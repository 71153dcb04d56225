//! Keywords that judge a value without applying other schemas: the `jsonschema` crate decides them.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, ValidationOptions, Validator};
use serde_json::{Map, Value};

use super::problem::SchemaProblem;
use crate::stages::schema::cost::Cost;
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

/// The keywords of one node that the crate judges.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) validator: Arc<Validator>,
    pub(super) cost: Cost,
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
        let options = options().with_draft(draft);
        let validator = options.build(&keywords).map_err(|error| SchemaProblem::of(&error))?;
        let leaf = Leaf { validator: Arc::new(validator), cost: Cost::of(&keywords) };
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
            .map_err(|error| SchemaProblem { pointer: String::new(), message: error.to_string() })?;
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

/// Options for the keywords that the crate judges.
pub(super) fn options() -> ValidationOptions<'static> {
    jsonschema::options()
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex())
}
