//! The fixed chain on one screen: auth → scope → rate limit → schema; and the way back.
//!
//! Order and early return, nothing else. [`Admitted`] is made here alone, and forwarding takes one, so what did not pass
//! all four stages cannot be forwarded. A stage that only reports has its refusal noted in place of returned: that is
//! decided here as well, at one place, [`Trace::settle`].

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::body::{Body, Counter, Source};
use crate::exchange::{ClientCertificate, Exchange};
use crate::policy::{Access, Policy, Reporting, Route};
use crate::refusal::Refusal;
use crate::stages::auth::cache::TokenCache;
use crate::stages::auth::{Asked, Caller};
use crate::stages::rate_limit::{self, Standing, Subject};
use crate::stages::schema::content::Contents;
use crate::stages::schema::parameters::Target;
use crate::stages::schema::{Rejected, response};
use crate::state::ledger::Ledger;

/// What the stages use beside the policy.
pub(crate) struct Tools<'a> {
    /// Tokens this worker has verified.
    pub(crate) tokens: &'a TokenCache,
    /// How much callers have used of their limits.
    pub(crate) ledger: &'a Ledger,
    /// How the client reached us.
    pub(crate) reached: Reached<'a>,
}

/// How the client reached us, in its own words: what a proof of possession is made for.
pub(crate) struct Reached<'a> {
    /// `https` or `http`.
    pub(crate) scheme: &'a str,
    /// Host and port.
    pub(crate) authority: &'a str,
    /// Path, as it came.
    pub(crate) path: &'a str,
    /// Query, as it came.
    pub(crate) query: Option<&'a str>,
    /// The client certificate of its connection.
    pub(crate) certificate: Option<&'a ClientCertificate>,
}

/// What the chain learnt of a request, whatever it decided: for the answer and the record.
#[derive(Default)]
pub(crate) struct Trace {
    /// Who is calling; absent on public routes and when nobody could be made out.
    pub(crate) caller: Option<Arc<Caller>>,
    /// Where the caller stands with its limits.
    pub(crate) standing: Standing,
    /// Why it would have been refused by stages that only report.
    pub(crate) would_refuse: Vec<Refusal>,
}

impl Trace {
    /// Takes a stage's refusal: noted where that stage only reports, the end of the way elsewhere.
    fn settle(&mut self, reporting: Reporting, refusal: Refusal) -> Result<(), Refusal> {
        if !reporting.contains(refusal.stage()) {
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
    /// Takes it apart for sending.
    pub(crate) fn into_parts(self) -> (Option<Arc<Caller>>, Body) {
        (self.caller, self.body)
    }
}

/// Walks a request through the chain.
pub(crate) async fn admit(
    policy: &Policy,
    route: &Route,
    tools: Tools<'_>,
    exchange: &Exchange,
    (headers, body, counter): (&HeaderMap, Source, &Counter),
    trace: &mut Trace,
) -> Result<Admitted, Refusal> {
    let (now, tick) = (exchange.at, tools.ledger.tick(exchange.begun));
    let Reached { scheme, authority, path, query, certificate } = tools.reached;
    let reporting = route.reporting;

    let mut subject = Subject::Address(exchange.client);
    if let Access::Scoped(requirement) = &route.access {
        let method = exchange.method.as_ref().map_or("", Method::as_str);
        let client = exchange.client;
        let asked = Asked { headers, method, scheme, authority, path, client, certificate, now, tick };
        match policy.auth().authenticate(&asked, tools.tokens).await {
            Err(refusal) => trace.settle(reporting, refusal)?,
            Ok(known) => {
                trace.caller = Some(Arc::clone(&known.caller));
                if let Err(refusal) = requirement.permit(&known, now) {
                    trace.settle(reporting, refusal)?;
                }
            }
        }
    }
    if let Some(caller) = trace.caller.as_deref() {
        subject = Subject::Consumer(caller.plan(), caller.account());
    }
    let limits = (route.rate.as_ref(), route.class);
    let limited = rate_limit::take(limits, &subject, tools.ledger, tick, &mut trace.standing);
    if let Err(refusal) = limited {
        trace.settle(reporting, refusal)?;
    }
    let target = Target { path: &exchange.path, query, headers };
    let body = match route.request.admit(&target, body, counter).await {
        Ok(body) => body,
        Err(Rejected { refusal, body: Some(body) }) => trace.settle(reporting, refusal).map(|()| body)?,
        Err(Rejected { refusal, body: None }) => return Err(refusal),
    };

    Ok(Admitted { caller: trace.caller.clone(), body })
}

/// The way back: judges an answer that was held back, of which all or (past the size that is) a part has been read.
pub(crate) async fn release(
    route: &Route,
    requirement: &response::Requirement,
    contents: &Contents,
    (headers, body): (&HeaderMap, Option<Bytes>),
    trace: &mut Trace,
) -> Result<(), Refusal> {
    let judged = match body {
        Some(body) => requirement.check(contents, headers, body).await,
        None => Err(requirement.too_large()),
    };
    judged.or_else(|refusal| trace.settle(route.reporting, refusal))
}
