//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10 §3 and §4).

use std::time::Duration;

use http::HeaderValue;
use http::header::HeaderName;

use super::concurrent::Concurrent;
use super::limit::Limit;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limit that is nearest, and what remains of it after this request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct RateLimitHeaders(Option<(HeaderValue, HeaderValue)>);

impl RateLimitHeaders {
    /// Names a limit, and what remains of it.
    pub(super) fn set(&mut self, limit: &Limit, remaining: u32, reset: Duration) {
        let state = HeaderValue::try_from(limit.state_item(remaining, reset)).ok();
        self.0 = state.map(|state| (limit.policy_item().clone(), state));
    }

    /// Names the limit on requests that are under way, when no more may begin.
    pub(super) fn set_concurrent(&mut self, limit: &Concurrent) {
        self.0 = Some((limit.policy_item().clone(), HeaderValue::from_static(r#""concurrent";r=0"#)));
    }

    /// Returns the header fields; none if no limit was checked.
    pub(crate) fn into_fields(self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.0.into_iter().flat_map(|(policy, state)| [(RATELIMIT_POLICY, policy), (RATELIMIT, state)])
    }
}
