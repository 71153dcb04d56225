//! Runs a client connection until it ends, misses a deadline, or is told to end.
//!
//! Deadlines are lazy: each connection has one timer. It is checked when it fires and not reset for every request. It is
//! polled beside the connection, so no deadline depends on the connection reading or writing anything.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::unconstrained;

use super::activity::Ending;
use super::client::{ClientConnection, Phase};
use crate::policy::Timeouts;

/// Why a connection was ended before it ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// It was idle for too long, or sent nothing at all.
    Idle,
    /// A request's head was not received in time.
    Head,
    /// The client took too little of what was written to it.
    Stalled,
    /// Its place was needed.
    Evicted,
}

/// What a running connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Continue,
    /// Finish the requests in flight, then close.
    Finish,
}

/// Runs a connection until it ends or is cut. Commands it to finish when the process drains or its listener is gone.
pub(super) async fn run_until_deadline<T>(
    client: &ClientConnection,
    timeouts: Timeouts,
    mut drain: watch::Receiver<bool>,
    mut run: impl FnMut(&mut Context<'_>, Command) -> Poll<T>,
) -> Result<T, Cut> {
    // A wait with a shorter deadline may begin just after the timer was set, so the timer never sleeps longer than the
    // shortest one.
    let shortest = ClientConnection::shortest(&timeouts);
    let mut timer = pin!(tokio::time::sleep(shortest));
    let drain_changes = drain.clone();
    let mut draining = pin!(drain.wait_for(|draining| *draining));
    // Never ends; while it is pending, this task is woken by every change.
    let mut endings = pin!(async {
        let mut known = Ending::No;
        loop {
            known = client.activity.ending_after(known).await;
        }
    });
    let (mut known, mut drained, mut finishing, mut armed) = (Ending::No, false, false, false);
    std::future::poll_fn(|cx| {
        // All three wake this task once they have been polled, whatever is left of its budget. After that they are polled
        // again only when they have news: this function runs several times a request, always in the same task.
        let ending = client.activity.ending();
        if !armed || ending != known {
            known = ending;
            let _: Poll<()> = pin!(unconstrained(endings.as_mut())).poll(cx);
        }
        if !drained && (!armed || drain_changes.has_changed().unwrap_or(true)) {
            drained = pin!(unconstrained(draining.as_mut())).poll(cx).is_ready();
        }
        let finish = !finishing && (drained || ending != Ending::No);
        finishing |= finish;
        if let Poll::Ready(output) = run(cx, if finish { Command::Finish } else { Command::Continue }) {
            return Poll::Ready(Ok(output));
        }
        if ending == Ending::Evict && !matches!(client.phase(), Phase::Busy(_)) {
            return Poll::Ready(Err(Cut::Evicted));
        }
        if armed && !timer.is_elapsed() {
            return Poll::Pending;
        }
        armed = true;
        while pin!(unconstrained(timer.as_mut())).poll(cx).is_ready() {
            let now = Instant::now();
            let due = client.deadline(&timeouts, now);
            if due <= now {
                return Poll::Ready(Err(match client.phase() {
                    Phase::Opened(_) | Phase::Idle(_) => Cut::Idle,
                    Phase::Head(_) => Cut::Head,
                    Phase::Busy(_) => Cut::Stalled,
                }));
            }
            timer.as_mut().reset(due.min(now + shortest).into());
        }
        Poll::Pending
    })
    .await
}
