//! Rate limiting: decides whether a request is within its limits, and reports what remains of them.
//!
//! Requests are counted per consumer (per client address on public routes), never per connection or worker. A request
//! over a limit is refused, never delayed. The narrowest limit is checked first, and a refused request does not count
//! against the limit that refuses it. Time and state are arguments: [`crate::state::ledger`] keeps the state, [`local`]
//! does the arithmetic.

mod local;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::header::{HeaderMap, HeaderName};

pub(crate) use self::local::Limit;
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::state::ledger::{Account, Bucket, Ledger, LimitId, Tick};

/// `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10 §3 and §4).
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The rate limits of a consumer.
#[derive(Debug)]
pub(crate) struct Plan {
    name: Arc<str>,
    limit: Limit,
    /// Tighter limits for classes of endpoints.
    classes: Vec<(LimitId, Limit)>,
}

impl Plan {
    /// Compiles a plan. `burst` defaults to one second's worth, at least 1.
    pub(crate) fn new(name: &str, count: NonZeroU32, per: Duration, burst: Option<NonZeroU32>) -> Result<Self, String> {
        Ok(Self { name: name.into(), limit: Limit::new(name, count, per, burst)?, classes: Vec::new() })
    }

    /// Adds the limit of a class of endpoints.
    pub(crate) fn class(&mut self, name: &str, count: NonZeroU32, per: Duration) -> Result<(), String> {
        self.classes.push((LimitId::class(name), Limit::new(name, count, per, None)?));
        Ok(())
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// A route's own limit, in addition to the plan.
#[derive(Debug)]
pub(crate) struct RouteLimit {
    limit: Limit,
    id: LimitId,
}

impl RouteLimit {
    /// Compiles the limit of a route.
    pub(crate) fn new(api: &str, route: &str, count: NonZeroU32, per: Duration) -> Result<Self, String> {
        Ok(Self { limit: Limit::new("route", count, per, None)?, id: LimitId::route(api, route) })
    }
}

/// What a request is counted against.
pub(crate) enum Subject<'a> {
    /// A consumer, with its plan and account.
    Consumer(Option<&'a Plan>, &'a Account),
    /// The client address of an unauthenticated request.
    Address(IpAddr),
}

/// The limits and what remains of them after this request, for the response headers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct RateLimitHeaders {
    policy: Option<HeaderValue>,
    state: Option<HeaderValue>,
}

impl RateLimitHeaders {
    /// Adds the `RateLimit` headers, if a limit was checked.
    pub(crate) fn write_to(self, headers: &mut HeaderMap) {
        if let (Some(policy), Some(state)) = (self.policy, self.state) {
            headers.insert(RATELIMIT_POLICY, policy);
            headers.insert(RATELIMIT, state);
        }
    }

    fn note(&mut self, limit: &Limit, remaining: u32, reset: Duration) {
        let item = limit.state_item(remaining, reset);
        self.state = match self.state.take() {
            None => HeaderValue::try_from(item).ok(),
            Some(before) => join(&before, &item),
        };
        self.policy = match self.policy.take() {
            None => Some(limit.policy_item().clone()),
            Some(before) => join(&before, limit.policy_item().to_str().unwrap_or_default()),
        };
    }
}

fn join(before: &HeaderValue, item: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("{}, {item}", before.to_str().unwrap_or_default())).ok()
}

/// Counts the request against the route's own limit, then the plan's for the route's class, then the plan's. `headers` is
/// updated whether the request is allowed or not.
pub(crate) fn take(
    route: Option<&RouteLimit>,
    class: Option<LimitId>,
    subject: &Subject<'_>,
    ledger: &Ledger,
    now: Tick,
    headers: &mut RateLimitHeaders,
) -> Result<(), Refusal> {
    if let Some(route) = route {
        let bucket = match subject {
            Subject::Consumer(_, account) => account.bucket(route.id, now),
            Subject::Address(address) => ledger.address(*address, now).bucket(route.id, now),
        };
        take_one(&route.limit, &bucket, now, headers)?;
    }
    if let Subject::Consumer(Some(plan), account) = subject {
        if let Some((id, limit)) = plan.classes.iter().find(|(id, _)| Some(*id) == class) {
            take_one(limit, &account.bucket(*id, now), now, headers)?;
        }
        take_one(&plan.limit, &account.plan, now, headers)?;
    }
    Ok(())
}

fn take_one(limit: &Limit, bucket: &Bucket, now: Tick, headers: &mut RateLimitHeaders) -> Result<(), Refusal> {
    match limit.take(bucket, now) {
        Ok(fits) => {
            headers.note(limit, fits.remaining, fits.full_after);
            Ok(())
        }
        Err(wait) => {
            headers.note(limit, 0, wait);
            let seconds = whole_seconds(wait);
            Err(Refusal::new(
                Stage::RateLimit,
                Reason::RateLimited,
                format!("wait {seconds} s before the next request; {}", limit.words()),
            )
            .members(Members { retry_after: Some(seconds), ..Members::default() }))
        }
    }
}

/// Rounded up, at least 1, so that a retry after this time is allowed.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}
