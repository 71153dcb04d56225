//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10 §3 and §4).

use std::time::Duration;

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName};

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

    /// Adds the headers, if a limit was checked.
    pub(crate) fn write_to(self, headers: &mut HeaderMap) {
        if let Some((policy, state)) = self.0 {
            headers.insert(RATELIMIT_POLICY, policy);
            headers.insert(RATELIMIT, state);
        }
    }
}
