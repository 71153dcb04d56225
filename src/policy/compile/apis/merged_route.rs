//! A route as the policy and an OpenAPI description say together, before it is compiled.

use std::borrow::Cow;

use crate::policy::compile::contracts::DescribedRequest;
use crate::policy::document;
use crate::policy::shown::Shown;
use crate::policy::source::Place;
use crate::policy::tree::At;
use crate::stages::mask::Rule;
use crate::stages::schema::response::Requirement as ResponseRequirement;
use crate::stages::scope::Alternative;

/// A route as it is compiled, wherever its parts are written.
pub(super) struct MergedRoute<'a> {
    /// `METHOD /path`.
    pub(super) name: &'a str,
    /// Where problems of the whole route are reported.
    pub(super) place: Place,
    /// Where problems of its settings are reported.
    pub(super) at: At<'a>,
    /// What the policy writes, and for keys that it leaves out, what the description says.
    pub(super) settings: Cow<'a, document::Route>,
    /// Who may call it, by the description; absent where `settings` say so.
    pub(super) alternatives: Option<Vec<Alternative>>,
    /// What the description says of requests; `settings` come first.
    pub(super) request: DescribedRequest,
    /// What the description says of responses; absent where `settings` say so.
    pub(super) response: Option<ResponseRequirement>,
    /// What the description hides of responses; what `settings` hide comes to it.
    pub(super) mask: &'a [Rule],
    /// Whether responses that violate the description are only reported.
    pub(super) reports_responses: bool,
    /// What callers are shown of it, by the description.
    pub(super) shown: Option<Shown>,
}

impl<'a> MergedRoute<'a> {
    /// A route that only the policy writes.
    pub(super) fn written(name: &'a str, settings: &'a document::Route, at: At<'a>) -> Self {
        Self {
            name,
            place: at.key_place(),
            at,
            settings: Cow::Borrowed(settings),
            alternatives: None,
            request: DescribedRequest::default(),
            response: None,
            mask: &[],
            reports_responses: false,
            shown: None,
        }
    }
}
