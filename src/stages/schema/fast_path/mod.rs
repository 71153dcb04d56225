//! A fast path for valid bodies: validates a body in one streaming pass, without building a tree.
//!
//! A [`FastPath`] either reports a body as valid or leaves the decision open. Everything else (broken JSON, a duplicate
//! key, a violation, a keyword or a number that only the `jsonschema` crate can decide) falls back to [`super::json`],
//! which parses and validates from scratch and is the only source of refusals. One invariant must hold, and the tests
//! compare both paths for it: if a fast path accepts a body, `strict_json` parses it and the crate finds it valid.
//!
//! Many schemas have no fast path: [`compile`] supports the keywords of most request bodies and gives up on any other.

mod compile;
mod program;
mod stream;

use jsonschema::Draft;
use serde_json::Value;

pub(super) use self::program::FastPath;
use crate::budget::Steps;

impl FastPath {
    /// Compiles a schema that the crate has already compiled. Returns `None` if it contains an unsupported keyword.
    pub(super) fn new(schema: &Value, draft: Draft) -> Option<Self> {
        compile::compile(schema, draft)
    }

    /// Compiles the definitions with these names (`#/$defs/NAME`), each like [`Self::new`].
    pub(super) fn of_definitions(schema: &Value, draft: Draft, names: &[&str]) -> Vec<Option<Self>> {
        compile::compile_definitions(schema, draft, names)
    }

    /// Whether a body is known to be acceptable JSON and valid, within a budget. `false` decides nothing.
    pub(super) fn accepts(&self, body: &[u8], steps: Steps) -> bool {
        stream::accepts(self, body, steps)
    }
}

#[cfg(test)]
mod tests;
