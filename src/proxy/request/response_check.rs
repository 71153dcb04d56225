//! Holds a response back until it has been checked: it is read whole, up to the size that its schema allows.

use std::future::poll_fn;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};

use super::forward::Forwarded;
use super::record_guard::RecordGuard;
use crate::chain;
use crate::policy::Route;
use crate::proxy::upstream::ResponseError;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::schema::response::Requirement;

/// Checks a response against the schema for its status, if there is one. Returns it with the bytes read of its body.
pub(super) async fn examine(
    mut forwarded: Forwarded,
    route: &Route,
    requirement: &Requirement,
    headers: &HeaderMap,
    guard: &mut RecordGuard,
) -> Result<(Forwarded, Bytes), Refusal> {
    let status = forwarded.head.status;
    // RFC 9110 §6.4.1: these have no body.
    let bodiless = guard.exchange.method == Some(Method::HEAD)
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let Some(contents) = requirement.of(status, headers).filter(|_| !bodiless) else {
        return Ok((forwarded, Bytes::new()));
    };
    let read = match read(&mut forwarded, requirement.max_size).await {
        Ok(read) => read,
        Err(refusal) => {
            guard.withheld();
            return Err(guard.counter.failure().unwrap_or(refusal));
        }
    };
    let all = forwarded.connection.has_ended() && read.len() as u64 <= requirement.max_size;
    let whole = all.then(|| read.clone());
    if let Err(refusal) = chain::release(route, requirement, contents, headers, whole, &mut guard.trace).await {
        guard.withheld();
        if forwarded.connection.has_ended() {
            forwarded.pool.put(forwarded.connection);
        }
        return Err(refusal);
    }
    Ok((forwarded, read))
}

/// Reads the body of a response, or only somewhat more than `limit` bytes where it is larger.
async fn read(forwarded: &mut Forwarded, limit: u64) -> Result<Bytes, Refusal> {
    let idle = forwarded.pool.idle_timeout();
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    loop {
        let connection = &mut forwarded.connection;
        let since = Instant::now();
        connection.deadline.not_after(since + idle);
        let piece = poll_fn(|cx| {
            if let Poll::Ready(piece) = connection.poll_body(cx) {
                return Poll::Ready(Some(piece));
            }
            ready!(connection.deadline.poll(cx, |_| since + idle));
            Poll::Ready(None)
        });
        let data = match piece.await {
            None => return Err(refused(Reason::UpstreamTimeout, "the service behind stopped sending")),
            Some(None) => break,
            Some(Some(Err(error))) => return Err(broken_off(&error)),
            // Trailers of an answer that is judged as a whole have no place in what is judged: they go no further.
            Some(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        if first.len().max(rest.len()) as u64 > limit {
            break;
        }
    }
    // One piece is the ordinary case, and needs no copy.
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn broken_off(error: &ResponseError) -> Refusal {
    refused(Reason::InvalidUpstreamResponse, "the service behind broke off its answer").cause(error.to_string())
}

fn refused(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, reason, detail)
}
