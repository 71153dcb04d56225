//! The fixed chain on one screen: auth → scope → rate limit → schema.
//!
//! Order and early return, nothing else. [`Admitted`] is made here alone, and forwarding takes one, so what did not pass
//! all four stages cannot be forwarded.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::exchange::{ClientCertificate, Exchange};
use crate::policy::{Access, Policy, Route};
use crate::refusal::Refusal;
use crate::stages::auth::cache::TokenCache;
use crate::stages::auth::{Asked, Caller};
use crate::stages::rate_limit::{self, Standing, Subject};
use crate::stages::schema::body::{Body, Counter, Source};
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
    /// The client certificate of its connection.
    pub(crate) certificate: Option<&'a ClientCertificate>,
}

/// What the chain learnt of a request, whatever it decided: for the answer and the record.
#[derive(Default)]
pub(crate) struct Learnt {
    /// Who is calling; absent on public routes and when nobody could be made out.
    pub(crate) caller: Option<Arc<Caller>>,
    /// Where the caller stands with its limits.
    pub(crate) standing: Standing,
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
    (headers, body, counter): (&mut HeaderMap, Source, &Counter),
    learnt: &mut Learnt,
) -> Result<Admitted, Refusal> {
    let (now, tick) = (exchange.at, tools.ledger.tick(exchange.begun));

    let subject = match &route.access {
        Access::Public => Subject::Address(exchange.client),
        Access::Scoped(requirement) => {
            let Reached { scheme, authority, path, certificate } = tools.reached;
            let method = exchange.method.as_ref().map_or("", Method::as_str);
            let client = exchange.client;
            let asked = Asked { headers, method, scheme, authority, path, client, certificate, now, tick };
            let known = policy.auth().authenticate(&asked, tools.tokens).await?;
            let caller = &**learnt.caller.insert(Arc::clone(&known.caller));
            requirement.permit(&known, now)?;
            Subject::Consumer(caller.plan(), caller.account())
        }
    };
    rate_limit::take(route.rate.as_ref(), &subject, tools.ledger, tick, &mut learnt.standing)?;
    let body = route.body.admit(headers, body, counter).await?;

    Ok(Admitted { caller: learnt.caller.clone(), body })
}
