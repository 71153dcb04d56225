//! Answers preflights: the question of a browser whether a page of another origin may send a request (Fetch standard §3.3).
//! They have no credentials, and none is asked for.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::exchange::Exchange;
use crate::policy::cors::{Cors, Preflight};
use crate::policy::{Policy, Route};
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::rate_limit::{self, Counting, Now, Subject};
use crate::state::ledger::Ledger;

/// The route of the request that a preflight is about, if its API has `cors`.
pub(crate) fn route(
    policy: &Policy,
    preflight: &Preflight,
    exchange: &Exchange,
    query: Option<&str>,
) -> Option<Arc<Route>> {
    let route = policy.route(&exchange.host, &preflight.method, &exchange.path, query).ok()?;
    route.api().cors().is_some().then(|| Arc::clone(route))
}

/// Decides about a preflight. Returns the fields that answer it.
///
/// # Errors
/// The page may not send the request, or the client has sent too many preflights.
pub(crate) async fn permit(
    cors: &Cors,
    preflight: &Preflight,
    headers: &HeaderMap,
    (exchange, ledger): (&Exchange, &Ledger),
    counting: &mut Counting,
) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
    let now = Now { tick: ledger.tick(exchange.decided()), at: exchange.at };
    // Each node for itself: a question to the store would cost more than the answer.
    rate_limit::take(&cors.preflights, &Subject::Address(exchange.client), None, ledger, now, counting).await?;
    cors.permit(preflight, headers)
        .map_err(|error| Refusal::new(Stage::Request, Reason::CorsRefused, error.detail()))?;
    Ok(cors.preflight_fields(preflight))
}
