//! Checks a response before it is sent to the client: it is read whole, up to the size that its schema allows.

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
use crate::stages::schema::response::{Expected, Requirement};

/// Checks a response against the schema for its status, if there is one. Returns it with the bytes read of its body.
pub(super) async fn check(
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
    let contents = match requirement.of(status, headers).filter(|_| !bodiless) {
        None => return Ok((forwarded, Bytes::new())),
        Some(Expected::Contents(contents)) => contents,
        Some(Expected::Nothing) => {
            if !forwarded.connection.has_ended() {
                chain::release_undescribed(route, requirement, &mut guard.trace).inspect_err(|_| guard.discarded())?;
            }
            return Ok((forwarded, Bytes::new()));
        }
    };
    let read = match read(&mut forwarded, requirement.max_size).await {
        Ok(read) => read,
        Err(refusal) => {
            guard.discarded();
            return Err(guard.counter.failure().unwrap_or(refusal));
        }
    };
    let all = forwarded.connection.has_ended() && read.len() as u64 <= requirement.max_size;
    let whole = all.then(|| read.clone());
    if let Err(refusal) = chain::release(route, requirement, contents, headers, whole, &mut guard.trace).await {
        guard.discarded();
        if forwarded.connection.has_ended() {
            forwarded.pool.put(forwarded.connection);
        }
        return Err(refusal);
    }
    Ok((forwarded, read))
}

/// Reads the body of a response. A body larger than `limit` bytes is read only until it exceeds the limit.
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
            None => return Err(refused(Reason::UpstreamTimeout, "the upstream stopped sending its response")),
            Some(None) => break,
            Some(Some(Err(error))) => return Err(interrupted(&error)),
            // Trailers are not part of what is checked, so they are not forwarded.
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
    // A single piece is the ordinary case, and needs no copy.
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn interrupted(error: &ResponseError) -> Refusal {
    refused(Reason::InvalidUpstreamResponse, "the upstream ended its response early").cause(error.to_string())
}

fn refused(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, reason, detail)
}
