//! Handles one request: opens its exchange, reads its target, finds its route, passes it through the chain, forwards
//! it, and returns the response. Whatever happens, the [`RecordGuard`] records it.

mod forward;
pub(crate) mod path;
pub(super) mod record_guard;
pub(super) mod response_body;
mod response_check;
pub(crate) mod target;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{MAX_FORWARDS, TRAILER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, response};

use self::forward::Forwarded;
use self::record_guard::RecordGuard;
use self::response_body::ResponseBody;
use crate::body::{Pieces, Source};
use crate::chain;
use crate::exchange::Exchange;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::downstream::worker::Worker;
use crate::proxy::headers::PolicyTrailers;
use crate::refusal::{Refusal, X_REQUEST_ID};

/// Handles one request. Its record guard exists when this returns, so the future may be dropped without being polled.
pub(super) fn handle(
    worker: &Rc<Worker>,
    client: Rc<ClientConnection>,
    parts: Parts,
    source: Source,
) -> impl Future<Output = Response<ResponseBody>> + use<> {
    client.begin();
    let exchange = Exchange::open(&client.peer, &parts.method, parts.version, &parts.uri, &parts.headers);
    let guard = RecordGuard::new(worker, &client, exchange);
    respond(client, guard, parts, source)
}

async fn respond(
    client: Rc<ClientConnection>,
    mut guard: Box<RecordGuard>,
    mut parts: Parts,
    source: Source,
) -> Response<ResponseBody> {
    // If a sink cannot keep up, requests wait here, before any work is done for them.
    guard.admit().await;
    match process(&client, &mut guard, &mut parts, source).await {
        Ok(None) => answer_itself(guard),
        Ok(Some((Forwarded { head, connection, pool }, prefix))) => {
            parts.headers.insert(X_REQUEST_ID, guard.exchange.id.to_header());
            std::mem::take(&mut guard.trace.counting.headers).write_to(&mut parts.headers);
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

/// Admits and forwards a request, unless it is refused. Also returns the part of the response's body that was read for
/// its check. Returns `None` for a request to the proxy itself.
async fn process(
    client: &ClientConnection,
    guard: &mut RecordGuard,
    parts: &mut Parts,
    source: Source,
) -> Result<Option<(Forwarded, Pieces)>, Refusal> {
    let view = Rc::clone(&guard.view);
    let in_force = &*view.in_force;
    let policy = &in_force.policy;

    if parts.version == Version::HTTP_2 {
        target::check_size(parts, policy.limits())?;
    }
    let target = target::read(&mut guard.exchange, &parts.uri, &parts.headers, &client.peer, policy)?;
    if target.ends_here {
        return Ok(None);
    }
    if let Some(forwards) = target.forwards {
        parts.headers.insert(MAX_FORWARDS, forwards.into());
    }
    let source = PolicyTrailers::wrap(source, policy.headers());

    let route = policy.route(&guard.exchange.host, &parts.method, &guard.exchange.path, parts.uri.query())?;
    let route = Arc::clone(guard.route.insert(Arc::clone(route)));
    let counter = guard.counter.clone();
    let RecordGuard { exchange, trace, .. } = &mut *guard;
    let tick = in_force.ledger.tick(exchange.begun);
    let request = target.request(exchange, &client.peer, &parts.uri, &parts.headers, tick);
    let admitted = chain::admit(in_force, &route, &view.tokens, &request, source, &counter, trace).await?;

    let forwarded = forward::forward(admitted, &target, &mut parts.headers, &client.peer, &route, guard).await?;
    match &route.response {
        None => Ok(Some((forwarded, Pieces::new()))),
        Some(requirement) => {
            let checked = response_check::check(forwarded, &route, requirement, &parts.headers, guard);
            let (forwarded, held) = Box::pin(checked).await?;
            if !held.is_empty() {
                // Its trailers were not part of what was checked, and are gone.
                parts.headers.remove(TRAILER);
            }
            Ok(Some((forwarded, held)))
        }
    }
}

/// Returns the answer to a request to the proxy itself: OPTIONS for `*`, or with no hop left (RFC 9110 §9.3.7, §7.6.2). It
/// says nothing of routes, because nobody was authenticated.
fn answer_itself(mut guard: Box<RecordGuard>) -> Response<ResponseBody> {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;
    guard.answering(STATUS);
    let id = guard.exchange.id.to_header();
    let mut response = Response::new(ResponseBody::local(Bytes::new(), guard));
    *response.status_mut() = STATUS;
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
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

/// Replaces a response by a refusal if it breaks at its beginning. HTTP/2 sends the head of what is returned.
pub(super) async fn begun(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    poll_fn(|cx| {
        response.body_mut().poll_beginning(cx);
        Poll::Ready(())
    })
    .await;
    let (mut parts, mut body) = response.into_parts();
    replace_interrupted(&mut parts, &mut body);
    Response::from_parts(parts, body)
}

/// Replaces a response that was interrupted before any of it was sent. Otherwise the client would get no response at all,
/// and many clients then repeat the request (RFC 9110 §9.2.2). Returns false if it was not interrupted.
pub(super) fn replace_interrupted(parts: &mut response::Parts, body: &mut ResponseBody) -> bool {
    let Some(refusal) = body.take_interruption() else { return false };
    body.replace(|guard| {
        guard.discarded();
        guard.refused(&refusal);
        let (status, headers, body) = render(&refusal, guard);
        (parts.status, parts.headers) = (status, headers);
        parts.extensions.clear();
        body
    });
    true
}

/// Records a request that is not answered: its head was not received whole, or HTTP/2 itself refused it.
pub(super) fn record_unanswered(
    worker: &Rc<Worker>,
    client: &Rc<ClientConnection>,
    version: Option<Version>,
    refusal: &Refusal,
) {
    client.begin();
    let mut exchange = Exchange::unparsed(&client.peer);
    exchange.version = version;
    let mut guard = RecordGuard::new(worker, client, exchange);
    guard.refused(refusal);
    guard.unsent(0, true);
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
    std::mem::take(&mut guard.trace.counting.headers).write_to(&mut headers);
    (status, headers, body)
}
