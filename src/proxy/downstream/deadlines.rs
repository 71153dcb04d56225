//! Runs a client connection until it ends, misses a deadline, or is told to end.
//!
//! Deadlines are lazy: each connection has one timer. It is checked when it fires and not reset for every request. It is
//! polled beside the connection, so no deadline depends on the connection reading or writing anything.

use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::unconstrained;

use super::activity::Ending;
use super::client::{ClientConnection, Phase};
use crate::policy::Timeouts;

/// How long a connection that serves no request may stay open after it was commanded to finish: HTTP/2 waits for the client
/// to take notice (RFC 9113 §6.8), which a client that is gone never does.
const FINISH: Duration = Duration::from_secs(2);

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

/// Returns when the connection is cut if nothing changes, and why. `finishing` is when it was commanded to finish.
fn next_cut(
    client: &ClientConnection,
    timeouts: &Timeouts,
    finishing: Option<Instant>,
    now: Instant,
) -> (Instant, Cut) {
    let due = client.deadline(timeouts, now);
    match (client.phase(), finishing) {
        (Phase::Opened(since) | Phase::Idle(since), Some(finishing)) => (since.max(finishing) + FINISH, Cut::Idle),
        (Phase::Opened(_) | Phase::Idle(_), None) => (due, Cut::Idle),
        (Phase::Head(_), _) => (due, Cut::Head),
        (Phase::Busy(_), _) => (due, Cut::Stalled),
    }
}

/// Wakes the task whenever the way in which the connection is to end changes. Never ends.
async fn watch_endings(client: &ClientConnection) {
    let mut known = Ending::No;
    loop {
        known = client.activity.ending_after(known).await;
    }
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
    let mut endings = pin!(watch_endings(client));
    let (mut known, mut drained, mut armed) = (Ending::No, false, false);
    let mut finishing: Option<Instant> = None;
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
        let finish = finishing.is_none() && (drained || ending != Ending::No);
        if finish {
            let now = Instant::now();
            finishing = Some(now);
            timer.as_mut().reset((now + shortest.min(FINISH)).into());
            armed = false;
        }
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
            let (due, cut) = next_cut(client, &timeouts, finishing, now);
            if due <= now {
                if cut == Cut::Stalled {
                    client.end_stalled();
                }
                return Poll::Ready(Err(cut));
            }
            let step = finishing.map_or(shortest, |_| shortest.min(FINISH));
            timer.as_mut().reset(due.min(now + step).into());
        }
        Poll::Pending
    })
    .await
}
