//! Rate limiting: decides whether a request is within its limits, and reports what remains of them.
//!
//! Requests are counted per consumer (per client address on public routes), never per connection or worker. A request
//! over a limit is refused, never delayed. [`RouteLimits::of`] says which limits a request counts against; all of them are
//! decided before any is taken, so that a refused request takes nothing. Time and state are arguments:
//! [`crate::state::ledger`] keeps the state, [`limit`] does the arithmetic.

mod applicable;
mod concurrent;
mod headers;
mod limit;
mod shared;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use self::applicable::{Applicable, Decided, MOST};
use self::concurrent::Concurrent;
pub(crate) use self::headers::RateLimitHeaders;
use self::limit::Exceeded;
pub(crate) use self::limit::Limit;
pub(crate) use self::shared::{OnFailure, Shared, SharedLimits};
use crate::refusal::{Members, Reason, Refusal, Stage};
use crate::state::ledger::{Account, InFlight, Ledger, LimitId, Tick};

/// The rate limits of a consumer.
#[derive(Debug)]
pub(crate) struct Plan {
    name: Arc<str>,
    id: LimitId,
    limit: Limit,
    /// Tighter limits for classes of endpoints.
    classes: Vec<(LimitId, Limit)>,
    concurrent: Option<Concurrent>,
    by_organization: bool,
}

impl Plan {
    /// Compiles a plan. `burst` defaults to one second's worth, at least 1.
    pub(crate) fn new(name: &str, count: NonZeroU32, per: Duration, burst: Option<NonZeroU32>) -> Result<Self, String> {
        let limit = Limit::new(name, count, per, burst)?;
        Ok(Self {
            name: name.into(),
            id: LimitId::plan(),
            limit,
            classes: Vec::new(),
            concurrent: None,
            by_organization: false,
        })
    }

    /// Adds the limit of a class of endpoints.
    pub(crate) fn class(&mut self, name: &str, count: NonZeroU32, per: Duration) -> Result<(), String> {
        self.classes.push((LimitId::class(name), Limit::new(name, count, per, None)?));
        Ok(())
    }

    /// Limits the requests that are under way at the same time, on each node.
    pub(crate) fn concurrent(&mut self, most: NonZeroU32) {
        self.concurrent = Some(Concurrent::new(most));
    }

    /// Counts the consumers of an organization together.
    pub(crate) fn by_organization(&mut self) {
        self.by_organization = true;
    }

    /// Whether the consumers of an organization are counted together.
    pub(crate) fn counts_by_organization(&self) -> bool {
        self.by_organization
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn of_class(&self, class: Option<LimitId>) -> Option<&(LimitId, Limit)> {
        self.classes.iter().find(|(id, _)| Some(*id) == class)
    }

    /// The name of its limit whose burst is less than what a request costs, so that it refuses every one.
    pub(crate) fn never_fits<'l>(&'l self, limits: &'l RouteLimits) -> Option<&'l str> {
        let [_, class, plan] = limits.of(Some(self));
        let mut own = [class, plan].into_iter().flatten();
        own.find(|(_, limit)| limit.burst() < limits.cost).map(|(_, limit)| limit.name())
    }
}

/// What a route says about limits.
#[derive(Debug)]
pub(crate) struct RouteLimits {
    /// The route's own limit, in addition to the plan's.
    pub(crate) rate: Option<(LimitId, Limit)>,
    /// Its class of endpoints, for which plans may have a limit.
    pub(crate) class: Option<LimitId>,
    /// What a request takes from each limit.
    pub(crate) cost: NonZeroU32,
}

impl RouteLimits {
    /// Which limits a request counts against: the route's own, the one of its class in the caller's plan, the plan's.
    fn of<'l>(&'l self, plan: Option<&'l Plan>) -> [Option<Applicable<'l>>; MOST] {
        [
            self.rate.as_ref().map(|(id, limit)| (*id, limit)),
            plan.and_then(|plan| plan.of_class(self.class)).map(|(id, limit)| (*id, limit)),
            plan.map(|plan| (plan.id, &plan.limit)),
        ]
    }
}

