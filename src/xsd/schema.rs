//! A compiled schema: immutable, and shared by all who judge by it.

use super::components::context::Builder;

/// A compiled schema.
#[derive(Debug)]
pub(crate) struct Schema {}

impl Schema {
    /// Compiles what instances need.
    pub(super) fn new(_builder: Builder) -> Self {
        Self {}
    }
}
