//! The fixed chain on one screen: auth → scope → rate limit → schema; then the check of the response.
//!
//! This file has the order and the early returns, nothing else. Only this file makes an [`Admitted`], and forwarding takes
//! one by value, so a request that did not pass all four stages cannot be forwarded. The refusal of a stage that only
//! reports is recorded instead of returned; [`Trace::settle`] alone decides that.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::audit::ChangeRecord;
use crate::body::{Body, Counter, Source};
use crate::exchange::Request;
use crate::policy::{Access, Reporting, Route};
use crate::refusal::{Reason, Refusal};
use crate::runtime::InForce;
use crate::stages::auth::Caller;
use crate::stages::auth::cache::TokenCache;
use crate::stages::mask::Hidden;
use crate::stages::rate_limit::{self, Counting, Now, Subject};
use crate::stages::schema::content::Contents;
use crate::stages::schema::xml::Called;
use crate::stages::schema::{Rejected, response};
use crate::stages::scope;
use crate::state::registry::{Underway, UnusualUse};

/// What the chain found out about a request, for the response and the record; set even if the request is refused.
#[derive(Default)]
pub(crate) struct Trace {
    /// The caller; absent on public routes and when authentication failed.
    pub(crate) caller: Option<Arc<Caller>>,
    /// The holder of the credential that was refused, if it is known: for the record alone.
    pub(crate) holder: Option<Arc<Caller>>,
    /// What is unusual about this use of the credential.
    pub(crate) unusual: Option<UnusualUse>,
    /// What the caller's limits have to do with it.
    pub(crate) counting: Counting,
    /// The refusals of stages that only report.
    pub(crate) would_refuse: Vec<Refusal>,
    /// The operations of a WSDL that the request is for, if it is judged by one.
    pub(crate) called: Option<Arc<Called>>,
    /// What the caller has changed for itself, or may have.
    pub(crate) change: Option<Box<CallerChange>>,
}

/// What a caller changes for itself.
pub(crate) struct CallerChange {
    pub(crate) record: ChangeRecord,
    /// What becomes of it in the store. It goes on if the caller leaves meanwhile.
    pub(crate) made: Underway,
}

impl Trace {
    /// Handles a stage's refusal: records it if that stage only reports, otherwise returns it.
    fn settle(&mut self, reporting: Reporting, refusal: Refusal) -> Result<(), Refusal> {
        if !reporting.contains(refusal.stage()) && !refusal.is_only_reported() {
            return Err(refusal);
        }
        self.would_refuse.push(refusal);
        Ok(())
    }
}

/// A request that passed all four stages.
pub(crate) struct Admitted {
    caller: Option<Arc<Caller>>,
    body: Body,
}

impl Admitted {
    /// Splits it for sending.
    pub(crate) fn into_parts(self) -> (Option<Arc<Caller>>, Body) {
        (self.caller, self.body)
    }
}

/// Passes a request through the four stages. `tokens` are those that this worker has verified under this policy.
pub(crate) async fn admit(
    in_force: &InForce,
    route: &Route,
    tokens: &TokenCache,
    request: &Request<'_>,
    body: Source,
    counter: &Counter,
    trace: &mut Trace,
) -> Result<Admitted, Refusal> {
    let reporting = route.reporting;

    let mut subject = Subject::Address(request.client());
    if let Access::Scoped(requirement) = &route.access {
        let mut holder = None;
        match in_force.auth.authenticate(request, route.api().credentials(), tokens, &mut holder).await {
            Err(refusal) => {
                trace.holder = holder;
                trace.settle(reporting, refusal)?;
            }
            Ok(known) => {
                trace.caller = Some(Arc::clone(&known.caller));
                trace.unusual = known.unusual;
                if let Err(refusal) = requirement.permit(&known, request, request.now()) {
                    trace.settle(reporting, refusal)?;
                }
            }
        }
    }
    if let Err(refusal) = scope::permit_client(route.networks.as_ref(), request) {
        trace.settle(reporting, refusal)?;
    }
    if let Some(caller) = trace.caller.as_deref() {
        subject = Subject::Consumer(caller.plan(), caller.account(), caller.user_account());
    }
    let (shared, now, counting) = (in_force.shared_limits(), Now::of(request), &mut trace.counting);
    if let Err(refusal) = rate_limit::take(&route.limits, &subject, shared, &in_force.ledger, now, counting).await {
        trace.settle(reporting, refusal)?;
    }
    let body = match route.request.admit(request, body, counter, &in_force.memory, &mut trace.called).await {
        Ok(body) => body,
        Err(Rejected { refusal, body: Some(body) }) => trace.settle(reporting, refusal).map(|()| body)?,
        Err(Rejected { refusal, body: None }) => return Err(refusal),
    };

    Ok(Admitted { caller: trace.caller.clone(), body })
}

/// Decides whether a request that was admitted, and has become a connection of its own, would still be: who sends it, and what
/// they may do. How often they may has been counted, and the schema was that of the request.
pub(crate) async fn recheck(
    in_force: &InForce,
    route: &Route,
    tokens: &TokenCache,
    request: &Request<'_>,
) -> Result<(), Refusal> {
    let settle = |refusal| Trace::default().settle(route.reporting, refusal);
    scope::permit_client(route.networks.as_ref(), request).or_else(settle)?;
    let Access::Scoped(requirement) = &route.access else { return Ok(()) };
    let known = match in_force.auth.again(request, route.api().credentials(), tokens).await {
        // `max_age` is about the moment in which it began.
        Ok(known) => requirement.permit(&known, request, request.exchange.at),
        Err(refusal) => Err(refusal),
    };
    known.or_else(settle)
}

/// Decides about a response that has a body, and a status that its contract does not have.
pub(crate) fn release_undescribed(
    route: &Route,
    requirement: &response::Requirement,
    status: StatusCode,
    trace: &mut Trace,
) -> Result<(), Refusal> {
    requirement.undescribed(status).map_or(Ok(()), |refusal| trace.settle(route.reporting, refusal))
}

/// Hides what the caller may not see of a response that was read whole; `None`: that is only reported, and the response goes to
/// the client as it is. Where the proxy is too busy to decide, nothing goes: load must not show what is hidden.
pub(crate) async fn hide(
    in_force: &InForce,
    route: &Route,
    requirement: &response::Requirement,
    hidden: Hidden,
    headers: &HeaderMap,
    body: Result<Bytes, Refusal>,
    trace: &mut Trace,
) -> Result<Option<Bytes>, Refusal> {
    let masked = match body {
        Ok(body) => requirement.hide(hidden, headers, body, &in_force.memory).await,
        Err(refusal) => Err(refusal),
    };
    masked.map(Some).or_else(|refusal| match refusal.reason() {
        Reason::Overloaded => Err(refusal),
        _ => trace.settle(route.mask_reporting, refusal).map(|()| None),
    })
}

/// Checks a response that was held back before it goes to the client. `body` is an error when it could not be read whole.
pub(crate) async fn release(
    in_force: &InForce,
    route: &Route,
    requirement: &response::Requirement,
    contents: &Contents,
    headers: &HeaderMap,
    body: Result<Bytes, Refusal>,
    trace: &mut Trace,
) -> Result<(), Refusal> {
    let checked = match body {
        Ok(body) => requirement.check(contents, headers, body, &in_force.memory, trace.called.clone()).await,
        Err(refusal) => Err(refusal),
    };
    checked.or_else(|refusal| trace.settle(route.reporting, refusal))
}
