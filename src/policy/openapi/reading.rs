//! The state of reading a description, passed to every part of it.

use serde_json::Value;

use super::diagnostics::Diagnostics;
use super::files::Node;
use super::options::Options;
use super::schema::Schemas;
use super::visible::Unused;

/// What reading the parts of a description shares.
pub(super) struct Reading<'d> {
    pub(super) options: &'d Options,
    /// By position in `options.skip`: whether there is such an operation.
    pub(super) skipped: Vec<bool>,
    pub(super) diagnostics: Diagnostics,
    pub(super) requests: Schemas<'d>,
    pub(super) responses: Schemas<'d>,
    /// What no response has led to yet.
    pub(super) unused: Unused,
}

impl<'d> Reading<'d> {
    /// Closes the operation where the value of a key has another type: read as absent, it would demand less than was meant.
    pub(super) fn require(&mut self, node: &Node<'d>, key: &str, fits: fn(&Value) -> bool, what: &str) {
        if let Some(other) = node.get(key).filter(|value| !fits(value.value)) {
            self.diagnostics.closing(&other, format!("`{key}` is not {what}"));
        }
    }
}
