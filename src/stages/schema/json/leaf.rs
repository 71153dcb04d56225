//! Keywords that judge a value without applying other schemas: the `jsonschema` crate decides them.

use std::collections::HashMap;
use std::sync::Arc;

use jsonschema::{Draft, Validator};
use serde_json::{Map, Number, Value};

use super::exact::Exact;
use super::misuse;
use super::problem::SchemaProblem;
use super::unique::are_unique;
use crate::budget::{Exhausted, Steps};
use crate::stages::decimal::{self, Written};
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

/// The keywords of one node that have no subschemas. The crate judges all but the formats of numbers, multiples, patterns,
/// whether items are unique, and numbers that must be judged as they are written.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) validator: Validator,
    pub(super) number: Option<NumberFormat>,
    /// With its text.
    pub(super) pattern: Option<(Arc<str>, Arc<Pattern>)>,
    unique: bool,
    exact: Exact,
    /// Whether `const` and `enum` are judged here, because they have numbers in lists or objects.
    lists: bool,
    /// With the divisor as it is written.
    pub(super) multiple: Option<(Number, Multiple)>,
    pub(super) cost: Cost,
}

impl Leaf {
    /// Whether all keywords allow a value, with the numbers in it that were rounded.
    pub(super) fn allows(&self, value: &Value, numbers: &[Written], steps: &mut Steps) -> Result<bool, Exhausted> {
        steps.take(self.cost.steps(value))?;
        if let Value::Number(number) = value {
            return self.allows_number(value, number, numbers, steps);
        }
        Ok(self.validator.is_valid(value)
            && self.unlisted(value, numbers, steps)?.is_none()
            && self.text_is_allowed(value, steps)?
            && self.items_are_allowed(value, numbers, steps)?)
    }

    fn allows_number(
        &self,
        value: &Value,
        number: &Number,
        numbers: &[Written],
        steps: &mut Steps,
    ) -> Result<bool, Exhausted> {
        let allows = match self.exact.written(value, numbers) {
            Some(written) => {
                steps.take(written.steps())?;
                self.exact.allows(&written)
            }
            None => self.validator.is_valid(value) && self.unlisted(value, numbers, steps)?.is_none(),
        };
        Ok(allows && self.has_format(number, numbers) && self.is_multiple(number, numbers, steps)?)
    }

    /// The keywords that the crate judges, or would judge but for a number, and that do not allow a value; in words.
    pub(super) fn errors(
        &self,
        value: &Value,
        numbers: &[Written],
        steps: &mut Steps,
        most: usize,
    ) -> Result<Vec<(String, String)>, Exhausted> {
        if let Some(written) = self.exact.written(value, numbers) {
            return Ok(self
                .exact
                .errors(&written)
                .into_iter()
                .map(|(keyword, detail)| (keyword.to_owned(), detail))
                .collect());
        }
        let errors = self.validator.iter_errors(value).take(most);
        let mut errors: Vec<_> =
            errors.map(|error| (error.kind().keyword().to_owned(), error.masked().to_string())).collect();
        errors.extend(self.unlisted(value, numbers, steps)?.map(|(keyword, detail)| (keyword.to_owned(), detail)));
        Ok(errors)
    }

    /// Whether one of these keywords, which are among those that [`Self::errors`] names, does not allow a value.
    pub(super) fn breaks(
        &self,
        value: &Value,
        numbers: &[Written],
        steps: &mut Steps,
        keywords: &[&str],
    ) -> Result<bool, Exhausted> {
        if let Some(written) = self.exact.written(value, numbers) {
            return Ok(self.exact.errors(&written).iter().any(|(keyword, _)| keywords.contains(keyword)));
        }
        Ok(self.validator.iter_errors(value).any(|error| keywords.contains(&error.kind().keyword()))
            || self.unlisted(value, numbers, steps)?.is_some_and(|(keyword, _)| keywords.contains(&keyword)))
    }

    fn unlisted(
        &self,
        value: &Value,
        numbers: &[Written],
        steps: &mut Steps,
    ) -> Result<Option<(&'static str, String)>, Exhausted> {
        if self.lists { self.exact.unlisted(value, numbers, steps) } else { Ok(None) }
    }

    /// Whether a number has the format of numbers.
    pub(super) fn has_format(&self, number: &Number, numbers: &[Written]) -> bool {
        self.number.as_ref().is_none_or(|format| {
            match decimal::as_written(numbers, number).filter(|_| number.is_f64()) {
                Some(written) => format.allows_written(&written),
                None => format.allows(number),
            }
        })
    }

    /// Whether `multipleOf` allows a number.
    pub(super) fn is_multiple(
        &self,
        number: &Number,
        numbers: &[Written],
        steps: &mut Steps,
    ) -> Result<bool, Exhausted> {
        let Some((_, multiple)) = &self.multiple else { return Ok(true) };
        steps.take(Multiple::STEPS)?;
        match decimal::find(numbers, number) {
            Some(written) => multiple.allows_decimal(&written.decimal, steps),
            None => Ok(multiple.allows(number)),
        }
    }

    /// Whether the pattern allows a value.
    pub(super) fn text_is_allowed(&self, value: &Value, steps: &mut Steps) -> Result<bool, Exhausted> {
        match (&self.pattern, value) {
            (Some((_, pattern)), Value::String(text)) => pattern.matches(text, steps),
            _ => Ok(true),
        }
    }

    /// Whether items may be equal, or are not.
    pub(super) fn items_are_allowed(
        &self,
        value: &Value,
        numbers: &[Written],
        steps: &mut Steps,
    ) -> Result<bool, Exhausted> {
        match value {
            Value::Array(items) if self.unique => are_unique(items, numbers, steps),
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
        let exact = Exact::new(draft, keywords.as_object().unwrap_or(&Map::new()));
        let (lists, cost) = (exact.has_nested_numbers(), Cost::of(&keywords));
        if let Some(keywords) = keywords.as_object_mut().filter(|_| lists) {
            keywords.remove("const");
            keywords.remove("enum");
        }
        let validator =
            formats::options(draft, &keywords).build(&keywords).map_err(|error| misuse::problem(&error, draft))?;
        let number = keywords.as_object().and_then(NumberFormat::of);
        let leaf = Arc::new(Leaf { validator, number, pattern, unique, exact, lists, multiple, cost });
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
