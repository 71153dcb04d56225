//! The way of one request: it opens the exchange, normalises what the request is for once, finds its route, walks the
//! chain, forwards, and words the answer. Whatever happens, the [`Witness`] records it.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use super::answer::Answer;
use super::forward::{Asked, Forwarded};
use super::front::Client;
use super::witness::Witness;
use super::worker::Worker;
use super::{arrival, forward, headers, held};
use crate::chain::{self, Reached, Tools};
use crate::exchange::Exchange;
use crate::refusal::{Refusal, X_REQUEST_ID};
use crate::stages::schema::body::Source;

/// The way of one request. It has begun, and has its witness, when this returns: hyper may drop the future unpolled.
pub(super) fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> {
    let in_step = client.begin();
    let (parts, body) = request.into_parts();
    let exchange = Exchange::open(&client.peer, &parts.method, parts.version, parts.uri.path(), &parts.headers);
    let witness = Witness::new(&worker, &client, exchange);
    answer(worker, client, in_step, witness, parts, body)
}

async fn answer(
    worker: Rc<Worker>,
    client: Rc<Client>,
    in_step: bool,
    mut witness: Box<Witness>,
    mut parts: Parts,
    body: Incoming,
) -> Result<Response<Answer>, Infallible> {
    // A writer that cannot keep up makes callers wait here, before anything is done for them.
    worker.recorder.ready().await;
    let carried = if in_step || parts.version == Version::HTTP_2 {
        carry(&worker, &client, &mut witness, &mut parts, body).await
    } else {
        Err(arrival::malformed("the request does not begin where the one before it ended").closing())
    };
    Ok(match carried {
        Ok((Forwarded { head, link, pool }, held)) => {
            parts.headers.insert(X_REQUEST_ID, witness.exchange.id.to_header());
            witness.learnt.standing.tell(&mut parts.headers);
            let mut response = Response::new(Answer::upstream(link, pool, held, witness));
            *response.status_mut() = head.status;
            *response.headers_mut() = parts.headers;
            if let Some(reason) = head.reason {
                response.extensions_mut().insert(reason);
            }
            response
        }
        Err(refusal) => refuse(&refusal, witness),
    })
}

/// The part that may end in a refusal. Returns what has been read of the answer's body already, too.
async fn carry(
    worker: &Worker,
    client: &Client,
    witness: &mut Witness,
    parts: &mut Parts,
    body: Incoming,
) -> Result<(Forwarded, Bytes), Refusal> {
    let here = Rc::clone(&witness.here);
    let policy = &here.live.policy;

    let trusted = policy.trusted_proxies();
    let arrival = arrival::read(&mut witness.exchange, &parts.uri, &parts.headers, &client.peer, trusted)?;

    let route = policy.route(&witness.exchange.host, &parts.method, &witness.exchange.path)?;
    let route = Arc::clone(witness.route.insert(Arc::clone(route)));
    let reached = Reached {
        scheme: arrival.scheme,
        authority: arrival.authority(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        certificate: client.peer.certificate.as_deref(),
    };
    let tools = Tools { tokens: &here.tokens, ledger: &worker.shared.ledger, reached };
    let counter = witness.counter.clone();
    let Witness { exchange, learnt, .. } = &mut *witness;
    let admitted = chain::admit(
        policy,
        &route,
        tools,
        exchange,
        (&parts.headers, Source::Client(body, headers::strip_trailers), &counter),
        learnt,
    )
    .await?;

    let asked = Asked {
        method: &parts.method,
        target: &arrival.target,
        version: parts.version,
        headers: &mut parts.headers,
        host: arrival.host.as_ref(),
        peer: &client.peer,
        trusted_peer: arrival.trusted_peer,
    };
    let forwarded = forward::forward(admitted, asked, &route, policy.auth().key_header(), witness).await?;
    match &route.response {
        None => Ok((forwarded, Bytes::new())),
        Some(requirement) => Box::pin(held::examine(forwarded, &route, requirement, &parts.headers, witness)).await,
    }
}

/// Words a refusal as an answer.
fn refuse(refusal: &Refusal, mut witness: Box<Witness>) -> Response<Answer> {
    witness.refused(refusal);
    let (status, headers, body) = worded(refusal, &witness);
    let mut response = Response::new(Answer::ours(body, witness));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Refuses a request of which hyper made none, and records it. Returns what to write.
pub(super) fn refuse_head(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    refusal: &Refusal,
) -> (StatusCode, HeaderMap, Bytes) {
    client.begin();
    let mut witness = Witness::new(worker, client, Exchange::unparsed(&client.peer));
    witness.refused(refusal);
    let mut worded = worded(refusal, &witness);
    witness.sent(worded.2.len());
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&witness.exchange.at);
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        worded.1.insert(http::header::DATE, date);
    }
    worded
}

fn worded(refusal: &Refusal, witness: &Witness) -> (StatusCode, HeaderMap, Bytes) {
    let mut worded = refusal.answer(&witness.exchange.id);
    witness.learnt.standing.tell(&mut worded.1);
    worded
}
