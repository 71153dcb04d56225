//! Checks a response before it is sent to the client: it is read whole, up to the size that its schema allows.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::forward::Forwarded;
use super::record_guard::RecordGuard;
use crate::body::{Collected, Pieces, no_memory};
use crate::budget::MemoryBudget;
use crate::chain;
use crate::policy::Route;
use crate::proxy::upstream::ResponseError;
use crate::refusal::{Reason, Refusal, Stage};
use crate::stages::schema::response::{Expected, Requirement};

/// Checks a response against the schema for its status, if there is one. Returns it with what was read of its body.
pub(super) async fn check(
    mut forwarded: Forwarded,
    route: &Route,
    requirement: &Requirement,
    headers: &HeaderMap,
    guard: &mut RecordGuard,
) -> Result<(Forwarded, Pieces), Refusal> {
    let status = forwarded.head.status;
    // RFC 9110 §6.4.1: these have no body.
    let bodiless = guard.exchange.method == Some(Method::HEAD)
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let contents = match requirement.of(status, headers).filter(|_| !bodiless) {
        None => return Ok((forwarded, Pieces::new())),
        Some(Expected::Contents(contents)) => contents,
        Some(Expected::Nothing) => {
            if !forwarded.connection.has_ended() {
                chain::release_undescribed(route, requirement, status, &mut guard.trace)
                    .inspect_err(|_| guard.discarded())?;
            }
            return Ok((forwarded, Pieces::new()));
        }
    };
    let view = Rc::clone(&guard.view);
    let (read, whole) = match read(&mut forwarded, requirement, &view.in_force.memory).await {
        Ok(read) => read,
        Err(refusal) => {
            guard.discarded();
            return Err(guard.counter.failure().unwrap_or(refusal));
        }
    };
    if whole.as_ref().is_ok_and(Bytes::is_empty) && requirement.accepts_nothing(status) {
        return Ok((forwarded, read));
    }
    let (in_force, trace) = (&*view.in_force, &mut guard.trace);
    if let Err(refusal) = chain::release(in_force, route, requirement, contents, headers, whole, trace).await {
        guard.discarded();
        if forwarded.connection.has_ended() {
            forwarded.pool.put(forwarded.connection);
        }
        return Err(refusal);
    }
    Ok((forwarded, read))
}

/// Reads the body of a response, within the limit of its size and the memory budget. Returns what was read; and all of it, or
/// why that cannot be checked.
async fn read(
    forwarded: &mut Forwarded,
    requirement: &Requirement,
    memory: &MemoryBudget,
) -> Result<(Pieces, Result<Bytes, Refusal>), Refusal> {
    let idle = forwarded.pool.idle_timeout();
    let mut collected = Collected::new(memory);
    loop {
        let connection = &mut forwarded.connection;
        let since = Instant::now();
        connection.deadline().not_after(since + idle);
        let piece = poll_fn(|cx| {
            if let Poll::Ready(piece) = connection.poll_body(cx) {
                return Poll::Ready(Some(piece));
            }
            ready!(connection.deadline().poll(cx, |_| since + idle));
            Poll::Ready(None)
        });
        let data = match piece.await {
            None => {
                forwarded.connection.gave_up();
                return Err(refused(Reason::UpstreamTimeout, "the upstream stopped sending its response"));
            }
            Some(None) => break,
            Some(Some(Err(error))) => return Err(interrupted(&error)),
            // Trailers are not part of what is checked, so they are not forwarded.
            Some(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        let kept = collected.push(data, &forwarded.connection.size_hint());
        if kept.is_err() {
            return Ok((collected.into_pieces(), Err(no_memory(Stage::Response))));
        }
        if collected.len() as u64 > requirement.max_size {
            return Ok((collected.into_pieces(), Err(requirement.too_large())));
        }
    }
    let whole = collected.into_bytes();
    Ok((Pieces::from([whole.clone()]), Ok(whole)))
}

fn interrupted(error: &ResponseError) -> Refusal {
    refused(Reason::InvalidUpstreamResponse, "the upstream ended its response early").cause(error.to_string())
}

fn refused(reason: Reason, detail: &'static str) -> Refusal {
    Refusal::new(Stage::Forward, reason, detail)
}
