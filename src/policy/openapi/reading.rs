//! The state of reading a description, passed to every part of it.

use super::diagnostics::Diagnostics;
use super::options::Options;
use super::schema::Schemas;

/// What reading the parts of a description shares.
pub(super) struct Reading<'d> {
    pub(super) options: &'d Options,
    /// By position in `options.skip`: whether there is such an operation.
    pub(super) skipped: Vec<bool>,
    pub(super) diagnostics: Diagnostics,
    pub(super) requests: Schemas<'d>,
    pub(super) responses: Schemas<'d>,
}
