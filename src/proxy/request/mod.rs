//! Handles one request: opens its exchange, reads its target, finds its route, passes it through the chain, forwards
//! it, and returns the response. Whatever happens, the [`RecordGuard`] records it.

mod forward;
pub(crate) mod path;
pub(super) mod record_guard;
pub(super) mod response_body;
mod response_check;
pub(crate) mod target;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use self::forward::Forwarded;
use self::record_guard::RecordGuard;
use self::response_body::ResponseBody;
use crate::body::Source;
use crate::chain;
use crate::exchange::Exchange;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::PolicyTrailers;
use crate::refusal::{Refusal, X_REQUEST_ID};

/// Handles one request. Its record guard exists when this returns, so the future may be dropped without being polled.
pub(super) fn handle(
    worker: Rc<Worker>,
    client: Rc<ClientConnection>,
    parts: Parts,
    source: Source,
) -> impl Future<Output = Response<ResponseBody>> {
    client.begin();
    let exchange = Exchange::open(&client.peer, &parts.method, parts.version, &parts.uri, &parts.headers);
    let guard = RecordGuard::new(&worker, &client, exchange);
    respond(worker, client, guard, parts, source)
}

async fn respond(
    worker: Rc<Worker>,
    client: Rc<ClientConnection>,
    mut guard: Box<RecordGuard>,
    mut parts: Parts,
    source: Source,
) -> Response<ResponseBody> {
    // If a sink cannot keep up, requests wait here, before any work is done for them.
    worker.recorder.ready().await;
    match process(&client, &mut guard, &mut parts, source).await {
        Ok((Forwarded { head, connection, pool }, prefix)) => {
            parts.headers.insert(X_REQUEST_ID, guard.exchange.id.to_header());
            std::mem::take(&mut guard.trace.rate_limit_headers).write_to(&mut parts.headers);
            let mut response = Response::new(ResponseBody::upstream(connection, pool, prefix, guard));
            *response.status_mut() = head.status;
            *response.headers_mut() = parts.headers;
            if let Some(reason) = head.reason {
                response.extensions_mut().insert(reason);
            }
            response
        }
        Err(refusal) => refuse(&refusal, guard),
    }
}

/// Admits and forwards a request, unless it is refused. Also returns the bytes of the response's body that were read
/// for its check.
async fn process(
    client: &ClientConnection,
    guard: &mut RecordGuard,
    parts: &mut Parts,
    source: Source,
) -> Result<(Forwarded, Bytes), Refusal> {
    let view = Rc::clone(&guard.view);
    let in_force = &*view.in_force;
    let policy = &in_force.policy;

    let target = target::read(&mut guard.exchange, &parts.uri, &parts.headers, &client.peer, policy)?;
    let source = PolicyTrailers::wrap(source, policy.headers());

    let route = policy.route(&guard.exchange.host, &parts.method, &guard.exchange.path)?;
    let route = Arc::clone(guard.route.insert(Arc::clone(route)));
    let counter = guard.counter.clone();
    let RecordGuard { exchange, trace, .. } = &mut *guard;
    let tick = in_force.ledger.tick(exchange.begun);
    let request = target.request(exchange, &client.peer, &parts.uri, &parts.headers, tick);
    let admitted = chain::admit(in_force, &route, &view.tokens, &request, source, &counter, trace).await?;

    let forwarded = forward::forward(admitted, &target, &mut parts.headers, &client.peer, &route, guard).await?;
    match &route.response {
        None => Ok((forwarded, Bytes::new())),
        Some(requirement) => {
            Box::pin(response_check::check(forwarded, &route, requirement, &parts.headers, guard)).await
        }
    }
}

/// Returns the response for a refusal.
fn refuse(refusal: &Refusal, mut guard: Box<RecordGuard>) -> Response<ResponseBody> {
    guard.refused(refusal);
    let (status, headers, body) = render(refusal, &mut guard);
    let mut response = Response::new(ResponseBody::local(body, guard));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Refuses a head that cannot be read, and records it. Returns the response to write.
pub(super) fn refuse_head(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    refusal: &Refusal,
) -> (StatusCode, HeaderMap, Bytes) {
    client.begin();
    let mut guard = RecordGuard::new(worker, client, Exchange::unparsed(&client.peer));
    guard.refused(refusal);
    let mut response = render(refusal, &mut guard);
    guard.sent(response.2.len());
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&guard.exchange.at);
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        response.1.insert(http::header::DATE, date);
    }
    response
}

fn render(refusal: &Refusal, guard: &mut RecordGuard) -> (StatusCode, HeaderMap, Bytes) {
    let (status, mut headers, body) = refusal.answer(&guard.exchange.id);
    std::mem::take(&mut guard.trace.rate_limit_headers).write_to(&mut headers);
    (status, headers, body)
}
