//! Sends an admitted request to the upstream and brings back its answer.
//!
//! It takes [`Admitted`] by value: what did not pass the chain cannot be sent. What failed is told apart: the client's own
//! body, no connection, no answer in time, an answer that is not acceptable.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Version};

use super::record_guard::RecordGuard;
use crate::body::{Body, Counter, Progress};
use crate::chain::Admitted;
use crate::exchange::Peer;
use crate::policy::Route;
use crate::proxy::headers::UpstreamHeaders;
use crate::proxy::upstream::{ConnectError, Head, Link, LinkError, Pool};
use crate::refusal::{Reason, Refusal, Stage};

/// The head of a request that may be admitted.
pub(crate) struct Asked<'a> {
    /// Method.
    pub(crate) method: &'a Method,
    /// Path as it was matched, and query as it came.
    pub(crate) target: &'a str,
    /// HTTP version.
    pub(crate) version: Version,
    /// Its headers; afterwards those of the answer, so that one map serves both.
    pub(crate) headers: &'a mut HeaderMap,
    /// The host it was for, with its port, as it came.
    pub(crate) host: Option<&'a HeaderValue>,
    /// Who sent it.
    pub(crate) peer: &'a Peer,
    /// Whether that is a trusted proxy.
    pub(crate) trusted_peer: bool,
}

/// An answer whose body is still to be read, with the connection it comes from. Its headers are where the request's were.
pub(crate) struct Forwarded {
    /// The rest of its head.
    pub(crate) head: Head,
    /// The connection.
    pub(crate) link: Box<Link>,
    /// Where it goes back to.
    pub(crate) pool: Rc<Pool>,
}

/// Sends an admitted request.
pub(crate) async fn forward(
    admitted: Admitted,
    asked: Asked<'_>,
    route: &Route,
    key_header: &http::HeaderName,
    guard: &mut RecordGuard,
) -> Result<Forwarded, Refusal> {
    let (caller, mut body) = admitted.into_parts();
    let upstream = route.api().upstream();
    let view = Rc::clone(&guard.view);
    let Some((server, pool)) = upstream.choose().and_then(|server| Some((server, view.pools.of(server)?))) else {
        return Err(unreachable().cause("the API has no server"));
    };
    guard.asked(server);

    let id = guard.exchange.id;
    let onward = UpstreamHeaders {
        trusted_peer: asked.trusted_peer,
        peer: &asked.peer.text,
        scheme: asked.peer.scheme(),
        host: asked.host,
        version: asked.version,
        request_id: id.as_str(),
        key_header: Some(key_header).filter(|_| !upstream.forward_credentials),
        caller: caller.as_deref(),
    };
    yield_now().await;
    loop {
        let mut link = match pool.take() {
            Some(link) => link,
            None => connect(pool).await?,
        };
        let fields = |out: &mut Vec<u8>| onward.write(out, &server.authority, asked.headers);
        link.begin(asked.method, asked.target, fields, body);
        match answer(&mut link, asked.headers, upstream.response_timeout, &guard.counter).await {
            Ok((head, after)) => {
                guard.answers(head.status, after);
                return Ok(Forwarded { head, link, pool: Rc::clone(pool) });
            }
            Err(Unanswered::Unsent(unsent)) => body = unsent,
            // When the client's own body broke, that is told to the client, and is not the upstream's fault.
            Err(Unanswered::Refused(refusal)) => return Err(guard.counter.failure().unwrap_or(refusal)),
        }
    }
}

/// Lets all others that are ready have their turn. Requests are sent after that: what leaves together wakes an upstream
/// once, and waking it is a good part of what sending costs.
async fn yield_now() {
    let mut gave_way = false;
    poll_fn(|cx| match std::mem::replace(&mut gave_way, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

enum Unanswered {
    /// Not a byte was sent: another connection may do.
    Unsent(Body),
    Refused(Refusal),
}

/// Sends what a connection was given, and waits for the head of the answer; so long once the client has sent its whole
/// body: an upload takes its own time. Returns how long it took, too.
async fn answer(
    link: &mut Link,
    headers: &mut HeaderMap,
    limit: Duration,
    counter: &Counter,
) -> Result<(Head, Duration), Unanswered> {
    let asked = link.begun;
    let deadline = |now: Instant, stalled: Option<Instant>| match counter.progress() {
        Progress::Whole => asked + limit,
        // An upstream that takes nothing of it does not take its time.
        Progress::Streaming => stalled.unwrap_or(now) + limit,
        Progress::Finished(at) => at.into_std() + limit,
    };
    link.deadline.not_after(asked + limit);
    let answered = poll_fn(|cx| {
        if let Poll::Ready(answered) = link.poll_head(cx, headers) {
            return Poll::Ready(Some(answered));
        }
        let stalled = link.stalled;
        ready!(link.deadline.poll(cx, |now| deadline(now, stalled)));
        Poll::Ready(None)
    });
    match answered.await {
        Some(Ok(head)) => Ok((head, asked.elapsed())),
        Some(Err(LinkError::Unsent(body))) => Err(Unanswered::Unsent(body)),
        Some(Err(error)) => Err(Unanswered::Refused(match &error {
            LinkError::Invalid(_) => invalid().cause(error.to_string()),
            _ => unreachable().cause(error.to_string()),
        })),
        None => Err(Unanswered::Refused(late("the service behind did not answer in time; try again later"))),
    }
}

async fn connect(pool: &Pool) -> Result<Box<Link>, Refusal> {
    pool.connect().await.map_err(|error| {
        let refusal = match &error {
            ConnectError::Timeout => late("the service behind takes no connection"),
            ConnectError::Connect(_) | ConnectError::Tls(_) => unreachable(),
        };
        refusal.cause(error.to_string())
    })
}

fn late(detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, Reason::UpstreamTimeout, detail)
}

fn unreachable() -> Refusal {
    Refusal::new(Stage::Forward, Reason::UpstreamUnreachable, "the service behind is not reachable; try again later")
}

fn invalid() -> Refusal {
    Refusal::new(Stage::Forward, Reason::InvalidUpstreamResponse, "the service behind gave no valid answer")
}
