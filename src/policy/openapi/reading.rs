//! The state of reading a description, passed to every part of it.

use super::diagnostics::Diagnostics;
use super::schema::Schemas;

/// What reading the parts of a description shares.
pub(super) struct Reading<'d> {
    /// Whether query parameters that are not described are refused.
    pub(super) strict: bool,
    pub(super) diagnostics: Diagnostics,
    pub(super) requests: Schemas<'d>,
    pub(super) responses: Schemas<'d>,
}
