//! The refusal of a malformed body.

use std::borrow::Cow;

use crate::refusal::{Members, Reason, Refusal, Stage};

/// Refuses a body that does not parse.
pub(super) fn malformed(detail: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Stage::Schema, Reason::MalformedBody, detail).members(Members::default())
}
