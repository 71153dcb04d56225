//! Sends an admitted request to the upstream and reads the head of its response.
//!
//! It takes [`Admitted`] by value, so a request that did not pass the chain cannot be sent. Failures are distinguished:
//! the client's body, no connection, no response in time, an invalid response.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::HeaderMap;
use hyper::body::Body as _;

use super::record_guard::RecordGuard;
use super::target::RequestTarget;
use crate::body::{Body, Progress};
use crate::chain::Admitted;
use crate::exchange::Exchange;
use crate::policy::Route;
use crate::proxy::downstream::client::ClientConnection;
use crate::proxy::headers::UpstreamHeaders;
use crate::proxy::upstream::{ConnectError, Head, Pool, Pools, ResponseError, UpstreamConnection};
use crate::refusal::{Reason, Refusal, Stage};

/// A response whose body is still to be read, with the connection it comes from.
pub(crate) struct Forwarded {
    pub(crate) head: Head,
    pub(crate) connection: Box<UpstreamConnection>,
    /// The pool that the connection returns to.
    pub(crate) pool: Rc<Pool>,
}

/// Sends an admitted request.
pub(crate) async fn forward(
    admitted: Admitted,
    target: &RequestTarget<'_>,
    headers: &HeaderMap,
    client: &ClientConnection,
    route: &Route,
    guard: &mut RecordGuard,
) -> Result<Forwarded, Refusal> {
    let (caller, mut body) = admitted.into_parts();
    let upstream = route.api().upstream();
    let view = Rc::clone(&guard.view);
    let Some((server, pool)) =
        view.in_force.choose(route.api()).and_then(|server| Some((server, view.pools.of(server)?)))
    else {
        return Err(unreachable().cause("the API has no server"));
    };
    guard.sent_to(server);

    let Exchange { id, version, method, .. } = &guard.exchange;
    let (id, version, method) = (*id, version.unwrap_or_default(), method.clone().unwrap_or_default());
    let key_header = &view.in_force.policy.auth().key_header;
    let upstream_headers = UpstreamHeaders {
        trusted_peer: target.trusted_peer,
        peer: &client.peer.text,
        scheme: client.peer.scheme(),
        host: target.host.as_ref(),
        version,
        request_id: id.as_str(),
        key_header: Some(key_header).filter(|_| !upstream.forward_credentials),
        caller: caller.as_deref(),
        rules: view.in_force.policy.headers(),
        keep: route.api().kept_headers(),
        contract: route.response.as_ref(),
        trace: guard.upstream_trace(headers),
        announces_trailers: body.size_hint().exact().is_none(),
    };
    client.yield_now().await;
    loop {
        let mut connection = match pool.take() {
            Some(connection) => connection,
            None => connect(&view.pools, pool).await?,
        };
        let fields = |out: &mut Vec<u8>| upstream_headers.write(out, &server.authority, headers);
        connection.begin(&method, &target.target, fields, body);
        match response_head(&mut connection, upstream.response_timeout, guard).await {
            Ok((head, after)) => {
                guard.responding(head.status, after);
                return Ok(Forwarded { head, connection, pool: Rc::clone(pool) });
            }
            Err(Failure::Unsent(unsent)) => body = unsent,
            // If the client's body ended early, the refusal says so: it is not the upstream's fault.
            Err(Failure::Refused(refusal)) => return Err(guard.counter.failure().unwrap_or(refusal)),
        }
    }
}

/// Why there is no head of a response.
enum Failure {
    /// No byte was sent: the request may be sent on another connection.
    Unsent(Body),
    Refused(Refusal),
}

/// Sends the request that was begun and waits for the head of the response. `limit` counts from when the client has
/// sent its whole body, because an upload takes its own time. Also returns how long the upstream took. Interim responses go to
/// the client as they come.
async fn response_head(
    connection: &mut UpstreamConnection,
    limit: Duration,
    guard: &RecordGuard,
) -> Result<(Head, Duration), Failure> {
    let counter = &guard.counter;
    let begun = connection.begun;
    connection.deadline.not_after(begun + limit);
    let response = poll_fn(|cx| {
        let polled = connection.poll_head(cx);
        guard.interim(&mut connection.interims);
        if let Poll::Ready(response) = polled {
            return Poll::Ready(Some(response));
        }
        let stalled = connection.stalled;
        ready!(connection.deadline.poll(cx, |now| waited_since(counter.progress(), begun, stalled, now) + limit));
        Poll::Ready(None)
    });
    match response.await {
        Some(Ok(head)) => Ok((head, begun.elapsed())),
        Some(Err(ResponseError::Unsent(body))) => Err(Failure::Unsent(body)),
        Some(Err(error)) => Err(Failure::Refused(match &error {
            ResponseError::Invalid(_) => invalid().cause(error.to_string()),
            _ => unreachable().cause(error.to_string()),
        })),
        None => Err(Failure::Refused(timeout("the upstream did not respond in time; try again later"))),
    }
}

/// Since when it is the upstream's turn, for a request that `begun` then.
fn waited_since(sent: Progress, begun: Instant, stalled: Option<Instant>, now: Instant) -> Instant {
    match sent {
        Progress::Whole => begun,
        // An upstream that accepts nothing of the body gets no more time for it.
        Progress::Streaming => stalled.unwrap_or(now),
        Progress::Finished(at) => at.into_std(),
    }
}

async fn connect(pools: &Pools, pool: &Pool) -> Result<Box<UpstreamConnection>, Refusal> {
    pools.connect(pool).await.map_err(|error| {
        let refusal = match &error {
            ConnectError::Timeout => timeout("the upstream did not accept a connection in time; try again later"),
            ConnectError::TooMany => {
                let detail = "too many requests wait for upstreams; try again later";
                Refusal::new(Stage::Forward, Reason::Overloaded, detail)
            }
            ConnectError::Connect(_) | ConnectError::Tls(_) => unreachable(),
        };
        refusal.cause(error.to_string())
    })
}

fn timeout(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, Reason::UpstreamTimeout, detail)
}

fn unreachable() -> Refusal {
    Refusal::new(Stage::Forward, Reason::UpstreamUnreachable, "the upstream is not reachable; try again later")
}

fn invalid() -> Refusal {
    Refusal::new(Stage::Forward, Reason::InvalidUpstreamResponse, "the upstream sent an invalid response")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2: a client that sends slowly takes nothing of the upstream's time, and an upstream that takes nothing gains none.
    #[test]
    fn an_upload_takes_its_own_time() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for (sent, stalled, now, since) in [
            (Progress::Whole, None, 9, 0),
            (Progress::Whole, Some(3), 9, 0),
            (Progress::Streaming, None, 9, 9),
            (Progress::Streaming, Some(3), 9, 3),
            (Progress::Finished(at(5).into()), None, 9, 5),
            (Progress::Finished(at(5).into()), Some(3), 9, 5),
        ] {
            assert_eq!(waited_since(sent, begun, stalled.map(at), at(now)), at(since), "{sent:?} {stalled:?}");
        }
    }
}
