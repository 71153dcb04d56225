//! What the endpoints that replace a credential have in common.

use jiff::SignedDuration;
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::service::refuse;
use crate::policy::Period;
use crate::refusal::{Reason, Refusal, Stage};

/// How long the old credential stays valid by default, and at most.
const OVERLAP: SignedDuration = SignedDuration::from_hours(7 * 24);
const MAX_OVERLAP: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// How long the old credential stays valid.
    overlap: Option<String>,
}

/// How long the old credential stays valid.
///
/// # Errors
/// It is not a duration, or too long.
pub(super) fn of(asked: &Asked) -> Result<SignedDuration, Refusal> {
    let Some(text) = &asked.overlap else { return Ok(OVERLAP) };
    let period = text.parse::<Period>().ok().and_then(|period| SignedDuration::try_from(period.0).ok());
    period.filter(|period| *period <= MAX_OVERLAP).ok_or_else(|| {
        let detail = "`overlap` is a duration of at most 30d, such as `24h` or `0s`";
        refuse(Stage::Schema, Reason::SchemaViolation, detail)
    })
}

/// The `{id}` in `…/{id}/rotate`.
pub(super) fn id(path: &str) -> String {
    let segment = path.rsplit('/').nth(1).unwrap_or_default();
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}
