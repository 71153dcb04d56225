//! The way of one request: it opens the exchange, normalises what the request is for once, finds its route, walks the
//! chain, forwards, and words the answer. Whatever happens, the [`Witness`] records it.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::answer::Answer;
use super::client::Client;
use super::forward::{Asked, Forwarded};
use super::witness::Witness;
use super::worker::Worker;
use super::{arrival, forward, held};
use crate::chain::{self, Reached, Tools};
use crate::exchange::Exchange;
use crate::refusal::{Refusal, X_REQUEST_ID};
use crate::stages::schema::body::Source;

/// The way of one request. It has begun, and has its witness, when this returns: what is returned may be dropped unpolled.
pub(super) fn handle(
    worker: Rc<Worker>,
    client: Rc<Client>,
    parts: Parts,
    source: Source,
) -> impl Future<Output = Response<Answer>> {
    client.begin();
    let exchange = Exchange::open(&client.peer, &parts.method, parts.version, &parts.uri, &parts.headers);
    let witness = Witness::new(&worker, &client, exchange);
    answer(worker, client, witness, parts, source)
}

async fn answer(
    worker: Rc<Worker>,
    client: Rc<Client>,
    mut witness: Box<Witness>,
    mut parts: Parts,
    source: Source,
) -> Response<Answer> {
    // A writer that cannot keep up makes callers wait here, before anything is done for them.
    worker.recorder.ready().await;
    match carry(&worker, &client, &mut witness, &mut parts, source).await {
        Ok((Forwarded { head, link, pool }, held)) => {
            parts.headers.insert(X_REQUEST_ID, witness.exchange.id.to_header());
            std::mem::take(&mut witness.learnt.standing).tell(&mut parts.headers);
            let mut response = Response::new(Answer::upstream(link, pool, held, witness));
            *response.status_mut() = head.status;
            *response.headers_mut() = parts.headers;
            if let Some(reason) = head.reason {
                response.extensions_mut().insert(reason);
            }
            response
        }
        Err(refusal) => refuse(&refusal, witness),
    }
}

/// The part that may end in a refusal. Returns what has been read of the answer's body already, too.
async fn carry(
    worker: &Worker,
    client: &Client,
    witness: &mut Witness,
    parts: &mut Parts,
    source: Source,
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
    let admitted = chain::admit(policy, &route, tools, exchange, (&parts.headers, source, &counter), learnt).await?;

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
    let (status, headers, body) = worded(refusal, &mut witness);
    let mut response = Response::new(Answer::ours(body, witness));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Refuses what is no request, and records it. Returns what to write.
pub(super) fn refuse_head(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    refusal: &Refusal,
) -> (StatusCode, HeaderMap, Bytes) {
    client.begin();
    let mut witness = Witness::new(worker, client, Exchange::unparsed(&client.peer));
    witness.refused(refusal);
    let mut worded = worded(refusal, &mut witness);
    witness.sent(worded.2.len());
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&witness.exchange.at);
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        worded.1.insert(http::header::DATE, date);
    }
    worded
}

fn worded(refusal: &Refusal, witness: &mut Witness) -> (StatusCode, HeaderMap, Bytes) {
    let mut worded = refusal.answer(&witness.exchange.id);
    std::mem::take(&mut witness.learnt.standing).tell(&mut worded.1);
    worded
}
