//! Rate limiting: decides whether a request is within its limits, and reports what remains of them.
//!
//! Requests are counted per consumer (per client address on public routes), never per connection or worker. A request
//! over a limit is refused, never delayed. [`RouteLimits`] says which limits a request counts against; all of them are
//! decided before any is taken, so that a refused request takes nothing. Time and state are arguments:
//! [`crate::state::ledger`] keeps the state.
//!
//! - `subject`: who is counted; `now`: when; `plan`: by which limits; `limit`: one of them, a `rate` or a `quota`;
//!   `concurrent`: requests under way;
//! - `outcome`: the decision about one limit; `decision`: about all of a request together; `shared`: what is counted in a store;
//! - `usage`: what has been used, for operators; `headers`: what responses say of limits.

mod concurrent;
mod decision;
mod headers;
mod limit;
mod now;
mod outcome;
mod plan;
mod quota;
mod rate;
mod shared;
mod subject;
pub(crate) mod usage;

use self::decision::{Counted, Decided, Part};
pub(crate) use self::headers::RateLimitHeaders;
pub(crate) use self::limit::{Alert, Limit};
pub(crate) use self::now::Now;
pub(crate) use self::plan::{Plan, RouteLimits};
pub(crate) use self::quota::{Every, Quota};
pub(crate) use self::rate::Rate;
pub(crate) use self::shared::{OnFailure, Shared, SharedLimits};
pub(crate) use self::subject::Subject;
use crate::refusal::Refusal;
use crate::state::ledger::{InFlight, Ledger};

/// What counting a request has brought about.
#[derive(Default)]
pub(crate) struct Counting {
    /// What remains of the limits.
    pub(crate) headers: RateLimitHeaders,
    /// Held while the request is under way, if that is limited.
    pub(crate) in_flight: Option<InFlight>,
    /// Quotas of which much has been used.
    pub(crate) alerts: Vec<Alert>,
    /// The name of the limit that refuses the request.
    pub(crate) refused_by: Option<Box<str>>,
}

/// Counts a request against all of its limits, or refuses it and counts it against none. `counting` is set in either case.
pub(crate) async fn take(
    limits: &RouteLimits,
    subject: &Subject<'_>,
    shared: Option<Shared<'_>>,
    ledger: &Ledger,
    now: Now,
    counting: &mut Counting,
) -> Result<(), Refusal> {
    if limits.rate.is_none() && matches!(subject, Subject::Address(_)) {
        return Ok(());
    }
    let (plan, account) = subject.account(ledger, now);
    let concurrent = plan.and_then(Plan::concurrency);
    let user = subject.user().map(|(plan, account)| Part { limits: plan.of_user(), account });
    let parts = [Some(Part { limits: limits.of(plan), account: &account }), user];
    let counted = Counted { parts, cost: limits.cost, concurrent };
    let Decided { verdict, in_flight, alerts } = match shared {
        None => counted.decide(now),
        Some(shared) => shared.decide(counted, ledger, now).await?,
    };
    counting.alerts = alerts;
    if let Some((limit, exceeded)) = verdict.refused {
        counting.headers.set(limit, exceeded.remaining, exceeded.wait());
        counting.refused_by = Some(limit.name().into());
        return Err(limit.refusal(&exceeded, limits.cost, now));
    }
    if let (Some(concurrent), None) = (concurrent, &in_flight) {
        counting.headers.set_concurrent(concurrent);
        counting.refused_by = Some("concurrent".into());
        return Err(concurrent.refusal());
    }
    if let Some((limit, fits)) = verdict.nearest {
        counting.headers.set(limit, fits.remaining, fits.full_after);
    }
    counting.in_flight = in_flight;
    Ok(())
}