/// What a request is counted against.
pub(crate) enum Subject<'a> {
    /// A consumer, with its plan and account.
    Consumer(Option<&'a Plan>, &'a Arc<Account>),
    /// The client address of an unauthenticated request.
    Address(IpAddr),
}

/// Counts a request against all of its limits, or refuses it and counts it against none. `headers` are set in either case.
/// Returns what to hold while the request is under way, if that is limited.
pub(crate) async fn take(
    limits: &RouteLimits,
    subject: &Subject<'_>,
    shared: Option<Shared<'_>>,
    ledger: &Ledger,
    now: Tick,
    headers: &mut RateLimitHeaders,
) -> Result<Option<InFlight>, Refusal> {
    let of_address;
    let (plan, account) = match subject {
        Subject::Consumer(plan, account) => (*plan, *account),
        Subject::Address(_) if limits.rate.is_none() => return Ok(None),
        Subject::Address(address) => {
            of_address = ledger.address(*address, now);
            (None, &of_address)
        }
    };
    let concurrent = plan.and_then(|plan| plan.concurrent.as_ref());
    let applicable = limits.of(plan);
    let (decided, in_flight) = match shared {
        None => decide_and_take(&applicable, limits.cost, concurrent, account, now),
        Some(shared) => shared.decide_and_take(&applicable, limits.cost, concurrent, account, ledger, now).await?,
    };
    let all = || decided.iter().flatten();
    let refused = all().filter_map(|(limit, outcome)| Some((*limit, outcome.as_ref().err()?)));
    // Waiting for the one that takes longest suffices for all.
    if let Some((limit, exceeded)) = refused.max_by_key(|(_, exceeded)| exceeded.wait()) {
        headers.set(limit, exceeded.remaining, exceeded.wait());
        return Err(refusal(limit, exceeded, limits.cost));
    }
    if let (Some(concurrent), None) = (concurrent, &in_flight) {
        headers.set_concurrent(concurrent);
        return Err(concurrent.refusal());
    }
    let fits = all().filter_map(|(limit, outcome)| Some((*limit, outcome.as_ref().ok()?)));
    if let Some((limit, fits)) = fits.min_by_key(|(_, fits)| (fits.remaining, std::cmp::Reverse(fits.full_after))) {
        headers.set(limit, fits.remaining, fits.full_after);
    }
    Ok(in_flight)
}

/// Decides all limits, and takes from each if the request fits all.
fn decide_and_take<'l>(
    limits: &[Option<Applicable<'l>>; MOST],
    cost: NonZeroU32,
    concurrent: Option<&Concurrent>,
    account: &Arc<Account>,
    now: Tick,
) -> (Decided<'l>, Option<InFlight>) {
    let mut uses = account.uses();
    let decided = limits.map(|limit| {
        limit.map(|(id, limit)| {
            let used = uses.of(id, now);
            used.full_at = limit.within_window(used.full_at, now);
            (limit, limit.decide(used.full_at, cost, now))
        })
    });
    let fits = decided.iter().flatten().all(|(_, outcome)| outcome.is_ok());
    let begins = concurrent.is_none_or(|concurrent| concurrent.admits(uses.in_flight));
    if fits && begins {
        for ((id, _), (_, outcome)) in limits.iter().flatten().zip(decided.iter().flatten()) {
            if let Ok(fits) = outcome {
                uses.of(*id, now).full_at = fits.full_at;
            }
        }
    }
    let in_flight = concurrent.filter(|_| fits && begins).map(|_| InFlight::begin(account, &mut uses));
    (decided, in_flight)
}

fn refusal(limit: &Limit, exceeded: &Exceeded, cost: NonZeroU32) -> Refusal {
    let retry_after = exceeded.wait.map(whole_seconds);
    let detail = match retry_after {
        Some(seconds) => format!("wait {seconds} s before the next request; {}", limit.words()),
        None => format!("a request to this route costs {cost}, which never fits; {}", limit.words()),
    };
    let members = Members { retry_after, ..Members::default() };
    Refusal::new(Stage::RateLimit, Reason::RateLimited, detail).members(members)
}

/// Rounded up, at least 1, so that a retry after this time is allowed.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}
