//! How many requests of a caller may be under way at the same time, on each node.

use std::num::NonZeroU32;

use http::HeaderValue;

use crate::refusal::{Members, Reason, Refusal, Stage};

/// A limit on requests that are under way.
#[derive(Debug)]
pub(crate) struct Concurrent {
    most: NonZeroU32,
    /// `qu` is the unit (draft-ietf-httpapi-ratelimit-headers-10 §3.1.2).
    policy_item: HeaderValue,
}

impl Concurrent {
    pub(super) fn new(most: NonZeroU32) -> Self {
        let item = format!(r#""concurrent";q={most};qu="concurrent-requests""#);
        Self { most, policy_item: HeaderValue::try_from(item).unwrap_or(HeaderValue::from_static("")) }
    }

    /// Whether one more may begin while so many are under way.
    pub(super) fn admits(&self, in_flight: u32) -> bool {
        in_flight < self.most.get()
    }

    /// For `RateLimit-Policy`.
    pub(super) fn policy_item(&self) -> &HeaderValue {
        &self.policy_item
    }

    /// Nobody knows when one of them ends, so that the wait is a suggestion.
    pub(super) fn refusal(&self) -> Refusal {
        let detail =
            format!("{} requests of this caller are under way, as many as may be; wait for one to end", self.most);
        let members = Members { retry_after: Some(1), ..Members::default() };
        Refusal::new(Stage::RateLimit, Reason::TooManyConcurrent, detail).members(members)
    }
}
